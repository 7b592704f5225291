"""Statements at random: with bounds and caps too wide to bind and no noise they are plain SQL; and whatever
the tables hold, the exact numbers are the sum over units of what each unit comes to by itself."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import privacy
from tests.privacy import test_relations as related
from tests.privacy.generated import Statements
from tests.privacy.plain import Row, alike, rows
from tests.privacy.policies import PEOPLE_POLICY, PEOPLE_TYPES

PLAIN_SEEDS = range(48)
HOSTILE_SEEDS = range(1000, 1030)
WIDE = privacy.Options(10_000, 1_000_000, 1_000_000)
BOUNDS: dict[str, dict[str, list[int]]] = {
    "registry": {"age": [0, 100]},
    "homes": {"rooms": [-10, 50]},
    "visits": {"cost": [-1000, 1000], "day": [-5, 50], "score": [-100, 100], "visit": [0, 1000]},
    "bills": {"amount": [-100, 100]},
    "accounts": {"balance": [-100, 100]},
}
OWNED = {
    "visits": "SELECT * FROM raw_visits WHERE person IS NOT NULL",
    "homes": "SELECT * FROM raw_homes WHERE person IS NOT NULL",
    "registry": "SELECT * FROM raw_registry WHERE id IS NOT NULL",
    "wards": "FROM raw_wards",
    "bills": "SELECT b.* FROM raw_bills AS b SEMI JOIN visits AS v ON v.visit = b.visit",
    "items": "SELECT i.* FROM raw_items AS i SEMI JOIN bills AS b ON b.bill = i.bill",
    "accounts": "SELECT a.* FROM raw_accounts AS a SEMI JOIN registry AS r ON r.id = a.holder",
}


def _wide_policy() -> privacy.Policy:
    """All keys private, so that NULL is a group as in plain SQL; bounds that bind nobody."""
    document = copy.deepcopy(PEOPLE_POLICY)
    for name, table in document["tables"].items():
        if table.get("public"):
            continue
        table["max_rows"] = 1000
        columns = table.setdefault("columns", {})
        for column in columns.values():
            column.pop("keys", None)
        for column, bounds in BOUNDS.get(name, {}).items():
            columns.setdefault(column, {})["bounds"] = bounds
    return privacy.Policy.from_document(document, PEOPLE_TYPES)


def _planned(
    seeds: range, policy: privacy.Policy, options: privacy.Options
) -> Iterator[tuple[int, str, privacy.Plan]]:
    """The statements that are answered; a few are refused."""
    for seed in seeds:
        sql = Statements(seed).statement()
        with contextlib.suppress(privacy.Refused):
            yield seed, sql, privacy.plan(sql, policy, rho=0.5, options=options)


def _friendly(seed: int) -> dict[str, pa.Table]:
    """Few rows of each unit, values within their bounds; NULL, ties, and keys that lead nowhere."""
    random_ = random.Random(seed)
    pick = random_.choice
    found: related.Database = {name: [] for name in PEOPLE_TYPES}
    for person in [*(f"p{number}" for number in range(random_.randint(1, 5))), None]:
        if person is not None and pick([True, False]):
            found["registry"].append(
                {"id": person, "age": pick([None, 5, 60]), "sex": pick(["f", "m", None])}
            )
        for _ in range(pick([0, 1, 2])):
            found["homes"].append({"person": person, "town": pick("abx"), "rooms": pick([None, 1, 2, 3])})
        for _ in range(pick([0, 1, 3, 5])):
            found["visits"].append(
                {
                    "visit": len(found["visits"]),
                    "person": person,
                    "ward": pick(["a", "b", None]),
                    "day": pick([1, 2, 3, None]),
                    "cost": pick([None, 0, 2, -3, 7]),
                    "score": pick([None, 0.25, 1.5, -2.0]),
                }
            )
        for _ in range(pick([0, 1, 2])):
            found["accounts"].append({"holder": person, "balance": pick([None, 7, -3])})
    for number in range(random_.randint(0, 10)):
        visit = pick([*(row["visit"] for row in found["visits"]), -1, None])
        found["bills"].append(
            {
                "bill": f"b{number}",
                "visit": visit,
                "amount": pick([None, 0, 7]),
                "kind": pick(["k", "a", None]),
            }
        )
    for _ in range(random_.randint(0, 12)):
        bill = pick(["none", None, *(row["bill"] for row in found["bills"])])
        found["items"].append({"bill": bill, "price": 0.5, "what": pick("st")})
    wards: list[str | None] = pick([["a"], ["a", "b"], ["a", "b", None], ["b", "c", "b"]])
    found["wards"] = [{"ward": ward, "city": pick(["N", "S", None])} for ward in wards]
    return {name: pa.Table.from_pylist(table, related.SCHEMAS[name]) for name, table in found.items()}


def _plain(sql: str, tables: dict[str, pa.Table]) -> pa.Table:
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(f"raw_{name}", table)
        for name, query in OWNED.items():
            connection.execute(f"CREATE VIEW {name} AS {query}")
        return connection.sql(sql).to_arrow_table()


def _compared(table: pa.Table) -> list[Row]:
    """Rows in one order; a sum over nothing is 0 where plain SQL has NULL."""
    sums = {"a", "a0", "a1", "a2", "s"}
    made = [
        tuple(
            0 if value is None and name in sums else value
            for name, value in zip(table.column_names, row, strict=True)
        )
        for row in rows(table)
    ]
    return sorted(made, key=lambda row: [str(_rounded(value)) for value in row])


def _rounded(value: Any) -> Any:
    number = hasattr(value, "__float__") and not isinstance(value, str)
    return round(float(value), 4) + 0.0 if number else value


def test_an_answer_is_plain_sqls(noiseless: Any) -> None:
    answered = 0
    for seed, sql, plan in _planned(PLAIN_SEEDS, _wide_policy(), WIDE):
        tables = _friendly(seed)
        ours, plain = _compared(noiseless(plan, tables)), _compared(_plain(sql, tables))
        assert len(ours) == len(plain), sql
        assert all(map(alike, ours, plain)), sql
        answered += 1
    assert answered > len(PLAIN_SEEDS) * 3 // 4


@pytest.mark.parametrize(
    ("strategy", "seeds"),
    [
        ("caps", HOSTILE_SEEDS[::2]),
        ("clip", HOSTILE_SEEDS[1::2]),
        ("weights", HOSTILE_SEEDS[::3]),
        (None, HOSTILE_SEEDS[::2]),
    ],
)
def test_numbers_are_a_sum_over_units_of_bounded_parts(
    strategy: str | None, seeds: range, engine: Any
) -> None:
    """Without a named strategy nothing is bounded where a relation holds few rows of a unit."""
    policy = privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES)
    moved = 0
    for seed, sql, plan in _planned(seeds, policy, privacy.Options(strategy=strategy)):
        database = related._database(seed)
        owners = related._owners(database).values()
        units = sorted({unit for found in owners for unit in found if unit is not None})
        for release in plan.releases:
            whole = _sums(release, engine, related._shuffled(database, seed))
            total: related.Sums = {}
            for place, unit in enumerate(units):
                alone = related._kept(database, unit.__eq__)
                part = _sums(release, engine, related._shuffled(alone, 100 * seed + place))
                _check_part(release, part)
                moved += len(part)
                _add(total, part)
            assert _there(whole) == _there(total), sql
    assert moved > 30


def _sums(release: Any, engine: Any, tables: dict[str, pa.Table]) -> related.Sums:
    found = engine(release.sql, {**tables, "_salt": pa.table({"salt": ["ab" * 16]})}).to_pylist()
    return {tuple(row.pop(key) for key in release.release.keys): row for row in found}


def _check_part(release: Any, part: related.Sums) -> None:
    bound = release.lowered.aggregate.input
    assert bound.grid or len(part) <= bound.groups
    for measure in release.release.measures:
        squared = sum(row[measure.name] ** 2 for row in part.values())
        assert squared <= measure.sensitivity_squared


def _add(total: related.Sums, part: related.Sums) -> None:
    for key, row in part.items():
        found = total.setdefault(key, dict.fromkeys(row, 0))
        for name, number in row.items():
            found[name] += number


def _there(sums: related.Sums) -> related.Sums:
    return {key: row for key, row in sums.items() if any(row.values())}
