from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from settlement import licences, orders
from settlement.documents import sha256_hex
from settlement.errors import (
    AmountInvalid,
    GrantExpired,
    GrantMissing,
    GrantSuspended,
    GrantWithdrawn,
    LicenceNotAccepted,
    OrderError,
    PurposeNotAllowed,
    QuoteExpired,
    QuoteMissing,
    RequestMissing,
    RequestNotOpen,
    SettlementError,
)
from settlement.money import Money
from settlement.prices import PricePlan

Sessions = Callable[[], AbstractContextManager[Session]]


def price_plan(approval: str) -> PricePlan:
    document = {
        "name": "pay",
        "kind": "pay-per-query",
        "currency": "USD",
        "per_rho": "40.00",
        "max_rho": "1.0",
    }
    return PricePlan.from_document({**document, "approval": approval})


@pytest.fixture
def market(sessions: Sessions, now: datetime) -> Sessions:
    """A licence of org_p, accepted by org_b for research in the US."""
    with sessions() as session:
        terms = {"purposes": ["research"], "territories": ["US"]}
        facts: dict[str, Any] = {
            "org": "org_p",
            "title": "Research",
            "text": "Ask.",
            "terms": terms,
            "now": now,
        }
        licences.publish_licence(session, id="lic_1", **facts)
        licences.accept_licence(
            session,
            id="acc_1",
            licence_id="lic_1",
            org="org_b",
            actor="act_b",
            role="buyer",
            purposes=["research"],
            territory="US",
            shown_sha256=sha256_hex("Ask."),
            now=now,
        )
    return sessions


def request(
    session: Session, now: datetime, approval: str = "provider", **changes: Any
) -> orders.AccessRequest:
    facts: dict[str, Any] = {
        "id": "req_1",
        "dataset": "ds_1",
        "provider": "org_p",
        "org": "org_b",
        "actor": "act_b",
        "purpose": "research",
        "territory": "US",
        "plan": price_plan(approval),
        "acceptance_id": "acc_1",
    }
    return orders.request_access(session, **{**facts, **changes}, now=now)


def grant(session: Session, now: datetime, number: int = 1, **changes: Any) -> orders.Grant:
    request(session, now, "instant", id=f"req_{number}", **changes)
    facts: dict[str, Any] = {
        "id": f"grt_{number}",
        "request_id": f"req_{number}",
        "allowance_rho_nano": 10**9,
    }
    return orders.issue_grant(session, org="org_b", now=now, **facts)


def quote(session: Session, now: datetime, **changes: Any) -> orders.Quote:
    facts: dict[str, Any] = {
        "id": "quo_1",
        "grant_id": "grt_1",
        "org": "org_b",
        "actor": "act_b",
        "plan_digest": "d" * 64,
        "price": Money(50, "USD"),
        "rho_nano": 10**7,
        "delta_pico": 0,
        "document": {"price": "0.50"},
    }
    return orders.save_quote(session, **{**facts, **changes}, now=now)


def test_an_instant_plan_approves_at_once(market: Sessions, now: datetime) -> None:
    with market() as session:
        made = request(session, now, "instant")
        assert (made.state, made.decided_by) == ("approved", orders.BY_PLAN)
        assert orders.find_request(session, "req_1", org="org_b") == made


def test_a_provider_approves_and_the_buyer_gets_one_grant(market: Sessions, now: datetime) -> None:
    with market() as session:
        until = now + timedelta(days=30)
        assert request(session, now, valid_until=until).state == "open"
        facts: dict[str, Any] = {
            "id": "grt_1",
            "request_id": "req_1",
            "allowance_rho_nano": 10**9,
            "now": now,
        }
        with pytest.raises(RequestNotOpen):
            orders.issue_grant(session, org="org_b", **facts)
        assert [r.id for r in orders.requests_for(session, provider="org_p", state="open")] == ["req_1"]
        approved = orders.approve(session, "req_1", provider="org_p", decided_by="act_p", now=now)
        assert (approved.state, approved.decided_by) == ("approved", "act_p")
        made = orders.issue_grant(session, org="org_b", **facts)
        assert (made.state, made.acceptance_id, made.purpose, made.territory) == (
            "active",
            "acc_1",
            "research",
            "US",
        )
        assert PricePlan.from_document(json.loads(made.plan)).sha256 == made.plan_sha256
        assert orders.find_grant(session, "grt_1", org="org_p") == made
        with pytest.raises(RequestNotOpen, match="granted before"):
            orders.issue_grant(session, org="org_b", **{**facts, "id": "grt_2"})
        assert [g.id for g in orders.grants_of(session, org="org_b")] == ["grt_1"]


def test_a_request_is_decided_once_and_says_why(market: Sessions, now: datetime) -> None:
    with market() as session:
        request(session, now)
        declined = orders.decline(
            session, "req_1", provider="org_p", decided_by="act_p", now=now, reason="not yet"
        )
        assert (declined.state, declined.reason) == ("declined", "not yet")
        with pytest.raises(RequestNotOpen, match="declined"):
            orders.approve(session, "req_1", provider="org_p", decided_by="act_p", now=now)


def test_a_request_stands_on_an_acceptance_of_the_same_use(market: Sessions, now: datetime) -> None:
    with market() as session:
        with pytest.raises(PurposeNotAllowed):
            request(session, now, purpose="advertising")
        with pytest.raises(LicenceNotAccepted):
            request(session, now, org="org_other")


