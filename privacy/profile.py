"""The contribution profile: how unevenly units contribute, released once and public from then on.

For each private table it holds histograms over units: of rows; for each key, of groups and of the L2 length
of a unit's row counts over them; for each number with bounds, of a unit's sum, and of its sum around a
centre that is close to the mean. The planner chooses from it how a unit is bounded, and says what that
leaves out.

Privacy. A unit adds 1 to at most one bin of each histogram, so that with H histograms of a table the counts
move by sqrt(H) in L2. The centre of a number comes from the sum over units of their own means around the
middle of the bounds, which moves by at most half of the width. Both are noised as any release is. What a
profile cost is charged when it is made; whatever is planned with it costs nothing further.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from privacy.errors import PrivacyError
from privacy.policy import canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMAT = 1
SIGNIFICANT = 2.0
"""Deviations of the noise above which a bin beside others is taken for one that has units."""


class ProfileInvalid(PrivacyError):
    """A document that is no contribution profile of this version of the engine, or of another policy's
    tables."""

    code = "profile_invalid"
    hint = "Make the profile anew, or plan without one."


@dataclass(frozen=True)
class Histogram:
    """Units by size: ``counts[b]`` of them, with noise, have a size of b binary digits, in [2^(b-1), 2^b)."""

    counts: tuple[int, ...]
    sigma: float

    @property
    def significant(self) -> tuple[int, ...]:
        """The counts without those that may be noise alone: from the fullest bin on to either side as far as
        there are clearly units."""
        least = max(SIGNIFICANT * self.sigma, 1.0)
        low = high = max(range(len(self.counts)), key=lambda place: self.counts[place])
        while low > 0 and self.counts[low - 1] >= least:
            low -= 1
        while high + 1 < len(self.counts) and self.counts[high + 1] >= least:
            high += 1
        return tuple(count if low <= place <= high else 0 for place, count in enumerate(self.counts))


@dataclass(frozen=True)
class KeyProfile:
    """Of one key: groups of a unit, and the L2 length of its row counts over them."""

    groups: Histogram
    lengths: Histogram


@dataclass(frozen=True)
class NumberProfile:
    """Of one number, in units of its last decimal: a public centre near the mean, sizes of a unit's sum,
    and of its sum around the centre."""

    centre: int
    sums: Histogram
    deviations: Histogram


@dataclass(frozen=True)
class TableProfile:
    """Of one private table; keys and numbers by column, in lower case."""

    rows: Histogram
    keys: Mapping[str, KeyProfile] = field(default_factory=dict)
    numbers: Mapping[str, NumberProfile] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """Released histograms of a dataset version, by table in lower case, and what they cost."""

    rho_nano: int
    tables: Mapping[str, TableProfile]

    @property
    def sha256(self) -> str:
        """Names the profile."""
        return hashlib.sha256(canonical_json(self.document()).encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """The profile as JSON has it: whole numbers alone, so that it reads the same everywhere."""
        return {
            "format": _FORMAT,
            "rho_nano": self.rho_nano,
            "tables": {name: _table_document(table) for name, table in self.tables.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Profile:
        """What `document` gave.

        Raises:
            ProfileInvalid: it is something else.
        """
        try:
            if document["format"] != _FORMAT:
                raise ProfileInvalid("This contribution profile is of another format.")
            tables = {str(name): _read_table(table) for name, table in document["tables"].items()}
            return cls(_whole(document["rho_nano"]), tables)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ProfileInvalid("This is no contribution profile.") from None


def _table_document(table: TableProfile) -> dict[str, Any]:
    return {
        "rows": _written(table.rows),
        "keys": {
            name: {"groups": _written(key.groups), "lengths": _written(key.lengths)}
            for name, key in table.keys.items()
        },
        "numbers": {
            name: {"centre": one.centre, "sums": _written(one.sums), "deviations": _written(one.deviations)}
            for name, one in table.numbers.items()
        },
    }


def _read_table(table: Mapping[str, Any]) -> TableProfile:
    keys = {
        str(name): KeyProfile(_read(key["groups"]), _read(key["lengths"]))
        for name, key in table["keys"].items()
    }
    numbers = {
        str(name): NumberProfile(_whole(one["centre"]), _read(one["sums"]), _read(one["deviations"]))
        for name, one in table["numbers"].items()
    }
    return TableProfile(_read(table["rows"]), keys, numbers)


def _written(histogram: Histogram) -> dict[str, Any]:
    """The noise scale in thousandths: it only says which bins are empty."""
    return {"counts": list(histogram.counts), "sigma_milli": round(histogram.sigma * 1000)}


def _read(written: Mapping[str, Any]) -> Histogram:
    return Histogram(
        tuple(_whole(count) for count in written["counts"]), _whole(written["sigma_milli"]) / 1000
    )


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 2**62:
        raise ValueError("not a whole number")
    return number
