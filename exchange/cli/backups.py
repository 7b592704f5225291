"""The operator's commands that keep the exchange: backup and restore."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.commands import json_option
from exchange.cli.output import facts, show

if TYPE_CHECKING:
    from exchange.backup import Restored

_PLACE = click.Path(path_type=Path)


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(backup)
    main.add_command(restore)


@click.command()
@click.argument("target", type=_PLACE, metavar="FILE.tar|FOLDER")
@click.option("--with-keys", is_flag=True, help="Also the keys: who has the backup then has the exchange.")
@json_option
def backup(target: Path, with_keys: bool, as_json: bool) -> None:
    """Copy database, log and objects while the exchange serves; the keys only where asked for."""
    from exchange.backup import archive, make
    from exchange.config import Settings

    made = make(Settings.from_env(), target.absolute(), with_keys=with_keys)
    told = {"target": str(made.target), **archive.document(made.manifest), "with_keys": with_keys}
    show(as_json, told, lambda: facts(told.items()))
    if with_keys:
        warning = "THE BACKUP HOLDS THE KEYS: whoever reads it can sign the log and receipts. Keep it apart,"
    else:
        warning = "the keys are not in it: keep keys.env and log.env elsewhere, or nothing can be restored,"
    click.echo(f"{warning} and master.keys apart from both: it is in no backup", err=True)


@click.command()
@click.argument("source", type=_PLACE, metavar="FILE.tar|FOLDER")
@click.option("--into", "home", type=_PLACE, required=True, help="Home that does not exist yet.")
@click.option(
    "--seen",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Newest checkpoint that anybody saw: of an officer, a witness, or /audit/checkpoint.",
)
@click.option(
    "--none-newer", is_flag=True, help="Nothing was published after the backup: you are sure of it."
)
@click.option(
    "--keys", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the keys."
)
@json_option
def restore(
    source: Path, home: Path, seen: Path | None, none_newer: bool, keys: Path | None, as_json: bool
) -> None:
    """Restore a backup into a new home: hashes first, then the laws, the log and the books behind it.

    Exit codes: 0 good, 1 a law is broken, 3 the backup is not what it was or may not go there, 10 to 16 as of
    `exchange audit verify`.
    """
    from exchange.backup import restore as run

    if (seen is None) == (not none_newer):
        raise click.UsageError(
            "give --seen CHECKPOINT or --none-newer: an exchange that is restored from a backup and goes on "
            "would show another log to everybody who saw more of the old one"
        )
    newest = seen.read_text(encoding="utf-8") if seen else None
    restored = run(source.absolute(), home.expanduser().absolute(), dict(os.environ), seen=newest, keys=keys)
    told = _told(restored)
    show(as_json, told, lambda: facts(told.items()))
    code = _exit_code(restored)
    if code:
        click.echo("NOT GOOD: the home lies beside its name, ending in .restoring", err=True)
    click.get_current_context().exit(code)


def _told(restored: Restored) -> dict[str, object]:
    return {
        "home": str(restored.home),
        "made_at": restored.manifest.made_at,
        "revision": restored.revision,
        "log_size": restored.manifest.log_size,
        "broken_laws": ", ".join(law.id for law in restored.broken) or "none",
        "audit": "good" if restored.report is None or restored.report.good else "NOT GOOD",
    }


def _exit_code(restored: Restored) -> int:
    from exchange.cli.failures import BROKEN_LAW

    if restored.report is not None and not restored.report.good:
        return restored.report.exit_code
    return BROKEN_LAW if restored.broken else 0
