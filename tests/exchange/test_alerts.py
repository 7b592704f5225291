"""The alerts: each fires once for what it is for, and not for what is just short of it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from exchange import queries
from exchange.alerts import position, queue
from exchange.alerts.kinds import KINDS
from exchange.alerts.tables import alert
from exchange.audit import log
from exchange.audit.entry import Entry, ObjectGroup, PrivacyGroup, QueryGroup
from exchange.operations import observing, watching
from settlement import ledger
from settlement.ledger import chart
from settlement.payments.tables import reconciliation
from tests.market import sample
from tests.market.browser import member
from tests.market.stand import Stand

GRANTED = 2_000_000_000


@dataclass
class Seeded:
    """A market whose log is written to directly, at any time."""

    stand: Stand

    def entries(self, *entries: Entry, at: datetime | None = None, every_s: float = 0.0) -> None:
        """Append entries as of a time, some seconds apart."""

        def write(session: Any, now: datetime) -> None:
            for number, entry in enumerate(entries):
                log.append(session, entry, (at or now) + timedelta(seconds=every_s * number))

        self.stand.market.store.jot(write)

    def of(self, who: str, kind: str, outcome: str = "done", **more: Any) -> Entry:
        """An entry in the chain of an organisation."""
        actor = {"ref": f"tok_{who}", "org": self.stand.orgs.get(who, who), "role": "buyer", "auth": "token"}
        return Entry(kind=kind, outcome=outcome, actor=actor, **more)  # type: ignore[arg-type]

    def spent(self, rho_nano: int) -> Entry:
        """An entry that spends of the city's riders."""
        about = PrivacyGroup(domain=sample.DOMAIN, rho_nano=rho_nano)
        return self.of("buyer", "query.settled", privacy=about)

    def asked(self, who: str, sql: str, question: str | None = None) -> None:
        """A question that was answered, with its entry."""
        entry, query = f"evt_{secrets.token_hex(12)}", f"qry_{secrets.token_hex(12)}"
        about = ObjectGroup(type="query", id=query, dataset=sample.SLUG)
        said = replace(self.of(who, "query.settled", query=QueryGroup(id=query), object=about), id=entry)
        now = self.stand.clock().isoformat(timespec="microseconds")
        texts = ("dataset", "version", "grant_id", "acceptance_id", "purpose", "clause", "plan_sha256")
        more = ("sql_sha256", "plan_ask", "options", "price_plan_sha256")
        values = {
            **dict.fromkeys((*texts, *more), "x"),
            "id": query,
            "org": self.stand.orgs[who],
            "state": queries.SETTLED,
            "slug": sample.SLUG,
            "sql": sql,
            "question_sha256": question or secrets.token_hex(32),
            "domain": "riders:elsewhere",
            "rho_nano": 1,
            "delta_pico": 0,
            "charge_minor": 0,
            "currency": "USD",
            "lease_until": now,
            "reserved_at": now,
            "entry_id": entry,
        }
        write = insert(queries.query).values(values)
        self.stand.market.store.jot(lambda session, _: session.execute(write))
        self.entries(said)

    def raised(self, kind: str) -> int:
        """Watch twice as the worker does; how many alerts of a kind there are."""
        for _ in range(2):
            watching.watch(self.stand.market)
        entries = [
            one
            for one in self.stand.entries(kind="alert.raised")
            if one.document["object"]["version"] == kind
        ]
        rows = [one for one in self.rows() if one.kind == kind]
        assert len(entries) == len(rows)
        return len(rows)

    def rows(self) -> list[Any]:
        """Every alert."""
        return self.stand.market.store.read(lambda session: list(session.execute(select(alert)).all()))


@pytest.fixture
def seeded(sqlite_stand: Stand) -> Seeded:
    sqlite_stand.publish_log()
    return Seeded(sqlite_stand)


def refused(seeded: Seeded, count: int) -> None:
    entry = seeded.of("buyer", "query.refused", "refused", code="sql_refused")
    seeded.entries(*[entry] * count, every_s=20)


def sign_ins(seeded: Seeded, count: int) -> None:
    entry = seeded.of("unknown", "token.refused", "refused", code="token_unknown")
    seeded.entries(*[entry] * count, every_s=10)


def reading(seeded: Seeded, count: int) -> None:
    seeded.entries(*[seeded.of("officer", "log.read")] * count, every_s=5)


def forfeits(seeded: Seeded, count: int) -> None:
    about = ObjectGroup(type="query", dataset=sample.SLUG)
    seeded.entries(*[seeded.of("system", "query.forfeited", object=about)] * count, every_s=60)


