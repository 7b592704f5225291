"""What the rules find in the next entries of the log. Nothing is written here.

Every look has an end: so many entries at once, and of what came before so many of one kind, one organisation
or one domain, by an index. An alert takes in what it was raised for: that counts towards no other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from exchange import authorizations
from exchange.alerts import queue, spent
from exchange.alerts.kinds import (
    BUDGET_LOW,
    EXHAUSTION_NEAR,
    EXPORT_COUNTS,
    FORFEITS,
    MOST_OF_SAME_WORDS,
    NEAR_DUPLICATES,
    READING,
    REFUSALS,
    RHO_BURN,
    SAME_QUERY,
    SIGN_INS,
    Kind,
)
from exchange.alerts.likeness import alike, same_words
from exchange.audit import spending
from exchange.audit.log import audit_entry
from exchange.errors import NotFound, RoleMissing
from exchange.queries import SETTLED, query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.orm import Session

_MOST_BEFORE = 2_000
_MOST_QUERIES = 200
_MOST_NAMED = 20
_NOBODYS = ("unknown", "system")
_MEDIAN_DAYS, _LEAST_DAYS = 28, 5
_PACE_DAYS = 30
_FORFEITED = ("query.forfeited", "profile.forfeited")
_EXPORTED = "audit.exported"
_READING = ("log.read", _EXPORTED)
_SIGN_IN = ("session.refused", "token.refused")
_COLUMNS = [
    audit_entry.c[name]
    for name in (
        *("seq", "id", "time", "kind", "outcome", "code", "org", "role", "actor_ref", "dataset"),
        *("query_id", "domain", "rho_nano"),
    )
]


@dataclass(frozen=True)
class Found:
    """What a rule found: how much of what about whom, up to which entry, and some of the entries.

    ``occasion`` names a state that is told of once, whoever resolves the alert: a day, a month, a grant.
    """

    kind: Kind
    subject: str
    measure: int
    until_seq: int
    entries: tuple[str, ...] = ()
    occasion: str = ""
    dataset: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Account:
    """A domain's lifetime budget as the books have it, in nano-rho."""

    domain: str
    granted: int
    spent: int


class _Behind:
    """Who stands behind an entry: the person, however many programs and tokens of theirs read; else whatever
    acted.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, str] = {}

    def __call__(self, row: Row[Any]) -> str:
        ref = row.actor_ref or ""
        if ref not in self._known:
            self._known[ref] = self._of(ref)
        return self._known[ref]

    def _of(self, ref: str) -> str:
        try:
            return authorizations.subject_of(self._session, ref)
        except (NotFound, RoleMissing):
            return ref


def entries_between(session: Session, start: int, stop: int) -> list[Row[Any]]:
    """The entries ``start`` <= seq < ``stop``, without their leaves."""
    columns = audit_entry.c
    found = select(*_COLUMNS).where(columns.seq >= start, columns.seq < stop).order_by(columns.seq)
    return list(session.execute(found).all())


def of_entries(session: Session, fresh: Sequence[Row[Any]]) -> Iterator[Found]:
    """What follows from entries that are new, with those before them that belong to the same window."""
    if not fresh:
        return
    end = fresh[-1].seq
    yield from _refusals(session, fresh, end)
    yield from _bursts(session, fresh, end, SIGN_INS, _SIGN_IN, lambda _: "sign-ins")
    yield from _bursts(session, fresh, end, READING, _READING, _Behind(session))
    yield from _bursts(session, fresh, end, FORFEITS, _FORFEITED, lambda row: row.dataset)
    asked = [row for row in fresh if row.kind == "query.settled" and row.query_id]
    if asked:
        yield from _of_queries(session, asked, end)


def touched(fresh: Iterable[Row[Any]]) -> dict[str, dict[str, int]]:
    """Domains of which new entries spent, with the last of them on each day."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in fresh:
        if row.kind in spending.KINDS and row.domain and row.rho_nano:
            found[row.domain][row.time[:10]] = row.seq
    return found


