"""The worker sweeps what dead processes left behind, publishes the log, builds layouts, follows orders and
moves money.

Where no signer process does, it alone holds the log's key.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from exchange import leases, scratch
from exchange.audit import checkpoint as checkpoints
from exchange.audit import integrate, log, succession
from exchange.audit.errors import AuditError
from exchange.audit.tiles import Folder
from exchange.bootstrap import open_market
from exchange.config import Settings
from exchange.operations import (
    announcing,
    approving,
    collecting,
    keeping,
    observing,
    ordering,
    watching,
    witnessing,
)
from exchange.operations.invoicing import issue_month
from exchange.operations.laying import LayingOut
from exchange.operations.sweeping import sweep
from exchange.operations.treasury import work_once
from exchange.signer.client import SignerClient
from exchange.signer.home import signer_of
from exchange.telemetry import traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.signing import HeadSigner
    from exchange.market import Market

    _Step = Callable[[Market, Settings], None]

SWEEP_EVERY_S = 10.0
PUBLISH_EVERY_S = 2.0
LAY_OUT_EVERY_S = 2.0
MONEY_EVERY_S = 10.0
_BEHIND = 10
"""Niceness of whoever builds layouts: queries come first."""
_END_WITHIN_S = 10.0

_LOG = logging.getLogger("exchange.worker")


def run_once(settings: Settings) -> Checkpoint:
    """Build layouts, see to orders, money and invoices, sweep and publish once; for scripts and tests.

    Where another worker has the turn, the log alone is published.
    """
    market = open_market(settings)
    turn = leases.turn(settings.database_url, settings.home)
    try:
        if not turn.take():
            return publish(market, settings)
        LayingOut(market).round()
        for step in (*_MONEY.values(), *_KEEPING.values()):
            step(market, settings)
        return _round(market, settings)
    finally:
        turn.release()
        market.close()


def run_forever(settings: Settings, *, parent: int | None = None) -> None:
    """Sweep every 10 s and publish every 2 s until SIGTERM, SIGINT, or the end of the process ``parent``.

    Of several workers one has the turn; the others stand by and take it when it is free. Layouts are built
    beside, in a thread: they may take hours. One that is not finished at the end is gone on with by the next
    worker. Orders, money and invoices have a thread too, and so has what is no longer kept: nothing of theirs
    delays the log, nor what expires the money.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    traces.configure(settings.traces, process="worker")
    market = _opened(settings, stop)
    if market is None:
        return
    turn = leases.turn(settings.database_url, settings.home)
    threads = [
        threading.Thread(target=target, args=(market, settings, turn, stop), name=name, daemon=True)
        for name, target in (("builder", _lay_out), ("treasurer", _move_money), ("keeper", _keep))
    ]
    try:
        for thread in threads:
            thread.start()
        _make_rounds(market, settings, turn, stop, parent)
    finally:
        stop.set()
        market.layouts.close()
        for thread in threads:
            thread.join(_END_WITHIN_S)
        turn.release()
        market.close()


def _opened(settings: Settings, stop: threading.Event) -> Market | None:
    """The market, as soon as its database answers; None where the worker was told to end before."""
    while not stop.is_set():
        try:
            return open_market(settings)
        except SQLAlchemyError as error:
            _LOG.error("the worker waits for the database: %s", type(error).__name__)
            stop.wait(PUBLISH_EVERY_S)
    return None


def _make_rounds(
    market: Market, settings: Settings, turn: leases.Turn, stop: threading.Event, parent: int | None
) -> None:
    had, due = False, time.monotonic()
    while not stop.is_set() and parent in (None, os.getppid()):
        try:
            has = turn.take()
            if has != had:
                _LOG.info("this worker %s", "makes the rounds" if has else "stands by")
                had, due = has, time.monotonic()
            if has and time.monotonic() >= due:
                due = time.monotonic() + SWEEP_EVERY_S
                _round(market, settings)
            elif has:
                publish(market, settings)
        except AuditError as error:
            _LOG.error("the log cannot be published: %s", error)
        except Exception as error:  # a full disk, a restart, a defect: the next round may pass
            _LOG.error("the worker waits: %s", type(error).__name__)
        stop.wait(PUBLISH_EVERY_S)


