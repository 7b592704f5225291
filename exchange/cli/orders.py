"""Grants and notifications: suspended, resumed, withdrawn, ended, renewed, paid for; read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.output import facts, safe, show, table

if TYPE_CHECKING:
    from exchange.client import Exchange, Grant

_SHOWN = ("id", "state", "dataset", "plan", "purpose", "territory", "rho_remaining", "until", "reason")


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    for command in (grants, notifications):
        main.add_command(command)


@click.group()
def grants() -> None:
    """Grants: list, renew, pay, top up, end (buyer); suspend, resume, withdraw (provider)."""


@grants.command("list")
@json_option
@connected
def list_grants(x: Exchange, as_json: bool) -> None:
    """List grants: a buyer's own, or those on a provider's datasets."""
    found = x.grants()
    names = ("id", "buyer", "state", "dataset", "plan", "purpose", "rho_remaining", "until")
    rows = [[getattr(one, name) for name in names] for one in found]
    show(as_json, [_document(one) for one in found], lambda: table(names, rows))


def _provider_command(verb: str, text: str) -> None:
    @grants.command(verb, help=text)
    @click.argument("grant_id", metavar="GRANT")
    @click.option("--reason", required=True, help="What the buyer reads.")
    @json_option
    @connected
    def run(x: Exchange, grant_id: str, reason: str, as_json: bool) -> None:
        _moved(getattr(x.grant(grant_id), verb)(reason=reason), as_json)


def _buyer_command(verb: str, text: str) -> None:
    @grants.command(verb, help=text)
    @click.argument("grant_id", metavar="GRANT")
    @json_option
    @connected
    def run(x: Exchange, grant_id: str, as_json: bool) -> None:
        _moved(getattr(x.grant(grant_id), verb.replace("-", "_"))(), as_json)


_provider_command("suspend", "Stop a grant's use for now.")
_provider_command("resume", "Allow a suspended grant's use again.")
_provider_command("withdraw", "End a grant for good; credit that was not spent goes back to the buyer.")
_buyer_command("end", "Let a grant end: a subscription with its period, anything else at once.")
_buyer_command("top-up", "Buy another bundle of credit.")
_buyer_command("pay", "Pay the present period of a subscription, where it is not paid.")


@grants.command()
@click.argument("grant_id", metavar="GRANT")
@click.option("--until", help="Day at which the new term ends, such as 2027-12-31.")
@click.option("--accept-licence", is_flag=True, help="Accept the licence in force, where it is a new one.")
@click.option("--plan-sha256", help="Hash of the plan that was shown; one that was changed since is refused.")
@json_option
@connected
def renew(x: Exchange, grant_id: str, accept_licence: bool, as_json: bool, **terms: str | None) -> None:
    """Ask for another term of a grant: the provider decides."""
    grant = x.grant(grant_id)
    shown = x.dataset(grant.dataset).licence.text_sha256 if accept_licence else None
    asked = grant.renew(accept_licence=accept_licence, licence_sha256=shown, **terms)
    pairs = [("request", asked.id), ("state", asked.state), ("decided by", asked.decide_by)]
    show(as_json, asked.document, lambda: facts(pairs))


@click.command()
@click.option("--unread", is_flag=True, help="Only what was not read yet.")
@click.option("--read", "read_id", metavar="ID", help="Mark one as read; `all` marks every one.")
@json_option
@connected
def notifications(x: Exchange, unread: bool, read_id: str | None, as_json: bool) -> None:
    """Show what this organisation was told, newest first."""
    told = x.notifications(unread=unread)
    if read_id is not None:
        count = told.mark_read(None if read_id == "all" else read_id)
        return show(as_json, {"read": count}, lambda: click.echo(f"{count} marked as read"))
    rows = [(one.id, one.at[:16], one.kind, safe(one.text), "" if one.read_at else "new") for one in told]
    return show(as_json, [vars(one) for one in told], lambda: table(("id", "at", "kind", "what", ""), rows))


def _moved(grant: Grant, as_json: bool) -> None:
    document = _document(grant)
    show(as_json, document, lambda: facts(document.items(), title="Grant"))


def _document(grant: Grant) -> dict[str, Any]:
    return {name: getattr(grant, name) for name in _SHOWN}