def of_domain(session: Session, account: Account, days: Mapping[str, int], end: int) -> Iterator[Found]:
    """What follows from what was spent of a domain on some days, each with its last entry, and up to the last
    of them.
    """
    day = max(days)
    since = next(spent.days(min(days), max(_MEDIAN_DAYS + 1, _PACE_DAYS)))
    sums = spent.by_day(session, account.domain, since)
    yield from _burning(account.domain, sums, days)
    about: dict[str, Any] = {"subject": account.domain, "until_seq": end, "domain": account.domain}
    left = account.granted - account.spent
    if left * 100 < BUDGET_LOW.most * account.granted:
        share = left * 100 // account.granted
        yield Found(BUDGET_LOW, measure=share, occasion=f"of {account.granted}", **about)
    pace = sum(sums.get(on, 0) for on in spent.days(day, _PACE_DAYS))
    if left < pace:  # in 30 days as many again are spent: more than there are
        lasts = left * _PACE_DAYS // pace
        yield Found(EXHAUSTION_NEAR, measure=lasts, occasion=day[:7], **about)


def _burning(domain: str, sums: Mapping[str, int], days: Mapping[str, int]) -> Iterator[Found]:
    """Days that spent far more than those before them, in their order."""
    for day, last in sorted(days.items()):
        window = set(spent.days(day, _MEDIAN_DAYS + 1)) - {day}
        before = [rho for on, rho in sums.items() if on in window]
        if len(before) >= _LEAST_DAYS and sums.get(day, 0) > RHO_BURN.most * median(before):
            yield Found(RHO_BURN, domain, sums[day], last, occasion=day, domain=domain)


def _refusals(session: Session, fresh: Sequence[Row[Any]], end: int) -> Iterator[Found]:
    refused = [row for row in fresh if row.outcome == "refused" and row.org not in (None, *_NOBODYS)]
    own_of = Counter(row.org for row in fresh)
    for org in sorted({row.org for row in refused}):
        newest = (
            select(*_COLUMNS)
            .where(audit_entry.c.org == org)
            .order_by(audit_entry.c.org_seq.desc())
            .limit(_MOST_BEFORE + own_of[org])
            .subquery()
        )
        own = select(newest).where(newest.c.outcome == "refused", newest.c.seq <= end)
        rows = session.execute(own.order_by(newest.c.seq)).all()
        yield from _burst(session, REFUSALS, org, rows, end)


def _bursts(
    session: Session, fresh: Sequence[Row[Any]], end: int, kind: Kind, kinds: tuple[str, ...], subject_of: Any
) -> Iterator[Found]:
    """A burst of some kinds of entries, by what ``subject_of`` says that each is about."""
    if not any(row.kind in kinds for row in fresh):
        return
    before: list[Row[Any]] = []
    for one in kinds:
        of_kind = audit_entry.c.kind == one, audit_entry.c.seq <= end
        newest = select(*_COLUMNS).where(*of_kind).order_by(audit_entry.c.seq.desc())
        before += session.execute(newest.limit(_MOST_BEFORE + len(fresh))).all()
    by_subject: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in sorted(before, key=lambda row: row.seq):
        if subject_of(row):
            by_subject[subject_of(row)].append(row)
    for subject in sorted({subject_of(row) for row in fresh if row.kind in kinds and subject_of(row)}):
        yield from _burst(session, kind, subject, by_subject[subject], end)


