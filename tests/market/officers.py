"""Compliance officers on the portal: persons with a second factor, who approve what others ask for."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.market.browser import Browser, member
from tests.market.stand import problem

if TYPE_CHECKING:
    import httpx

    from tests.market.stand import Stand


def officer(stand: Stand, login: str = "ada@cnil.example", who: str = "officer") -> Browser:
    """An officer who has signed in with an authenticator app just now."""
    browser = member(stand, who, login)
    assert browser.add_app().status_code == 200
    return browser


def approve(browser: Browser, approval: str) -> httpx.Response:
    """Press "Approve" on the page of an approval."""
    page = browser.get(f"/officer/approvals/{approval}").text
    digest = re.search(r'name="digest" value="([0-9a-f]{64})"', page)
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf is not None
    fields = {} if digest is None else {"digest": digest[1]}
    return browser.post(f"/officer/approvals/{approval}/approve", csrf=csrf[1], **fields)


def publish(stand: Stand, slug: str, version: str) -> str:
    """Publish a version that tells more than the one on offer: the provider asks, an officer approves, the
    provider does it; returns the approval.
    """
    where, body = f"/v1/datasets/{slug}/publish", {"version": version}
    with closing(officer(stand)) as browser:
        asked: str = problem(stand.post("provider", where, body), 409, "approval_needed")["approval"]
        assert approve(browser, asked).status_code == 200
    done = stand.post("provider", where, body)
    assert done.status_code == 200, done.text
    return asked


def shown(stand: Stand, approval: str) -> dict[str, Any]:
    """An approval as an officer's program reads it."""
    found: dict[str, Any] = stand.get("officer", f"/v1/officer/approvals/{approval}").json()
    return found


def set_restraint(stand: Stand, kind: str = "freeze", **given: str) -> dict[str, Any]:
    """Freeze or hold by an officer's token."""
    reply = stand.post("officer", f"/v1/officer/{kind}s", {"reason": "a complaint", **given})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    return made


def lift(stand: Stand, browser: Browser, made: dict[str, Any], kind: str = "freeze") -> dict[str, Any]:
    """Ask by a token, and approve as a person."""
    asked = stand.post("officer", f"/v1/officer/{kind}s/{made[kind]}/lift", {"reason": "it was settled"})
    assert asked.status_code == 202, asked.text
    reply = approve(browser, asked.json()["approval"])
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = stand.get("officer", f"/v1/officer/{kind}s/{made[kind]}").json()
    assert found["state"] == "lifted", found
    return found
