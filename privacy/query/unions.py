"""Private relations one after another: each row keeps its unit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Branch, Column, Scalar, Union
from privacy.arithmetic import Bounds
from privacy.policy import UNIT
from privacy.query.catalog import Catalog, Facts, Rows
from privacy.query.numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.query.scalars import Scalars

Part = tuple[Rows, exp.Expr]
"""The rows of one branch, and the place to name in a refusal."""


def branches_of(tree: exp.Union) -> list[exp.Expr]:
    """The queries that a chain of UNION of one kind joins, in their order."""
    left = tree.this
    alike = isinstance(left, exp.Union) and bool(left.args.get("distinct")) is bool(tree.args.get("distinct"))
    bare = alike and not any(left.args.get(name) for name in ("with_", "order", "limit", "offset"))
    return [*(branches_of(left) if bare else [left]), tree.expression]


def private_union(parts: Sequence[Part], scalars: Scalars, catalog: Catalog) -> Rows:
    """The rows of all branches under the names of the first, with the unit of each as ``u``.

    Raises:
        Refused: ``type_mismatch``, the branches have different columns.
    """
    first = parts[0][0]
    for rows, node in parts:
        if len(rows.columns) != len(first.columns):
            message = "The branches of a UNION have different numbers of columns."
            scalars.source.refuse(node, "type_mismatch", message, "Select the same columns in each.")
    source = catalog.fresh("u")
    table = [scalars.alike(node, list(scalars_)) for node, scalars_ in _by_place(parts)]
    assert first.unit is not None
    unit = catalog.derive(Column(source, "u", first.unit.type), Facts(identity=UNIT, present=True))
    if any(rows.unit is None or rows.unit.type != unit.type for rows, _ in parts):
        scalars.mismatch(
            parts[-1][1], "The privacy units have different types.", "Ask about them one by one."
        )
    columns: dict[str, Scalar] = {}
    named: list[tuple[str, list[Scalar]]] = []
    for (name, _), ones in zip(first.columns.items(), table, strict=True):
        if all(one in rows.units for one, (rows, _) in zip(ones, parts, strict=True)):
            columns[name] = unit
            continue
        column = Column(source, f"c{len(named)}", ones[0].type)
        columns[name] = catalog.derive(column, _facts(ones, parts, scalars, catalog))
        named.append((column.name, ones))
    made = Union(source, tuple(_branch(rows, place, named) for place, (rows, _) in enumerate(parts)))
    found = _rows(made, columns, unit, [rows for rows, _ in parts])
    if len(parts) > 1:
        return found
    renamed = zip(first.columns.values(), columns.values(), strict=True)
    unique = frozenset(new for old, new in renamed if old in first.unique and isinstance(new, Column))
    return replace(found, unique=unique)


def _by_place(parts: Sequence[Part]) -> list[tuple[exp.Expr, tuple[Scalar, ...]]]:
    node = parts[-1][1]
    return [(node, ones) for ones in zip(*(rows.columns.values() for rows, _ in parts), strict=True)]


def _branch(rows: Rows, place: int, named: Sequence[tuple[str, list[Scalar]]]) -> Branch:
    assert rows.unit is not None
    columns = [("u", rows.unit), *((name, ones[place]) for name, ones in named)]
    return Branch(rows.filtered, tuple(columns))


def _facts(ones: Sequence[Scalar], parts: Sequence[Part], scalars: Scalars, catalog: Catalog) -> Facts:
    """What is known of a column whose values come from several expressions."""
    known, domains = [], []
    for one, (rows, _) in zip(ones, parts, strict=True):
        known.append(Numbers(catalog, scalars, rows.conditions).facts(one))
        domains.append(catalog.domain(one, rows.conditions))
    identities = {catalog.identity(one) for one in ones}
    values = {value.text: value for domain in domains for value in domain or ()}
    return Facts(
        _hull([one.bounds for one in known]),
        None if None in domains else tuple(values.values()),
        all(one.selectable for one in known),
        identities.pop() if len(identities) == 1 else None,
    )


def _hull(found: Sequence[Bounds | None]) -> Bounds | None:
    """Bounds that hold all of them, at the largest number of decimals."""
    bounds = [one for one in found if one is not None]
    if len(bounds) < len(found):
        return None
    decimals = max(one.decimals for one in bounds)
    lows = [one.low * 10 ** (decimals - one.decimals) for one in bounds]
    highs = [one.high * 10 ** (decimals - one.decimals) for one in bounds]
    return Bounds(min(lows), max(highs), decimals)


def _rows(made: Union, columns: dict[str, Scalar], unit: Column, parts: Sequence[Rows]) -> Rows:
    counts = [rows.most for rows in parts]
    most = None if None in counts else sum(count for count in counts if count is not None)
    tables = [rows.table for rows in parts if rows.table is not None]
    return Rows(
        made,
        columns,
        unit,
        max(tables, key=lambda table: table.max_rows),
        units=frozenset([unit]),
        most=most,
        each={} if most is None else {made.source: most},
        factor=max(rows.factor for rows in parts),
    )
