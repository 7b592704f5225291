# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""SQL of relations: a SELECT whose columns are called by source and name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from privacy.algebra import (
    Branch,
    Call,
    Capped,
    Column,
    Filter,
    Grouped,
    Join,
    Limited,
    Literal,
    Order,
    PerUnit,
    Relation,
    Released,
    Scalar,
    Scan,
    Semi,
    Union,
    Window,
    Windowed,
    columns_of,
    shown_sources,
)
from privacy.engines.duckdb.literals import normalised, quoted
from privacy.engines.duckdb.scalars import named, scalar
from privacy.engines.duckdb.windows import ORDERED, WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SALT_TABLE = "_salt"


def released_table(question: int) -> str:
    """The name under which the released table of a statement's question is handed to the engine."""
    return f"_released{question}"


class Relations:
    """SQL of relations, for a tree whose column references are known.

    Args:
        used: every column that the tree and what stands above it refer to.
    """

    def __init__(self, used: set[Column]) -> None:
        self._used = sorted(used, key=lambda column: column.text)

    def sql(self, node: Relation) -> str:
        """A SELECT whose columns are called by source and name."""
        if isinstance(node, Filter):
            return f"SELECT * FROM ({self.sql(node.input)}) AS q WHERE {scalar(node.predicate)}"
        if isinstance(node, Join):
            word = "LEFT JOIN" if node.kind == "left" else "JOIN"
            left, right = self.sql(node.left), self.sql(node.right)
            return f"SELECT * FROM ({left}) AS l {word} ({right}) AS r ON {scalar(node.on)}"
        made: str = self._WRITERS[type(node)](self, node)
        return made

    def _scan(self, node: Scan) -> str:
        unit = node.unit
        wanted = [one for one in self._used if one.source == node.source and one.type != "unknown"]
        columns = [
            f"{normalised(f't.{quoted(one.name)}', one.type)} AS {named(one)}"
            for one in wanted
            if one != unit
        ]
        if unit is None:
            return f"SELECT {', '.join(columns) or '1 AS nothing'} FROM {quoted(node.table)} AS t"
        # The unit is never cast: two units that a cast takes for one would share one bound.
        owner = f"h{len(node.path) - 1}" if node.path else "t"
        columns.append(f"{owner}.{quoted(unit.name)} AS {named(unit)}")
        way = "".join(
            f" JOIN {quoted(hop.table)} AS h{place} ON {'t' if place == 0 else f'h{place - 1}'}."
            f"{quoted(hop.column)} = h{place}.{quoted(hop.key)}"
            for place, hop in enumerate(node.path)
        )
        rows = f"SELECT {', '.join(columns)} FROM {quoted(node.table)} AS t{way}"
        return f"SELECT * FROM ({rows}) AS q WHERE {named(unit)} IS NOT NULL"

    def _capped(self, node: Capped) -> str:
        """Only where there are more rows than the cap are they ranked, which is dear.

        NULL equals nothing, so that rows without a value of a key are kept, however many. The unit is never
        NULL, and a row that is NULL in a key which a join equates meets no other by it: none is multiplied,
        each comes at most once for a row beside it. Nothing is derived from a cap with keys but how often
        rows are multiplied (`privacy.query.links`), so that what a unit contributes is bounded above, as
        ever; and which rows are kept still is a function of the unit's own.
        """
        content = [named(one) for one in self._content(node.input)]
        rank = keyed_rank(list(dict.fromkeys([named(node.unit), *content])))
        within = ", ".join(named(one) for one in (node.unit, *node.keys))
        place = f"row_number() OVER (PARTITION BY {within} ORDER BY {rank}) AS capped_place"
        heavy = f"SELECT {within} FROM _rows_to_cap GROUP BY {within} HAVING count(*) > {node.rows}"
        ranked = f"SELECT r.*, {place} FROM _rows_to_cap AS r SEMI JOIN _heavy USING ({within})"
        return (
            f"WITH _rows_to_cap AS MATERIALIZED ({self.sql(node.input)}), _heavy AS ({heavy}) "
            f"SELECT r.* FROM _rows_to_cap AS r ANTI JOIN _heavy USING ({within}) UNION ALL "
            f"SELECT * EXCLUDE (capped_place) FROM ({ranked}) AS q WHERE capped_place <= {node.rows}"
        )

    def _content(self, node: Relation) -> list[Column]:
        """All that the tree reads of the relation's rows: rows that agree in it may stand for one another."""
        return [one for one in self._shown(node) if one.type != "unknown"]

    def _semi(self, node: Semi) -> str:
        left, right = self.sql(node.left), self.sql(node.right)
        if node.kind == "not_in":
            assert isinstance(node.on, Call)
            one, other = (scalar(argument) for argument in node.on.arguments)
            if not columns_of(node.on.arguments[0]) & set(self._shown(node.left)):
                one, other = other, one
            return f"SELECT * FROM ({left}) AS l WHERE {one} NOT IN (SELECT {other} FROM ({right}) AS r)"
        word = "SEMI" if node.kind == "semi" else "ANTI"
        return f"SELECT * FROM ({left}) AS l {word} JOIN ({right}) AS r ON {scalar(node.on)}"

    def _shown(self, node: Relation) -> list[Column]:
        sources = shown_sources(node)
        return [one for one in self._used if one.source in sources]

    def _per_unit(self, node: PerUnit) -> str:
        columns = [f"{named(node.unit)} AS {quoted(f'{node.source}.u')}"]
        columns += [
            f"{_value(scalar(one), one.type)} AS {quoted(f'{node.source}.{name}')}"
            for name, one in node.keys + node.measures
        ]
        places = ", ".join(str(place + 1) for place in range(1 + len(node.keys)))
        return f"SELECT {', '.join(columns)} FROM ({self.sql(node.input)}) AS q GROUP BY {places}"

    def _windowed(self, node: Windowed) -> str:
        ties = [Order(one) for one in self._content(node.input)]
        columns = [f"{_window(one, ties)} AS {quoted(f'{node.source}.{name}')}" for name, one in node.columns]
        return f"SELECT *, {', '.join(columns)} FROM ({self.sql(node.input)}) AS q"

    def _union(self, node: Union) -> str:
        return " UNION ALL ".join(self._branch(node.source, branch) for branch in node.branches)

    def _branch(self, source: str, branch: Branch) -> str:
        columns = [
            f"{_value(scalar(one), one.type)} AS {quoted(f'{source}.{name}')}" for name, one in branch.columns
        ]
        return f"SELECT {', '.join(columns) or '1 AS nothing'} FROM ({self.sql(branch.input)}) AS q"

    def _table(self, node: Released) -> str:
        wanted = [one for one in self._used if one.source == node.source]
        columns = ", ".join(f"{quoted(one.name)} AS {named(one)}" for one in wanted)
        return f"SELECT {columns or '1 AS nothing'} FROM {quoted(released_table(node.question))}"

    def _grouped(self, node: Grouped) -> str:
        columns = [
            f"{scalar(one)} AS {quoted(f'{node.source}.{name}')}"
            for name, one in (*node.keys, *node.measures)
        ]
        places = ", ".join(str(place + 1) for place in range(len(node.keys)))
        grouped = f" GROUP BY {places}" if places else ""
        return f"SELECT {', '.join(columns)} FROM ({self.sql(node.input)}) AS q{grouped}"

    def _limited(self, node: Limited) -> str:
        limit = "" if node.limit is None else f" LIMIT {node.limit}"
        return f"SELECT * FROM ({self.sql(node.input)}) AS q{ordered(node.order)}{limit} OFFSET {node.offset}"

    _WRITERS: ClassVar[dict[type, Callable[..., str]]] = {
        Scan: _scan,
        Capped: _capped,
        Semi: _semi,
        PerUnit: _per_unit,
        Windowed: _windowed,
        Union: _union,
        Released: _table,
        Grouped: _grouped,
        Limited: _limited,
    }


