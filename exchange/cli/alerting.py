"""The officer's queue of alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from exchange.client import Exchange
    from exchange.client.alerts import Alert


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(alerts)


@click.group()
def alerts() -> None:
    """What an officer should look at: list, show, assign, note, resolve."""


@alerts.command(name="list")
@click.option("--state", type=click.Choice(["open", "acted", "false_alarm", "all"]), default="open")
@click.option("--kind", help="One kind, such as refusals.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
@connected
def list_alerts(x: Exchange, state: str, kind: str | None, limit: int, as_json: bool) -> None:
    """Alerts, newest first; open ones unless --state says otherwise."""
    found = list(x.alerts.list(state=None if state == "all" else state, kind=kind, limit=limit))
    header = ("alert", "raised", "kind", "about", "times", "state", "assigned to")
    rows = [(a.id, a.raised_at[:19], a.kind, a.subject, a.times, a.state, a.assignee) for a in found]
    show(as_json, [a.document for a in found], lambda: table(header, rows))


@alerts.command(name="show")
@click.argument("alert")
@json_option
@connected
def show_alert(x: Exchange, alert: str, as_json: bool) -> None:
    """One alert: what was found, what to do, notes, and entries to open."""
    _show(x.alerts.get(alert), as_json)


@alerts.command()
@click.argument("alert")
@json_option
@connected
def assign(x: Exchange, alert: str, as_json: bool) -> None:
    """Take an open alert upon yourself."""
    _show(x.alerts.assign(alert), as_json)


@alerts.command()
@click.argument("alert")
@click.argument("text")
@json_option
@connected
def note(x: Exchange, alert: str, text: str, as_json: bool) -> None:
    """Write a note of at most 2,000 characters on an alert."""
    _show(x.alerts.note(alert, text), as_json)


@alerts.command()
@click.argument("alert")
@click.option("--as", "state", type=click.Choice(["acted", "false_alarm"]), required=True)
@click.option("--note", default="", help="Why, in at most 2,000 characters.")
@json_option
@connected
def resolve(x: Exchange, alert: str, state: str, note: str, as_json: bool) -> None:
    """Resolve an open alert."""
    _show(x.alerts.resolve(alert, state, note=note), as_json)


def _show(one: Alert, as_json: bool) -> None:
    show(as_json, one.document, lambda: _draw(one))


def _draw(one: Alert) -> None:
    facts(
        (
            ("what", one.text),
            ("about", one.subject),
            ("next step", one.step),
            ("state", one.state),
            ("assigned to", one.assignee or "nobody"),
            ("times", one.times),
            ("entries", ", ".join(one.entries) or "none"),
        ),
        title=f"{one.title} ({one.id})",
    )
    if one.notes:
        table(("at", "by", "note"), [(n.at[:19], n.by, n.text) for n in one.notes])
