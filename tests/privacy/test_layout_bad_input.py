"""Data that no one should have and somebody has: answered right or refused by code, laid out or not.

Exact tables are what they must be, and the same in every shape; whole answers come out of the sandbox, within
its limits.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.bounding import STRATEGIES
from tests.privacy.conftest import SALT
from tests.privacy.every_shape import Database

MILLION, MANY = 10**6, 10**5
LONG = "x" * 10_000_000
COUNTED = "SELECT ward, count(*) AS n, sum(cost) AS s FROM visits GROUP BY ward"
MEDIAN = "SELECT place, median(cost) AS m, count(cost) AS n FROM visits GROUP BY place"
Laid = Callable[..., tuple[privacy.Policy, dict[str, str], privacy.Layout]]


def _policy(unit: str) -> privacy.Policy:
    columns = {"ward": {"keys": "private"}, "place": {"keys": ["a", "b"]}, "cost": {"bounds": [0, 200]}}
    visits = {"unit": "person", "max_groups": 2, "max_rows_per_group": 3, "max_rows": 5, "columns": columns}
    document = {"domain": "people:bad", "rho": 10.0, "delta": 1e-6, "tables": {"visits": visits}}
    types = {"person": unit, "ward": "text", "place": "text", "cost": "integer", "note": "text"}
    return privacy.Policy.from_document(document, {"visits": types})


def _table(person: pa.Array, ward: Sequence[str | None], note: Sequence[str | None] = ()) -> pa.Table:
    rows = len(person)
    text = pa.array(ward, pa.string())
    cost, notes = pa.array([5] * rows, pa.int64()), pa.array(note or [None] * rows, pa.string())
    return pa.table({"person": person, "ward": text, "place": text, "cost": cost, "note": notes})


@pytest.fixture(scope="module")
def sandbox() -> Iterator[privacy.Sandbox]:
    with privacy.Sandbox(privacy.Limits(), workers=1) as made:
        yield made


@pytest.fixture
def laid(sandbox: privacy.Sandbox, tmp_path: Path) -> Laid:
    def build(
        table: pa.Table, unit: str = "integer"
    ) -> tuple[privacy.Policy, dict[str, str], privacy.Layout]:
        path = tmp_path / "visits.parquet"
        pq.write_table(table, path)
        files, policy = {"visits": str(path)}, _policy(unit)
        return policy, files, privacy.layout(policy, files, tmp_path / "laid", sandbox=sandbox)

    return build


def _exact(
    sql: str, made: tuple[privacy.Policy, dict[str, str], privacy.Layout], strategy: str = "clip"
) -> list[dict[str, Any]]:
    """The exact table, which is the same in every shape."""
    policy, files, layout = made
    (one,) = privacy.plan(sql, policy, rho=0.5, options=privacy.Options(strategy=strategy)).releases
    database = Database(files, layout)
    plain, ways = database.plain(one), database.ways(one)
    assert len(ways) >= 2
    for about, way in ways.items():
        assert database.read(way) == plain, about
    return plain


def _answered(
    sql: str, made: tuple[privacy.Policy, dict[str, str], privacy.Layout], sandbox: privacy.Sandbox
) -> list[list[dict[str, Any]]]:
    """Whole answers: of the plain files, and of the layout."""
    policy, files, layout = made
    plan = privacy.plan(sql, policy, rho=0.5)
    return [
        privacy.answer(plan, files, salt=SALT, sandbox=sandbox, layout=one).table.to_pylist()
        for one in (None, layout)
    ]


def test_a_unit_of_a_million_rows_weighs_as_one_unit(laid: Laid, sandbox: privacy.Sandbox) -> None:
    """It takes part beside others with no more than its limit, whatever is counted."""
    people = pa.array([1] * MILLION + list(range(2, 102)), pa.int64())
    made = laid(_table(people, ["a", "b"] * (MILLION // 2) + ["a"] * 100))
    (one,) = privacy.plan(COUNTED, made[0], rho=0.5, options=privacy.Options(strategy="clip")).releases
    counted = next(s for s in one.lowered.aggregate.sums if s.kind == "rows")
    found = {row["k0"]: row[counted.name] for row in _exact(COUNTED, made)}
    heaviest = math.isqrt(counted.sensitivity_squared)
    assert 100 << counted.shift < found["a"] <= (100 << counted.shift) + heaviest
    assert 0 < found["b"] <= heaviest
    assert {row["k0"] for row in _exact(MEDIAN, made)} == {"a", "b"}
    for rows in _answered(COUNTED, made, sandbox):
        assert [row["ward"] for row in rows] == ["a"]


def test_all_rows_of_one_unit(laid: Laid, sandbox: privacy.Sandbox) -> None:
    """A table of one unit is that unit's part, however it is bounded, and no key of it is shown."""
    made = laid(_table(pa.array([1] * 1_000, pa.int64()), ["a", "b"] * 500))
    for strategy in STRATEGIES:
        options = privacy.Options(strategy=strategy)
        (one,) = privacy.plan(COUNTED, made[0], rho=0.5, options=options).releases
        rows = _exact(COUNTED, made, strategy)
        for of in one.lowered.aggregate.sums:
            assert sum(row[of.name] ** 2 for row in rows) <= of.sensitivity_squared
    assert _answered(COUNTED, made, sandbox) == [[], []]


