"""What raises in plain SQL, asked of two markets that differ by one person: nobody is told of the person.

The list is `tests/privacy/fixtures/data_dependent_errors.sql`. Compared are quote, status, error, charge,
what is left to spend, columns and, where groups are declared, rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy.sandbox import Sandbox
from tests.journeys.test_neighbours import told, without_ids
from tests.market import sample
from tests.market.prepared import Postgres, Prepared, copied
from tests.market.stand import Stand
from tests.privacy import dreadful as listed

Prepare = Callable[[str], tuple[Prepared, Postgres | None]]
Pair = tuple[Stand, Stand]

SLUG = "city/errors"
RHO = "0.01"
LONGEST = 65_000
"""Bytes of a text that a market takes."""
#: Of an answer, what must be equal; its numbers differ by their noise.
SHOWN = ("state", "charged", "rho_nano", "repeated", "columns")


def parquet(made: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(made, sink)
    return sink.getvalue()


def manifest() -> dict[str, Any]:
    policy = {**listed.POLICY.document, "domain": "people:errors-market", "max_rho_per_query": 1.0}
    return sample.manifest(
        slug=SLUG,
        tables={"t": "t.parquet", "p": "p.parquet"},
        policy=policy,
        plans=[sample.plan(max_rho="10.0")],
    )


@pytest.fixture(scope="module")
def neighbours(
    prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two markets with the same listing, one of them with the victim's rows."""
    prepared, _ = prepared_markets("sqlite")
    folder = tmp_path_factory.mktemp("errors")
    sides = {"with": [*listed.crowd(), *listed.victim(LONGEST)], "without": listed.crowd()}
    with (
        copied(prepared, folder / "with", lent_sandbox, None) as one,
        copied(prepared, folder / "without", lent_sandbox, None) as two,
    ):
        for stand, rows in zip((one, two), sides.values(), strict=True):
            files = {name: parquet(made) for name, made in listed.tables(rows).items()}
            stand.publish(manifest=manifest(), files=files)
            assert stand.request(slug=SLUG).status_code in (200, 201)
        yield one, two


def asked(stand: Stand, sql: str) -> dict[str, Any]:
    """A quote, an answer, and what is left to spend after it: all but the numbers and the names of things."""
    body = {"dataset": SLUG, "sql": sql, "rho": RHO}
    quoted, answered = stand.post("buyer", "/v1/quotes", body), stand.post("buyer", "/v1/queries", body)
    reply = answered.json()
    shown = {name: reply[name] for name in SHOWN} if answered.status_code == 200 else without_ids(reply)
    if answered.status_code == 200 and no_row_is_chosen(sql):
        shown["row_count"] = reply["row_count"]
    return {"quote": told(quoted), "status": answered.status_code, "shown": shown, "left": left_of(stand)}


def left_of(stand: Stand) -> dict[str, Any]:
    """What the buyer may still spend, of rho and of money."""
    grants = stand.get("buyer", "/v1/grants").json()["items"]
    rho = [{name: one[name] for name in one if name.startswith("rho")} for one in grants]
    return {"rho": rho, "money": stand.get("buyer", "/v1/wallet").json()["balances"]}


def no_row_is_chosen(sql: str) -> bool:
    """Whether the answer has a row for each declared group, and no threshold or HAVING chooses."""
    plan, _ = listed.quote(sql)
    assert plan is not None
    return "HAVING" not in sql and all(one.release.threshold is None for one in plan.releases)


@pytest.mark.parametrize("sql", listed.STATEMENTS)
def test_neighbours_are_asked_alike(neighbours: Pair, sql: str) -> None:
    one, two = (asked(stand, sql) for stand in neighbours)
    assert one == two
    assert one["status"] in (200, 422)


def test_the_neighbours_are_charged_and_differ(neighbours: Pair) -> None:
    """What is compared is there: rho and money are spent, and one of the markets has the victim."""
    rows = [stand.get("provider", f"/v1/datasets/{SLUG}/profile").json()["tables"] for stand in neighbours]
    assert rows[0] != rows[1]
    before = [left_of(stand) for stand in neighbours]
    for stand in neighbours:
        asked(stand, "SELECT count(*) AS n, sum(i) AS s FROM t WHERE j / 3 = 1")
    after = [left_of(stand) for stand in neighbours]
    assert after[0] == after[1]
    assert after[0]["rho"] != before[0]["rho"]
    assert after[0]["money"] != before[0]["money"]
