"""What a contribution profile looks at in a table, and the least that it may spend to tell anything.

A profile's counts carry noise of sigma = sqrt(H / (2 rho)) units, for the H histograms of a table. Plans made
with a profile are as good as those made with exact counts where sigma is up to a tenth of the units, and
beyond that sometimes worse than those made without (tried on skewed populations of 1,000 to 10,000 units).
So a sigma of more than 1,000 units, with which a population of 10,000 could not be described, is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.values import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from privacy.policy import Column, Table

MAX_PROFILED = 12
"""Keys, and numbers, of a table that are looked at: the first declared."""
CENTRES_SHARE = 5
"""One part in so many of a profile's rho goes to the centres of numbers."""
LARGEST_SIGMA = 1000
"""Units: with more noise in its counts a profile tells nothing of most populations."""


def profiled_keys(table: Table) -> list[Column]:
    """Columns by which rows are likely to be grouped: their key set is declared, or they are text."""
    return [one for one in table.columns.values() if _is_key(one, table)][:MAX_PROFILED]


def profiled_numbers(table: Table) -> list[Column]:
    """Numbers with bounds."""
    return [one for one in table.columns.values() if _is_number(one)][:MAX_PROFILED]


def least_profile_rho_nano(tables: Iterable[Table]) -> int:
    """The least rho of a profile, in 1e-9: with an equal share for each private table, no count has noise of
    more than `LARGEST_SIGMA`. 0 where no table is private."""
    histograms = [_histograms(table) for table in tables if table.private]
    left = CENTRES_SHARE - 1
    share = -(-max(histograms, default=0) * 10**9 * CENTRES_SHARE // (2 * LARGEST_SIGMA**2 * left))
    return share * len(histograms)


def _histograms(table: Table) -> int:
    """Rows; of each key groups and lengths; of each number sums and deviations."""
    return 1 + 2 * len(profiled_keys(table)) + 2 * len(profiled_numbers(table))


def _is_key(one: Column, table: Table) -> bool:
    named = one.selectable and one.name.lower() != (table.unit or "").lower()
    return named and (one.keys is not None or one.type in ("text", "boolean"))


def _is_number(one: Column) -> bool:
    return one.selectable and one.low is not None and one.type in NUMBERS
