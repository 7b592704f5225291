"""Fixtures that every suite may use: databases to run on.

``database_url`` runs a test twice, on SQLite and on PostgreSQL; ``postgres_url`` runs it on PostgreSQL alone.
Both hand out an empty database that nobody else uses and that is gone after the test. ``stand`` and its
relatives are exchanges with a published listing; ``demo_exchange`` is a served one with the flights example.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests import held
from tests.market.fixtures import (
    demo_exchange,
    lent_sandbox,
    postgres_server,
    prepared_markets,
    shared_sqlite_stand,
    shared_stand,
    sqlite_stand,
    stand,
)
from tests.market.private_s3 import PrivateS3, private_server

__all__ = [
    "demo_exchange",
    "lent_sandbox",
    "postgres_server",
    "prepared_markets",
    "shared_sqlite_stand",
    "shared_stand",
    "sqlite_stand",
    "stand",
]

ROOT = Path(__file__).resolve().parent.parent
POSTGRES, S3 = "EXCHANGE_TEST_POSTGRES_URL", "EXCHANGE_TEST_S3_URL"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was held, where anything of it was tried."""
    lines = list(held.told(terminalreporter.stats))
    if lines:
        terminalreporter.section("held")
        terminalreporter.write_line("\n".join(lines))


def only_here(reason: str) -> NoReturn:
    """What cannot be tested is skipped on a developer's machine, and fails where ``CI`` is set."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def service_address(name: str) -> str:
    """The address of a service of `make services`, from the environment or from ``.services/env``.

    Without the service a test is skipped on a developer's machine and fails where ``CI`` is set.
    """
    told = ROOT / ".services" / "env"
    started = dict(line.split("=", 1) for line in told.read_text().splitlines()) if told.exists() else {}
    address = os.environ.get(name) or started.get(name)
    if address:
        return address
    only_here(f"{name} is not set: run `make services`")


@pytest.fixture(scope="session")
def postgres_server_url() -> str:
    """A database of the test server in which a test may create others."""
    return service_address(POSTGRES)


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """An empty PostgreSQL database (SQLAlchemy URL, driver psycopg), dropped after the test."""
    import psycopg

    server = postgres_server_url.replace("postgresql+psycopg://", "postgresql://", 1)
    name = f"test_{secrets.token_hex(8)}"
    try:
        administration = psycopg.connect(server, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        pytest.fail(f"PostgreSQL does not answer (run `make services`): {error}", pytrace=False)
    with administration:
        administration.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{postgres_server_url.rpartition('/')[0]}/{name}"
        finally:
            administration.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def s3_url(monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place in the bucket of the S3 server, with the credentials for it in the environment."""
    address = service_address(S3)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", service_address(f"EXCHANGE_TEST_S3_{name}"))
    bucket, _, options = address.partition("?")
    return f"{bucket}/{secrets.token_hex(8)}?{options}"


@pytest.fixture(scope="module")
def private_s3() -> Iterator[PrivateS3]:
    """An S3 server that the tests of a module may kill, with the credentials for it in the environment."""
    service_address(S3)  # where there is none to start, it says so
    with private_server() as made:
        yield made


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on PostgreSQL (SQLAlchemy URL)."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'exchange.db'}"
