"""Before anything is reserved: joins that would multiply protected rows are refused.

A join with a public table multiplies only the rows that a filter leaves over. Were the factor unbounded,
the time an answer takes, and whether it comes, would tell whether a filter leaves any: who asks would learn
of one unit what no noise hides. So the factor is measured on the public side, which is the same whatever the
private tables hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from privacy.algebra import (
    Call,
    Column,
    Filter,
    Join,
    Relation,
    Scalar,
    Semi,
    Union,
    columns_of,
    conjuncts,
    inputs_of,
    scans_of,
    shown_sources,
)
from privacy.engines import duckdb
from privacy.errors import Refused
from privacy.files import Files, files_of
from privacy.sandbox import Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from privacy.algebra import Question
    from privacy.plan import Plan

MAX_FAN_OUT = 32
"""Rows that one protected row may become over all joins of a statement."""

_NULL_MATCHES = "not_distinct"
_EQUALITIES = frozenset({"eq", _NULL_MATCHES})


@dataclass(frozen=True)
class Side:
    """What a join joins: a table, or a subquery of public rows. ``conditions`` hold wherever its rows
    match."""

    relation: Relation
    conditions: tuple[Scalar, ...]

    @property
    def sources(self) -> set[str]:
        return shown_sources(self.relation)

    @property
    def private(self) -> bool:
        return any(scan.unit is not None for scan in scans_of(self.relation))


def admit(plan: Plan, tables: Files, *, sandbox: Sandbox | None = None) -> None:
    """Refuse a plan whose joins would multiply protected rows by more than `MAX_FAN_OUT`.

    Reads the public tables that a private plan joins, in one statement, and no private file; reads nothing
    when there are none.

    Args:
        tables: files of the plan's tables by name; those of private tables may be left out.
        sandbox: where the engine runs; without one, a sandbox is made for this alone.

    Raises:
        Refused: ``join_multiplies``, with the place of the table that multiplies most.
        TablesMissing: a public table's files were not given.
        EngineFailed: the engine did not answer; it saw public tables alone.
    """
    for question in plan.query.questions:
        _admit(question, tables, sandbox)


def needs_admission(plan: Plan) -> bool:
    """Whether `admit` reads anything for this plan."""
    return any(_leaves(_factor(question.input)) for question in plan.query.questions)


def _admit(question: Question, tables: Files, sandbox: Sandbox | None) -> None:
    factor = _factor(question.input)
    counted = _leaves(factor)
    if not counted:
        return
    files = files_of(_tables(one.side for one in counted), tables)
    task = Task(duckdb.fan_out_sql([group for one in counted for group in one.groups]), files)
    if sandbox is not None:
        (row,) = sandbox.run(task).to_pylist()
    else:
        with Sandbox(Limits(), workers=1) as own:
            (row,) = own.run(task).to_pylist()
    _check(question, factor, counted, _largest(list(row.values()), counted))


# What multiplies a row


@dataclass(frozen=True)
class Counted:
    """A public side, with what is to be counted of it: rows that one row before it may become."""

    side: Side
    groups: tuple[duckdb.Multiplicity, ...]


@dataclass(frozen=True)
class Factor:
    """Rows that one row may become: the product of the parts, or the largest, as of a union's branches."""

    parts: tuple[Counted | Factor, ...]
    largest: bool = False


def _factor(relation: Relation) -> Factor:
    """What the joins of the tree, and of those nested in it, make of one row."""
    sides = _sides(relation, ())
    parts: list[Counted | Factor] = [_below(side.relation) for side in sides if side.private]
    parts += [Counted(side, tuple(groups)) for side, groups in _counted(sides)]
    return Factor(tuple(parts))


def _below(relation: Relation) -> Factor:
    """The same of a private side. A semi-join compares a row with each that has its key, if it asks for more
    than equal keys."""
    if isinstance(relation, Union):
        return Factor(tuple(_factor(branch.input) for branch in relation.branches), largest=True)
    if isinstance(relation, Semi):
        left = _factor(relation.left)
        right = Side(relation.right, tuple(conjuncts(relation.on)))
        if right.private:
            return Factor((left, _factor(relation.right)))
        known = shown_sources(relation.left)
        if all(_ties(part, right.sources, known) for part in right.conditions):
            return left
        return Factor((left, Counted(right, tuple(_groups(right, known)))))
    return Factor(tuple(_factor(below) for below in inputs_of(relation)))


