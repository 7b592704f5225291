"""The main road under the clock: quote, query, repeat and verify over HTTP, then each step of a query.

    python -m bench.road [QUERIES] [--rows 10m]

The first table is what a buyer waits for, through a server on 127.0.0.1, with the time grid for answers as it
is set by default and without it: the demo's flights, and so many laid-out events, counted by 50 regions.
The second splits a query into its steps, in this process, so that no timing has to leave a server. Every
question is a new one, by a filter or by a cap of its own: none is answered from what was paid for before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

import privacy
from bench import data, events, report
from bench.peers import environments
from exchange import Exchange, bootstrap
from exchange.config import Settings
from exchange.identity import Role
from exchange.operations import administering, laying, listing, querying, quoting, results
from exchange.store import Store
from privacy import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

EXAMPLE = Path(__file__).parent.parent / "examples" / "flights"
WHOLE, ANSWER, EXACT, NOISE, COMMITS = "whole query", "answer", "exact part", "noise", "commits"
PLAN, STORED, RECEIPT, SYNCED = "plan", "store the result", "receipt", "of that, commit and wait for the disk"
BOOKS = ("T1 reserve", "T2 start", "T3 keep", "T4 settle")
_LAYOUT_S = 1_800.0


@dataclass(frozen=True)
class Road:
    """What is asked.

    Attributes:
        about: for people.
        slug: of the dataset; manifest: of its listing.
        ask: the question with a number, so that no two are alike: SQL and cap of rows in a group.
        laid: whether to wait for a layout.
    """

    about: str
    slug: str
    manifest: Path
    ask: Callable[[int], tuple[str, int | None]]
    rho: float
    laid: bool = False


def main(arguments: Sequence[str]) -> None:
    """Measure both tables on fresh homes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("queries", nargs="?", type=int, default=40)
    parser.add_argument("--rows", default="10m", help="of events; none: flights alone")
    asked = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    environments.FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=environments.FOLDER) as folder:
        roads = [flights()] + ([] if asked.rows == "none" else [laid_out(asked.rows, Path(folder))])
        for road in roads:
            figures[road.about] = measure(road, asked.queries)
    report.save("road", figures)


def flights() -> Road:
    """The demo's flights under a filter: too few rows for a layout to matter, and none serves it."""
    sql = "SELECT origin, count(*) AS n FROM flights WHERE dep_delay > {} GROUP BY origin"
    return Road(
        "flights by origin", "nyc/flights", manifest(), lambda number: (sql.format(number), None), 0.001
    )


def laid_out(rows: str, folder: Path) -> Road:
    """So many events, counted by 50 regions from a layout."""
    dataset = data.events_of(events.size_of(events.rows_in(rows)))
    columns = {name: column.document() for name, column in dataset.columns.items()} | {"happened_at": {}}
    os.link(dataset.file.resolve(), folder / "events.parquet")
    (folder / "LICENCE.txt").write_text("For benchmarks.", encoding="utf-8")
    place = folder / "listing.toml"
    place.write_text(_LISTING.format(unit=dataset.unit, columns=_toml(columns)), encoding="utf-8")
    return Road(f"{rows} events by region, laid out", "bench/events", place, _capped, 0.1, laid=True)


_LISTING = """
slug = "bench/events"
title = "Events"
description = "Made up."
keywords = ["bench"]
tables = {{ events = "events.parquet" }}
licence = {{ title = "Bench", text = "LICENCE.txt", purposes = ["research"], territories = ["US"] }}

[[plans]]
name = "pay-as-you-go"
kind = "pay-per-query"
currency = "USD"
fee = "0.05"
per_rho = "0.01"
approval = "instant"
max_rho = "500.0"

[policy]
domain = "bench:road"
rho = 1000.0
delta = 1e-6
max_rho_per_query = 1.0
profile_rho = 0.01

[policy.tables.events]
unit = "{unit}"
max_groups = 4
max_rows_per_group = 50
max_rows = 200

[policy.tables.events.columns]
{columns}
"""


def _toml(columns: Mapping[str, Mapping[str, Any]]) -> str:
    return "\n".join(
        f"{name} = {{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in declared.items())} }}"
        for name, declared in columns.items()
    )


def _capped(number: int) -> tuple[str, int | None]:
    sql = "SELECT region, count(*) AS n FROM events GROUP BY region"
    return sql, 30 + number


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


def measure(road: Road, queries: int) -> dict[str, Any]:
    """Both tables of a road, on the screen and as figures."""
    found: dict[str, Any] = {}
    for grid_ms in (250, 0):
        with tempfile.TemporaryDirectory() as folder:
            unlimited = {
                "EXCHANGE_RATE_OF_CALLER": "0",
                "EXCHANGE_RATE_OF_NETWORK": "0",
                "EXCHANGE_GRANT_APPROVAL_RHO": "0",
            }
            environ = {
                **os.environ,
                **unlimited,
                "EXCHANGE_HOME": folder,
                "EXCHANGE_REPLY_GRID_MS": str(grid_ms),
            }
            tokens = prepare(environ)
            found[f"grid {grid_ms} ms"] = over_http(environ, tokens, road, queries)
            if grid_ms == 0:
                found["steps"] = step_by_step(environ, road, queries)
    waits = [
        (f"{step}, {setting}", *quantiles(taken))
        for setting in found
        if setting != "steps"
        for step, taken in found[setting].items()
    ]
    report.show(f"What a buyer waits for, over HTTP: {road.about}", ("step", "p50 ms", "p95 ms"), waits)
    rows = shares(found["steps"], report.p50(found["grid 0 ms"]["query"]))
    report.show(f"Where a query's time goes: {road.about}", ("step", "p50 ms", "p95 ms", "share"), rows)
    return found


