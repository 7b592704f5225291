"""Steps that an officer approves first: looser policies, large grants, registrations; each just as asked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from exchange.client.control import Approval
from exchange.errors import ApprovalNeeded
from exchange.identity import Role
from exchange.operations import administering, approving, policy_changes, profiling
from privacy import Policy
from tests.journeys.crashes import Died
from tests.market import sample
from tests.market.browser import Browser
from tests.market.officers import approve, officer, shown
from tests.market.stand import Stand, problem

PATH = f"/v1/datasets/{sample.SLUG}/publish"


@pytest.fixture
def ada(sqlite_stand: Stand) -> Iterator[Browser]:
    """An officer, as a person."""
    with closing(officer(sqlite_stand)) as browser:
        yield browser


def policy(**columns: dict[str, Any]) -> dict[str, Any]:
    """The sample's policy with other declarations of columns."""
    document = sample.policy()
    document["tables"]["rides"]["columns"].update(columns)
    return document


def draft(stand: Stand, document: dict[str, Any]) -> dict[str, str]:
    """A new version with this policy, ready to be published."""
    made = stand.draft(manifest=sample.manifest(policy=document))
    assert made.status_code in (200, 201), made.text
    return {"version": made.json()["version"]}


def waits(reply: httpx.Response) -> str:
    """The approval that a refusal names."""
    told = problem(reply, 409, "approval_needed")
    assert told["approval"] in told["hint"]
    return str(told["approval"])


def test_wider_bounds_are_offered_once_an_officer_approves(sqlite_stand: Stand, ada: Browser) -> None:
    stand = sqlite_stand
    body = draft(stand, policy(minutes={"bounds": [0, 240]}))
    asked = waits(stand.post("provider", PATH, body))
    assert waits(stand.post("provider", PATH, body)) == asked, "asking again asks once"
    told = shown(stand, asked)
    assert (told["command"], told["state"]) == ("listing.loosen", "open")
    assert "rides.minutes: bounds" in told["reason"]
    assert told["parameters"]["version"] == body["version"]
    assert stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["version_number"] == 1
    assert approve(ada, asked).status_code == 200
    assert shown(stand, asked)["used_at"] is None, "approving publishes nothing: the provider does"
    done = stand.post("provider", PATH, body)
    assert done.status_code == 200, done.text
    assert shown(stand, asked)["used_at"]
    kinds = [one.document["kind"] for one in stand.entries()]
    assert kinds[-3:-1] == ["listing.published", "approval.used"] or "approval.used" in kinds
    another = draft(stand, policy(minutes={"bounds": [0, 480]}))
    assert waits(stand.post("provider", PATH, another)) != asked, "an approval is of one version"
    assert stand.broken_laws() == []


def test_the_approver_is_shown_all_that_is_looser(sqlite_stand: Stand, ada: Browser) -> None:
    """Before and after, each key, by the dataset's name: on the page, in the API and the SDK."""
    stand = sqlite_stand
    zones = [zone for zone, _, _ in sample.ZONES]
    new = {
        "minutes": {"bounds": [0, 240]},
        "zone": {"keys": [*zones, *(f"zone {i}" for i in range(40))]},
        "kind": {"keys": ["taxi", "<b>, bike"]},
    }
    body = draft(stand, {**policy(**new), "rho": 3.0, "max_rho_per_query": 1.5})
    asked = waits(stand.post("provider", PATH, body))
    told = shown(stand, asked)
    assert told["in_words"] == "Offer version 2 of city/rides, which tells more"
    found = {one["what"]: (one["before"], one["after"]) for one in told["changes"]}
    assert found["budget: rho"] == ("2", "3")
    assert found["max_rho_per_query"] == ("1", "1.5")
    assert found["rides.minutes: bounds"] == ("0 to 120", "0 to 240")
    assert found["rides.kind: keys"] == ("private", '"taxi", "<b>, bike"')
    before, after = found["rides.zone: keys"]
    assert before == ", ".join(f'"{zone}"' for zone in zones)
    assert after == "also " + ", ".join(f'"zone {i}"' for i in range(40))
    page = unescape(ada.get(f"/officer/approvals/{asked}").text)
    assert "<b>, bike" in page
    for what in ("city/rides", "2</td><td>3", "0 to 120</td><td>0 to 240", after):
        assert what in page, what
    assert "changes" not in stand.get("officer", "/v1/officer/approvals").json()["items"][0]
    assert Approval.from_document(told).changes == told["changes"]


