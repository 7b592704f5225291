"""What the columns of a statement are: those of the policy's tables, and those derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from privacy.algebra import (
    TRUE,
    Call,
    Column,
    Filter,
    Literal,
    Order,
    Relation,
    Scalar,
    Scan,
    columns_of,
    conjunction,
    conjuncts,
    holding,
)
from privacy.arithmetic import Bounds
from privacy.policy import UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.policy import Identity, Policy, Table


@dataclass(frozen=True)
class Facts:
    """What the policy says of a column, or what follows from it for a derived one.

    Attributes:
        bounds: values beyond them are clamped wherever the column is summed.
        domain: its public key set; None makes its values private.
        selectable: False keeps it out of keys and aggregates.
        identity: what the column names, if each of its values belongs to one unit: `UNIT`, or the table and
            key that a path leads to.
        present: whether it is never NULL.
    """

    bounds: Bounds | None = None
    domain: tuple[Literal, ...] | None = None
    selectable: bool = True
    identity: Identity | None = None
    present: bool = False


@dataclass(frozen=True)
class Rows:
    """A relation with its columns by name. ``unit`` is None when the rows are public.

    Attributes:
        table: the private table whose caps hold for questions about these rows.
        filters: conditions not yet applied to ``relation``.
        order: the order that rows of a public relation have when none is asked for.
        units: columns that equal the unit on every row.
        nullable: sources whose columns are NULL on rows that a left join did not match.
        unique: columns of which a private relation shows no value twice.
        most: rows of one unit, at most, by construction; None where nothing says so.
        each: for a source, how many different rows of it one unit has at most, by construction.
        numbered: columns that number the rows of each unit, from 1 on.
        factor: how many rows of a join one row of the largest private table may become.
    """

    relation: Relation
    columns: dict[str, Scalar]
    unit: Column | None = None
    table: Table | None = None
    filters: tuple[Scalar, ...] = ()
    order: tuple[Order, ...] = ()
    units: frozenset[Column] = frozenset()
    nullable: frozenset[str] = frozenset()
    unique: frozenset[Column] = frozenset()
    most: int | None = None
    each: Mapping[str, int] = field(default_factory=dict)
    numbered: frozenset[Column] = frozenset()
    factor: int = 1

    @property
    def filtered(self) -> Relation:
        """The relation with its filters applied."""
        predicate = conjunction(list(self.filters))
        return self.relation if predicate == TRUE else Filter(self.relation, predicate)

    @property
    def conditions(self) -> list[Scalar]:
        """Conditions that are true on every row."""
        return [part for one in self.filters for part in conjuncts(one)] + holding(self.relation)

    def groups(self, keys: list[Scalar]) -> int | None:
        """Groups by ``keys`` that one unit's rows fall into, at most; None where nothing says so."""
        sources = {column.source for key in keys for column in columns_of(key) if column not in self.units}
        if not sources <= self.each.keys():
            return self.most
        groups = 1
        for source in sources:
            groups *= self.each[source]
        return groups if self.most is None else min(groups, self.most)