def near_duplicates(seeded: Seeded, count: int) -> None:
    for number in range(count):
        seeded.asked("buyer", f"select count(*) from rides where minutes < {number} and cents > 7")
        seeded.asked("other", f"select count(*) from rides where minutes < {number} and cents > {number}")


def same_query(seeded: Seeded, count: int) -> None:
    for who in ("buyer", "buyer", "other", "poor")[: count + 1]:
        seeded.asked(who, sample.COUNT, question="0" * 64)


def burn(seeded: Seeded, count: int) -> None:
    """Ten on each of five days, then so many times that on the last."""
    now = seeded.stand.clock()
    for back in range(5):
        seeded.entries(seeded.spent(1_000), at=now - timedelta(days=back + 1))
    seeded.entries(seeded.spent(count * 1_000 + (count > 5)))


def low(seeded: Seeded, count: int) -> None:
    granted_left(seeded, count * GRANTED // 100)


def near_end(seeded: Seeded, count: int) -> None:
    """So many parts in a thousand were spent today, the rest is left."""
    granted_left(seeded, GRANTED - count * GRANTED // 1_000)
    seeded.entries(seeded.spent(count * GRANTED // 1_000))


def granted_left(seeded: Seeded, left: int) -> None:
    """The account of the city's riders as if all but so much were spent, and an entry that looks at it."""
    account = chart.domain_available(sample.DOMAIN)
    held = ledger.account.c
    statement = update(ledger.account).where(held.id == account)
    spending = GRANTED - left
    seeded.stand.market.store.jot(
        lambda session, _: session.execute(statement.values(debits_posted=spending))
    )
    seeded.entries(seeded.spent(1))


def stale(seeded: Seeded, count: int) -> None:
    seeded.entries(seeded.of("buyer", "query.quoted"), at=seeded.stand.clock() - timedelta(seconds=count))


def breaks(seeded: Seeded, count: int) -> None:
    found = [{"kind": "duplicate", "about": f"txn_{number}"} for number in range(count)]
    now = seeded.stand.clock().isoformat(timespec="microseconds")
    row = {"id": "rec_1", "ran_at": now, "transactions": 1, "document": json.dumps(found), "breaks": count}
    seeded.stand.market.store.jot(lambda session, _: session.execute(insert(reconciliation).values(row)))


def differing(seeded: Seeded, count: int) -> None:
    assert seeded.stand.run().status_code == 200
    if count:
        seeded.entries(seeded.spent(count))


def flood(seeded: Seeded, count: int) -> None:
    """So many alerts of refusals are open, and one more is due."""
    about: dict[str, Any] = {"kind": "refusals", "measure": 21, "most": 20, "until_seq": 0, "occasion": ""}

    def write(session: Any, now: datetime) -> None:
        for number in range(count):
            told = {"subject": f"org_{number}", "entries": (), "now": now}
            queue.add(session, f"alr_{number:024}", **about, **told)

    seeded.stand.market.store.jot(write)
    refused(seeded, 21)


CASES: dict[str, tuple[Callable[[Seeded, int], None], int, int]] = {
    "refusals": (refused, 21, 20),
    "sign_ins_failed": (sign_ins, 31, 30),
    "reading_volume": (reading, 301, 300),
    "forfeits": (forfeits, 6, 5),
    "near_duplicates": (near_duplicates, 3, 2),
    "same_query": (same_query, 3, 2),
    "rho_burn": (burn, 6, 5),
    "budget_low": (low, 9, 10),
    "exhaustion_near": (near_end, 501, 499),
    "checkpoint_stale": (stale, 310, 290),
    "reconciliation": (breaks, 1, 0),
    "spending_differs": (differing, 1, 0),
    "too_many": (flood, 200, 199),
}


def test_every_kind_is_tried() -> None:
    assert set(CASES) == set(KINDS)


@pytest.mark.parametrize("kind", CASES)
def test_it_fires_exactly_once(seeded: Seeded, kind: str) -> None:
    seed, enough, _ = CASES[kind]
    seed(seeded, enough)
    assert seeded.raised(kind) == 1, [tuple(row) for row in seeded.rows()]
    assert seeded.stand.get("officer", "/v1/alerts").json()["open"] == len(seeded.rows())


@pytest.mark.parametrize("kind", CASES)
def test_what_is_just_short_of_it_does_not_fire(seeded: Seeded, kind: str) -> None:
    seed, _, nearly = CASES[kind]
    seed(seeded, nearly)
    assert seeded.raised(kind) == 0, [tuple(row) for row in seeded.rows()]


def test_what_was_taken_in_counts_for_no_other(seeded: Seeded) -> None:
    """Resolved, twenty more refusals are no alert; while it is open, more of them count on it."""
    stand = seeded.stand
    refused(seeded, 25)
    assert seeded.raised("refusals") == 1
    refused(seeded, 21)
    assert seeded.raised("refusals") == 1
    (row,) = seeded.rows()
    assert row.times == 2
    done = stand.post("officer", f"/v1/alerts/{row.id}/resolve", {"state": "acted"})
    assert done.status_code == 200, done.text
    refused(seeded, 20)
    assert seeded.raised("refusals") == 1
    refused(seeded, 1)
    assert seeded.raised("refusals") == 2


def test_a_state_is_told_of_once_though_it_lasts(seeded: Seeded) -> None:
    low(seeded, 9)
    assert seeded.raised("budget_low") == 1
    for row in seeded.rows():
        seeded.stand.post("officer", f"/v1/alerts/{row.id}/resolve", {"state": "acted"})
    seeded.entries(seeded.spent(1))
    assert seeded.raised("budget_low") == 1


def test_a_worker_that_dies_between_raises_nothing_twice(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after the alert and before it has noted how far it read; the next reads the same entries."""
    refused(seeded, 21)
    with monkeypatch.context() as patch:

        def die(*_: Any) -> bool:
            raise KeyboardInterrupt

        patch.setattr(watching, "_moved", die)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                watching.watch(seeded.stand.market)
    assert seeded.raised("refusals") == 1
    assert [row.times for row in seeded.rows()] == [1]


@pytest.mark.parametrize(
    ("statement", "enough"),
    [
        ("select count(*) from rides where minutes < {0} and {0} = {0}", 10),
        ("select count(*) from rides where minutes < {0} and minutes in (" + "0, " * 200 + "{0})", 3),
    ],
    ids=["a second literal moves", "padded"],
)
def test_a_walk_is_found_though_it_is_disguised(seeded: Seeded, statement: str, enough: int) -> None:
    for number in range(enough):
        assert seeded.raised("near_duplicates") == 0
        seeded.asked("buyer", statement.format(number))
    assert seeded.raised("near_duplicates") == 1
    (told,) = seeded.stand.get("officer", "/v1/alerts?kind=near_duplicates").json()["items"]
    assert (told["measure"], len(told["entries"])) == (enough, enough)


def test_a_burning_day_is_told_of_though_the_worker_comes_days_later(seeded: Seeded) -> None:
    """What is found on two days at once is one alert, found twice."""
    now = seeded.stand.clock()
    for back in range(9, 4, -1):
        seeded.entries(seeded.spent(1_000), at=now - timedelta(days=back))
    for back, rho in ((4, 6_000), (3, 7_000), (2, 1_000), (1, 1_000)):
        seeded.entries(seeded.spent(rho), at=now - timedelta(days=back))
    assert seeded.raised("rho_burn") == 1
    (row,) = (one for one in seeded.rows() if one.kind == "rho_burn")
    burnt = now - timedelta(days=3)
    assert (row.measure, row.times, row.occasion) == (7_000, 2, f"{burnt:%Y-%m-%d}")


def test_exports_count_as_readings(seeded: Seeded) -> None:
    export = seeded.of("officer", "audit.exported")
    seeded.entries(*[export] * 5)
    assert seeded.raised("reading_volume") == 0
    reading(seeded, 1)
    assert seeded.raised("reading_volume") == 1
    assert [row.measure for row in seeded.rows()] == [301]


def test_readings_by_several_tokens_of_one_person_count_together(stand: Stand) -> None:
    """150 with each of two tokens, and one on a page."""
    seeded = Seeded(stand)
    stand.publish_log()
    with closing(member(stand, "officer", "ada@cnil.example", admin=True)) as ada:
        assert ada.add_app().status_code == 200
        for _ in range(2):
            made = re.search(r"<pre>(tok_[^<]+)</pre>", ada.post("/tokens", expires="2099-01-31").text)
            assert made is not None
            assert stand.get(made[1], "/v1/alerts").status_code == 200
            actor = stand.entries(kind="log.read")[-1].document["actor"]
            seeded.entries(*[Entry(kind="log.read", outcome="done", actor=actor)] * 149)
        assert seeded.raised("reading_volume") == 0
        assert ada.get("/officer/alerts").status_code == 200
        person = stand.entries(kind="log.read")[-1].document["actor"]["ref"]
    assert seeded.raised("reading_volume") == 1
    assert [(row.subject, row.measure) for row in seeded.rows()] == [(person, 301)]


def test_two_workers_raise_one_alert(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have found the same before either has written."""
    market = seeded.stand.market
    refused(seeded, 21)
    while watching._fold(market):
        continue
    (found,), start, stop = market.store.read(watching._of_log)
    assert [watching._raise(market, found) for _ in range(2)] == [True, False]
    monkeypatch.setattr(
        watching, "_due", lambda _session, found, _now: found
    )  # as if the first had not written yet
    assert not watching._raise(market, found), "the same command again is its own repeat"
    assert not watching._raise(market, replace(found, until_seq=found.until_seq + 1))
    assert len(seeded.stand.entries(kind="alert.kept")) == 1
    assert watching._moved(market, start, stop)
    assert not watching._moved(market, start, stop)
    assert seeded.raised("refusals") == 1
    assert [row.times for row in seeded.rows()] == [1]


def test_both_databases_fold_and_raise_alike(stand: Stand) -> None:
    seeded = Seeded(stand)
    stand.publish_log()
    for rho in ("0.01", "0.02"):
        assert stand.run(sql=f"{sample.COUNT} -- {rho}", rho=rho).status_code == 200
    refused(seeded, 21)
    same_query(seeded, 3)
    assert (seeded.raised("refusals"), seeded.raised("same_query")) == (1, 1)
    assert seeded.raised("spending_differs") == 0
    told = stand.get("officer", "/v1/alerts?state=open&kind=refusals").json()
    assert [one["subject"] for one in told["items"]] == ["acme"]


def test_officers_are_told_and_monitoring_counts(seeded: Seeded) -> None:
    stand = seeded.stand
    refused(seeded, 21)
    seeded.raised("refusals")
    (row,) = seeded.rows()
    told = stand.get("officer", "/v1/notifications").json()["items"]
    assert [(one["kind"], one["subject"]) for one in told] == [("alert.raised", row.id)]
    facts = {fact.name: fact.values for fact in observing.facts(stand.market)}
    assert facts["exchange_alerts"]["refusals"] == facts["exchange_alerts_raised"]["refusals"] == 1
    assert sum(facts["exchange_alerts"].values()) == 1
    stand.post("officer", f"/v1/alerts/{row.id}/resolve", {"state": "false_alarm"})
    facts = {fact.name: fact.values for fact in observing.facts(stand.market)}
    assert (facts["exchange_alerts"]["refusals"], facts["exchange_alerts_raised"]["refusals"]) == (0, 1)


def test_a_leaf_of_an_alert_says_nothing_of_statements_or_persons(seeded: Seeded) -> None:
    near_duplicates(seeded, 3)
    assert seeded.raised("near_duplicates") == 1
    (entry,) = seeded.stand.entries(kind="alert.raised")
    said = entry.document
    assert said["object"] == {
        "type": "alert",
        "id": seeded.rows()[0].id,
        "version": "near_duplicates",
        "dataset": sample.SLUG,
    }
    assert [said[name] for name in ("query", "money", "result", "licence")] == [None] * 4


def test_a_flood_of_one_kind_mutes_no_other_and_is_told_of(stand: Stand) -> None:
    """Beyond what may be open it is counted on one alert, and raised by itself once there is room."""
    seeded, acme = Seeded(stand), stand.orgs["buyer"]
    stand.publish_log()
    flood(seeded, 200)
    same_query(seeded, 3)
    assert (seeded.raised("too_many"), seeded.raised("same_query")) == (1, 1)
    (told,) = stand.get("officer", "/v1/alerts?kind=too_many").json()["items"]
    assert (told["subject"], told["measure"], len(told["entries"])) == ("refusals", 200, 20)
    assert acme not in [row.subject for row in seeded.rows()]
    done = stand.post("officer", f"/v1/alerts/alr_{0:024}/resolve", {"state": "acted"})
    assert done.status_code == 200, done.text
    refused(seeded, 1)
    assert (seeded.raised("too_many"), [row.subject for row in seeded.rows()].count(acme)) == (1, 1)


def test_a_long_log_is_read_in_parts(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The burst lies across two parts."""
    monkeypatch.setattr(watching, "_AT_ONCE", 15)
    monkeypatch.setattr(watching, "_BATCHES", 50)
    refused(seeded, 21)
    assert seeded.raised("refusals") == 1
    assert seeded.stand.market.store.read(lambda s: position.of(s, watching.READER)) > 21
