"""Programs in Python: a client's own secret, and a sign-in that is kept and renewed."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from exchange.client import (
    AuthError,
    ConfigurationError,
    Exchange,
    PermissionDenied,
    Retry,
    ServerError,
    signing_in,
)
from exchange.client.configuration import Address, SignedIn, Token, resolve, sign_in_kept, store, user_file
from tests.exchange.marketplace import alone
from tests.exchange.oauth.program import Program, confirm
from tests.market import sample
from tests.market.stand import Stand

URL = "http://market.test"
__all__ = ["alone"]


@pytest.fixture(autouse=True)
def _clean_user(alone: Path) -> None:
    """Every test starts without configuration."""


class Wire(httpx.BaseTransport):
    """The way to a stand, counting what goes to its token endpoint."""

    def __init__(self, stand: Stand) -> None:
        self._way = httpx.WSGITransport(app=stand.app)
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            with self._lock:
                self.asked.append(request.read().decode())
        return self._way.handle_request(request)


def test_a_client_asks_for_its_token_once_and_renews_it(sqlite_stand: Stand) -> None:
    stand, wire = sqlite_stand, Wire(sqlite_stand)
    program = Program.of(stand, scope="account")
    with Exchange(
        URL, client_id=program.client_id, client_secret=program.secret, scope="rho:1", transport=wire
    ) as x:
        who = x.whoami()
        assert (who.role, who.auth, who.scope) == ("buyer", "oauth", "ask rho:1")
        with ThreadPoolExecutor(4) as pool:
            assert {one.token for one in pool.map(lambda _: x.whoami(), range(8))} == {who.token}
        answer = x.dataset(sample.SLUG).query(sample.COUNT, rho="0.01", max_price="2.00")
        assert answer.rows
        assert len(wire.asked) == 1
        stand.clock.advance(minutes=11)
        assert x.whoami().token == who.token, "a token that ended is renewed, and the call repeated"
        assert len(wire.asked) == 2
        with pytest.raises(PermissionDenied) as refused:
            x.wallet()
    assert refused.value.code == "scope_missing"
    assert "account" in refused.value.hint
    assert str(program.secret) not in repr(x)


def test_a_client_that_is_refused_says_why(sqlite_stand: Stand) -> None:
    program, wire = Program.of(sqlite_stand), Wire(sqlite_stand)
    with (
        Exchange(URL, client_id=program.client_id, client_secret="x" * 43, transport=wire) as x,
        pytest.raises(AuthError) as wrong,
    ):
        x.whoami()
    assert (wrong.value.code, wrong.value.status) == ("invalid_client", 401)
    assert "client_secret" in wrong.value.hint
    given = {"client_id": program.client_id, "client_secret": program.secret, "scope": "account"}
    with Exchange(URL, transport=wire, **given) as x, pytest.raises(AuthError) as wide:  # type: ignore[arg-type]
        x.whoami()
    assert wide.value.code == "invalid_scope"
    assert len(wire.asked) == 2, "a refusal is not asked for again"
    for more in ({"client_id": "cli_1"}, {"client_id": "cli_1", "client_secret": "x", "token": "t"}):
        with pytest.raises(ConfigurationError):
            Exchange(URL, **more)


def test_an_exchange_that_fails_to_sign_us_in_is_asked_again() -> None:
    replies = [
        httpx.Response(503),
        httpx.Response(200, html="<html>"),
        httpx.Response(200, json={"org": "o"}),
    ]
    client = httpx.MockTransport(lambda _: replies[0])
    with Exchange(URL, client_id="c", client_secret="s", transport=client, retry=Retry(times=1)) as x:
        for _ in range(2):
            with pytest.raises(ServerError) as failed:
                x.whoami()
            assert failed.value.code == "unexpected_reply"
            replies.pop(0)


def signed_in(stand: Stand, who: str = "buyer", scope: str = "account") -> SignedIn:
    """A person who has signed in by the device flow, and whose tokens are kept."""
    wire = Wire(stand)
    shown = signing_in.start(URL, scope=scope, transport=wire)
    browser = stand.sign_in(who)
    tokens = signing_in.wait(
        URL, shown, transport=wire, sleep=lambda _: confirm(browser, shown.user_code).raise_for_status()
    )
    kept = sign_in_kept()
    store(Address(URL, Token(""), None, kept))
    signing_in.keep(kept, tokens)
    return kept


def test_a_sign_in_is_kept_to_its_owner_and_renewed(sqlite_stand: Stand) -> None:
    kept, wire = signed_in(sqlite_stand), Wire(sqlite_stand)
    assert stat.S_IMODE(user_file().stat().st_mode) == 0o600
    first = signing_in.tokens_of(kept)
    assert first is not None
    assert first.refresh not in repr(first)
    assert first.access not in repr(first)
    with Exchange(transport=wire) as x:
        assert (x.whoami().auth, x.whoami().scope) == ("oauth", "account")
        assert wire.asked == []
        sqlite_stand.clock.advance(minutes=11)
        assert x.whoami().role == "buyer"
    assert len(wire.asked) == 1
    second = signing_in.tokens_of(kept)
    assert second is not None
    assert second.refresh != first.refresh
    assert stat.S_IMODE(user_file().stat().st_mode) == 0o600
    with Exchange(transport=wire) as x:
        assert x.whoami().role == "buyer"
    assert len(wire.asked) == 1, "another process uses what the first one renewed"


def test_many_processes_of_one_user_renew_once(sqlite_stand: Stand) -> None:
    """Two refreshes with one token would look like theft, and end the sign-in."""
    signed_in(sqlite_stand)
    sqlite_stand.clock.advance(minutes=11)
    wire = Wire(sqlite_stand)

    def ask(_: int) -> str:
        with Exchange(transport=wire) as x:
            return x.whoami().role

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) == {"buyer"}
    assert len(wire.asked) == 1


def test_a_sign_in_that_was_taken_back_says_so(sqlite_stand: Stand) -> None:
    signed_in(sqlite_stand)
    with Exchange(transport=Wire(sqlite_stand)) as x:
        (held,) = x.programs.authorizations()
        assert (held.client_id, held.scope) == ("exchange-cli", "account")
        x.programs.take_back(held.id)
        with pytest.raises(AuthError) as over:
            x.whoami()
    assert "exchange login" in over.value.hint


def test_logging_out_ends_the_sign_in_everywhere(sqlite_stand: Stand) -> None:
    kept, wire = signed_in(sqlite_stand), Wire(sqlite_stand)
    held = signing_in.tokens_of(kept)
    assert held is not None
    assert signing_in.end(URL, kept, transport=wire)
    assert signing_in.tokens_of(kept) is None
    assert resolve().url == URL
    assert sqlite_stand.get(str(held.access), "/v1/whoami").status_code == 401
    assert not signing_in.end(URL, kept, transport=wire)


def test_tokens_go_to_the_address_they_are_for_alone(sqlite_stand: Stand, alone: Path) -> None:
    signed_in(sqlite_stand)
    assert resolve("http://elsewhere.test").signed_in is None
    assert resolve(token="tok_own").signed_in is None
    assert resolve().signed_in is not None


def test_a_no_on_the_portal_is_told(sqlite_stand: Stand) -> None:
    wire = Wire(sqlite_stand)
    shown = signing_in.start(URL, transport=wire)
    browser = sqlite_stand.sign_in("buyer")
    with pytest.raises(AuthError) as declined:
        signing_in.wait(
            URL, shown, transport=wire, sleep=lambda _: confirm(browser, shown.user_code, "decline")
        )
    assert declined.value.code == "access_denied"
    slept: list[float] = []
    late = signing_in.start(URL, transport=wire)
    with pytest.raises(AuthError) as over:
        signing_in.wait(URL, late, transport=wire, sleep=slept.append)
    assert over.value.code == "expired_token"
    assert slept[0] == 5
    assert max(slept) > 5, "it was told to slow down"


def test_clients_in_python(sqlite_stand: Stand) -> None:
    with Exchange(URL, token=sqlite_stand.tokens["buyer"], transport=Wire(sqlite_stand)) as x:
        made = x.programs.create("Report", scope="rho:1")
        assert made.secret
        assert made.secret not in repr(made)
        assert [(one.client_id, one.scope, one.secret) for one in x.programs.clients()] == [
            (made.client_id, "ask rho:1", "")
        ]
        x.programs.revoke(made.client_id)
        assert x.programs.clients() == []
