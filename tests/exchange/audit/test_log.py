"""Appending and searching on SQLite and PostgreSQL: numbers, chains, hostile texts, changed columns."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from exchange.audit import leaf, log, merkle
from exchange.audit.errors import EntryInvalid, PageTokenInvalid, SequenceBroken
from exchange.audit.log import Entry, audit_entry, audit_org_chain, audit_sequence
from exchange.audit.report import ALTERED
from tests.exchange.audit.samples import NOW, fill, open_database, query_settled, refusal

HOSTILE = [
    "line\r\nbreak\nquery.settled done",
    "\x1b[2J\x1b[31mred\x07",
    "nul\x00inside",
    "\u202egnp.exe\u2066\u2069",
    "=cmd|' /C calc'!A0",
    "+1\t-1\t@SUM(1)",
    '{"v":1,"seq":0}","outcome":"done',
    '\\u0000\\"',
    "\u2028\u2029\ufeff\ufffe",
    "é́\U0001f600",
    "' OR 1=1; --",
]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with open_database(database_url) as engine:
        yield engine


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def test_entries_are_numbered_hashed_and_chained(session: Session) -> None:
    appended = fill(session, 40)
    session.commit()
    stored = list(log.entries(session))
    assert [r.seq for r in stored] == list(range(40))
    assert [(r.id, r.leaf, r.leaf_hash) for r in stored] == [(a.id, a.leaf, a.leaf_hash) for a in appended]
    assert log.size(session) == 40
    newest: dict[str, tuple[int, str]] = {}
    for record in stored:
        document = record.document
        assert record.leaf_hash == merkle.leaf_hash(record.leaf)
        assert document["seq"] == record.seq
        assert document["id"] == record.id
        if document["org_seq"] is not None:
            org = document["actor"]["org"]
            number, previous = newest.get(org, (-1, None))
            assert (document["org_seq"], document["prev_org_leaf"]) == (number + 1, previous)
            newest[org] = (document["org_seq"], record.leaf_hash.hex())
    assert len(newest) == 3
    assert list(log.check(session)) == []


def test_streaming_takes_any_part(session: Session) -> None:
    fill(session, 600)
    assert [r.seq for r in log.entries(session, 250, 530)] == list(range(250, 530))
    assert [r.seq for r in log.entries(session, 512)] == list(range(512, 600))
    assert list(log.entries(session, 600)) == []
    assert list(log.entries(session, 5, 5)) == []


def test_a_rolled_back_transaction_gives_its_number_back(session: Session) -> None:
    fill(session, 3)
    session.commit()
    fill(session, 2, first=3)
    session.rollback()
    appended = log.append(session, query_settled(9), NOW)
    session.commit()
    assert appended.seq == 3
    assert list(log.check(session)) == []


def test_hostile_texts_round_trip_in_one_record(session: Session) -> None:
    for number, text in enumerate(HOSTILE):
        _assert_round_trip(session, text, 2 * number)
    assert list(log.check(session)) == []


def _assert_round_trip(session: Session, text: str, first: int) -> None:
    entry = Entry(
        kind="query.refused",
        outcome="refused",
        code="sql_refused",
        actor={"ref": text, "org": text, "role": "buyer", "auth": "token"},
        source={"request_id": text},
        object={"type": "dataset", "id": text, "dataset": text},
        licence={"purpose": text},
    )
    appended = log.append(session, entry, NOW)
    log.append(session, entry, NOW)
    session.commit()
    stored = list(log.entries(session, first))
    assert len(stored) == 2
    document = stored[0].document
    assert document["actor"]["org"] == document["source"]["request_id"] == document["object"]["id"] == text
    assert b"\n" not in appended.leaf
    assert stored[1].document["prev_org_leaf"] == appended.leaf_hash.hex()
    assert [r.seq for r in log.search(session, dataset=text, org=text).entries] == [first + 1, first]


def test_a_text_that_cannot_be_logged_stops_the_action(session: Session) -> None:
    fill(session, 2)
    session.commit()
    for text in ("\ud800", "A" * 65_536, "Mozilla/5.0 " + "x" * 1_048_576):
        _assert_stopped(session, text)


def _assert_stopped(session: Session, text: str) -> None:
    session.execute(insert(audit_org_chain).values(org="the fact", org_seq=0, leaf_hash="0" * 64))
    with pytest.raises(EntryInvalid):
        log.append(session, Entry(kind="a.b", outcome="done", source={"request_id": text}), NOW)
    session.rollback()
    assert session.execute(select(audit_org_chain).where(audit_org_chain.c.org == "the fact")).all() == []
    assert log.size(session) == 2
    assert list(log.check(session)) == []


def test_a_fact_and_its_entry_are_committed_together(engine: Engine) -> None:
    with Session(engine) as session:
        fill(session, 1)
        assert log.size(session) == 1
        session.rollback()  # the fact failed
    with Session(engine) as session:
        assert log.size(session) == 0
        assert list(log.entries(session)) == []


def test_concurrent_appends_leave_no_gap_and_no_double(engine: Engine) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(10):
                with Session(engine) as session, session.begin():
                    log.append(session, query_settled(i, f"org_{number % 3}"), NOW)
                    if i % 4 == 3:
                        session.rollback()
                        break
        except BaseException as error:
            errors.append(error)

    if engine.url.database in (None, ":memory:", ""):
        pytest.fail("needs a database that threads share")
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    with Session(engine) as session:
        assert [r.seq for r in log.entries(session)] == list(range(18))
        assert list(log.check(session)) == []


def test_entries_that_come_in_during_a_check_are_no_contradiction(engine: Engine) -> None:
    stop = threading.Event()

    def write() -> None:
        for number in range(400):
            if stop.is_set():
                return
            with Session(engine) as session, session.begin():
                log.append(session, query_settled(number, f"org_{number % 5}"), NOW)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(15):
            with Session(engine) as session:
                assert list(log.check(session)) == []
    finally:
        stop.set()
        writer.join(60)
    with Session(engine) as session:
        assert log.size(session) > 0


def test_search_filters_and_pages(session: Session) -> None:
    fill(session, 60)
    log.append(session, query_settled(1_000, "org_late"), NOW + timedelta(hours=1))
    session.commit()
    everything = list(log.entries(session))

    def seqs(**filters: object) -> list[int]:
        return [r.seq for r in log.search(session, limit=500, **filters).entries]  # type: ignore[arg-type]

    for org in ("org_buyer", "org_other", "org_seldom", "org_late"):
        expected = [r.seq for r in everything if (r.document["actor"] or {})["org"] == org]
        assert seqs(org=org) == expected[::-1] != []
    assert (
        seqs(kind="query.settled", outcome="done") == seqs(dataset="ds_flights") == seqs(purpose="research")
    )
    assert seqs(domain="people:3") == [3]
    assert seqs(outcome="refused", kind="query.settled") == []
    assert seqs(q="qry_3") == seqs(q="jrn_3") == [3]
    assert seqs(q=everything[5].id) == [5]
    assert seqs(since=NOW + timedelta(seconds=50)) == [60, *range(59, 49, -1)]
    assert seqs(since=NOW + timedelta(seconds=10), until=NOW + timedelta(seconds=12)) == [11, 10]
    found, token, pages = [], None, 0
    while pages == 0 or token:
        page = log.search(session, limit=7, page_token=token)
        found += [r.seq for r in page.entries]
        token, pages = page.next_token, pages + 1
    assert found == list(range(60, -1, -1))
    assert pages == 9


def test_a_search_by_time_pages_through_clocks_that_differ(session: Session) -> None:
    """Entries stand in the order of the log, and their times may not: none is left out or shown twice."""
    for number in range(40):
        log.append(
            session, query_settled(number), NOW + timedelta(seconds=number // 4 * 4 - 3 * (number % 3))
        )
    session.commit()
    times = {r.seq: r.document["time"] for r in log.entries(session)}
    since = NOW + timedelta(seconds=5)
    expected = sorted(
        (r for r in times if times[r] >= since.isoformat(timespec="microseconds")),
        key=lambda r: (times[r], r),
    )
    found: list[int] = []
    token: str | None = None
    while not found or token:
        page = log.search(session, since=since, limit=3, page_token=token)
        found += [r.seq for r in page.entries]
        token = page.next_token
    assert found == expected[::-1]
    assert found != sorted(found, reverse=True)
    assert [r.seq for r in log.matching(session, 0, 40, limit=99, since=since)] == sorted(expected)
    assert log.count(session, 40, since=since) == len(expected)


def test_several_filters_find_what_each_would_and_page(session: Session) -> None:
    """Clocks differ by seconds, and one of them was far off for a while."""
    chance = random.Random(7)
    for number in range(300):
        at = NOW + timedelta(
            seconds=number + chance.randint(-3, 3), days=-30 if number in (90, 91, 200) else 0
        )
        kind = chance.choice(("query.settled", "query.settled", "query.quoted", "answer.fetched"))
        entry = query_settled(number, f"org_{chance.randrange(3)}")
        log.append(session, replace(entry, kind=kind, outcome=chance.choice(("done", "failed"))), at)
    session.commit()
    stored = [(r.seq, r.document) for r in log.entries(session)]
    since, until = NOW + timedelta(seconds=60), NOW + timedelta(seconds=240)
    for filters in (
        {"org": "org_1", "since": since, "until": until},
        {"org": "org_1", "until": until},
        {"org": "org_2", "kind": "query.settled"},
        {"dataset": "ds_flights", "purpose": "research", "kind": "answer.fetched", "outcome": "failed"},
        {"kind": "query.quoted", "outcome": "failed", "since": since},
        {"kind": "none.such", "outcome": "done"},
        {"org": "org_1", "since": NOW + timedelta(days=1)},
        {"q": "ds_flights", "org": "org_1", "kind": "query.quoted"},
        {"q": "ds_flights", "since": since, "until": until},
        {"q": "qry_7", "outcome": "done"},
    ):
        found, token = [], None
        while True:
            page = log.search(session, limit=7, page_token=token, **filters)  # type: ignore[arg-type]
            found += [r.seq for r in page.entries]
            token = page.next_token
            if token is None:
                break
        assert found == [seq for seq, said in reversed(stored) if _matches(said, filters)], filters
        assert len(found) == log.count(session, 300, **filters)


def _matches(said: dict[str, Any], filters: dict[str, Any]) -> bool:
    of = {
        "org": said["actor"]["org"],
        "dataset": said["object"]["dataset"],
        "purpose": said["licence"]["purpose"],
        **said,
    }
    wanted = dict(filters)
    since, until = (wanted.pop(name, None) for name in ("since", "until"))
    at, ids = datetime.fromisoformat(said["time"]), {said["object"]["id"], said["query"]["id"], said["id"]}
    return (
        wanted.pop("q", said["id"]) in ids
        and all(of[name] == value for name, value in wanted.items())
        and (since is None or at >= since)
        and (until is None or at < until)
    )


@pytest.mark.parametrize(
    "filters",
    [
        {"org": "org_1", "since": NOW + timedelta(seconds=10), "until": NOW + timedelta(seconds=20)},
        {"dataset": "ds_flights", "purpose": "research", "kind": "query.settled"},
        {"kind": "query.settled", "outcome": "done"},
        {"q": "ds_flights", "until": NOW + timedelta(seconds=20)},
        {"q": "ds_flights", "kind": "query.settled"},
    ],
    ids=", ".join,
)
def test_several_filters_read_indexes_alone_on_sqlite(tmp_path: Path, filters: dict[str, Any]) -> None:
    """To look up each of an organisation's entries for its time takes seconds in a log of a million."""
    with open_database(f"sqlite:///{tmp_path}/log.db") as engine, Session(engine) as session:
        fill(session, 60)
        session.commit()
        said: list[tuple[str, Any]] = []
        event.listen(engine, "before_cursor_execute", lambda *given: said.append((given[2], given[3])))
        log.search(session, **filters)
        asked = [one for one in said if one[0].startswith("SELECT")]
        plans = [
            str(row[-1])
            for statement, given in asked
            for row in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
        ]
    by_filter = [plan for plan in plans if "audit_entry_by_" in plan]
    assert by_filter
    assert all("COVERING INDEX" in plan for plan in by_filter), plans