def test_keys_and_bounds_that_are_dropped_take_an_approval(sqlite_stand: Stand) -> None:
    """Without a key set every value may be shown, and without bounds a question states its own."""
    stand = sqlite_stand
    one = next(zone for zone, _, _ in sample.ZONES)
    assert stand.post("provider", PATH, draft(stand, policy(zone={"keys": [one]}))).status_code == 200
    assert stand.request().status_code in (200, 201)
    asked = waits(stand.post("provider", PATH, draft(stand, policy(zone={"keys": "private"}, minutes={}))))
    found = {told["what"]: (told["before"], told["after"]) for told in shown(stand, asked)["changes"]}
    assert found == {
        "rides.zone: keys": (f'"{one}"', "private"),
        "rides.minutes: bounds": ("0 to 120", "none: a question may state its own"),
    }
    answer = stand.run(sql="SELECT zone, COUNT(*) AS n FROM rides GROUP BY zone", rho="0.5").json()
    assert [row[0] for row in answer["rows"]] == [one]
    assert stand.broken_laws() == []


def test_an_approval_is_used_once(sqlite_stand: Stand, ada: Browser) -> None:
    """Back to the old version, and the looser one needs an approval again."""
    stand = sqlite_stand
    tight = {"version": stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()["version"]}
    loose = draft(stand, policy(minutes={"bounds": [0, 240]}))
    asked = waits(stand.post("provider", PATH, loose))
    assert approve(ada, asked).status_code == 200
    assert stand.post("provider", PATH, loose).status_code == 200
    assert stand.post("provider", PATH, tight).status_code == 200, "tighter is the provider's own to decide"
    assert waits(stand.post("provider", PATH, loose)) != asked


