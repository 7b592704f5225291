"""Synopses: what each unit contributes to each group, before anything is bounded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from privacy.engines import duckdb
from privacy.layout.wanted import Wanted

if TYPE_CHECKING:
    from privacy.algebra import Aggregate, Literal, Scalar, Sum


@dataclass(frozen=True)
class Synopsis(Wanted):
    """A synopsis of one private table.

    Attributes:
        aggregate: whose parts it holds.
    """

    aggregate: Aggregate

    def candidates_sql(self, asked: Aggregate) -> str | None:
        """The exact part of an aggregate out of this synopsis; None where it does not have the parts."""
        names = self._names(asked)
        return None if names is None else duckdb.candidates_sql(asked, duckdb.stored_parts_sql(asked, names))

    def _names(self, asked: Aggregate) -> dict[str, str] | None:
        """The synopsis' column for each column of the parts; None where it does not have them all."""
        if asked.input.input != self.aggregate.input.input or len(asked.input.keys) != len(self._keys):
            return None
        names: dict[str, str] = {}
        for key in asked.input.keys:
            if (key.scalar, key.domain) not in self._keys:
                return None
            names[key.name] = self._keys[key.scalar, key.domain]
        for one in asked.sums + asked.limits:
            found = None if not one.additive else self._like(one)
            if found is None:
                return None
            names[f"n_{one.name}"] = f"n_{found.name}"
            if one.argument is not None:
                names[f"t_{one.name}"] = f"t_{found.name}"
        return names

    @cached_property
    def _keys(self) -> dict[tuple[Scalar, tuple[Literal, ...] | None], str]:
        """The names of its keys, by what they are."""
        return {(key.scalar, key.domain): key.name for key in self.aggregate.input.keys}

    def _like(self, one: Sum) -> Sum | None:
        """A stored sum of the same argument over the same rows, before anything is taken off or bounded."""
        stored = self.aggregate.sums + self.aggregate.limits
        alike = [
            other for other in stored if (other.argument, other.condition) == (one.argument, one.condition)
        ]
        return alike[0] if alike else None
