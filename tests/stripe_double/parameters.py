"""Requests held against the types of ``stripe.params``: a key that none names is refused."""

from __future__ import annotations

import functools
import importlib
import types
import typing
from urllib.parse import parse_qsl

import typing_extensions
from stripe._request_options import RequestOptions

#: (method, path with one * for each id) -> module and class of ``stripe.params``.
CALLS = {
    ("POST", "/v1/customers"): ("_customer_create_params", "CustomerCreateParams"),
    ("GET", "/v1/customers/*/payment_methods"): (
        "_customer_payment_method_list_params",
        "CustomerPaymentMethodListParams",
    ),
    ("POST", "/v1/checkout/sessions"): ("checkout._session_create_params", "SessionCreateParams"),
    ("POST", "/v1/payment_intents"): ("_payment_intent_create_params", "PaymentIntentCreateParams"),
    ("GET", "/v1/payment_intents"): ("_payment_intent_list_params", "PaymentIntentListParams"),
    ("POST", "/v1/accounts"): ("_account_create_params", "AccountCreateParams"),
    ("POST", "/v1/account_links"): ("_account_link_create_params", "AccountLinkCreateParams"),
    ("POST", "/v1/transfers"): ("_transfer_create_params", "TransferCreateParams"),
    ("GET", "/v1/transfers"): ("_transfer_list_params", "TransferListParams"),
    ("POST", "/v1/transfers/*/reversals"): (
        "_transfer_reversal_create_params",
        "TransferReversalCreateParams",
    ),
    ("GET", "/v1/transfers/*/reversals"): ("_transfer_reversal_list_params", "TransferReversalListParams"),
    ("POST", "/v1/refunds"): ("_refund_create_params", "RefundCreateParams"),
    ("GET", "/v1/refunds"): ("_refund_list_params", "RefundListParams"),
    ("GET", "/v1/balance_transactions"): ("_balance_transaction_list_params", "BalanceTransactionListParams"),
    ("GET", "/v1/balance"): ("_balance_retrieve_params", "BalanceRetrieveParams"),
}
_OPTIONS = set(RequestOptions.__annotations__)


def read(method: str, pattern: str, text: str) -> tuple[dict[str, typing.Any], str | None]:
    """The form as nested values, and the first key that the SDK's type of this call does not name."""
    wanted = _class(method, pattern)
    form: dict[str, typing.Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        path = name.replace("]", "").split("[")
        if not _allowed(wanted, path, top=True):
            return {}, name
        _put(form, path, value)
    return form, None


@functools.cache
def _class(method: str, pattern: str) -> typing.Any:
    module, name = CALLS[(method, pattern)]
    return getattr(importlib.import_module(f"stripe.params.{module}"), name)


@functools.cache
def _hints(kind: typing.Any) -> dict[str, typing.Any]:
    return typing_extensions.get_type_hints(kind, localns={"StripeContext": object, "Mapping": dict})


def _allowed(kind: typing.Any, path: list[str], *, top: bool = False) -> bool:
    if not path:
        return True
    head, rest = path[0], path[1:]
    if typing_extensions.is_typeddict(kind):
        hints = _hints(kind)
        known = head in hints and not (top and head in _OPTIONS)
        return known and _allowed(hints[head], rest)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType, typing_extensions.NotRequired):
        return any(_allowed(one, path) for one in arguments)
    if origin in (list, typing.Sequence):
        return head.isdecimal() and _allowed(arguments[0], rest)
    return origin is dict and _allowed(arguments[1], rest)


def _put(form: dict[str, typing.Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        form = form.setdefault(name, {})
    form[path[-1]] = value