def test_what_was_declined_is_not_asked_for_again_at_once(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    body = draft(stand, policy(minutes={"bounds": [0, 240]}))
    asked = waits(stand.post("provider", PATH, body))
    assert stand.post("officer", f"/v1/officer/approvals/{asked}/decline").status_code == 200
    told = problem(stand.post("provider", PATH, body), 409, "approval_needed")
    assert (told["approval"], told["approval_state"]) == (asked, "declined")
    stand.clock.advance(hours=73)
    assert waits(stand.post("provider", PATH, body)) != asked


def test_what_was_approved_is_done_in_time(sqlite_stand: Stand, ada: Browser) -> None:
    stand = sqlite_stand
    body = draft(stand, policy(minutes={"bounds": [0, 240]}))
    asked = waits(stand.post("provider", PATH, body))
    assert approve(ada, asked).status_code == 200
    stand.clock.advance(hours=73)
    assert waits(stand.post("provider", PATH, body)) != asked
    assert approving.expire(stand.market) == 1
    assert shown(stand, asked)["state"] == "expired"
    assert stand.broken_laws() == []


@pytest.mark.parametrize("profile_rho", [0, 0.01])
def test_a_larger_budget_is_granted_with_an_approval(
    sqlite_stand: Stand, ada: Browser, profile_rho: float
) -> None:
    stand = sqlite_stand
    document = {**policy(minutes={"bounds": [0, 240]}), "rho": 3.0, "profile_rho": profile_rho}
    body = draft(stand, document)
    asked = waits(stand.post("provider", PATH, body))
    assert "budget: rho" in shown(stand, asked)["reason"]
    assert stand.budget()["rho_nano_granted"] == 2_000_000_000
    assert approve(ada, asked).status_code == 200
    done = stand.post("provider", PATH, body)
    assert done.status_code == 200, done.text
    assert stand.budget()["rho_nano_granted"] == 3_000_000_000
    assert shown(stand, asked)["used_at"]
    assert stand.broken_laws() == []


def test_a_budget_that_was_granted_has_used_its_approval(
    sqlite_stand: Stand, ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the version is not offered then: what happened by an approval does not expire. The offer
    needs no other one in its time, and is made once by it.
    """
    stand = sqlite_stand
    tight = {"version": stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()["version"]}
    body = draft(stand, {**policy(minutes={"bounds": [0, 240]}), "rho": 3.0, "profile_rho": 0.01})

    def die(*_: Any) -> None:
        raise Died

    asked = waits(stand.post("provider", PATH, body))
    assert approve(ada, asked).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(profiling, "_reserve", die)
        with pytest.raises(Died):
            stand.post("provider", PATH, body)
    assert stand.budget()["rho_nano_granted"] == 3_000_000_000
    granted, used = stand.entries()[-2:]
    assert [one.document["kind"] for one in (granted, used)] == ["budget.granted", "approval.used"]
    assert shown(stand, asked)["used_at"]
    stand.clock.advance(hours=71)
    assert stand.post("provider", PATH, body).status_code == 200
    assert len(stand.entries(kind="approval.used")) == 1
    assert stand.post("provider", PATH, tight).status_code == 200
    waits(stand.post("provider", PATH, body))
    stand.clock.advance(hours=2)
    assert approving.expire(stand.market) == 0
    assert stand.broken_laws() == []


@pytest.mark.parametrize("given_up", [True, False], ids=["given up", "late"])
def test_a_used_approval_grants_no_budget_again(sqlite_stand: Stand, ada: Browser, given_up: bool) -> None:
    """The version cannot be offered, for its profile would take all that it was granted. Its approval is of
    the offer for as long as that budget stands, and within its time.
    """
    stand = sqlite_stand
    tight = {"version": stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()["version"]}
    assert stand.request().status_code in (200, 201)
    assert stand.run().status_code == 200
    all_of_it = {"rho": 4.0, "profile_rho": 4.0}
    body = draft(stand, {**policy(minutes={"bounds": [0, 240]}), **all_of_it})
    asked = waits(stand.post("provider", PATH, body))
    assert approve(ada, asked).status_code == 200
    for _ in range(2):
        problem(stand.post("provider", PATH, body), 409, "budget_exhausted")
    assert stand.budget()["rho_nano_granted"] == 4_000_000_000
    if given_up:
        assert stand.post("provider", PATH, tight).status_code == 200
        assert stand.budget()["rho_nano_granted"] == 2_000_000_000
    else:
        stand.clock.advance(hours=73)
    granted = stand.budget()["rho_nano_granted"]
    assert waits(stand.post("provider", PATH, body)) != asked
    assert stand.budget()["rho_nano_granted"] == granted
    assert len(stand.entries(kind="approval.used")) == 1
    assert stand.broken_laws() == []


def test_without_the_setting_bounds_are_free_and_budgets_fixed(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    monkeypatch.setitem(vars(stand.settings), "loosening_approval", 0)
    assert stand.post("provider", PATH, draft(stand, policy(minutes={"bounds": [0, 240]}))).status_code == 200
    larger = draft(stand, sample.policy(rho=3.0))
    problem(stand.post("provider", PATH, larger), 409, "policy_loosened")


OLD = sample.policy()
COLUMNS = [f"trips.{name}: column" for name in ("zone", "kind", "minutes", "cents", "paid", "rider")]


def changed(table: str, **settings: Any) -> dict[str, Any]:
    """The sample's policy with other settings of a table; None removes one."""
    document = sample.policy()
    merged = {**document["tables"][table], **settings}
    document["tables"][table] = {name: value for name, value in merged.items() if value is not None}
    return document


def renamed(old: str, new: str, document: dict[str, Any]) -> dict[str, Any]:
    """A policy with another name for a table."""
    document["tables"][new] = document["tables"].pop(old)
    return document


@pytest.mark.parametrize(
    ("new", "named"),
    [
        (OLD, []),
        (sample.policy(max_rho_per_query=2.0), ["max_rho_per_query"]),
        (sample.policy(max_rho_per_query=0.5, rho=9.0), []),
        (sample.policy(rho=1.0), []),
        (sample.policy(rho=1.999999999), []),
        (sample.policy(min_rho_per_query=0.000019999), ["min_rho_per_query"]),
        (sample.policy(min_rho_per_query=0.00002), []),
        (sample.policy(min_rho_per_query=0.000015, rho=1.0), []),
        (policy(minutes={"bounds": [0, 121]}), ["rides.minutes: bounds"]),
        (policy(minutes={"bounds": [-1, 120]}), ["rides.minutes: bounds"]),
        (policy(minutes={"bounds": [0, 119]}), []),
        (policy(zone={"keys": ["north", "south", "east", "west"]}), ["rides.zone: keys"]),
        (policy(zone={"keys": ["north"]}), []),
        (policy(kind={"keys": ["taxi"]}), ["rides.kind: keys"]),
        (policy(zone={"keys": "private"}), ["rides.zone: keys"]),
        (policy(zone={}), ["rides.zone: keys"]),
        (policy(zone={"selectable": False}), []),
        (policy(paid={"bounds": [0, 1]}), ["rides.paid: bounds"]),
        (policy(minutes={}), ["rides.minutes: bounds"]),
        (policy(minutes={"selectable": False}), []),
        (policy(minutes={"bounds": [0, 120], "decimals": 1}), ["rides.minutes: type"]),
        (changed("rides", max_groups=None, max_rows_per_group=None, max_rows=None), []),
        (sample.policy(profile_rho=1.0), []),
        (sample.policy(profile_rho=1.01), ["profile_rho"]),
        (policy(tip={}), ["rides.tip: column"]),
        (renamed("rides", "trips", policy(minutes={"bounds": [0, 9]})), ["trips: table", *COLUMNS]),
        (renamed("zones", "areas", sample.policy()), ["areas: table"]),
        (changed("rides", unit="RIDER"), []),
        (changed("rides", unit="zone"), ["rides: unit"]),
        (changed("zones", public=False, unit="zone"), ["zones.zone: column"]),
        (changed("rides", public=True, unit=None), ["rides: table"]),
    ],
    ids=str,
)
def test_what_counts_as_looser(new: dict[str, Any], named: list[str]) -> None:
    read = [Policy.from_document(one, None) for one in (OLD, new)]
    assert [one.what for one in policy_changes.changes(*read)] == named


def test_the_first_listing_and_revisions_of_the_rows_take_no_approval(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    stand.publish(files=sample.files(seed=8))
    stand.publish(manifest=sample.manifest(title="Rides", plans=[sample.plan(fee="0.07")]))
    stand.publish(manifest=sample.manifest(slug="city/rides-of-may"), files=sample.files(seed=9))
    assert stand.entries(kind="approval.requested") == []


def test_a_column_that_comes_back_is_new(sqlite_stand: Stand) -> None:
    """Left out for one version, it is not held against what it was before that: it could be anything."""
    stand = sqlite_stand
    rides = pq.read_table(io.BytesIO(sample.rides()))
    without = io.BytesIO()
    pq.write_table(rides.drop_columns(["minutes"]), without)
    tight = policy()
    del tight["tables"]["rides"]["columns"]["minutes"]
    files = {"rides": without.getvalue(), "zones": sample.zones()}
    stand.publish(manifest=sample.manifest(policy=tight), files=files)
    asked = waits(stand.post("provider", PATH, draft(stand, policy(minutes={"bounds": [0, 999]}))))
    assert shown(stand, asked)["reason"].endswith("on offer: rides.minutes: column")


def test_a_second_dataset_of_the_domain_tells_no_more_than_the_first(
    sqlite_stand: Stand, ada: Browser
) -> None:
    """Neither beside it nor in its place: the people are the same."""
    stand = sqlite_stand
    wider = policy(minutes={"bounds": [0, 240]})
    drafted = stand.draft(manifest=sample.manifest(slug="city/more", policy=wider)).json()
    where, body = "/v1/datasets/city/more/publish", {"version": drafted["version"]}
    asked = waits(stand.post("provider", where, body))
    assert shown(stand, asked)["reason"].endswith("on offer: rides.minutes: bounds")
    assert stand.post("provider", f"/v1/datasets/{sample.SLUG}/withdraw", {}).status_code == 200
    assert waits(stand.post("provider", where, body)) == asked
    assert approve(ada, asked).status_code == 200
    assert stand.post("provider", where, body).status_code == 200
    assert stand.broken_laws() == []


def grants(stand: Stand) -> list[dict[str, Any]]:
    """What the other buyer was granted for journalism."""
    items = stand.get("other", "/v1/grants").json()["items"]
    return [one for one in items if one["purpose"] == "journalism"]


@pytest.mark.parametrize("plan", ["pay", "by-request"])
def test_a_large_grant_takes_an_approval(
    sqlite_stand: Stand, ada: Browser, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    stand = sqlite_stand
    large = sample.manifest(
        plans=[sample.plan(max_rho="5.0"), sample.plan("by-request", approval="provider", max_rho="5.0")]
    )
    stand.publish(manifest=large)
    monkeypatch.setitem(vars(stand.settings), "grant_approval_rho", 1)
    asks: dict[str, Any] = {"plan": plan, "purpose": "journalism"}
    if plan == "pay":

        def step() -> httpx.Response:
            return stand.request("other", **asks)
    else:
        wanted = stand.request("other", **asks).json()["request"]

        def step() -> httpx.Response:
            return stand.post("provider", f"/v1/requests/{wanted}/approve", {})

    asked = waits(step())
    assert grants(stand) == []
    assert shown(stand, asked)["parameters"]["rho_nano"] == 5_000_000_000
    assert shown(stand, asked)["in_words"] == "Grant globex rho 5 of city/rides"
    assert approve(ada, asked).status_code == 200
    assert step().status_code in (200, 201)
    (grant,) = grants(stand)
    assert grant["rho_nano_allowance"] == 5_000_000_000
    assert shown(stand, asked)["used_at"]
    assert stand.broken_laws() == []


def test_the_approval_of_a_buy_out_stands_while_others_ask(
    sqlite_stand: Stand, ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of all that is left, whatever that is then, and at most of what the domain was granted."""
    stand = sqlite_stand
    whole = {"name": "all", "kind": "buy-out", "currency": "USD", "price": "6.00", "approval": "provider"}
    stand.publish(manifest=sample.manifest(plans=[sample.plan(), whole]))
    monkeypatch.setitem(vars(stand.settings), "grant_approval_rho", 1)
    assert stand.request().status_code in (200, 201)
    wanted = stand.request("other", "all", purpose="journalism").json()["request"]
    step = f"/v1/requests/{wanted}/approve"
    asked = waits(stand.post("provider", step, {}))
    words = "Grant globex all that is left, at most rho 2, of city/rides"
    assert shown(stand, asked)["in_words"] == words
    assert f"<h1>{words}</h1>" in ada.get(f"/officer/approvals/{asked}").text
    assert approve(ada, asked).status_code == 200
    assert stand.run(rho="0.25").status_code == 200
    done = stand.post("provider", step, {})
    assert done.status_code == 200, done.text
    assert done.json()["grant"]["rho_nano_allowance"] == 1_750_000_000
    assert shown(stand, asked)["used_at"]
    assert stand.broken_laws() == []


def test_a_smaller_grant_needs_none(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    monkeypatch.setitem(vars(stand.settings), "grant_approval_rho", 1)
    assert stand.request("other").status_code in (200, 201)


def test_who_was_registered_meanwhile_is_not_created_again(
    sqlite_stand: Stand, ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    with monkeypatch.context() as patch:
        patch.setitem(vars(stand.settings), "registration_approval", 1)
        with pytest.raises(ApprovalNeeded) as refused:
            administering.create_organisation(stand.market, name="umbrella", role=Role.BUYER)
    made = administering.create_organisation(stand.market, name="umbrella", role=Role.BUYER)
    before = len(stand.entries(kind="organisation.created"))
    assert approve(ada, str(refused.value.details["approval"])).status_code == 200
    assert len(stand.entries(kind="organisation.created")) == before
    assert stand.entries(kind="organisation.confirmed")[-1].document["object"]["id"] == made["org"]


def test_an_organisation_is_registered_once_it_is_approved(
    sqlite_stand: Stand, ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    monkeypatch.setitem(vars(stand.settings), "registration_approval", 1)
    with pytest.raises(ApprovalNeeded) as refused:
        administering.create_organisation(stand.market, name="umbrella", role=Role.BUYER)
    asked = str(refused.value.details["approval"])
    assert asked in refused.value.hint
    told = shown(stand, asked)
    assert (told["in_words"], told["requested_by"]) == ("Register umbrella as a buyer", "system")
    assert approve(ada, asked).status_code == 200
    made = administering.create_organisation(stand.market, name="umbrella", role=Role.BUYER)
    assert made["org"].startswith("org_")
    assert stand.entries(kind="organisation.created")[-1].document["object"]["id"] is not None
    assert all(b"umbrella" not in one.leaf for one in stand.entries())
    created = [one.document["object"]["id"] for one in stand.entries(kind="organisation.created")]
    assert created.count(made["org"]) == 1, "that it is there already is another entry"
    assert stand.entries(kind="organisation.confirmed")[-1].document["object"]["id"] == made["org"]
    guards = administering.create_organisation(stand.market, name="guards", role=Role.OFFICER)
    assert guards["org"].startswith("org_"), "who runs the exchange is the operator's own to admit"
    assert stand.broken_laws() == []
