"""One SELECT: its clauses in the order in which SQL evaluates them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import (
    Join,
    Order,
    Scalar,
    columns_of,
    conjunction,
    conjuncts,
    shown_sources,
)
from privacy.query.aggregates import Grouping, aggregates_within, has_aggregate
from privacy.query.catalog import Rows
from privacy.query.finishing import Finishing, ordinal
from privacy.query.links import Item, linked, own_condition
from privacy.query.optional import optional_side
from privacy.query.per_unit import UnitGrouping, each_once, is_per_unit
from privacy.query.ranges import held_by_number
from privacy.query.scalars import Nested, Scalars, Special
from privacy.query.scope import Named, Scope
from privacy.query.selection import Selection
from privacy.query.semijoins import Asked, SemiJoins, split
from privacy.query.sets import Nodes, grouping_sets
from privacy.query.subqueries import Subqueries, released_within
from privacy.query.windows import Windows

if TYPE_CHECKING:
    from privacy.query.relations import Environment
    from privacy.query.statement import Statement


class Block:
    """One SELECT: FROM, WHERE, GROUP BY, HAVING, windows, QUALIFY, DISTINCT, ORDER BY, LIMIT, in turn.

    Attributes:
        below, above: the subqueries that its expressions use under and over its grouping.
    """

    def __init__(
        self,
        statement: Statement,
        select: exp.Select,
        environment: Environment,
        top: bool,
        outer: Scope | None = None,
    ) -> None:
        self.statement = statement
        self.source = statement.source
        self.select = select
        self.environment = environment
        self.top = top
        self.outer = outer
        self.scope = Scope(self.source, beyond=statement.around)
        self.input: Rows | None = None
        self.mixed: list[Scalar] = []
        self.below = Subqueries(statement, self.scope, environment)
        self.above = Subqueries(statement, self.scope, environment)
        self.scalars = self._compiler(self.below)

    def _compiler(
        self, subqueries: Subqueries, special: Special | None = None, windowed: Nested | None = None
    ) -> Scalars:
        """A compiler of this block's expressions; without ``windowed`` they hold no window functions."""
        return Scalars(self.source, self.scope, subqueries.compile, windowed or self._window, special)

    def rows(self) -> Rows:
        """What the block evaluates to."""
        self._read_from()
        if self._aggregated():
            return self._grouped_rows()
        if self.select.args.get("having") is not None:
            place = self.select.args["having"]
            self.source.refuse(place, "unsupported_clause", "HAVING needs an aggregate.", "Use WHERE.")
        rows = self._input
        if rows.unit is not None:
            return self._private_rows(rows)
        windows = self._windows(rows, self.scalars)
        columns = self._columns(self._compiler(self.below, None, windows.compile))
        after = self._compiler(self.below, self._aliased(columns, None), windows.compile)
        finishing = Finishing(self.source, self.select, after, self.statement.catalog)
        order, qualified = finishing.order(columns), self._qualified(after, windows)
        windows.input = replace(rows, relation=self.below.onto(rows.relation))
        return self._public_rows(windows.rows(columns), finishing, order, qualified)

    def _windows(self, rows: Rows, scalars: Scalars) -> Windows:
        catalog = self.statement.catalog
        defined = self.select.args.get("windows") or []
        return Windows(self.source, catalog, scalars, rows, catalog.fresh("w"), defined)

    def matched(self) -> tuple[Rows, list[Scalar], list[Scalar]]:
        """As the subquery of EXISTS or IN: its rows, the conditions that read the row outside as well, and
        the selected columns."""
        self._read_from()
        starred = [item for item in self.select.expressions if isinstance(item, exp.Star)]
        columns = [] if starred else list(self._columns(self.scalars).values())
        rows = self._input
        return replace(rows, relation=self.below.onto(rows.relation)), self.mixed, columns

    def subquery(self, node: exp.Expr) -> tuple[Rows, list[Scalar], list[Scalar]]:
        """A subquery of this block's WHERE, like `matched`."""
        query = node
        while isinstance(query, exp.Subquery | exp.Paren):
            query = query.this
        if isinstance(query, exp.Select) and not self._evaluated(query):
            return self.statement.block(query, self.environment, self.scope).matched()
        rows = self.below.rows(query)
        return rows, [], list(rows.columns.values())

    def _evaluated(self, query: exp.Select) -> bool:
        """Whether more is asked of the subquery than rows of FROM and WHERE."""
        clauses = ("with_", "group", "having", "distinct", "order", "limit", "offset", "qualify")
        if any(query.args.get(name) for name in clauses):
            return True
        return any(has_aggregate(item) or item.find(exp.Window) for item in query.expressions)

    def _private_rows(self, rows: Rows) -> Rows:
        """Private rows that are not aggregated: projected, perhaps with windows, perhaps each once."""
        if self.top:
            return replace(rows, columns=self._columns(self.scalars))
        self._check_private_rows()
        windows = self._windows(rows, self.scalars)
        columns = self._columns(self._compiler(self.below, None, windows.compile))
        after = self._compiler(self.below, self._aliased(columns, None), windows.compile)
        qualified = self._qualified(after, windows)
        windows.input = replace(rows, relation=self.below.onto(rows.relation))
        made = windows.rows(columns)
        made = held_by_number(replace(made, filters=(*made.filters, *qualified)), self.statement.catalog)
        return self._once(made) if self.select.args.get("distinct") is not None else made

    def _once(self, rows: Rows) -> Rows:
        """SELECT DISTINCT of rows that name their unit."""
        place = self.select.args["distinct"]
        self.scalars.only(place)
        unit = rows.unit.name if rows.unit else "the unit"
        return each_once(rows, unit, place, self.scalars, self.statement.catalog)

    @property
    def _input(self) -> Rows:
        assert self.input is not None
        return self.input

    # FROM and WHERE

    def _read_from(self) -> None:
        from_ = self.select.args.get("from_")
        if from_ is None:
            self._columns(Scalars(self.source, self.scope, self._nothing, self._nothing))
            hint = "Add FROM and a table of the dataset."
            self.source.refuse(self.select, "unsupported_clause", "There is no table to ask about.", hint)
        compiler = self.statement.from_
        rows, alias = compiler.item(from_.this, self.environment)
        self.scope.add(Named(alias, rows.columns), from_.this)
        items = [Item(rows, from_.this)]
        for join in self.select.args.get("joins") or []:
            right, alias = compiler.item(join.this, self.environment)
            if str(join.args.get("side") or "").upper() == "LEFT":
                right = optional_side(right, join.this, self.scalars, self.statement)
            self.below.private = rows.unit is not None or right.unit is not None
            rows = compiler.join(rows, right, join, self.scope, self.scalars, alias)
            optional = isinstance(rows.relation, Join) and rows.relation.kind == "left"
            items.append(Item(right, join.this, own_condition(rows) if optional else None))
        self.input = rows
        self.below.private = rows.unit is not None
        self._check_released(items)
        where = self.select.args.get("where")
        plain, asked = ([], []) if where is None else split(where.this)
        conditions = self._conditions(where, plain, asked)
        relation = self.below.onto(rows.relation)
        rows = replace(rows, relation=relation, filters=(*rows.filters, *conditions))
        self.input = rows = linked(rows, self._many(items), self.statement.catalog, self.source)
        for one in asked:
            self.input = rows = SemiJoins(self).apply(rows, one)
        self.input = held_by_number(rows, self.statement.catalog)

    def _conditions(self, where: exp.Expr | None, plain: list[exp.Expr], asked: list[Asked]) -> list[Scalar]:
        """What WHERE says of the rows of FROM alone. What reads the query around it is kept apart."""
        if where is None:
            return []
        self.scope.outer = self.outer
        nodes = plain if asked else [where.this]
        found = [part for node in nodes for part in conjuncts(self.scalars.predicate(node))]
        if self.outer is None:
            return found
        own = shown_sources(self._input.relation).union(*map(shown_sources, self.below.joined))
        self.mixed = [part for part in found if any(column.source not in own for column in columns_of(part))]
        return [conjunction([part for part in found if part not in self.mixed])]

    def _many(self, items: list[Item]) -> list[Item]:
        """The items of FROM that may have several rows: one row multiplies nothing."""
        return [item for item in items if not self.below.at_most_one(item.leaf)] or items[:1]

    def _check_released(self, items: list[Item]) -> None:
        """Refuse released numbers beside private rows: noise is drawn after all of them are read."""
        joined = any(map(released_within, self.below.joined))
        for item in items:
            if self._input.unit is not None and not item.private and (joined or released_within(item.leaf)):
                message = "Released numbers cannot be joined to private rows."
                hint = "Join released rows to each other or to public tables."
                self.source.refuse(item.node, "unsupported_join", message, hint)

    # GROUP BY and aggregates

    def _aggregated(self) -> bool:
        if self.select.args.get("group") is not None:
            return True
        clauses = [self.select.args.get(name) for name in ("having", "qualify", "order")]
        nodes = [*self.select.expressions, *(clause for clause in clauses if clause is not None)]
        return any(aggregates_within(node) for node in nodes)

    def _grouped_rows(self) -> Rows:
        rows, catalog = self._input, self.statement.catalog
        keys, sets = self._group_keys()
        if not self.top and is_per_unit(rows, [scalar for _, scalar in keys], catalog):
            return self._rows_per_unit(rows, keys, sets)
        union = None if sets is None else catalog.fresh("u")
        grouping = Grouping(self.source, catalog, self.scalars, rows, self.statement, union)
        grouping.set_keys(keys, sets)
        plain = self._compiler(self.above, grouping.special)
        windows = self._windows(Rows(rows.relation, {}), plain)
        columns = self._columns(self._compiler(self.above, grouping.special, windows.compile))
        aliased = self._aliased(columns, grouping)
        kept = self._having(self._compiler(self.above, aliased))
        after = self._compiler(self.above, aliased, windows.compile)
        finishing = Finishing(self.source, self.select, after, catalog)
        order, qualified = finishing.order(columns), self._qualified(after, windows)
        grouping.input = replace(rows, relation=self.below.onto(rows.relation))
        relation = self.above.onto(grouping.relation())
        windows.input = Rows(relation, {}, filters=kept, order=grouping.default_order())
        return self._public_rows(windows.rows(columns), finishing, order, qualified)

    def _public_rows(
        self, rows: Rows, finishing: Finishing, order: tuple[Order, ...], qualified: tuple[Scalar, ...]
    ) -> Rows:
        """QUALIFY, DISTINCT, ORDER BY and LIMIT of public rows."""
        return finishing.finished(replace(rows, filters=(*rows.filters, *qualified)), order)

    def _having(self, scalars: Scalars) -> tuple[Scalar, ...]:
        clause = self.select.args.get("having")
        return () if clause is None else (scalars.predicate(clause.this),)

    def _qualified(self, after: Scalars, windows: Windows) -> tuple[Scalar, ...]:
        clause = self.select.args.get("qualify")
        if clause is None:
            return ()
        predicate = after.predicate(clause.this)
        if not windows.windows:
            message = "QUALIFY needs a window function."
            self.source.refuse(clause, "unsupported_clause", message, "Use WHERE or HAVING.")
        return (predicate,)

    def _rows_per_unit(
        self, rows: Rows, keys: list[tuple[exp.Expr, Scalar]], sets: list[Nodes] | None
    ) -> Rows:
        """Private rows again: one for each unit, or for each unit and value of further keys."""
        self._check_private_rows()
        for name in ("qualify", "windows"):
            if sets is not None or self.select.args.get(name):
                place = self.select.args.get(name) or self.select.args["group"]
                message = "Grouping sets and windows are not supported where each unit is grouped."
                hint = "Group by the unit in a subquery, and compute the rest above it."
                self.source.refuse(
                    place[0] if isinstance(place, list) else place, "unsupported_clause", message, hint
                )
        catalog = self.statement.catalog
        self.above.private = True
        grouping = UnitGrouping(self.source, catalog, self.scalars, rows, catalog.fresh("p"))
        grouping.set_keys(keys)
        columns = self._columns(self._compiler(self.above, grouping.special))
        kept = self._having(self._compiler(self.above, self._aliased(columns, grouping)))
        grouping.input = replace(rows, relation=self.below.onto(rows.relation))
        made = grouping.rows(columns, kept)
        made = replace(made, relation=self.above.onto(made.relation))
        return self._once(made) if self.select.args.get("distinct") is not None else made

    def _aliased(self, columns: dict[str, Scalar], grouping: Grouping | UnitGrouping | None) -> Special:
        """What names stand for after SELECT: also the columns of the SELECT list."""
        named = {name.lower(): scalar for name, scalar in columns.items()}

        def special(node: exp.Expr) -> Scalar | None:
            if isinstance(node, exp.Column) and not node.table and self.scope.find(node) is None:
                found = named.get(node.name.lower())
                if found is not None:
                    return found
            return None if grouping is None else grouping.special(node)

        return special

    def _group_keys(self) -> tuple[list[tuple[exp.Expr, Scalar]], list[Nodes] | None]:
        """The grouping expressions; and the sets of them, where several are asked for."""
        group = self.select.args.get("group")
        if group is None:
            return [], None
        nodes: list[exp.Expr] = group.expressions
        if group.args.get("all"):
            nodes = [self._unaliased(item) for item in self.select.expressions if not has_aggregate(item)]
        sets = grouping_sets(self.source, group)
        if sets is not None:
            nodes = [node for one in sets for node in one]
        return [self._group_key(node) for node in nodes], sets

    def _group_key(self, node: exp.Expr) -> tuple[exp.Expr, Scalar]:
        """A grouping expression: an ordinal, a column, an alias of the SELECT list, or an expression."""
        if isinstance(node, exp.Literal) and not node.is_string:
            chosen = self._ordinal(node)
            return chosen, self.scalars.compile(chosen)
        if isinstance(node, exp.Column) and not node.table and self.scope.find(node) is None:
            for item in self.select.expressions:
                if isinstance(item, exp.Alias) and item.alias.lower() == node.name.lower():
                    return item.this, self.scalars.compile(item.this)
        return node, self.scalars.compile(node)

    def _ordinal(self, node: exp.Literal) -> exp.Expr:
        place = ordinal(node)
        if not 1 <= place <= len(self.select.expressions):
            message = "There is no selected column of that number."
            self.source.refuse(node, "unknown_column", message, "Name the column.")
        return self._unaliased(self.select.expressions[place - 1])

    def _unaliased(self, item: exp.Expr) -> exp.Expr:
        return item.this if isinstance(item, exp.Alias) else item

    # SELECT

    def _columns(self, scalars: Scalars) -> dict[str, Scalar]:
        raw = self.input is not None and (self._aggregated() or (self.top and self.input.unit is not None))
        return Selection(self.source, self.select, self.scope, raw=raw).columns(scalars)

    # After SELECT

    def _check_private_rows(self) -> None:
        if self.top:
            return
        for name in ("limit", "offset"):
            if self.select.args.get(name) is not None:
                place = self.select.args[name]
                message = "The first rows of a private table depend on other units."
                self.source.refuse(
                    place, "private_limit", message, "Limit released rows, after the aggregation."
                )
        if self.select.args.get("order") is not None:
            self.source.refuse(
                self.select.args["order"],
                "unsupported_clause",
                "ORDER is not supported in a subquery of private rows.",
                "Order released rows, after the aggregation.",
            )

    # Refusals that need to see the block

    def _nothing(self, node: exp.Expr) -> NoReturn:
        hint = "Add FROM and a table of the dataset."
        self.source.refuse(node, "unsupported_clause", "There is no table to ask about.", hint)

    def _window(self, node: exp.Expr) -> Scalar:
        rows = self.input
        if rows is None or rows.unit is None or self._aggregated():
            hint = "Compute it in a subquery, or filter by it in QUALIFY."
            self.source.refuse(node, "unsupported_clause", "A window function cannot stand here.", hint)
        message = "A window over several units' rows would mix what they contribute."
        hint = f"Partition by the privacy unit, {rows.unit.name}, in the SELECT list of a subquery."
        self.source.refuse(node, "private_window", message, hint)
