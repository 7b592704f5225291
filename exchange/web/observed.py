"""Each request seen from outside: counted, timed on the reply grid, logged in one line, traced."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from sqlalchemy import event

from exchange.telemetry import traces
from exchange.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from exchange.market import Market

_LOG = logging.getLogger("exchange.access")
_UNMATCHED = "unmatched"


def install(app: Flask, market: Market) -> Metrics:
    """Watch the requests of an application and the connections of its market."""
    metrics = Metrics()
    _watch_database(market, metrics)

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        metrics.began()
        g.span = contextlib.ExitStack()
        traceparent = request.headers.get("traceparent", "")[:64]
        g.span.enter_context(traces.span("request", traceparent=traceparent, route=_route()))

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if "began" not in g:
            return
        status = g.get("status", 500)
        seconds = time.monotonic() - g.began
        metrics.ended(method=request.method, route=_route(), status=status, seconds=seconds)
        metrics.overruns(market.engine.overruns())
        metrics.queue(waiting=market.engine.turns.waiting(), running=market.engine.turns.running())
        g.span.close()
        told: dict[str, Any] = {
            "event": "request",
            "request_id": g.get("request_id"),
            "actor": _actor(),
            "method": request.method if request.method.isalpha() else "other",
            "route": _route(),
            "status": status,
            "ms": on_grid(seconds * 1000, market.settings.reply_grid_ms),
        }
        _LOG.info("request", extra=told)

    return metrics


def note_status(response: Response) -> None:
    """Remember what was answered, for those who watch."""
    g.status = response.status_code


def on_grid(ms: float, grid_ms: int) -> int:
    """Milliseconds, rounded up to the grid on which answers leave: less of what data took is told."""
    step = max(grid_ms, 1)
    return math.ceil(ms / step) * step


def _route() -> str:
    """The template of ours that the address fits, never the address."""
    return request.url_rule.rule if request.url_rule is not None else _UNMATCHED


def _actor() -> str | None:
    known = g.get("actor") or g.get("visitor")
    return known.ref if known is not None else None


def _watch_database(market: Market, metrics: Metrics) -> None:
    engine = market.store.engine

    @event.listens_for(engine, "commit")
    def committed(connection: Connection) -> None:
        if connection.get_execution_options().get("writing"):
            metrics.committed()

    @event.listens_for(engine, "checkout")
    def taken(*_: object) -> None:
        metrics.connections(1)

    @event.listens_for(engine, "checkin")
    def given_back(*_: object) -> None:
        metrics.connections(-1)
