"""Every refusal that the exchange can send becomes one exception of the tree, by code first."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

import exchange
from catalog.errors import UPLOAD_HINTS, CatalogError
from exchange import client
from exchange.audit.errors import AuditError
from exchange.client import errors
from exchange.client.errors import ExchangeError, from_problem
from exchange.errors import MarketError
from privacy.errors import PrivacyError
from settlement.errors import SettlementError
from tests.exchange.client.desk import Desk, html, problem

SERVER_SIDE: tuple[Any, ...] = (CatalogError, PrivacyError, SettlementError, AuditError, MarketError)


def _tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    for child in kind.__subclasses__():
        yield child
        yield from _tree(child)


def _codes() -> set[str]:
    named = {
        str(vars(kind).get("code", ""))
        for base in SERVER_SIDE
        for kind in _tree(base)
        if not kind.__name__.startswith("_")
    }
    return (named | set(UPLOAD_HINTS)) - {"", *(base.code for base in SERVER_SIDE)}


@pytest.mark.parametrize("code", sorted(_codes()))
def test_every_code_of_the_server_has_its_exception(code: str) -> None:
    # A status that maps to nothing in particular, so that only the code can have spoken.
    assert type(from_problem({"code": code}, status=418)) in set(_tree(ExchangeError)) - {
        errors.InvalidRequest
    } or (code in errors.InvalidRequest.codes)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "token_unknown", client.AuthError),
        (403, "role_missing", client.PermissionDenied),
        (404, "not_found", client.NotFound),
        (403, "grant_missing", client.GrantMissing),
        (403, "grant_expired", client.LicenceExpired),
        (403, "purpose_not_allowed", client.PurposeNotAllowed),
        (403, "territory_not_allowed", client.TerritoryNotAllowed),
        (403, "licence_expired", client.LicenceExpired),
        (403, "licence_not_accepted", client.LicenceNotAccepted),
        (403, "quota_exceeded", client.QuotaExceeded),
        (409, "budget_exhausted", client.BudgetExceeded),
        (402, "payment_required", client.PaymentRequired),
        (409, "limit_exceeded", client.LimitExceeded),
        (410, "quote_expired", client.QuoteExpired),
        (409, "key_reused", client.KeyReused),
        (500, "query_failed", client.QueryFailed),
        (504, "query_timeout", client.QueryFailed),
        (422, "not_parquet", client.UploadRejected),
        (422, "price_arbitrage", client.InvalidRequest),
    ],
)
def test_code_decides(status: int, code: str, kind: type[ExchangeError]) -> None:
    desk = Desk(problem(status, code))
    with pytest.raises(kind) as caught:
        desk.connection().get("/v1/whoami")
    error = caught.value
    assert (error.code, error.status, error.request_id, error.hint) == (code, status, "req_1", "Do this.")
    assert str(error) == f"It is {code}."
    assert len(desk.requests) == 1


def test_refused_sql_names_its_place() -> None:
    desk = Desk(problem(422, "raw_rows", category="sql", line=2, column=8, nearest="SELECT 1"))
    with pytest.raises(client.QueryRefused) as caught:
        desk.connection().get("/v1/whoami")
    assert (caught.value.code, caught.value.line, caught.value.column) == ("raw_rows", 2, 8)
    assert caught.value.nearest == "SELECT 1"


def test_a_code_of_sql_is_refused_sql_even_where_another_error_shares_its_name() -> None:
    assert isinstance(from_problem({"code": "too_large", "category": "sql"}, status=422), client.QueryRefused)
    assert isinstance(from_problem({"code": "too_large"}, status=413), client.InvalidRequest)


def test_licence_errors_are_one_family() -> None:
    assert issubclass(client.PurposeNotAllowed, client.LicenceError)
    assert issubclass(client.GrantMissing, client.LicenceError)
    assert not issubclass(client.LicenceError, client.PermissionDenied)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, client.InvalidRequest),
        (401, client.AuthError),
        (403, client.PermissionDenied),
        (404, client.NotFound),
        (409, client.Conflict),
        (418, client.InvalidRequest),
        (500, client.ServerError),
        (501, client.ServerError),
    ],
)
def test_status_decides_where_the_code_is_unknown(status: int, kind: type[ExchangeError]) -> None:
    assert type(from_problem({"code": "something_new", "detail": "x"}, status=status)) is kind


def test_remaining_budget_is_rho() -> None:
    error = from_problem({"code": "budget_exhausted", "remaining": 250_000_000}, status=409)
    assert isinstance(error, client.BudgetExceeded)
    assert error.remaining == Decimal("0.25")
    assert from_problem({"code": "budget_exhausted"}, status=409).remaining is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_html_of_a_proxy_is_a_server_error(status: int) -> None:
    desk = Desk(html(status))
    with pytest.raises(client.ServerError, match="status") as caught:
        desk.connection().get("/v1/whoami")
    assert caught.value.code == "unexpected_reply"
    assert "proxy" in caught.value.hint


def test_redirect_is_not_followed_with_the_token() -> None:
    desk = Desk(httpx.Response(302, headers={"Location": "http://elsewhere.test/"}))
    with pytest.raises(client.ServerError, match="redirect"):
        desk.connection().get("/v1/whoami")
    assert [request.url.host for request in desk.requests] == ["exchange.test"]


@pytest.mark.parametrize("body", [[], {"org": "o"}, "text", 3, None])
def test_reply_of_another_shape_is_a_server_error(body: object) -> None:
    with Desk(httpx.Response(200, json=body)).exchange() as x, pytest.raises(client.ServerError):
        x.whoami()


def test_errors_come_from_the_package_itself() -> None:
    for kind in (*_tree(ExchangeError), ExchangeError):
        still = (client.StillOpen, client.StillRunning, client.StillUnpaid)
        if kind.__name__ in client.__all__ and kind not in still:
            assert getattr(exchange, kind.__name__) is kind


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = exchange.Nothing
