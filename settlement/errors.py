"""What the books refuse, and why: one base error, leaves with stable codes.

    SettlementError
    |-- AmountInvalid             amount_invalid
    |-- LedgerError               ledger_invalid
    |   |-- Overdrawn             overdrawn
    |   |-- DuplicateBusinessKey  duplicate_business_key
    |   |-- AccountUnknown        account_unknown
    |   `-- NotPending            not_pending
    |-- PriceInvalid              price_invalid
    |   `-- PriceArbitrage        price_arbitrage
    |-- LicenceInvalid            licence_invalid
    |-- SignatureRefused          signature_refused
    |-- LicenceRefused            licence_refused
    |   |-- LicenceMissing        licence_missing
    |   |-- LicenceNotAccepted    licence_not_accepted
    |   |-- LicenceWithdrawn      licence_withdrawn
    |   |-- LicenceExpired        licence_expired
    |   |-- PurposeNotAllowed     purpose_not_allowed
    |   |-- TerritoryNotAllowed   territory_not_allowed
    |   |-- AssigneeNotAllowed    assignee_not_allowed
    |   |-- PublicationNotAllowed  publication_not_allowed
    |   |-- ColumnNotAllowed      column_not_allowed
    |   |-- JoinNotAllowed        join_not_allowed
    |   |-- RhoNotAllowed         rho_not_allowed
    |   |-- QuotaExceeded         quota_exceeded
    |   |-- LicenceNotApproved    licence_not_approved
    |   `-- LicenceEditedByApprover  licence_edited_by_approver
    |-- InvoiceError              invoice_invalid
    |   |-- BillingInvalid            billing_invalid
    |   |-- BillingProfileMissing     billing_profile_missing
    |   |-- InvoiceMissing            invoice_missing
    |   `-- StatementMissing          statement_missing
    |-- PaymentError              payment_invalid
    |   |-- PaymentMissing        payment_missing
    |   |-- PaymentState          payment_state
    |   |-- RefundTooLarge        refund_too_large
    |   |-- SecondOperatorNeeded  second_operator_needed
    |   |-- WebhookRefused        webhook_refused
    |   |-- StripeRefused         stripe_refused
    |   |   `-- StripeShort       stripe_short
    |   |-- StripeUnknown         stripe_unknown
    |   |   `-- StripeFailed      stripe_failed
    |   `-- StripeBusy            stripe_busy
    `-- OrderError                order_invalid
        |-- RequestMissing        request_missing
        |-- RequestNotOpen        request_not_open
        |-- GrantMissing          grant_missing
        |-- GrantExpired          grant_expired
        |-- GrantSuspended        grant_suspended
        |-- GrantWithdrawn        grant_withdrawn
        |-- QuoteMissing          quote_missing
        `-- QuoteExpired          quote_expired

``code`` never changes once published; ``hint`` says what to do next; ``str(error)`` is a sentence for a
person.
"""

from __future__ import annotations

from typing import Any


class SettlementError(Exception):
    """Base of everything the books refuse."""

    code = "settlement_refused"
    hint = "Correct the request and send it again."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class AmountInvalid(SettlementError):
    """Not an amount: negative, fractional, too many decimals, too large, or of an unknown currency."""

    code = "amount_invalid"
    hint = "Write amounts as decimal text in major units, such as 100.00, with the decimals of the currency."


class LedgerError(SettlementError):
    """An entry that cannot stand in the ledger."""

    code = "ledger_invalid"
    hint = "An entry needs at least one leg between two different open accounts of the leg's unit."


class Overdrawn(LedgerError):
    """A floor account does not cover what an entry would take or hold.

    ``available`` is what the account had before the entry, in the unit's smallest step: minor units of money,
    nano-rho of ``rho:<domain>``, pico-delta of ``delta:<domain>``.
    """

    code = "overdrawn"
    hint = "Ask for less, or fund the account first."

    def __init__(self, account: str, unit: str, available: int) -> None:
        super().__init__(f"Account {account} does not cover this: {available} available, counted in {unit}.")
        self.account = account
        self.unit = unit
        self.available = available


class DuplicateBusinessKey(LedgerError):
    """The business fact behind this entry is in the ledger already."""

    code = "duplicate_business_key"
    hint = "The entry was recorded before; read it instead of recording it again."

    def __init__(self, business_key: str) -> None:
        super().__init__(f"An entry with the business key {business_key} is already recorded.")
        self.business_key = business_key


class AccountUnknown(LedgerError):
    """No such account, or one that was opened with another unit, owner, kind or floor."""

    code = "account_unknown"
    hint = "Open the account with the unit, owner, kind and floor that the chart gives it."