def test_a_hundred_thousand_groups(laid: Laid, sandbox: privacy.Sandbox) -> None:
    """Of two units each, which no threshold lets through; and those of many units are."""
    people = [*(place % MANY for place in range(2 * MANY)), *range(400)]
    wards = [*(f"w{place // 2}" for place in range(2 * MANY)), *(["shown"] * 400)]
    made = laid(_table(pa.array(people, pa.int64()), wards))
    rows = _exact(COUNTED, made)
    assert len(rows) == MANY + 1
    for found in _answered(COUNTED, made, sandbox):
        assert [row["ward"] for row in found] == ["shown"]


def test_texts_of_ten_megabytes(laid: Laid, sandbox: privacy.Sandbox) -> None:
    """Such a key is none; such a value is read and compared as any other."""
    people = pa.array(range(1, 7), pa.int64())
    made = laid(_table(people, ["a", LONG, LONG, "a", "a", None], [LONG, None, LONG, "q", LONG[1:], "p"]))
    assert {row["k0"] for row in _exact(COUNTED, made)} == {"a", None}
    asked = "SELECT count(*) AS n FROM visits WHERE note = 'q' OR length(note) = 10000000"
    policy, files, layout = made
    (one,) = privacy.plan(asked, policy, rho=0.5, options=privacy.Options(strategy="caps")).releases
    database = Database(files, layout)
    (way,) = database.ways(one).values()
    assert database.read(way) == database.plain(one) == [{"c0": 3}]
    assert [len(rows) for rows in _answered(asked, made, sandbox)] == [1, 1]


def test_rows_of_nobody_count_nowhere(laid: Laid, sandbox: privacy.Sandbox) -> None:
    """NULL is no unit: what is left is the table without those rows."""
    people = pa.array([None] * 500 + [place % 100 for place in range(300)], pa.int64())
    made = laid(_table(people, ["b"] * 500 + ["a"] * 300))
    (row,) = _exact(COUNTED, made, "caps")
    assert (row["k0"], row["c0"]) == ("a", 300)
    for found in _answered(COUNTED, made, sandbox):
        assert [one["ward"] for one in found] == ["a"]


def test_units_named_by_uuids(laid: Laid, sandbox: privacy.Sandbox) -> None:
    """Written as text they are units as any others."""
    people = pa.array([str(uuid.UUID(int=place % 100)) for place in range(200)])
    made = laid(_table(people, ["a"] * 200), "text")
    (row,) = _exact(COUNTED, made, "caps")
    assert (row["k0"], row["c0"]) == ("a", 200)
    assert [len(rows) for rows in _answered(COUNTED, made, sandbox)] == [1, 1]


UUIDS = pa.ExtensionArray.from_storage(
    pa.uuid(), pa.array([uuid.UUID(int=place).bytes for place in range(9)], pa.binary(16))
)
FLOATS = pa.array([math.nan, math.nan, -0.0, 0.0, math.inf, 1.0, 1.5, None, 2.0], pa.float64())


@pytest.mark.parametrize("unit", ["integer", "text"])
@pytest.mark.parametrize("people", [UUIDS, FLOATS], ids=["UUIDs", "floats"])
def test_units_that_cannot_be_told_apart_are_refused(
    people: pa.Array, unit: str, sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    """Before anything is counted or stored, by the answer and by the layout alike."""
    path, policy = tmp_path / "visits.parquet", _policy(unit)
    pq.write_table(_table(people, ["a"] * 9), path)
    files, plan = {"visits": str(path)}, privacy.plan(COUNTED, policy, rho=0.5)
    with pytest.raises(privacy.TablesUnfit) as answered:
        privacy.answer(plan, files, salt=SALT, sandbox=sandbox)
    with pytest.raises(privacy.TablesUnfit) as built:
        privacy.layout(policy, files, tmp_path / "laid", sandbox=sandbox)
    assert str(answered.value) == str(built.value)
    assert "person" in str(built.value)


def test_a_policy_whose_units_are_floats_is_refused() -> None:
    """NaN and -0.0 would be two units or one as it happens."""
    with pytest.raises(privacy.PolicyError) as caught:
        _policy("float")
    assert caught.value.code == "policy_invalid"
    assert "tables.visits.unit" in str(caught.value)
