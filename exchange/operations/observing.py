"""How the exchange is: whether it may be asked, and what the worker did.

Nothing here tells a value of anybody's data, a name or a question.
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from catalog import CatalogError
from exchange import queries
from exchange.alerts import queue
from exchange.alerts.kinds import KINDS
from exchange.audit import AuditError, checkpoint, log
from exchange.config import SettingsError
from exchange.errors import is_full
from exchange.operations import witnessing
from exchange.telemetry.metrics import Fact
from privacy import PrivacyError
from settlement.payments.tables import outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sqlalchemy.orm import Session

    from exchange.market import Market

ROUNDS = "swept"
"""The file of a home that the worker writes after each round."""
LIVELY_S = 120.0
"""A sweeper that was not heard of for so long does not make a process ready."""


def note_round(home: Path, done: Mapping[str, int]) -> None:
    """Keep what a round of the worker did, added to what the rounds before it did."""
    total = rounds(home)
    counts = {name: total.get(name, 0) + number for name, number in done.items()}
    unfinished = home / f"{ROUNDS}.{os.getpid()}"
    unfinished.write_text(json.dumps({**total, **counts}), encoding="utf-8")
    unfinished.replace(home / ROUNDS)


def rounds(home: Path) -> dict[str, int]:
    """What all rounds of the workers did, by name; empty where none was made or nothing can be read."""
    try:
        told = json.loads((home / ROUNDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): int(number) for name, number in told.items()} if isinstance(told, dict) else {}


def since_round_s(home: Path) -> float | None:
    """Seconds since a worker swept last; None where none ever did."""
    return _age_s(home / ROUNDS)


def facts(market: Market) -> list[Fact]:
    """What the database and the home tell of the whole exchange, as numbers for whoever watches."""
    found = market.store.read(lambda session: _in_database(session, market.store.clock()))
    published = market.settings.log_path / checkpoint.PATH
    entries = found["entries"][""]
    size = _published_size(published)
    ages = {
        "sweep": since_round_s(market.settings.home),
        "checkpoint": _age_s(published),
    }
    done = {name: float(number) for name, number in rounds(market.settings.home).items()}
    return [
        Fact("exchange_queries", "Queries that have not ended, by state", found["open"], "state"),
        Fact("exchange_queries_ended", "Queries that ended, by state", found["ended"], "state", "counter"),
        Fact(
            "exchange_queries_overdue",
            "Queries whose lease ended, unswept",
            found["overdue"],
        ),
        Fact("exchange_log_entries", "Entries of the log in the database", found["entries"]),
        Fact(
            "exchange_log_unpublished",
            "Entries under no checkpoint yet",
            {"": max(0.0, entries - size)},
        ),
        Fact(
            "exchange_age_seconds",
            "Seconds since the worker's last sweep, and since the last checkpoint",
            {name: age for name, age in ages.items() if age is not None},
            "of",
        ),
        Fact(
            "exchange_log_cosignatures_missing",
            "Witnesses that are asked and have not signed the newest checkpoint",
            {"": float(len(_missing(market)))},
        ),
        Fact("exchange_outbox", "Calls to Stripe that wait, by state", found["outbox"], "state"),
        Fact("exchange_outbox_late_seconds", "Seconds by which the oldest call is late", found["late"]),
        Fact("exchange_alerts", "Open alerts, by kind", found["alerts"], "kind"),
        Fact("exchange_alerts_raised", "Alerts raised, by kind", found["raised"], "kind", "counter"),
        Fact("exchange_swept", "Ended for dead processes, by end", done, "end", "counter"),
    ]


def _in_database(session: Session, now: datetime) -> dict[str, Mapping[str, float]]:
    table, calls = queries.query, outbox
    by_state: dict[str, float] = dict(
        session.execute(select(table.c.state, func.count()).group_by(table.c.state)).all()
    )
    running = (queries.RESERVED, queries.EXECUTING, queries.RESULT_DURABLE)
    stamp = now.isoformat(timespec="microseconds")
    overdue = select(func.count()).where(table.c.state.in_(running), table.c.lease_until < stamp)
    waiting = calls.c.state.in_(("ready", "sending", "unknown", "failed500"))
    sent: dict[str, float] = dict(
        session.execute(select(calls.c.state, func.count()).where(waiting).group_by(calls.c.state)).all()
    )
    oldest = session.execute(select(func.min(calls.c.next_at)).where(waiting)).scalar_one()
    alerts = queue.counts(session)
    late = (now - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0
    return {
        "open": {state: by_state.get(state, 0) for state in running},
        "ended": {state: count for state, count in by_state.items() if state not in running},
        "overdue": {"": session.execute(overdue).scalar_one()},
        "entries": {"": log.size(session)},
        "alerts": dict.fromkeys(KINDS, 0) | {kind: n for kind, state, n in alerts if state == queue.OPEN},
        "raised": {kind: sum(n for one, _, n in alerts if one == kind) for kind in KINDS},
        "outbox": sent,
        "late": {"": max(0.0, late)},
    }


def _published_size(path: Path) -> int:
    try:
        return checkpoint.parse_checkpoint(path.read_bytes()).size
    except (OSError, AuditError):
        return 0


def log_state(market: Market) -> dict[str, object]:
    """The newest checkpoint: its size, its age, and which witnesses signed it and which did not."""
    path = market.settings.log_path / checkpoint.PATH
    age, absent = _age_s(path), _missing(market)
    names = [key.name for key, _ in market.settings.witnesses_asked]
    return {
        "size": _published_size(path),
        "checkpoint_age_s": None if age is None else int(age),
        "witnesses": {name: "missing" if name in absent else "signed" for name in names},
    }


def _missing(market: Market) -> list[str]:
    keys = [key for key, _ in market.settings.witnesses_asked]
    try:
        newest = checkpoint.parse_checkpoint((market.settings.log_path / checkpoint.PATH).read_bytes())
    except (OSError, AuditError):
        return [key.name for key in keys]
    return witnessing.missing(newest, keys)


def _age_s(path: Path) -> float | None:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


class Readiness:
    """Whether one process may be sent requests. Asked often: an answer is kept for a second.

    The sweeper counts until it was seen once: a process that is ready stays so while a worker is replaced.
    """

    _KEPT_S = 1.0

    def __init__(self, market: Market) -> None:
        self._market = market
        self._swept = False
        self._asked = -self._KEPT_S
        self._known: dict[str, str] = {}

    def parts(self) -> dict[str, str]:
        """Part -> ``ok``, or a word for what is wrong with it; never a message of somebody else's."""
        if time.monotonic() - self._asked >= self._KEPT_S:
            self._known = {name: _tried(check) for name, check in self._checks().items()}
            self._asked = time.monotonic()
        return self._known

    def unconfined(self) -> tuple[str, ...]:
        """What query workers of this process are confined without, because the kernel lacks it."""
        try:
            return self._market.engine.sandbox().missing
        except PrivacyError:
            return ()

    def _checks(self) -> dict[str, Callable[[], Any]]:
        market = self._market
        return {
            "database": lambda: market.store.read(lambda session: session.execute(text("SELECT 1"))),
            "objects": market.objects.ensure_writable,
            "keys": market.vault.require,
            "sandbox": lambda: market.engine.sandbox().ensure_started(),
            "sweeper": self._require_swept,
        }

    def _require_swept(self) -> None:
        since = since_round_s(self._market.settings.home)
        self._swept = self._swept or (since is not None and since < LIVELY_S)
        if not self._swept:
            raise LookupError


def _tried(check: Callable[[], Any]) -> str:
    try:
        check()
    except LookupError:
        return "not seen yet"
    except SettingsError:
        return "missing"
    except OSError as error:
        return "is full" if is_full(error) else "does not answer"
    except (CatalogError, SQLAlchemyError, PrivacyError):
        return "does not answer"
    return "ok"
