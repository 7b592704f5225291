"""A grouped block: its keys, its aggregates, and what may be said above them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import (
    TRUE,
    Branch,
    Call,
    Column,
    Grouped,
    Key,
    Literal,
    Measure,
    Order,
    Question,
    Relation,
    Released,
    Scalar,
    Union,
    columns_of,
    renamed,
    sources_within,
)
from privacy.query.measured import PrivateCalls, is_aggregate, refuse_nested
from privacy.values import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from privacy.query.catalog import Catalog, Rows
    from privacy.query.scalars import Scalars
    from privacy.query.sets import Nodes
    from privacy.query.statement import Statement
    from privacy.query.text import Source

PUBLIC_AGGREGATES = (exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max)
MAX_GROUP_KEYS = 16
MIN_LEAVES, PRIVATE_LEAVES, MAX_LEAVES = 16, 256, 1024
NODES = 2**19
"""Noisy numbers of the histograms of all groups together: seconds of drawing."""
_AVAILABLE = "Use count(*), count(x), sum(x), avg(x), min(x) or max(x)."


def has_aggregate(node: exp.Expr) -> bool:
    """Whether an aggregate is called in ``node`` itself, not in a query or window inside it."""
    return any(is_aggregate(part) for part in _parts_within(node, windows=False))


def aggregates_within(node: exp.Expr) -> bool:
    """Whether an aggregate is called in ``node`` or in what a window function of it computes with."""
    called = {id(part) for window in node.find_all(exp.Window) for part in _called(window)}
    return any(is_aggregate(part) and id(part) not in called for part in _parts_within(node, windows=True))


def _called(window: exp.Expr) -> Iterator[exp.Expr]:
    """The function of a window, and what modifies it."""
    part = window.this
    while isinstance(part, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
        yield part
        part = part.this
    yield part


def _parts_within(node: exp.Expr, *, windows: bool) -> Iterator[exp.Expr]:
    pending: list[exp.Expr] = [node]
    while pending:
        part = pending.pop()
        yield part
        if not isinstance(part, exp.Query) and (windows or not isinstance(part, exp.Window)):
            pending.extend(part.iter_expressions())


@dataclass
class Grouping:
    """Collects the aggregates of a grouped block and answers for them and for its keys.

    Args:
        rows: the scalar compiler of the rows below.
        asks: gives questions their places.
        union: the source that stands for several grouping sets together, where they are asked for.
    """

    source: Source
    catalog: Catalog
    rows: Scalars
    input: Rows
    asks: Statement
    union: str | None = None
    keys: dict[str, tuple[str, Scalar]] = field(default_factory=dict)
    constants: dict[str, Scalar] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    nodes: list[exp.Expr] = field(default_factory=list)
    measures: dict[str, tuple[str, Measure]] = field(default_factory=dict)
    calls: dict[str, tuple[str, Call]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    sets: list[list[str]] = field(default_factory=list)
    sources: list[tuple[str, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The source of the grouped rows."""
        return self.sources[0][0] if self.union is None else self.union

    @property
    def private(self) -> bool:
        return self.input.unit is not None

    def set_keys(self, nodes: list[tuple[exp.Expr, Scalar]], sets: list[Nodes] | None) -> None:
        """The grouping expressions, named in canonical order; and which of them each grouping set has."""
        self.nodes = [node for node, _ in nodes]
        given = iter([scalar.text for _, scalar in nodes])
        chosen = [[next(given) for _ in one] for one in sets] if sets is not None else [list(given)]
        if self.private:
            for node, scalar in nodes:
                self._check_key(node, scalar)
            nodes = self._without_constants(nodes)
            self._check_key_count(nodes)
            for node, scalar in nodes:
                self._check_domain(node, self._domain(scalar))
        self.order = list(dict.fromkeys(scalar.text for _, scalar in nodes))
        scalars = {scalar.text: scalar for _, scalar in nodes}
        self.keys = {text: (f"k{place}", scalars[text]) for place, text in enumerate(sorted(scalars))}
        self.sets = [[text for text in self.keys if text in one] for one in chosen]
        self.sources = [self._source() for _ in chosen]

    def _source(self) -> tuple[str, int]:
        """A fresh source, and the place of its question where the rows are private."""
        if not self.private:
            return self.catalog.fresh("g"), -1
        place = self.asks.place_of_question()
        return f"r{place}", place

    def _without_constants(self, nodes: list[tuple[exp.Expr, Scalar]]) -> list[tuple[exp.Expr, Scalar]]:
        """What is the same on every row makes no groups: it is written beside the released rows instead."""
        if self.union is not None:
            return nodes
        self.constants = {scalar.text: scalar for _, scalar in nodes if not columns_of(scalar)}
        return [(node, scalar) for node, scalar in nodes if scalar.text not in self.constants]

    def _check_key_count(self, nodes: list[tuple[exp.Expr, Scalar]]) -> None:
        distinct = {scalar.text: node for node, scalar in reversed(nodes)}
        if len(distinct) > MAX_GROUP_KEYS:
            message = f"A private table can be grouped by at most {MAX_GROUP_KEYS} expressions."
            self.source.refuse(nodes[-1][0], "too_many_keys", message, "Group by fewer columns.")

    def _check_key(self, node: exp.Expr, scalar: Scalar) -> None:
        if self.catalog.identity(scalar) is not None:
            self.source.refuse(
                node,
                "unit_as_key",
                "Groups of single privacy units cannot be shown.",
                "Group by something that many units share.",
            )
        if not self.catalog.selectable(scalar):
            self.source.refuse(
                node, "not_selectable", "This column may be used in filters only.", "Group by another column."
            )
        if scalar.type == "null" or (isinstance(scalar, Literal) and scalar.value is None):
            self.source.refuse(node, "type_mismatch", "NULL cannot be a group.", "Group by a column.")

    def _domain(self, scalar: Scalar) -> tuple[Literal, ...] | None:
        return self.catalog.domain(scalar, self.input.conditions)

    def _check_domain(self, node: exp.Expr, domain: tuple[Literal, ...] | None) -> None:
        """No public group has a name that rows cannot have: longer text is NULL as a key."""
        for one in domain or ():
            if isinstance(one.value, str) and len(one.value.encode()) > MAX_KEY_BYTES:
                message = f"The name of a group is longer than {MAX_KEY_BYTES} bytes."
                self.source.refuse(node, "too_long", message, "Give the group a shorter name.")

    def special(self, node: exp.Expr) -> Scalar | None:
        """What a node above the grouping stands for: an aggregate, a key, or (None) something to compile."""
        if isinstance(node, exp.Grouping | exp.GroupingId):
            return self._grouping(node)
        if is_aggregate(node):
            return self._aggregate(node)
        key = self._key(node)
        if key is not None:
            return key
        if isinstance(node, exp.Column):
            self._refuse_ungrouped(node)
        return None

    def _key(self, node: exp.Expr) -> Scalar | None:
        kinds = {type(one.unnest() if isinstance(one, exp.Paren) else one) for one in self.nodes}
        if not isinstance(node, exp.Column) and type(node) not in kinds:
            return None
        if has_aggregate(node):
            return None
        scalar = self.rows.compile(node)
        found = self.keys.get(scalar.text)
        return self.constants.get(scalar.text) if found is None else Column(self.name, found[0], scalar.type)

    def _grouping(self, node: exp.Expr) -> Scalar:
        """GROUPING(a, b): a bit for each expression, 1 where its grouping set leaves it out."""
        self.rows.only(node, "expressions", "this")
        given = node.expressions or ([node.this] if isinstance(node.this, exp.Expr) else [])
        total: Scalar = Literal(0, "integer")
        for place, part in enumerate(reversed(given)):
            text = self.rows.compile(part).text
            if text not in self.keys and text not in self.constants:
                message = "GROUPING is asked of what is not grouped by."
                self.source.refuse(part, "ungrouped_column", message, "Name an expression of GROUP BY.")
            if self.union is None or text in self.constants:
                continue
            bit: Scalar = Column(self.union, f"a{self.keys[text][0][1:]}", "integer")
            weight = Literal(2**place, "integer")
            bit = self.rows.call(node, "mul", [bit, weight], "integer") if weight.value != 1 else bit
            total = (
                bit if isinstance(total, Literal) else self.rows.call(node, "add", [total, bit], "integer")
            )
        return total

    def _refuse_ungrouped(self, node: exp.Column) -> NoReturn:
        if not self.private:
            message = f"The column {node.name} is neither grouped nor aggregated."
            self.source.refuse(
                node, "ungrouped_column", message, f"Add it to GROUP BY, or aggregate {node.name}."
            )
        message = f"The column {node.name} would show raw values."
        self.source.refuse(
            node, "raw_rows", message, f"Add it to GROUP BY, or aggregate it, as in avg({node.name})."
        )

    # Aggregates

    def _aggregate(self, node: exp.Expr) -> Scalar:
        condition: Scalar = TRUE
        call = node
        if isinstance(node, exp.Filter):
            self.rows.only(node, "this", "expression")
            call = node.this
            refuse_nested(self.source, node.expression)
            condition = self.rows.predicate(node.expression.this)
        if self.private:
            calls = PrivateCalls(self.source, self.catalog, self.rows, self.input, self._leaves)
            return self._measured(*calls.measure(call, condition))
        if not isinstance(call, PUBLIC_AGGREGATES):
            name = self.source.word(call)
            self.source.refuse(call, "unsupported_function", f"{name} is not available.", _AVAILABLE)
        refuse_nested(self.source, call)
        self.rows.only(call, "this", "big_int")
        return self._public(call, call.this, condition)

    def _distinct(self, argument: exp.Expr) -> exp.Expr:
        self.rows.only(argument, "expressions")
        if len(argument.expressions) != 1:
            self.source.refuse(
                argument, "unsupported_function", "DISTINCT takes one expression here.", _AVAILABLE
            )
        inner: exp.Expr = argument.expressions[0]
        return inner

    def _measured(self, measure: Measure, kind: str) -> Scalar:
        name, _ = self.measures.setdefault(measure.text, (f"m{len(self.measures)}", measure))
        self.types[name] = kind
        return Column(self.name, name, kind)

    def _public(self, call: exp.Expr, argument: exp.Expr | None, condition: Scalar) -> Scalar:
        operation = type(call).__name__.lower()
        scalars: list[Scalar] = []
        if isinstance(argument, exp.Distinct):
            operation += "_distinct"
            scalars.append(self.rows.compile(self._distinct(argument)))
        elif argument is not None and not isinstance(argument, exp.Star):
            scalars.append(self.rows.compile(argument))
        if not scalars and not isinstance(call, exp.Count):
            self.source.refuse(
                call, "unsupported_function", "This aggregate needs an expression.", _AVAILABLE
            )
        kind = _public_type(call, scalars)
        if kind is None:
            self.source.refuse(
                call, "type_mismatch", "This aggregate needs numbers.", "Use a numeric column."
            )
        made = self.rows.call(call, f"aggregate_{operation}", [condition, *scalars], kind)
        name, _ = self.calls.setdefault(made.text, (f"m{len(self.calls)}", made))
        self.types[name] = kind
        return Column(self.name, name, kind)

    @property
    def _leaves(self) -> int:
        """Bins of a histogram: fewer where there are many groups, each of which has its own noise."""
        domains = [self._domain(scalar) for _, scalar in self.keys.values()]
        groups = math.prod(len(domain) for domain in domains if domain is not None)
        most = MAX_LEAVES if all(domain is not None for domain in domains) else PRIVATE_LEAVES
        return max(min(NODES // max(groups, 1), most), MIN_LEAVES)

    # Results

    def relation(self) -> Relation:
        """The public relation that stands for the grouped block, once every aggregate of it is known."""
        made = [
            self._grouped(name, place, texts)
            for (name, place), texts in zip(self.sources, self.sets, strict=True)
        ]
        if self.union is None:
            return made[0]
        if self.private:
            self.asks.unions[self.union] = set(self.types)
        branches = [
            Branch(one, tuple(self._branch(name, texts)))
            for one, (name, _), texts in zip(made, self.sources, self.sets, strict=True)
        ]
        return Union(self.union, tuple(branches))

    def _grouped(self, name: str, place: int, texts: list[str]) -> Relation:
        if self.private:
            self.asks.ask(place, self._question(texts))
            return Released(name, place)
        measures = tuple((measure, call) for measure, call in self.calls.values())
        return Grouped(name, self.input.filtered, tuple(self.keys[text] for text in texts), measures)

    def _question(self, texts: list[str]) -> Question:
        assert self.input.unit is not None
        assert self.input.table is not None
        varying = [self.keys[text] for text in texts if columns_of(self.keys[text][1])]
        keys = tuple(Key(name, scalar, self._domain(scalar)) for name, scalar in varying)
        measures = tuple(measure for _, measure in self.measures.values()) or (Measure("units", TRUE),)
        asked = Question(
            self.input.filtered,
            self.input.unit,
            keys,
            measures,
            self.input.table.name,
            rows_per_unit=self.input.most,
            groups_per_unit=self.input.groups([key.scalar for key in keys]),
        )
        return _numbered_anew(asked, self.catalog.places)

    def _branch(self, source: str, texts: list[str]) -> Iterator[tuple[str, Scalar]]:
        """The columns of one grouping set under the names of all: keys that it leaves out are NULL."""
        for text, (name, scalar) in self.keys.items():
            constant = self.private and not columns_of(scalar)
            here = scalar if constant else Column(source, name, scalar.type)
            yield name, here if text in texts else Literal(None, scalar.type)
            yield f"a{name[1:]}", Literal(int(text not in texts), "integer")
        for name, kind in self.types.items():
            yield name, Column(source, name, kind)
            if self.private:
                yield from (
                    (f"{name}_{end}", Column(source, f"{name}_{end}", kind)) for end in ("low", "high")
                )

    def default_order(self) -> tuple[Order, ...]:
        """Key order, in the order the keys were named."""
        named = [self.keys[text] for text in self.order]
        return tuple(Order(Column(self.name, name, scalar.type)) for name, scalar in named)


def _numbered_anew(asked: Question, places: Mapping[str, tuple[int, int]]) -> Question:
    """The question with its sources numbered for it alone, in the order of its tree."""
    names = sources_within(asked.input)
    named: Question = renamed(asked, names)
    return replace(
        named, places={names[source]: place for source, place in places.items() if source in names}
    )


def _public_type(call: exp.Expr, scalars: list[Scalar]) -> str | None:
    if isinstance(call, exp.Count):
        return "integer"
    kind = scalars[0].type
    if isinstance(call, exp.Min | exp.Max):
        return None if kind == "null" else kind
    if kind not in ("integer", "float", "decimal"):
        return None
    return "integer" if kind == "integer" and isinstance(call, exp.Sum) else "float"
