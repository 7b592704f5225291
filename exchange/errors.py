"""The market's own errors. Domain errors pass through unchanged; ``exchange.web.errors`` maps every code."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from exchange.approvals import Wanted


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


class SignInRefused(MarketError):
    """Login and password do not belong together, or the account may not come in; the same for every cause."""

    code = "sign_in_refused"
    hint = "Type both again, or ask an administrator of your organisation for a link to a new password."


class SecondFactorRefused(MarketError):
    """The code, the recovery code or the passkey was not accepted."""

    code = "second_factor_refused"
    hint = "Wait for the next code, or use another second factor or a recovery code."


class SecondFactorMissing(MarketError):
    """Officers and operators come in with a second factor, and this way in has none."""

    code = "second_factor_missing"
    hint = "Sign in as a person: `exchange member invite` makes the link. Tokens are for the API."


class ConfirmationNeeded(MarketError):
    """The step needs a proof of the person that is at most five minutes old."""

    code = "confirmation_needed"
    hint = "Show your second factor, or your password, once more and repeat the step."


class SingleSignOnRefused(MarketError):
    """What the identity provider sent does not sign anybody in."""

    code = "single_sign_on_refused"
    hint = "Start again from the sign-in page; an account must have been invited before."


class TooManyTries(MarketError):
    """There were too many wrong tries; the next one is looked at after a wait that grows with each."""

    code = "too_many_tries"
    hint = "Wait as long as Retry-After says, then try once more."

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"there were too many tries: the next one is possible in {retry_after_s} seconds")
        self.retry_after_s = retry_after_s


class RateLimited(MarketError):
    """More requests, or more tries, came from this token, person or network than the operator allows."""

    code = "rate_limited"
    hint = "Wait as long as Retry-After says and repeat the request with the same key."

    def __init__(
        self, retry_after_s: int, message: str = "too many requests came from here in too short a time"
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PasswordWeak(MarketError):
    """The password is too short, too long, or one of those that everybody tries first."""

    code = "password_weak"
    hint = "Take several words that do not belong together, or let a password manager draw one."


class InvitationUnknown(MarketError):
    """The link of an invitation is unknown, was used, or is too old; the same for every cause."""

    code = "invitation_unknown"
    hint = "Ask whoever gave you the link for a new one: each works once, for seven days."


class MemberExists(MarketError):
    """There is such an account or such a membership already."""

    code = "member_exists"
    hint = "Look at the list of members first."


class LastAdmin(MarketError):
    """The organisation would have nobody left who administers it."""

    code = "last_admin"
    hint = "Make another member an administrator first."


class RoleMissing(MarketError):
    """The actor's role does not allow this operation."""

    code = "role_missing"
    hint = "Use a token of an organisation that holds the role named in the message."


class ScopeMissing(MarketError):
    """The access token is valid, and its scope does not allow this: see docs/signing-in.md."""

    code = "scope_missing"
    hint = "Ask for a token whose scope allows it, or use one without limits."


class ScopeInvalid(MarketError):
    """A scope is not written as scopes are, or allows more than the client that asks for it may."""

    code = "scope_invalid"
    hint = "Write it as in `dataset:nyc/flights purpose:research rho:1.5`, or `account` for everything."


class UserCodeUnknown(MarketError):
    """The code that a device shows is unknown, was used, or is over."""

    code = "user_code_unknown"
    hint = "Compare it with the device, or start again there: a code is good for ten minutes."


class AlertResolved(MarketError):
    """The alert was resolved before, by this officer or another."""

    code = "alert_resolved"
    hint = "Look at it again: its page says who resolved it, and as what."


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
    """Every query worker is busy and the queue is full, or took too long. Nothing was reserved or charged.

    ``retry_after_s`` tells how long the queue is.
    """

    code = "overloaded"
    hint = "Repeat the request with the same key in a few seconds."

    def __init__(self, message: str, *, retry_after_s: int = 3) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyQueries(MarketError):
    """The organisation has as many queries waiting as it may have. Nothing was reserved or charged."""

    code = "too_many_queries"
    hint = "Wait for some of them, or cancel them, then repeat the request with the same key."

    def __init__(self, message: str, *, retry_after_s: int = 3) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


COME_AGAIN = (InProgress, Overloaded, RateLimited, TooManyQueries, TooManyTries)
"""Nothing was decided about who asks: the same is asked again, as often as one likes."""


