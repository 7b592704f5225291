"""An organisation's own affairs, for its administrators: members, invitations, tokens for the API."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, url_for

from exchange.errors import MemberExists, RequestInvalid
from exchange.identity import Role
from exchange.operations import joining, signing_in, tokens
from exchange.web import auth
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import form, refused_form, session_page, told

if TYPE_CHECKING:
    from flask import Response
    from werkzeug.wrappers import Response as BaseResponse

    from exchange.persons.sessions import SignedIn

_MEMBERS, _TOKENS = "portal.members", "portal.own_tokens"


@portal.get("/members")
@session_page()
def members(who: SignedIn) -> str:
    """The organisation's members, and the links that nobody has used."""
    return _members_page(who)


@portal.post("/members")
@session_page(back=_MEMBERS)
def invite(who: SignedIn) -> str | Response:
    """Make a link for somebody; it is shown once."""
    signing_in.recently(market(), who)
    typed = {"login": form("login"), "admin": form("admin")}
    try:
        made = joining.invite(
            market(),
            who.actor,
            org=who.actor.org,
            login=typed["login"],
            role=Role(who.actor.role),
            admin=typed["admin"] == "yes",
        )
    except (MemberExists, RequestInvalid) as refusal:
        return refused_form(_members_page(who, typed=typed, fault=told(refusal)), refusal)
    return _members_page(who, made=made)


@portal.post("/members/<member>/<verb>")
@session_page(back=_MEMBERS)
def change_member(who: SignedIn, member: str, verb: str) -> str | BaseResponse:
    """Change a member: promote, demote, disable, enable, remove, reset."""
    signing_in.recently(market(), who)
    known: dict[str, Any] = {"org": who.actor.org, "member": member}
    if verb == "reset":
        return _members_page(who, made=joining.reset(market(), who.actor, **known))
    if verb in ("promote", "demote"):
        joining.change(market(), who.actor, **known, admin=verb == "promote")
    elif verb in ("disable", "enable"):
        joining.disable(market(), who.actor, **known, disabled=verb == "disable")
    elif verb == "remove":
        joining.remove(market(), who.actor, **known)
    else:
        raise RequestInvalid("a member is promoted, demoted, disabled, enabled, removed or reset")
    still = auth.login(anew=True)
    return redirect(url_for(_MEMBERS if still is not None and still.admin else "portal.account"))


@portal.post("/invitations/<invitation>/withdraw")
@session_page(back=_MEMBERS)
def withdraw_invitation(who: SignedIn, invitation: str) -> BaseResponse:
    """End a link before it is used."""
    joining.withdraw(market(), who.actor, org=who.actor.org, invitation=invitation)
    return redirect(url_for(_MEMBERS))


@portal.get("/tokens")
@session_page()
def own_tokens(who: SignedIn) -> str:
    """The organisation's tokens for the API."""
    return _tokens_page(who)


@portal.post("/tokens")
@session_page(back=_TOKENS)
def create_token(who: SignedIn) -> str | Response:
    """Create a token; it is shown once."""
    signing_in.recently(market(), who)
    try:
        made = tokens.create_own(market(), who.actor, expires=_day(form("expires")))
    except RequestInvalid as refusal:
        return refused_form(_tokens_page(who, typed=form("expires"), fault=told(refusal)), refusal)
    return _tokens_page(who, made=made)


@portal.post("/tokens/<token>/revoke")
@session_page(back=_TOKENS)
def revoke_token(who: SignedIn, token: str) -> BaseResponse:
    """End a token at once."""
    tokens.revoke_own(market(), who.actor, token)
    return redirect(url_for(_TOKENS))


def _members_page(who: SignedIn, **more: Any) -> str:
    found = joining.members(market(), who.actor, org=who.actor.org)
    return render_template("members.html", who=who, found=found, **more)


def _tokens_page(who: SignedIn, **more: Any) -> str:
    return render_template("tokens.html", who=who, tokens=tokens.own_tokens(market(), who.actor), **more)


def _day(text: str) -> datetime | None:
    """The end of a day in UTC, or None where the field is empty. Raises RequestInvalid."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007
    except ValueError:
        raise RequestInvalid("a day is written as 2027-01-31") from None
    return datetime.combine(day, time.max, UTC)
