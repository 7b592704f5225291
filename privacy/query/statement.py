"""A whole statement: blocks of SELECT, from the inside out, to one `Query`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import (
    Order,
    Output,
    Query,
    Question,
)
from privacy.errors import Refused
from privacy.query.block import Block
from privacy.query.catalog import Catalog, Rows
from privacy.query.relations import Environment, From
from privacy.query.scalars import Scalars
from privacy.query.scope import Scope
from privacy.query.text import Source, parse, room_for_nesting
from privacy.query.unions import branches_of, private_union

if TYPE_CHECKING:
    from privacy.policy import Policy

MAX_BLOCKS = 64
MAX_TREE_DEPTH = 150

_SELECT_PARTS = frozenset(
    {
        "with_",
        "expressions",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "order",
        "limit",
        "offset",
        "distinct",
    }
)


def compile_query(text: str, policy: Policy) -> Query:
    """The algebra of a statement. Reads no data.

    Raises:
        Refused: with code, position and hint.
    """
    with room_for_nesting():
        source, tree = parse(text)
        _check_depth(source, tree)
        return Statement(source, policy).query(tree)


class Statement:
    """Compiles one statement; holds what its blocks share."""

    def __init__(self, source: Source, policy: Policy) -> None:
        self.source = source
        self.catalog = Catalog(policy)
        self.from_ = From(source, self.catalog, self.nested)
        self._questions: list[Question | None] = []
        self._blocks = 0
        self._grouped = 0

    def query(self, tree: exp.Expr) -> Query:
        """The statement as a whole: its rows must be public."""
        rows, first = self._select(tree, {}, top=True)
        if rows.unit is not None:
            self.source.refuse(
                first,
                "raw_rows",
                "Rows of a private table cannot be shown.",
                "Aggregate them, as in SELECT count(*) AS n FROM the_table.",
            )
        columns = tuple(rows.columns.items())
        order = rows.order or tuple(Order(scalar) for _, scalar in columns)
        scanned = self.catalog.scans.values()
        tables = frozenset(table.name for table in scanned)
        tables |= frozenset(hop.table for table in scanned for hop in table.path)
        questions = tuple(asked for asked in self._questions if asked is not None)
        return Query(questions, Output(rows.filtered, columns, order), tables)

    def nested(self, tree: exp.Expr, environment: Environment) -> Rows:
        """The rows of a subquery, with its columns by lower-case name."""
        rows, _ = self._select(tree, environment, top=False)
        return replace(rows, columns={name.lower(): scalar for name, scalar in rows.columns.items()})

    def block(self, select: exp.Select, environment: Environment, outer: Scope) -> Block:
        """A subquery that may refer to the query around it."""
        self._count_block(select)
        self._parts(select, _SELECT_PARTS)
        return Block(self, select, environment, top=False, outer=outer)

    def _count_block(self, tree: exp.Expr) -> None:
        self._blocks += 1
        if self._blocks > MAX_BLOCKS:
            self.source.refuse(
                tree, "too_complex", "The statement has too many subqueries.", "Ask a smaller question."
            )

    def _union(self, tree: exp.Union, environment: Environment, *, top: bool) -> tuple[Rows, exp.Expr]:
        """UNION ALL of private relations."""
        self._parts(tree, frozenset({"this", "expression", "distinct", "with_", "order", "limit", "offset"}))
        named = {**environment, **self._named(tree, environment)}
        parts = [self._select(branch, named, top=False) for branch in branches_of(tree)]
        private = [rows.unit is not None for rows, _ in parts]
        if not any(private):
            self._refuse_statement(tree)
        if not all(private):
            message = "A UNION of private rows and released or public ones is not supported."
            hint = "Aggregate the private rows first, or take them all from private tables."
            self.source.refuse(parts[private.index(False)][1], "raw_rows", message, hint)
        if tree.args.get("distinct"):
            message = "UNION would compare the rows of several units."
            self.source.refuse(tree, "unsupported_clause", message, "Write UNION ALL.")
        for name in ("order", "limit", "offset"):
            if tree.args.get(name) is not None and not top:
                message = "The first rows of private tables depend on other units."
                hint = "Order and limit released rows, after the aggregation."
                self.source.refuse(tree.args[name], "private_limit", message, hint)
        scalars = Scalars(self.source, Scope(self.source), self._refuse_statement, self._refuse_statement)
        return private_union(parts, scalars, self.catalog), parts[0][1]

    def _select(self, tree: exp.Expr, environment: Environment, *, top: bool) -> tuple[Rows, exp.Expr]:
        """The rows of a query, and its first selected expression (the place to blame for raw rows)."""
        while isinstance(tree, exp.Subquery):
            self._parts(tree, frozenset({"this", "alias"}))
            tree = tree.this
        if isinstance(tree, exp.Union):
            return self._union(tree, environment, top=top)
        if not isinstance(tree, exp.Select):
            self._refuse_statement(tree)
        self._count_block(tree)
        self._parts(tree, _SELECT_PARTS)
        if not tree.expressions:
            self.source.refuse(
                tree, "syntax", "SELECT names no columns.", "Select an aggregate, as in count(*)."
            )
        block = Block(self, tree, {**environment, **self._named(tree, environment)}, top)
        return block.rows(), tree.expressions[0]

    def _refuse_statement(self, tree: exp.Expr) -> NoReturn:
        if isinstance(tree, exp.SetOperation | exp.Pivot | exp.Values | exp.Table):
            hint = "Write one SELECT; ask the parts of a UNION one by one."
            self.source.refuse(tree, "unsupported_clause", "This form of query is not supported.", hint)
        self.source.refuse(
            tree, "unsupported_statement", "Only queries can be answered.", "Write one SELECT."
        )

    def _parts(self, node: exp.Expr, allowed: frozenset[str]) -> None:
        for name, value in node.args.items():
            if name in allowed or value in (None, False, [], ""):
                continue
            found = value[0] if isinstance(value, list) else value
            place = found if isinstance(found, exp.Expr) else node
            if name == "sample":
                self.source.refuse(place, "sampling", "Sampling is not supported.", "Ask about all rows.")
            clause = name.rstrip("_").upper()
            hint = "Use SELECT, FROM, JOIN, WHERE, GROUP BY, HAVING, ORDER BY and LIMIT."
            self.source.refuse(place, "unsupported_clause", f"{clause} is not supported here.", hint)

    def _named(self, select: exp.Expr, environment: Environment) -> Environment:
        """The queries that WITH names; each sees those before it."""
        with_ = select.args.get("with_")
        if with_ is None:
            return {}
        if with_.args.get("recursive"):
            self.source.refuse(
                with_, "recursive", "Recursive queries are not supported.", "Write a plain WITH."
            )
        self._parts(with_, frozenset({"expressions"}))
        named: dict[str, tuple[exp.Expr, Environment]] = {}
        for query in with_.expressions:
            self._parts(query, frozenset({"this", "alias", "materialized"}))
            alias = query.args["alias"]
            self._parts(alias, frozenset({"this"}))
            if query.alias.lower() in named:
                self.source.refuse(
                    alias, "ambiguous_table", "WITH names this twice.", "Give each its own name."
                )
            named[query.alias.lower()] = (query.this, {**environment, **named})
        return named

    def place_of_question(self) -> int:
        """The place of a question that is about to be asked."""
        self._questions.append(None)
        return len(self._questions) - 1

    def ask(self, place: int, question: Question) -> None:
        """The question of a place, once it is complete."""
        self._questions[place] = question

    @property
    def asked(self) -> bool:
        """Whether private rows are aggregated already."""
        return bool(self._questions)

    def group_name(self) -> str:
        """A fresh source name for a public grouping."""
        self._grouped += 1
        return f"g{self._grouped - 1}"


def _check_depth(source: Source, tree: exp.Expr) -> None:
    """Refuse trees that our own recursion could not follow. Chains of AND and OR are flat."""
    pending: list[tuple[exp.Expr, int]] = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_TREE_DEPTH:
            line, column = source.position(node)
            message = "The statement is nested too deep."
            raise Refused("too_deep", message, line=line, column=column, hint="Write it with fewer levels.")
        flat = isinstance(node, exp.And | exp.Or | exp.Paren)
        for child in node.iter_expressions():
            level = depth if flat and isinstance(child, exp.And | exp.Or) else depth + 1
            pending.append((child, level))
