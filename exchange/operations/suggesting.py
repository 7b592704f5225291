"""What a provider may be shown of the own file before deciding: risky columns, and bounds that would fit.

Suggestions are read off the data, so they tell of the data: a bound that follows the largest value shows how
large it is to everybody who reads the listing. They are rounded outwards, offered, and never taken over
unless the provider says so.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

IDENTIFIER, FREE_TEXT, QUASI, RARE = "identifier", "free-text", "quasi-identifier", "rare-values"

WORDS = {
    IDENTIFIER: "Nearly every row has another value, or the name says that it points at somebody: keep it to "
    "filters, or take it as the privacy unit.",
    FREE_TEXT: "This looks like free text, which may name anybody: keep it to filters, or leave it out.",
    QUASI: "With other columns this may point at somebody: group by few, large classes of it.",
    RARE: "Some values are rare: let them show only where enough units share one.",
}
"""What a risk is and what to do."""

_DIRECT = re.compile(
    r"(^|_|\b)(e?mail|phone|mobile|ssn|passport|iban|card|account|name|surname|lastname|firstname|address|"
    r"street|licen[cs]e_?no|plate|imei|mac|ip|login|username|user_?id|patient_?id|uuid|guid)(_|\b|$)",
    re.IGNORECASE,
)
_QUASI = re.compile(
    r"(^|_|\b)(birth\w*|dob|born|zip\w*|postal\w*|postcode|gender|sex|age|ethnic\w*|race|religion|nationality|"
    r"job|occupation|lat\w*|lon\w*|county|city|town|village)(_|\b|$)",
    re.IGNORECASE,
)
_NEARLY_ALL, _LONG, _FEW, _MANY = 0.9, 40, 10, 20
_CUT = 100  # characters of a value that a profile shows
_STEPS = (1, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True)
class Column:
    """A column as its provider sees it: what was found in it, what is risky, and what could be declared.

    ``risk`` is one of the module's kinds or empty; ``suggested`` are the fields of the privacy step, in the
    spelling in which they are typed.
    """

    name: str
    type: str
    found: Mapping[str, Any]
    risk: str
    suggested: dict[str, str]


def columns(found: Mapping[str, Any]) -> list[Column]:
    """The columns of a file that was looked into."""
    told = {one["name"]: one for one in found["profile"]["columns"]}
    rows = int(found["rows"])
    made = []
    for name, kind in found["columns"]:
        one = told.get(name, {})
        risk = _risk(name, kind, one, rows)
        made.append(Column(name, kind, one, risk, _suggested(kind, one, risk, rows)))
    return made


def caps(found: Mapping[str, Any]) -> dict[str, str]:
    """Caps that keep the rows of 99 units in a hundred; empty where rows were not counted by unit."""
    unit = found["profile"].get("unit")
    if not unit or unit["rows_per_unit"]["q99"] is None:
        return {}
    most = _up(int(unit["rows_per_unit"]["q99"]))
    groups = min(8, most)
    return {
        "max_rows": str(most),
        "max_groups": str(groups),
        "max_rows_per_group": str(min(most, _up(int(unit["rows_per_unit"]["q90"])))),
    }


def _risk(name: str, kind: str, told: Mapping[str, Any], rows: int) -> str:
    distinct, filled = int(told.get("distinct") or 0), rows - int(told.get("nulls") or 0)
    words = [str(one["value"]) for one in told.get("common", [])]
    if _DIRECT.search(name):
        return IDENTIFIER
    if kind in ("text", "integer") and filled >= _MANY and distinct >= _NEARLY_ALL * filled:
        long = kind == "text" and words and sum(map(len, words)) / len(words) >= _LONG
        return FREE_TEXT if long else IDENTIFIER
    if kind == "text" and words and sum(map(len, words)) / len(words) >= _LONG:
        return FREE_TEXT
    if _QUASI.search(name):
        return QUASI
    if kind == "text" and any(_sharing(one) < _MANY for one in told.get("common", [])[:_FEW]):
        return RARE
    return ""


def _suggested(kind: str, told: Mapping[str, Any], risk: str, rows: int) -> dict[str, str]:
    if risk in (IDENTIFIER, FREE_TEXT) or told.get("min") is None:
        return {"use": "filter"}
    if kind in ("integer", "float", "decimal"):
        return _range(kind, str(told["min"]), str(told["max"]))
    if kind in ("date", "timestamp"):
        return _years(kind, str(told["min"]), str(told["max"]))
    common = told.get("common", [])
    # Listed values are public, also to somebody who would be the only one with one of them.
    # The number of different values is an estimate: that these are all is known by their rows.
    is_whole = common and sum(int(one["rows"]) for one in common) == rows - int(told["nulls"])
    is_shared = all("units" in one and _sharing(one) >= _MANY for one in common)
    if is_whole and is_shared and all(_is_plain(str(one["value"])) for one in common) and kind == "text":
        return {"use": "keys", "keys": "\n".join(sorted(str(one["value"]) for one in common))}
    return {"use": "group"}


def _sharing(value: Mapping[str, Any]) -> int:
    """How many units have a value; before units were counted at most as many as rows."""
    return int(value.get("units", value["rows"]))


def _is_plain(value: str) -> bool:
    """Whether a value is whole, and one line as it would be typed."""
    return 0 < len(value) < _CUT and value.strip() == value and len(value.splitlines()) == 1


def _range(kind: str, low: str, high: str) -> dict[str, str]:
    try:
        ends = float(low), float(high)
    except ValueError:
        return {"use": "filter"}
    if not all(map(math.isfinite, ends)) or max(map(abs, ends)) > 10**15:
        return {"use": "filter"}
    rounded = {"use": "range", "low": _outward(ends[0], up=False), "high": _outward(ends[1], up=True)}
    return rounded if kind == "integer" else {**rounded, "decimals": "2"}


def _outward(value: float, *, up: bool) -> str:
    """The next round number away from the data, never the value itself but for 0 downwards: 571 -> 580,
    580 -> 590 and 83 -> 100 upwards, 3 -> 0 downwards.
    """
    if not up and 0 <= value < 10:
        return "0"
    if value == 0:
        return "1"
    grows = up == (value > 0)
    size = abs(value)
    if size >= 100:
        unit = 10.0 ** (math.floor(math.log10(size)) - 1)
        return str(int(unit * (math.floor(value / unit) + 1 if up else math.ceil(value / unit) - 1)))
    power = 10.0 ** math.floor(math.log10(size))
    steps = [step for step in _STEPS if step * power > size * (1 + 1e-12)]
    step = steps[0] if grows else max([one for one in _STEPS if one * power < size * (1 - 1e-12)], default=0)
    found = math.copysign(max(step * power, 1.0 if grows else 0.0), value)
    return str(math.ceil(found) if up else math.floor(found))


def _years(kind: str, low: str, high: str) -> dict[str, str]:
    first, last = low[:4], high[:4]
    if not (first.isdigit() and last.isdigit() and int(last) < 9999):
        return {"use": "filter"}
    if low[4:10] == "-01-01" and int(first) > 1:  # a bound would be the earliest day itself
        first = f"{int(first) - 1:04d}"
    clock = "" if kind == "date" else "T00:00:00"
    return {"use": "range", "low": f"{first}-01-01{clock}", "high": f"{int(last) + 1:04d}-01-01{clock}"}


def _up(count: int) -> int:
    """The next round number, or the count itself: 335 -> 340."""
    return int(_outward(count - 0.5, up=True)) if count > 1 else 1
