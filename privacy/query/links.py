"""What ties the items of a FROM together: equalities, and between private tables the unit.

Two private rows may only meet when they belong to one unit. That is known where a condition equates two
columns that name the same thing, each value of which has one owner: the unit itself, or the key of a table
on a declared path (`privacy.query.catalog.Facts.identity`).

Rows of one unit may multiply in such a join, so that one unit with many rows could decide whether an answer
comes at all. One item keeps all its rows; each of the others has one row for a row before it (its unit or a
unique key is equated), or is `Capped`: by unit, or by unit and the key that is equated. What remains after a
cap is a function of the unit's own rows and the salt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from privacy.algebra import (
    Call,
    Capped,
    Column,
    Filter,
    Join,
    Relation,
    Scalar,
    columns_of,
    conjunction,
    conjuncts,
    shown_sources,
)
from privacy.query.ties import equates, one_tie_each

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlglot import exp

    from privacy.query.catalog import Catalog, Rows
    from privacy.query.text import Source

MAX_ROWS_JOINED = 32
"""Rows of a unit that a capped side of a join keeps, at most."""
MAX_FACTOR = 1024
"""Rows that one row may become over all private joins of a query."""


@dataclass(frozen=True)
class Item:
    """One item of FROM. ``on`` is the own condition of an optional one, the right side of a left join."""

    rows: Rows
    node: exp.Expr
    on: tuple[Scalar, ...] | None = None

    @property
    def optional(self) -> bool:
        return self.on is not None

    @property
    def leaf(self) -> Relation:
        """The relation as it stands in the tree of joins."""
        return self.rows.filtered if self.optional else self.rows.relation

    @property
    def sources(self) -> set[str]:
        return shown_sources(self.rows.relation)

    @property
    def private(self) -> bool:
        return self.rows.unit is not None

    @property
    def max_rows(self) -> int:
        """Rows of one unit that the policy would count."""
        return self.rows.table.max_rows if self.rows.table is not None else 1


@dataclass(frozen=True)
class Edge:
    """Two items' columns that are equated and name the same. ``optional`` is the item in whose own condition
    that stands, if it is not one that all rows meet."""

    ends: tuple[tuple[int, Column], tuple[int, Column]]
    optional: int | None

    def column(self, item: int) -> Column | None:
        """The item's own end."""
        return next((column for one, column in self.ends if one == item), None)

    def other(self, item: int) -> int:
        return next(one for one, _ in self.ends if one != item)


@dataclass(frozen=True)
class Step:
    """How an item joins those before it: rows it has for one of theirs, and the cap that holds it to that."""

    item: int
    factor: int
    cap: int | None = None
    keys: tuple[Column, ...] = ()


def linked(rows: Rows, items: Sequence[Item], catalog: Catalog, source: Source) -> Rows:
    """The joined rows, each private item tied to the others by the unit and held to a factor.

    Raises:
        Refused: ``unsupported_join``, an item is not tied to the rest; ``too_complex``, rows would multiply
            too often.
    """
    _check_equalities(rows, items, source)
    private = [place for place, item in enumerate(items) if item.private]
    if len(items) == 1:
        return rows
    if not private:
        return rows
    if len(private) == 1:
        return _tied_once(_with_public(rows, items[private[0]].rows), items, private)
    edges = _edges(rows, items, catalog)
    _check_units(items, private, edges, source)
    steps = _best_way(items, private, edges)
    made = _with_caps(rows, items, steps)
    factor = _product(step.factor for step in steps) * _product(items[place].rows.factor for place in private)
    if factor > MAX_FACTOR:
        message = f"The joins of private tables could make {factor} rows of one."
        hint = f"Join fewer tables at once; at most {MAX_FACTOR} rows are allowed."
        source.refuse(items[steps[-1].item].node, "too_complex", message, hint)
    return _tied_once(_described(made, items, steps, factor), items, [step.item for step in steps])


def _tied_once(rows: Rows, items: Sequence[Item], private: list[int]) -> Rows:
    """The rows with one tie left to join each public item by; a left join is made where it stands."""
    conditions = [part for one in rows.filters for part in conjuncts(one)]
    public = [item.sources for item in items if not item.private and not item.optional]
    kept = one_tie_each(conditions, [items[place].sources for place in private], public)
    return replace(rows, filters=tuple(kept))


