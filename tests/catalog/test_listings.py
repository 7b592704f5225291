"""Datasets from draft to withdrawal, on SQLite and on PostgreSQL."""

from __future__ import annotations

import dataclasses
import datetime as dt
import secrets
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from catalog import InvalidSlug, ListingState, NotFound, PolicyMismatch, SlugTaken, listings
from catalog.listings import Presentation, TableContent, VersionContent
from catalog.schema import Column, TableSchema

NOW = dt.datetime(2026, 11, 22, 6, 0, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=1)
SHOWN = Presentation("Flights out of New York", "All of 2013.", ("aviation", "delays"))


def content(*, objects: tuple[str, ...] = ("a" * 64,), rho: float = 5.0, domain: str = "aircraft:nyc") -> Any:
    """A version with a private and a public table."""
    private = TableSchema("flights", (Column("tailnum", "text"), Column("dep_delay", "integer")))
    public = TableSchema("airlines", (Column("carrier", "text"),))
    policy = {
        "domain": domain,
        "rho": rho,
        "delta": 1e-6,
        "tables": {
            "flights": {"unit": "TAILNUM", "columns": {"dep_delay": {"bounds": [-60, 600]}}},
            "airlines": {"public": True},
        },
    }
    return VersionContent(
        tables=(
            TableContent(
                private, tuple((each, 10) for each in objects), 334_264, 2_512, {"secret": "profile"}
            ),
            TableContent(public, (("b" * 64, 5),), 16),
        ),
        policy=policy,
        licence_id="lic_1",
        plans=({"name": "pay", "fee": "0.05"},),
    )


def id_of(prefix: str, slug: str) -> str:
    return f"{prefix}_{slug.replace('/', '-')}"


def offer(
    session: Session, slug: str = "nyc/flights", *, org: str = "org_a", shown: Presentation = SHOWN
) -> str:
    """Publish a dataset; returns its id."""
    dataset = listings.create_dataset(
        session, dataset_id=id_of("ds", slug), slug=slug, org=org, presentation=shown, now=NOW
    )
    version = listings.add_version(
        session, version_id=id_of("ver", slug), dataset_id=dataset.id, content=content(), now=NOW
    )
    assert listings.publish(session, dataset_id=dataset.id, version_id=version.id, now=NOW)
    return dataset.id


def add(session: Session, dataset_id: str, number: int, **changes: Any) -> listings.Version:
    return listings.add_version(
        session, version_id=f"ver_{number}", dataset_id=dataset_id, content=content(**changes), now=LATER
    )


def test_a_published_listing_shows_what_buyers_may_see(session: Session) -> None:
    offer(session)
    view = listings.find(session, "nyc/flights")
    assert (view.slug, view.org, view.state, view.title) == ("nyc/flights", "org_a", "published", SHOWN.title)
    assert (view.keywords, view.domain, view.licence_id) == (SHOWN.keywords, "aircraft:nyc", "lic_1")
    assert (view.version_number, view.published_at, view.current) == (1, NOW, True)
    assert view.plans == ({"name": "pay", "fee": "0.05"},)
    assert [(t.name, t.public, t.unit) for t in view.tables] == [
        ("flights", False, "TAILNUM"),
        ("airlines", True, None),
    ]
    flights = view.table("FLIGHTS")
    assert flights is not None
    assert flights.schema.types == {"tailnum": "text", "dep_delay": "integer"}
    assert flights.objects == ("a" * 64,)
    assert listings.find(session, view.dataset_id) == view
    assert listings.version_of(session, view.version_id) == view


def test_a_private_tables_row_count_never_leaves(session: Session) -> None:
    offer(session)
    view = listings.find(session, "nyc/flights")
    assert [table.rows for table in view.tables] == [None, 16]
    shown = str(dataclasses.asdict(view)) + repr(listings.search(session, "flights"))
    assert not [word for word in ("334264", "2512", "secret") if word in shown]


def test_the_profile_is_for_the_provider_alone(session: Session) -> None:
    offer(session)
    version = listings.find(session, "nyc/flights").version_id
    tables = listings.provider_profile(session, version, org="org_a").tables
    assert [(t.name, t.rows, t.rows_without_unit) for t in tables] == [
        ("flights", 334_264, 2_512),
        ("airlines", 16, 0),
    ]
    assert tables[0].profile == {"secret": "profile"}
    for org, wanted in (("org_b", version), ("org_a", "ver_none")):
        with pytest.raises(NotFound):
            listings.provider_profile(session, wanted, org=org)


