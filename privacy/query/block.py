"""One SELECT: its clauses in the order in which SQL evaluates them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import (
    Column,
    Grouped,
    Join,
    Limited,
    Order,
    Scalar,
    columns_of,
    conjunction,
    conjuncts,
    shown_sources,
)
from privacy.query.aggregates import Grouping, has_aggregate
from privacy.query.catalog import Rows
from privacy.query.links import Item, linked, own_condition
from privacy.query.per_unit import UnitGrouping, is_per_unit
from privacy.query.scalars import Scalars, Special
from privacy.query.scope import Named, Scope
from privacy.query.semijoins import Asked, SemiJoins, query_of, split
from privacy.query.windows import Windows

if TYPE_CHECKING:
    from privacy.query.relations import Environment
    from privacy.query.statement import Statement

MAX_COLUMNS = 200
MAX_LIMIT = 2**31

_ONE_AGGREGATION = "Aggregate the private table once, in a subquery or at the top."


class Block:
    """One SELECT: FROM, WHERE, GROUP BY, HAVING, SELECT, DISTINCT, ORDER BY, LIMIT, in that order."""

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
        self.scope = Scope(self.source)
        self.input: Rows | None = None
        self.mixed: list[Scalar] = []
        self.scalars = Scalars(self.source, self.scope, self._subquery, self._window)

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
        columns = self._columns(self.scalars)
        made = Rows(rows.relation, columns, None, None, rows.filters, rows.order)
        return self._finished(made, self.scalars)

    def matched(self) -> tuple[Rows, list[Scalar], list[Scalar]]:
        """As the subquery of EXISTS or IN: its rows, the conditions that read the row outside as well, and
        the selected columns."""
        self._read_from()
        starred = [item for item in self.select.expressions if isinstance(item, exp.Star)]
        columns = [] if starred else list(self._columns(self.scalars).values())
        return self._input, self.mixed, columns

    def subquery(self, node: exp.Expr) -> tuple[Rows, list[Scalar], list[Scalar]]:
        """A subquery of this block's WHERE, like `matched`."""
        query = node
        while isinstance(query, exp.Subquery | exp.Paren):
            query = query.this
        if isinstance(query, exp.Select) and not self._evaluated(query):
            return self.statement.block(query, self.environment, self.scope).matched()
        if self._correlated(node):
            self._subquery(node)
        rows = self.statement.nested(query, self.environment)
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
        name = self.statement.catalog.fresh("w")
        windows = Windows(self.source, self.statement.catalog, self.scalars, rows, name)
        columns = self._columns(Scalars(self.source, self.scope, self._subquery, windows.compile))
        made = windows.rows(columns)
        return self._once(made) if self.select.args.get("distinct") is not None else made

    def _once(self, rows: Rows) -> Rows:
        """SELECT DISTINCT of rows that name their unit: each of a unit's rows once."""
        catalog = self.statement.catalog
        place = self.select.args["distinct"]
        self.scalars.only(place)
        if not is_per_unit(rows, list(rows.columns.values()), catalog):
            message = "DISTINCT over several units' rows is not supported in a subquery."
            hint = f"Select the privacy unit as well, {rows.unit.name if rows.unit else 'the unit'}."
            self.source.refuse(place, "unsupported_clause", message, hint)
        grouping = UnitGrouping(self.source, catalog, self.scalars, rows, catalog.fresh("p"))
        grouping.set_keys([(self.select, scalar) for scalar in rows.columns.values()])
        columns = {name: grouping.keys.get(one.text, one) for name, one in rows.columns.items()}
        return grouping.rows(columns, ())

    @property
    def _input(self) -> Rows:
        assert self.input is not None
        return self.input

    # FROM and WHERE

    def _read_from(self) -> None:
        from_ = self.select.args.get("from_")
        if from_ is None:
            self._columns(self.scalars)
            hint = "Add FROM and a table of the dataset."
            self.source.refuse(self.select, "unsupported_clause", "There is no table to ask about.", hint)
        compiler = self.statement.from_
        rows, alias = compiler.item(from_.this, self.environment)
        self.scope.add(Named(alias, rows.columns), from_.this)
        items = [Item(rows, from_.this)]
        for join in self.select.args.get("joins") or []:
            right, alias = compiler.item(join.this, self.environment)
            rows = compiler.join(rows, right, join, self.scope, self.scalars, alias)
            optional = isinstance(rows.relation, Join) and rows.relation.kind == "left"
            items.append(Item(right, join.this, own_condition(rows) if optional else None))
        self.input = rows
        where = self.select.args.get("where")
        plain, asked = ([], []) if where is None else split(where.this)
        rows = replace(rows, filters=(*rows.filters, *self._conditions(where, plain, asked)))
        self.input = rows = linked(rows, items, self.statement.catalog, self.source)
        for one in asked:
            self.input = rows = SemiJoins(self).apply(rows, one)

    def _conditions(self, where: exp.Expr | None, plain: list[exp.Expr], asked: list[Asked]) -> list[Scalar]:
        """What WHERE says of the rows of FROM alone. What reads the query around it is kept apart."""
        if where is None:
            return []
        self.scope.outer = self.outer
        nodes = plain if asked else [where.this]
        own = shown_sources(self._input.relation)
        found = [part for node in nodes for part in conjuncts(self.scalars.predicate(node))]
        self.mixed = [part for part in found if any(column.source not in own for column in columns_of(part))]
        return [conjunction([part for part in found if part not in self.mixed])]

    # GROUP BY and aggregates

    def _aggregated(self) -> bool:
        if self.select.args.get("group") is not None:
            return True
        order = self.select.args.get("order")
        having = self.select.args.get("having")
        nodes = [
            *self.select.expressions,
            *([having] if having else []),
            *(order.expressions if order else []),
        ]
        return any(has_aggregate(node) for node in nodes)

    def _grouped_rows(self) -> Rows:
        statement, rows = self.statement, self._input
        keys = self._group_keys()
        if not self.top and is_per_unit(rows, [scalar for _, scalar in keys], statement.catalog):
            return self._rows_per_unit(rows, keys)
        if rows.unit is not None and statement.asked:
            message = "Private rows are aggregated more than once."
            self.source.refuse(self.select, "unsupported_clause", message, _ONE_AGGREGATION)
        place = None if rows.unit is None else statement.place_of_question()
        name = statement.group_name() if place is None else f"r{place}"
        grouping = Grouping(self.source, statement.catalog, self.scalars, rows, name, place)
        grouping.set_keys(keys)
        above = Scalars(self.source, self.scope, self._subquery, self._window, grouping.special)
        columns = self._columns(above)
        having = self.select.args.get("having")
        after = Scalars(
            self.source, self.scope, self._subquery, self._window, self._aliased(columns, grouping)
        )
        kept = () if having is None else (after.predicate(having.this),)
        order = self._order(columns, after)
        if place is not None:
            statement.ask(place, grouping.question())
        made = Rows(grouping.relation(), columns, None, None, kept, grouping.default_order())
        return self._finished(made, above, order)

    def _rows_per_unit(self, rows: Rows, keys: list[tuple[exp.Expr, Scalar]]) -> Rows:
        """Private rows again: one for each unit, or for each unit and value of further keys."""
        self._check_private_rows()
        catalog = self.statement.catalog
        grouping = UnitGrouping(self.source, catalog, self.scalars, rows, catalog.fresh("p"))
        grouping.set_keys(keys)
        above = Scalars(self.source, self.scope, self._subquery, self._window, grouping.special)
        columns = self._columns(above)
        having = self.select.args.get("having")
        special = self._aliased(columns, grouping)
        after = Scalars(self.source, self.scope, self._subquery, self._window, special)
        kept = () if having is None else (after.predicate(having.this),)
        made = grouping.rows(columns, kept)
        return self._once(made) if self.select.args.get("distinct") is not None else made

    def _aliased(self, columns: dict[str, Scalar], grouping: Grouping | UnitGrouping) -> Special:
        """What names stand for in HAVING and ORDER BY: also the columns of the SELECT list."""
        named = {name.lower(): scalar for name, scalar in columns.items()}

        def special(node: exp.Expr) -> Scalar | None:
            if isinstance(node, exp.Column) and not node.table and self.scope.find(node) is None:
                found = named.get(node.name.lower())
                if found is not None:
                    return found
            return grouping.special(node)

        return special

    def _group_keys(self) -> list[tuple[exp.Expr, Scalar]]:
        group = self.select.args.get("group")
        if group is None:
            return []
        for name in ("grouping_sets", "cube", "rollup", "totals", "all"):
            if group.args.get(name):
                found = group.args[name]
                place = found[0] if isinstance(found, list) and found else group
                hint = "List the grouping columns one by one."
                self.source.refuse(
                    place if isinstance(place, exp.Expr) else group,
                    "unsupported_clause",
                    f"GROUP BY {name.replace('_', ' ').upper()} is not supported.",
                    hint,
                )
        for node in group.expressions:
            if isinstance(node, exp.Rollup | exp.Cube | exp.GroupingSets | exp.Tuple):
                hint = "List the grouping columns one by one."
                self.source.refuse(node, "unsupported_clause", "Grouping sets are not supported.", hint)
        return [self._group_key(node) for node in group.expressions]

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
        place = int(str(node.this)) if str(node.this).isdecimal() and len(str(node.this)) < 6 else 0
        if not 1 <= place <= len(self.select.expressions):
            message = "There is no selected column of that number."
            self.source.refuse(node, "unknown_column", message, "Name the column.")
        item: exp.Expr = self.select.expressions[place - 1]
        return item.this if isinstance(item, exp.Alias) else item

    # SELECT

    def _columns(self, scalars: Scalars) -> dict[str, Scalar]:
        columns: dict[str, Scalar] = {}
        for item in self.select.expressions:
            for name, scalar in self._item(item, scalars):
                fresh = name
                if fresh.lower() in {known.lower() for known in columns}:
                    if isinstance(item, exp.Alias) or len(columns) >= MAX_COLUMNS:
                        message = "Two columns of the result have the same name."
                        self.source.refuse(
                            item, "duplicate_column", message, "Give each its own name with AS."
                        )
                    fresh = next(
                        f"{name}_{count}"
                        for count in range(2, MAX_COLUMNS + 2)
                        if f"{name}_{count}" not in columns
                    )
                columns[fresh] = scalar
        if len(columns) > MAX_COLUMNS:
            hint = f"Select at most {MAX_COLUMNS} columns."
            self.source.refuse(self.select, "too_complex", "The result has too many columns.", hint)
        return columns

    def _item(self, item: exp.Expr, scalars: Scalars) -> list[tuple[str, Scalar]]:
        inner = item.this if isinstance(item, exp.Alias) else item
        if isinstance(inner, exp.Star) or (
            isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star)
        ):
            return self._star(inner)
        if isinstance(item, exp.Alias):
            scalars.only(item, "this", "alias")
            return [(item.alias, scalars.compile(inner))]
        return [(_default_name(inner), scalars.compile(inner))]

    def _star(self, star: exp.Expr) -> list[tuple[str, Scalar]]:
        inner = star if isinstance(star, exp.Star) else star.this
        self.scalars.only(inner)
        if self.input is None:
            self.source.refuse(
                star, "unsupported_clause", "There is no table to ask about.", "Add FROM and a table."
            )
        if self._aggregated() or (self.top and self.input.unit is not None):
            self.source.refuse(
                star, "raw_rows", "A star would show raw rows.", "Name the columns or aggregates."
            )
        if isinstance(star, exp.Column):
            items = [item for item in self.scope.items if item.alias.lower() == star.table.lower()]
            if not items:
                self.source.refuse(
                    star, "unknown_table", "There is no such table here.", "Use an alias of FROM."
                )
            found = list(items[0].columns.items())
        else:
            found = self.scope.all_columns()
        return [
            (scalar.name if isinstance(scalar, Column) and scalar.name.lower() == name else name, scalar)
            for name, scalar in found
            if scalar.type != "unknown"
        ]

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

    def _finished(self, rows: Rows, scalars: Scalars, order: tuple[Order, ...] | None = None) -> Rows:
        """DISTINCT, ORDER BY and LIMIT of a public block."""
        if order is None:
            order = self._order(rows.columns, scalars)
        distinct = self.select.args.get("distinct")
        if distinct is not None:
            scalars.only(distinct)
            rows, order = self._distinct(rows, order)
        limit, offset = self._number("limit"), self._number("offset") or 0
        ordered = _total_order(*order, *rows.order, *(Order(scalar) for scalar in rows.columns.values()))
        if limit is None and not offset:
            return Rows(rows.relation, rows.columns, None, None, rows.filters, ordered)
        return Rows(Limited(rows.filtered, ordered, limit, offset), rows.columns, None, None, (), ordered)

    def _distinct(self, rows: Rows, order: tuple[Order, ...]) -> tuple[Rows, tuple[Order, ...]]:
        name = self.statement.group_name()
        texts = {scalar.text: scalar for scalar in rows.columns.values()}
        keys = {text: (f"k{place}", texts[text]) for place, text in enumerate(texts)}
        columns: dict[str, Scalar] = {
            alias: Column(name, keys[scalar.text][0], scalar.type) for alias, scalar in rows.columns.items()
        }
        if any(one.scalar.text not in keys for one in order):
            place = self.select.args["order"]
            self.source.refuse(
                place, "unsupported_clause", "With DISTINCT, order by selected columns.", "Name one."
            )
        renamed = tuple(
            Order(Column(name, keys[one.scalar.text][0], one.scalar.type), one.descending, one.nulls_first)
            for one in order
        )
        default = tuple(Order(scalar) for scalar in columns.values())
        return Rows(Grouped(name, rows.filtered, tuple(keys.values()), ()), columns, order=default), renamed

    def _order(self, columns: dict[str, Scalar], scalars: Scalars) -> tuple[Order, ...]:
        order = self.select.args.get("order")
        if order is None:
            return ()
        scalars.only(order, "expressions")
        return tuple(self._ordered(item, columns, scalars) for item in order.expressions)

    def _ordered(self, item: exp.Expr, columns: dict[str, Scalar], scalars: Scalars) -> Order:
        scalars.only(item, "this", "desc", "nulls_first")
        node = item.this
        named = {name.lower(): scalar for name, scalar in columns.items()}
        if isinstance(node, exp.Literal) and not node.is_string:
            scalar = scalars.compile(self._ordinal(node))
        elif isinstance(node, exp.Column) and not node.table and node.name.lower() in named:
            scalar = named[node.name.lower()]
        elif isinstance(node, exp.Var):
            self.source.refuse(
                node, "unsupported_clause", "ORDER BY ALL is not supported.", "Name the columns."
            )
        else:
            scalar = scalars.compile(node)
        return Order(scalar, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))

    def _number(self, name: str) -> int | None:
        clause = self.select.args.get(name)
        if clause is None:
            return None
        self.scalars.only(clause, "expression")
        value = clause.expression
        text = str(value.this) if isinstance(value, exp.Literal) and not value.is_string else ""
        if not text.isdecimal() or len(text) > 10 or int(text) >= MAX_LIMIT:
            hint = "Write it as in LIMIT 10."
            self.source.refuse(
                clause, "unsupported_clause", f"{name.upper()} needs a literal whole number.", hint
            )
        return int(text)

    # Refusals that need to see the block

    def _subquery(self, node: exp.Expr) -> NoReturn:
        if self._correlated(node):
            message = "A subquery that refers to the row outside is not supported."
            self.source.refuse(query_of(node), "correlated", message, "Join the tables instead.")
        if self._reads_private(node):
            message = "A subquery over private rows would be an answer of its own."
            hint = "Ask it as its own question, then write its answer as a literal."
            self.source.refuse(query_of(node), "private_subquery", message, hint)
        hint = "Join the public table instead."
        self.source.refuse(query_of(node), "unsupported_subquery", "Subqueries here are not supported.", hint)

    def _inner_tables(self, node: exp.Expr) -> list[exp.Table]:
        return [part for part in query_of(node).find_all(exp.Table) if isinstance(part.this, exp.Identifier)]

    def _reads_private(self, node: exp.Expr) -> bool:
        policy = self.statement.catalog.policy
        for part in self._inner_tables(node):
            table = policy.table(part.name)
            if part.name.lower() in self.environment or (table is not None and table.private):
                return True
        return False

    def _correlated(self, node: exp.Expr) -> bool:
        policy = self.statement.catalog.policy
        tables = self._inner_tables(node)
        aliases = {(part.alias or part.name).lower() for part in tables}
        inner = {name for part in tables if (table := policy.table(part.name)) for name in table.columns}
        for column in query_of(node).find_all(exp.Column):
            if column.table:
                if column.table.lower() not in aliases and self.scope.has_alias(column.table):
                    return True
            elif column.name.lower() not in inner and any(
                column.name.lower() in item.columns for item in self.scope.items
            ):
                return True
        return False

    def _window(self, node: exp.Expr) -> Scalar:
        rows = self.input
        if rows is None or rows.unit is None or self._aggregated():
            hint = "Compute it from the released rows yourself."
            self.source.refuse(node, "unsupported_clause", "Window functions are not supported.", hint)
        message = "A window over several units' rows would mix what they contribute."
        hint = f"Partition by the privacy unit, {rows.unit.name}, in the SELECT list of a subquery."
        self.source.refuse(node, "private_window", message, hint)


def _default_name(node: exp.Expr) -> str:
    if isinstance(node, exp.Column):
        return str(node.name)
    while isinstance(node, exp.Paren | exp.Filter):
        node = node.this
    if isinstance(node, exp.Column):
        return str(node.name)
    return (
        node.sql_name().lower()
        if isinstance(node, exp.Func) and not isinstance(node, exp.Anonymous)
        else "column"
    )


def _total_order(*orders: Order) -> tuple[Order, ...]:
    """The orders, each expression once: later ones break the ties of earlier ones."""
    found: dict[str, Order] = {}
    for one in orders:
        found.setdefault(one.scalar.text, one)
    return tuple(found.values())
