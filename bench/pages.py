"""The portal at size: how long pages take with ten thousand datasets and a million entries in the log.

    python -m bench.pages [--datasets 10k] [--entries 1m] [--database sqlite,postgresql] [--rounds 40]

The exchange is served as `exchange serve` does, without a worker beside it; one visitor at a time, over one
connection to 127.0.0.1, cookies and all, so that a figure is what a browser waits for the document. Entries
of the log are made as in `bench.search`. Datasets are entered by the catalogue's own functions with the
facets that publishing would give them, and only the commits are fewer; titles, descriptions and subjects are
in English, Chinese and Korean, a few words are common and most are rare. A page is asked for in several ways
in turn; "search" is `GET /v1/datasets` without the page around it. Beside the pages that are named, each
person's pages without a parameter are taken from the application's own map of addresses. The goals are a
95th percentile of 300 ms for pages and of 200 ms for searches.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy.orm import Session

from bench import books, report, road, search
from bench.events import rows_in
from catalog import listings
from catalog.schema import Column, TableSchema
from exchange import bootstrap, facets, migrate
from exchange.config import Settings
from exchange.identity import Role
from exchange.operations import administering
from exchange.store import Store
from exchange.web import create_app
from settlement import licences
from settlement.ledger import chart, entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE_GOAL_S, SEARCH_GOAL_S = 0.3, 0.2
SEED = 20_261_124
BATCH = 500
TOPICS = (
    *(
        "air quality",
        "traffic",
        "hospital stays",
        "school meals",
        "energy use",
        "bus rides",
        "rents",
        "noise",
    ),
    *("water levels", "parking", "vaccinations", "commuting", "prescriptions", "libraries", "taxi trips"),
    *("空气质量", "地铁客流量", "医院住院", "用电量", "버스 승하차", "병원 진료", "대기질", "주차장"),
)
PLACES = (
    *("Berlin", "Lyon", "Madrid", "Gdańsk", "Porto", "Leeds", "Boston", "Denver", "Osaka", "Nairobi", "Lima"),
    *("上海", "成都", "서울", "부산", "Zürich"),
)
SUBJECTS = (
    *(
        "transport",
        "health",
        "environment",
        "energy",
        "housing",
        "education",
        "mobility",
        "safety",
        "culture",
    ),
    *("公共交通", "城市数据", "대중교통", "보건", *(f"theme {number}" for number in range(200))),
)
UNITS = ("person", "patient", "household", "rider", "vehicle", "pupil", "meter", "tenant", "device", "firm")
TERRITORIES = (("*",), ("EU",), ("US",), ("EU", "US"), ("KR",), ("CN", "KR"), ("JP",), ("DE", "FR", "NL"))
WORDS = (
    "daily",
    "monthly",
    "by district",
    "since 2015",
    "with delays",
    "per hour",
    "of all registers",
    "open",
)
DOMAINS = 300
WORDS_ASKED = ("bus", "air quality", "a", "register00042", "空气质量", "버스", "traffic daily berlin", "none")


@dataclass(frozen=True)
class Page:
    """A page in several ways: what it is called, who asks, the addresses."""

    name: str
    who: str
    paths: tuple[str, ...]
    goal_s: float = PAGE_GOAL_S


@dataclass(frozen=True)
class Taken:
    """Seconds of one page on one database, and the largest document."""

    database: str
    page: str
    who: str
    p50_s: float
    p95_s: float
    worst_s: float
    goal_s: float
    bytes: int
    asked: int
    named: bool


def main(arguments: Sequence[str]) -> None:
    """Fill, serve and measure on each database, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__)
    parser.add_argument("--datasets", default="10k", help="as in 500 or 10k")
    parser.add_argument("--entries", default="1m", help="as in 20k or 1m")
    default = "sqlite,postgresql" if books.server_url() else "sqlite"
    parser.add_argument(
        "--database", default=default, type=books.databases, help="sqlite,postgresql or one of them"
    )
    parser.add_argument("--rounds", type=int, default=40, help="times that each page is asked for, at least")
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in documents")
    asked = parser.parse_args(arguments)
    figures: list[Taken] = []
    for name in asked.database:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, contextlib.ExitStack() as stack:
            url = (
                f"sqlite:///{folder}/pages.db"
                if name == "sqlite"
                else stack.enter_context(books.postgresql())
            )
            figures += measure(Path(folder), url, name, asked)
    headings = ("page", "p50 ms", "p95 ms", "worst ms", "KB", "goal")
    report.show("Pages", headings, [_row(one) for one in _told(figures)], asked.markdown)
    report.save("pages", {"arguments": vars(asked), "pages": [asdict(one) for one in figures]})


def _told(figures: Sequence[Taken]) -> Iterator[Taken]:
    """Each page that is named, and of each person's others the slowest: the rest is in the figures."""
    slowest: dict[tuple[str, str], Taken] = {}
    for one in figures:
        if one.named:
            yield one
            continue
        before = slowest.get((one.database, one.who))
        if before is None or one.p95_s > before.p95_s:
            slowest[one.database, one.who] = one
    for (_, who), one in slowest.items():
        yield replace(one, page=f"{who}, slowest other page: {one.page}")


