"""The main road under the clock: quote, query, repeat and verify over HTTP, then each step of a query.

    python bench/road.py [QUERIES]

The first table is what a buyer waits for, through a server on 127.0.0.1, with the time grid for answers as it
is set by default and without it. The second splits a query into its steps, in this process, so that no timing
has to leave a server.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

import privacy
from bench import report
from exchange import Exchange, bootstrap
from exchange.config import Settings
from exchange.identity import Role
from exchange.operations import administering, listing, querying, quoting, results, settling
from exchange.store import Store
from privacy import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLE = Path(__file__).parent.parent / "examples" / "flights"
SQL = "SELECT origin, count(*) AS n FROM flights WHERE dep_delay > {} GROUP BY origin"


def main(queries: int) -> None:
    """Measure both tables on a fresh home."""
    figures: dict[str, Any] = {}
    for grid_ms in (250, 0):
        with tempfile.TemporaryDirectory() as folder:
            environ = {**os.environ, "EXCHANGE_HOME": folder, "EXCHANGE_REPLY_GRID_MS": str(grid_ms)}
            tokens = prepare(environ)
            figures[f"http, grid {grid_ms} ms"] = over_http(environ, tokens, queries)
            if grid_ms == 0:
                figures["steps"] = step_by_step(environ, queries)
    waits = [
        (f"{step}, {setting}", *quantiles(taken))
        for setting in figures
        if setting != "steps"
        for step, taken in figures[setting].items()
    ]
    report.show("What a buyer waits for, over HTTP", ("step", "p50 ms", "p95 ms"), waits)
    whole = report.p50(figures["steps"]["whole query"])
    steps = [
        (step, *quantiles(taken), f"{100 * report.p50(taken) / whole:.0f}%")
        for step, taken in figures["steps"].items()
    ]
    report.show("Where a query's time goes, in process", ("step", "p50 ms", "p95 ms", "share"), steps)
    report.save("road", figures)


def prepare(environ: dict[str, str]) -> dict[str, str]:
    """A home with three organisations and a filled wallet."""
    bootstrap.create(Path(environ["EXCHANGE_HOME"]), environ)
    market = bootstrap.open_market(Settings.from_env(environ))
    tokens = {}
    for role in (Role.PROVIDER, Role.BUYER, Role.OFFICER):
        administering.create_organisation(market, name=f"bench-{role}", role=role)
        tokens[str(role)] = administering.create_token(market, org=f"bench-{role}", role=role)["token"]
    administering.credit_wallet(
        market, org="bench-buyer", amount="10000.00", currency="USD", reference="bench"
    )
    market.close()
    return tokens


def over_http(environ: dict[str, str], tokens: dict[str, str], queries: int) -> dict[str, list[float]]:
    """Seconds of quote, query, repeat and verification, as the SDK sees them."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with serving(environ) as url:
        with Exchange(url, token=tokens["provider"]) as x:
            x.publish(manifest(), progress=False)
        with Exchange(url, token=tokens["buyer"]) as x:
            data = x.dataset("nyc/flights")
            data.request(plan="pay-as-you-go", purpose="research", territory="US", accept_licence=True)
            for number in range(queries):
                sql = SQL.format(number)
                quote = timed(seconds["quote"], partial(data.quote, sql, rho=0.001))
                timed(seconds["query"], quote.run)
                timed(seconds["repeat"], partial(data.query, sql, rho=0.001))
        with Exchange(url, token=tokens["officer"]) as x:
            for _ in range(5):
                timed(seconds["verify whole log"], x.audit.verify)
    return dict(seconds)


def step_by_step(environ: dict[str, str], queries: int) -> dict[str, list[float]]:
    """Seconds of each step of a query in this process, with its functions wrapped in stop-watches."""
    seconds: dict[str, list[float]] = defaultdict(list)
    market = bootstrap.open_market(Settings.from_env(environ))
    market.engine.sandbox()
    actor = market.store.read(lambda session: buyer(session))
    watched = [
        (listing, "_planned", "plan"),
        (querying, "_reserve", "T1 reserve: checks and postings"),
        (settling, "start", "T2 start"),
        (answering, "perturb", "noise"),
        (results, "keep", "store the result"),
        (settling, "keep", "T3 keep"),
        (settling, "settle", "T4 settle"),
        (querying, "receipt_of", "receipt"),
        (privacy, "answer", "engine, noise and public part"),
        (Store, "perform", "all commits, with what they hold"),
    ]
    with contextlib.ExitStack() as stack:
        for place, name, label in watched:
            stack.enter_context(watch(place, name, seconds[label]))
        for number in range(queries):
            given = {"dataset": "nyc/flights", "sql": SQL.format(1000 + number), "rho": "0.001"}
            command = querying.RunQuery(quoting.question(given))
            timed(seconds["whole query"], partial(querying.run, market, actor, command, key=None))
    market.close()
    performed = seconds["all commits, with what they hold"]
    grouped = [sum(performed[i : i + 4]) for i in range(0, len(performed), 4)]
    return {**seconds, "all commits, with what they hold": grouped}


def buyer(session: Any) -> Any:
    """The bench's buyer as an actor."""
    from exchange import identity

    org, role = identity.find_organisation(session, "bench-buyer")
    return identity.Actor(ref="bench", org=org, name="bench-buyer", role=role)


@contextlib.contextmanager
def watch(place: Any, name: str, seconds: list[float]) -> Iterator[None]:
    """Time every call of a function while inside."""
    original = getattr(place, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        return timed(seconds, lambda: original(*args, **kwargs))

    setattr(place, name, watched)
    try:
        yield
    finally:
        setattr(place, name, original)


def timed(seconds: list[float], run: Callable[[], Any]) -> Any:
    """Run and note how long it took."""
    started = time.perf_counter()
    try:
        return run()
    finally:
        seconds.append(time.perf_counter() - started)


def quantiles(seconds: list[float]) -> tuple[str, str]:
    """p50 and p95 in milliseconds."""
    return f"{report.p50(seconds) * 1000:.1f}", f"{report.p95(seconds) * 1000:.1f}"


def manifest() -> Path:
    """The example's manifest, with its data made if it is not there."""
    if not (EXAMPLE / "data" / "flights.parquet").exists():
        runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](EXAMPLE / "data")
    return EXAMPLE / "listing.toml"


@contextlib.contextmanager
def serving(environ: dict[str, str]) -> Iterator[str]:
    """A server process with its worker, until the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "exchange.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
