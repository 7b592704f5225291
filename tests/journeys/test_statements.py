"""The corpus of statements over HTTP, against the real flights: what is refused never runs."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from exchange import queries
from exchange.audit import log
from exchange.identity import Role
from exchange.operations import administering
from tests.market.server import EXAMPLE, DemoExchange
from tests.market.stand import problem

CORPUS = Path(__file__).resolve().parents[1] / "privacy" / "fixtures"
SLUG = "nyc/flights"
#: The corpus is written for flight numbers that are texts; in the example they are numbers.
FLIGHT_NUMBER = re.compile(r"\bflight\b")
#: The example declares bounds that the corpus lacks.
BOUNDED = re.compile(r"\b(hour|minute|day)\b")
OTHERWISE = {"SELECT count(*) AS n FROM flights GROUP BY left(flight, 1);": ("type_mismatch", 1, 49)}
EXPECTED = re.compile(r"-- ([a-z_]+) (\d+):(\d+)$")


@dataclass(frozen=True)
class Visitor:
    """An organisation with a grant for the flights, at the served exchange."""

    demo: DemoExchange
    org: str
    http: httpx.Client

    def post(self, path: str, sql: str) -> httpx.Response:
        """Ask with rho 0.1."""
        return self.http.post(path, json={"dataset": SLUG, "sql": sql, "rho": "0.1"})


@pytest.fixture(scope="module")
def visitor(demo_exchange: DemoExchange) -> Iterator[Visitor]:
    market = demo_exchange.market
    org = administering.create_organisation(market, name="corpus", role=Role.BUYER)["org"]
    token = administering.create_token(market, org="corpus", role=Role.BUYER)["token"]
    administering.credit_wallet(market, org="corpus", amount="100.00", currency="USD", reference="corpus")
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=demo_exchange.url, headers=headers, timeout=60) as http:
        asked = {"plan": "pay-as-you-go", "purpose": "research", "territory": "EU", "accept_licence": True}
        assert http.post(f"/v1/datasets/{SLUG}/requests", json=asked).status_code == 201
        yield Visitor(demo_exchange, org, http)


def refused() -> list[tuple[str, int, int, str]]:
    """Code, line, column and text of every statement that must be refused."""
    found, expected, lines = [], None, list[str]()
    for line in [*(CORPUS / "refused.sql").read_text().splitlines(), "-- end 0:0"]:
        match = EXPECTED.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        if expected is not None:
            found.append((*expected, "\n".join(lines).strip()))
        expected, lines = (match[1], int(match[2]), int(match[3])), []
    return found


def accepted() -> list[str]:
    lines = (CORPUS / "accepted.sql").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("--") and not FLIGHT_NUMBER.search(line)]


REFUSED = [case for case in refused() if not (case[0] == "missing_bounds" and BOUNDED.search(case[3]))]
ACCEPTED = accepted()


def traces(visitor: Visitor) -> tuple[int, int, Any]:
    """Refusals in the log, queries and money of the visitor."""

    def look(session: Any) -> tuple[int, int]:
        entry = log.audit_entry
        logged = select(func.count()).where(entry.c.org == visitor.org, entry.c.outcome == "refused")
        ran = select(func.count()).where(queries.query.c.org == visitor.org)
        return session.scalar(logged), session.scalar(ran)

    wallet = visitor.http.get("/v1/wallet").json()
    return *visitor.demo.market.store.read(look), wallet


def test_the_corpus_is_read_whole() -> None:
    assert len(REFUSED) > 190
    assert len(ACCEPTED) > 50


@pytest.mark.parametrize("part", range(8))
def test_no_refused_statement_runs(visitor: Visitor, part: int) -> None:
    """Quoted or run: refused with its code and place, logged, and nothing is charged or reserved."""
    chosen = REFUSED[part::8]
    before = traces(visitor)
    for case in chosen:
        sql = case[3]
        code, line, column = OTHERWISE.get(sql, case[:3])
        for path in ("/v1/quotes", "/v1/queries"):
            told = problem(visitor.post(path, sql), 422, code)
            assert (told["category"], told["line"], told["column"]) == ("sql", line, column), sql
    logged, ran, wallet = traces(visitor)
    assert (logged - before[0], ran, wallet) == (2 * len(chosen), before[1], before[2])


def test_every_accepted_statement_has_a_price(visitor: Visitor) -> None:
    for sql in ACCEPTED:
        reply = visitor.post("/v1/quotes", sql)
        assert reply.status_code == 201, (sql, reply.text)
        quote = reply.json()
        assert quote["rho_nano"] <= 100_000_000
        assert (quote["price"]["amount_minor"] == 0) is (quote["rho_nano"] == 0)


def test_answers_on_the_flights_are_near_the_truth(visitor: Visitor) -> None:
    """A count over all flights: within six sigma (2e-9) of the flights that the told limit keeps.

    The limit follows the profile's noise, so that another run may keep other flights: it is in the answer.
    """
    sql = "select count(*) as n from flights"
    sigma = visitor.post("/v1/quotes", sql).json()["columns"][0]["sigma"]
    answer = visitor.post("/v1/queries", sql).json()
    (length,) = answer["releases"][0]["lengths"]
    flights = runpy.run_path(str(EXAMPLE / "make_data.py"))["_read"]("flights.csv.zip")
    counted = flights.select(["tailnum"]).drop_null().group_by("tailnum").aggregate([([], "count_all")])
    planes = counted["count_all"].to_pylist()
    clipped = sum(flown > length for flown in planes)  # what is scaled down is rounded
    kept = sum(min(flown, length) for flown in planes)
    assert abs(answer["rows"][0][0] - kept) < 6 * sigma + clipped