def _row(one: Taken) -> tuple[str, ...]:
    times = (report.milliseconds(seconds) for seconds in (one.p50_s, one.p95_s, one.worst_s))
    met = "met" if one.p95_s <= one.goal_s else "missed"
    return (f"{one.database}: {one.page}", *times, f"{one.bytes / 1000:.0f}", met)


def measure(folder: Path, url: str, name: str, asked: argparse.Namespace) -> list[Taken]:
    """Every page on one database."""
    environ = {
        **os.environ,
        "EXCHANGE_HOME": str(folder / "home"),
        "EXCHANGE_DATABASE_URL": url,
        "EXCHANGE_RATE_OF_CALLER": "0",
        "EXCHANGE_RATE_OF_NETWORK": "0",
        "EXCHANGE_LAYOUT_PERCENT": "0",
        "EXCHANGE_SECOND_FACTOR": "0",
    }
    entered, datasets = rows_in(asked.entries), rows_in(asked.datasets)
    _say(f"{name}: writing {entered} entries")
    migrate.upgrade(url)
    with contextlib.closing(_Opened(Store(url))) as opened:
        search.fill(opened.store, entered)
    bootstrap.create(folder / "home", environ)
    market = bootstrap.open_market(Settings.from_env(environ))
    try:
        _say(f"{name}: entering {datasets} datasets")
        tokens = _people(market)
        slugs = fill(market.store, datasets, tokens.pop("provider org"))
        pages = [*named(slugs, entered), *of_persons(market)]
    finally:
        market.close()
    with road.serving(environ, "--no-worker") as address:
        return list(_asked(address, tokens, pages, name, asked.rounds))


class _Opened:
    """A store that closes as files do."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def close(self) -> None:
        """End its connections."""
        self.store.dispose()


def _people(market: Any) -> dict[str, str]:
    """A token for each role, and the provider's organisation."""
    found = {}
    for role in Role.PROVIDER, Role.BUYER, Role.OFFICER, Role.OPERATOR:
        made = administering.create_organisation(market, name=f"bench-{role}", role=role)
        found[str(role)] = administering.create_token(market, org=f"bench-{role}", role=role)["token"]
        if role == Role.PROVIDER:
            found["provider org"] = made["org"]
    return found


def fill(store: Store, count: int, org: str) -> list[str]:
    """Put so many datasets on offer; returns their names."""
    chance, now = random.Random(SEED), datetime.now(UTC) - timedelta(days=400)
    with Session(store.engine) as session, session.begin():
        terms = [_licence(session, org, number, now) for number in range(len(TERRITORIES))]
        for number in range(min(DOMAINS, count)):
            chart.open_domain(session, f"people:{number}")
            granted = entries.budget_granted(f"people:{number}", rho_nano=10**10, delta_pico=10**6)
            books.post(session, f"budget-{number}", granted, now)
    slugs = []
    for start in range(0, count, BATCH):
        with Session(store.engine) as session, session.begin():
            for number in range(start, min(start + BATCH, count)):
                slugs.append(_offer(session, chance, number, org, terms, now + timedelta(minutes=number)))
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("analyze" if store.engine.dialect.name == "sqlite" else "vacuum analyze")
    return slugs


def _licence(session: Session, org: str, number: int, now: datetime) -> str:
    terms = {"purposes": ["research"], "territories": list(TERRITORIES[number])}
    made = licences.publish_licence(
        session,
        id=f"lic_{number:024x}",
        org=org,
        title=f"Licence {number}",
        text="Text.",
        terms=terms,
        now=now,
    )
    return made.id


def _offer(
    session: Session, chance: random.Random, number: int, org: str, terms: list[str], now: datetime
) -> str:
    topic, place = TOPICS[search.skewed(chance, len(TOPICS))], chance.choice(PLACES)
    subjects = {SUBJECTS[search.skewed(chance, len(SUBJECTS))] for _ in range(chance.randrange(1, 6))}
    described = " ".join(chance.choices((*TOPICS, *WORDS, *SUBJECTS), k=40)) + f" register{number:05}"
    shown = listings.Presentation(
        f"{topic} {chance.choice(WORDS)} {place}",
        f"What was recorded in {place}: {described}.",
        tuple(subjects),
    )
    slug, unit = f"bench/data-{number:05}", chance.choice(UNITS)
    dataset, version = f"ds_{number:024x}", f"ver_{number:024x}"
    listings.create_dataset(session, dataset_id=dataset, slug=slug, org=org, presentation=shown, now=now)
    content = _content(chance, number, unit, terms[search.skewed(chance, len(terms))])
    listings.add_version(session, version_id=version, dataset_id=dataset, content=content, now=now)
    found = facets.of_version(session, listings.version_of(session, version))
    listings.publish(session, dataset_id=dataset, version_id=version, now=now, facets=found)
    return slug