class NotPending(LedgerError):
    """The transfer to resolve is not pending: unknown, never reserved, or resolved before."""

    code = "not_pending"
    hint = "Read the entry's lines; a reservation is posted or voided once."


class PriceInvalid(SettlementError):
    """A price plan that breaks the plan's format; ``path`` names the field."""

    code = "price_invalid"
    hint = "Correct the named field of the price plan."

    def __init__(self, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path


class PriceArbitrage(PriceInvalid):
    """A price plan that two cheaper purchases beat; the message names both sides.

    ``counterexample`` is the same as a document: what is bought on each side, and what it costs.
    """

    code = "price_arbitrage"
    hint = "Let the rate per rho stay level or fall as a query buys more; splitting beats a rising rate."

    def __init__(
        self,
        path: str,
        message: str,
        *,
        hint: str | None = None,
        counterexample: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(path, message, hint=hint)
        self.counterexample = counterexample


class LicenceInvalid(SettlementError):
    """Licence terms that cannot be published, or cannot be read; ``path`` names the field."""

    code = "licence_invalid"
    hint = "Correct the named field of the licence terms."

    def __init__(self, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path


class SignatureRefused(SettlementError):
    """The buyer's signature is not one over this acceptance, or the acceptance has one already."""

    code = "signature_refused"
    hint = "Sign the message that the acceptance names with an Ed25519 or P-256 key, and send that."


class LicenceRefused(SettlementError):
    """The licence does not allow this use; ``clause`` names the term that decided.

    ``licence_id`` and ``acceptance_id`` say which licence and acceptance were judged, where they are known.
    """

    code = "licence_refused"
    hint = "Read the licence and ask for a use that it allows."

    def __init__(self, message: str, *, clause: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.clause = clause
        self.licence_id: str | None = None
        self.acceptance_id: str | None = None


class LicenceMissing(LicenceRefused):
    """No such licence; another organisation's draft looks the same."""

    code = "licence_missing"
    hint = "Check the licence's id."


class LicenceNotAccepted(LicenceRefused):
    """This organisation has not accepted this licence version."""

    code = "licence_not_accepted"
    hint = "Accept the current version of the licence first."


class LicenceWithdrawn(LicenceRefused):
    """The provider withdrew the licence: no new query may start."""

    code = "licence_withdrawn"
    hint = "Ask the provider which licence replaces it."


class LicenceExpired(LicenceRefused):
    """Outside the licence's term: not begun yet, or over."""

    code = "licence_expired"
    hint = "Ask the provider for a licence whose term covers today."


class PurposeNotAllowed(LicenceRefused):
    """The declared purpose is not among those licensed or accepted."""

    code = "purpose_not_allowed"
    hint = "Request access for one of the purposes that the licence names."


class TerritoryNotAllowed(LicenceRefused):
    """The declared territory is not among those licensed or accepted."""

    code = "territory_not_allowed"
    hint = "Request access for one of the territories that the licence names."


class AssigneeNotAllowed(LicenceRefused):
    """The licence is for other organisations, or is accepted in other roles."""

    code = "assignee_not_allowed"
    hint = "Ask the provider for a licence that names your organisation and role."


class PublicationNotAllowed(LicenceRefused):
    """Answers were asked for in order to publish them, and the licence forbids that."""

    code = "publication_not_allowed"
    hint = "Accept the licence without publication, or ask the provider for one that permits it."


class ColumnNotAllowed(LicenceRefused):
    """The statement reads a column or table that the licence does not name."""

    code = "column_not_allowed"
    hint = "Ask with the columns that the licence names alone."


class JoinNotAllowed(LicenceRefused):
    """The statement joins tables in a way that the licence does not allow."""

    code = "join_not_allowed"
    hint = "Ask of each table by itself, or with the joins that the licence allows."


class LicenceNotApproved(LicenceRefused):
    """The licence version waits for the approval of somebody other than its editor."""

    code = "licence_not_approved"
    hint = "Have it approved: `exchange licence approve LICENCE`, with another token than its editor's."


class LicenceEditedByApprover(LicenceRefused):
    """Who wrote a licence version does not approve it."""

    code = "licence_edited_by_approver"
    hint = "Ask somebody else of the organisation, or a compliance officer, to approve it."


class RhoNotAllowed(LicenceRefused):
    """One query, or all of the organisation's together, would ask for more rho than the licence allows."""

    code = "rho_not_allowed"
    hint = "Ask with less rho, that is with a larger error."


class QuotaExceeded(LicenceRefused):
    """The licence's number of queries is used up."""

    code = "quota_exceeded"
    hint = "Ask the provider for a licence with more queries."


class InvoiceError(SettlementError):
    """A document that cannot be issued."""

    code = "invoice_invalid"
    hint = "Read the message; nothing was issued."


class BillingInvalid(InvoiceError):
    """A billing profile or tax treatment with a wrong field; ``path`` names it."""

    code = "billing_invalid"
    hint = "Correct the named field."

    def __init__(self, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path


class BillingProfileMissing(InvoiceError):
    """An invoice names two parties, and one of them has no billing profile."""

    code = "billing_profile_missing"
    hint = "Set the legal name, address and country: `exchange billing set`."


class InvoiceMissing(InvoiceError):
    """No such invoice, credit note or receipt; another organisation's looks the same."""

    code = "invoice_missing"
    hint = "Check the id: `exchange invoices` lists those of your organisation."


class StatementMissing(InvoiceError):
    """No such statement: the organisation has no account in that currency, or the month has not begun."""

    code = "statement_missing"
    hint = "Check the id: `exchange statements` lists those of your organisation."


class PaymentError(SettlementError):
    """Money in or out that cannot move like this."""

    code = "payment_invalid"
    hint = "Read the payment's state and its amount."


class PaymentMissing(PaymentError):
    """No such top-up, refund, dispute, payout or credit; another organisation's looks the same."""

    code = "payment_missing"
    hint = "Check the id."


class PaymentState(PaymentError):
    """The payment's state does not allow this step."""

    code = "payment_state"
    hint = "Read its state; each step is taken once."


class RefundTooLarge(PaymentError):
    """A refund of more than the payment, or more than is left unspent of it in the wallet."""

    code = "refund_too_large"
    hint = "Refund at most what was paid and not refunded before, and what the wallet still has available."


class SecondOperatorNeeded(PaymentError):
    """Four eyes: this needs a second operator, and the one who proposed it does not decide it."""

    code = "second_operator_needed"
    hint = "Propose it with `exchange wallet propose`; another operator's token confirms it."


class WebhookRefused(PaymentError):
    """A webhook that is not Stripe's or not for this exchange: signature, age, mode, account, API version."""

    code = "webhook_refused"
    hint = "Compare the endpoint's secret, mode and API version in Stripe's dashboard with the settings."


class StripeRefused(PaymentError):
    """Stripe refused a call, for good: nothing moved."""

    code = "stripe_refused"
    hint = "Read the reason in Stripe's dashboard; nothing moved."


class StripeShort(StripeRefused):
    """A balance at Stripe does not cover the call: the platform's, or the provider's for a reversal."""

    code = "stripe_short"
    hint = "Wait until funds are available at Stripe; what a provider owes is taken from later settlements."


class StripeUnknown(PaymentError):
    """A call to Stripe has no known outcome: it may have moved money. It is looked up, never sent blindly."""

    code = "stripe_unknown"
    hint = "Wait: the worker looks the outcome up. Repeating the request with the same key is safe."


class StripeFailed(StripeUnknown):
    """Stripe failed at its side, and saves that answer: the same key would get the same failure for a day."""

    code = "stripe_failed"
    hint = "Wait: the worker looks the outcome up, and sends again only what is not there."


class StripeBusy(PaymentError):
    """Stripe did not begin the call: too many requests, or the same one is in flight."""

    code = "stripe_busy"
    hint = "Repeat the request in a few seconds."


class OrderError(SettlementError):
    """A request, grant or quote in a state that does not allow the step."""

    code = "order_invalid"
    hint = "Read the order's state."


class RequestMissing(OrderError):
    """No such access request; another organisation's request looks the same."""

    code = "request_missing"
    hint = "Check the request's id."


class RequestNotOpen(OrderError):
    """The access request was decided before, or is not approved yet."""

    code = "request_not_open"
    hint = "Read the request's state; a request is decided once."


class GrantMissing(OrderError):
    """No grant for this dataset; another organisation's grant looks the same."""

    code = "grant_missing"
    hint = "Request access to the dataset first."


class GrantExpired(OrderError):
    """The grant's term is over."""

    code = "grant_expired"
    hint = "Request access again."


class GrantSuspended(OrderError):
    """The grant is suspended for now."""

    code = "grant_suspended"
    hint = "Ask the provider or the exchange why; a suspended grant can be resumed."


class GrantWithdrawn(OrderError):
    """The grant was withdrawn for good."""

    code = "grant_withdrawn"
    hint = "Request access again."


class QuoteMissing(OrderError):
    """No such quote; another organisation's quote looks the same."""

    code = "quote_missing"
    hint = "Ask for a quote first."


class QuoteExpired(OrderError):
    """The quote's fifteen minutes are over."""

    code = "quote_expired"
    hint = "Ask for a new quote; it costs nothing."
