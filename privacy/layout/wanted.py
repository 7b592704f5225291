"""What is worth storing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.engines.duckdb import STORED

if TYPE_CHECKING:
    from privacy.engines.duckdb import Selected
    from privacy.plan import Plan


@dataclass(frozen=True)
class Wanted:
    """Rows of a private table that are worth storing: those that a SELECT has.

    Attributes:
        about: what they are, for people.
        tables: whose files they are made of: those on the way to the unit too.
        reading: a plan that reads what it reads.
        of: the stored rows that the SELECT reads, where it does not read the tables' files. Part by part it
            then has the same units under the same numbers.
        instead: the same from the tables' files, for where there is no room for what it is of.
    """

    about: str
    tables: tuple[str, ...]
    selected: Selected
    reading: Plan
    of: Wanted | None = None
    instead: Wanted | None = None

    @property
    def called(self) -> str:
        """The name under which statements read it, once it is stored."""
        return STORED