class StoreUnavailable(MarketError):
    """The database does not answer: it restarts, or it takes no more at the moment."""

    code = "store_unavailable"
    hint = "Repeat the request with the same key in a few seconds: what was done already is not done twice."
    retry_after_s = 3


class StorageFull(MarketError):
    """There is no room left on a disk of the exchange: nothing was kept and nothing charged."""

    code = "storage_full"
    hint = "Repeat the request with the same key in a minute: the operator is needed to make room."
    retry_after_s = 30


def is_full(error: OSError) -> bool:
    """Whether an error says that a disk, or a share of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class BackupRefused(MarketError):
    """A backup cannot be made or restored here: something stands there already, or something is missing."""

    code = "backup_refused"
    hint = "Mend what the message names; nothing was changed."


class BackupInvalid(MarketError):
    """What is to be restored is not what was backed up: a file is missing, added or altered."""

    code = "backup_invalid"
    hint = "Use another backup, and keep this one as evidence."


class MasterKeyMissing(MarketError):
    """A master key under which something is stored is not in the file of master keys."""

    code = "master_key_missing"
    hint = "Put the file of master keys back (EXCHANGE_MASTER_KEYS) from where it is kept; docs/security.md."


class MasterKeyWrong(MarketError):
    """A master key is not the one of its id, or the key of an object was altered."""

    code = "master_key_wrong"
    hint = "Put back the file of master keys that belongs to this database; see docs/security.md."


class MasterKeyInUse(MarketError):
    """A master key is the current one, or something is still under it."""

    code = "master_key_in_use"
    hint = (
        "Run `exchange master-keys rotate` to its end; `exchange master-keys list` shows what is under each."
    )


class MigrationBlocked(MarketError):
    """Others hold tables that a migration must change, for longer than it waits."""

    code = "migration_blocked"
    hint = "Stop the web and worker processes of the release before, then run `exchange migrate` again."


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


class QueryCancelled(MarketError):
    """The query was cancelled before it had an answer."""

    code = "query_cancelled"
    hint = "Nothing was charged; privacy budget only if data was read. Ask again for an answer."


class Frozen(MarketError):
    """A compliance officer stopped what the request is about: a dataset, a buyer or a licence version.

    The freeze is cited by its id alone: why it was set is for officers.
    """

    code = "frozen"
    hint = "Quote the freeze's id when you ask the operator. Nothing was charged; trying again does not help."


class PartyUnidentified(MarketError):
    """The law of a listing's data asks who both parties are, and of one of them it is not on record."""

    code = "party_unidentified"
    hint = "Send the operator legal name, country, registration and a proof, for `exchange org identify`."


class LegalHold(MarketError):
    """A legal hold keeps it: nothing of it is removed, whatever its time says."""

    code = "held"
    hint = "Wait until a compliance officer has lifted the hold; disable what is no longer to be used."


class ApprovalNeeded(MarketError):
    """The step needs the approval of a compliance officer, which was asked for."""

    code = "approval_needed"
    hint = "Quote the approval's id to the compliance officer, and repeat the step once it is given."

    def __init__(self, message: str, wanted: Wanted) -> None:
        super().__init__(message)
        self.wanted = wanted


class ApprovalClosed(MarketError):
    """The approval was decided, used or is too old."""

    code = "approval_closed"
    hint = "Look at its state; where it is still needed, ask for it once more."


class ApprovalChanged(MarketError):
    """What would be approved is not what was shown, or not what the log says was asked for."""

    code = "approval_changed"
    hint = "Open the approval anew and compare it; where it differs from its entry, run `exchange check`."


class SecondPersonNeeded(MarketError):
    """Who asks for an approval does not give it: it takes a second person."""

    code = "second_person_needed"
    hint = "Have another compliance officer decide; yourself you can only decline it."


class AnswerExpired(MarketError):
    """The answer was kept for as long as the exchange keeps answers, and is gone. Its receipt stays."""

    code = "answer_expired"
    hint = "Ask the question again: it is a new answer, at its price. The receipt of the old one stays valid."


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


class ExportTooLarge(MarketError):
    """More entries match than one file of evidence holds."""

    code = "export_too_large"
    hint = "Narrow the filters or the dates and make several files, or export as jsonl, which has no limit."


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
