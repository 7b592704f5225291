"""Signing in and out, programs of an organisation, and the keys that sign access tokens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.output import facts, safe, show, table

if TYPE_CHECKING:
    from exchange.client import Exchange
    from exchange.client.configuration import Keys
    from exchange.client.programs import Client
    from exchange.web.auth.signing import SigningKeys


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    for command in (login, logout, whoami, client, authorization, keys):
        main.add_command(command)


@click.command()
@click.option("--url", help="Address of the exchange; asked for if it is not given.")
@click.option("--profile", help="Profile to store it under.")
@click.option("--scope", default="", help="What this machine may do, such as `dataset:nyc/flights rho:1.5`.")
@click.option(
    "--token",
    "by_token",
    is_flag=True,
    help="Keep an organisation's own token: asked for, or read from stdin.",
)
def login(url: str | None, profile: str | None, scope: str, by_token: bool) -> None:
    """Sign in: confirm the code that is shown on the portal; or keep a token with --token.

    What is given is kept with the exchange's public keys in the user configuration (0600).
    """
    from exchange.client.configuration import normal_url

    address = normal_url(url or click.prompt("Address", default="http://127.0.0.1:8000"))
    if by_token:
        _keep_token(address, profile)
    else:
        _confirm(address, profile, scope)


@click.command()
@click.option("--profile", help="Profile of the user configuration; else the one that is stored as usual.")
def logout(profile: str | None) -> None:
    """End the sign-in at the exchange, and forget it and any token here."""
    from exchange.client import signing_in
    from exchange.client.configuration import kept_values, sign_in_kept

    kept = sign_in_kept(profile)
    url = kept_values(kept).get("url", "")
    ended = signing_in.end(url, kept)
    click.echo("Logged out; the sign-in has ended." if ended else "Nothing was signed in; no token is kept.")


@click.command()
@json_option
@connected
def whoami(x: Exchange, as_json: bool) -> None:
    """Show the organisation and role behind the token, and what it may do."""
    who = x.whoami()
    document = {"url": x.url, "org": who.org, "name": who.name, "role": who.role, "token": who.token}
    document |= {"auth": who.auth, "scope": who.scope or ""}
    show(as_json, document, lambda: facts(document.items()))


@click.group()
def client() -> None:
    """Programs of your organisation that come in by OAuth 2 (docs/signing-in.md)."""


@client.command("create")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(["confidential", "public"]), default="confidential", show_default=True
)
@click.option("--scope", default="ask", show_default=True, help="The most that its tokens may do.")
@click.option(
    "--redirect-uri", "redirect_uris", multiple=True, help="Where codes are sent; repeat it for more."
)
@json_option
@connected
def create_client(
    x: Exchange, name: str, kind: str, scope: str, redirect_uris: tuple[str, ...], as_json: bool
) -> None:
    """Create a client; its secret is printed once and not kept."""
    made = x.programs.create(name, kind=kind, scope=scope, redirect_uris=redirect_uris)
    document = {**_client_document(made), "client_secret": str(made.secret) or None}
    show(as_json, document, lambda: facts((k, v) for k, v in document.items() if v))


@client.command("list")
@click.option("--org", help="Another organisation: operators alone.")
@json_option
@connected
def list_clients(x: Exchange, org: str | None, as_json: bool) -> None:
    """List clients."""
    found = x.programs.clients(org=org)
    rows = [(one.client_id, one.name, one.kind, one.scope, one.created_at[:10]) for one in found]
    names = ("client", "name", "kind", "scope", "created")
    show(as_json, [_client_document(one) for one in found], lambda: table(names, rows))


@client.command("revoke")
@click.argument("client_id")
@connected
def revoke_client(x: Exchange, client_id: str) -> None:
    """End a client with every token of it."""
    x.programs.revoke(client_id)
    click.echo(f"{safe(client_id)} is revoked, with every token of it")


@click.group()
def authorization() -> None:
    """What your organisation let programs do."""


@authorization.command("list")
@json_option
@connected
def list_authorizations(x: Exchange, as_json: bool) -> None:
    """List what is in force."""
    found = x.programs.authorizations()
    names = ("id", "client_id", "granted_by", "scope", "created_at", "expires_at")
    rows = [[getattr(one, name) for name in names] for one in found]
    show(as_json, [vars(one) for one in found], lambda: table(names, rows))


@authorization.command("revoke")
@click.argument("authorization_id")
@connected
def take_back(x: Exchange, authorization_id: str) -> None:
    """Take one back, with every token of it."""
    x.programs.take_back(authorization_id)
    click.echo(f"{safe(authorization_id)} is revoked, with every token of it")


@click.group()
def keys() -> None:
    """The operator's keys that sign access tokens, on the home of this machine."""


@keys.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List the keys; the newest signs, all verify."""
    found = list(_signing_keys().published()["keys"])
    document = [{"kid": one["kid"], "signs": one is found[-1]} for one in found]
    rows = [(one["kid"], "signs" if one["signs"] else "verifies") for one in document]
    show(as_json, document, lambda: table(("key", "use"), rows))


@keys.command("rotate")
def rotate_keys() -> None:
    """Make a new key, which signs from now on; what the others signed stays good to its end."""
    click.echo(_signing_keys().rotate())


@keys.command("retire")
@click.argument("kid")
def retire_key(kid: str) -> None:
    """Take a key away, with every token that it signed: at once where it has leaked."""
    from exchange.errors import NotFound

    if not _signing_keys().retire(kid):
        raise NotFound("there is no such key", hint="`exchange keys list` shows them.")
    click.echo(f"{kid} is retired")


def _signing_keys() -> SigningKeys:
    from exchange.config import Settings
    from exchange.web.auth.signing import SigningKeys

    return SigningKeys(Settings.from_env().oauth_path)


def _client_document(one: Client) -> dict[str, object]:
    names = ("client_id", "name", "kind", "scope", "created_at")
    lists = {"grants": list(one.grants), "redirect_uris": list(one.redirect_uris)}
    return {**{name: getattr(one, name) for name in names}, **lists}


def _keep_token(address: str, profile: str | None) -> None:
    from exchange.client import Exchange
    from exchange.client.configuration import Address, Token, store

    given = click.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    with Exchange(address, token=given.strip()) as x:
        who, pinned = x.whoami(), _published(x)
    path = store(Address(address, Token(given.strip()), pinned), profile=profile)
    _say(who.name, who.role, str(path), pinned)


def _confirm(address: str, profile: str | None, scope: str) -> None:
    from exchange.client import Exchange, signing_in
    from exchange.client.configuration import Address, Token, sign_in_kept, store

    shown = signing_in.start(address, scope=scope)
    click.echo(f"Open  {safe(shown.verification_uri)}", err=True)
    click.echo(f"and confirm the code  {safe(shown.user_code)}", err=True)
    tokens = signing_in.wait(address, shown)
    with Exchange(address, token=str(tokens.access)) as x:
        who, pinned = x.whoami(), _published(x)
    kept = sign_in_kept(profile)
    path = store(Address(address, Token(""), pinned, kept), profile=profile)
    signing_in.keep(kept, tokens)
    _say(who.name, who.role, str(path), pinned)


def _published(x: Exchange) -> Keys | None:
    from exchange.client import NotFound

    try:
        return x.published_keys()
    except NotFound:
        return None


def _say(name: str, role: str, path: str, pinned: Keys | None) -> None:
    click.echo(f"Logged in as {safe(name)} ({safe(role)}); stored in {path}")
    if pinned is None:
        click.echo(
            "The exchange has not published its log's key yet: log in again later to pin it.", err=True
        )
