"""The market's own errors. Domain errors pass through unchanged; ``exchange.web.errors`` maps every code."""

from __future__ import annotations

from typing import ClassVar


class MarketError(Exception):
    """Base of what the market itself refuses. ``code`` is stable, ``hint`` says what to do next."""

    code: ClassVar[str] = "refused"
    hint = "Check the request and try again."

    def __init__(self, message: str, *, hint: str | None = None, **details: object) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
        self.details = details


class TokenUnknown(MarketError):
    """No usable token came with the request: missing, unknown, expired or revoked."""

    code = "token_unknown"
    hint = "Send `Authorization: Bearer TOKEN` with a token from `exchange token create`."


class RoleMissing(MarketError):
    """The actor's role does not allow this operation."""

    code = "role_missing"
    hint = "Use a token of an organisation that holds the role named in the message."


class NotFound(MarketError):
    """Nothing of that name is visible to this organisation; foreign and unknown ids look alike."""

    code = "not_found"
    hint = "Check the id; things of other organisations are not shown."


class GrantMissing(MarketError):
    """The organisation holds no grant for the dataset and purpose."""

    code = "grant_missing"
    hint = (
        "Request access first: `dataset.request(plan=..., purpose=..., territory=..., accept_licence=True)`."
    )


class LicenceNotShown(MarketError):
    """The buyer did not accept the licence, or accepted another text than the one in force."""

    code = "licence_not_accepted"
    hint = "Read the licence on the dataset's page and repeat the request with `accept_licence` set."


class BudgetExhausted(MarketError):
    """The privacy budget of the domain, or the allowance of the grant, does not cover the query."""

    code = "budget_exhausted"
    hint = "Ask with less rho (a larger error), or repeat an earlier query: repeats are free."


class PaymentRequired(MarketError):
    """The wallet does not cover the price."""

    code = "payment_required"
    hint = "Top up: `exchange wallet top-up`, or by bank transfer that the operator confirms."


class StripeMissing(MarketError):
    """The exchange works without Stripe: there is no key for it."""

    code = "stripe_missing"
    hint = "Pay by bank transfer, or ask the operator to set EXCHANGE_STRIPE_KEY."


class KeyReused(MarketError):
    """The idempotency key was used before with another request."""

    code = "key_reused"
    hint = "Use a fresh Idempotency-Key for a new request; repeat the same body to replay the old one."


class InProgress(MarketError):
    """The same query is being answered right now."""

    code = "in_progress"
    hint = "Wait a moment and repeat the request with the same key: it will return the one answer."
    retry_after_s = 1


class Overloaded(MarketError):
    """Every query worker was busy for as long as a query may take. Nothing was reserved or charged."""

    code = "overloaded"
    hint = "Repeat the request with the same key in a few seconds."
    retry_after_s = 3


class LayoutStopped(MarketError):
    """Building a layout ended before it was done: it was dropped meanwhile, or the process is to end."""

    code = "layout_stopped"
    hint = "Run `exchange layout build` to go on where it ended."


class PriceAboveLimit(MarketError):
    """The price or the privacy cost is above the limit that the buyer set."""

    code = "limit_exceeded"
    hint = "Raise max_price or max_rho, or ask for less accuracy."


class QueryLost(MarketError):
    """The query ended without an answer: its worker failed or died."""

    code = "query_failed"
    hint = "The price was returned; the privacy budget stays charged. Ask again, or ask for fewer groups."


class DomainTaken(MarketError):
    """The privacy domain belongs to another provider."""

    code = "domain_taken"
    hint = "Choose another domain name, or ask the compliance officer to share the domain."


class BudgetLoosened(MarketError):
    """A new version asks for a larger lifetime budget than the domain was granted."""

    code = "policy_loosened"
    hint = "Keep rho and delta at or below the granted values; a compliance officer decides on larger ones."


class BudgetSpent(MarketError):
    """A new version asks for a smaller lifetime budget than buyers have spent of it already."""

    code = "policy_below_spent"
    hint = "Grant at least what is spent and reserved; the dataset's page shows both."


class SlugOfAnother(MarketError):
    """The first half of the dataset's name belongs to another provider."""

    code = "slug_of_another"
    hint = "Choose a name that begins with a word of your own, such as your organisation's name."


class DataListedElsewhere(MarketError):
    """Bytes that are listed as private: under another privacy domain, or now to be public."""

    code = "data_listed_elsewhere"
    hint = "Publish under the domain that this data already has: its budget is for its lifetime."


class RequestInvalid(MarketError):
    """A field of the request is missing, unknown or of the wrong kind."""

    code = "request_invalid"
    hint = "Compare the request with /openapi.json."


class TooLarge(MarketError):
    """The body is larger than the limit."""

    code = "too_large"
    hint = "Send less, or ask the operator to raise the limit."


class UploadOffset(MarketError):
    """Bytes were sent for another offset than the server has."""

    code = "upload_offset"
    hint = "Ask HEAD for the offset and continue from there."


class UploadIncomplete(MarketError):
    """A file is used before all of it has arrived."""

    code = "upload_incomplete"
    hint = "Send the rest of the file, then publish again."


class InsideTransaction(MarketError):
    """An adapter was called while a transaction was open: a defect, never a user's mistake."""

    code = "inside_transaction"
    hint = "Report this to the operator."


class FontMissing(MarketError):
    """The fonts that printed documents need are not installed, or EXCHANGE_FONT_PATH cannot be read."""

    code = "font_missing"
    hint = "Ask for JSON; the operator installs the server's packages again, or corrects EXCHANGE_FONT_PATH."