@dataclass
class Catalog:
    """The policy's tables as this statement has named them so far: who is ``s0``, and what may be done
    with it."""

    policy: Policy
    scans: dict[str, Table] = field(default_factory=dict)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    units: set[Column] = field(default_factory=set)
    derived: dict[Column, Facts] = field(default_factory=dict)
    counted_values: int = 0
    _made: int = 0

    def scan(self, table: Table, place: tuple[int, int]) -> Rows:
        """The rows of a table that the statement names at ``place``."""
        source = f"s{len(self.scans)}"
        self.scans[source] = table
        self.places[source] = place
        columns: dict[str, Scalar] = {
            name: Column(source, column.name, column.type or "unknown")
            for name, column in table.columns.items()
        }
        if table.unit is None:
            return Rows(Scan(source, table.name, None), columns, None, table)
        unit = Column(source, *self.policy.unit_column(table))
        if not table.path:
            columns[unit.name.lower()] = unit
        self.units.add(unit)
        keys = frozenset(
            column
            for name, column in columns.items()
            if isinstance(column, Column) and self.policy.is_path_key(table, name)
        )
        one = unit in keys
        return Rows(
            Scan(source, table.name, unit, table.path),
            columns,
            unit,
            table,
            units=frozenset([unit, *self._same_as_unit(columns)]),
            unique=keys,
            most=1 if one else None,
            each={source: 1} if one else {},
        )

    def _same_as_unit(self, columns: Mapping[str, Scalar]) -> list[Column]:
        found = [column for column in columns.values() if isinstance(column, Column)]
        return [column for column in found if self.facts(column).identity == UNIT]

    def fresh(self, kind: str) -> str:
        """A source name that is not yet taken, which begins with the letter of its kind."""
        self._made += 1
        return f"{kind}{self._made - 1}"

    def derive(self, column: Column, facts: Facts) -> Column:
        """The column, of which ``facts`` are known from now on."""
        self.derived[column] = facts
        if facts.identity == UNIT:
            self.units.add(column)
        return column

    def facts(self, column: Column) -> Facts:
        """What is known of a column; nothing of one that is released or computed from public rows."""
        if column in self.derived:
            return self.derived[column]
        table = self.scans.get(column.source)
        if table is None:
            return Facts()
        if column in self.units:
            identity: Identity | None = UNIT
        else:
            identity = self.policy.identity(table, column.name)
        declared = table.column(column.name)
        if declared is None:
            return Facts(identity=identity, present=column in self.units)
        bounds = None
        if declared.low is not None and declared.high is not None:
            bounds = Bounds(declared.low, declared.high, declared.decimals)
        keys = declared.keys
        domain = None if keys is None else tuple(Literal(value, column.type) for value in keys)
        return Facts(bounds, domain, declared.selectable, identity, column in self.units)

    def identity(self, scalar: Scalar) -> Identity | None:
        """What a bare column names, if each of its values belongs to one unit."""
        return self.facts(scalar).identity if isinstance(scalar, Column) else None

    def selectable(self, scalar: Scalar) -> bool:
        """Whether keys and aggregates may be made of it."""
        return all(self.facts(column).selectable for column in columns_of(scalar))

    def present(self, column: Column) -> bool:
        """Whether the column is never NULL."""
        return self.facts(column).present

    def domain(self, scalar: Scalar, conditions: list[Scalar]) -> tuple[Literal, ...] | None:
        """The public key set of a grouping expression, less what the conditions exclude; None when its
        values are private."""
        if scalar.type == "boolean":
            return (Literal(False, "boolean"), Literal(True, "boolean"))
        if isinstance(scalar, Literal):
            return None if scalar.value is None else (scalar,)
        if isinstance(scalar, Call):
            return _case_domain(scalar)
        domain = self.facts(scalar).domain
        return None if domain is None else _narrowed(scalar, domain, conditions)


def _case_domain(call: Call) -> tuple[Literal, ...] | None:
    """The values of a CASE over literals. NULL forms no public group: its rows are left out."""
    if call.operation != "case":
        return None
    values = [*call.arguments[1:-1:2], call.arguments[-1]]
    literals = [value for value in values if isinstance(value, Literal)]
    if len(literals) < len(values):
        return None
    present = sorted((value for value in literals if value.value is not None), key=lambda value: value.text)
    return tuple({_as_stored(value): value for value in reversed(present)}.values())[::-1] or None


def _as_stored(literal: Literal) -> object:
    """The value that the engine computes with: numbers of other types than integer are doubles there."""
    value = literal.value
    double = literal.type in ("float", "decimal") and isinstance(value, int | Decimal)
    return float(value) if isinstance(value, int | Decimal) and double else value


def _narrowed(column: Column, domain: tuple[Literal, ...], parts: list[Scalar]) -> tuple[Literal, ...]:
    """The key set less what the statement's own filters exclude: known from the text alone."""
    for part in parts:
        if isinstance(part, Call) and part.operation in ("eq", "in") and column in part.arguments:
            asked = {one.text for one in part.arguments if isinstance(one, Literal)}
            if len(asked) == len(part.arguments) - 1:
                domain = tuple(value for value in domain if value.text in asked) or domain
    return domain
