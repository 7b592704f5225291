"""The fixtures of the market under test; ``tests/conftest.py`` hands them to every suite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from privacy.sandbox import Limits, Sandbox
from tests.market.prepared import Postgres, Prepared, copied, prepare
from tests.market.server import DemoExchange, served
from tests.market.stand import Stand

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
Stands = Callable[[str], "Prepared"]


@pytest.fixture(scope="session")
def lent_sandbox() -> Iterator[Callable[[], Sandbox]]:
    """One sandbox for every market of the session, started with the first query."""
    made: list[Sandbox] = []
    lock = threading.Lock()

    def start() -> Sandbox:
        with lock:
            if not made:
                made.append(Sandbox(Limits(threads=1, timeout_s=30.0), workers=2))
            return made[0]

    yield start
    for sandbox in made:
        sandbox.close()


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Postgres:
    """The PostgreSQL server of the services."""
    return Postgres(request.getfixturevalue("postgres_server_url"))


@pytest.fixture(scope="session")
def prepared_markets(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    lent_sandbox: Callable[[], Sandbox],
) -> Iterator[Callable[[str], tuple[Prepared, Postgres | None]]]:
    """A function that gives the template of a kind of database, built when it is first asked for."""
    made: dict[str, tuple[Prepared, Postgres | None]] = {}

    def get(kind: str) -> tuple[Prepared, Postgres | None]:
        if kind not in made:
            server: Postgres | None = (
                request.getfixturevalue("postgres_server") if kind == "postgres" else None
            )
            home = tmp_path_factory.mktemp(f"prepared-{kind}") / "home"
            made[kind] = prepare(home, lent_sandbox, server), server
        return made[kind]

    yield get
    for prepared, server in made.values():
        if server:
            server.drop(prepared.database)


@pytest.fixture(params=BOTH)
def stand(
    request: pytest.FixtureRequest,
    prepared_markets: Callable[[str], tuple[Prepared, Postgres | None]],
    lent_sandbox: Callable[[], Sandbox],
    tmp_path: Path,
) -> Iterator[Stand]:
    """A market of the test's own, once on SQLite and once on PostgreSQL."""
    prepared, server = prepared_markets(request.param)
    with copied(prepared, tmp_path / "market", lent_sandbox, server) as made:
        yield made


@pytest.fixture
def sqlite_stand(
    prepared_markets: Callable[[str], tuple[Prepared, Postgres | None]],
    lent_sandbox: Callable[[], Sandbox],
    tmp_path: Path,
) -> Iterator[Stand]:
    """A market of the test's own on SQLite: for what does not depend on the database."""
    prepared, server = prepared_markets("sqlite")
    with copied(prepared, tmp_path / "market", lent_sandbox, server) as made:
        yield made


@pytest.fixture(scope="module", params=BOTH)
def shared_stand(
    request: pytest.FixtureRequest,
    prepared_markets: Callable[[str], tuple[Prepared, Postgres | None]],
    lent_sandbox: Callable[[], Sandbox],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stand]:
    """One market for all tests of a module that leave it as it was, on both databases."""
    prepared, server = prepared_markets(request.param)
    with copied(prepared, tmp_path_factory.mktemp("shared") / "market", lent_sandbox, server) as made:
        yield made


@pytest.fixture(scope="module")
def shared_sqlite_stand(
    prepared_markets: Callable[[str], tuple[Prepared, Postgres | None]],
    lent_sandbox: Callable[[], Sandbox],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stand]:
    """One market on SQLite for all tests of a module that leave it as it was."""
    prepared, server = prepared_markets("sqlite")
    with copied(prepared, tmp_path_factory.mktemp("shared") / "market", lent_sandbox, server) as made:
        yield made


@pytest.fixture(scope="session")
def demo_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoExchange]:
    """A served exchange with the flights example, a buyer's token and an officer's."""
    with served(tmp_path_factory.mktemp("demo")) as made:
        yield made
