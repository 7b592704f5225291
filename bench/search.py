"""The officer's search: how long the first page of each filter takes in a log of a million entries.

    python -m bench.search [--entries 1m] [--database sqlite,postgresql] [--rounds 40] [--markdown]

The rows are those that the log itself would have written: leaves, hashes, chains and search columns come from
its own functions, and only the commits are fewer. Organisations, datasets and kinds are skewed, times run
through a year; a filter is asked for what is common, for what is rare and for what is not there, as the first
page of fifty and as a later one. The figure is the 95th percentile over all of these. The goal is 500 ms.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from bench import books, report
from bench.events import rows_in
from exchange.audit import leaf as leaves
from exchange.audit import log, merkle
from exchange.audit.entry import Entry, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exchange.store import Store

GOAL_S = 0.5
SEED = 20_261_123
START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_S = 365 * 86_400
BATCH = 5_000
ORGS, DATASETS, DOMAINS = 400, 200, 60
PURPOSES = ("research", "statistics", "planning", "audit")
KINDS = (
    ("query.settled", 30),
    ("query.reserved", 25),
    ("query.quoted", 20),
    ("answer.fetched", 10),
    ("journal.booked", 8),
    ("query.refused", 4),
    ("session.started", 2),
    ("licence.accepted", 1),
)
RARE_KIND, RARE_OUTCOME = "key.rotated", "failed"


@dataclass(frozen=True)
class Asked:
    """One filter, put in several ways; seconds of each."""

    database: str
    filter: str
    p50_s: float
    p95_s: float
    worst_s: float
    asked: int


def main(arguments: Sequence[str]) -> None:
    """Fill, measure every filter, print the table, write the figures."""
    asked = _arguments(arguments)
    figures: list[Asked] = []
    for name in asked.database:
        with books.database(name) as store:
            print(f"{name}: writing {asked.entries} entries", file=sys.stderr, flush=True)
            fill(store, rows_in(asked.entries))
            figures += measure(store, name, asked.rounds)
    rows = [
        (
            f"{one.database}: {one.filter}",
            *(report.milliseconds(seconds) for seconds in (one.p50_s, one.p95_s, one.worst_s)),
            "met" if one.p95_s <= GOAL_S else "missed",
        )
        for one in figures
    ]
    report.show("Search", ("filter", "p50 ms", "p95 ms", "worst ms", "goal"), rows, asked.markdown)
    report.save("search", {"arguments": vars(asked), "filters": [asdict(one) for one in figures]})


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.search", description=__doc__)
    parser.add_argument("--entries", default="1m", help="as in 250k or 1m")
    default = "sqlite,postgresql" if books.server_url() else "sqlite"
    parser.add_argument(
        "--database", default=default, type=books.databases, help="sqlite,postgresql or one of them"
    )
    parser.add_argument("--rounds", type=int, default=40, help="searches of each filter, at least")
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in documents")
    return parser.parse_args(arguments)


def fill(store: Store, count: int) -> None:
    """Write so many entries, as the log writes them one by one, with fewer commits."""
    documents = _documents(count)
    chains: dict[str, tuple[int, str]] = {}
    with Session(store.engine) as session:
        for start in range(0, count, BATCH):
            batch = [next(documents) for _ in range(min(BATCH, count - start))]
            rows = [_row(document, chains) for document in batch]
            session.execute(insert(log.audit_entry), rows)
            session.commit()
        heads = [
            {"org": org, "org_seq": number, "leaf_hash": hashed} for org, (number, hashed) in chains.items()
        ]
        session.execute(insert(log.audit_org_chain), heads)
        if not session.execute(update(log.audit_sequence).values(next=count)).rowcount:  # type: ignore[attr-defined]
            session.execute(insert(log.audit_sequence).values(id=1, next=count))
        session.commit()
    analyse = "analyze" if store.engine.dialect.name == "sqlite" else "vacuum analyze audit_entry"
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(analyse)


def _row(document: dict[str, Any], chains: dict[str, tuple[int, str]]) -> dict[str, Any]:
    org = document["actor"]["org"]
    number, last = chains.get(org, (-1, None))
    leaf = leaves.encode(document | {"org_seq": number + 1, "prev_org_leaf": last})
    row = log.row_of(leaves.decode(leaf), leaf, merkle.leaf_hash(leaf))
    chains[org] = (number + 1, row["leaf_hash"])
    return row


def _documents(count: int) -> Iterator[dict[str, Any]]:
    """What happened in a year; few organisations and datasets have most of it."""
    chance = random.Random(SEED)
    kinds, weights = zip(*KINDS, strict=True)
    for seq in range(count):
        kind = RARE_KIND if seq % 100_003 == 17 else chance.choices(kinds, weights)[0]
        outcome = "refused" if kind == "query.refused" else "done"
        # Clocks of several processes: a later entry may be a little earlier.
        at = START + timedelta(seconds=YEAR_S * seq / count + chance.uniform(-1, 1))
        entry = Entry(
            kind=kind,
            outcome=RARE_OUTCOME if seq % 250_007 == 11 else outcome,
            code="budget_exhausted" if outcome == "refused" else None,
            **_groups(chance, seq),
        )
        yield {
            "v": leaves.VERSION,
            "seq": seq,
            "id": f"evt_{seq:024x}",
            "time": timestamp(at),
            "kind": entry.kind,
            "outcome": entry.outcome,
            "code": entry.code,
            "pii_commitment": None,
            **entry.groups(),
        }


def _groups(chance: random.Random, seq: int) -> dict[str, Any]:
    dataset, digest = skewed(chance, DATASETS), hashlib.sha256(str(seq).encode()).hexdigest()
    return {
        "actor": {
            "ref": f"tok_{seq % 997:024x}",
            "org": f"org_{skewed(chance, ORGS):024x}",
            "role": "buyer",
        },
        "source": {"ip_truncated": "203.0.113.0/24", "request_id": f"req_{seq:024x}"},
        "object": {"type": "dataset", "id": f"ds_{dataset:024x}", "dataset": f"city/data-{dataset}"},
        "licence": {
            "acceptance_id": f"acc_{seq % 5_000:024x}",
            "odrl_sha256": digest,
            "purpose": PURPOSES[skewed(chance, len(PURPOSES))],
        },
        "query": {"id": f"qry_{seq // 3:024x}", "plan_sha256": digest, "sql_sha256": digest},
        "privacy": {"domain": f"domain-{dataset % DOMAINS}", "rho_nano": seq},
        "money": {"currency": "USD", "amount_minor": 5, "journal": f"jrn_{seq}", "journal_sha256": digest},
    }


def skewed(chance: random.Random, most: int) -> int:
    """A number below ``most``; small ones are common."""
    return int(most * chance.random() ** 3)


def measure(store: Store, name: str, rounds: int) -> list[Asked]:
    """Every filter in all its ways, so many times in all."""
    size = store.read(log.size)
    found = []
    for what, ways in _ways(size).items():
        seconds = []
        for number in range(max(rounds, len(ways))):
            filters = ways[number % len(ways)]
            started = time.perf_counter()
            store.read(lambda session, asked=filters: log.search(session, limit=50, **asked))  # type: ignore[misc]
            seconds.append(time.perf_counter() - started)
        found.append(Asked(name, what, report.p50(seconds), report.p95(seconds), max(seconds), len(seconds)))
        print(f"{name}: {what} {max(seconds):.3f} s", file=sys.stderr, flush=True)
    return found


def _ways(size: int) -> dict[str, list[dict[str, Any]]]:
    """Filter -> what is asked: common, rare, absent; alone and with a later page."""

    def time_at(share: float) -> datetime:
        return START + timedelta(seconds=YEAR_S * share)

    later = {"page_token": str(size // 3)}
    equal = {
        "org": (f"org_{0:024x}", f"org_{ORGS - 1:024x}", "org_nobody"),
        "dataset": ("city/data-0", f"city/data-{DATASETS - 1}", "city/none"),
        "domain": ("domain-0", f"domain-{DOMAINS - 1}", "none"),
        "purpose": (PURPOSES[0], PURPOSES[-1], "none"),
        "kind": ("query.settled", RARE_KIND, "none.such"),
        "outcome": ("done", "refused", RARE_OUTCOME, "none"),
        "q": (f"qry_{size // 6:024x}", f"evt_{size // 2:024x}", f"ds_{0:024x}", f"jrn_{size // 4}", "none"),
    }
    ways: dict[str, list[dict[str, Any]]] = {"nothing": [{}, later]}
    for what, values in equal.items():
        ways[what] = [{what: value, **page} for value in values for page in ({}, later)]
    bounds = [(0.0, 0.01), (0.3, 0.31), (0.5, 0.9), (0.99, 1.0), (0.2, 0.2001), (1.5, 2.0)]
    ways["since"] = [{"since": time_at(share)} for share in (0.0, 0.5, 0.999, 2.0)]
    ways["until"] = [{"until": time_at(share)} for share in (-1.0, 0.001, 0.5, 2.0)]
    ways["since, until"] = [{"since": time_at(a), "until": time_at(b)} for a, b in bounds]
    ways["org, since, until"] = [
        {"org": org, "since": time_at(a), "until": time_at(b)} for org in equal["org"] for a, b in bounds
    ]
    ways["q, since, until"] = [
        {"q": q, "since": time_at(a), "until": time_at(b)} for q in equal["q"] for a, b in bounds
    ]
    ways["q, kind"] = [{"q": q, "kind": kind} for q in equal["q"] for kind in equal["kind"]]
    ways["kind, outcome"] = [{"kind": kind, "outcome": RARE_OUTCOME} for kind in equal["kind"]]
    ways["dataset, purpose, kind"] = [
        {"dataset": dataset, "purpose": purpose, "kind": "licence.accepted"}
        for dataset in equal["dataset"]
        for purpose in equal["purpose"]
    ]
    return ways


if __name__ == "__main__":
    main(sys.argv[1:])
