"""Prometheus metrics: the one door to prometheus_client.

Several web processes of one server share a folder of memory-mapped files (PROMETHEUS_MULTIPROC_DIR, set by
`exchange serve`), so that whichever is asked tells the sums of all. What the database and the home know is
read when it is asked for: those facts are of the whole exchange.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Fact:
    """One number of the whole exchange, for each value of at most one label.

    Attributes:
        kind: `gauge`, or `counter` for what only grows.
        values: label value -> number; the one key is empty where there is no label.
    """

    name: str
    text: str
    values: Mapping[str, float]
    label: str = ""
    kind: str = "gauge"


class Metrics:
    """The instruments of one process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()
        own: Any = {"registry": self._registry}
        live: Any = {**own, "multiprocess_mode": "livesum"}
        self._requests = Counter(
            "exchange_requests", "Requests by route template and status", ["method", "route", "status"], **own
        )
        self._seconds = Histogram(
            "exchange_request_seconds", "Seconds until a reply", ["route"], buckets=_BUCKETS_S, **own
        )
        self._running = Gauge("exchange_requests_running", "Requests being answered", **live)
        self._commits = Counter("exchange_commits", "Writing transactions committed", **own)
        self._connections = Gauge("exchange_database_connections_in_use", "Connections lent by pools", **live)
        self._overruns = Counter("exchange_sandbox_kills", "Tasks killed at their time limit", **own)
        self._waiting = Gauge("exchange_queries_waiting", "Queries that wait for a worker", **live)
        self._turns = Gauge("exchange_queries_running", "Queries that have a worker", **live)
        self._lock = threading.Lock()
        self._overruns_seen = 0

    def began(self) -> None:
        """A request came."""
        self._running.inc()

    def ended(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. ``route`` is a template of ours, never the path that was asked for."""
        self._running.dec()
        method = method if method in _METHODS else "other"
        self._requests.labels(method=method, route=route, status=str(status)).inc()
        self._seconds.labels(route=route).observe(seconds)

    def committed(self) -> None:
        """A writing transaction was committed."""
        self._commits.inc()

    def connections(self, change: int) -> None:
        """Connections were taken from a pool or given back."""
        self._connections.inc(change)

    def queue(self, *, waiting: int, running: int) -> None:
        """So many queries of this process wait for a worker, and so many have one."""
        self._waiting.set(waiting)
        self._turns.set(running)

    def overruns(self, total: int) -> None:
        """So many tasks were killed in this process so far."""
        with self._lock:
            more, self._overruns_seen = total - self._overruns_seen, total
        if more > 0:
            self._overruns.inc(more)

    def rendered(self, facts: Iterable[Fact]) -> tuple[bytes, str]:
        """Everything in Prometheus' text format, and its content type."""
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        shown = CollectorRegistry()
        folder = os.environ.get(FOLDER)
        if folder:
            MultiProcessCollector(shown, path=folder)  # type: ignore[no-untyped-call]
        shown.register(_Facts(facts))
        text = generate_latest(shown)
        return (text if folder else generate_latest(self._registry) + text), CONTENT_TYPE_PLAIN_0_0_4


def forget(pid: int) -> None:
    """A web process ended: what it had in use counts no more."""
    from prometheus_client.multiprocess import mark_process_dead

    if os.environ.get(FOLDER):
        mark_process_dead(pid)  # type: ignore[no-untyped-call]


class _Facts:
    def __init__(self, facts: Iterable[Fact]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for fact in self._facts:
            family = CounterMetricFamily if fact.kind == "counter" else GaugeMetricFamily
            made = family(fact.name, fact.text, labels=[fact.label] if fact.label else [])
            for value, number in fact.values.items():
                made.add_metric([value] if fact.label else [], number)
            yield made
