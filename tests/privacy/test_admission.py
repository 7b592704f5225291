"""Whether an answer comes, and how long it takes, must not tell whether a filter leaves a row over: joins
that would multiply such rows are refused on the public tables alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from tests.privacy.conftest import SALT

POLICY = privacy.Policy.from_document(
    {
        "domain": "people:test",
        "rho": 10.0,
        "delta": 1e-6,
        "tables": {
            "visits": {"unit": "person", "columns": {"cost": {"bounds": [0, 10]}}},
            "wards": {"public": True},
            "cities": {"public": True},
        },
    },
    {
        "visits": {"person": "text", "ward": "text", "cost": "integer"},
        "wards": {"ward": "text", "city": "text", "floor": "integer"},
        "cities": {"city": "text", "year": "integer"},
    },
)
WARDS = {
    # a ward in 40 rows, 20 of them on the first floor; NULL wards match nothing
    "ward": ["a"] * 40 + ["b"] + [None] * 90,
    "city": ["N"] * 40 + ["S"] + ["N"] * 90,
    "floor": [1] * 20 + [2] * 20 + [1] + [1] * 90,
}
CITIES = {"city": ["N", "N", "S"], "year": [2012, 2013, 2013]}


@pytest.fixture
def public(tmp_path: Path) -> dict[str, str]:
    """The public tables alone: no private file stands behind the plan."""
    pq.write_table(pa.table(WARDS), tmp_path / "wards.parquet")
    pq.write_table(pa.table(CITIES), tmp_path / "cities.parquet")
    return {name: str(tmp_path / f"{name}.parquet") for name in ("wards", "cities")}


def _admit(sql: str, public: dict[str, str], sandbox: privacy.Sandbox) -> None:
    privacy.admit(privacy.plan(sql, POLICY, rho=0.1), public, sandbox=sandbox)


@pytest.mark.parametrize(
    "joined",
    [
        "visits v JOIN wards w ON w.ward = v.ward",
        "visits v LEFT JOIN wards w ON w.ward = v.ward",
        "wards w JOIN visits v ON w.ward = v.ward",
        "visits v, wards w WHERE w.ward = v.ward AND w.floor < 3",
        "visits v JOIN wards w ON lower(w.ward) = v.ward",
        "visits v JOIN wards w ON w.ward IS NOT DISTINCT FROM v.ward AND w.floor = 1",
        "visits v JOIN (SELECT ward, floor FROM wards) w ON w.ward = v.ward",
        "visits v LEFT JOIN wards w ON w.ward = v.ward WHERE w.floor = 1",
        # 20 wards of the floor, each in two years
        "visits v JOIN wards w ON w.ward = v.ward JOIN cities c ON c.city = w.city WHERE w.floor = 1",
        "visits v JOIN (SELECT w.ward FROM wards w JOIN cities c ON c.city = w.city WHERE w.floor = 1) x "
        "ON x.ward = v.ward",
        "visits v JOIN cities c ON c.city = v.ward JOIN wards w ON w.city = c.city",
        # what a left join asks does not hold for the tables before it
        "visits v JOIN wards w ON w.floor = v.cost LEFT JOIN cities c ON c.city = w.city AND w.ward = v.ward",
        "visits v, wards w LEFT JOIN cities c ON c.city = w.city AND w.ward = v.ward",
        " ".join(["visits v", *(f"JOIN cities c{n} ON c{n}.city = v.ward" for n in range(6))]),
        # inside what is joined, grouped, numbered or united
        "(SELECT v.person, count(*) AS n FROM visits v JOIN wards w USING (ward) GROUP BY v.person) t",
        "(SELECT v.person, row_number() OVER (PARTITION BY v.person) AS k FROM visits v JOIN wards w "
        "USING (ward)) t",
        "(SELECT person FROM visits UNION ALL SELECT v.person FROM visits v JOIN wards w USING (ward)) t",
        "(SELECT v.person FROM visits v JOIN wards w ON w.ward = v.ward AND w.floor = 1) t "
        "JOIN (SELECT v.person FROM visits v JOIN cities c ON c.city = v.ward) u ON u.person = t.person",
        "visits v WHERE EXISTS (SELECT 1 FROM visits x JOIN wards w USING (ward) WHERE x.person = v.person)",
        "visits v WHERE EXISTS (SELECT 1 FROM wards w WHERE w.ward = v.ward AND w.floor > v.cost)",
    ],
)
def test_joins_that_multiply_are_refused(joined: str, public: Any, sandbox: privacy.Sandbox) -> None:
    with pytest.raises(privacy.Refused) as caught:
        _admit(f"SELECT count(*) AS n FROM {joined}", public, sandbox)
    assert caught.value.code == "join_multiplies"
    assert caught.value.hint


@pytest.mark.parametrize(
    "joined",
    [
        "visits v JOIN wards w ON w.ward = v.ward AND w.floor = 1",
        "visits v, wards w WHERE w.ward = v.ward AND w.floor = 2",
        "visits v LEFT JOIN wards w ON w.ward = v.ward AND w.floor = 1",
        "visits v LEFT JOIN (SELECT ward FROM wards WHERE floor = 1) w ON w.ward = v.ward",
        "visits v JOIN (SELECT ward, max(floor) AS floor FROM wards GROUP BY ward) w ON w.ward = v.ward",
        "visits v JOIN (SELECT ward FROM wards ORDER BY ward LIMIT 5) w ON w.ward = v.ward",
        "visits v JOIN cities c ON c.city = v.ward AND c.year = v.cost",
        " ".join(["visits v", *(f"JOIN cities c{n} ON c{n}.city = v.ward" for n in range(5))]),
        "visits",
        "(SELECT person FROM visits UNION ALL SELECT v.person FROM visits v JOIN wards w ON w.ward = v.ward "
        "AND w.floor = 1 UNION ALL SELECT v.person FROM visits v JOIN wards w ON w.ward = v.ward "
        "AND w.floor = 2) t",
        "visits v WHERE v.ward IN (SELECT ward FROM wards) AND EXISTS (SELECT 1 FROM wards w WHERE "
        "w.ward = v.ward AND w.floor = v.cost)",
        "visits v WHERE EXISTS (SELECT 1 FROM wards w WHERE w.ward = v.ward AND w.floor = 1 "
        "AND w.floor > v.cost)",
        "visits v JOIN visits x ON x.person = v.person",
    ],
)
def test_joins_on_few_rows_are_admitted(joined: str, public: Any, sandbox: privacy.Sandbox) -> None:
    refused = None
    try:
        _admit(f"SELECT count(*) AS n FROM {joined}", public, sandbox)
    except privacy.Refused as refusal:
        refused = refusal.code
    assert refused is None


def test_a_table_is_joined_by_one_tie_and_counted_by_that_alone(
    tmp_path: Path, sandbox: privacy.Sandbox, exact: Any
) -> None:
    """A ward is one of 50 in its city: joined by its name it multiplies nothing, though its city is asked for
    as well."""
    wards = {"ward": [f"w{number}" for number in range(50)], "city": ["N"] * 50, "floor": [1] * 50}
    cities = {"city": ["N", "S"], "year": [2013, 2013]}
    tables = {"wards": pa.table(wards), "cities": pa.table(cities)}
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
    files = {name: str(tmp_path / f"{name}.parquet") for name in tables}
    joined = "visits v JOIN cities c ON c.year = v.cost JOIN wards w ON w.ward = v.ward AND w.city = c.city"
    _admit(f"SELECT count(*) AS n FROM {joined}", files, sandbox)
    with pytest.raises(privacy.Refused):
        _admit("SELECT count(*) AS n FROM visits v JOIN wards w ON w.city = v.ward", files, sandbox)
    visits = pa.table({"person": ["p", "p", "q"], "ward": ["w1", "w2", "w3"], "cost": [2013, 7, 2013]})
    plan = privacy.plan(f"SELECT count(*) AS n FROM {joined}", POLICY, rho=0.1)
    assert exact(plan, {"visits": visits, **tables}).to_pylist() == [{"c0": 2}]


def test_the_refusal_names_the_table_that_multiplies_most(public: Any, sandbox: privacy.Sandbox) -> None:
    joins = "visits v JOIN cities c ON c.city = v.ward\n JOIN wards w ON w.ward = v.ward"
    sql = f"SELECT count(*) AS n\nFROM {joins}"
    with pytest.raises(privacy.Refused, match="wards makes most") as caught:
        _admit(sql, public, sandbox)
    assert (caught.value.line, caught.value.column) == (3, 7)


def test_nothing_is_read_where_nothing_is_joined() -> None:
    for sql in ("SELECT count(*) AS n FROM visits", "SELECT count(*) AS n FROM wards"):
        privacy.admit(privacy.plan(sql, POLICY, rho=0.1), {})
    joined = privacy.plan("SELECT count(*) AS n FROM visits JOIN wards USING (ward)", POLICY, rho=0.1)
    with pytest.raises(privacy.TablesMissing):
        privacy.admit(joined, {})


def test_membership_does_not_decide_whether_an_answer_comes(tmp_path: Path, public: Any) -> None:
    """Rows of one person would become 40^7: only with the person in the table did the answer time out."""
    joins = " ".join(f"LEFT JOIN wards w{n} ON w{n}.ward = v.ward" for n in range(7))
    plan = privacy.plan(
        f"SELECT count(*) AS n FROM visits v {joins} WHERE v.person = 'alice'", POLICY, rho=0.1
    )
    codes = []
    with privacy.Sandbox(privacy.Limits(timeout_s=3), workers=1) as sandbox:
        for people in (["bob"], ["bob", "alice"]):
            path = tmp_path / f"{len(people)}.parquet"
            pq.write_table(pa.table({"person": people, "ward": ["a"] * len(people)}), path)
            with pytest.raises(privacy.PrivacyError) as caught:
                privacy.answer(plan, {**public, "visits": path}, salt=SALT, sandbox=sandbox)
            codes.append(caught.value.code)
    assert codes == ["join_multiplies", "join_multiplies"]


def test_an_admitted_plan_is_not_admitted_again(
    tmp_path: Path, public: Any, sandbox: privacy.Sandbox
) -> None:
    plan = privacy.plan("SELECT count(*) AS n FROM visits JOIN wards USING (ward)", POLICY, rho=0.1)
    pq.write_table(pa.table({"person": ["p"], "ward": ["a"]}), tmp_path / "visits.parquet")
    tables = {**public, "visits": tmp_path / "visits.parquet"}
    with pytest.raises(privacy.Refused):
        privacy.answer(plan, tables, salt=SALT, sandbox=sandbox)
    assert privacy.answer(plan, tables, salt=SALT, sandbox=sandbox, admitted=True).table.num_rows == 1