def said(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(SettlementError) as refused:
        call()
    return refused.value.code, str(refused.value)


def test_a_foreign_id_reads_like_an_unknown_one(market: Sessions, now: datetime) -> None:
    with market() as session:
        grant(session, now)
        quote(session, now)
        request(session, now, id="req_2")
        for find in (
            lambda id_: orders.find_request(session, "req_1" if id_ else "req_9", org="org_other"),
            lambda id_: orders.find_grant(session, "grt_1" if id_ else "grt_9", org="org_other"),
            lambda id_: orders.get_quote(session, "quo_1" if id_ else "quo_9", org="org_other", now=now),
            lambda id_: orders.approve(
                session, "req_2" if id_ else "req_9", provider="org_b", decided_by="act_b", now=now
            ),
            lambda id_: orders.suspend_grant(
                session, "grt_1" if id_ else "grt_9", org="org_b", reason="", now=now
            ),
        ):
            assert said(lambda find=find: find(True)) == said(lambda find=find: find(False))  # type: ignore[misc]
        with pytest.raises(RequestMissing):
            orders.approve(session, "req_2", provider="org_b", decided_by="act_b", now=now)
        assert orders.find_request(session, "req_2", org="org_b").state == "open"


def test_the_newest_usable_grant_is_found(market: Sessions, now: datetime) -> None:
    with market() as session:
        with pytest.raises(GrantMissing):
            orders.usable_grant(session, org="org_b", dataset="ds_1", now=now)
        grant(session, now, 1)
        grant(session, now + timedelta(hours=1), 2)
        grant(session, now, 3, dataset="ds_2")
        find: dict[str, Any] = {"org": "org_b", "dataset": "ds_1", "now": now + timedelta(hours=2)}
        assert orders.usable_grant(session, **find).id == "grt_2"
        orders.suspend_grant(session, "grt_2", org="org_p", reason="review", now=now)
        assert orders.usable_grant(session, **find).id == "grt_1"
        assert orders.usable_grant(session, **find, purpose="research").id == "grt_1"
        with pytest.raises(GrantMissing):
            orders.usable_grant(session, **find, purpose="advertising")


def test_a_grant_that_cannot_be_used_says_why(market: Sessions, now: datetime) -> None:
    with market() as session:
        grant(session, now, valid_until=now + timedelta(days=1))
        find: dict[str, Any] = {"org": "org_b", "dataset": "ds_1"}
        with pytest.raises(GrantExpired):
            orders.usable_grant(session, **find, now=now + timedelta(days=1))
        orders.suspend_grant(session, "grt_1", org="org_p", reason="review", now=now)
        with pytest.raises(GrantSuspended):
            orders.usable_grant(session, **find, now=now)
        assert orders.resume_grant(session, "grt_1", org="org_p", reason="cleared", now=now).state == "active"
        orders.withdraw_grant(session, "grt_1", org="org_p", reason="breach", now=now)
        with pytest.raises(GrantWithdrawn):
            orders.usable_grant(session, **find, now=now)
        with pytest.raises(OrderError, match="withdrawn"):
            orders.resume_grant(session, "grt_1", org="org_p", reason="please", now=now)


def test_the_sweep_writes_down_what_has_ended(market: Sessions, now: datetime) -> None:
    with market() as session:
        day = timedelta(days=1)
        for number, until in enumerate((now + day, now + 2 * day, None), 1):
            grant(session, now, number, valid_until=until)
        assert orders.expire_grants(session, now=now) == []
        assert orders.expire_grants(session, now=now + day) == ["grt_1"]
        assert orders.expire_grants(session, now=now + day) == []
        assert orders.find_grant(session, "grt_1", org="org_b").state == "expired"


@pytest.mark.parametrize("allowance", [0, -1, 2**62])
def test_an_allowance_is_a_positive_integer(market: Sessions, now: datetime, allowance: int) -> None:
    with market() as session:
        request(session, now, "instant")
        with pytest.raises(AmountInvalid):
            orders.issue_grant(
                session, id="grt_1", request_id="req_1", org="org_b", allowance_rho_nano=allowance, now=now
            )


def test_a_quote_stands_for_fifteen_minutes(market: Sessions, now: datetime) -> None:
    with market() as session:
        grant(session, now)
        saved = quote(session, now)
        last = now + timedelta(minutes=15) - timedelta(microseconds=1)
        assert orders.get_quote(session, "quo_1", org="org_b", now=last) == saved
        assert (saved.price_minor, saved.currency, saved.document) == (50, "USD", '{"price":"0.50"}')
        with pytest.raises(QuoteExpired):
            orders.get_quote(session, "quo_1", org="org_b", now=now + timedelta(minutes=15))


def test_quotes_are_for_the_holder_of_the_grant(market: Sessions, now: datetime) -> None:
    with market() as session:
        grant(session, now)
        with pytest.raises(GrantMissing):
            quote(session, now, org="org_other")
        with pytest.raises(QuoteMissing):
            quote(session, now, org="org_p")
        with pytest.raises(AmountInvalid):
            quote(session, now, rho_nano=-1)


def test_times_without_a_zone_are_refused(market: Sessions, now: datetime) -> None:
    with market() as session, pytest.raises(ValueError, match="time zone"):
        request(session, now.replace(tzinfo=None))
