"""Nothing before the answer tells of the data: quotes, refusals and pages are the same for any data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from privacy.sandbox import Sandbox
from tests.market import sample
from tests.market.prepared import Postgres, Prepared, copied
from tests.market.stand import Stand

Prepare = Callable[[str], tuple[Prepared, Postgres | None]]
Pair = tuple[Stand, Stand]

#: One rider, one ride, one zone: as far from the sample as data under the same policy and types can be.
LONELY = sample.rides_csv(["r9,north,taxi,1,100,false"])
#: Names that exist on one side alone, so that two sides have different ones.
IDS = (
    "quote",
    "dataset",
    "version",
    "grant",
    "expires_at",
    "request_id",
    "id",
    "published_at",
    "version_number",
)

QUESTIONS: list[dict[str, Any]] = [
    {"sql": sample.COUNT, "rho": "0.01"},
    {"sql": sample.COUNT, "epsilon": 0.5},
    {"sql": sample.COUNT, "error": {"n": 50}},
    {"sql": sample.BY_ZONE, "rho": "0.02"},
    {"sql": sample.MINUTES, "rho": "0.02", "options": {"max_groups": 1, "max_rows_per_group": 5}},
    {"sql": "select kind, count(*) as n from rides group by kind", "rho": "0.05"},
    {
        "sql": "select avg(cents) as c, count(distinct rider) as r from rides where zone = 'east'",
        "rho": "0.1",
    },
    {"sql": "select count(*) as n from rides where zone = 'no such zone'", "rho": "0.01"},
    {"sql": "select count(*) as n from rides where minutes > 119", "rho": "0.01"},
    {
        "sql": "select z.name, count(*) as n from rides r join zones z on r.zone = z.zone group by z.name",
        "rho": "0.05",
    },
    {"sql": sample.PUBLIC, "rho": "0.01"},
    # refused
    {"sql": "select * from rides", "rho": "0.01"},
    {"sql": "select rider, count(*) as n from rides group by rider", "rho": "0.01"},
    {"sql": "select max(minutes) as m from rides", "rho": "0.01"},
    {"sql": "select string_agg(kind, ',') as k from rides", "rho": "0.01"},
    {"sql": "select count(*) as n from rides where minutes / 0 = 1", "rho": "0.01"},
    {"sql": "select count(*) as n from rides where cast(kind as integer) = 1", "rho": "0.01"},
    {"sql": "select sum(wind) as w from rides", "rho": "0.01"},
    {"sql": sample.COUNT, "rho": "1.01"},
    {"sql": sample.COUNT, "error": {"n": 0.0001}},
    {"sql": "select count(*) as n", "rho": "0.01"},
]


@pytest.fixture(scope="module")
def neighbours(
    prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two markets whose listings differ in their private data alone."""
    prepared, _ = prepared_markets("sqlite")
    folder = tmp_path_factory.mktemp("neighbours")
    with (
        copied(prepared, folder / "one", lent_sandbox, None) as one,
        copied(prepared, folder / "two", lent_sandbox, None) as two,
    ):
        one.publish(files=sample.files(seed=8))  # a second version on both sides: its being there is told
        two.publish(files={"rides": LONELY, "zones": sample.zones()})
        yield one, two


def without_ids(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: without_ids(value) for name, value in document.items() if name not in IDS}
    return [without_ids(one) for one in document] if isinstance(document, list) else document


def told(reply: httpx.Response) -> bytes:
    """Status, headers and body of a reply, without what names one market."""
    headers = {k: v for k, v in reply.headers.items() if k.lower() not in ("x-request-id", "content-length")}
    return json.dumps([reply.status_code, sorted(headers.items()), without_ids(reply.json())]).encode()


def test_the_neighbours_differ(neighbours: Pair) -> None:
    rows = [
        stand.get("provider", f"/v1/datasets/{sample.SLUG}/profile").json()["tables"][0]["rows"]
        for stand in neighbours
    ]
    assert rows[1] == 1 < 3_000 < rows[0]


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: f"{asked['sql'][:50]} {sorted(asked)}")
def test_a_quote_or_refusal_does_not_depend_on_the_data(neighbours: Pair, asked: dict[str, Any]) -> None:
    body = {"dataset": sample.SLUG, **asked}
    one, two = (stand.post("buyer", "/v1/quotes", body) for stand in neighbours)
    assert told(one) == told(two)
    assert one.status_code == two.status_code in (201, 422)


def test_the_questions_hold_both_kinds(neighbours: Pair) -> None:
    statuses = [
        neighbours[1].post("buyer", "/v1/quotes", {"dataset": sample.SLUG, **asked}).status_code
        for asked in QUESTIONS
    ]
    assert statuses.count(201) >= 10
    assert statuses.count(422) >= 7


@pytest.mark.parametrize("who", ["buyer", "stranger", "officer"])
def test_pages_do_not_depend_on_the_data(neighbours: Pair, who: str) -> None:
    for path in ("/v1/datasets", f"/v1/datasets/{sample.SLUG}", "/v1/datasets?q=rides"):
        one, two = (stand.get(who, path) for stand in neighbours)
        assert told(one) == told(two), path


def test_what_is_refused_at_the_till_does_not_depend_on_the_data(neighbours: Pair) -> None:
    for who, more in (
        ("poor", {}),
        ("stranger", {}),
        ("buyer", {"max_price": "0.01"}),
        ("buyer", {"max_rho": "0"}),
    ):
        one, two = (stand.run(who, sample.BY_ZONE, **more) for stand in neighbours)
        assert one.status_code >= 400
        assert told(one) == told(two)


def test_the_shape_of_an_answer_with_public_keys_does_not_depend_on_the_data(neighbours: Pair) -> None:
    one, two = (stand.run(sql=sample.BY_ZONE).json() for stand in neighbours)
    for name in ("charged", "rho_nano", "columns", "row_count", "repeated"):
        assert one[name] == two[name]
    assert [row[0] for row in one["rows"]] == [row[0] for row in two["rows"]] == ["east", "north", "south"]
    assert one["rows"] != two["rows"]
