"""A stand on the market: one exchange under test, with a door for each person and eyes on its books."""

from __future__ import annotations

import base64
import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import argon2
import httpx
from sqlalchemy import select

from exchange import bootstrap, checks, data_keys, queries, worker
from exchange.audit import log
from exchange.config import Settings
from exchange.market import Market, OutsideEngine
from exchange.operations import auditing, sweeping
from exchange.operations.terms import budget
from exchange.persons.passwords import Passwords
from exchange.web import create_app
from settlement import ledger
from settlement.ledger import chart
from tests.market import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.log import Record
    from exchange.audit.verify import LogReport
    from privacy.sandbox import Sandbox

TUS = "application/offset+octet-stream"

#: What passwords cost under test: the same function with a hundredth of the memory.
CHEAP = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=32, time_cost=1, memory_cost=512, parallelism=1
)


class Clock:
    """The exchange's clock: the wall's, shifted as far as a test says."""

    def __init__(self) -> None:
        self.shift = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.shift

    def advance(self, **shift: float) -> None:
        """Let time pass: ``advance(minutes=16)``."""
        self.shift += timedelta(**shift)


class LentEngine(OutsideEngine):
    """The session's one sandbox, which no market closes."""

    def close(self) -> None:
        """The sandbox is lent: whoever started it ends it."""


