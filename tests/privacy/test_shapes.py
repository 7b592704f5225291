"""Every shape that the planner could have chosen for a statement, over the same database: exact tables are
the same to the last bit, and on neighbours each keeps within what is charged for.

Every shape is made the cheapest in turn; that none is left out is part of what is tested.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.bounding import STRATEGIES
from privacy.release import Histogram
from tests.privacy.every_shape import STORED, Database
from tests.privacy.generated import Statements
from tests.privacy.policies import PEOPLE_POLICY, PEOPLE_TYPES
from tests.privacy.profiles import visits
from tests.privacy.test_relations import STATEMENTS, _database, _kept, _owners, _shuffled

ACCEPTED = [
    line
    for line in (Path(__file__).parent / "fixtures" / "accepted.sql").read_text().splitlines()
    if not line.startswith("--")
]
OVER_SYNOPSES = [
    f"SELECT {shown} FROM {table}{grouped}"
    for table, key, number in (
        ("visits", "ward", "cost"),
        ("bills", "kind", "amount"),
        ("homes", "town", "rooms"),
    )
    for keyed, grouped in (("", ""), (f"{key}, ", f" GROUP BY {key}"))
    for shown in (
        f"{keyed}count(*) AS n, sum({number}) AS s, avg({number}) AS a",
        f"{keyed}median({number}) AS m, count({number}) AS n",
        f"{keyed}avg({number}) AS a",
    )
]
GENERATED = range(2000, 2040)
SIX_THOUSAND = 6_000
Exact = list[dict[str, Any]]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[privacy.Sandbox]:
    with privacy.Sandbox(privacy.Limits(), workers=1) as made:
        yield made


def _laid_out(
    tables: Mapping[str, pa.Table], policy: privacy.Policy, sandbox: privacy.Sandbox, folder: Path
) -> Database:
    folder.mkdir()
    files = {name: str(folder / f"{name}.parquet") for name in tables}
    for name, table in tables.items():
        pq.write_table(table, files[name])
    rows = max(60, max(table.num_rows for table in tables.values()) * 2 // 3)
    return Database(files, privacy.layout(policy, files, folder / "laid", sandbox=sandbox, rows_in_part=rows))


def _planned(sql: str, policy: privacy.Policy, place: int) -> list[Any]:
    """The releases of a statement, bounded by one strategy after another; none where it is refused."""
    ways = privacy.Options(strategy=(*STRATEGIES, None)[place % 4])
    with contextlib.suppress(privacy.Refused):
        return list(privacy.plan(sql, policy, rho=0.1, options=ways).releases)
    return []


def _alike(database: Database, one: Any, sql: str) -> Counter[str]:
    """Asserts that every shape that is weighed was read, and that all of them are the plain files' equals."""
    ways, plain = database.ways(one), database.plain(one)
    assert ways.keys() >= database.offered(one), sql
    for about, way in ways.items():
        assert database.read(way) == plain, (about, sql)
    return Counter(map(_kind, ways))


def _kind(about: str) -> str:
    return f"{about.split()[0]}{' with lengths' if about.endswith('with lengths') else ''}"


def _within(one: Any, whole: Exact, without: Exact) -> bool:
    """Asserts that neighbours differ by no more than is charged for; says whether they differ at all."""
    release, changed = one.release, False
    by_key = [{tuple(row[key] for key in release.keys): row for row in rows} for rows in (whole, without)]
    keys = by_key[0].keys() | by_key[1].keys()
    for measure in release.measures:
        most = measure.level_squared if isinstance(measure, Histogram) else measure.sensitivity_squared
        values = [[rows.get(key, {}).get(measure.name) for rows in by_key] for key in keys]
        squared = sum(_moved(*pair) ** 2 for pair in values)
        assert squared <= most
        changed = changed or squared > 0
    for total in release.totals:
        shown = [next(iter(rows.values()), {}).get(total.name) for rows in by_key]
        assert _moved(*shown) ** 2 <= total.sensitivity_squared
    return changed


def _moved(one: Any, other: Any) -> int:
    """How far a number moved; of a histogram all its leaves together."""
    if isinstance(one, list) or isinstance(other, list):
        first, second = ({pair["b"]: pair["w"] for pair in leaves or []} for leaves in (one, other))
        return sum(abs(first.get(leaf, 0) - second.get(leaf, 0)) for leaf in first.keys() | second.keys())
    return abs(int(one or 0) - int(other or 0))


def _neighbours(whole: Database, without: Database, one: Any) -> int:
    """How many shapes show that neighbours differ; each is held against the same of the other database."""
    fewer = without.ways(one)
    found = [(whole.plain(one), without.plain(one))]
    found += [(whole.read(way), without.read(fewer[about])) for about, way in whole.ways(one).items()]
    return sum(_within(one, *pair) for pair in found)


