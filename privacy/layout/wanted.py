"""What is worth storing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """

    about: str
    tables: tuple[str, ...]
    selected: Selected
    reading: Plan
