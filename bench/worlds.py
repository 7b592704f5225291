"""Worlds to ask: files, the policy that a provider would declare for them, a layout, and the questions.

Questions over declared keys and joins of declared tables are ``declared``; keys that are computed, row
filters and features of a unit are ``undeclared``. Every question spends epsilon 1 at delta 1e-6.
"""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

import privacy
from bench import data, events, tpch
from bench.peers import environments, questions
from catalog.manifest import read_manifest
from privacy.schemas import parquet_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

EPSILON, DELTA = 1.0, 1e-6
PROFILE_RHO = 0.01
LAYOUTS = environments.FOLDER / "layouts"
EXAMPLE = Path(__file__).parent.parent / "examples" / "flights"
DECLARED, UNDECLARED, FLIGHTS = "declared", "undeclared", "flights"


@dataclass(frozen=True)
class Question:
    """A statement that is asked of our engine as it is asked of plain DuckDB.

    Attributes:
        id: short, as in ``Q02``; title: for people.
        kind: the class whose geometric mean it counts in.
    """

    id: str
    title: str
    sql: str
    kind: str = DECLARED
    options: privacy.Options | None = None


@dataclass(frozen=True)
class World:
    """Tables with a policy.

    Attributes:
        name: of the layout's folder too.
        rows: of the private table that is asked most.
    """

    name: str
    rows: int
    files: Mapping[str, Path]
    policy: privacy.Policy
    questions: tuple[Question, ...]

    @property
    def folder(self) -> Path:
        """Where the layout is kept."""
        return LAYOUTS / self.name

    @property
    def layout(self) -> privacy.Layout:
        """The layout, built where it is not there yet, opened once.

        Raises:
            EngineFailed: it cannot be built; tried once.
        """
        if isinstance(self._built, privacy.EngineFailed):
            raise self._built
        return self._built

    @cached_property
    def _built(self) -> privacy.Layout | privacy.EngineFailed:
        try:
            return privacy.layout(self.policy, self.files, self.folder, progress=_building)
        except privacy.EngineFailed as failed:
            return failed

    @cached_property
    def profile(self) -> privacy.Profile:
        """A contribution profile: what an exchange plans with."""
        return privacy.profile(self.policy, self.files)

    def plan(self, question: Question, *, profiled: bool = False) -> privacy.Plan:
        """The question's plan: with its caps, or as the planner chooses with a contribution profile."""
        if profiled:
            return privacy.plan(question.sql, self.policy, epsilon=EPSILON, profile=self.profile)
        return privacy.plan(question.sql, self.policy, epsilon=EPSILON, options=question.options)

    @cached_property
    def private_files(self) -> frozenset[str]:
        """Paths of what is protected."""
        private = {table.name for table in self.policy.tables.values() if table.private}
        return frozenset(str(path.resolve()) for name, path in self.files.items() if name in private)

    def connection(self, threads: int = 2) -> duckdb.DuckDBPyConnection:
        """Plain DuckDB over the original files."""
        connection = duckdb.connect(config={"threads": threads})
        connection.execute("SET enable_progress_bar = false")
        for name, path in self.files.items():
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")
        return connection


def _building(about: str, share: float) -> None:
    print(f"  layout: {share:.0%} {about}", file=sys.stderr, flush=True)


def events_world(size: events.Size) -> World:
    """So many events."""
    dataset = data.events_of(size)
    columns = {name: column.document() for name, column in dataset.columns.items()}
    caps = {"max_groups": 4, "max_rows_per_group": 50, "max_rows": 200}
    tables = {"events": {"unit": dataset.unit, **caps, "columns": columns}}
    return _world(f"events-{size.name}", size.rows, {"events": dataset.file}, tables, _EVENTS)


def tpch_world(scale: int) -> World:
    """TPC-H; rows are those of lineitem, about."""
    return _world(f"tpch-{scale}", 6_000_000 * scale, tpch.tables(scale), tpch.document(), _TPCH)


def flights_world() -> World:
    """The demo's flights, with its own policy."""
    folder = EXAMPLE / "data"
    if not (folder / "flights.parquet").exists():
        runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](folder)
    files = {table: folder / f"{table}.parquet" for table in ("flights", "weather", "planes")}
    document = {**read_manifest(EXAMPLE / "listing.toml").policy}
    document["tables"] = {name: one for name, one in document["tables"].items() if name in files}
    policy = privacy.Policy.from_document(document, _schemas(files))
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT count(*) FROM '{files['flights']}'").fetchall()
    return World("flights", found[0][0], files, policy, _FLIGHTS)


def _world(
    name: str, rows: int, files: Mapping[str, Path], tables: Mapping[str, Any], asked: tuple[Question, ...]
) -> World:
    document = {
        "domain": f"bench:{name}",
        "rho": 1000,
        "max_rho_per_query": 100,
        "profile_rho": PROFILE_RHO,
        "delta": DELTA,
        "max_delta_per_query": DELTA / 2,
        "tables": tables,
    }
    return World(name, rows, files, privacy.Policy.from_document(document, _schemas(files)), asked)


