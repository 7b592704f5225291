"""Price plans: each kind is checked and compiled to g and to what is paid up front or in each period."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from settlement.documents import format_rho, unknown_name
from settlement.errors import PriceArbitrage, PriceInvalid
from settlement.prices import counterexamples, fields, refused
from settlement.prices.counterexamples import Counterexample, Purchase
from settlement.prices.curves import FREE, Curve, Tier
from settlement.prices.periods import MONTHS, Period

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

_KEYS = ("name", "kind", "currency", "approval", "description", "organisation", "offered_until")
_CURVE_KEYS = ("fee", "per_rho", "tiers", "cap")
_APPROVALS = ("instant", "provider")


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a kind of plan adds to its name."""

    curve: Curve
    up_front_minor: int = 0
    period: Period | None = None
    included_nano: int = 0
    monthly_cap_minor: int | None = None
    buys_out: bool = False


@dataclass(frozen=True, slots=True)
class PricePlan:
    """A validated plan. ``document`` is what was given, ``sha256`` hashes its canonical JSON (RFC 8785).

    ``up_front_minor`` is paid when access is granted: a bundle of credit, the first period's fee, the price
    of a buy-out. A subscription pays it again in each ``period``, which includes ``included_nano`` of rho.
    ``monthly_cap_minor`` bounds the charges of a calendar month in UTC. ``allowance_rho_nano`` is what a
    grant may spend in all; 0 for a buy-out, which takes what is left. A private offer is made to one
    ``organisation``, ``offered_until`` a day.
    """

    name: str
    kind: str
    currency: str
    approval: str
    allowance_rho_nano: int
    curve: Curve
    document: dict[str, Any]
    sha256: str
    up_front_minor: int = 0
    period: Period | None = None
    included_nano: int = 0
    monthly_cap_minor: int | None = None
    buys_out: bool = False
    organisation: str = ""
    offered_until: date | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PricePlan:
        """Check and compile a plan.

        PriceInvalid names the field that breaks the format; PriceArbitrage names two purchases that beat the
        plan. ``max_rho`` is the allowance of a grant under the plan.
        """
        doc = dict(document)
        kind = fields.one_of(doc, "kind", KINDS)
        own, compiler = _COMPILERS[kind]
        known = (*_KEYS, *own)
        for key in doc:
            if key not in known and key not in refused.names():
                raise PriceInvalid(str(key), unknown_name(key, known))
        currency = fields.currency(doc)
        terms = compiler(doc, currency)
        _refuse_rising_rates(terms.curve, currency)
        refused.check_fields(doc, terms.curve, currency)
        allowance = 0 if terms.buys_out else fields.rho(doc, "max_rho")
        plan = cls(
            name=fields.name(doc),
            kind=kind,
            currency=currency,
            approval=fields.one_of(doc, "approval", _APPROVALS),
            allowance_rho_nano=allowance,
            curve=terms.curve,
            document=doc,
            sha256=fields.sha256(doc),
            up_front_minor=terms.up_front_minor,
            period=terms.period,
            included_nano=terms.included_nano,
            monthly_cap_minor=terms.monthly_cap_minor,
            buys_out=terms.buys_out,
            **_offer(doc),
        )
        _check_together(plan)
        return plan

    def price(self, rho_nano: int) -> int:
        """g(rho): minor units of ``currency`` for one query of so much rho, rounded up; 0 for 0."""
        return self.curve.price(rho_nano)

    def price_of_more(self, rho_nano: int, *, before_nano: int, paid_minor: int) -> int:
        """Minor units for ``rho_nano`` more on a question that had ``before_nano``, for ``paid_minor``.

        ``g(before + rho) - g(before)``, so that however many steps lead to a rho they cost what one query of
        it costs; where less was paid for what came before, under another plan, only that much is credited.
        """
        credit = min(paid_minor, self.price(before_nano))
        return self.price(before_nano + rho_nano) - credit

    def offered_to(self, *names: str, today: date | None = None) -> bool:
        """Whether an organisation of one of these names may see and take the plan (today, where given)."""
        if self.organisation and self.organisation not in names:
            return False
        return today is None or self.offered_until is None or today <= self.offered_until


def _offer(doc: Mapping[str, Any]) -> dict[str, Any]:
    if "organisation" not in doc and "offered_until" not in doc:
        return {}
    return {"organisation": fields.organisation(doc), "offered_until": fields.day(doc, "offered_until")}


