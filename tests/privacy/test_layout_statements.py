"""Statements of every shape over a layout: the exact table is bit for bit that of the plain files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.algebra import tables_of
from privacy.bounding import STRATEGIES
from tests.privacy.conftest import SALTED
from tests.privacy.policies import PEOPLE_POLICY, PEOPLE_TYPES
from tests.privacy.test_relations import STATEMENTS, _database, _shuffled

FIXTURES = Path(__file__).parent / "fixtures"
CAPPED_ACROSS_UNITS = (  # what is ranked has columns of two units, with columns before and behind these
    "SELECT a.ward, count(*) AS n FROM visits a JOIN (SELECT v.person AS p, v.cost AS c, r.age AS t "
    "FROM visits v JOIN registry r ON v.person = r.id) b ON a.person = b.p "
    "WHERE b.t < a.cost AND b.c < a.day GROUP BY a.ward"
)


def _shapes(name: str) -> list[str]:
    """The first statements under each heading."""
    found: list[str] = []
    left = 0
    for line in (FIXTURES / name).read_text().splitlines():
        left = 2 if line.startswith("--") else left - 1
        if left >= 0 and not line.startswith("--"):
            found.append(line)
    return found


def _run(sql: str, files: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.execute("SET disabled_optimizers = 'top_n_window_elimination'; SET TimeZone = 'UTC'")
        for name, paths in files.items():
            connection.execute(f'CREATE VIEW "{name}" AS FROM read_parquet({list(paths)})')
        connection.register("_salt", SALTED["_salt"])
        rows = connection.sql(sql).to_arrow_table().to_pylist()
    return [{name: _in_order(value) for name, value in row.items()} for row in rows]


def _in_order(value: Any) -> Any:
    return sorted(value, key=lambda pair: pair["b"]) if isinstance(value, list) else value


def _compare(
    sql: str, policy: privacy.Policy, files: Mapping[str, str], laid: privacy.Layout, way: str
) -> int:
    """How many exact tables are the same."""
    plan = privacy.plan(sql, policy, rho=0.1, options=privacy.Options(strategy=way))
    given = {name: (path,) for name, path in files.items()}
    for one in plan.releases:
        served = laid.serving(one.lowered.aggregate, given)
        assert served is not None, sql
        read = {name: given[name] for name in tables_of(one.question.input)}
        assert _run(one.candidates_sql, read) == _run(served.sql, served.files), (way, sql)
    return len(plan.releases)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[privacy.Sandbox]:
    with privacy.Sandbox(privacy.Limits(), workers=1) as made:
        yield made


def test_statements_over_related_tables(sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    policy = privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES)
    files = {}
    for name, table in _shuffled(_database(0), 1).items():
        files[name] = str(tmp_path / f"{name}.parquet")
        pq.write_table(table, files[name])
    laid = privacy.layout(policy, files, tmp_path / "laid", sandbox=sandbox, rows_in_part=60)
    compared = 0
    for place, sql in enumerate([CAPPED_ACROSS_UNITS, *STATEMENTS]):
        compared += _compare(sql, policy, files, laid, STRATEGIES[place % len(STRATEGIES)])
    assert compared > 60


def test_statements_over_flights(
    flights_policy: privacy.Policy, flights_files: dict[str, str], sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    files = {**flights_files, "flights": str(tmp_path / "flights.parquet")}
    pq.write_table(pq.read_table(flights_files["flights"]).slice(0, 6_000), files["flights"])
    laid = privacy.layout(flights_policy, files, tmp_path / "laid", sandbox=sandbox, rows_in_part=4_000)
    compared = 0
    for place, sql in enumerate(_shapes("accepted.sql")):
        compared += _compare(sql, flights_policy, files, laid, STRATEGIES[place % len(STRATEGIES)])
    assert compared > 30
