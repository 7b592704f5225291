"""The catalogue as the API and the SDK tell it: facets follow from what a listing tells everybody."""

from __future__ import annotations

from typing import Any

import pytest

import privacy
from exchange import facets
from exchange.client import Exchange
from tests.market import sample
from tests.market.stand import Stand, problem


@pytest.fixture
def asked(shared_stand: Stand) -> Any:
    """A function that searches as a buyer and returns the reply's document."""

    def search(**parameters: Any) -> Any:
        reply = shared_stand.get("buyer", "/v1/datasets", params=parameters)
        assert reply.status_code == 200, reply.text
        return reply.json()

    return search


def counts(found: Any, facet: str) -> dict[str, int]:
    return {one["value"]: one["count"] for one in found["facets"][facet]}


def test_a_search_tells_what_it_can_be_narrowed_to(asked: Any) -> None:
    found = asked()
    assert found["total"] == 1
    assert set(found["facets"]) == set(facets.NAMES)
    assert counts(found, "subject") == {"mobility": 1, "transport": 1}
    assert counts(found, "unit") == {"rider": 1}
    assert counts(found, "territory") == {"EU": 1, "US": 1}
    # A fee of 5 cents and 20 dollars a unit of rho: 25 cents for rho 0.01.
    assert list(counts(found, "price")) == ["USD:100", "USD:1000", "USD:10000"]
    # At most rho 1 a question: 1.96 * sqrt(1/2) is 1.39.
    assert list(counts(found, "accuracy")) == ["2", "5", "10", "25", "100"]
    (hit,) = found["items"]
    assert (hit["units"], hit["territories"], hit["accuracy"]) == (["rider"], ["EU", "US"], 2)
    assert hit["price_from"] == [{"amount": "0.25", "currency": "USD", "amount_minor": 25}]


def test_choices_narrow_down_and_are_counted_without_themselves(asked: Any) -> None:
    assert asked(q="rides zone", subject=["mobility", "water"], territory="EU", accuracy="5")["total"] == 1
    none = asked(territory="JP")
    assert (none["items"], none["total"]) == ([], 0)
    assert counts(none, "territory") == {"EU": 1, "US": 1}, "what choosing another would find"
    assert counts(none, "subject") == {}
    chosen = asked(territory="EU")["facets"]["territory"]
    assert [(one["value"], one["chosen"]) for one in chosen] == [("EU", True), ("US", False)]


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"sort": "cheapest"}, "request_invalid"),
        ({"subject": [f"s{number}" for number in range(21)]}, "request_invalid"),
        ({"subject": "x" * 81}, "request_invalid"),
        ({"unit": "a\0b"}, "request_invalid"),
        ({"page_token": "e30"}, "page_token_invalid"),
        ({"limit": "0"}, "request_invalid"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(
    shared_stand: Stand, parameters: dict[str, Any], code: str
) -> None:
    reply = shared_stand.get("buyer", "/v1/datasets", params=parameters)
    assert problem(reply, 422, code)


def test_texts_that_no_database_takes_find_nothing(asked: Any) -> None:
    for words in ('"', "'::", "( & !", "\N{SNOWMAN}", "*"):
        assert asked(q=words)["items"] == []


def test_a_private_offer_lowers_nobodys_price() -> None:
    theirs = sample.plan("theirs", per_rho="0", fee="0", organisation="acme", offered_until="2027-01-31")
    assert facets.cheapest([sample.plan(), theirs]) == {"USD": 0}
    assert facets.prices(facets.for_everybody([sample.plan(), theirs])) == [
        "USD:100",
        "USD:1000",
        "USD:10000",
    ]


MONTHLY = {"kind": "subscription", "max_rho": "1", "period": "month", "period_fee": "30.00"}


@pytest.mark.parametrize(
    ("plan", "minor"),
    [
        ({"kind": "pay-per-query", "max_rho": "1"}, 25),
        ({"kind": "pay-per-query", "max_rho": "0.005"}, 15),
        ({"kind": "credits", "max_rho": "1", "bundle": "50.00"}, 5000),
        ({"kind": "credits", "max_rho": "1", "bundle": "0.20"}, 40),
        ({"kind": "monthly-cap", "max_rho": "1", "monthly_cap": "0.20"}, 20),
        ({**MONTHLY, "included_rho": "1"}, 3000),
        ({**MONTHLY, "included_rho": "0.005"}, 3015),
        ({"kind": "buy-out", "price": "900.00"}, 90000),
    ],
)
def test_prices_are_compared_by_the_first_answer(plan: dict[str, Any], minor: int) -> None:
    curve = {} if plan["kind"] == "buy-out" else {"fee": "0.05", "per_rho": "20.00"}
    document = {"name": "x", "currency": "USD", "approval": "provider", **curve, **plan}
    assert facets.cheapest([document]) == {"USD": minor}


def test_the_accuracy_is_that_of_a_plan() -> None:
    """The planner, which knows everything, plans a count of units at the largest rho with that error."""
    policy = privacy.Policy.from_document(sample.policy())
    plan = privacy.plan(
        "select count(distinct rider) as n from rides", policy, rho_nano=policy.max_rho_per_query_nano
    )
    (column,) = plan.columns
    assert column.half_width is not None
    assert column.half_width - 1 <= facets.best_count_error(policy) <= column.half_width + 1


def test_the_sdk_narrows_down_as_the_api_does(shared_stand: Stand) -> None:
    with Exchange("http://market.test", token=shared_stand.tokens["buyer"]) as x:
        x._connection._client._transport = shared_stand.http._transport
        hits = x.search("rides", territory=["EU", "*"], price="USD:100", accuracy=2, sort="name")
        assert [(hit.slug, hit.units, hit.accuracy, hits.total) for hit in hits] == [
            (sample.SLUG, ("rider",), 2, 1)
        ]
        assert str(hits[0].price_from["USD"]) == "0.25"
        assert [one.value for one in hits.facets["territory"] if one.chosen] == ["EU"]
        assert x.search(territory="JP") == []
