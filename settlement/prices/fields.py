"""Reading the fields of a price plan; every refusal names its field."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from settlement.documents import canonical, read_rho_nano, sha256_hex, unknown_name
from settlement.errors import AmountInvalid, PriceInvalid
from settlement.money import exponent_of, parse_amount
from settlement.prices.curves import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIER_KEYS = ("up_to_rho", "per_rho")
_MOST_TIERS = 20


def amount(doc: Mapping[str, Any], key: str, currency: str, *, path: str = "") -> int:
    """A field's amount in minor units. PriceInvalid where it is missing or is no amount of the currency."""
    if key not in doc:
        raise PriceInvalid(path or key, "is missing")
    try:
        return parse_amount(doc[key], currency)
    except AmountInvalid as error:
        raise PriceInvalid(path or key, str(error), hint=error.hint) from error


def payment(doc: Mapping[str, Any], key: str, currency: str) -> int:
    """An amount that is paid up front: above 0."""
    minor = amount(doc, key, currency)
    if minor == 0:
        raise PriceInvalid(key, "must be above 0; what is free needs no plan of this kind")
    return minor


def rho(doc: Mapping[str, Any], key: str, *, path: str = "") -> int:
    """A field's rho in nano-rho. PriceInvalid where it is missing or no positive decimal."""
    if key not in doc:
        raise PriceInvalid(path or key, "is missing")
    try:
        return read_rho_nano(doc[key])
    except ValueError as error:
        raise PriceInvalid(path or key, str(error)) from error


def tiers(rows: object, currency: str) -> tuple[Tier, ...]:
    """The tiers of a curve, whatever their rates."""
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_TIERS:
        raise PriceInvalid("tiers", f"a list of 1 to {_MOST_TIERS} tiers")
    made: list[Tier] = []
    for i, row in enumerate(rows):
        tier = _tier(row, f"tiers[{i}]", currency, last=i == len(rows) - 1)
        if made and tier.up_to_nano is not None and tier.up_to_nano <= (made[-1].up_to_nano or 0):
            raise PriceInvalid(f"tiers[{i}].up_to_rho", "each tier ends above the one before")
        made.append(tier)
    return tuple(made)


def one_of(doc: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    """A field that is one of the known words."""
    value = doc.get(key)
    if not isinstance(value, str) or value not in known:
        raise PriceInvalid(key, "is missing" if value is None else unknown_name(value, known))
    return value


def currency(doc: Mapping[str, Any]) -> str:
    """The plan's currency."""
    try:
        exponent_of(doc.get("currency", ""))
    except AmountInvalid as error:
        raise PriceInvalid("currency", str(error), hint=error.hint) from error
    return str(doc["currency"])


def name(doc: Mapping[str, Any], key: str = "name") -> str:
    """A name of 1 to 100 printable characters."""
    value = doc.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > 100 or not value.isprintable():
        raise PriceInvalid(key, "a plan has a name of 1 to 100 printable characters")
    return value


def organisation(doc: Mapping[str, Any]) -> str:
    """The one organisation that a private offer is made to."""
    value = doc.get("organisation")
    if not isinstance(value, str) or not 0 < len(value) <= 100 or not value.isprintable():
        raise PriceInvalid("organisation", "is the name of the organisation that the offer is made to")
    return value


def day(doc: Mapping[str, Any], key: str) -> date:
    """A day as ISO 8601 writes it."""
    value = doc.get(key)
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise PriceInvalid(key, "is a day such as 2027-01-31") from None


def sha256(doc: Mapping[str, Any]) -> str:
    """SHA-256 of the plan's canonical JSON."""
    if not isinstance(doc.get("description", ""), str):
        raise PriceInvalid("description", "is text")
    try:
        return sha256_hex(canonical(doc))
    except ValueError as error:
        raise PriceInvalid("plan", "holds text that is not Unicode") from error


def _tier(row: object, path: str, money: str, *, last: bool) -> Tier:
    if not isinstance(row, dict):
        raise PriceInvalid(path, "a tier is a table with up_to_rho and per_rho")
    for key in row:
        if key not in _TIER_KEYS:
            raise PriceInvalid(f"{path}.{key}", unknown_name(key, _TIER_KEYS))
    if last == ("up_to_rho" in row):
        raise PriceInvalid(
            f"{path}.up_to_rho", "every tier but the last says where it ends, the last has no end"
        )
    rate = amount(row, "per_rho", money, path=f"{path}.per_rho")
    return Tier(None if last else rho(row, "up_to_rho", path=f"{path}.up_to_rho"), rate)