@pytest.mark.parametrize(
    "slug", ["flights", "NYC/flights", "nyc/fl ights", "a/b/c", "/b", "a/", "a/b\n", "a/é", "x/" * 70]
)
def test_a_name_has_two_lower_case_words(slug: str) -> None:
    listings.check_slug("nyc/flights-2013")
    with pytest.raises(InvalidSlug):
        listings.check_slug(slug)


def test_a_name_is_given_once_whoever_asks(session: Session) -> None:
    offer(session)
    for org in ("org_a", "org_b"):
        with pytest.raises(SlugTaken):
            listings.create_dataset(
                session, dataset_id="ds_2", slug="nyc/flights", org=org, presentation=SHOWN, now=NOW
            )


def test_the_same_content_again_is_the_same_version(session: Session) -> None:
    dataset = offer(session)
    again = add(session, dataset, 2)
    assert (again.created, again.number, again.id) == (False, 1, "ver_nyc-flights")
    assert listings.publish(session, dataset_id=dataset, version_id=again.id, now=LATER) is False
    assert listings.find(session, dataset).published_at == NOW


@pytest.mark.parametrize("change", [{"objects": ("c" * 64,)}, {"rho": 4.0}, {"domain": "aircraft:other"}])
def test_any_change_of_content_is_the_next_version(change: dict[str, Any], session: Session) -> None:
    dataset = offer(session)
    second = add(session, dataset, 2, **change)
    assert (second.created, second.number) == (True, 2)
    assert listings.find(session, dataset).version_number == 1
    assert listings.publish(session, dataset_id=dataset, version_id=second.id, now=LATER)
    view = listings.find(session, dataset)
    assert (view.version_number, view.published_at) == (2, LATER)
    first = listings.version_of(session, "ver_nyc-flights")
    assert (first.version_number, first.published_at, first.current) == (1, NOW, False)
    # Back to the first content: history only grows.
    assert (add(session, dataset, 3).created, add(session, dataset, 4).number) == (True, 3)


def test_content_hashes_do_not_depend_on_the_order_of_keys() -> None:
    base = content()
    turned = dataclasses.replace(base, policy=dict(reversed(base.policy.items())))
    assert listings.content_sha256(base) == listings.content_sha256(turned)
    fewer = dataclasses.replace(base, tables=base.tables[:1])
    assert listings.content_sha256(base) != listings.content_sha256(fewer)


def test_a_policy_keeps_its_very_numbers(session: Session) -> None:
    """5.0 stays 5.0 and 1e-06 stays 1e-06, so that a hash over the document is the same after storing."""
    offer(session)
    policy = listings.find(session, "nyc/flights").policy
    assert policy == content().policy
    assert [type(policy["rho"]), policy["delta"]] == [float, 1e-6]


def test_a_policy_that_does_not_fit_its_tables_is_not_stored(session: Session) -> None:
    dataset = offer(session)
    wrong = content()
    wrong.policy["tables"]["flights"]["columns"]["dep_dely"] = {}
    with pytest.raises(PolicyMismatch):
        listings.add_version(session, version_id="ver_2", dataset_id=dataset, content=wrong, now=LATER)
    with pytest.raises(NotFound):
        listings.version_of(session, "ver_2")


def test_a_description_changes_without_a_new_version(session: Session) -> None:
    dataset = offer(session)
    assert listings.present(session, dataset_id=dataset, presentation=SHOWN, now=LATER) is False
    new = dataclasses.replace(SHOWN, description="Now with weather.")
    assert listings.present(session, dataset_id=dataset, presentation=new, now=LATER) is True
    assert listings.find(session, dataset).description == "Now with weather."
    assert listings.find(session, dataset).version_number == 1
    assert len(listings.search(session, "weather").hits) == 1


def test_a_draft_is_seen_by_nobody_but_known_to_its_owner(session: Session) -> None:
    listings.create_dataset(session, dataset_id="ds", slug="a/b", org="org_a", presentation=SHOWN, now=NOW)
    add(session, "ds", 1)
    for sees in ({}, {"reader": "org_a"}, {"sees_all": True}):
        with pytest.raises(NotFound):
            listings.find(session, "a/b", **sees)
    assert listings.search(session).hits == ()
    known = listings.dataset_by_slug(session, "a/b")
    assert known is not None
    assert (known.state, known.version_id, known.org) == ("draft", None, "org_a")


