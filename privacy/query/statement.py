"""A whole statement: blocks of SELECT, from the inside out, to one `Query`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import Column, Output, Query, Question
from privacy.errors import Refused
from privacy.query.block import Block
from privacy.query.catalog import Catalog, Rows
from privacy.query.finishing import whole_order
from privacy.query.merging import settled
from privacy.query.nearest import Attempt, nearest
from privacy.query.relations import Environment, From
from privacy.query.set_operations import SetOperation
from privacy.query.text import Source, parse, room_for_nesting

if TYPE_CHECKING:
    from collections.abc import Callable

    from privacy.policy import Policy
    from privacy.query.scope import Scope

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
        "qualify",
        "windows",
    }
)


def compile_query(text: str, policy: Policy, bounded: Callable[[Query], None] | None = None) -> Query:
    """The algebra of a statement. Reads no data.

    Args:
        bounded: refuses a query that cannot be planned for other reasons than its text; asked before one is
            offered in place of a refused statement.

    Raises:
        Refused: with code, position and hint.
    """
    with room_for_nesting():
        compilation = Compilation(text, policy, bounded)
        try:
            return compilation.query()
        except Refused as refused:
            refused.nearest = nearest(compilation.failed(refused), policy, compilation.attempted)
            raise


class Compilation:
    """One statement on its way, with what is known of it where it fails."""

    def __init__(self, text: str, policy: Policy, bounded: Callable[[Query], None] | None = None) -> None:
        self.text = text
        self.policy = policy
        self.bounded = bounded
        self.source: Source | None = None
        self.tree: exp.Expr | None = None

    def query(self) -> Query:
        """The algebra of the statement.

        Raises:
            Refused: with code, position and hint.
        """
        self.source, self.tree = parse(self.text)
        _check_depth(self.source, self.tree)
        return Statement(self.source, self.policy).query(self.tree)

    def failed(self, refused: Refused) -> Attempt:
        """What the statement was refused for."""
        blamed = None if self.source is None else self.source.blamed
        return Attempt(refused.code, self.text, self.tree, blamed)

    def attempted(self, text: str) -> Attempt:
        """What becomes of another statement."""
        other = Compilation(text, self.policy)
        try:
            query = other.query()
            if self.bounded is not None:
                self.bounded(query)
        except Refused as refused:
            return other.failed(refused)
        return Attempt(None, text)


class Statement:
    """Compiles one statement; holds what its blocks share."""

    def __init__(self, source: Source, policy: Policy) -> None:
        self.source = source
        self.catalog = Catalog(policy)
        self.from_ = From(source, self.catalog, self.nested)
        self.unions: dict[str, set[str]] = {}
        self.around: Scope | None = None
        self._questions: list[Question | None] = []
        self._blocks = 0

    def query(self, tree: exp.Expr) -> Query:
        """The statement as a whole: its rows must be public."""
        rows, first = self.select(tree, {}, top=True)
        if rows.unit is not None:
            self.source.refuse(
                first,
                "raw_rows",
                "Rows of a private table cannot be shown.",
                "Aggregate them, as in SELECT count(*) AS n FROM the_table.",
            )
        columns = tuple(rows.columns.items())
        scanned = self.catalog.scans.values()
        tables = frozenset(table.name for table in scanned)
        tables |= frozenset(hop.table for table in scanned for hop in table.path)
        questions = tuple(asked for asked in self._questions if asked is not None)
        assert len(questions) == len(self._questions)
        return settled(questions, Output(rows.filtered, columns, whole_order(rows)), tables)

    def nested(self, tree: exp.Expr, environment: Environment) -> Rows:
        """The rows of a subquery, with its columns by lower-case name."""
        rows, _ = self.select(tree, environment, top=False)
        return replace(rows, columns={name.lower(): scalar for name, scalar in rows.columns.items()})

    def block(self, select: exp.Select, environment: Environment, outer: Scope) -> Block:
        """A subquery that may refer to the query around it."""
        self._count_block(select)
        self.parts(select, _SELECT_PARTS)
        return Block(self, select, environment, top=False, outer=outer)

    def _count_block(self, tree: exp.Expr) -> None:
        self._blocks += 1
        if self._blocks > MAX_BLOCKS:
            self.source.refuse(
                tree, "too_complex", "The statement has too many subqueries.", "Ask a smaller question."
            )

    def select(self, tree: exp.Expr, environment: Environment, *, top: bool) -> tuple[Rows, exp.Expr]:
        """The rows of a query, and its first selected expression (the place to blame for raw rows)."""
        while isinstance(tree, exp.Subquery):
            self.parts(tree, frozenset({"this", "alias"}))
            tree = tree.this
        if isinstance(tree, exp.SetOperation):
            named = {**environment, **self._named(tree, environment)}
            return SetOperation(self, tree, named).rows(top=top)
        if not isinstance(tree, exp.Select):
            self._refuse_statement(tree)
        self._count_block(tree)
        self.parts(tree, _SELECT_PARTS)
        if not tree.expressions:
            self.source.refuse(
                tree, "syntax", "SELECT names no columns.", "Select an aggregate, as in count(*)."
            )
        block = Block(self, tree, {**environment, **self._named(tree, environment)}, top)
        return block.rows(), tree.expressions[0]

    def _refuse_statement(self, tree: exp.Expr) -> NoReturn:
        if isinstance(tree, exp.Pivot | exp.Values | exp.Table):
            hint = "Write a SELECT from a table of the dataset."
            self.source.refuse(tree, "unsupported_clause", "This form of query is not supported.", hint)
        self.source.refuse(
            tree, "unsupported_statement", "Only queries can be answered.", "Write one SELECT."
        )

    def parts(self, node: exp.Expr, allowed: frozenset[str]) -> None:
        """Refuse a clause that is not allowed there."""
        for name, value in node.args.items():
            if name in allowed or value in (None, False, [], ""):
                continue
            found = value[0] if isinstance(value, list) else value
            place = found if isinstance(found, exp.Expr) else node
            if name == "sample":
                self.source.refuse(place, "sampling", "Sampling is not supported.", "Ask about all rows.")
            clause = name.strip("_").replace("_", " ").upper()
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
        self.parts(with_, frozenset({"expressions"}))
        named: dict[str, tuple[exp.Expr, Environment]] = {}
        for query in with_.expressions:
            self.parts(query, frozenset({"this", "alias", "materialized"}))
            alias = query.args["alias"]
            self.parts(alias, frozenset({"this"}))
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

    def question(self, place: int) -> Question | None:
        """The question of a place, or None while it is incomplete."""
        return self._questions[place]

    def has_interval(self, column: Column) -> bool:
        """Whether a column of the public part shows a released measure as it is."""
        if column.source in self.unions:
            return column.name in self.unions[column.source]
        return column.source.startswith("r") and column.name.startswith("m") and "_" not in column.name


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