def keyed_rank(names: Sequence[str]) -> str:
    """A number that only the salt and the values of the named columns decide."""
    values = ", ".join(_encoded(name) for name in names)
    return f"md5_number(concat((SELECT salt FROM {quoted(SALT_TABLE)}), {values}))"


def _encoded(name: str) -> str:
    """Text in which no two lists of values look alike: each value with its length before it."""
    text = f"CAST({name} AS VARCHAR)"
    return f"CASE WHEN {name} IS NULL THEN 'n' ELSE concat('v', length({text}), ':', {text}) END"


def _value(sql: str, kind: str) -> str:
    """A value of a derived column: 0 and -0 are equal but can be told apart, so that it would matter which of
    them comes first."""
    return normalised(sql, kind) if kind in ("float", "decimal") else sql


def _window(window: Window, ties: Sequence[Order]) -> str:
    """A window function; where equal rows are told apart, by ``ties`` as well."""
    partition = ", ".join(scalar(one) for one in window.partition)
    total = window.operation in ORDERED or window.frame is not None
    order = ordered([*window.order, *(ties if total else ())])
    frame = "" if window.frame is None else f" ROWS BETWEEN {_frame(window.frame)}"
    over = f"{f'PARTITION BY {partition}' if partition else ''}{order}{frame}"
    arguments = [_value(scalar(one), one.type) for one in window.arguments]
    return WINDOWS[window.operation](window, arguments, over)


