"""The kinds of alerts: what each says, from which number on, and what to do about it.

Why these, and why these numbers: docs/decisions/0037-twelve-alerts.md.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400

MOST_OF_SAME_WORDS = 9
"""So many questions a day may differ in several literals: a report is asked for with a span of dates."""

EXPORT_COUNTS = 60
"""So many readings an export of the log counts for: it takes away what would be many."""


@dataclass(frozen=True)
class Kind:
    """One kind.

    Attributes:
        most: the largest number that is no alert; for a budget the smallest.
        unit: of what is measured: `count`, `rho` (in 1e-9), `percent`, `days` or `seconds`.
        window_s: within how many seconds it is counted; 0 where it is a state.
        text: a sentence with ``{measure}`` and ``{most}``.
    """

    name: str
    title: str
    most: int
    unit: str
    window_s: int
    text: str
    step: str


RHO_BURN = Kind(
    "rho_burn",
    "Privacy is spent faster than usual",
    5,
    "rho",
    DAY_S,
    "Rho {measure} of the domain was spent on one day: more than {most} times the median of the days with "
    "spending among the 28 before.",
    "See on the domain's page who asked, and open the entries; speak with the buyer or freeze the dataset.",
)
REFUSALS = Kind(
    "refusals",
    "Many refusals of one organisation",
    20,
    "count",
    10 * MINUTE_S,
    "{measure} requests of the organisation were refused within 10 minutes: more than {most}.",
    "Search its refused entries: the codes tell a broken program from somebody who probes.",
)
NEAR_DUPLICATES = Kind(
    "near_duplicates",
    "Questions that differ in literals alone",
    2,
    "count",
    DAY_S,
    "{measure} questions of one organisation about one dataset within a day differ in literals alone: more "
    f"than {{most}} in a single one, or more than {MOST_OF_SAME_WORDS} in several.",
    "Compare the statements: literals that walk along keys or bounds may be meant to single people out. "
    "Their privacy loss is charged and bounded all the same.",
)
SAME_QUERY = Kind(
    "same_query",
    "The same question from several organisations",
    2,
    "count",
    30 * DAY_S,
    "{measure} organisations asked for the same numbers within 30 days: more than {most}.",
    "Ask whether they work together: averaged answers are more accurate than any of them paid for alone. "
    "The domain's lifetime account holds all of them.",
)
CHECKPOINT_STALE = Kind(
    "checkpoint_stale",
    "The log is not published",
    5 * MINUTE_S,
    "seconds",
    0,
    "An entry has waited for {measure} seconds to come under a checkpoint: more than {most}.",
    "Tell the operator: the worker's log on standard error says why it cannot publish.",
)
RECONCILIATION = Kind(
    "reconciliation",
    "The books and Stripe differ",
    0,
    "count",
    0,
    "The last reconciliation found {measure} breaks.",
    "Tell the operator: `exchange money reconcile` names them. Payouts wait until it is clean.",
)
SPENDING_DIFFERS = Kind(
    "spending_differs",
    "The log and a domain's account differ",
    0,
    "rho",
    0,
    "What the log's entries spent of the domain and what its account says differ by rho {measure}.",
    "Run `exchange check` and `exchange audit verify --local`, and keep a copy of the database as it is.",
)
BUDGET_LOW = Kind(
    "budget_low",
    "A privacy budget is nearly spent",
    10,
    "percent",
    0,
    "Less than {most} percent of the domain's lifetime budget is left: {measure}.",
    "Tell the provider: what is spent does not come back, and new data of other people is a new domain.",
)
EXHAUSTION_NEAR = Kind(
    "exhaustion_near",
    "A privacy budget ends within 30 days",
    30,
    "days",
    30 * DAY_S,
    "At the pace of the last 30 days the domain's budget lasts for {measure} more: it ends within "
    "{most} days.",
    "See on the domain's page who spends it; tell the provider and the buyers who rely on it.",
)
SIGN_INS = Kind(
    "sign_ins_failed",
    "Many failed sign-ins",
    30,
    "count",
    10 * MINUTE_S,
    "{measure} sign-ins or tokens were refused within 10 minutes: more than {most}.",
    "Search the kinds session.refused and token.refused: networks are in the entries. Waiting times hold "
    "guesses up meanwhile.",
)
READING = Kind(
    "reading_volume",
    "Unusual reading of the log",
    300,
    "count",
    HOUR_S,
    "One officer or operator read the log {measure} times within an hour: more than {most}. An export counts "
    f"as {EXPORT_COUNTS} readings.",
    "Ask the person, or a second officer to ask: reading is an entry too, so the log says what was read.",
)
FORFEITS = Kind(
    "forfeits",
    "Privacy was lost for no answer",
    5,
    "count",
    HOUR_S,
    "{measure} questions about the dataset ended within an hour without an answer after data was touched: "
    "more than {most}.",
    "Look at the failures on the queries' pages: a memory or time limit, an engine's defect, or statements "
    "that are built to run out of one.",
)
TOO_MANY = Kind(
    "too_many",
    "Too many open alerts of one kind",
    199,
    "count",
    0,
    "{measure} alerts of this kind are open: more than {most}. What is found beyond them is counted here, "
    "and raised by itself again once some of them are resolved.",
    "Look at the entries, and resolve what was looked at; a flood may be meant to hide something else.",
)

KINDS = {
    kind.name: kind
    for kind in (
        RHO_BURN,
        REFUSALS,
        NEAR_DUPLICATES,
        SAME_QUERY,
        CHECKPOINT_STALE,
        RECONCILIATION,
        SPENDING_DIFFERS,
        BUDGET_LOW,
        EXHAUSTION_NEAR,
        SIGN_INS,
        READING,
        FORFEITS,
        TOO_MANY,
    )
}