def _refuse_rising_rates(curve: Curve, currency: str) -> None:
    rising = [i for i, (a, b) in enumerate(pairwise(curve.tiers), 1) if b.minor_per_rho > a.minor_per_rho]
    if not rising:
        return
    path = f"tiers[{rising[0]}].per_rho"
    sizes = [tier.up_to_nano for tier in curve.tiers if tier.up_to_nano]
    found = counterexamples.split(curve.price, sizes, currency)
    if found is None:
        raise PriceInvalid(path, "the rate of a tier may not be higher than that of the tier before")
    raise PriceArbitrage(path, str(found), counterexample=found.document())


def _check_together(plan: PricePlan) -> None:
    """What holds between g and what is paid beside it."""
    if plan.period is None:
        return
    if plan.included_nano > plan.allowance_rho_nano:
        raise PriceInvalid("included_rho", "a period includes more rho than max_rho allows a grant in all")
    # Two periods' allowances, averaged, are worth one query of twice as much: the fee must be the dearer way.
    # Then F(x) = fee + g(max(0, x - allowance)) is subadditive: docs/prices.md has the proof.
    beyond = plan.price(plan.included_nano)
    if beyond <= plan.up_front_minor:
        return
    twice = 2 * plan.included_nano
    allowance = format_rho(plan.included_nano)
    found = Counterexample(
        (
            Purchase(
                2,
                plan.included_nano,
                2 * plan.up_front_minor,
                how=f"two {plan.period}s, each with rho {{rho}}",
            ),
        ),
        Purchase(1, twice, plan.up_front_minor + beyond, how=f"rho {{rho}} in one {plan.period}"),
        plan.currency,
    )
    raise PriceArbitrage(
        "period_fee",
        f"the fee is below what its allowance of rho {allowance} costs on top: {found}",
        hint="Raise period_fee, include less rho, or make what is beyond the allowance cheaper.",
        counterexample=found.document(),
    )


def _curve(doc: Mapping[str, Any], currency: str) -> Curve:
    fee = fields.amount({"fee": "0", **doc}, "fee", currency)
    cap = fields.amount(doc, "cap", currency) if "cap" in doc else None
    if cap is not None and cap < fee:
        raise PriceInvalid("cap", "the cap is below the fee")
    if ("per_rho" in doc) == ("tiers" in doc):
        raise PriceInvalid("per_rho", "give either per_rho or tiers")
    if "per_rho" in doc:
        return Curve(fee, (Tier(None, fields.amount(doc, "per_rho", currency)),), cap)
    return Curve(fee, fields.tiers(doc["tiers"], currency), cap)


def _pay_per_query(doc: Mapping[str, Any], currency: str) -> _Terms:
    return _Terms(_curve(doc, currency))


def _credits(doc: Mapping[str, Any], currency: str) -> _Terms:
    """A bundle is paid up front and spent by g; what is over at the end of the grant is not given back."""
    return _Terms(_curve(doc, currency), up_front_minor=fields.payment(doc, "bundle", currency))


def _subscription(doc: Mapping[str, Any], currency: str) -> _Terms:
    """A fee in each period, with rho included; more than that costs g."""
    period: Period = fields.one_of(doc, "period", tuple(MONTHS))  # type: ignore[assignment]
    return _Terms(
        _curve(doc, currency),
        up_front_minor=fields.payment(doc, "period_fee", currency),
        period=period,
        included_nano=fields.rho(doc, "included_rho"),
    )


def _monthly_cap(doc: Mapping[str, Any], currency: str) -> _Terms:
    """g for each query, and in a calendar month no more than the cap."""
    curve, cap = _curve(doc, currency), fields.payment(doc, "monthly_cap", currency)
    if cap < curve.fee_minor:
        raise PriceInvalid("monthly_cap", "the cap of a month is below the fee of one query")
    return _Terms(curve, monthly_cap_minor=cap)


def _buy_out(doc: Mapping[str, Any], currency: str) -> _Terms:
    """All that is left of the privacy budget, for one price; what was bought costs nothing more."""
    if doc.get("approval") != "provider":
        raise PriceInvalid("approval", "a buy-out ends the sale to everybody else: the provider approves it")
    return _Terms(FREE, up_front_minor=fields.payment(doc, "price", currency), buys_out=True)


#: Kind of plan -> its own fields, and its compiler.
_COMPILERS: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any], str], _Terms]]] = {
    "pay-per-query": ((*_CURVE_KEYS, "max_rho"), _pay_per_query),
    "credits": ((*_CURVE_KEYS, "max_rho", "bundle"), _credits),
    "subscription": ((*_CURVE_KEYS, "max_rho", "period", "period_fee", "included_rho"), _subscription),
    "monthly-cap": ((*_CURVE_KEYS, "max_rho", "monthly_cap"), _monthly_cap),
    "buy-out": (("price",), _buy_out),
}

#: The kinds of plan. A plan of any kind that names an organisation is a private offer.
KINDS = tuple(_COMPILERS)