def _frame(frame: tuple[int | None, int | None]) -> str:
    before, after = frame
    low = "UNBOUNDED PRECEDING" if before is None else _edge(-before)
    return f"{low} AND {'UNBOUNDED FOLLOWING' if after is None else _edge(after)}"


def _edge(offset: int) -> str:
    return f"{-offset} PRECEDING" if offset < 0 else f"{offset} FOLLOWING"


def ordered(order: Sequence[Order]) -> str:
    """An ORDER BY clause, or nothing."""
    words = []
    for one in order:
        if isinstance(one.scalar, Literal):
            continue  # the same on every row: no order, and not allowed here
        direction = "DESC" if one.descending else "ASC"
        words.append(f"{scalar(one.scalar)} {direction} NULLS {'FIRST' if one.nulls_first else 'LAST'}")
    return f" ORDER BY {', '.join(words)}" if words else ""


@dataclass(frozen=True)
class Multiplicity:
    """Rows of a public relation that meet ``conditions`` and share the values of ``keys``: as many as
    there are at most."""

    relation: Relation
    conditions: tuple[Scalar, ...]
    keys: tuple[Scalar, ...]


def fan_out_sql(counts: Sequence[Multiplicity]) -> str:
    """One row with one BIGINT for each multiplicity, 0 where there is no row."""
    return f"SELECT {', '.join(f'({_most_alike(one)}) AS f{place}' for place, one in enumerate(counts))}"


def _most_alike(one: Multiplicity) -> str:
    relation = Relations(columns_of([one.relation, one.conditions, one.keys])).sql(one.relation)
    where = " AND ".join(scalar(condition) for condition in one.conditions) or "TRUE"
    keys = ", ".join(scalar(key) for key in one.keys)
    counted = (
        f"SELECT count(*) AS n FROM ({relation}) AS q WHERE {where}{f' GROUP BY {keys}' if keys else ''}"
    )
    return f"SELECT coalesce(max(n), 0) FROM ({counted}) AS q"


def unique_sql(table: str, key: str) -> str:
    """One row with one truth, ``fit``: the column has a value in every row, and none twice."""
    name = quoted(key)
    present = f"count({name}) = count(*)"
    return f"SELECT {present} AND count(DISTINCT {name}) = count(*) AS fit FROM {quoted(table)}"