def _schemas(files: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {name: parquet_schema(path) for name, path in files.items()}


def _shared(id_: str) -> Question:
    """A question that the peers get too."""
    (one,) = (each for each in questions.QUESTIONS if each.id.split()[0] == id_)
    number, title = one.id.split(maxsplit=1)
    caps = one.caps
    options = privacy.Options(caps.groups, caps.rows_per_group, caps.rows)
    return Question(number, title, one.sql(), options=options)


def _undeclared(id_: str, title: str, sql: str) -> Question:
    return Question(id_, title, sql, UNDECLARED, privacy.Options(20, 10, 200))


_EVENTS = (
    Question("Q01", "count", "SELECT count(*) AS n FROM events"),
    *(_shared(f"Q{number:02d}") for number in (2, 3, 4, 5, 6, 7, 12, 13)),
    _undeclared(
        "U01",
        "count by month",
        "SELECT date_trunc('month', happened_at) AS m, count(*) AS n FROM events GROUP BY m",
    ),
    _undeclared(
        "U02",
        "count, avg by band of amount",
        "SELECT floor(amount / 100) AS band, count(*) AS n, avg(amount) AS a FROM events GROUP BY band",
    ),
    _undeclared(
        "U03",
        "sum by part of category",
        "SELECT substring(category, 1, 6) AS part, sum(amount) AS s FROM events GROUP BY part",
    ),
    _undeclared(
        "U04",
        "filter, count and avg by region",
        "SELECT region, count(*) AS n, avg(amount) AS a FROM events "
        "WHERE amount > 50 AND happened_at >= TIMESTAMP '2025-07-01 00:00:00' GROUP BY region",
    ),
    _undeclared(
        "U05",
        "filter, users by day",
        "SELECT CAST(happened_at AS DATE) AS day, count(DISTINCT user_id) AS users FROM events "
        "WHERE region = 'region-03' GROUP BY day",
    ),
    _undeclared(
        "U06",
        "users by number of rows",
        "WITH per AS (SELECT user_id, count(*) AS n FROM events GROUP BY user_id) "
        "SELECT floor(n / 20) AS twenties, count(*) AS users FROM per GROUP BY twenties",
    ),
)
_SHIPPED = "l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01'"
_TPCH = (
    Question(
        "Q08",
        "TPC-H Q1",
        "SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, "
        "sum(l_extendedprice) AS sum_base_price, sum(l_extendedprice * (1 - l_discount)) AS sum_disc_price, "
        "sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge, avg(l_quantity) AS avg_qty, "
        "avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS count_order "
        "FROM lineitem WHERE l_shipdate <= DATE '1998-09-02' GROUP BY l_returnflag, l_linestatus",
    ),
    Question(
        "Q09",
        "TPC-H Q6",
        "SELECT sum(l_extendedprice * l_discount) AS revenue FROM lineitem "
        f"WHERE {_SHIPPED} AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24",
    ),
    Question(
        "Q10",
        "TPC-H Q5",
        "SELECT n_name, sum(l_extendedprice * (1 - l_discount)) AS revenue "
        "FROM customer, orders, lineitem, supplier, nation, region "
        "WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND l_suppkey = s_suppkey "
        "AND c_nationkey = s_nationkey AND s_nationkey = n_nationkey AND n_regionkey = r_regionkey "
        "AND r_name = 'ASIA' AND o_orderdate >= DATE '1994-01-01' AND o_orderdate < DATE '1995-01-01' "
        "GROUP BY n_name",
    ),
    Question(
        "Q11",
        "customer x orders",
        "SELECT c_mktsegment, count(*) AS orders, avg(o_totalprice) AS price "
        "FROM customer JOIN orders ON c_custkey = o_custkey GROUP BY c_mktsegment",
    ),
)
_FLIGHTS = tuple(
    Question(f"F{place}", title, sql, FLIGHTS)
    for place, (title, sql) in enumerate(
        (
            ("count", "SELECT count(*) AS n FROM flights"),
            ("count by public key", "SELECT origin, count(*) AS n FROM flights GROUP BY origin"),
            ("sum by public key", "SELECT carrier, sum(distance) AS miles FROM flights GROUP BY carrier"),
            (
                "avg by two keys",
                "SELECT origin, month, avg(arr_delay) AS d FROM flights GROUP BY origin, month",
            ),
            ("count by private key", "SELECT dest, count(*) AS n FROM flights GROUP BY dest"),
            ("distinct units", "SELECT origin, count(DISTINCT tailnum) AS n FROM flights GROUP BY origin"),
            (
                "filter and case",
                "SELECT origin, sum(CASE WHEN dep_delay > 15 THEN 1 ELSE 0 END) AS late FROM flights "
                "WHERE month BETWEEN 6 AND 8 GROUP BY origin",
            ),
            (
                "join with public",
                "SELECT f.origin, avg(f.dep_delay) AS d FROM flights f JOIN weather w "
                "ON f.origin = w.origin AND f.time_hour = w.time_hour WHERE w.visib < 3 GROUP BY f.origin",
            ),
        ),
        start=1,
    )
)