def _lay_out(market: Market, _settings: Settings, turn: leases.Turn, stop: threading.Event) -> None:
    """Keep layouts as they should be, until the end."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BEHIND)
    kept = LayingOut(market, stop.is_set)
    while not stop.is_set():
        try:
            if turn.held():
                kept.round()
        except Exception as error:  # whatever it is: answers need no layout, but the next round may pass
            _LOG.error("layouts wait: %s", type(error).__name__)
        stop.wait(LAY_OUT_EVERY_S)


def _move_money(market: Market, settings: Settings, turn: leases.Turn, stop: threading.Event) -> None:
    """Follow orders, move money and issue invoices, until the end; Stripe may be slow."""
    _make_steps(_MONEY, market, settings, turn, stop)


def _keep(market: Market, settings: Settings, turn: leases.Turn, stop: threading.Event) -> None:
    """Remove what is no longer kept, until the end; there may be much of it."""
    _make_steps(_KEEPING, market, settings, turn, stop)


def _make_steps(
    steps: dict[str, _Step], market: Market, settings: Settings, turn: leases.Turn, stop: threading.Event
) -> None:
    while not stop.wait(MONEY_EVERY_S):
        for what, step in steps.items():
            try:
                if turn.held():
                    step(market, settings)
            except Exception as error:  # whatever it is: the next round may pass, and nothing is sent blindly
                _LOG.error("%s: not done in this round: %s", what, type(error).__name__)


def _follow_orders(market: Market, _settings: Settings) -> None:
    """What time has brought: deadlines, ends, new periods."""
    done = ordering.rounds(market)
    if any(done.values()):
        _LOG.info("orders: %s", done)


def _settle_money(market: Market, _settings: Settings) -> None:
    """Send what the outbox holds, settle what is due and reconcile."""
    done = work_once(market)
    if any(done.values()):
        _LOG.info("money moved: %s", done)


def _issue_invoices(market: Market, settings: Settings) -> None:
    """Once a day, issue what was due before this month; who has no billing profile yet is asked for again."""
    today, done = market.store.clock().date().isoformat(), settings.home / "invoiced"
    if done.is_file() and done.read_text(encoding="utf-8") == today:
        return
    made = issue_month(market)
    if made["issued"]:
        _LOG.info("issued %d invoices, credit notes and receipts", len(made["issued"]))
    if made["waiting"]:
        _LOG.warning("%d organisations, or the exchange, have no billing profile", len(made["waiting"]))
    done.write_text(today, encoding="utf-8")


def _keep_in_time(market: Market, settings: Settings) -> None:
    """Once an hour, expire answers and forget keys that were kept for long enough."""
    hour, done = market.store.clock().strftime("%Y-%m-%dT%H"), settings.home / "kept"
    if done.is_file() and done.read_text(encoding="utf-8") == hour:
        return
    gone = keeping.round_once(market)
    if held := gone.pop("held", 0):
        _LOG.info("kept by legal holds beyond their time: %d answers", held)
    if any(gone.values()):
        _LOG.info("no longer kept: %s", gone)
    done.write_text(hour, encoding="utf-8")


def _collect_in_time(market: Market, settings: Settings) -> None:
    """Once a day, remove objects that nothing names."""
    today, done = market.store.clock().date().isoformat(), settings.home / "collected"
    if done.is_file() and done.read_text(encoding="utf-8") == today:
        return
    if gone := collecting.collect(market):
        _LOG.info("removed %d objects that nothing named", gone)
    done.write_text(today, encoding="utf-8")


def _watch(market: Market, _settings: Settings) -> None:
    """Read the log's new entries by the rules of alerts."""
    if raised := watching.watch(market):
        _LOG.warning("raised %d alerts", raised)


def _expire_approvals(market: Market, _settings: Settings) -> None:
    """End what was to be approved, or done, by now."""
    if ended := approving.expire(market):
        _LOG.info("approvals that were not given or used in time: %d", ended)


def _clear_scratch(_market: Market, settings: Settings) -> None:
    """Remove what an ingest left whose process died: it may be readable to whoever has the disk."""
    if gone := scratch.clear(settings.scratch_path):
        _LOG.warning("removed %d folders of ingests whose process died", gone)


_MONEY: dict[str, _Step] = {"orders": _follow_orders, "money": _settle_money, "invoices": _issue_invoices}
"""What the treasurer does in each round, one after the other; one that fails stops none of the others."""
_KEEPING: dict[str, _Step] = {
    "alerts": _watch,
    "answers": _keep_in_time,
    "approvals": _expire_approvals,
    "objects": _collect_in_time,
    "scratch": _clear_scratch,
}
"""What the keeper does."""


def publish(market: Market, settings: Settings) -> Checkpoint:
    """Take every committed leaf into the tree and sign a checkpoint where there are new ones.

    A key that follows another is announced by an entry before it is published.
    """

    def leaves(start: int) -> Iterator[bytes]:
        with_stop = market.store.read(log.size)
        if start == 0 or start + 1 < with_stop:  # it asks for one leaf that is published already
            market.store.sync()
        while start < with_stop:
            stop = min(start + 256, with_stop)
            yield from market.store.read(functools.partial(_leaves_between, start=start, stop=stop))
            start = stop

    gatherer = _gatherer(settings.witnesses, settings.witness_networks, settings.log_path)
    checkpoint = integrate.integrate(
        leaves,
        Folder(settings.log_path),
        _signer(settings),
        settings.log_origin,
        announce=functools.partial(announcing.announce_keys, market),
        cosign=gatherer.gather if gatherer else None,
    )
    return gatherer.complete(checkpoint) if gatherer else checkpoint


@functools.lru_cache(maxsize=8)
def _gatherer(witnesses: str, networks: str, path: Path) -> witnessing.Gatherer | None:
    """One for all rounds: it remembers who was away."""
    told = Settings(witnesses=witnesses, witness_networks=networks)
    return witnessing.gatherer(told, Folder(path))


def _signer(settings: Settings) -> HeadSigner:
    """The signer process, where there is one; else a signer in this process, with the same memory."""
    if settings.signer:
        return SignerClient(Path(settings.signer))
    signer = signer_of(settings.home, settings.log_key)
    published = Folder(settings.log_path)
    signer.begin(published.read(checkpoints.PATH), published.read(succession.PATH) or b"")
    return signer


def _leaves_between(session: Session, *, start: int, stop: int) -> list[bytes]:
    return [record.leaf for record in log.entries(session, start, stop)]


def _round(market: Market, settings: Settings) -> Checkpoint:
    done = sweep(market)
    if any(done.values()):
        _LOG.info("swept: %s", done)
    observing.note_round(settings.home, done)
    return publish(market, settings)
