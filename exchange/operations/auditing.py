"""The officer's journey: search the log, open one entry, see what stood behind it, prove it, verify all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import func, select

from exchange import bookings, checks, queries
from exchange.audit import log, tiles
from exchange.audit.entry import Entry, ObjectGroup
from exchange.audit.errors import SignatureInvalid
from exchange.audit.note import VerifierKey
from exchange.audit.report import ALTERED, SIGNATURE, Finding
from exchange.audit.strays import strays
from exchange.audit.succession import follow
from exchange.audit.tiles import Folder
from exchange.audit.verify import LogReport, verify_log
from exchange.checks import journals as journals_law
from exchange.errors import NotFound
from exchange.identity import Role, organisation_names
from exchange.operations.receipting import newest_checkpoint, receipt_of_entry
from exchange.operations.terms import budgets, moment, money
from exchange.persons import commitments
from exchange.store import our_id
from settlement import ledger, licences
from settlement.documents import sha256_hex
from settlement.errors import SettlementError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from exchange.audit.log import Record
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

FILTERS = ("org", "dataset", "domain", "purpose", "kind", "outcome", "since", "until", "q")
"""What the log is searched by."""
TIMES = ("since", "until")
_MOST_BOOKED = 200


@dataclass(frozen=True)
class ReadLog:
    """Search the log or open an entry: reading it is itself an entry."""

    what: str
    about: str
    kind: ClassVar[str] = "log.read"
    refused: ClassVar[str] = "log.refused"

    def entry(self) -> Entry:
        """The audit entry: what was read, by id; never what was typed."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type=self.what, id=our_id(self.about))
        )


def search(
    market: Market, actor: Actor, filters: dict[str, str], *, limit: int, page_token: str | None
) -> dict[str, Any]:
    """Entries that match every filter, newest first. Officers and operators only; logged."""
    wanted = read_filters(filters)
    note_reading(market, actor, "log", ",".join(sorted(filters)))

    def look(session: Session) -> dict[str, Any]:
        page = log.search(session, **wanted, limit=limit, page_token=page_token)
        names = organisation_names(session)
        return {
            "items": [item(record, names) for record in page.entries],
            "next_page_token": page.next_token,
        }

    return market.store.read(look)


def read_filters(filters: Mapping[str, str]) -> dict[str, Any]:
    """The filters of a search as the log takes them. Raises RequestInvalid for a time that is none."""
    return {name: moment(name, text) if name in TIMES else text for name, text in filters.items()}


def entry(market: Market, actor: Actor, entry_id: str) -> dict[str, Any]:
    """One entry: the whole leaf, the other entries that name what the same command booked, and for a query
    its statement, licence and the clause that allowed it; ``concerns`` opens the leaf's commitment to a
    person, until that person is erased.
    """
    note_reading(market, actor, "entry", entry_id)

    def look(session: Session) -> dict[str, Any]:
        record = _find(session, entry_id)
        names = organisation_names(session)
        return {
            **item(record, names),
            "document": record.document,
            "concerns": commitments.opening(session, record.document),
            "booked_with": [item(other, names) for other in _booked_with(session, record.seq)],
            "dossier": asked(session, (record.document["query"] or {}).get("id"), names),
            "refusal": licences.refusal_of(session, record.id),
        }

    return market.store.read(look)


def prove(market: Market, actor: Actor, entry_id: str) -> dict[str, Any]:
    """The entry's leaf with its inclusion proof. Raises :class:`NotFound` until the log covers it."""
    note_reading(market, actor, "proof", entry_id)
    record = market.store.read(lambda session: _find(session, entry_id))
    newest = newest_checkpoint(market)
    if newest is None or newest.size <= record.seq:
        raise NotFound("the entry is not under a checkpoint yet", hint="Try again in a few seconds.")
    proof = tiles.inclusion_proof(Folder(market.settings.log_path), record.seq, newest.size)
    return {
        "seq": record.seq,
        "leaf": record.leaf.decode("utf-8"),
        "leaf_hash": record.leaf_hash.hex(),
        "index": record.seq,
        "checkpoint": newest.encoded().decode("utf-8"),
        "proof": [one.hex() for one in proof],
        "receipt": receipt_of_entry(market, entry_id),
    }


def journals(market: Market, actor: Actor, ids: list[str]) -> dict[str, Any]:
    """Journals with their lines, their digests, and the text that each digest is of, to hold leaves against.
    Unknown ids are left out.
    """
    note_reading(market, actor, "journals", "")

    def look(session: Session) -> dict[str, Any]:
        found = {}
        for one, text in ledger.journal_texts(session, ids).items():
            lines = [asdict(line) for line in ledger.journal_lines(session, one)]
            found[one] = {"digest": sha256_hex(text), "text": text, "lines": lines}
        return {"items": found}

    return market.store.read(look)


def domains(
    market: Market, actor: Actor, *, limit: int | None = None, page_token: str = ""
) -> dict[str, Any]:
    """Privacy domains' lifetime accounts over all buyers, by name: all of them, or a page of so many."""
    note_reading(market, actor, "domains", "")

    def look(session: Session) -> dict[str, Any]:
        owner = ledger.account.c.owner
        named = select(owner).where(ledger.account.c.kind == "domain_granted", owner > page_token[:200])
        found = session.scalars(
            named.distinct().order_by(owner).limit(None if limit is None else limit + 1)
        ).all()
        shown = found if limit is None else found[:limit]
        more = len(found) > len(shown)
        return {"items": budgets(session, shown), "next_page_token": shown[-1] if more else None}

    return market.store.read(look)


