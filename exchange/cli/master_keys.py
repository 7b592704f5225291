"""Master keys, on the home of this machine: list, rotate, retire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exchange.cli.commands import json_option
from exchange.cli.operating import opened
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from collections.abc import Callable


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(master_keys)


@click.group("master-keys")
def master_keys() -> None:
    """Master keys, under which what is stored is encrypted."""


@master_keys.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """Show the master keys, what is under each, and how much an older release stored in plain."""
    from exchange.operations import rekeying

    with opened() as market:
        told = rekeying.listed(market)
    names = ("id", "state", "made_at", "objects", "in_file")
    rows = [tuple(str(one[name]) for name in names) for one in told["keys"]]
    show(as_json, told, lambda: table(names, rows))
    if told["plain_objects"]:
        click.echo(f"{told['plain_objects']} objects of an older release are stored in plain", err=True)


@master_keys.command()
@json_option
def rotate(as_json: bool) -> None:
    """Make a new master key and wrap every data key under it, while the exchange serves.

    Where it was interrupted, run it again: it goes on.
    """
    from exchange.operations import rekeying

    with opened() as market:
        done = rekeying.rotate(market, tell=None if as_json else _teller())
        path = market.vault.ring.path
    show(as_json, done, lambda: facts(done.items()))
    click.echo(
        f"keep a copy of {path} apart from the backups; then `exchange master-keys retire` the old key",
        err=True,
    )


@master_keys.command()
@click.argument("key_id", metavar="KEY_ID")
@json_option
def retire(key_id: str, as_json: bool) -> None:
    """Remove an old master key that nothing is under any more.

    A backup from before the rotation still needs it: keep a copy of it as long as such backups.
    """
    from exchange.operations import rekeying

    with opened() as market:
        done = rekeying.retire(market, key_id)
    show(as_json, done, lambda: facts(done.items()))


def _teller() -> Callable[[int, int], None]:
    """Says on standard error how far it is."""

    def tell(done: int, whole: int) -> None:
        click.echo(f"wrapped anew: {done} of {whole}", err=True)

    return tell
