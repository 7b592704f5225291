"""The operator's commands about persons, on the home of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import json_option
from exchange.cli.operating import ROLES, opened
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from collections.abc import Callable

_ORG = click.option("--org", "name", required=True, metavar="NAME")


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(member)
    main.add_command(person)
    main.add_command(retention)


@click.group()
def member() -> None:
    """Members of organisations: the persons who sign in on the portal."""


@member.command()
@click.argument("login")
@_ORG
@click.option("--role", type=ROLES, required=True, help="A role that the organisation holds.")
@click.option("--admin", is_flag=True, help="May invite and change members, and create tokens.")
@json_option
def invite(login: str, name: str, role: str, admin: bool, as_json: bool) -> None:
    """Make a link with which LOGIN (like an e-mail address) joins an organisation: it is shown once."""
    from exchange.identity import SYSTEM, Role
    from exchange.operations import joining

    with opened() as market:
        org = joining.organisation(market, name)
        made = joining.invite(market, SYSTEM, org=org, login=login, role=Role(role), admin=admin)
    show(as_json, made, lambda: click.echo(made["link"]))


@member.command("list")
@_ORG
@json_option
def list_members(name: str, as_json: bool) -> None:
    """List an organisation's members, and the links that nobody has used."""
    from exchange.identity import SYSTEM
    from exchange.operations import joining

    with opened() as market:
        found = joining.members(market, SYSTEM, org=joining.organisation(market, name))
    names = ("login", "name", "role", "admin", "state", "since", "member")
    rows = [[one[column] for column in names] for one in found["items"]]
    rows += [[one["login"], "", one["role"], one["admin"], "invited", "", ""] for one in found["invitations"]]
    show(as_json, found, lambda: table(names, rows))


@member.command()
@click.argument("login")
@_ORG
@click.option("--admin/--no-admin", default=None, help="Whether the member administers the organisation.")
@click.option("--role", type=ROLES, help="Another role that the organisation holds.")
@json_option
def change(login: str, name: str, admin: bool | None, role: str | None, as_json: bool) -> None:
    """Change what a member may do."""
    from exchange.identity import Role
    from exchange.operations import joining

    wanted = Role(role) if role else None
    _do(login, name, as_json, lambda *known: joining.change(*known[:2], **known[2], admin=admin, role=wanted))


@member.command()
@click.argument("login")
@click.option("--org", "name", metavar="NAME", help="This organisation alone; else every one.")
@click.option("--undo", is_flag=True, help="Let the person in again.")
@json_option
def disable(login: str, name: str | None, undo: bool, as_json: bool) -> None:
    """Shut a person out at once, with every session; --undo lets the person in again."""
    from exchange.operations import joining

    if name is not None:
        _do(
            login,
            name,
            as_json,
            lambda *known: joining.disable(*known[:2], **known[2], disabled=not undo),
        )
        return
    with opened() as market:
        done = joining.disable_person(market, login=login, disabled=not undo)
    show(as_json, done, lambda: facts(done.items()))


@member.command()
@click.argument("login")
@_ORG
@json_option
def remove(login: str, name: str, as_json: bool) -> None:
    """End a membership; the account stays."""
    from exchange.operations import joining

    _do(login, name, as_json, lambda *known: joining.remove(*known[:2], **known[2]))


@member.command()
@click.argument("login")
@_ORG
@json_option
def reset(login: str, name: str, as_json: bool) -> None:
    """Take password and second factors away from somebody who lost them; prints a link, shown once."""
    from exchange.operations import joining

    _do(login, name, as_json, lambda *known: joining.reset(*known[:2], **known[2]))


@click.group()
def person() -> None:
    """Persons, in whatever organisations they are."""


@person.command()
@click.argument("person_id", metavar="ID")
@click.option("--leave-without-admin", is_flag=True, help="Also the last administrator of an organisation.")
@json_option
def erase(person_id: str, leave_without_admin: bool, as_json: bool) -> None:
    """Erase what is kept of a person (per_...), for good; again, it sweeps up what a crash left."""
    from exchange.operations import erasing

    with opened() as market:
        done = erasing.erase(market, person_id, leave_without_admin=leave_without_admin)
    show(as_json, done, lambda: facts(done.items()))


@click.command()
@json_option
def retention(as_json: bool) -> None:
    """Show how long which kind of record is kept; the worker deletes what is over."""
    from exchange.operations import retaining

    with opened() as market:
        found = retaining.retention(market.settings)
    rows = [
        [one["kind"], retaining.words(one["seconds"]), one["since"], one["setting"]] for one in found["items"]
    ]
    show(as_json, found, lambda: table(("kind", "kept", "since", "setting"), rows))


def _do(login: str, name: str, as_json: bool, act: Callable[..., dict[str, Any]]) -> None:
    """Act as the operator on the membership of a login in an organisation, and show what came of it."""
    from exchange.identity import SYSTEM
    from exchange.operations import joining

    with opened() as market:
        org = joining.organisation(market, name)
        found = joining.member_named(market, org=org, login=login)
        done = act(market, SYSTEM, {"org": org, "member": found})
    show(as_json, done, lambda: click.echo(done["link"]) if "link" in done else facts(done.items()))
