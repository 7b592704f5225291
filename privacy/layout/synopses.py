"""Synopses: what each unit contributes to each group, before anything is bounded."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from privacy.engines import duckdb
from privacy.layout.wanted import Wanted

if TYPE_CHECKING:
    from privacy.algebra import Aggregate, Literal, Scalar, Sum

Names = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Synopsis(Wanted):
    """What each unit of one private table contributes, in rows of which each has one unit and one group.

    Attributes:
        aggregate: what it answers, and whatever else has the same parts.
    """

    aggregate: Aggregate

    def known(self, asked: Aggregate, *, lengths: bool) -> duckdb.Known | None:
        """The parts of an aggregate out of this synopsis; None where it does not have them.

        Args:
            lengths: whether the lengths of its units are stored too.
        """
        names = self._keys_of(asked)
        numbers = None if names is None else self._numbers_of(asked)
        if names is None or numbers is None:
            return None
        measured = duckdb.measured_sql(asked, numbers, self.totals) if lengths else None
        return self._known(asked, names, numbers, measured)

    @property
    def totals(self) -> list[duckdb.StoredTotal]:
        """What is added up in the stored rows."""
        return []

    @abstractmethod
    def groups(self) -> tuple[str, list[str]]:
        """A SELECT of one row for each unit and group of the stored rows, and its counts."""

    @abstractmethod
    def _numbers_of(self, asked: Aggregate) -> Names | None:
        """The stored column for each count and total of the parts; None where not all are stored."""

    @abstractmethod
    def _known(self, asked: Aggregate, keys: Names, numbers: Names, lengths: str | None) -> duckdb.Known:
        """What is known by these stored columns."""

    def _keys_of(self, asked: Aggregate) -> Names | None:
        """The stored column for each key; None where it is of other rows or has other keys."""
        if asked.input.input != self.aggregate.input.input or len(asked.input.keys) != len(self._keys):
            return None
        names = {key.name: self._keys.get((key.scalar, key.domain)) for key in asked.input.keys}
        found = {name: stored for name, stored in names.items() if stored is not None}
        return found if len(found) == len(names) else None

    @cached_property
    def _keys(self) -> dict[tuple[Scalar, tuple[Literal, ...] | None], str]:
        """The names of its keys, by what they are."""
        return {(key.scalar, key.domain): key.name for key in self.aggregate.input.keys}


@dataclass(frozen=True, kw_only=True)
class Sums(Synopsis):
    """Counts and totals of each unit in each group: of whatever is added up, before anything is taken off."""

    def groups(self) -> tuple[str, list[str]]:
        """The stored rows themselves."""
        return f"FROM {duckdb.quoted(duckdb.STORED)}", [
            n for n in self._stored.values() if n.startswith("n_")
        ]

    @property
    def totals(self) -> list[duckdb.StoredTotal]:
        """What is added up in the stored rows."""
        kept = set(self._stored.values())
        return [
            duckdb.StoredTotal(f"t_{one.name}", one, self._stored[one.condition.text, ""])
            for one in self.aggregate.sums
            if f"t_{one.name}" in kept
        ]

    def _numbers_of(self, asked: Aggregate) -> Names | None:
        names: Names = {}
        for one in asked.sums + asked.limits:
            counted = self._stored.get((one.condition.text, ""))
            total = self._stored.get((one.condition.text, one.argument.text if one.argument else ""))
            if not one.additive or counted is None or total is None:
                return None
            names[f"n_{one.name}"] = counted
            if one.argument is not None:
                names[f"t_{one.name}"] = total
        return names

    @cached_property
    def _stored(self) -> dict[tuple[str, str], str]:
        return duckdb.part_names(self.aggregate)

    def _known(self, asked: Aggregate, keys: Names, numbers: Names, lengths: str | None) -> duckdb.Known:
        return duckdb.Known(duckdb.stored_parts_sql(asked, keys | numbers), lengths)


@dataclass(frozen=True, kw_only=True)
class Leaves(Synopsis):
    """Rows of each unit in each leaf of its groups: histograms, and counts of the rows that they are of."""

    def groups(self) -> tuple[str, list[str]]:
        """The leaves of a group put together."""
        return duckdb.groups_of_leaves_sql(list(self._keys.values())), [duckdb.LEAF_ROWS]

    def _numbers_of(self, asked: Aggregate) -> Names | None:
        sums = asked.sums + asked.limits
        if asked.input.ranked or not all(map(self._has, sums)):
            return None  # groups in which no row counts have no leaves, but a place among a unit's groups
        return {f"n_{one.name}": duckdb.LEAF_ROWS for one in sums}

    def _has(self, one: Sum) -> bool:
        (stored,) = self.aggregate.sums
        if one.condition != stored.condition:
            return False
        return one.kind == "rows" or (one.kind == "histogram" and one.argument == stored.argument)

    def _known(self, asked: Aggregate, keys: Names, numbers: Names, lengths: str | None) -> duckdb.Known:
        leaves = duckdb.stored_leaves_sql(asked, keys)
        histograms = {one.name: leaves for one in asked.sums if one.leaves}
        return duckdb.Known(duckdb.parts_of_leaves_sql(asked, keys, numbers), lengths, histograms)


def lengths_of(synopsis: Synopsis) -> Wanted:
    """Of each unit of a synopsis, what factors are made of, which then need not be added up again."""
    instead = synopsis.instead
    return Wanted(
        f"lengths in {synopsis.about}",
        synopsis.tables,
        duckdb.lengths_of(synopsis.selected, *synopsis.groups(), synopsis.totals),
        synopsis.reading,
        synopsis,
        lengths_of(instead) if isinstance(instead, Synopsis) else None,
    )
