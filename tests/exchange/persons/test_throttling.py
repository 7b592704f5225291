"""Whom wrong passwords make wait: who tries, hardly ever whose account it is."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest

from tests.market.browser import PASSWORD, Browser, member
from tests.market.stand import Stand

LOGIN = "ada@acme.example"


def sign_in(stand: Stand, network: int, password: str = "wrong", login: str = LOGIN) -> int:
    """Sign in from a network of the given number; the status."""
    transport = httpx.WSGITransport(app=stand.app, remote_addr=f"198.51.{network}.7")
    with httpx.Client(transport=transport, base_url="http://market.test") as client:
        return client.post("/sign-in", data={"login": login, "password": password}).status_code


def test_nobody_elsewhere_makes_a_person_wait(sqlite_stand: Stand) -> None:
    member(sqlite_stand, login=LOGIN).close()
    assert [sign_in(sqlite_stand, 1) for _ in range(7)] == [401] * 5 + [429] * 2
    assert sign_in(sqlite_stand, 2, PASSWORD) == 302
    assert sign_in(sqlite_stand, 1, PASSWORD) in (302, 429)


def test_many_networks_together_wait_all_the_same(sqlite_stand: Stand) -> None:
    statuses = [sign_in(sqlite_stand, number // 5) for number in range(102)]
    assert statuses == [401] * 100 + [429] * 2


def test_refused_tries_count_for_their_network(sqlite_stand: Stand) -> None:
    for _ in range(50):
        sign_in(sqlite_stand, 1)
    assert sign_in(sqlite_stand, 1, login="bo@acme.example") == 429
    assert sign_in(sqlite_stand, 2, login="bo@acme.example") == 401


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/sign-in", {"login": "a\x00b", "password": "x"}),
        ("/sign-in", {"login": LOGIN, "password": "x\x00"}),
        ("/account/organisation", {"org": "x\x00"}),
        ("/members", {"login": "\x00"}),
    ],
)
def test_a_form_with_a_nul_is_refused(stand: Stand, path: str, fields: dict[str, str]) -> None:
    with closing(member(stand, login=LOGIN, admin=True)) as ada:
        assert ada.post(path, **fields).status_code == 422


@pytest.mark.parametrize("body", ["[" * 30_000, '{"name": "\\u0000"}'])
def test_a_body_that_is_too_deep_or_holds_a_nul_is_refused(stand: Stand, body: str) -> None:
    with closing(member(stand, login=LOGIN)) as ada:
        headers = {"X-CSRF-Token": ada.csrf(), "Content-Type": "application/json"}
        assert ada.http.post("/account/passkeys", content=body, headers=headers).status_code == 422


def test_signing_in_with_a_nul_is_refused_to_strangers(stand: Stand) -> None:
    with closing(Browser(stand)) as browser:
        assert browser.post("/sign-in", login="a\x00b", password="x").status_code == 422
