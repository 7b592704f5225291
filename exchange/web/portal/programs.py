"""An organisation's programs: what members let in, and, for its administrators, its clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, url_for

from exchange.operations import authorizing, client_programs, signing_in
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import form, session_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

    from exchange.persons.sessions import SignedIn

_PROGRAMS = "portal.programs"


@portal.get("/programs")
@session_page()
def programs(who: SignedIn) -> str:
    """What programs were let do, with the clients of the organisation for those who manage them."""
    return _page(who)


@portal.post("/programs/authorizations/<authorization>/revoke")
@session_page(back=_PROGRAMS)
def revoke_authorization(who: SignedIn, authorization: str) -> BaseResponse:
    """Take back what a program was let do."""
    authorizing.revoke_authorization(market(), who.actor, authorization)
    return redirect(url_for(_PROGRAMS))


@portal.post("/programs/clients")
@session_page(back=_PROGRAMS)
def create_client(who: SignedIn) -> str:
    """Create a client; its secret is shown once."""
    signing_in.recently(market(), who)
    uris = tuple(form("redirect_uris", 6000).split())
    command = client_programs.CreateClient(
        form("name"), form("kind"), scope=form("scope", 2000).strip() or "ask", redirect_uris=uris
    )
    return _page(who, made=client_programs.create_client(market(), who.actor, command))


@portal.post("/programs/clients/<client>/revoke")
@session_page(back=_PROGRAMS)
def revoke_client(who: SignedIn, client: str) -> BaseResponse:
    """End a client with every token of it."""
    client_programs.revoke_client(market(), who.actor, client)
    return redirect(url_for(_PROGRAMS))


def _page(who: SignedIn, **more: Any) -> str:
    manages = who.admin or not who.person
    held = authorizing.list_authorizations(market(), who.actor)["items"]
    own = client_programs.list_clients(market(), who.actor)["items"] if manages else []
    return render_template("programs.html", who=who, held=held, clients=own, manages=manages, **more)
