"""Several web and worker processes on one PostgreSQL: some die, it restarts, nothing told is lost."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from exchange import bootstrap, checks
from exchange.audit.checkpoint import parse_checkpoint
from exchange.client import Exchange
from exchange.config import Settings
from exchange.identity import Role
from exchange.market import Market
from exchange.operations import administering, auditing
from services import postgres
from tests.market.prepared import Postgres, environment
from tests.market.processes import Process, Web, children, ending, until
from tests.market.server import flights

TAKEN_OVER_S = 30.0
HEALED_S = 60.0  # on a machine that does much else; 15 where it does not


@dataclass
class Asked:
    """What clients sent and heard: key -> SQL, key -> the answer that was acknowledged, moments of errors."""

    sent: dict[str, str] = field(default_factory=dict)
    heard: dict[str, str] = field(default_factory=dict)
    errors: list[tuple[float, int, str]] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)
    clients: list[Future[None]] = field(default_factory=list)

    def raise_if_one_ended(self) -> None:
        """Clients ask until it is enough: one that ended before had something go wrong."""
        for one in self.clients:
            if one.done():
                one.result()
                raise AssertionError("a client stopped asking")


@dataclass(frozen=True)
class House:
    """A home and a database with organisations, before anything is published or served."""

    environ: dict[str, str]
    folder: Path
    market: Market
    tokens: dict[str, str]

    def swept_at(self) -> float:
        with contextlib.suppress(FileNotFoundError):
            return (self.market.settings.home / "swept").stat().st_mtime
        return 0.0

    def published(self) -> int:
        path = self.market.settings.log_path / "checkpoint"
        return parse_checkpoint(path.read_bytes()).size if path.exists() else 0

    def worker(self, name: str) -> Process:
        return Process(self.environ, self.folder, name, "worker")

    def web(self, name: str) -> Web:
        return Web(self.environ, self.folder, name)

    def holds(self) -> None:
        """Every law, and the published log with the books behind it."""
        assert [finding for law in checks.run(self.market) for finding in law.findings] == []
        key = (self.market.settings.log_path / "key").read_text()
        report = auditing.verify(self.market, log_key=key)
        assert (report.exit_code, report.findings) == (0, ())


@contextlib.contextmanager
def housed(database_url: str, folder: Path) -> Iterator[House]:
    environ = {
        **environment(folder / "home", database_url),
        "EXCHANGE_QUERY_TIMEOUT_S": "10",
        "EXCHANGE_MAX_UPLOAD_BYTES": str(64 << 20),
    }
    bootstrap.create(folder / "home", environ)
    market = bootstrap.open_market(Settings.from_env(environ))
    try:
        tokens = {}
        for name, role in (("nyc", Role.PROVIDER), ("acme", Role.BUYER), ("cnil", Role.OFFICER)):
            administering.create_organisation(market, name=name, role=role)
            tokens[name] = str(administering.create_token(market, org=name, role=role)["token"])
        administering.credit_wallet(market, org="acme", amount="1000.00", currency="USD", reference="opening")
        yield House(environ, folder, market, tokens)
    finally:
        market.close()


def list_flights(house: House, web: Web) -> None:
    """The demo's provider publishes, its buyer gets access."""
    with Exchange(web.url, token=house.tokens["nyc"]) as provider:
        provider.publish(flights(house.folder / "flights"))
    with Exchange(web.url, token=house.tokens["acme"]) as buyer:
        flights_of = buyer.dataset("nyc/flights")
        flights_of.request(plan="pay-as-you-go", purpose="research", territory="US", accept_licence=True)


def question(number: int) -> str:
    return f"select count(*) as n from flights where dep_delay > {number}"