def _burst(session: Session, kind: Kind, subject: str, rows: Sequence[Row[Any]], end: int) -> Iterator[Found]:
    """More than so many of these entries, which are in order, within the kind's window."""
    after = queue.taken_until(session, kind.name, subject)
    rows = [row for row in rows if row.seq > after]
    window, first, count, largest = timedelta(seconds=kind.window_s), 0, 0, (0, 0, 0)
    times = [datetime.fromisoformat(row.time) for row in rows]
    for last, time in enumerate(times):
        count += _counts(rows[last])
        while time - times[first] > window:
            count -= _counts(rows[first])
            first += 1
        largest = max(largest, (count, last, first))
    count, last, first = largest
    if count > kind.most:
        named = rows[first : last + 1]
        dataset = named[-1].dataset if kind is FORFEITS else None
        yield Found(kind, subject, count, end, _some(row.id for row in named), dataset=dataset)


def _counts(row: Row[Any]) -> int:
    return EXPORT_COUNTS if row.kind == _EXPORTED else 1


def _of_queries(session: Session, asked: Sequence[Row[Any]], end: int) -> Iterator[Found]:
    ids = [row.query_id for row in asked]
    rows: list[Row[Any]] = []
    for place in range(0, len(ids), 500):
        rows += session.execute(_answered(end, query.c.id.in_(ids[place : place + 500]))).all()
    private = [row for row in rows if row.rho_nano > 0]
    newest = {(row.org, row.slug): row for row in private}
    for (org, slug), row in sorted(newest.items()):
        yield from _near_duplicates(session, org, slug, row.reserved_at, end)
    same = {(row.version, row.question_sha256): row for row in private if row.question_sha256}
    for row in same.values():
        yield from _same_query(session, row, end)


def _near_duplicates(session: Session, org: str, slug: str, at: str, end: int) -> Iterator[Found]:
    subject = f"{org} {slug}"
    after = queue.taken_until(session, NEAR_DUPLICATES.name, subject)
    since = _before(at, NEAR_DUPLICATES.window_s)
    own = query.c.org == org, query.c.slug == slug, query.c.reserved_at >= since
    newest = _answered(end, *own).order_by(query.c.reserved_at.desc()).limit(_MOST_QUERIES)
    rows = [row for row in session.execute(newest) if row.seq > after and row.rho_nano > 0]
    found, most = alike(rows, lambda row: row.sql), NEAR_DUPLICATES.most
    if len(found) <= most:
        found, most = same_words(rows, lambda row: row.sql), MOST_OF_SAME_WORDS
    if len(found) > most:
        named = _some(row.entry_id for row in sorted(found, key=lambda row: row.seq))
        yield Found(NEAR_DUPLICATES, subject, len(found), end, named, dataset=slug)


def _same_query(session: Session, asked: Row[Any], end: int) -> Iterator[Found]:
    subject = f"{asked.version} {asked.question_sha256}"
    after = queue.taken_until(session, SAME_QUERY.name, subject)
    since = _before(asked.reserved_at, SAME_QUERY.window_s)
    same = query.c.version == asked.version, query.c.question_sha256 == asked.question_sha256
    newest = _answered(end, *same, query.c.reserved_at >= since).order_by(query.c.reserved_at.desc())
    rows = [row for row in session.execute(newest.limit(_MOST_QUERIES)) if row.seq > after]
    first = {row.org: row.entry_id for row in rows}
    if len(first) > SAME_QUERY.most:
        yield Found(SAME_QUERY, subject, len(first), end, _some(first.values()), dataset=asked.slug)


def _answered(end: int, *where: ColumnElement[bool]) -> Any:
    """Settled queries with the sequence number of their entry, up to the entry ``end``."""
    columns = ("org", "slug", "version", "sql", "question_sha256", "rho_nano", "reserved_at", "entry_id")
    found = select(*(query.c[name] for name in columns), audit_entry.c.seq)
    joined = found.join(audit_entry, audit_entry.c.id == query.c.entry_id)
    return joined.where(*where, query.c.state == SETTLED, audit_entry.c.seq <= end)


def _before(at: str, seconds: int) -> str:
    return (datetime.fromisoformat(at) - timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def _some(ids: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(one for one in ids if one)[-_MOST_NAMED:]
