"""What a price plan may not do, whatever it is called: each is refused, with purchases that beat it where it
is arbitrage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from settlement.documents import format_rho, read_rho_nano
from settlement.errors import PriceArbitrage, PriceInvalid
from settlement.prices import counterexamples
from settlement.prices.curves import NANO, Curve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from settlement.prices.counterexamples import Counterexample

_DATA = "a price that looks at the data tells of the data: it may depend on rho alone"
_TIME = "a price that depends on time or run time is beaten by waiting, or tells of the data"
_FREE = "fresh answers that are free add up to an accurate one that is free"
_HISTORY = "a price may not depend on how often was asked: another organisation's first question is the same"

_BY_NAME: dict[str, str] = {
    **dict.fromkeys(
        ("per_row", "per_result_row", "per_group", "per_cell", "per_byte", "per_gb", "per_unit", "min_rows"),
        _DATA,
    ),
    **dict.fromkeys(
        ("per_second", "per_minute", "per_hour", "peak", "off_peak", "surge", "weekend", "valid_hours"), _TIME
    ),
    **dict.fromkeys(("free_queries", "first_query", "trial_queries"), _FREE),
    **dict.fromkeys(("volume_discount", "loyalty", "discount"), _HISTORY),
}
_WITH_COUNTEREXAMPLE = ("rounding", "rebate", "free_rho")


def check_fields(doc: Mapping[str, Any], curve: Curve, currency: str) -> None:
    """Refuse a plan with a field that would make its price something else than g."""
    for key, why in _BY_NAME.items():
        if key in doc:
            raise PriceInvalid(key, why, hint="Leave the field out; a fee, rates that fall and caps remain.")
    for key in _WITH_COUNTEREXAMPLE:
        if key in doc:
            found, why = _BEATEN[key](doc[key], curve, currency)
            if found is None:
                raise PriceInvalid(
                    key, why, hint="Leave the field out; a fee, rates that fall and caps remain."
                )
            raise PriceArbitrage(key, f"{why}: {found}", counterexample=found.document())


def names() -> tuple[str, ...]:
    """The fields that are refused with a reason of their own."""
    return (*_BY_NAME, *_WITH_COUNTEREXAMPLE)


def _rounding(value: object, curve: Curve, currency: str) -> tuple[Counterexample | None, str]:
    def price(rho_nano: int) -> int:
        exact = curve.exact_nano(rho_nano)
        return (exact + NANO // 2) // NANO if value == "nearest" else exact // NANO

    if value == "up":
        return None, "prices are always rounded up; the field is not needed"
    rates = [tier.minor_per_rho for tier in curve.tiers if tier.minor_per_rho]
    step = NANO // rates[0] if rates else 0
    sizes = [x for x in (step // 2, step * 9 // 10, step - 1, step * 19 // 10) if x > 0]
    return counterexamples.split(price, sizes, currency), "rounding down gives small questions away"


def _rebate(value: object, curve: Curve, currency: str) -> tuple[Counterexample | None, str]:
    why = "a rebate for a big query makes more cost less"
    doc = value if isinstance(value, dict) else {}
    start, percent = _rho_of(doc.get("from_rho")), doc.get("percent")
    if start is None or not isinstance(percent, int) or isinstance(percent, bool) or not 0 < percent <= 100:
        return None, why

    def price(rho_nano: int) -> int:
        full = curve.price(rho_nano)
        return full if rho_nano < start else -(-full * (100 - percent) // 100)

    return counterexamples.falling(price, [start], currency), why


def _free_rho(value: object, curve: Curve, currency: str) -> tuple[Counterexample | None, str]:
    free = _rho_of(value)
    if free is None:
        return None, _FREE

    def price(rho_nano: int) -> int:
        return 0 if rho_nano <= free else curve.price(rho_nano)

    why = f"questions of up to rho {format_rho(free)} would be free"
    return counterexamples.split(price, [free], currency), why


_BEATEN: dict[str, Callable[[object, Curve, str], tuple[Counterexample | None, str]]] = {
    "rounding": _rounding,
    "rebate": _rebate,
    "free_rho": _free_rho,
}


def _rho_of(value: object) -> int | None:
    try:
        return read_rho_nano(value)
    except ValueError:
        return None
