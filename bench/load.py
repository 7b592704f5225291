"""The exchange under load: reads and questions a second through web processes on one PostgreSQL.

    python -m bench.load [--seconds 10] [--clients 16] [--markdown]

First as many clients as told ask as fast as they are answered: the peak. Then requests come at times of
their own, whether or not those before were answered: at the goal's rate, or at four fifths of a peak that is
below it, and at three times the peak. Time runs from the moment at which a request was due. "done" counts
reads that were answered and questions that were settled in the books; who is turned away hears 429 or 503 and
when to come again, who would wait longer than a request may hears 202. Questions are all new ones over the
demo's flights; the time grid of replies is off, and clients share the machine with the exchange.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg

from bench import books, report, road

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GOALS = {"reads": 300, "questions": 100}
LONGEST_P99_S, KEPT_SHARE, OVERLOAD = 0.25, 0.8, 3
_SQL = "SELECT count(*) AS n FROM flights WHERE dep_delay > {} AND distance > {}"
_SETTINGS = {
    "EXCHANGE_RATE_OF_CALLER": "0",
    "EXCHANGE_RATE_OF_NETWORK": "0",
    "EXCHANGE_REPLY_GRID_MS": "0",
    "EXCHANGE_QUERY_WORKERS_OF_ONE": "2",
    "EXCHANGE_QUERY_QUEUE_OF_ONE": "64",
    "EXCHANGE_WEB_WORKERS": "2",
}
_CLIENTS_OVERLOADED = 64
_TIMEOUT_S = 60.0


@dataclass
class Heard:
    """Seconds of each good reply, and how often each other status came."""

    seconds: list[float] = field(default_factory=list)
    others: Counter[int] = field(default_factory=Counter)
    lasted: float = 0.0


@dataclass(frozen=True)
class Served:
    """A running exchange: its address, a buyer's token, its database."""

    url: str
    token: str
    database: str

    def settled(self) -> int:
        """How many queries are settled."""
        plain = self.database.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(plain) as connection:
            found = connection.execute("SELECT count(*) FROM query WHERE state = 'SETTLED'").fetchone()
        assert found is not None
        return int(found[0])


class Client:
    """One connection that is kept; what it sends is numbered, so that no two questions are alike."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._line = self._connect()

    def read(self, number: int) -> int:
        """The status of a page of the catalogue, of a listing, of a buyer's queries in turn."""
        return self._send("GET", ("/v1/datasets", "/v1/datasets/nyc/flights", "/v1/queries")[number % 3])

    def ask(self, number: int) -> int:
        """The status of a question."""
        sql = _SQL.format(number % 1000, number // 1000)
        return self._send("POST", "/v1/queries", {"dataset": "nyc/flights", "sql": sql, "rho": "0.0005"})

    def _send(self, method: str, path: str, body: dict[str, str] | None = None) -> int:
        headers = {"Authorization": f"Bearer {self._served.token}", "Content-Type": "application/json"}
        if body is not None:
            headers["Idempotency-Key"] = json.dumps(body)[:100]
        for _ in range(2):  # a server may close a connection that lay idle
            try:
                self._line.request(method, path, None if body is None else json.dumps(body), headers)
                reply = self._line.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):
                self._line.close()
                self._line = self._connect()
            else:
                return reply.status
        return 0

    def _connect(self) -> http.client.HTTPConnection:
        place = urlsplit(self._served.url)
        return http.client.HTTPConnection(str(place.hostname), place.port, timeout=_TIMEOUT_S)


KINDS: dict[str, Callable[[Client, int], int]] = {"reads": Client.read, "questions": Client.ask}


