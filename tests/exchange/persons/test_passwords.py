"""Passwords: which ones are taken, how they are kept, and what somebody learns who tries at them."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator
from contextlib import closing

import argon2
import pytest
from sqlalchemy import select

from exchange import bootstrap
from exchange.errors import InsideTransaction, Overloaded, PasswordWeak
from exchange.persons import throttling
from exchange.persons.passwords import Passwords, check_strength
from exchange.persons.tables import attempt, person
from tests.market.browser import PASSWORD, Browser, invited, member, path_of
from tests.market.stand import CHEAP, Stand

LOGIN = "ada@acme.example"
#: Common passwords of twelve characters and more, of the kinds that lists of leaked ones are full of.
COMMON = [
    *("password1234", "Password123!", "P@ssw0rd1234", "p4ssw0rd2024!", "passwordpassword", "123password123"),
    *("qwertyuiop123", "1q2w3e4r5t6y", "qwerty123456", "asdfghjkl123", "1qaz2wsx3edc", "zxcvbnm12345"),
    *("123456789012", "111111111111", "aaaaaaaaaaaaa", "abcabcabcabc", "1212121212121", "098765432109"),
    *("iloveyou1234", "letmein123456", "welcome12345", "Welcome2024!!", "admin1234567", "administrator"),
    *("sunshine1234", "princess12345", "football2023", "monkeymonkey", "Summer2024!!!", "december2025!"),
    *("trustno1trustno1", "superman12345", "changeme12345", "qwertyqwerty", "abcdefghijkl", "starwars12345"),
    *("dragon-dragon", "iloveyouforever", "thisismypassword", "exchange-admin", "mypassword123"),
]
GOOD = [
    PASSWORD,
    "correct horse battery staple",
    "tR7#kq9ZpLw2",
    "восемь синих птиц",
    "二十三只蓝色的鸟在飞翔着啊",
    "xK4 mlpq zuvR9",
    "a" + "1b2c3d-e5g9k" * 9,
]  # fmt: skip


@pytest.fixture
def ada(sqlite_stand: Stand) -> Iterator[Browser]:
    with closing(member(sqlite_stand, login=LOGIN)) as browser:
        yield browser


def kept(stand: Stand) -> str:
    """The stored hash of the one person."""
    return str(stand.market.store.read(lambda session: session.scalar(select(person.c.password_hash))))


@pytest.mark.parametrize("password", COMMON)
def test_a_common_password_is_refused(password: str) -> None:
    with pytest.raises(PasswordWeak, match="tried first"):
        check_strength(password)


@pytest.mark.parametrize(
    "password", ["ada@acme.example", "ada-lovelace-1815", "Acme-Example-2026", "lovelaceada!"]
)
def test_a_password_of_ones_own_name_is_refused(password: str) -> None:
    check_strength("ada-lovelace-1815")
    with pytest.raises(PasswordWeak, match="tried first"):
        check_strength(password, about=(LOGIN, "Ada Lovelace"))


@pytest.mark.parametrize("password", GOOD)
def test_any_other_is_taken_whatever_it_is_made_of(password: str) -> None:
    check_strength(password, about=(LOGIN, "Ada Lovelace"))


@pytest.mark.parametrize("password", ["", "x7#kq9ZpLw2", "q7" * 64 + "x", "line\nbreak and more"])
def test_a_length_that_is_not_taken_is_told_on_the_page(shared_sqlite_stand: Stand, password: str) -> None:
    with closing(Browser(shared_sqlite_stand)) as browser:
        link = invited(shared_sqlite_stand, "buyer", "eve@acme.example")
        reply = browser.join(link, password=password)
        assert reply.status_code == 422
        assert "characters" in reply.text
        assert browser.join(link).url.path == "/account", "the link still works"
        browser.post("/sign-out")
    with shared_sqlite_stand.market.store.engine.begin() as connection:
        for table in ("membership", "person"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


def test_the_kept_hash_is_argon2id_as_rfc_9106_recommends(ada: Browser, tmp_path: object) -> None:
    market = bootstrap.open_market(ada.stand.settings)
    try:
        made = market.passwords.hash(PASSWORD)
    finally:
        market.close()
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert argon2.extract_parameters(made) == argon2.profiles.RFC_9106_LOW_MEMORY
    assert kept(ada.stand).startswith("$argon2id$")
    assert PASSWORD not in kept(ada.stand)


def test_a_hash_of_older_parameters_is_renewed_at_the_next_sign_in(ada: Browser) -> None:
    stand, before = ada.stand, kept(ada.stand)
    stronger = dataclasses.replace(CHEAP, time_cost=2)
    object.__setattr__(stand.market, "passwords", Passwords(parameters=stronger))
    assert ada.sign_in(LOGIN).url.path == "/account"
    assert "t=2" in kept(stand)
    assert kept(stand) != before
    assert ada.sign_in(LOGIN).url.path == "/account"


def test_only_a_few_are_hashed_at_a_time() -> None:
    started, release = threading.Event(), threading.Event()
    passwords = Passwords(at_once=1, parameters=CHEAP)

    class Slow:
        def hash(self, password: str) -> str:
            started.set()
            assert release.wait(30)
            return password

    passwords._hasher = Slow()  # type: ignore[assignment]
    holder = threading.Thread(target=passwords.hash, args=("x",))
    holder.start()
    try:
        assert started.wait(30)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("exchange.persons.passwords._PATIENCE_S", 0.05)
            with pytest.raises(Overloaded):
                passwords.verify(None, "x")
    finally:
        release.set()
        holder.join()


def test_no_password_is_hashed_with_a_transaction_open(ada: Browser) -> None:
    with pytest.raises(InsideTransaction):
        ada.stand.market.store.read(lambda _: ada.stand.market.passwords.hash("x"))


WRONG = [
    (LOGIN, "not the password of ada"),
    ("nobody@acme.example", PASSWORD),
    ("nobody@acme.example", ""),
    ("not a login", PASSWORD),
    (LOGIN, PASSWORD + "x" * 200),
    (LOGIN, "\N{SNOWMAN}" * 500),
    ("' OR 1=1 --", "' OR 1=1 --"),
]


def test_unknown_and_wrong_are_answered_alike_and_logged_without_a_name(ada: Browser) -> None:
    stand, replies = ada.stand, []
    before = len(stand.entries())
    for login, password in WRONG:
        with closing(Browser(stand)) as browser:
            reply = browser.http.post("/sign-in", data={"login": login, "password": password, "next": "/"})
            assert not browser.is_signed_in()
        replies.append((reply.status_code, re.sub(r"req_\w+", "", reply.text)))
    assert set(replies) == {(401, replies[0][1])}
    assert "the login or the password is wrong" in replies[0][1]
    fresh = [record.document for record in stand.entries()[before:]]
    assert len(fresh) == len(WRONG)
    told = {(e["kind"], e["code"], e["actor"]["ref"], e["actor"]["org"], e["object"]["id"]) for e in fresh}
    assert told == {("session.refused", "sign_in_refused", "unknown", "unknown", None)}
    for leaf in (str(document) for document in fresh):
        assert "ada@" not in leaf, "a digest may hold three letters"
        assert "nobody@" not in leaf


def test_unknown_and_wrong_take_the_same_work(ada: Browser) -> None:
    """Counted, not timed: a clock would tell of the machine."""
    passwords, worked = ada.stand.market.passwords, []
    real = passwords._hasher

    class Counting:
        def verify(self, stored: str, password: str) -> bool:
            worked.append((argon2.extract_parameters(stored), len(password)))
            return real.verify(stored, password)

        def hash(self, password: str) -> str:
            return real.hash(password)

    passwords._hasher = Counting()  # type: ignore[assignment]
    for login in (LOGIN, "nobody@acme.example"):
        ada.http.post("/sign-in", data={"login": login, "password": "not the one", "csrf": ada.csrf()})
    assert len(worked) == 2
    assert worked[0] == worked[1]


def test_tries_at_an_account_wait_longer_and_longer_and_never_for_ever(ada: Browser) -> None:
    stand, waits = ada.stand, []
    with closing(Browser(stand)) as guesser:
        for _ in range(12):
            reply = guesser.sign_in(LOGIN, "wrong wrong wrong")
            if reply.status_code == 429:
                waits.append(int(reply.headers["Retry-After"]))
                assert "too many tries" in reply.text
                assert guesser.sign_in(LOGIN).status_code == 429, "not even the right one is looked at"
                stand.clock.advance(seconds=waits[-1])
                assert guesser.sign_in(LOGIN, "wrong wrong wrong").status_code == 401
        assert waits[:4] == sorted(waits[:4])
        assert waits[0] <= 3
        assert max(waits) <= throttling.LONGEST_WAIT_S
        stand.clock.advance(seconds=throttling.LONGEST_WAIT_S)
        assert guesser.sign_in(LOGIN).url.path == "/account", "the right one opens after the wait"
        assert guesser.sign_in(LOGIN, "wrong wrong wrong").status_code == 401, "and all is forgiven"


def test_unknown_accounts_are_throttled_alike(ada: Browser) -> None:
    seen = {}
    for login in (LOGIN, "nobody@acme.example"):
        with closing(Browser(ada.stand)) as browser:
            replies = [browser.sign_in(login, "wrong wrong wrong") for _ in range(8)]
        seen[login] = [(reply.status_code, reply.headers.get("Retry-After")) for reply in replies]
    assert seen[LOGIN] == seen["nobody@acme.example"]
    assert 429 in {status for status, _ in seen[LOGIN]}
    rows = ada.stand.market.store.read(lambda session: session.execute(select(attempt)).all())
    assert "nobody" not in str(rows), "no login that somebody typed is kept"


def test_a_network_that_tries_at_many_accounts_waits_too(ada: Browser) -> None:
    with closing(Browser(ada.stand)) as guesser:
        statuses = [
            guesser.sign_in(f"user{n}@acme.example", "wrong wrong wrong").status_code for n in range(55)
        ]
    assert statuses[:50] == [401] * 50
    assert 429 in statuses[50:]


def test_parallel_tries_are_all_counted(ada: Browser) -> None:
    statuses: list[int] = []

    def guess() -> None:
        with closing(Browser(ada.stand)) as browser:
            data = {"login": LOGIN, "password": "wrong wrong wrong"}
            statuses.append(browser.http.post("/sign-in", data=data).status_code)

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(401) == 5
    assert statuses.count(429) == 7


def test_waits_double_up_to_a_quarter_of_an_hour() -> None:
    assert [throttling.wait_s(n, 5) for n in range(4, 9)] == [0, 2, 4, 8, 16]
    assert throttling.wait_s(10_000, 5) == 900


def test_a_new_password_ends_every_session_and_the_old_password(ada: Browser) -> None:
    new = "nine red lanterns in fog"
    with closing(Browser(ada.stand)) as second:
        second.sign_in(LOGIN)
        before = ada.http.cookies["session"]
        assert ada.post("/account/password", current="wrong wrong wrong", new=new).status_code == 401
        assert ada.post("/account/password", current=PASSWORD, new="password1234").status_code == 422
        assert second.is_signed_in()
        assert ada.post("/account/password", current=PASSWORD, new=new).status_code == 200
        assert ada.is_signed_in(), "this browser has a fresh session"
        assert ada.http.cookies["session"] != before
        assert not second.is_signed_in()
        assert second.sign_in(LOGIN).status_code == 401
        assert second.sign_in(LOGIN, new).url.path == "/account"
    (entry,) = ada.stand.entries(kind="password.changed")
    assert entry.document["object"]["id"].startswith("per_")


def test_a_password_is_taken_exactly_as_typed(sqlite_stand: Stand) -> None:
    password = "  Zwölf Köche\N{COMBINING DIAERESIS} & <b>  "
    with closing(Browser(sqlite_stand)) as browser:
        link = path_of(invited(sqlite_stand, "buyer", LOGIN))
        assert browser.post(link, name="Ada", password=password).url.path == "/account"
        for other in (password.strip(), password.lower(), password[:-1]):
            assert browser.sign_in(LOGIN, other).status_code == 401
        assert browser.sign_in(LOGIN, password).url.path == "/account"


def test_tries_of_yesterday_are_forgotten(ada: Browser) -> None:
    with closing(Browser(ada.stand)) as guesser:
        assert [guesser.sign_in(LOGIN, "wrong").status_code for _ in range(6)] == [401] * 5 + [429]
        ada.stand.clock.advance(hours=25)
        assert [guesser.sign_in(LOGIN, "wrong").status_code for _ in range(6)] == [401] * 5 + [429]
