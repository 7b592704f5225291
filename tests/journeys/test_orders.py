"""Orders over time: deadlines, limits, renewals, and who is told of what."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from exchange.client import Exchange
from exchange.client.errors import InvalidRequest
from exchange.operations import ordering
from tests.market import sample
from tests.market.stand import Stand, problem


def kinds(stand: Stand, who: str) -> list[str]:
    """What an organisation was told, newest first."""
    return [one["kind"] for one in stand.get(who, "/v1/notifications").json()["items"]]


def ask(stand: Stand, who: str = "buyer", **more: Any) -> dict[str, Any]:
    reply = stand.request(who, "by-request", **more)
    assert reply.status_code == 201, reply.text
    document: dict[str, Any] = reply.json()
    return document


def test_a_request_that_nobody_decides_lapses_at_its_deadline(stand: Stand) -> None:
    asked = ask(stand)
    assert asked["decide_by"] is not None
    assert kinds(stand, "provider")[0] == "access.requested"
    stand.clock.advance(days=44)
    assert ordering.rounds(stand.market)["lapsed"] == 0
    stand.clock.advance(days=2)
    told = problem(
        stand.post("provider", f"/v1/requests/{asked['request']}/approve"), 409, "request_not_open"
    )
    assert "had to be decided by" in told["detail"]
    assert [ordering.rounds(stand.market)["lapsed"] for _ in range(2)] == [1, 0]
    found = stand.get("buyer", f"/v1/requests/{asked['request']}").json()
    assert (found["state"], found["outcome"], found["decide_by"]) == ("declined", "lapsed", None)
    assert "did not decide in time" in found["reason"]
    assert (kinds(stand, "buyer")[0], kinds(stand, "provider")[0]) == ("access.lapsed", "access.lapsed")
    assert stand.broken_laws() == []


def test_approving_can_grant_less_and_for_a_shorter_time(stand: Stand) -> None:
    asked = ask(stand, until="2099-06-30")["request"]
    limits = {"max_rho": "0.02", "until": "2098-01-31", "reason": "for a start"}
    made = stand.post("provider", f"/v1/requests/{asked}/approve", limits).json()
    assert made["grant"]["rho_nano_allowance"] == 20_000_000
    assert made["grant"]["until"].startswith("2098-01-31")
    assert kinds(stand, "buyer")[0] == "access.approved"
    reply = stand.run("buyer", sample.COUNT, "0.03", plan="by-request")
    assert problem(reply, 409, "budget_exhausted")["remaining"] == 20_000_000
    problem(stand.request("buyer", "by-request", until="2001-01-01"), 422, "request_invalid")
    problem(stand.request("buyer", "by-request", until="soon"), 422, "request_invalid")
    assert stand.broken_laws() == []


def test_a_renewal_brings_a_new_allowance_and_is_decided_by_the_provider(stand: Stand) -> None:
    grant = stand.request("stranger", "taste", until="2099-01-31").json()["grant"]["grant"]
    assert stand.run("stranger", sample.PUBLIC, "0.01", plan="taste").status_code == 200
    stand.post("provider", f"/v1/grants/{grant}/suspend", {"reason": "a review"})
    problem(stand.post("stranger", f"/v1/grants/{grant}/renew"), 403, "grant_suspended")
    stand.post("provider", f"/v1/grants/{grant}/resume", {"reason": "done"})
    problem(stand.post("other", f"/v1/grants/{grant}/renew"), 403, "grant_missing")
    renewal = stand.post("stranger", f"/v1/grants/{grant}/renew", {"until": "2100-01-31"})
    assert renewal.status_code == 201, renewal.text
    assert (renewal.json()["state"], renewal.json()["renews"]) == ("open", grant), (
        "though the plan is instant"
    )
    asked = renewal.json()["request"]
    made = stand.post("provider", f"/v1/requests/{asked}/approve").json()["grant"]
    assert made["grant"] != grant
    assert made["rho_nano_remaining"] == 15_000_000
    assert stand.broken_laws() == []


def test_a_renewal_needs_the_new_licence_where_it_changed_materially(sqlite_stand: Stand) -> None:
    asked = ask(sqlite_stand)["request"]
    grant = sqlite_stand.post("provider", f"/v1/requests/{asked}/approve").json()["grant"]["grant"]
    stricter = sample.licence(purposes=["research"], text="You may not publish anything.")
    sqlite_stand.publish(manifest=sample.manifest(licence=stricter))
    problem(sqlite_stand.post("buyer", f"/v1/grants/{grant}/renew"), 403, "licence_not_accepted")
    accepted = sqlite_stand.post("buyer", f"/v1/grants/{grant}/renew", {"accept_licence": True})
    assert accepted.status_code == 201, accepted.text
    before = sqlite_stand.get("buyer", f"/v1/requests/{asked}").json()["acceptance"]["id"]
    assert accepted.json()["acceptance"]["id"] != before
    assert sqlite_stand.broken_laws() == []


def test_an_end_is_written_down_and_told_to_both(sqlite_stand: Stand) -> None:
    grant = sqlite_stand.request("stranger", until="2099-01-31").json()["grant"]["grant"]
    assert kinds(sqlite_stand, "provider")[0] == "access.granted"
    ended = sqlite_stand.post("stranger", f"/v1/grants/{grant}/end")
    assert ended.status_code == 200, ended.text
    problem(sqlite_stand.run("stranger", plan="pay"), 403, "grant_expired")
    assert ordering.rounds(sqlite_stand.market)["expired"] == 1
    assert kinds(sqlite_stand, "stranger")[0] == "grant.expired"
    assert kinds(sqlite_stand, "provider")[:2] == ["grant.expired", "grant.ended"]
    problem(sqlite_stand.post("stranger", f"/v1/grants/{grant}/end"), 409, "order_invalid")


def test_what_waits_already_is_given_again_and_held_once(stand: Stand) -> None:
    club = sample.plan("club", approval="provider", kind="credits", bundle="30.00", per_rho="20.00")
    stand.publish(manifest=sample.manifest(plans=[sample.plan(), club]))
    free = stand.wallet().available
    with ThreadPoolExecutor(4) as pool:
        told = [one.json() for one in pool.map(lambda _: stand.request("buyer", "club"), range(4))]
    assert len({one["request"] for one in told}) == 1
    assert sorted(one["repeated"] for one in told) == [False, True, True, True]
    assert stand.wallet().available == free - 3_000
    assert len(stand.get("provider", "/v1/requests?state=open").json()["items"]) == 1
    door = httpx.WSGITransport(app=stand.app)
    with Exchange("http://market.test", token=stand.tokens["buyer"], transport=door) as x:
        found = x.dataset(sample.SLUG).request(
            plan="club", purpose="research", territory="EU", accept_licence=True
        )
        assert found.request is not None
        assert found.request.id == told[0]["request"]
    for changes in ({"territory": "US"}, {"purpose": "journalism"}, {"until": "2099-01-31"}):
        other = stand.request("buyer", "club", **changes)
        assert other.json()["request"] != told[0]["request"], changes
        assert stand.post("buyer", f"/v1/requests/{other.json()['request']}/cancel").status_code == 200
    stand.post("buyer", f"/v1/requests/{told[0]['request']}/cancel")
    assert not stand.request("buyer", "club").json()["repeated"]
    stand.clock.advance(days=46)  # it has lapsed, though no round has written it down yet
    assert not stand.request("buyer", "club").json()["repeated"]
    grant = stand.get("buyer", "/v1/grants").json()["items"][-1]["grant"]
    again = [stand.post("buyer", f"/v1/grants/{grant}/renew").json() for _ in range(2)]
    assert again[0]["request"] == again[1]["request"]
    assert [one["repeated"] for one in again] == [False, True]
    later = stand.post("buyer", f"/v1/grants/{grant}/renew", {"until": "2099-01-31"})
    assert again[0]["request"] in problem(later, 409, "order_invalid")["detail"]
    assert stand.broken_laws() == []


def test_a_program_asks_for_the_plan_that_it_was_shown(sqlite_stand: Stand) -> None:
    stand = sqlite_stand

    def bundle(price: str) -> None:
        plan = sample.plan("bundle", kind="credits", bundle=price, per_rho="15.00")
        stand.publish(manifest=sample.manifest(plans=[sample.plan(), plan]))

    bundle("5.00")
    door = httpx.WSGITransport(app=stand.app)
    wanted: Any = {"purpose": "research", "territory": "EU", "accept_licence": True}
    with Exchange("http://market.test", token=stand.tokens["buyer"], transport=door) as x:
        seen = x.dataset(sample.SLUG)
        bundle("9.00")
        before = stand.wallet()
        with pytest.raises(InvalidRequest, match="has changed since it was shown"):
            seen.request(plan="bundle", **wanted)
        assert stand.wallet() == before
        now = x.dataset(sample.SLUG)
        grant = now.request(plan="bundle", **wanted)
        assert before.available - stand.wallet().available == 900
        bundle("12.00")
        with pytest.raises(InvalidRequest, match="has changed since it was shown"):
            grant.renew(plan_sha256=now.plan_sha256("bundle"))
        assert grant.renew(plan_sha256=x.dataset(sample.SLUG).plan_sha256("bundle")).state == "open"


def test_a_declined_or_cancelled_request_gives_back_what_it_held(sqlite_stand: Stand) -> None:
    club = sample.plan("club", approval="provider", kind="credits", bundle="30.00", per_rho="20.00")
    sqlite_stand.publish(manifest=sample.manifest(plans=[sample.plan(), club]))
    verdicts = {"decline": ("provider", {"reason": "no"}), "cancel": ("buyer", {})}
    for verb, (who, body) in verdicts.items():
        asked = sqlite_stand.request("buyer", "club").json()["request"]
        assert sqlite_stand.wallet().available == 7_000
        assert sqlite_stand.post(who, f"/v1/requests/{asked}/{verb}", body).status_code == 200
        assert sqlite_stand.wallet().available == 10_000
        problem(sqlite_stand.post(who, f"/v1/requests/{asked}/{verb}", body), 409, "request_not_open")
    problem(sqlite_stand.request("poor", "club"), 402, "payment_required")
    assert sqlite_stand.broken_laws() == []


def test_notifications_are_an_organisations_own(sqlite_stand: Stand) -> None:
    ask(sqlite_stand)
    told = sqlite_stand.get("provider", "/v1/notifications?unread=true").json()["items"]
    for who in ("rival", "officer"):
        assert sqlite_stand.get(who, "/v1/notifications").json() == {"items": []}
        problem(sqlite_stand.post(who, f"/v1/notifications/{told[0]['id']}/read"), 404, "not_found")
    problem(sqlite_stand.get("operator", "/v1/notifications"), 403, "role_missing")
    assert sqlite_stand.post("provider", f"/v1/notifications/{told[0]['id']}/read").json() == {"read": 1}
    assert sqlite_stand.post("provider", f"/v1/notifications/{told[0]['id']}/read").json() == {"read": 0}
    assert sqlite_stand.post("provider", "/v1/notifications/read").json() == {"read": len(told) - 1}
    assert sqlite_stand.get("provider", "/v1/notifications?unread=true").json() == {"items": []}
