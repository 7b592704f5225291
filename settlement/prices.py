"""Price plans that cannot be gamed: each compiles to one function g from nano-rho to minor units.

``g(x) = min(cap, fee + ceil(tiers(x)))`` with a marginal rate per rho that never rises, and ``g(0) = 0``
because a query of public tables costs nothing. Such a g is integer, non-decreasing and subadditive, so no
splitting, averaging or recombining of cheaper answers beats buying directly: zCDP composes additively, and
Gaussian noise of variance v costs rho in proportion to 1/v (the f^2/v family of C. Li, D. Y. Li, G. Miklau,
D. Suciu, "A Theory of Pricing Private Data", 2014). A plan outside the form is refused, with two purchases
that beat it where there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from settlement.documents import canonical, format_rho, read_rho_nano, sha256_hex, unknown_name
from settlement.errors import AmountInvalid, PriceArbitrage, PriceInvalid
from settlement.money import exponent_of, format_amount, parse_amount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NANO = 10**9
_KEYS = ("name", "kind", "currency", "fee", "per_rho", "tiers", "cap", "approval", "max_rho", "description")
_TIER_KEYS = ("up_to_rho", "per_rho")
_APPROVALS = ("instant", "provider")
_MOST_TIERS = 20


@dataclass(frozen=True, slots=True)
class Tier:
    """Rho up to ``up_to_nano`` (None: without end) costs ``minor_per_rho`` minor units per 1 rho."""

    up_to_nano: int | None
    minor_per_rho: int


@dataclass(frozen=True, slots=True)
class Curve:
    """g itself: a fee per query, tiers of marginal rates, a cap per query; all in minor units."""

    fee_minor: int
    tiers: tuple[Tier, ...]
    cap_minor: int | None

    def price(self, rho_nano: int) -> int:
        """Minor units for one query of so much rho, rounded up; 0 for 0. ValueError for a negative rho."""
        if rho_nano < 0:
            raise ValueError("rho is never negative")
        if rho_nano == 0:
            return 0
        price = self.fee_minor + -(-self._exact_nano(rho_nano) // NANO)
        return price if self.cap_minor is None else min(self.cap_minor, price)

    def _exact_nano(self, rho_nano: int) -> int:
        """What the tiers cost, in 1e-9 minor units, exactly."""
        cost, start = 0, 0
        for tier in self.tiers:
            end = rho_nano if tier.up_to_nano is None else min(rho_nano, tier.up_to_nano)
            cost += max(0, end - start) * tier.minor_per_rho
            start = end
        return cost


@dataclass(frozen=True, slots=True)
class PricePlan:
    """A validated plan. ``document`` is what was given, ``sha256`` hashes its canonical JSON (RFC 8785)."""

    name: str
    kind: str
    currency: str
    approval: str
    allowance_rho_nano: int
    curve: Curve
    document: dict[str, Any]
    sha256: str

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PricePlan:
        """Check and compile a plan.

        PriceInvalid names the field that breaks the format; PriceArbitrage names two purchases that beat the
        plan. ``max_rho`` is the allowance of a grant under the plan.
        """
        doc = dict(document)
        for key in doc:
            if key not in _KEYS:
                raise PriceInvalid(str(key), unknown_name(key, _KEYS))
        kind = _one_of(doc, "kind", tuple(_COMPILERS))
        currency = _currency(doc)
        curve = _COMPILERS[kind](doc, currency)
        _refuse_rising_rates(curve, currency)
        return cls(
            name=_name(doc),
            kind=kind,
            currency=currency,
            approval=_one_of(doc, "approval", _APPROVALS),
            allowance_rho_nano=_rho(doc, "max_rho", "max_rho"),
            curve=curve,
            document=doc,
            sha256=_sha256(doc),
        )

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


def find_arbitrage(price: Callable[[int], int], sizes: Sequence[int]) -> tuple[int, int] | None:
    """(n, x) such that n queries of x nano-rho cost less than one of n * x; None if no tried purchase does.

    Fewest queries first, then the smallest x among ``sizes``.
    """
    for n in range(2, 11):
        for x in sorted(sizes):
            if n * price(x) < price(n * x):
                return n, x
    return None


def _refuse_rising_rates(curve: Curve, currency: str) -> None:
    rising = [i for i, (a, b) in enumerate(pairwise(curve.tiers), 1) if b.minor_per_rho > a.minor_per_rho]
    if not rising:
        return
    path = f"tiers[{rising[0]}].per_rho"
    found = find_arbitrage(curve.price, [tier.up_to_nano for tier in curve.tiers if tier.up_to_nano])
    if found is None:
        raise PriceInvalid(path, "the rate of a tier may not be higher than that of the tier before")
    n, x = found
    count = "two" if n == 2 else str(n)
    many, one = (format_amount(minor, currency) for minor in (n * curve.price(x), curve.price(n * x)))
    raise PriceArbitrage(
        path,
        f"{count} queries of rho {format_rho(x)} cost {many} {currency}, "
        f"one of {format_rho(n * x)} costs {one} {currency}",
    )


def _pay_per_query(doc: Mapping[str, Any], currency: str) -> Curve:
    fee = _amount(doc.get("fee", "0"), "fee", currency)
    cap = _amount(doc["cap"], "cap", currency) if "cap" in doc else None
    if cap is not None and cap < fee:
        raise PriceInvalid("cap", "the cap is below the fee")
    if ("per_rho" in doc) == ("tiers" in doc):
        raise PriceInvalid("per_rho", "give either per_rho or tiers")
    if "per_rho" in doc:
        return Curve(fee, (Tier(None, _amount(doc["per_rho"], "per_rho", currency)),), cap)
    return Curve(fee, _tiers(doc["tiers"], currency), cap)


#: Kind of plan -> its compiler to g.
_COMPILERS: dict[str, Callable[[Mapping[str, Any], str], Curve]] = {"pay-per-query": _pay_per_query}


def _tiers(rows: object, currency: str) -> tuple[Tier, ...]:
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_TIERS:
        raise PriceInvalid("tiers", f"a list of 1 to {_MOST_TIERS} tiers")
    tiers: list[Tier] = []
    for i, row in enumerate(rows):
        tier = _tier(row, f"tiers[{i}]", currency, last=i == len(rows) - 1)
        if tiers and tier.up_to_nano is not None and tier.up_to_nano <= (tiers[-1].up_to_nano or 0):
            raise PriceInvalid(f"tiers[{i}].up_to_rho", "each tier ends above the one before")
        tiers.append(tier)
    return tuple(tiers)


def _tier(row: object, path: str, currency: str, *, last: bool) -> Tier:
    if not isinstance(row, dict):
        raise PriceInvalid(path, "a tier is a table with up_to_rho and per_rho")
    for key in row:
        if key not in _TIER_KEYS:
            raise PriceInvalid(f"{path}.{key}", unknown_name(key, _TIER_KEYS))
    if last == ("up_to_rho" in row):
        raise PriceInvalid(
            f"{path}.up_to_rho", "every tier but the last says where it ends, the last has no end"
        )
    if "per_rho" not in row:
        raise PriceInvalid(f"{path}.per_rho", "is missing")
    up_to = None if last else _rho(row, "up_to_rho", f"{path}.up_to_rho")
    return Tier(up_to, _amount(row["per_rho"], f"{path}.per_rho", currency))


def _amount(text: object, path: str, currency: str) -> int:
    try:
        return parse_amount(text, currency)  # type: ignore[arg-type]  # it refuses what is not text
    except AmountInvalid as error:
        raise PriceInvalid(path, str(error)) from error


def _rho(doc: Mapping[str, Any], key: str, path: str) -> int:
    if key not in doc:
        raise PriceInvalid(path, "is missing")
    try:
        return read_rho_nano(doc[key])
    except ValueError as error:
        raise PriceInvalid(path, str(error)) from error


def _one_of(doc: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = doc.get(key)
    if not isinstance(value, str) or value not in known:
        raise PriceInvalid(key, "is missing" if value is None else unknown_name(value, known))
    return value


def _currency(doc: Mapping[str, Any]) -> str:
    try:
        exponent_of(doc.get("currency", ""))
    except AmountInvalid as error:
        raise PriceInvalid("currency", str(error), hint=error.hint) from error
    return str(doc["currency"])


def _name(doc: Mapping[str, Any]) -> str:
    name = doc.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or not name.isprintable():
        raise PriceInvalid("name", "a plan has a name of 1 to 100 printable characters")
    return name


def _sha256(doc: Mapping[str, Any]) -> str:
    description = doc.get("description", "")
    if not isinstance(description, str):
        raise PriceInvalid("description", "is text")
    try:
        return sha256_hex(canonical(doc))
    except ValueError as error:
        raise PriceInvalid("plan", "holds text that is not Unicode") from error
