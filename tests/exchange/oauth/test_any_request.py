"""Whatever is sent to the authorization server, it answers as RFC 6749 says, and nothing breaks."""

from __future__ import annotations

from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchange.oauth.program import CLI, DEVICE_GRANT, REDIRECT, Program
from tests.market.stand import Stand

NAMES = [
    *("grant_type", "client_id", "client_secret", "scope", "code", "redirect_uri", "code_verifier"),
    *("refresh_token", "device_code", "token", "token_type_hint", "response_type", "state"),
    *("code_challenge", "code_challenge_method", "request", "request_uri", "resource", "nonce"),
]
KNOWN = [
    *(
        "client_credentials",
        "authorization_code",
        "refresh_token",
        DEVICE_GRANT,
        CLI,
        "code",
        "S256",
        "plain",
    ),
    *(
        "ask",
        "account",
        "rho:1",
        REDIRECT,
        "access_token",
        "id_token",
        "",
        "a" * 43,
        "\u00fc",
        "\x00",
        '"',
        "%00",
    ),
]
VALUES = st.one_of(st.sampled_from(KNOWN), st.text(max_size=40))
FORMS = st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), VALUES), max_size=8)
HEADERS = st.one_of(
    st.none(),
    st.sampled_from(["Basic", "Basic ", "basic x", "Basic Og==", "Basic //8=", "Bearer a.b.c", "Digest x"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40).map(
        lambda text: f"Basic {text}"
    ),
)
ENDPOINTS = ["/oauth/token", "/oauth/device", "/oauth/revoke", "/oauth/introspect"]
FEW = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def program(shared_sqlite_stand: Stand) -> Program:
    """A client with a secret and an address."""
    return Program.of(shared_sqlite_stand, redirect_uris=[REDIRECT])


@pytest.fixture(scope="module")
def browser(shared_sqlite_stand: Stand) -> httpx.Client:
    """A browser of somebody who is signed in."""
    return shared_sqlite_stand.sign_in("buyer")


def encoded(form: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in form)


def assert_answered(reply: httpx.Response) -> None:
    assert reply.status_code < 500, reply.text
    if reply.headers["Content-Type"].startswith("application/json") and reply.status_code >= 400:
        told = reply.json()
        assert set(told) <= {"error", "error_description", "state"}
        assert told["error"].isidentifier()
        assert all(32 <= ord(one) < 127 and one not in '"\\' for one in told.get("error_description", ""))


@pytest.mark.parametrize("path", ENDPOINTS)
@FEW
@given(form=FORMS, header=HEADERS)
def test_an_endpoint_answers(
    shared_sqlite_stand: Stand, path: str, form: list[tuple[str, str]], header: str | None
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    headers |= {"Authorization": header} if header is not None else {}
    reply = shared_sqlite_stand.http.post(path, content=encoded(form).encode(), headers=headers)
    assert_answered(reply)
    assert "access_token" not in reply.text or reply.status_code >= 400


@FEW
@given(form=FORMS)
def test_a_client_that_is_known_is_answered(program: Program, form: list[tuple[str, str]]) -> None:
    login = (program.client_id, program.secret or "")
    for path in ENDPOINTS:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert_answered(
            program.stand.http.post(path, content=encoded(form).encode(), headers=headers, auth=login)
        )


@FEW
@given(form=FORMS)
def test_a_page_is_shown_or_refused(
    program: Program, browser: httpx.Client, form: list[tuple[str, str]]
) -> None:
    """And a browser is sent to no address but the client's."""
    asked = [("client_id", program.client_id), *form] if len(form) % 2 else form
    reply = browser.get(f"/oauth/authorize?{encoded(asked)}", follow_redirects=False)
    assert reply.status_code < 500, reply.text
    assert reply.headers.get("Location", REDIRECT).startswith(REDIRECT)
