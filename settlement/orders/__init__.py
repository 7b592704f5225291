"""Access from request to quote: a request is approved, a grant issued, a quote run in fifteen minutes.

    request:  open -> approved | declined        (an instant plan approves at once; a deadline declines)
    grant:    active <-> suspended, either -> expired | withdrawn
    quote:    stands until its time is over

Another organisation's id raises the same error, with the same words, as an unknown id.
"""

from __future__ import annotations

from settlement.orders.grants import (
    Grant,
    GrantState,
    Held,
    end_grant_at,
    expire_grants,
    find_grant,
    grants_for,
    grants_from,
    grants_of,
    grants_on,
    grants_page,
    held_beside,
    holders,
    issue_grant,
    require_active,
    resume_grant,
    state_at,
    suspend_grant,
    usable_grant,
    withdraw_grant,
)
from settlement.orders.quotes import QUOTE_VALID, Quote, find_quote, get_quote, save_quote
from settlement.orders.requests import (
    BY_BUYER,
    BY_DEADLINE,
    BY_PLAN,
    DECIDED_WITHIN,
    AccessRequest,
    RequestState,
    approve,
    cancel,
    decline,
    find_request,
    lapse,
    open_requests,
    request_access,
    requests_for,
)
from settlement.orders.tables import access_grant, access_request, quote

__all__ = [
    "BY_BUYER",
    "BY_DEADLINE",
    "BY_PLAN",
    "DECIDED_WITHIN",
    "QUOTE_VALID",
    "AccessRequest",
    "Grant",
    "GrantState",
    "Held",
    "Quote",
    "RequestState",
    "access_grant",
    "access_request",
    "approve",
    "cancel",
    "decline",
    "end_grant_at",
    "expire_grants",
    "find_grant",
    "find_quote",
    "find_request",
    "get_quote",
    "grants_for",
    "grants_from",
    "grants_of",
    "grants_on",
    "grants_page",
    "held_beside",
    "holders",
    "issue_grant",
    "lapse",
    "open_requests",
    "quote",
    "request_access",
    "requests_for",
    "require_active",
    "resume_grant",
    "save_quote",
    "state_at",
    "suspend_grant",
    "usable_grant",
    "withdraw_grant",
]
