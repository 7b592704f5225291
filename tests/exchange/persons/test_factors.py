"""Second factors: codes of an app, passkeys, recovery codes; who must have one; and what replays come to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import select, text

from exchange.operations import signing_in
from exchange.persons.tables import passkey, recovery_code, totp
from tests.market.authenticator import USER_PRESENT, SecurityKey, b64
from tests.market.browser import PASSWORD, Browser, invited, member, security_key
from tests.market.stand import Stand

LOGIN = "ada@acme.example"
CODE = re.compile(r"\b[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}\b")


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    with closing(member(stand, login=LOGIN)) as browser:
        yield browser


@pytest.fixture
def with_app(ada: Browser) -> Browser:
    reply = ada.add_app()
    assert reply.status_code == 200, reply.text
    assert len(CODE.findall(reply.text)) == 10
    ada.stand.clock.advance(seconds=60)
    return ada


def signed_in_halfway(browser: Browser) -> Browser:
    """Another browser in which the password was typed and the second factor is asked for."""
    fresh = Browser(browser.stand)
    fresh.secret = browser.secret
    assert fresh.sign_in(LOGIN).url.path == "/sign-in/confirm"
    return fresh


def test_the_password_alone_opens_nothing_once_there_is_an_app(with_app: Browser) -> None:
    with closing(signed_in_halfway(with_app)) as browser:
        for path in ("/account", "/members", "/tokens", "/queries"):
            assert browser.get(path).url.path == "/sign-in/confirm", path
        for path in ("/account/app", "/account/recovery-codes", "/account/factors/app/remove", "/tokens"):
            assert browser.post(path).url.path == "/sign-in/confirm", path
        before = browser.http.cookies["session"]
        assert browser.confirm(code=browser.code()).url.path == "/account"
        assert browser.http.cookies["session"] != before, "a new id with the second factor"
        assert browser.is_signed_in()


def test_a_code_works_once(with_app: Browser) -> None:
    code = with_app.code()
    with closing(signed_in_halfway(with_app)) as first, closing(signed_in_halfway(with_app)) as second:
        assert first.confirm(code=code).url.path == "/account"
        assert second.confirm(code=code).status_code == 401
        assert not second.is_signed_in()
        with_app.stand.clock.advance(seconds=30)
        assert second.confirm(code=second.code()).url.path == "/account"


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 200), (1, 200), (2, 401)])
def test_a_clock_may_be_one_step_off(with_app: Browser, steps: int, status: int) -> None:
    with closing(signed_in_halfway(with_app)) as browser:
        assert browser.confirm(code=browser.code(steps=steps)).status_code == status


@pytest.mark.parametrize("code", ["", "000000", "12345", "1234567", "\N{FULLWIDTH DIGIT ONE}23456", "abcdef"])
def test_a_wrong_code_opens_nothing(with_app: Browser, code: str) -> None:
    with closing(signed_in_halfway(with_app)) as browser:
        wrong = code if code != browser.code() else "000001"
        assert browser.confirm(code=wrong).status_code == 401
        assert not browser.is_signed_in()


def test_guessing_codes_is_throttled_for_the_person_in_every_session(with_app: Browser) -> None:
    stand = with_app.stand
    with closing(signed_in_halfway(with_app)) as first, closing(signed_in_halfway(with_app)) as second:
        wrong = next(
            c for c in ("000000", "000001", "000002") if c not in {first.code(steps=n) for n in (-1, 0, 1)}
        )
        assert [first.confirm(code=wrong).status_code for _ in range(6)] == [401] * 5 + [429]
        blocked = second.confirm(code=second.code())
        assert blocked.status_code == 429
        assert 0 < int(blocked.headers["Retry-After"]) <= 900
        stand.clock.advance(seconds=900)
        assert second.sign_in(LOGIN).url.path == "/sign-in/confirm"
        assert second.confirm(code=second.code()).url.path == "/account"


def test_half_a_sign_in_ends_after_ten_minutes(with_app: Browser) -> None:
    with closing(signed_in_halfway(with_app)) as browser:
        with_app.stand.clock.advance(minutes=11)
        assert browser.confirm(code=browser.code()).url.path == "/sign-in"


def test_recovery_codes_work_once_and_are_kept_as_digests(ada: Browser) -> None:
    codes = CODE.findall(ada.add_app().text)
    rows = ada.stand.market.store.read(lambda session: session.execute(select(recovery_code)).all())
    assert len(rows) == 10
    assert not any(code in str(rows) or code.replace("-", "") in str(rows) for code in codes)
    with closing(signed_in_halfway(ada)) as first, closing(signed_in_halfway(ada)) as second:
        assert first.confirm(recovery=codes[0].lower().replace("-", " ")).url.path == "/account"
        assert "9 recovery codes are left" in first.get("/account").text
        assert second.confirm(recovery=codes[0]).status_code == 401
        assert second.confirm(recovery="AAAA-AAAA-AAAA-AAAA").status_code == 401
        fresh = CODE.findall(first.post("/account/recovery-codes").text)
        assert len(set(fresh)) == 10
        assert second.confirm(recovery=codes[1]).status_code == 401, "earlier ones end"
        assert second.confirm(recovery=fresh[0]).url.path == "/account"


def test_the_key_of_an_app_is_kept_sealed_and_shown_once(with_app: Browser) -> None:
    rows = with_app.stand.market.store.read(lambda session: session.execute(select(totp)).all())
    assert with_app.secret.encode() not in rows[0].sealed
    assert with_app.secret not in with_app.get("/account").text
    entries = str([record.document for record in with_app.stand.entries()])
    assert with_app.secret not in entries
    assert LOGIN not in entries


def test_an_app_that_showed_no_code_is_no_factor(ada: Browser) -> None:
    assert "Enter this key" in ada.post("/account/app").text
    with closing(Browser(ada.stand)) as browser:
        assert browser.sign_in(LOGIN).url.path == "/account"
    assert ada.post("/account/app/confirm", code="000000").status_code in (401, 200)


def test_a_passkey_signs_in(ada: Browser) -> None:
    stand, key = ada.stand, security_key(ada.stand)
    added = ada.add_passkey(key)
    assert added.status_code == 200, added.text
    assert len(added.json()["recovery_codes"]) == 10
    assert "Passkey: laptop" in ada.get("/account").text
    with closing(signed_in_halfway(ada)) as browser:
        before = browser.http.cookies["session"]
        assert browser.use_passkey(key).status_code == 200
        assert browser.http.cookies["session"] != before
        assert browser.is_signed_in()
    row = stand.market.store.read(lambda session: session.execute(select(passkey)).one())
    assert (row.sign_count, row.credential) == (1, b64(key.credential))
    assert ada.add_passkey(security_key(stand), "phone").json()["recovery_codes"] == []


def refused(browser: Browser, reply: object) -> None:
    told = browser.post_json("/sign-in/passkey", reply)
    assert (told.status_code, told.json()["code"]) == (401, "second_factor_refused")
    assert browser.get("/account").url.path == "/sign-in/confirm"


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://evil.test"},
        {"rp_id": "evil.test"},
        {"flags": USER_PRESENT},
        {"flags": 0},
        {"count": -1},
        {"credential": b"x" * 32},
        {"key": SecurityKey("", "").key},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_forged_assertion_is_refused(ada: Browser, change: dict[str, object]) -> None:
    key = security_key(ada.stand)
    ada.add_passkey(key)
    with closing(signed_in_halfway(ada)) as browser:
        assert browser.use_passkey(key).status_code == 200
    with closing(signed_in_halfway(ada)) as browser:
        options = browser.post_json("/sign-in/passkey/options").json()
        for name, value in change.items():
            setattr(key, name, value)
        refused(browser, key.sign(options))


def test_a_challenge_is_used_once_by_its_session_within_five_minutes(ada: Browser) -> None:
    key = security_key(ada.stand)
    ada.add_passkey(key)
    with closing(signed_in_halfway(ada)) as first, closing(signed_in_halfway(ada)) as second:
        signed = key.sign(first.post_json("/sign-in/passkey/options").json())
        refused(second, signed)
        second.post_json("/sign-in/passkey/options")
        refused(second, signed)
        assert first.post_json("/sign-in/passkey", signed).status_code == 200
        assert first.post_json("/sign-in/passkey", signed).status_code == 401, "a replay"
    with closing(signed_in_halfway(ada)) as late:
        signed = key.sign(late.post_json("/sign-in/passkey/options").json())
        ada.stand.clock.advance(minutes=5)
        refused(late, signed)


@pytest.mark.parametrize(
    "reply", [{}, {"id": 7}, {"id": "x", "rawId": "x", "type": "y", "response": []}], ids=str
)
def test_nonsense_in_place_of_an_assertion_is_refused(ada: Browser, reply: dict[str, object]) -> None:
    ada.add_passkey(security_key(ada.stand))
    with closing(signed_in_halfway(ada)) as browser:
        browser.post_json("/sign-in/passkey/options")
        refused(browser, reply)
        assert browser.post_json("/sign-in/passkey", [1]).status_code == 422


@pytest.mark.parametrize(
    "change",
    [{"origin": "https://evil.test"}, {"rp_id": "evil.test"}, {"flags": USER_PRESENT}, {"flags": 0}],
    ids=str,
)
def test_a_forged_registration_is_refused(ada: Browser, change: dict[str, object]) -> None:
    key = security_key(ada.stand, **change)
    told = ada.add_passkey(key)
    assert (told.status_code, told.json()["code"]) == (401, "second_factor_refused")
    for body in ({}, {"credential": {}}, {"credential": "x", "name": 7}):
        ada.post_json("/account/passkeys/options")
        assert ada.post_json("/account/passkeys", body).status_code == 401
    assert "None yet" in ada.get("/account").text


def test_somebody_elses_passkey_opens_nothing(ada: Browser) -> None:
    key = security_key(ada.stand)
    ada.add_passkey(key)
    with closing(member(ada.stand, "other", "bo@globex.example")) as bo:
        assert bo.add_passkey(key).status_code == 401, "a credential is one person's"
        bo.add_passkey(security_key(ada.stand))
        with closing(Browser(ada.stand)) as browser:
            browser.sign_in("bo@globex.example")
            refused(browser, key.sign(browser.post_json("/sign-in/passkey/options").json()))


@pytest.fixture
def strict(stand: Stand) -> Stand:
    """The market as it is by default: officers and operators need a second factor."""
    object.__setattr__(stand.market.settings, "second_factor", 1)
    return stand


@pytest.mark.parametrize("who", ["officer", "operator"])
def test_officers_and_operators_need_a_second_factor(strict: Stand, who: str) -> None:
    with closing(Browser(strict)) as browser:
        reply = browser.join(invited(strict, who, "clara@office.example"))
        assert "Add one below" in reply.text
        for path in ("/officer", "/members", "/tokens", "/queries"):
            assert browser.get(path).url.path == "/account", path
        assert browser.post("/account/recovery-codes").url.path == "/account"
        browser.add_app()
        assert browser.get("/officer").status_code == 200
        assert browser.post("/account/factors/app/remove").status_code == 403, "the last one stays"
        assert browser.add_passkey(security_key(strict)).status_code == 200
        assert browser.post("/account/factors/app/remove").status_code == 200
        assert browser.get("/officer").status_code == 200


@pytest.mark.parametrize(
    ("who", "status"), [("officer", 403), ("operator", 403), ("buyer", 200), ("provider", 200)]
)
def test_a_token_opens_no_session_where_a_second_factor_is_needed(
    strict: Stand, who: str, status: int
) -> None:
    with closing(Browser(strict)) as browser:
        reply = browser.post("/sign-in", token=strict.tokens[who], next="/")
        assert reply.status_code == status
        assert browser.is_signed_in() is (status == 200)
    if status == 403:
        assert strict.entries(code="second_factor_missing")[-1].document["kind"] == "session.refused"


def test_what_matters_asks_for_a_fresh_proof(with_app: Browser) -> None:
    stand = with_app.stand
    stand.clock.advance(minutes=6)
    for path in ("/account/recovery-codes", "/account/factors/app/remove"):
        assert with_app.post(path).url.path == "/sign-in/confirm", path
    told = with_app.post_json("/account/passkeys/options")
    assert (told.status_code, told.json()["code"]) == (403, "confirmation_needed")
    assert with_app.confirm(password=PASSWORD).status_code == 401, "the password is not enough"
    assert with_app.confirm(code=with_app.code()).url.path == "/account"
    assert with_app.post("/account/factors/app/remove").url.path == "/account"
    assert "None yet" in with_app.get("/account").text


def test_without_a_factor_the_password_is_the_proof(ada: Browser) -> None:
    ada.stand.clock.advance(minutes=6)
    assert ada.post("/account/app").url.path == "/sign-in/confirm"
    assert ada.confirm(password="wrong wrong wrong").status_code == 401
    assert ada.confirm(password=PASSWORD).url.path == "/account"
    assert "Enter this key" in ada.post("/account/app").text


def test_fresh_is_five_minutes(with_app: Browser) -> None:
    stand = with_app.stand
    with_app.confirm(code=with_app.code())
    secret = with_app.http.cookies["session"]

    def fresh() -> bool:
        who = signing_in.visitor(stand.market, secret)
        assert who is not None
        return who.fresh_factor(stand.clock())

    assert fresh()
    stand.clock.advance(minutes=4, seconds=55)
    assert fresh()
    stand.clock.advance(seconds=10)
    assert not fresh()


def test_a_tampered_key_of_an_app_is_a_defect_and_opens_nothing(with_app: Browser) -> None:
    with with_app.stand.market.store.engine.begin() as connection:
        connection.execute(text("UPDATE totp SET sealed = :other"), {"other": b"x" * 60})
    with closing(signed_in_halfway(with_app)) as browser:
        assert browser.confirm(code=browser.code()).status_code == 500
        assert not browser.is_signed_in()
