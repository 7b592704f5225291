"""The officer's commands: freezes, legal holds, approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from exchange.client import Exchange
    from exchange.client.control import Approval, Restraint

_REASON = click.option("--reason", required=True, help="What officers read; nobody else does.")


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    for command in (freeze, hold, approvals):
        main.add_command(command)


@click.group()
def freeze() -> None:
    """Freezes: stop a dataset, a buyer or a licence version at once; lifting takes two persons."""


@freeze.command("set")
@click.option("--dataset", help="Such as nyc/flights.")
@click.option("--organisation", help="A buyer, by its name.")
@click.option("--licence", help="A licence version, by its id.")
@_REASON
@json_option
@connected
def set_freeze(x: Exchange, as_json: bool, **given: Any) -> None:
    """Freeze exactly one of these: queries are ended, and every use is refused."""
    _show_restraint(x.audit.freeze(**given), as_json)


@freeze.command("list")
@json_option
@connected
def list_freezes(x: Exchange, as_json: bool) -> None:
    """List freezes, those in force first."""
    _list(x.audit.freezes(), "queries ended", as_json)


@freeze.command("show")
@click.argument("freeze_id")
@json_option
@connected
def show_freeze(x: Exchange, freeze_id: str, as_json: bool) -> None:
    """Show one freeze."""
    _show_restraint(x.audit.restraint(freeze_id), as_json)


@freeze.command("lift")
@click.argument("freeze_id")
@_REASON
@json_option
@connected
def lift_freeze(x: Exchange, freeze_id: str, reason: str, as_json: bool) -> None:
    """Ask to lift a freeze; another officer approves it on the portal."""
    _show_approval(x.audit.lift(freeze_id, reason=reason), as_json)


@click.group()
def hold() -> None:
    """Legal holds: keep what would expire; lifting takes two persons."""


@hold.command("set")
@click.option("--dataset", help="Such as nyc/flights.")
@click.option("--organisation", help="By its name.")
@click.option("--query", help="By its id.")
@_REASON
@json_option
@connected
def set_hold(x: Exchange, as_json: bool, **given: Any) -> None:
    """Hold exactly one of these: nothing of it expires or is removed."""
    _show_restraint(x.audit.hold(**given), as_json)


@hold.command("list")
@json_option
@connected
def list_holds(x: Exchange, as_json: bool) -> None:
    """List legal holds, those in force first."""
    _list(x.audit.holds(), "answers kept", as_json)


@hold.command("show")
@click.argument("hold_id")
@json_option
@connected
def show_hold(x: Exchange, hold_id: str, as_json: bool) -> None:
    """Show one legal hold."""
    _show_restraint(x.audit.restraint(hold_id), as_json)


@hold.command("lift")
@click.argument("hold_id")
@_REASON
@json_option
@connected
def lift_hold(x: Exchange, hold_id: str, reason: str, as_json: bool) -> None:
    """Ask to lift a legal hold; another officer approves it on the portal."""
    _show_approval(x.audit.lift(hold_id, reason=reason), as_json)


@click.group()
def approvals() -> None:
    """Approvals: what waits for a second person. They are given on the portal, with a second factor."""


@approvals.command("list")
@click.option("--state", type=click.Choice(["open", "approved", "declined", "expired"]))
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
@connected
def list_approvals(x: Exchange, state: str | None, limit: int, as_json: bool) -> None:
    """List approvals, those that wait first."""
    found = list(x.audit.approvals(state=state, limit=limit))
    names = ("approval", "what", "state", "asked for by", "until", "done")
    rows = [
        (one.id, one.in_words, one.state, one.requested_by, one.expires_at, one.used_at or "")
        for one in found
    ]
    show(as_json, [one.document for one in found], lambda: table(names, rows))


@approvals.command("show")
@click.argument("approval_id")
@json_option
@connected
def show_one(x: Exchange, approval_id: str, as_json: bool) -> None:
    """Show one approval."""
    _show_approval(x.audit.approval(approval_id), as_json)


@approvals.command("decline")
@click.argument("approval_id")
@json_option
@connected
def decline(x: Exchange, approval_id: str, as_json: bool) -> None:
    """Decline what is asked for."""
    _show_approval(x.audit.decline(approval_id), as_json)


def _list(found: list[Restraint], affected: str, as_json: bool) -> None:
    names = ("id", "of", "name", "state", "set", affected, "reason")
    rows = [
        (one.id, one.subject_type, one.name, one.state, one.set_at, one.affected, one.reason) for one in found
    ]
    show(as_json, [one.document for one in found], lambda: table(names, rows))


def _show_restraint(one: Restraint, as_json: bool) -> None:
    pairs = [(one.kind, one.id), ("of", f"{one.subject_type} {one.name}"), ("state", one.state)]
    pairs += [("reason", one.reason), ("set by", one.set_by), ("set at", one.set_at)]
    affected = "queries ended" if one.kind == "freeze" else "answers kept"
    more = [(affected, one.affected), ("lifted at", one.lifted_at or ""), ("approval", one.approval or "")]
    show(as_json, one.document, lambda: facts([*pairs, *more]))


def _show_approval(one: Approval, as_json: bool) -> None:
    pairs = [("approval", one.id), ("what", one.in_words), ("state", one.state), ("reason", one.reason)]
    pairs += [("asked for by", one.requested_by), ("until", one.expires_at), ("digest", one.digest)]
    pairs += [("decided by", one.decided_by or ""), ("done at", one.used_at or "")]
    if one.lifts:
        pairs += [("lifts what is on", f"{one.lifts['subject_type']} {one.lifts['name']}")]
        pairs += [("set because", one.lifts["reason"])]

    def told() -> None:
        facts(pairs)
        if one.changes:
            rows = [(change["what"], change["before"], change["after"]) for change in one.changes]
            table(("what it tells more of", "before", "in this version"), rows)

    show(as_json, one.document, told)
