"""The worker sweeps what dead processes left behind, publishes the log, builds layouts and moves money.

It alone holds the log's key.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from exchange.audit import integrate, log
from exchange.audit.errors import AuditError
from exchange.audit.note import SigningKey
from exchange.audit.tiles import Folder
from exchange.bootstrap import open_market
from exchange.operations import ordering
from exchange.operations.invoicing import issue_month
from exchange.operations.laying import LayingOut
from exchange.operations.sweeping import sweep
from exchange.operations.treasury import work_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from exchange.audit.checkpoint import Checkpoint
    from exchange.config import Settings
    from exchange.market import Market

SWEEP_EVERY_S = 10.0
PUBLISH_EVERY_S = 2.0
LAY_OUT_EVERY_S = 2.0
MONEY_EVERY_S = 10.0
_BEHIND = 10
"""Niceness of whoever builds layouts: queries come first."""
_END_WITHIN_S = 10.0

_LOG = logging.getLogger("exchange.worker")


def run_once(settings: Settings) -> Checkpoint:
    """Sweep, build layouts and publish once; for scripts and tests."""
    market = open_market(settings)
    try:
        LayingOut(market).round()
        work_once(market)
        return _round(market, settings)
    finally:
        market.close()


def run_forever(settings: Settings, *, parent: int | None = None) -> None:
    """Sweep every 10 s and publish every 2 s until SIGTERM, SIGINT, or the end of the process ``parent``.

    Layouts are built beside, in a thread: they may take hours. One that is not finished at the end is gone on
    with by the next worker.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    market = open_market(settings)
    builder = threading.Thread(target=_lay_out, args=(market, stop), name="builder", daemon=True)
    treasurer = threading.Thread(target=_move_money, args=(market, stop), name="treasurer", daemon=True)
    try:
        builder.start()
        treasurer.start()
        waited = SWEEP_EVERY_S
        while not stop.is_set() and parent in (None, os.getppid()):
            try:
                if waited >= SWEEP_EVERY_S:
                    waited = 0.0
                    _round(market, settings)
                else:
                    publish(market, settings)
            except AuditError as error:
                _LOG.error("the log cannot be published: %s", error)
            except (OSError, SQLAlchemyError) as error:  # a full disk, a database that restarts: it may pass
                _LOG.error("the worker waits: %s", type(error).__name__)
            stop.wait(PUBLISH_EVERY_S)
            waited += PUBLISH_EVERY_S
    finally:
        stop.set()
        market.layouts.close()
        builder.join(_END_WITHIN_S)
        treasurer.join(_END_WITHIN_S)
        market.close()


def _lay_out(market: Market, stop: threading.Event) -> None:
    """Keep layouts as they should be, until the end."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BEHIND)
    kept = LayingOut(market, stop.is_set)
    while not stop.is_set():
        try:
            kept.round()
        except Exception as error:  # whatever it is: answers need no layout, but the next round may pass
            _LOG.error("layouts wait: %s", type(error).__name__)
        stop.wait(LAY_OUT_EVERY_S)


def _move_money(market: Market, stop: threading.Event) -> None:
    """Send what the outbox holds, settle what is due and reconcile, until the end; Stripe may be slow."""
    while not stop.wait(MONEY_EVERY_S):
        try:
            done = work_once(market)
        except Exception as error:  # whatever it is: the next round may pass, and nothing is sent blindly
            _LOG.error("money waits: %s", type(error).__name__)
        else:
            if any(done.values()):
                _LOG.info("money moved: %s", done)


def publish(market: Market, settings: Settings) -> Checkpoint:
    """Take every committed leaf into the tree and sign a checkpoint where there are new ones."""
    signer = SigningKey.parse(settings.log_key)

    def leaves(start: int) -> Iterator[bytes]:
        with_stop = market.store.read(log.size)
        if start == 0 or start + 1 < with_stop:  # it asks for one leaf that is published already
            market.store.sync()
        while start < with_stop:
            stop = min(start + 256, with_stop)
            yield from market.store.read(partial(_leaves_between, start=start, stop=stop))
            start = stop

    return integrate.integrate(leaves, Folder(settings.log_path), signer, settings.log_origin)


def _leaves_between(session: Session, *, start: int, stop: int) -> list[bytes]:
    return [record.leaf for record in log.entries(session, start, stop)]


def _round(market: Market, settings: Settings) -> Checkpoint:
    done = sweep(market) | ordering.rounds(market)
    if any(done.values()):
        _LOG.info("swept: %s", done)
    (settings.home / "swept").touch()
    _invoice(market, settings)
    return publish(market, settings)


def _invoice(market: Market, settings: Settings) -> None:
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