def over_http(
    environ: dict[str, str], tokens: dict[str, str], road: Road, queries: int
) -> dict[str, list[float]]:
    """Seconds of quote, query, repeat and verification, as the SDK sees them."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with serving(environ) as url:
        with Exchange(url, token=tokens["provider"]) as x:
            x.publish(road.manifest, progress=False)
            if road.laid:
                await_layout(x, road.slug)
        with Exchange(url, token=tokens["buyer"]) as x:
            bought = x.dataset(road.slug)
            bought.request(plan="pay-as-you-go", purpose="research", territory="US", accept_licence=True)
            for number in range(-3, queries):  # the first ones warm what is warm later
                sql, cap = road.ask(number)
                quote = timed(
                    seconds["quote"], partial(bought.quote, sql, rho=road.rho, max_rows_per_group=cap)
                )
                timed(seconds["query"], quote.run)
                timed(seconds["repeat"], partial(bought.query, sql, rho=road.rho, max_rows_per_group=cap))
        with Exchange(url, token=tokens["officer"]) as x:
            for _ in range(5):
                timed(seconds["verify whole log"], x.audit.verify)
    return {step: taken[3:] if len(taken) > queries else taken for step, taken in seconds.items()}


def step_by_step(environ: dict[str, str], road: Road, queries: int) -> dict[str, list[float]]:
    """Seconds of each step of a query in this process, with its functions wrapped in stop-watches."""
    seconds: dict[str, list[float]] = defaultdict(list)
    market = bootstrap.open_market(Settings.from_env(environ))
    market.engine.sandbox()
    actor = market.store.read(lambda session: buyer(session))
    if road.laid:
        view = market.store.read(lambda session: listing.published(session, road.slug))
        wait(lambda: laying.serving(market, view) is not None)

    def ask(number: int) -> None:
        sql, cap = road.ask(number)
        options = {} if cap is None else {"max_rows_per_group": cap}
        given = {"dataset": road.slug, "sql": sql, "rho": str(road.rho), "options": options}
        querying.run(market, actor, querying.RunQuery(quoting.question(given)), key=None)

    ask(queries)
    watched = [
        (listing, "_plan", PLAN),
        (Store, "perform", COMMITS),
        (market.store.engine.dialect, "do_commit", SYNCED),
        (answering, "_exact", EXACT),
        (answering, "perturb", NOISE),
        (privacy, "answer", ANSWER),
        (results, "keep", STORED),
        (querying, "receipt_of", RECEIPT),
    ]
    with contextlib.ExitStack() as stack:
        for place, name, label in watched:
            stack.enter_context(watch(place, name, seconds[label]))
        for number in range(queries + 1, 2 * queries + 1):
            timed(seconds[WHOLE], partial(ask, number))
    market.close()
    return dict(seconds)


def shares(seconds: Mapping[str, list[float]], over_http_s: float) -> list[tuple[str, str, str, str]]:
    """A row for each step of a query: milliseconds, and the share of what its buyer waits for without the
    time grid. The four commits follow one another; commits that only read take no time."""
    count = len(seconds[WHOLE])
    books = {name: seconds[COMMITS][place :: len(BOOKS)] for place, name in enumerate(BOOKS)}
    exact, answer = _each(seconds[EXACT], count), seconds[ANSWER]
    noise, synced = _each(seconds[NOISE], count), _each(seconds[SYNCED], count)
    steps = {
        PLAN: seconds[PLAN],
        EXACT: exact,
        NOISE: noise,
        "public part and checks of files": [a - e - n for a, e, n in zip(answer, exact, noise, strict=True)],
        STORED: seconds[STORED],
        **books,
        RECEIPT: seconds[RECEIPT],
    }
    told = [sum(parts) for parts in zip(*steps.values(), strict=True)]
    whole = seconds[WHOLE]
    steps["reading: listing, grant, licence, object"] = [w - t for w, t in zip(whole, told, strict=True)]
    steps["HTTP, JSON and client"] = [over_http_s - report.p50(whole)]
    steps["all four books"] = [sum(parts) for parts in zip(*books.values(), strict=True)]
    steps[SYNCED] = synced
    return [
        (name, *quantiles(taken), f"{100 * report.p50(taken) / over_http_s:.0f}%")
        for name, taken in steps.items()
    ]


def _each(seconds: list[float], count: int) -> list[float]:
    """The sum for each query, of what happens as often in each."""
    often = len(seconds) // count
    return [sum(seconds[place * often : (place + 1) * often]) for place in range(count)]


def trade(url: str, tokens: dict[str, str]) -> None:
    """Have the provider list the flights, wait for their layout, and have the buyer take a grant."""
    with Exchange(url, token=tokens["provider"]) as provider:
        provider.publish(manifest(), progress=False)
        await_layout(provider, "nyc/flights")
    with Exchange(url, token=tokens["buyer"]) as buying:
        buying.dataset("nyc/flights").request(
            plan="pay-as-you-go", purpose="research", territory="US", accept_licence=True
        )


def await_layout(x: Exchange, slug: str) -> None:
    """Wait until a published dataset is laid out, so that nothing is built beside what is timed."""
    wait(lambda: (x.dataset(slug).layout or {}).get("state") == "ready")


def wait(holds: Callable[[], bool], within_s: float = _LAYOUT_S) -> None:
    """Wait until it holds: something is done beside. TimeoutError where it takes longer."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("What was waited for did not come.")
        time.sleep(0.2)


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
def serving(environ: dict[str, str], *options: str) -> Iterator[str]:
    """A server process with its worker unless the options leave it out, until the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "exchange.cli", "serve", "--port", str(port), *options]
    ready = "healthz" if "--no-worker" in options else "readyz"
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/{ready}").status_code == 200:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main(sys.argv[1:])