def verify(
    market: Market,
    *,
    log_key: str,
    pinned: str | bytes | None = None,
    statements: str = "",
    witnesses: Sequence[str] = (),
    required: int = 0,
) -> LogReport:
    """Verify the published log, the database's copy of it, and the books: every journal is named by a leaf.

    ``pinned`` is a checkpoint saved earlier: a log that does not continue it is a fork. ``statements`` lead
    from the key to those that followed it or came before. Exit codes as in :mod:`exchange.audit.report`.
    """
    try:
        keys = follow(VerifierKey.parse(log_key.strip()), statements)
    except SignatureInvalid as error:
        return LogReport(SIGNATURE, (Finding(SIGNATURE, str(error)),), market.settings.log_origin)
    report = verify_log(
        Folder(market.settings.log_path),
        origin=market.settings.log_origin,
        keys=keys,
        witnesses=witnesses,
        required=required,
        pinned=pinned,
        database_leaves=_records(market),
    )
    extra = [*_strays(market, report), *_beside(market), *_books(market)]
    return replace(report.with_findings(extra), books=True)


def _strays(market: Market, report: LogReport) -> list[Finding]:
    """Files of earlier checkpoints, held against the newest; without one there is nothing to hold."""
    return list(strays(Folder(market.settings.log_path), report.size)) if report.size is not None else []


def _beside(market: Market) -> list[Finding]:
    return market.store.read(lambda session: list(log.check(session)))


def _books(market: Market) -> list[Finding]:
    def look(session: Session) -> list[Finding]:
        found = list(journals_law.findings(session))
        return found + [Finding(ALTERED, text) for text in _broken_laws(session)]

    return market.store.read(look)


def _broken_laws(session: Session) -> Iterator[str]:
    """What breaks a law of :mod:`exchange.checks`: the meaning of the books, not only their digests."""
    for law in checks.check(session, but_journals=True):
        yield from (f if f.startswith(law.id) else f"{law.id}: {f}" for f in law.findings)


def _records(market: Market) -> Iterator[Record]:
    size = market.store.read(log.size)
    for start in range(0, size, 256):
        yield from market.store.read(partial(_records_between, start=start, stop=start + 256))


def _records_between(session: Session, *, start: int, stop: int) -> list[Record]:
    return list(log.entries(session, start, stop))


def digest_of_journal(session: Session, journal: str) -> str | None:
    """A journal's digest as the books have it now; None where there is no such journal."""
    try:
        return ledger.journal_digest(session, journal)
    except SettlementError:
        return None


def note_reading(market: Market, actor: Actor, what: str, about: str) -> None:
    """Write down that an officer reads; raises RoleMissing for everybody else."""

    def work(tx: Tx) -> dict[str, Any]:
        tx.actor.require(Role.OFFICER, Role.OPERATOR)
        return {}

    market.store.perform(actor, ReadLog(what, about), work)


def _find(session: Session, entry_id: str) -> Record:
    record = log.find(session, entry_id)
    if record is None:
        raise NotFound("there is no such entry")
    return record


def _booked_with(session: Session, seq: int) -> list[Record]:
    """The other entries of the command that wrote an entry: they stand behind its own, without a gap."""
    column, own = log.audit_entry.c.seq, log.audit_entry.c.kind != bookings.BOOKED
    first = session.scalar(select(func.max(column)).where(column <= seq, own)) or 0
    behind = session.scalar(select(func.min(column)).where(column > first, own))
    most = first + 1 + _MOST_BOOKED
    records = log.entries(session, first, most if behind is None else min(behind, most))
    return [record for record in records if record.seq != seq]


def item(record: Record, names: dict[str, str]) -> dict[str, Any]:
    """An entry as lists show it."""
    document = record.document
    actor = document["actor"] or {}
    shown = (
        "seq",
        "id",
        "time",
        "kind",
        "outcome",
        "code",
        "object",
        "query",
        "licence",
        "privacy",
        "money",
        "result",
    )
    return {
        **{name: document[name] for name in shown},
        "org": actor.get("org"),
        "org_name": names.get(actor.get("org") or "", actor.get("org")),
        "role": actor.get("role"),
        "leaf_hash": record.leaf_hash.hex(),
    }


def asked(session: Session, query_id: str | None, names: dict[str, str]) -> dict[str, Any] | None:
    """What stands beside the log for a query: never part of a leaf, so that it can be erased."""
    if not query_id:
        return None
    row = session.execute(select(queries.query).where(queries.query.c.id == query_id)).one_or_none()
    if row is None:
        return None
    acceptance = licences.find_acceptance(session, row.acceptance_id, org=row.org)
    licence = licences.find_licence(session, acceptance.licence_id)
    return {
        "query": row.id,
        "state": row.state,
        "asked_by": names.get(row.org, row.org),
        "asked_at": row.reserved_at,
        "dataset": row.slug,
        "version": row.version,
        "sql": row.sql,
        "purpose": row.purpose,
        "grant": row.grant_id,
        "licence": licence.title,
        "licence_sha256": licence.text_sha256,
        "accepted_at": acceptance.accepted_at,
        "acceptance_digest": acceptance.digest,
        "clause": row.clause,
        "domain": row.domain,
        "rho_nano": row.rho_nano,
        "charge": money(row.charge_minor, row.currency),
        "refines": row.refines,
        "rho_before_nano": row.rho_before_nano,
        "settle_journal": row.settle_journal,
        "result_sha256": row.result_sha256,
    }
