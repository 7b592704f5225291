"""Prepared markets: built once in a session for each database, then copied in the time of a file copy."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange import bootstrap
from exchange.config import Settings
from exchange.identity import Role
from exchange.operations import administering
from tests.market.stand import Stand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exchange.market import Market
    from privacy.sandbox import Sandbox

#: Person -> (organisation, role).
PEOPLE = {
    "provider": ("city", Role.PROVIDER),
    "rival": ("harbour", Role.PROVIDER),
    "buyer": ("acme", Role.BUYER),
    "other": ("globex", Role.BUYER),
    "poor": ("initech", Role.BUYER),
    "stranger": ("hooli", Role.BUYER),
    "officer": ("cnil", Role.OFFICER),
    "operator": ("house", Role.OPERATOR),
}
FUNDS = {"buyer": "100.00", "other": "100.00"}


@dataclass(frozen=True)
class Prepared:
    """A market as a template: its home, and on PostgreSQL the name of its database."""

    home: Path
    database: str
    tokens: dict[str, str]
    orgs: dict[str, str]


class Postgres:
    """The administration of a PostgreSQL server: databases made from templates, and dropped."""

    def __init__(self, server_url: str) -> None:
        self._url = server_url

    def create(self, template: str | None = None) -> str:
        """Create a database, as a copy of ``template`` where one is named; returns its name."""
        name = f"test_{secrets.token_hex(8)}"
        source = f' TEMPLATE "{template}"' if template else ""
        self._execute(f'CREATE DATABASE "{name}"{source}')
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, name: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"{self._url.rpartition('/')[0]}/{name}"

    def _execute(self, statement: str) -> None:
        import psycopg

        server = self._url.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(server, autocommit=True, connect_timeout=5) as administration:
            administration.execute(statement)


def environment(home: Path, database_url: str = "") -> dict[str, str]:
    """The settings of a market under test: no waiting for the reply grid, small files, one engine thread."""
    url = {"EXCHANGE_DATABASE_URL": database_url} if database_url else {}
    return {
        "EXCHANGE_HOME": str(home),
        "EXCHANGE_REPLY_GRID_MS": "0",
        "EXCHANGE_QUERY_THREADS": "1",
        "EXCHANGE_QUERY_WAIT_S": "30",
        "EXCHANGE_QUERY_PATIENCE_S": "60",
        "EXCHANGE_MAX_UPLOAD_BYTES": str(8 << 20),
        "EXCHANGE_SECOND_FACTOR": "0",
        **url,
    }


def prepare(home: Path, sandbox: Callable[[], Sandbox], postgres: Postgres | None) -> Prepared:
    """Build the template: organisations, tokens, one published listing, two buyers with grants and money."""
    database = postgres.create() if postgres else ""
    environ = environment(home, postgres.url(database) if postgres else "")
    bootstrap.create(home, environ)
    market = bootstrap.open_market(Settings.from_env(environ))
    try:
        tokens, orgs = _admit(market)
    finally:
        market.close()
    with contextlib.closing(Stand(environ, sandbox, tokens, orgs)) as stand:
        stand.publish()
        for who in ("buyer", "other", "poor"):
            assert stand.request(who).status_code == 201
    return Prepared(home, database, tokens, orgs)


@contextlib.contextmanager
def copied(
    prepared: Prepared,
    home: Path,
    sandbox: Callable[[], Sandbox],
    postgres: Postgres | None,
    objects_url: str = "",
) -> Iterator[Stand]:
    """A stand of one's own: a copy of the prepared market, gone afterwards; its objects where it is asked."""
    shutil.copytree(prepared.home, home)
    database = postgres.create(prepared.database) if postgres else ""
    environ = environment(home, postgres.url(database) if postgres else "")
    if objects_url:
        environ |= {"EXCHANGE_OBJECTS_URL": objects_url}
        objects = bootstrap.open_objects(Settings.from_env(environ))
        for path in (home / "objects").glob("??/??/*"):
            objects.put(path)
        shutil.rmtree(home / "objects")
    try:
        with contextlib.closing(Stand(environ, sandbox, dict(prepared.tokens), dict(prepared.orgs))) as stand:
            yield stand
    finally:
        if postgres:
            postgres.drop(database)


def _admit(market: Market) -> tuple[dict[str, str], dict[str, str]]:
    tokens, orgs = {}, {}
    for who, (name, role) in PEOPLE.items():
        orgs[who] = administering.create_organisation(market, name=name, role=role)["org"]
        tokens[who] = administering.create_token(market, org=name, role=role)["token"]
    for who, amount in FUNDS.items():
        administering.credit_wallet(
            market, org=PEOPLE[who][0], amount=amount, currency="USD", reference=f"opening-{who}"
        )
    return tokens, orgs