def same_owner(part: Scalar, catalog: Catalog) -> tuple[Column, Column] | None:
    """The two columns of a condition that holds only between rows of one unit.

    An equality alone: NULL names nothing, and IS NOT DISTINCT FROM would let it.
    """
    if not isinstance(part, Call) or part.operation != "eq":
        return None
    one, other = part.arguments
    if not isinstance(one, Column) or not isinstance(other, Column):
        return None
    identity = catalog.identity(one)
    return (one, other) if identity is not None and identity == catalog.identity(other) else None


def own_condition(rows: Rows) -> tuple[Scalar, ...]:
    """What the left join that was just made asks of its right side."""
    return tuple(conjuncts(rows.relation.on)) if isinstance(rows.relation, Join) else ()


def _product(numbers: Iterable[int]) -> int:
    whole = 1
    for number in numbers:
        whole *= number
    return whole


# Which items are tied


def _check_equalities(rows: Rows, items: Sequence[Item], source: Source) -> None:
    """Refuse items that no equality ties to the rest: they would multiply every row."""
    equalities = [*rows.conditions, *(part for item in items for part in item.on or ())]
    together = set(items[0].sources)
    waiting = list(items[1:])
    while waiting:
        tied = [item for item in waiting if any(equates(part, together, item.sources) for part in equalities)]
        if not tied:
            _refuse(waiting[0], source)
        for item in tied:
            together |= item.sources
            waiting.remove(item)


def _refuse(item: Item, source: Source) -> NoReturn:
    message = "A joined table needs an equality with a table before it."
    source.refuse(item.node, "unsupported_join", message, "Add ON a.key = b.key, or the same in WHERE.")


def _edges(rows: Rows, items: Sequence[Item], catalog: Catalog) -> list[Edge]:
    place_of = {name: place for place, item in enumerate(items) for name in item.sources if item.private}
    everywhere = [(part, None) for one in rows.filters for part in conjuncts(one)]
    own = [(part, place) for place, item in enumerate(items) for part in item.on or ()]
    edges = []
    for part, optional in [*everywhere, *own]:
        ends = same_owner(part, catalog)
        if ends is None or any(column.source not in place_of for column in ends):
            continue
        one, other = ((place_of[column.source], column) for column in ends)
        if one[0] != other[0] and (optional is None or optional in (one[0], other[0])):
            edges.append(Edge((one, other), optional))
    return edges


def _check_units(items: Sequence[Item], private: list[int], edges: list[Edge], source: Source) -> None:
    """Every private item is tied to the first one; an optional item by its own condition."""
    together = {private[0]}
    waiting = private[1:]
    while waiting:
        tied = [place for place in waiting if any(_ties(edge, place, items, together) for edge in edges)]
        if not tied:
            unit = items[private[0]].rows.unit
            message = "Private tables are joined on their privacy unit, or along a declared path to it."
            hint = f"Equate the units, as in ON a.{unit.name if unit else 'unit'} = b.the_unit."
            source.refuse(items[waiting[0]].node, "unsupported_join", message, hint)
        together.update(tied)
        waiting = [place for place in waiting if place not in tied]


def _ties(edge: Edge, place: int, items: Sequence[Item], together: set[int]) -> bool:
    needed = place if items[place].optional else None
    return edge.column(place) is not None and edge.other(place) in together and edge.optional == needed


# Which item keeps its rows


def _best_way(items: Sequence[Item], private: list[int], edges: list[Edge]) -> list[Step]:
    """The steps from the item that keeps all its rows to the last; as few rows multiplied as there can be,
    then the item with the most declared rows, then the first."""
    ways = [_way(first, items, private, edges) for first in private]
    return min(ways, key=lambda way: (_product(step.factor for step in way), -items[way[0].item].max_rows))


def _way(first: int, items: Sequence[Item], private: list[int], edges: list[Edge]) -> list[Step]:
    steps = [Step(first, 1)]
    waiting = [place for place in private if place != first]
    while waiting:
        placed = {step.item for step in steps}
        step = min((_step(place, items, edges, placed) for place in waiting), key=lambda one: one.factor)
        steps.append(step)
        waiting.remove(step.item)
    return steps