def _content(chance: random.Random, number: int, unit: str, licence: str) -> listings.VersionContent:
    schema = TableSchema(
        "events",
        tuple(
            Column(name, kind) for name, kind in ((unit, "text"), ("place", "text"), ("amount", "integer"))
        ),
    )
    columns = {"place": {"keys": [f"place {key}" for key in range(20)]}, "amount": {"bounds": [0, 1000]}}
    policy = {
        "domain": f"people:{number % DOMAINS}",
        "rho": 10.0,
        "delta": 1e-6,
        "max_rho_per_query": chance.choice((0.001, 0.01, 0.1, 1.0)),
        "tables": {"events": {"unit": unit, "columns": columns}},
    }
    plan = {
        "name": "pay",
        "kind": "pay-per-query",
        "currency": chance.choice(("USD", "USD", "EUR", "KRW")),
        "fee": str(chance.choice((0, 1, 5, 100))),
        "per_rho": "20",
        "approval": "instant",
        "max_rho": "1.0",
    }
    table = listings.TableContent(schema, ((f"{number:064x}", 1_000),), 1_000)
    return listings.VersionContent((table,), policy, licence, (plan,))


def named(slugs: Sequence[str], entered: int) -> list[Page]:
    """The pages that the goals are about, in several ways each."""
    words = WORDS_ASKED
    chosen = "subject=transport&subject=health&territory=EU&territory=*&price=USD:100&accuracy=25"
    log = "/officer?"
    return [
        Page("catalogue", "", ("/", "/?sort=newest", "/?sort=name")),
        Page("catalogue: words", "", tuple(f"/?q={word}" for word in words)),
        Page("catalogue: facets", "", (f"/?{chosen}", "/?unit=person", "/?territory=EU&sort=newest")),
        Page("catalogue: words and facets", "", tuple(f"/?q={word}&{chosen}" for word in words)),
        Page("search", "buyer", tuple(f"/v1/datasets?q={word}" for word in words), SEARCH_GOAL_S),
        Page(
            "search: facets",
            "buyer",
            tuple(f"/v1/datasets?q={word}&{chosen}" for word in words),
            SEARCH_GOAL_S,
        ),
        Page("dataset", "buyer", tuple(f"/datasets/{slug}" for slug in slugs[:: max(1, len(slugs) // 40)])),
        Page(
            "log",
            "officer",
            (
                log,
                f"{log}kind=query.settled",
                f"{log}kind={search.RARE_KIND}",
                f"{log}dataset=city/data-0",
                f"{log}dataset=city/data-{search.DATASETS - 1}&kind=query.refused",
                f"{log}q=qry_{entered // 6:024x}",
                f"{log}since=2026-03-01&until=2026-03-02",
            ),
        ),
    ]


def of_persons(market: Any) -> list[Page]:
    """The pages of each person that take no parameter: those of the map that show them something."""
    app = create_app(market)
    with app.app_context():
        paths = sorted(
            rule.rule
            for rule in app.url_map.iter_rules()
            if rule.endpoint.startswith("portal.") and "GET" in (rule.methods or ()) and not rule.arguments
        )
    skipped = ("/", "/officer", "/sign-in", "/sign-in/with", "/sign-in/back", "/oauth/authorize")
    return [
        Page(path, who, (path,))
        for who in ("buyer", "provider", "officer", "operator")
        for path in paths
        if path not in skipped
    ]


def _asked(
    address: str, tokens: dict[str, str], pages: Sequence[Page], database: str, rounds: int
) -> Iterator[Taken]:
    people = {"": httpx.Client(base_url=address, timeout=60)}
    for who, token in tokens.items():
        people[who] = httpx.Client(base_url=address, timeout=60, headers={"Authorization": f"Bearer {token}"})
        signed = people[who].post("/sign-in", data={"token": token, "next": "/"})
        if signed.status_code != 302:
            raise RuntimeError(f"{who} was not let in: {signed.status_code}")
    try:
        for page in pages:
            taken = _taken(people[page.who], page, database, rounds)
            if taken is not None:
                _say(f"{database}: {page.who} {page.name} {taken.p95_s * 1000:.0f} ms")
                yield taken
    finally:
        for client in people.values():
            client.close()


def _taken(client: httpx.Client, page: Page, database: str, rounds: int) -> Taken | None:
    """The figures of a page; None where it is not for this person."""
    seconds, largest = [], 0
    for number in range(max(rounds, len(page.paths)) + 1):
        started = time.perf_counter()
        reply = client.get(page.paths[number % len(page.paths)])
        spent = time.perf_counter() - started
        if reply.status_code != 200:
            if len(page.paths) == 1:
                return None
            raise RuntimeError(f"{reply.url} answered {reply.status_code}")
        if number:  # the first opens what is kept open afterwards
            seconds.append(spent)
            largest = max(largest, len(reply.content))
    figures = (report.p50(seconds), report.p95(seconds), max(seconds), page.goal_s)
    named = not page.name.startswith("/")
    return Taken(database, page.name, page.who, *figures, largest, len(seconds), named)


def _say(told: str) -> None:
    print(told, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