def main(arguments: Sequence[str]) -> None:
    """Measure both kinds, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each line of the table")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in documents")
    asked = parser.parse_args(arguments)
    if not books.server_url():
        print("no PostgreSQL: run `make services`", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, books.postgresql() as database:
        figures = measure(Path(folder), database, asked.seconds, asked.clients)
    headings = ("what", "due a second", "done a second", "p50 ms", "p99 ms", "turned away", "goal")
    report.show("Under load", headings, [line(one) for one in figures], asked.markdown)
    report.save("load", {"arguments": vars(asked), "load": figures})


def measure(folder: Path, database: str, seconds: float, clients: int) -> list[dict[str, object]]:
    """The figures of each kind: peak, goal, overload."""
    environ = {
        **os.environ,
        **_SETTINGS,
        "EXCHANGE_HOME": str(folder / "home"),
        "EXCHANGE_DATABASE_URL": database,
    }
    tokens, numbers = road.prepare(environ), itertools.count(1)
    with road.serving(environ) as url:
        road.trade(url, tokens)
        served = Served(url, tokens["buyer"], database)
        for send in KINDS.values():
            run(served, send, numbers, seconds=min(2.0, seconds), clients=clients)
        return [one for kind in KINDS for one in _of_kind(served, kind, numbers, seconds, clients)]


def _of_kind(
    served: Served, kind: str, numbers: Iterator[int], seconds: float, clients: int
) -> Iterator[dict[str, object]]:
    peak = _figure(served, kind, numbers, seconds, clients, None)
    yield peak
    most = float(str(peak["done_per_second"]))
    goal = GOALS[kind] if most >= GOALS[kind] else KEPT_SHARE * most
    for rate, many in ((goal, clients), (OVERLOAD * most, _CLIENTS_OVERLOADED)):
        yield _figure(served, kind, numbers, seconds, many, rate) | {"peak": most}


def _figure(
    served: Served, kind: str, numbers: Iterator[int], seconds: float, clients: int, rate: float | None
) -> dict[str, object]:
    print(f"{kind}, {'as fast as they go' if rate is None else f'{rate:.0f}/s'}", file=sys.stderr, flush=True)
    before = served.settled()
    heard = run(served, KINDS[kind], numbers, seconds=seconds, clients=clients, rate=rate)
    done = served.settled() - before if kind == "questions" else len(heard.seconds)
    seconds_each = heard.seconds or [float("nan")]
    return {
        "kind": kind,
        "due_per_second": rate,
        "done_per_second": done / heard.lasted,
        "p50_s": report.p50(seconds_each),
        "p99_s": report.p99(seconds_each),
        "others": {str(status): count for status, count in sorted(heard.others.items())},
    }


def run(
    served: Served,
    send: Callable[[Client, int], int],
    numbers: Iterator[int],
    *,
    seconds: float,
    clients: int,
    rate: float | None = None,
) -> Heard:
    """Let so many clients send for so long: at once after each reply, or at ``rate`` a second in all."""
    heard, lock, began = Heard(), threading.Lock(), time.perf_counter()
    dues = itertools.count()

    def work() -> None:
        client = Client(served)
        while (now := time.perf_counter()) < began + seconds:
            due = now
            if rate is not None:
                with lock:
                    due = began + next(dues) / rate
                if due >= began + seconds:
                    return
                time.sleep(max(0.0, due - now))
            with lock:
                number = next(numbers)
            status = send(client, number)
            with lock:
                if status == 200:
                    heard.seconds.append(time.perf_counter() - due)
                else:
                    heard.others[status] += 1

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard.lasted = time.perf_counter() - began
    return heard


def line(one: dict[str, object]) -> tuple[str, ...]:
    """A row of the table."""
    kind, rate, done = str(one["kind"]), one["due_per_second"], float(str(one["done_per_second"]))
    p50, p99, others = float(str(one["p50_s"])), float(str(one["p99_s"])), one["others"]
    assert isinstance(others, dict)
    shown = f"{rate:.0f}" if isinstance(rate, float | int) else "as they can"
    away = ", ".join(f"{count} of {status}" for status, count in others.items()) or "-"
    return (
        kind,
        shown,
        f"{done:.0f}",
        report.milliseconds(p50),
        report.milliseconds(p99),
        away,
        _judged(one, kind, done, p99),
    )


def _judged(one: dict[str, object], kind: str, done: float, p99: float) -> str:
    rate = one["due_per_second"]
    if rate is None:
        return f">= {GOALS[kind]}/s: {'met' if done >= GOALS[kind] else 'missed'}"
    peak = float(str(one["peak"]))
    if float(str(rate)) > peak:
        return f">= {KEPT_SHARE:.0%} of the peak: {'met' if done >= KEPT_SHARE * peak else 'missed'}"
    return f"p99 <= {LONGEST_P99_S * 1000:.0f} ms: {'met' if p99 <= LONGEST_P99_S else 'missed'}"


if __name__ == "__main__":
    main(sys.argv[1:])
