"""Logs to test with, and a second way to publish one, written from RFC 6962 and tlog-tiles alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from exchange.audit import log
from exchange.audit.log import Entry, Record
from exchange.audit.note import COSIGNATURE, SigningKey
from exchange.audit.signing import LogSigner
from exchange.audit.tiles import Folder

ORIGIN = "exchange.example/audit"
SIGNER = SigningKey(ORIGIN, bytes(range(32)))
STRANGER = SigningKey(ORIGIN, bytes(range(1, 33)))
RECEIPTS = SigningKey("exchange.example/receipts", bytes(range(2, 34)))
WITNESSES = [SigningKey(f"witness.example/{i}", bytes([i]) * 32, COSIGNATURE) for i in (1, 2, 3)]
KEYS = [str(SIGNER.verifier)]
NOW = datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def query_settled(number: int, org: str = "org_buyer") -> Entry:
    """An entry with every group filled."""
    return Entry(
        kind="query.settled",
        outcome="done",
        actor={"ref": f"usr_{number % 7}", "org": org, "role": "buyer", "auth": "token"},
        source={"ip_truncated": "203.0.113.0/24", "request_id": f"req_{number}"},
        object={"type": "dataset", "id": "ds_flights", "version": "ver_1", "dataset": "ds_flights"},
        licence={"acceptance_id": "acc_1", "odrl_sha256": sha("odrl"), "purpose": "research"},
        query={
            "id": f"qry_{number}",
            "plan_sha256": sha(f"plan{number}"),
            "sql_sha256": sha(f"sql{number}"),
        },
        privacy={
            "domain": f"people:{number}",
            "mechanism": "discrete_gaussian",
            "rho_nano": 1_000 + number,
            "delta_pico": 1_000,
            "spent_after": 1_000 + number,
            "remaining_after": 2**62,
        },
        money={
            "currency": "USD",
            "amount_minor": 100 + number,
            "journal": f"jrn_{number}",
            "journal_sha256": sha(f"journal{number}"),
        },
        result={"sha256": sha(f"result{number}"), "bytes": 4_096},
    )


def refusal(number: int, org: str | None) -> Entry:
    """An entry with few groups."""
    actor: dict[str, str | None] = {"ref": None, "org": org, "role": None, "auth": "token"}
    return Entry(
        kind="query.refused",
        outcome="refused",
        code="budget_exhausted",
        actor=actor,  # type: ignore[arg-type]
        source={"request_id": f"req_{number}"},
    )


def entry(number: int) -> Entry:
    """A varied stream: three organisations, one of them seldom, and entries of nobody."""
    if number % 5 == 4:
        return refusal(number, None)
    if number % 11 == 7:
        return refusal(number, "org_seldom")
    return query_settled(number, "org_buyer" if number % 3 else "org_other")


def sqlite_engine(url: str = "sqlite://") -> Engine:
    """SQLite whose transactions begin as writing ones, as the store's do."""
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 15})

    @event.listens_for(engine, "connect")
    def _own_begin(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _immediate(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    return engine


@contextmanager
def open_database(url: str = "sqlite://") -> Iterator[Engine]:
    """An engine with the log's tables."""
    engine = sqlite_engine(url) if url.startswith("sqlite") else create_engine(url)
    log.metadata.create_all(engine)
    try:
        yield engine
    finally:
        engine.dispose()


def fill(session: Session, count: int, first: int = 0) -> list[Record]:
    """Appends `count` varied entries, one second apart."""
    appended = [
        log.append(session, entry(i), NOW + timedelta(seconds=i)) for i in range(first, first + count)
    ]
    return [Record(a.seq, a.id, a.leaf, a.leaf_hash) for a in appended]


@lru_cache(maxsize=8)
def records(count: int) -> tuple[Record, ...]:
    """The entries of a log of `count` leaves."""
    with open_database() as engine, Session(engine) as session:
        fill(session, count)
        session.commit()
        return tuple(log.entries(session))


def signer_of(folder: Folder, *keys: SigningKey) -> LogSigner:
    """The signer of the log in a folder, whose memory lies beside it; it begins with what is published."""
    signer = LogSigner(keys or (SIGNER,), Folder(folder.root / ".signer"))
    signer.begin(folder.read("checkpoint"))
    return signer


def mth(hashes: Sequence[bytes]) -> bytes:
    """Merkle tree hash, by the definition in RFC 6962 section 2.1."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def number_path(index: int) -> str:
    """Index in elements of three digits, all but the last with an x."""
    elements = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        elements.insert(0, f"x{index % 1000:03d}")
    return "/".join(elements)


def publish(leaves: Sequence[bytes], signer: SigningKey = SIGNER, origin: str = ORIGIN) -> dict[str, bytes]:
    """A log's files for exactly these leaves, whatever they hold: what a dishonest operator could publish."""
    hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    files: dict[str, bytes] = {}
    for start in range(0, len(leaves), 256):
        part = leaves[start : start + 256]
        suffix = "" if len(part) == 256 else f".p/{len(part)}"
        bundle = b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in part)
        files[f"tile/entries/{number_path(start // 256)}{suffix}"] = bundle
    level, row = 0, hashes
    while row:
        for start in range(0, len(row), 256):
            part = row[start : start + 256]
            suffix = "" if len(part) == 256 else f".p/{len(part)}"
            files[f"tile/{level}/{number_path(start // 256)}{suffix}"] = b"".join(part)
        row = [mth(row[i : i + 256]) for i in range(0, len(row) - 255, 256)]
        level += 1
    files["checkpoint"] = signed_head(len(leaves), mth(hashes), signer, origin)
    return files


def signed_head(size: int, root: bytes, signer: SigningKey = SIGNER, origin: str = ORIGIN) -> bytes:
    """A checkpoint, put together by hand."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = base64.b64encode(signer.verifier.key_id + signer.sign(text.encode())).decode()
    return f"{text}\n— {signer.name} {signature}\n".encode()


def load(root: Path) -> dict[str, bytes]:
    """The files of a log that a reader may fetch."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).parts[0].startswith(".")
    }
