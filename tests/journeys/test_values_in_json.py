"""Answers whose values are times, lists and maps arrive, in standard JSON, at every door."""

from __future__ import annotations

import datetime
import json
from typing import Any, NoReturn

import httpx
import pytest

from exchange import Exchange
from tests.market import sample
from tests.market.stand import Stand

SLUG = "city/days"
DAYS = ["2026-01-01", "2026-01-02"]
FIRST, SECOND = map(datetime.date.fromisoformat, DAYS)


@pytest.fixture(scope="module")
def days(shared_sqlite_stand: Stand) -> Stand:
    """A listing whose keys are days and times."""
    rows = [f"r{one % 50},{DAYS[one % 2]},{DAYS[one % 2]}T12:30:00,{one % 7},here" for one in range(200)]
    columns = {
        "day": {"keys": DAYS},
        "at": {"keys": [f"{day} 12:30:00" for day in DAYS]},
        "minutes": {"bounds": [0, 7]},
        "place": {"keys": "private"},
    }
    table = {"unit": "rider", "max_rows": 5, "columns": columns}
    manifest = sample.manifest(
        slug=SLUG,
        tables={"rides": "rides.csv"},
        policy=sample.policy(
            domain="riders:days", delta=1e-6, max_delta_per_query=1e-6, tables={"rides": table}
        ),
    )
    file = "\n".join(["rider,day,at,minutes,place", *rows, ""]).encode()
    shared_sqlite_stand.publish(manifest=manifest, files={"rides": file})
    shared_sqlite_stand.request(slug=SLUG)
    return shared_sqlite_stand


def standard(reply: httpx.Response) -> Any:
    """JSON as its standard has it: neither NaN nor Infinity."""

    def refuse(token: str) -> NoReturn:
        raise AssertionError(token)

    assert reply.status_code in (200, 201), reply.text
    return json.loads(reply.text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("histogram(day)", DAYS),
        ("histogram(at)", [f"{day}T12:30:00" for day in DAYS]),
        ("histogram(minutes, [0.5, 3])", [0.5, 3.0, "Infinity"]),
        ("histogram(minutes, [1, 3])", [1, 3, 2**63 - 1]),
        ("histogram(minutes > 3)", [False, True]),
    ],
)
def test_a_histogram_arrives_with_its_intervals(days: Stand, value: str, labels: list[Any]) -> None:
    asked = {"dataset": SLUG, "sql": f"select {value} as h from rides", "rho": "0.01"}
    standard(days.post("buyer", "/v1/quotes", asked))
    told = standard(days.post("buyer", "/v1/queries", asked))
    where = f"/v1/queries/{told['query']}"
    result = days.get("buyer", f"{where}/result", headers={"Accept": "application/json"})
    table = days.get("buyer", f"{where}/result", headers={"Accept": "text/csv"})
    ((shown,),) = standard(result)["rows"]
    ((low, high),) = told["intervals"]["h"]
    assert standard(days.get("buyer", where))["intervals"] == told["intervals"]
    assert [label for label, _ in shown] == labels
    told_of = zip(low, shown, high, strict=True)
    assert all(least < count < most for (_, least), (_, count), (_, most) in told_of)
    assert json.dumps(shown).replace('"', '""') in table.text


def test_lists_of_times_arrive(days: Stand) -> None:
    asked = {"dataset": SLUG, "sql": "select approx_top_k(day, 2) as h from rides", "rho": "0.5"}
    ((shown,),) = standard(days.post("buyer", "/v1/queries", asked))["rows"]
    assert sorted(shown) == DAYS


def test_no_bound_is_told_as_null(days: Stand) -> None:
    """Of a slope nothing is known where the denominator may be zero."""
    sql = "select regr_slope(minutes, minutes * 2) as b, corr(minutes, minutes) as r from rides"
    asked = {"dataset": SLUG, "sql": sql, "rho": "0.0001"}
    (column, _) = standard(days.post("buyer", "/v1/quotes", asked))["columns"]
    assert None in column["table"].values()
    standard(days.post("buyer", "/v1/queries", asked))


def test_no_bound_is_said_by_the_sdk(days: Stand) -> None:
    transport = httpx.WSGITransport(app=days.app)
    with Exchange("http://market.test", token=days.tokens["buyer"], transport=transport) as x:
        sql = "select regr_slope(minutes, minutes * 2) as b from rides"
        offer = x.dataset(SLUG).quote(sql, rho="0.0001")
        told = offer.columns[0].table
        assert told is not None
        assert None in told.values()
        assert "any at 100 rows" in offer.columns[0].error
        assert "any at 100 rows" in offer._repr_html_()
        assert json.dumps(vars(offer.columns[0]), allow_nan=False)
        answer = offer.run()
        assert answer._repr_html_()


def test_no_epsilon_is_told_where_all_of_delta_is_taken(days: Stand) -> None:
    """A threshold's share is no part of what the rest is stated at; here nothing is left."""
    asked = {"dataset": SLUG, "sql": "select place, count(*) as n from rides group by place", "rho": "0.02"}
    assert standard(days.post("buyer", "/v1/quotes", asked))["epsilon"] is None
    assert standard(days.post("buyer", "/v1/queries", asked))["state"] == "succeeded"
    transport = httpx.WSGITransport(app=days.app)
    with Exchange("http://market.test", token=days.tokens["buyer"], transport=transport) as x:
        assert x.dataset(SLUG).quote(asked["sql"], rho="0.05").epsilon == float("inf")


def test_the_sdk_gives_them_as_values(days: Stand) -> None:
    transport = httpx.WSGITransport(app=days.app)
    with Exchange("http://market.test", token=days.tokens["buyer"], transport=transport) as x:
        asked = x.dataset(SLUG).query("select histogram(day) as h from rides", rho="0.01")
        (shown,) = asked.rows[0]
        bins = x.dataset(SLUG).query("select histogram(minutes, [0.5]) as h from rides", rho="0.01")
        (binned,) = bins.rows[0]
    assert [label for label, _ in shown] == [FIRST, SECOND]
    assert [label for label, _ in asked.intervals["h"][0][0]] == [FIRST, SECOND]  # type: ignore[index]
    assert [label for label, _ in binned] == [0.5, float("inf")]