class Stand:
    """One exchange over WSGI. ``tokens`` and ``orgs`` map a person to a token's text and an organisation."""

    def __init__(
        self,
        environ: Mapping[str, str],
        sandbox: Callable[[], Sandbox],
        tokens: dict[str, str],
        orgs: dict[str, str],
    ) -> None:
        self.environ = dict(environ)
        self.settings = Settings.from_env(self.environ)
        self.clock = Clock()
        opened = bootstrap.open_market(self.settings)
        opened.store.clock = self.clock
        self.market: Market = dataclasses.replace(
            opened, engine=LentEngine(sandbox, workers=2), passwords=Passwords(parameters=CHEAP)
        )
        self.app = create_app(self.market)
        self.app.logger.disabled = True
        self.http = httpx.Client(
            transport=httpx.WSGITransport(app=self.app), base_url="http://market.test", timeout=60
        )
        self.tokens, self.orgs = tokens, orgs

    def close(self) -> None:
        """End the connections."""
        self.http.close()
        self.market.close()

    def stored(self, sha256: str) -> str:
        """The object that holds the bytes of this digest, encrypted."""
        row = self.market.store.read(lambda session: data_keys.of_plain(session, sha256))
        assert row is not None
        return str(row.object)

    # doors

    def call(
        self, who: str | None, method: str, path: str, *, key: str | None = None, **rest: Any
    ) -> httpx.Response:
        """One request as ``who``: a person of ``tokens``, the text of a token, or None for nobody."""
        headers = dict(rest.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.tokens.get(who, who)}"
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.http.request(method, path, headers=headers, **rest)

    def get(self, who: str | None, path: str, **rest: Any) -> httpx.Response:
        """GET as ``who``."""
        return self.call(who, "GET", path, **rest)

    def post(
        self, who: str | None, path: str, body: object = None, *, key: str | None = None, **rest: Any
    ) -> httpx.Response:
        """POST a JSON body as ``who``."""
        return self.call(who, "POST", path, json={} if body is None else body, key=key, **rest)

    def question(self, sql: str = sample.COUNT, rho: object = "0.01", **more: Any) -> dict[str, Any]:
        """A question's body."""
        asked = {"dataset": sample.SLUG, "sql": sql, **({} if rho is None else {"rho": rho})}
        return {**asked, **more}

    def quote(
        self, who: str = "buyer", sql: str = sample.COUNT, rho: object = "0.01", **more: Any
    ) -> httpx.Response:
        """Ask for a quote."""
        return self.post(who, "/v1/quotes", self.question(sql, rho, **more))

    def run(
        self,
        who: str = "buyer",
        sql: str = sample.COUNT,
        rho: object = "0.01",
        *,
        key: str | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Quote and run in one."""
        return self.post(who, "/v1/queries", self.question(sql, rho, **more), key=key)

    def upload(self, who: str, data: bytes, name: str = "file") -> str:
        """Send a file whole; returns the upload's id."""
        meta = f"filename {base64.b64encode(name.encode()).decode()}"
        made = self.call(
            who, "POST", "/v1/uploads", headers={"Upload-Length": str(len(data)), "Upload-Metadata": meta}
        )
        assert made.status_code == 201, made.text
        where = made.headers["Location"]
        sent = self.call(
            who, "PATCH", where, content=data, headers={"Upload-Offset": "0", "Content-Type": TUS}
        )
        assert sent.status_code == 204, sent.text
        return where.rpartition("/")[2]

    def draft(
        self,
        who: str = "provider",
        manifest: dict[str, Any] | None = None,
        files: dict[str, bytes] | None = None,
    ) -> httpx.Response:
        """Send files and manifest; the version is a draft."""
        sent = {table: self.upload(who, data) for table, data in (files or sample.files()).items()}
        body = {"manifest": manifest or sample.manifest(), "files": sent, "manifest_sha256": "0" * 64}
        return self.post(who, "/v1/datasets", body)

    def publish(
        self,
        who: str = "provider",
        manifest: dict[str, Any] | None = None,
        files: dict[str, bytes] | None = None,
    ) -> dict[str, Any]:
        """Draft and publish; returns the draft's reply."""
        drafted = self.draft(who, manifest, files)
        assert drafted.status_code in (200, 201), drafted.text
        made: dict[str, Any] = drafted.json()
        done = self.post(who, f"/v1/datasets/{made['slug']}/publish", {"version": made["version"]})
        assert done.status_code == 200, done.text
        return made

    def request(
        self,
        who: str = "buyer",
        plan: str = "pay",
        *,
        slug: str = sample.SLUG,
        purpose: str = "research",
        territory: str = "EU",
        **more: Any,
    ) -> httpx.Response:
        """Request access, accepting the licence."""
        body = {"plan": plan, "purpose": purpose, "territory": territory, "accept_licence": True, **more}
        return self.post(who, f"/v1/datasets/{slug}/requests", body)

    def sign_in(self, who: str) -> httpx.Client:
        """A browser that has signed in on the portal."""
        browser = httpx.Client(
            transport=httpx.WSGITransport(app=self.app), base_url="http://market.test", follow_redirects=True
        )
        reply = browser.post("/sign-in", data={"token": self.tokens[who], "next": "/"})
        assert reply.status_code == 200, reply.text
        return browser

    # eyes

    def broken_laws(self) -> list[str]:
        """What breaks a law of the books; empty where all hold."""
        return [f"{law.id}: {finding}" for law in checks.run(self.market) for finding in law.findings]

    def entries(self, **filters: Any) -> list[Record]:
        """Entries of the log, oldest first, without reading through the officer's door."""

        def look(session: Any) -> list[Record]:
            return [r for r in log.entries(session) if all(r.document[k] == v for k, v in filters.items())]

        return self.market.store.read(look)

    def wallet(self, who: str = "buyer", currency: str = "USD") -> ledger.Balance:
        """The wallet of a buyer's organisation, in minor units."""
        account = chart.buyer_prepaid(self.orgs[who], currency)
        return self.market.store.read(lambda session: ledger.balance(session, account, currency))

    def budget(self, domain: str = sample.DOMAIN) -> dict[str, Any]:
        """A domain's account."""
        return self.market.store.read(lambda session: budget(session, domain))

    def allowance(self, who: str = "buyer") -> int:
        """What is left of a buyer's allowances, in nano-rho."""
        grants = self.get(who, "/v1/grants").json()["items"]
        return sum(grant["rho_nano_remaining"] for grant in grants)

    def books(self) -> dict[str, Any]:
        """What a refusal must not move: the balances of all accounts, and the state of every query."""

        def look(session: Any) -> dict[str, Any]:
            held = select(ledger.account).order_by(ledger.account.c.id)
            states = select(queries.query.c.id, queries.query.c.state).order_by(queries.query.c.id)
            return {
                "accounts": [tuple(row) for row in session.execute(held)],
                "queries": [tuple(row) for row in session.execute(states)],
            }

        return self.market.store.read(look)

    def states(self) -> list[str]:
        """The state of every query, in the order in which they were reserved."""
        found = select(queries.query.c.state).order_by(queries.query.c.reserved_at)
        return self.market.store.read(lambda session: list(session.scalars(found)))

    # the worker

    def sweep(self) -> dict[str, int]:
        """Resolve what dead processes left behind."""
        return sweeping.sweep(self.market)

    def publish_log(self) -> Checkpoint:
        """Take every leaf into the published tree, as the worker does."""
        return worker.publish(self.market, Settings.from_env(self.environ, worker=True))

    def verify(self, *, pinned: str | None = None) -> LogReport:
        """What an auditor's verification of log, database and books says."""
        key = (self.settings.log_path / "key").read_text()
        return auditing.verify(self.market, log_key=key, pinned=pinned)

    @property
    def home(self) -> Path:
        """The exchange's home folder."""
        return self.settings.home


def problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a refusal, checked for everything that RFC 9457 and we promise."""
    told = f"{reply.status_code} {reply.text[:600]}"
    assert reply.status_code == status, told
    assert reply.headers["Content-Type"] == "application/problem+json", told
    body: dict[str, Any] = reply.json()
    assert body["code"] == code, told
    assert body["status"] == status, told
    assert len(body["hint"]) > 10, told
    assert len(body["detail"]) > 10, told
    assert body["title"] == code.replace("_", " "), told
    assert body["request_id"] == reply.headers["X-Request-Id"], told
    assert re.search(r"Traceback|sqlalchemy|psycopg|duckdb", reply.text, re.IGNORECASE) is None, told
    return body
