"""A new version begins with the one on offer: what the steps are filled with makes the same documents."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import Any

import pytest

from catalog import listings
from exchange.identity import Actor
from exchange.operations import composing, revising, typed_listings
from settlement import licences
from tests.market import sample
from tests.market.browser import member
from tests.market.stand import Stand

TIERED = {
    "name": "tiers",
    "kind": "pay-per-query",
    "currency": "EUR",
    "fee": "0.01",
    "tiers": [{"up_to_rho": "0.1", "per_rho": "30.00"}, {"per_rho": "25.50"}],
    "approval": "provider",
    "max_rho": "0.5",
}


def typed(stand: Stand) -> tuple[listings.ListingView, dict[str, dict[str, str]], list[str]]:
    """The version on offer, what it would be if it was typed, and what cannot be."""

    def look(session: Any) -> Any:
        view = listings.find(session, sample.SLUG)
        return view, revising.typed_of(session, view), revising.beyond(session, view)

    found: tuple[listings.ListingView, dict[str, dict[str, str]], list[str]] = stand.market.store.read(look)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"plans": [TIERED, sample.plan("sub", max_rho="0.7")]},
        {"licence": sample.licence(query_count=12, publication="permitted", attribution="required")},
        {"policy": sample.policy(rho=1.7, delta=2.5e-7, max_rho_per_query=0.3)},
        {"keywords": [], "title": 'A "title"'},
    ],
    ids=lambda value: ",".join(value) or "as it is",
)
def test_what_is_typed_makes_the_same_documents(sqlite_stand: Stand, changes: dict[str, Any]) -> None:
    if changes:
        drafted = sqlite_stand.draft(manifest=sample.manifest(**changes))
        assert drafted.status_code in (200, 201), drafted.text
        path = f"/v1/datasets/{sample.SLUG}/publish"
        done = sqlite_stand.post("provider", path, {"version": drafted.json()["version"]})
        assert done.status_code == 200, done.text
    view, steps, beyond = typed(sqlite_stand)
    assert beyond == []
    about = typed_listings.about_document(steps["about"])
    assert {name: about[name] for name in ("slug", "title", "description", "keywords")} == {
        "slug": view.slug,
        "title": view.title,
        "description": view.description,
        "keywords": list(view.keywords),
    }
    assert typed_listings.plan_documents(steps["price"]) == list(view.plans)
    licence = sqlite_stand.market.store.read(lambda s: licences.find_licence(s, view.licence_id))
    document = typed_listings.licence_document(steps["licence"])
    terms = {name: value for name, value in document.items() if name not in ("title", "text")}
    written = licences.written_out(document["title"], document["text"], terms)
    assert written[:2] == (licence.title, licence.text)
    assert json.loads(json.dumps(written[2])) == dict(licence.terms.document)


def test_what_has_no_field_is_told(sqlite_stand: Stand) -> None:
    policy = sample.policy()
    del policy["tables"]["rides"]["columns"]["paid"]
    plans = [sample.plan(f"plan-{n}") for n in range(typed_listings.MOST_PLANS + 1)]
    drafted = sqlite_stand.draft(manifest=sample.manifest(plans=plans)).json()
    sqlite_stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": drafted["version"]})
    assert typed(sqlite_stand)[2] == ["plans"]
    with closing(member(sqlite_stand, "provider", "pat@city.example")) as pat:
        page = pat.get(f"/provider/listings/{sample.SLUG}").text
    assert "The steps have no field for some of it: plans." in page


def test_a_revision_begins_on_the_listings_page(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    with closing(member(stand, "provider", "pat@city.example")) as pat:
        page = pat.get(f"/provider/listings/{sample.SLUG}").text
        found = re.search(r"/provider/listings/ds_\w+/revise", page)
        assert found is not None
        assert "send its files anew: rides, zones" in page
        begun = pat.post(found[0])
        draft = re.fullmatch(r"/provide/(drf_\w+)/files", begun.url.path)
        assert draft is not None
    actor = Actor("tok_1", stand.orgs["provider"], "city", "provider")
    kept = composing.look(stand.market, actor, draft[1])
    assert kept.of("about")["slug"] == sample.SLUG
    assert kept.of("privacy")["rides.minutes.high"] == "120"
    assert kept.of("price")["plans"] == "3"
