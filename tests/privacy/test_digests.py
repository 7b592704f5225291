"""What is named alike is alike: numbers kept from one statement serve another only where both have the same
exact numbers."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import privacy
from tests.privacy import test_relations as related
from tests.privacy.conftest import SALTED
from tests.privacy.generated import Statements
from tests.privacy.policies import PEOPLE_POLICY, PEOPLE_TYPES

POLICY = privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES)
HOMES = "FROM visits v JOIN homes h ON v.person = h.person GROUP BY h.town"
FIRST = "(SELECT *, row_number() OVER (PARTITION BY person ORDER BY ward) AS k FROM visits) AS t WHERE k = 1"
CLOSE = [
    f"SELECT h.town, count(*) AS n {HOMES}",
    f"SELECT h.town, count(*) AS n, count(h.rooms) AS m {HOMES}",
    f"SELECT h.town, count(*) AS n, count(h.rooms) AS m, sum(v.cost) AS s {HOMES}",
    f"SELECT sum(score) AS s FROM {FIRST}",
    f"SELECT sum(score) AS s, count(cost) AS n FROM {FIRST}",
    f"SELECT sum(score) AS s, count(*) FILTER (WHERE day = 1) AS n FROM {FIRST}",
    "SELECT ward, sum(coalesce(cost, 0)) AS s FROM visits GROUP BY ward",
    "SELECT ward, sum(coalesce(cost, 0)) AS s, count(*) AS n FROM visits GROUP BY ward",
    "SELECT ward, sum(coalesce(cost, 0)) AS s, sum(coalesce(score, 0)) AS t FROM visits GROUP BY ward",
    "SELECT ward, avg(coalesce(cost, 0)) AS s, count(*) AS n FROM visits GROUP BY ward",
    "SELECT ward, count(*) AS n FROM visits GROUP BY ward",
]
DRAWN = [Statements(seed).statement() for seed in range(2000, 2020)]
Numbers = dict[tuple[str, str], list[Any]]


def _numbers(sql: str, strategy: str, engine: Any, tables: dict[str, pa.Table]) -> Numbers:
    """The exact columns of a statement with their groups, by what they are named."""
    try:
        plan = privacy.plan(sql, POLICY, rho=1.0, options=privacy.Options(strategy=strategy))
    except privacy.Refused:
        return {}
    found: Numbers = {}
    for one in plan.releases:
        exact = engine(one.sql, {**tables, **SALTED})
        for name, digest in one.sums.items():
            found[one.bound_digest, digest] = exact.select([*one.release.keys, name]).to_pylist()
            found[one.bound_digest, digest] = [list(row.values()) for row in found[one.bound_digest, digest]]
    return found


@pytest.mark.parametrize("strategy", ["caps", "clip"])
def test_sums_of_one_name_are_the_same_numbers(strategy: str, engine: Any) -> None:
    shared = 0
    for seed in (3, 4):
        tables = related._shuffled(related._database(seed), 1)
        known: Numbers = {}
        for sql in [*CLOSE, *DRAWN]:
            for name, numbers in _numbers(sql, strategy, engine, tables).items():
                assert known.setdefault(name, numbers) == numbers, sql
                shared += known[name] is not numbers
    assert shared > 2