def test_what_is_about_an_id_is_found_in_every_column_and_paged(session: Session) -> None:
    for number in range(12):
        log.append(session, query_settled(number // 4), NOW + timedelta(seconds=number))
    session.commit()
    stored = list(log.entries(session))
    assert [r.seq for r in log.search(session, q="qry_1").entries] == [7, 6, 5, 4]
    assert [r.seq for r in log.search(session, q="ds_flights", limit=5).entries] == [11, 10, 9, 8, 7]
    first = log.search(session, q="ds_flights", limit=5)
    then = log.search(session, q="ds_flights", limit=5, page_token=first.next_token)
    assert [r.seq for r in then.entries] == [6, 5, 4, 3, 2]
    assert [r.seq for r in log.search(session, q="jrn_2", kind="query.settled").entries] == [11, 10, 9, 8]
    assert log.search(session, q="qry_1", kind="query.refused").entries == ()
    assert [r.seq for r in log.search(session, q=stored[3].id).entries] == [3]
    assert [r.seq for r in log.matching(session, 5, 9, limit=2, q="ds_flights")] == [5, 6]
    assert log.count(session, 9, q="qry_1") == 4


def test_a_page_that_ends_exactly_has_no_next(session: Session) -> None:
    fill(session, 4)
    first = log.search(session, limit=2)
    second = log.search(session, limit=2, page_token=first.next_token)
    assert (len(second.entries), second.next_token) == (2, None)


def test_foreign_page_tokens_are_refused(session: Session) -> None:
    for token in ("", "x", "-1", "1e3", "٣", "9" * 30, "1;DROP"):
        with pytest.raises(PageTokenInvalid):
            log.search(session, page_token=token)


def test_find_gives_one_entry_or_none(session: Session) -> None:
    records = fill(session, 3)
    found = log.find(session, records[1].id)
    assert found is not None
    assert found.leaf == records[1].leaf
    assert log.find(session, "ent_unknown") is None
    assert log.find(session, "nul\x00") is None


def test_an_id_is_used_once(session: Session) -> None:
    log.append(session, Entry(id="ent_mine", kind="a.b", outcome="done"), NOW)
    session.commit()
    with pytest.raises(IntegrityError):
        log.append(session, Entry(id="ent_mine", kind="a.b", outcome="done"), NOW)
    session.rollback()
    assert log.size(session) == 1


CHANGES = {
    "time": "2020-01-01T00:00:00.000000+00:00",
    "kind": "query.other",
    "outcome": "refused",
    "code": "other",
    "org": "org_framed",
    "org_seq": 77,
    "actor_ref": "usr_framed",
    "role": "operator",
    "request_id": "req_other",
    "object_type": "grant",
    "object_id": "ds_other",
    "dataset": "ds_other",
    "query_id": "qry_other",
    "purpose": "marketing",
    "domain": "other",
    "rho_nano": 1,
    "currency": "EUR",
    "amount_minor": 1,
    "journal": "jrn_other",
    "leaf_hash": "0" * 64,
    "id": "ent_other",
}


def test_a_changed_column_is_named(session: Session) -> None:
    fill(session, 12)
    session.commit()
    assert CHANGES.keys() == set(audit_entry.c.keys()) - {"seq", "leaf"}
    for column, value in CHANGES.items():
        session.execute(update(audit_entry).where(audit_entry.c.seq == 5).values({column: value}))
        (finding,) = log.check(session)
        assert (finding.exit_code, finding.seq) == (ALTERED, 5)
        assert column in finding.message
        session.rollback()


def test_a_changed_leaf_a_moved_counter_and_a_moved_chain_are_named(session: Session) -> None:
    fill(session, 12)
    session.commit()
    broken = next(log.entries(session, 5)).leaf.replace(b"research", b"Research")
    session.execute(update(audit_entry).where(audit_entry.c.seq == 5).values(leaf=broken))
    assert [f.seq for f in log.check(session)] == [5]
    session.execute(update(audit_entry).where(audit_entry.c.seq == 5).values(leaf=b"\x02"))
    assert [f.seq for f in log.check(session)] == [5]
    session.rollback()
    session.execute(update(audit_sequence).values(next=13))
    assert [f.message for f in log.check(session)] == ["The counter does not stand behind the last entry."]
    session.rollback()
    session.execute(update(audit_org_chain).where(audit_org_chain.c.org == "org_buyer").values(org_seq=0))
    assert ["org_buyer" in f.message for f in log.check(session)] == [True]


def test_nothing_is_added_after_a_hole(session: Session) -> None:
    fill(session, 12)
    session.execute(delete(audit_entry).where(audit_entry.c.seq == 11))
    with pytest.raises(SequenceBroken):
        log.append(session, refusal(1, None), NOW)


def test_an_entry_of_nobody_has_no_chain(session: Session) -> None:
    document = leaf.decode(log.append(session, Entry(kind="log.opened", outcome="done"), NOW).leaf)
    assert (document["actor"], document["org_seq"], document["prev_org_leaf"]) == (None, None, None)
    assert session.execute(select(audit_org_chain)).all() == []


def test_text_in_place_of_bytes_is_named_and_breaks_nothing(session: Session) -> None:
    fill(session, 3)
    if session.get_bind().dialect.name == "sqlite":  # the other database has typed columns
        session.connection().exec_driver_sql(
            "UPDATE audit_entry SET leaf = CAST(leaf AS TEXT) || ' ' WHERE seq = 1"
        )
    else:
        session.connection().exec_driver_sql(
            "UPDATE audit_entry SET leaf = leaf || '\\x20'::bytea WHERE seq = 1"
        )
    findings = list(log.check(session))
    assert [(finding.exit_code, finding.seq) for finding in findings] == [(ALTERED, 1)]
    assert len(list(log.entries(session))) == 3
