"""How long which kind is kept: one table, which :mod:`exchange.operations.keeping` enforces in each round.

What is not in it stays with the record of the market that it belongs to. docs/personal-data.md has the table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from exchange import credentials, listing_drafts, notifications
from exchange.operations import tidying
from exchange.persons import accounts, factors, sessions, throttling

if TYPE_CHECKING:
    from exchange.config import Settings


@dataclass(frozen=True)
class Kept:
    """One kind: for how long after what, in seconds; 0: it is never written down. ``setting`` changes it."""

    kind: str
    seconds: int
    since: str
    setting: str = ""


def schedule(settings: Settings) -> tuple[Kept, ...]:
    """Every kind that ends, in force here."""
    return (
        Kept("answers", _s(timedelta(days=settings.answer_days)), "the answer", "EXCHANGE_ANSWER_DAYS"),
        Kept(
            "idempotency keys",
            _s(timedelta(days=settings.idempotency_days)),
            "their use",
            "EXCHANGE_IDEMPOTENCY_DAYS",
        ),
        Kept("sessions of the portal", _s(sessions.KEPT), "their latest possible end"),
        Kept("invitations", _s(accounts.KEPT), "their end"),
        Kept("tries at a secret", _s(throttling.FORGOTTEN), "the last try"),
        Kept("challenges of a sign-in", _s(factors.CHALLENGE_LASTS), "they were made"),
        Kept("codes, devices and refresh tokens of programs", _s(credentials.KEPT), "their end"),
        Kept("notifications", _s(notifications.KEPT), "they were written"),
        Kept("uploads that nobody goes on with", _s(tidying.ABANDONED), "their last byte"),
        Kept("files of drafts of a listing", _s(listing_drafts.FILES_KEPT), "the draft was last saved"),
        Kept("drafts of a listing", _s(listing_drafts.KEPT), "they were last saved"),
        Kept("search text", 0, "never written down"),
        Kept("text of refused questions", 0, "never written down; their entry stays"),
    )


def retention(settings: Settings) -> dict[str, Any]:
    """The table as a document."""
    return {"items": [asdict(one) for one in schedule(settings)]}


def words(seconds: int) -> str:
    """A length of time as people say it."""
    if not seconds:
        return "not kept"
    if seconds < _s(timedelta(days=1)):
        return f"{seconds / 60:g} minutes"
    days = seconds / timedelta(days=1).total_seconds()
    return "1 day" if days == 1 else f"{days:g} days"


def _s(length: timedelta) -> int:
    return int(length.total_seconds())