@pytest.fixture(scope="module")
def people(sandbox: privacy.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> tuple[Database, Database]:
    """Related tables, with everything of one unit and with nothing of it; rows lie in another order."""
    policy = privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES)
    rows, folder = _database(0), tmp_path_factory.mktemp("people")
    busy = [unit for unit in _owners(rows)["visits"] if unit]
    heaviest = max(sorted(set(busy)), key=busy.count)
    fewer = _kept(rows, lambda unit: unit != heaviest)
    return (
        _laid_out(_shuffled(rows, 1), policy, sandbox, folder / "whole"),
        _laid_out(_shuffled(fewer, 2), policy, sandbox, folder / "without"),
    )


def test_shapes_of_related_tables_agree(people: tuple[Database, Database]) -> None:
    """The corpus of relations, statements at random, and such as every kind of synopsis answers."""
    policy = privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES)
    asked = [*STATEMENTS, *OVER_SYNOPSES * 2, *(Statements(seed).statement() for seed in GENERATED)]
    read: Counter[str] = Counter()
    for place, sql in enumerate(asked):
        for one in _planned(sql, policy, place):
            read += _alike(people[0], one, sql)
    assert len(read) == len(STORED)
    assert min(read.values()) >= 3


def test_neighbours_stay_within_the_charge_in_every_shape(people: tuple[Database, Database]) -> None:
    """All rows of the heaviest unit go; the layout of the rest was built of what is left."""
    policy = privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES)
    asked = [*OVER_SYNOPSES, *STATEMENTS[::4], *(Statements(seed).statement() for seed in GENERATED[::4])]
    differing = 0
    for place, sql in enumerate(asked):
        for one in _planned(sql, policy, place):
            differing += _neighbours(*people, one)
    assert differing > 60


CHOSEN = [(rho, of) for rho in (0.01, 1.0) for of in (visits(6), visits(40, 4))]


def test_limits_and_middles_that_a_profile_chooses(people: tuple[Database, Database]) -> None:
    """Numbers around a middle, whose lengths follow from three stored sums, and totals beside them: shapes
    agree, and neighbours stay within the charge."""
    policy = privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES)
    asked = [sql for sql in OVER_SYNOPSES if "visits" in sql]
    read, middles, differing = Counter[str](), set[int](), 0
    for sql, (rho, profile) in itertools.product(asked, CHOSEN):
        for one in privacy.plan(sql, policy, rho=rho, profile=profile).releases:
            read += _alike(people[0], one, sql)
            differing += _neighbours(*people, one)
            middles |= {of.middle for of in one.lowered.aggregate.sums if of.kind == "centred"}
    assert read["synopsis with lengths"] >= 5
    assert middles == {5}  # the profile's: that of the bounds is 7
    assert differing > 40


@pytest.fixture(scope="module")
def flights(
    flights_files: dict[str, str],
    flights_policy: privacy.Policy,
    sandbox: privacy.Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Database, Database]:
    """Some flights, with all of the aircraft that has most of them and without."""
    tables = {name: pq.read_table(path) for name, path in flights_files.items()}
    tables["flights"] = tables["flights"].slice(0, SIX_THOUSAND)
    owned = pc.value_counts(tables["flights"].column("tailnum")).to_pylist()
    heaviest = max((one for one in owned if one["values"]), key=lambda one: one["counts"])["values"]
    fewer = {name: _without(table, heaviest) for name, table in tables.items()}
    folder = tmp_path_factory.mktemp("flights")
    return (
        _laid_out(tables, flights_policy, sandbox, folder / "whole"),
        _laid_out(fewer, flights_policy, sandbox, folder / "without"),
    )


def _without(table: pa.Table, unit: str) -> pa.Table:
    if "tailnum" not in table.column_names:
        return table
    return table.filter(pc.fill_null(pc.not_equal(table.column("tailnum"), unit), True))


def test_shapes_of_flights_agree(flights: tuple[Database, Database], flights_policy: privacy.Policy) -> None:
    """Every accepted statement of the corpus."""
    read: Counter[str] = Counter()
    for place, sql in enumerate(ACCEPTED):
        for one in _planned(sql, flights_policy, place):
            read += _alike(flights[0], one, sql)
    assert read.keys() >= {"rows", "synopsis", "synopsis with lengths", "histogram"}
    assert sum(read.values()) > 300


def test_neighbours_of_flights_stay_within_the_charge(
    flights: tuple[Database, Database], flights_policy: privacy.Policy
) -> None:
    """A sample of the corpus, without the aircraft that flies most."""
    differing = 0
    for place, sql in enumerate(ACCEPTED[::6]):
        for one in _planned(sql, flights_policy, place):
            differing += _neighbours(*flights, one)
    assert differing > 40
