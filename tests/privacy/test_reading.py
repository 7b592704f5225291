"""What a plan reads: the columns that its statement names, by table, and how far it joins."""

from __future__ import annotations

import pytest

import privacy
from tests.privacy.policies import FLIGHTS_POLICY, FLIGHTS_TYPES

POLICY = privacy.Policy.from_document(FLIGHTS_POLICY, FLIGHTS_TYPES)
Reads = dict[str, set[str]]


@pytest.mark.parametrize(
    ("sql", "reads", "joins"),
    [
        ("select count(*) as n from flights", {"flights": set()}, "none"),
        ("select count(distinct tailnum) as n from flights", {"flights": set()}, "none"),
        (
            "select origin, sum(distance) as d from flights where month = 1 group by origin",
            {"flights": {"origin", "distance", "month"}},
            "none",
        ),
        ("select count(*) as n from flights where tailnum = 'N1'", {"flights": {"tailnum"}}, "none"),
        (
            "select avg(d) as a from (select tailnum, sum(distance) as d from flights group by tailnum)",
            {"flights": {"distance"}},
            "none",
        ),
        (
            "select a.name, count(*) as n from flights f join airlines a on f.carrier = a.carrier "
            "group by a.name",
            {"flights": {"carrier"}, "airlines": {"carrier", "name"}},
            "public",
        ),
        (
            "select count(*) as n from flights "
            "where carrier in (select carrier from airlines where name = 'x')",
            {"flights": {"carrier"}, "airlines": {"carrier", "name"}},
            "public",
        ),
        (
            "select count(*) as n from flights f join planes p on f.tailnum = p.tailnum where p.seats > 100",
            {"flights": {"tailnum"}, "planes": {"tailnum", "seats"}},
            "any",
        ),
        (
            "select origin, count(*) as n from flights group by origin union all "
            "select 'all' as origin, count(*) as n from planes",
            {"flights": {"origin"}, "planes": set()},
            "none",
        ),
        ("select name from airlines order by name", {"airlines": {"name"}}, "none"),
        (
            "with t as (select carrier, count(*) as n from flights group by carrier) "
            "select a.name, t.n from t join airlines a on a.carrier = t.carrier",
            {"flights": {"carrier"}, "airlines": {"carrier", "name"}},
            "public",
        ),
    ],
)
def test_what_a_statement_reads(sql: str, reads: Reads, joins: str) -> None:
    plan = privacy.plan(sql, POLICY, rho="0.01")
    assert {table: set(columns) for table, columns in plan.columns_read} == reads
    assert plan.joins == joins


def test_what_is_read_does_not_hang_on_spelling() -> None:
    plain = privacy.plan("select origin, count(*) as n from flights group by origin", POLICY, rho="0.01")
    nested = "select X.O as origin, count(*) as n from (select F.ORIGIN as o from FLIGHTS f) x group by 1"
    assert privacy.plan(nested, POLICY, rho="0.01").columns_read == plain.columns_read
