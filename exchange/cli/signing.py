"""The signer's commands: make its home, serve, rotate the log's key, retire the old one."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import json_option
from exchange.cli.output import facts, safe, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.audit.signing import LogSigner
    from exchange.signer.home import SignerHome


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(signer)


@click.group()
def signer() -> None:
    """The process that alone holds the key of the log, and its key."""


def _home(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="EXCHANGE_HOME",
        default=".exchange",
        show_default=True,
        help="Folder of the signer's key and memory; where the worker signs, the exchange's home.",
    )(command)


@signer.command()
@_home
@click.option("--origin", required=True, help="The log's name: EXCHANGE_LOG_ORIGIN of the exchange.")
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The newest checkpoint, where the log stands already; its key lies in log.env of the home.",
)
@click.option(
    "--statements",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What /audit/keys shows, where the log's key was replaced before.",
)
@click.option("--empty", is_flag=True, help="The key that lies in log.env has signed nothing yet.")
@click.option(
    "--no-statements", is_flag=True, help="The log's key was never replaced: /audit/keys shows nothing."
)
@json_option
def init(
    home: Path,
    origin: str,
    checkpoint: Path | None,
    statements: Path | None,
    empty: bool,
    no_statements: bool,
    as_json: bool,
) -> None:
    """Make the home of a signer, with a new key unless one lies there; harmless if it stands.

    A key without the memory of what it signed begins with --checkpoint and --statements (or --no-statements),
    or with --empty: a signer that forgets signs a second log.
    """
    if (empty and checkpoint) or (no_statements and statements):
        raise click.UsageError("--empty or --checkpoint, --no-statements or --statements")
    made = _of(home)
    told = statements.read_bytes() if statements else (b"" if no_statements else None)
    created = made.create(origin, checkpoint.read_bytes() if checkpoint else None, told, empty=empty)
    _show(made.signer(), as_json)
    click.echo("created" if created else "stood already, nothing changed", err=True)


@signer.command()
@_home
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    envvar="EXCHANGE_SIGNER",
    required=True,
    help="Unix socket to listen on; else EXCHANGE_SIGNER.",
)
@click.option("--allow", multiple=True, help="User (name or id) whose processes may ask; else this user.")
def serve(home: Path, socket: Path, allow: tuple[str, ...]) -> None:
    """Sign what the worker asks for on a Unix socket, until told to end."""
    from exchange.audit.errors import Malformed
    from exchange.signer import server
    from exchange.telemetry import logs

    logs.configure("text")
    served = _of(home)
    if served.signer().newest() is None:
        raise Malformed("The log has not begun here.", hint="Run `exchange signer init` first.")
    uids = [_uid(name) for name in allow] or [os.getuid()]
    try:
        listening = server.SignerServer(socket, served.signer, uids)
    except OSError as error:
        hint = "Name another --socket, or end what answers there."
        raise Malformed(f"The signer cannot listen: {error}.", hint=hint) from None
    logging.getLogger("exchange.signer").info("signing for %s", served.signer().origin)
    listening.serve()


@signer.command("show")
@_home
@json_option
def show_signer(home: Path, as_json: bool) -> None:
    """Show the keys that sign, and the newest tree that was signed."""
    _show(_of(home).signer(), as_json)


@signer.command()
@_home
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The newest checkpoint, as /audit/checkpoint shows it; else that of the exchange whose home it is.",
)
@json_option
def rotate(home: Path, checkpoint: Path | None, as_json: bool) -> None:
    """Make a new key of the log, which signs beside the old one. Interrupted, run it again: it goes on.

    Refused where the signer remembers less than is published: the old key would be replaced from too early a
    tree on. A signer that runs takes it up by itself; restart a worker that signs itself.
    """
    published = checkpoint.read_bytes() if checkpoint else None
    _show(_of(home).rotate(datetime.now(UTC), published), as_json)
    click.echo("both keys sign: tell verifiers and witnesses, then `exchange signer retire`", err=True)


@signer.command()
@_home
@json_option
def retire(home: Path, as_json: bool) -> None:
    """Remove the old keys of the log: the newest signs alone. Who pinned an old one needs --follow-keys."""
    _show(_of(home).retire(), as_json)


def _of(home: Path) -> SignerHome:
    from exchange.signer.home import SignerHome

    return SignerHome(home.expanduser().absolute(), os.environ)


def _uid(name: str) -> int:
    import pwd

    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise click.UsageError(f"there is no user {name}") from None


def _show(told: LogSigner, as_json: bool) -> None:
    keys, head = told.keys(), told.newest()
    document = {
        "origin": told.origin,
        "keys": [str(key) for key in keys.current],
        "size": head.size if head else None,
        "root": head.root.hex() if head else None,
        "statements": keys.statements.decode(),
    }
    pairs = [("origin", told.origin), *(("key", key) for key in keys.current)]
    pairs += [("signed", f"{head.size} entries, root {head.root.hex()}" if head else "nothing yet")]
    show(as_json, document, lambda: facts((name, safe(value)) for name, value in pairs))