def _step(place: int, items: Sequence[Item], edges: list[Edge], placed: set[int]) -> Step:
    """How an item joins the placed ones.

    What an optional item asks ties nobody but itself: rows that it does not match stay. It only tells how
    often the item beside it comes where nothing else is placed yet: once for each match, and once without.
    """
    rows = items[place].rows
    tied = [edge for edge in edges if edge.column(place) is not None and edge.other(place) in placed]
    tied = [edge for edge in tied if edge.optional in (None, place) or placed == {edge.optional}]
    columns = [column for edge in tied if (column := edge.column(place)) is not None]
    if any(column in rows.unique for column in columns):
        return Step(place, 1)
    if rows.most is not None and rows.most <= MAX_ROWS_JOINED:
        return Step(place, rows.most)
    cap = min(MAX_ROWS_JOINED, items[place].max_rows)
    keys = tuple(dict.fromkeys(column for column in columns if column not in rows.units))
    return Step(place, cap, cap, keys)


# The joined rows


def _with_caps(rows: Rows, items: Sequence[Item], steps: list[Step]) -> Rows:
    capped: dict[Relation, Relation] = {}
    conditions = [part for one in rows.filters for part in conjuncts(one)]
    for step in steps:
        item = items[step.item]
        if step.cap is not None and item.rows.unit is not None:
            parts = conditions if item.on is None else list(item.on)
            capped[item.leaf] = Capped(_filtered(item, parts), item.rows.unit, step.cap, step.keys)
    return replace(rows, relation=_replaced(rows.relation, capped))


def _filtered(item: Item, parts: list[Scalar]) -> Relation:
    """The item less the rows that what is asked of it alone excludes, so that no cap is spent on them."""
    own = [part for part in parts if (found := _sources(part)) and found <= item.sources]
    return Filter(item.leaf, conjunction(own)) if own else item.leaf


def _sources(part: Scalar) -> set[str]:
    return {column.source for column in columns_of(part)}


def _replaced(relation: Relation, capped: Mapping[Relation, Relation]) -> Relation:
    if relation in capped:
        return capped[relation]
    if not isinstance(relation, Join):
        return relation
    left, right = _replaced(relation.left, capped), _replaced(relation.right, capped)
    return replace(relation, left=left, right=right)


def _described(rows: Rows, items: Sequence[Item], steps: list[Step], factor: int) -> Rows:
    """What is known of the joined rows."""
    most: int | None = 1 if all(item.private for item in items) else None
    each: dict[str, int] = {}
    units: set[Column] = set()
    for step in steps:
        item = items[step.item]
        held = step.cap if step.cap is not None and not step.keys else None
        known = _least(item.rows.most, held)
        most = None if most is None or known is None else most * known
        further = 0 if item.on is None or _on_unit_alone(item, items) else 1
        found = dict(item.rows.each) if held is None else dict.fromkeys(item.sources, held)
        for name, number in found.items():
            each[name] = min(number, item.rows.each.get(name, number)) + further
        units |= item.rows.units if item.on is None else set()
    return replace(
        rows,
        table=items[steps[0].item].rows.table,
        units=frozenset(units),
        unique=frozenset(),
        most=most,
        each=each,
        factor=factor,
    )


def _with_public(rows: Rows, private: Rows) -> Rows:
    """Rows of one private item that public ones may have multiplied."""
    units, each = private.units, private.each
    return replace(rows, table=private.table, units=units, each=each, factor=private.factor)


def _least(one: int | None, other: int | None) -> int | None:
    known = [number for number in (one, other) if number is not None]
    return min(known, default=None)


def _on_unit_alone(item: Item, items: Sequence[Item]) -> bool:
    """Whether an optional item matches either all rows of a unit or none."""
    sure = {column for one in items if one is item or not one.optional for column in one.rows.units}
    parts = item.on or ()
    return all(
        isinstance(part, Call) and part.operation == "eq" and set(part.arguments) <= sure for part in parts
    )