def _ties(part: Scalar, own: set[str], known: set[str]) -> bool:
    """Whether a condition equates something of one side with something of the other."""
    if not isinstance(part, Call) or part.operation not in _EQUALITIES:
        return False
    one, other = (_sources(argument) for argument in part.arguments)
    return bool(one and other and ((one <= own and other <= known) or (one <= known and other <= own)))


def _leaves(factor: Counted | Factor) -> list[Counted]:
    if isinstance(factor, Counted):
        return [factor]
    return [leaf for part in factor.parts for leaf in _leaves(part)]


def _value(factor: Counted | Factor, numbers: dict[int, int]) -> int:
    if isinstance(factor, Counted):
        return numbers[id(factor)]
    values = [_value(part, numbers) for part in factor.parts]
    return max(values, default=1) if factor.largest else math.prod(values)


def _sides(relation: Relation, holding: tuple[Scalar, ...]) -> list[Side]:
    """The tables and subqueries that are joined. What a left join asks holds for its right side alone."""
    if isinstance(relation, Filter):
        return _sides(relation.input, (*holding, *conjuncts(relation.predicate)))
    if not isinstance(relation, Join):
        return [Side(relation, holding)]
    asked = tuple(conjuncts(relation.on))
    if relation.kind == "left":
        return _sides(relation.left, holding) + _sides(relation.right, asked)
    return _sides(relation.left, (*holding, *asked)) + _sides(relation.right, (*holding, *asked))


def _counted(sides: list[Side]) -> list[tuple[Side, list[duckdb.Multiplicity]]]:
    """The public sides, nearest to the private table first, with what is to be counted of each."""
    known = {source for side in sides if side.private for source in side.sources}
    waiting = [side for side in sides if not side.private]
    counted: list[tuple[Side, list[duckdb.Multiplicity]]] = []
    while waiting:
        tied = [(side, groups) for side in waiting if (groups := _groups(side, known))]
        reached = tied or [(waiting[0], [_multiplicity(waiting[0], [])])]
        counted += reached
        for side, _ in reached:
            waiting.remove(side)
            known |= side.sources
    return counted


def _groups(side: Side, known: set[str]) -> list[duckdb.Multiplicity]:
    """One count for each set of sides before it that the side is tied to: it may be joined to any of them
    first."""
    ties: dict[frozenset[str], list[tuple[Scalar, bool]]] = {}
    for part in side.conditions:
        if not isinstance(part, Call) or part.operation not in _EQUALITIES:
            continue
        for own, other in (part.arguments, part.arguments[::-1]):
            others = _sources(other)
            if _sources(own) and _sources(own) <= side.sources and others and others <= known:
                ties.setdefault(frozenset(others), []).append((own, part.operation == _NULL_MATCHES))
    return [_multiplicity(side, keys) for keys in ties.values()]


def _multiplicity(side: Side, keys: list[tuple[Scalar, bool]]) -> duckdb.Multiplicity:
    own = [one for one in side.conditions if _sources(one) and _sources(one) <= side.sources]
    never_null = [
        Call("not", (Call("is_null", (key,), "boolean"),), "boolean") for key, matches in keys if not matches
    ]
    return duckdb.Multiplicity(side.relation, (*own, *never_null), tuple(key for key, _ in keys))


def _sources(scalar: Scalar) -> set[str]:
    return {column.source for column in columns_of(scalar) if isinstance(column, Column)}


def _tables(sides: Iterable[Side]) -> list[str]:
    return sorted({scan.table for side in sides for scan in scans_of(side.relation)})


def _largest(numbers: list[int], counted: list[Counted]) -> dict[int, int]:
    """For each side the largest of its numbers, and at least 1: a left join keeps a row that matches
    nothing."""
    left = iter(numbers)
    return {id(one): max(1, *(next(left) for _ in one.groups)) for one in counted}


def _check(question: Question, factor: Factor, counted: list[Counted], numbers: dict[int, int]) -> None:
    whole = _value(factor, numbers)
    if whole <= MAX_FAN_OUT:
        return
    side = max(counted, key=lambda one: numbers[id(one)]).side
    first = min(scans_of(side.relation), key=lambda scan: question.places[scan.source])
    line, column = question.places[first.source]
    message = (
        f"The joins could make {whole} rows of one row of a private table, "
        f"and {first.table} makes most of them; at most {MAX_FAN_OUT} are allowed."
    )
    hint = f"Join {first.table} on a key of which it has one row each, or filter it first."
    raise Refused("join_multiplies", message, line=line, column=column, hint=hint)