def test_a_withdrawn_listing_is_gone_for_all_but_owner_and_officer(session: Session) -> None:
    dataset = offer(session)
    assert listings.withdraw(session, dataset_id=dataset, now=LATER) is True
    assert listings.withdraw(session, dataset_id=dataset, now=LATER) is False
    assert listings.search(session, "flights").hits == ()
    messages = set()
    for reference, reader in (
        ("nyc/flights", None),
        ("nyc/flights", "org_b"),
        ("nyc/other", None),
        ("ds_x", "org_b"),
    ):
        with pytest.raises(NotFound) as caught:
            listings.find(session, reference, reader=reader)
        messages.add(str(caught.value))
    assert len(messages) == 1
    for view in (
        listings.find(session, "nyc/flights", reader="org_a"),
        listings.find(session, dataset, sees_all=True),
    ):
        assert (view.state, view.current) == ("withdrawn", False)
    for step in (
        lambda: listings.publish(session, dataset_id=dataset, version_id="ver_nyc-flights", now=LATER),
        lambda: add(session, dataset, 2, rho=1.0),
        lambda: listings.present(session, dataset_id=dataset, presentation=SHOWN, now=LATER),
    ):
        with pytest.raises(ListingState) as refused:
            step()
        assert refused.value.code == "listing_withdrawn"


def test_a_version_of_another_dataset_cannot_be_offered(session: Session) -> None:
    dataset = offer(session)
    offer(session, "nyc/other")
    with pytest.raises(NotFound):
        listings.publish(session, dataset_id=dataset, version_id="ver_nyc-other", now=LATER)
    with pytest.raises(NotFound):
        listings.publish(session, dataset_id="ds_none", version_id="ver_nyc-other", now=LATER)


def test_the_domains_of_stored_bytes_are_remembered(session: Session) -> None:
    dataset = offer(session)
    add(session, dataset, 2, domain="aircraft:other")
    found = listings.domains_holding(session, ["a" * 64, "b" * 64, "c" * 64])
    assert found == {"a" * 64: {"aircraft:nyc", "aircraft:other"}}, "a public table's objects have no domain"
    assert listings.domains_holding(session, []) == {}


def test_two_versions_with_one_number_are_impossible(session: Session) -> None:
    from catalog.tables import dataset_version

    dataset = offer(session)
    row = dict(session.execute(select(dataset_version)).one()._mapping)
    assert row["dataset"] == dataset
    with pytest.raises(IntegrityError):
        session.execute(dataset_version.insert().values(**{**row, "id": "ver_2"}))


def test_times_need_their_zone(session: Session) -> None:
    with pytest.raises(ValueError, match="zone"):
        listings.create_dataset(
            session, dataset_id="d", slug="a/b", org="o", presentation=SHOWN, now=NOW.replace(tzinfo=None)
        )


def test_every_table_is_listed_as_append_only_or_known_to_change() -> None:
    assert set(listings.metadata.tables) - set(listings.append_only) == {
        "listing",
        "search_entry",
        "search_facet",
    }


def test_an_organisation_sees_its_own_in_every_state(session: Session) -> None:
    offer(session)
    offer(session, "b/b", org="org_b")
    withdrawn = offer(session, "a/a")
    listings.withdraw(session, dataset_id=withdrawn, now=LATER)
    own = listings.of_organisation(session, "org_a")
    assert [(each.slug, each.state) for each in own] == [("a/a", "withdrawn"), ("nyc/flights", "published")]


def test_tables_of_a_version_are_remembered_once_they_are_committed(session: Session) -> None:
    """A transaction that writes may be taken back; one that reads sees what never changes."""
    slug = f"kept/once-{secrets.token_hex(4)}"  # ids are of one version for ever
    offer(session, slug)
    asked: list[str] = []
    connection = session.connection()
    event.listen(connection, "before_cursor_execute", lambda *told: asked.append(told[2]))

    def reads() -> int:
        asked.clear()
        assert [table.name for table in listings.find(session, slug).tables] == ["flights", "airlines"]
        return sum("version_part" in statement for statement in asked)

    assert (reads(), reads()) == (1, 1)
    connection.execution_options(writing=False)
    assert (reads(), reads()) == (1, 0)