def ask(house: House, url: str, key: str, sql: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {house.tokens['acme']}", "Idempotency-Key": key}
    body = {"dataset": "nyc/flights", "sql": sql, "rho": "0.0001"}
    return httpx.post(f"{url}/v1/queries", json=body, headers=headers, timeout=60)


def keep_asking(house: House, urls: list[str], client: int, asked: Asked) -> None:
    """One client: a new question with its own key after each that ended, the next server after each error."""
    numbers = itertools.count(client, 100)
    places = itertools.cycle(urls)
    url, number = next(places), next(numbers)
    while not asked.enough.is_set():
        key, sql = f"client-{number}", question(number)
        asked.sent[key] = sql
        try:
            reply = ask(house, url, key, sql)
        except httpx.HTTPError as error:
            asked.errors.append((time.monotonic(), 0, type(error).__name__))
            url = next(places)
            time.sleep(0.1)
            continue
        if reply.status_code == 200:
            asked.heard[key] = reply.json()["result_sha256"]
        elif reply.status_code == 202:  # it goes on: the same call again
            time.sleep(0.1)
            continue
        else:
            code = reply.json()["code"]
            if code != "in_progress":
                asked.errors.append((time.monotonic(), reply.status_code, code))
            assert code in ("in_progress", "query_failed") or reply.headers["Retry-After"], reply.text
            time.sleep(0.1)
            if code == "store_unavailable":
                continue
        number = next(numbers)


@contextlib.contextmanager
def clients(house: House, urls: list[str], count: int) -> Iterator[Asked]:
    """So many clients that ask until the block ends, which hears of what went wrong with them."""
    asked = Asked()
    with ThreadPoolExecutor(count) as pool:
        asking = [pool.submit(keep_asking, house, urls, client, asked) for client in range(count)]
        asked.clients += asking
        try:
            yield asked
        finally:
            asked.enough.set()
    for one in asking:
        one.result()


def assert_kept(house: House, url: str, asked: Asked) -> None:
    """What was acknowledged is there: the same key gives the same bytes, paid once."""
    assert len(asked.heard) > 3
    for key, digest in asked.heard.items():
        again = ask(house, url, key, asked.sent[key])
        assert again.status_code == 200, again.text
        assert again.json()["result_sha256"] == digest
        arrow = httpx.get(
            f"{url}/v1/queries/{again.json()['query']}/result",
            headers={"Authorization": f"Bearer {house.tokens['acme']}"},
        )
        assert hashlib.sha256(arrow.content).hexdigest() == digest


@pytest.mark.postgres
def test_one_of_each_is_killed_and_the_demo_goes_on(postgres_server: Postgres, tmp_path: Path) -> None:
    name = postgres_server.create()
    try:
        with housed(postgres_server.url(name), tmp_path) as house, ending() as running:
            leader = house.worker("first-worker")
            running.append(leader)
            until(lambda: house.swept_at() > 0, leader.told)
            webs = [house.web("first-web"), house.web("second-web")]
            standby = house.worker("second-worker")
            running += [*webs, standby]
            for web in webs:
                web.until_ready()
            list_flights(house, webs[0])

            with clients(house, [web.url for web in webs], 4) as asked:
                until(lambda: len(asked.heard) > 3)
                webs[0].kill()
                before, killed = house.swept_at(), time.time()
                leader.kill()
                until(lambda: house.swept_at() > max(before, killed), standby.told, within_s=TAKEN_OVER_S)
                heard = len(asked.heard)
                until(lambda: len(asked.heard) >= heard + 3)  # the second server answers
            until(lambda: house.published() == house.market.store.read(auditing.log.size), standby.told)

            assert_kept(house, webs[1].url, asked)
            with Exchange(webs[1].url, token=house.tokens["cnil"]) as officer:
                until(lambda: officer.audit.verify().good)
            house.holds()
            assert webs[1].stop() == 0
            assert standby.stop() == 0
    finally:
        postgres_server.drop(name)


def test_a_server_that_is_told_to_stop_finishes_what_it_began(tmp_path: Path) -> None:
    """And takes nothing new; its worker ends with it."""
    with housed("", tmp_path) as house, ending() as running:
        slow = {**house.environ, "EXCHANGE_REPLY_GRID_MS": "3000"}
        web = Web(slow, tmp_path, "web", "--worker")
        running.append(web)
        web.until_ready()
        list_flights(house, web)
        states = text("SELECT state FROM query")
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(ask, house, web.url, "last", question(1))
            until(lambda: house.market.store.read(lambda s: s.scalars(states).all()) == ["EXECUTING"])
            web.terminate()
            until(web.refuses)
            assert not reply.done()
            assert reply.result().status_code == 200, web.told()
        assert web.ended() == 0
        assert house.market.store.read(lambda s: s.scalars(states).all()) == ["SETTLED"]


def test_a_server_starts_another_worker_where_its_own_died(tmp_path: Path) -> None:
    with housed("", tmp_path) as house, ending() as running:
        web = Web(house.environ, tmp_path, "web", "--worker")
        running.append(web)
        until(lambda: house.swept_at() > 0, web.told)
        keeper = children(web.pid)[0]  # the first one: before the server has threads
        (first,) = children(keeper)
        os.kill(first, signal.SIGKILL)
        killed = time.time()
        until(lambda: house.swept_at() > killed, web.told)
        assert "another one starts" in web.told()
        (second,) = children(keeper)
        assert web.stop() == 0
        assert not any(Path(f"/proc/{one}").exists() for one in (keeper, second))


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[dict[str, str]]:
    """A PostgreSQL of this module's own, which it may restart."""
    state = postgres.start({})
    try:
        yield state
    finally:
        postgres.stop(state)


@pytest.mark.postgres
def test_the_database_restarts_under_load(own_cluster: dict[str, str], tmp_path: Path) -> None:
    server = Postgres(postgres.environment(own_cluster)["EXCHANGE_TEST_POSTGRES_URL"])
    with housed(server.url(server.create()), tmp_path) as house, ending() as running:
        web, worker = house.web("web"), house.worker("worker")
        running += [web, worker]
        web.until_ready()
        list_flights(house, web)

        with clients(house, [web.url], 4) as asked:
            until(lambda: len(asked.heard) > 3)
            postgres.restart(own_cluster, mode="immediate")
            heard = len(asked.heard)
            until(lambda: len(asked.heard) >= heard + 3)
        moments = [moment for moment, _, _ in asked.errors]
        assert moments, "nobody noticed"
        window = max(moments) - min(moments)
        print(f"error window {window:.2f} s, {len(moments)} errors, {len(asked.heard)} answers")
        assert window <= HEALED_S
        assert {(status, code) for _, status, code in asked.errors} <= {
            (503, "store_unavailable"),
            (500, "query_failed"),
        }
        assert_kept(house, web.url, asked)
        swept = house.swept_at()
        until(lambda: house.swept_at() > swept, worker.told)
        until(lambda: house.published() == house.market.store.read(auditing.log.size), worker.told)
        house.holds()
        assert (web.stop(), worker.stop()) == (0, 0)
