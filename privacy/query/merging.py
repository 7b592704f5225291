"""The questions of a statement, each asked once and named canonically.

A statement may aggregate the same rows in several places. Questions about the same rows, grouped alike,
become one: it has the measures of all of them that the public part uses, one threshold and one set of counts.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from privacy.algebra import (
    TRUE,
    Branch,
    Column,
    Key,
    Measure,
    Output,
    Query,
    Question,
    Relation,
    Released,
    Union,
    columns_of,
    inputs_of,
    renamed,
    sources_within,
)

ENDS = ("low", "high")
"""What the two ends of a released measure's interval are called, after its name and ``_``."""


def settled(questions: tuple[Question, ...], output: Output, tables: frozenset[str]) -> Query:
    """The query of a statement whose public part names its questions by their places."""
    assert not any(_released_within(one.input) for one in questions)  # noise is drawn after all are read
    output = _used_alone(output)
    relations = list(_relations(output.input))
    sources = {one.source: one.question for one in relations if isinstance(one, Released)}
    needed: dict[int, set[str]] = {place: set() for place in sources.values()}
    for column in columns_of(output):
        if column.source in sources and column.name.startswith("m"):
            needed[sources[column.source]].add(column.name.split("_")[0])
    merged: dict[str, Question] = {}
    texts = {place: _identity(questions[place]) for place in needed}
    for place, used in needed.items():
        asked = _sorted_keys(questions[place], [_measure(questions[place], name) for name in sorted(used)])
        known = merged.get(texts[place])
        merged[texts[place]] = asked if known is None else _together(known, asked)
    order = sorted(merged)
    settled_ones = tuple(_named_once(merged[text]) for text in order)
    places = {place: order.index(text) for place, text in texts.items()}
    names = {
        source: _new_names(questions[place], settled_ones[places[place]]) for source, place in sources.items()
    }
    moved: Output = _moved(output, names, places)
    return Query(settled_ones, renamed(moved, sources_within(moved.input)), tables)


def _released_within(relation: Relation) -> bool:
    return any(isinstance(one, Released) for one in _relations(relation))


def _relations(relation: Relation) -> list[Relation]:
    return [relation, *(one for below in inputs_of(relation) for one in _relations(below))]


def _measure(question: Question, name: str) -> Measure:
    return question.measures[int(name[1:])]


def _identity(question: Question) -> str:
    keys = sorted(key.text for key in question.keys)
    return f"{question.input.text} of {question.unit.text} by {keys}"


def _sorted_keys(question: Question, measures: list[Measure]) -> Question:
    keys = sorted(question.keys, key=lambda key: key.text)
    named = tuple(Key(f"k{place}", key.scalar, key.domain) for place, key in enumerate(keys))
    return replace(question, keys=named, measures=tuple(measures))


def _together(one: Question, other: Question) -> Question:
    return replace(one, measures=one.measures + other.measures)


def _named_once(question: Question) -> Question:
    """Each measure once, in the order of their texts; a question that only asks for groups counts units."""
    distinct = {measure.text: measure for measure in question.measures or (Measure("units", TRUE),)}
    return replace(question, measures=tuple(distinct[text] for text in sorted(distinct)))


def _new_names(asked: Question, settled_one: Question) -> dict[str, str]:
    """What the columns of a question's released table are called after it was settled."""
    keys = {key.text: key.name for key in settled_one.keys}
    measures = {measure.text: f"m{place}" for place, measure in enumerate(settled_one.measures)}
    names = {key.name: keys[key.text] for key in asked.keys}
    for place, measure in enumerate(asked.measures):
        name = measures.get(measure.text)
        if name is not None:
            names[f"m{place}"] = name
            names.update({f"m{place}_{end}": f"{name}_{end}" for end in ENDS})
    return names


def _moved(node: Any, names: dict[str, dict[str, str]], places: dict[int, int]) -> Any:
    """The tree with released columns under their new names, and questions at their new places."""
    if isinstance(node, tuple):
        return tuple(_moved(one, names, places) for one in node)
    if isinstance(node, Column):
        return replace(node, name=names[node.source][node.name]) if node.source in names else node
    if isinstance(node, Released):
        return replace(node, question=places[node.question])
    if not is_dataclass(node) or isinstance(node, type):
        return node
    return type(node)(**{one.name: _moved(getattr(node, one.name), names, places) for one in fields(node)})


# Columns of unions that nothing above reads


def _used_alone(output: Output) -> Output:
    """The output with its unions' columns that something reads; a column keeps the ends of its interval."""
    relations = _relations(output.input)
    unions = {one.source: one for one in relations if isinstance(one, Union)}
    if not unions:
        return output
    kept: dict[str, set[str]] = {source: set() for source in unions}
    pending = list(columns_of([output.columns, output.order, *map(_own_scalars, relations)]))
    while pending:
        column = pending.pop()
        if column.source not in unions or column.name in kept[column.source]:
            continue
        names = {column.name, *(f"{column.name}_{end}" for end in ENDS)}
        kept[column.source] |= names
        for branch in unions[column.source].branches:
            pending += columns_of([scalar for name, scalar in branch.columns if name in names])
    return replace(output, input=_narrowed(output.input, kept))


def _own_scalars(relation: Relation) -> list[Any]:
    """What the relation itself reads of its inputs; of a union nothing yet."""
    if isinstance(relation, Union):
        return []
    below = {id(one) for one in inputs_of(relation)}
    parts = [getattr(relation, one.name) for one in fields(relation)]
    return [part for part in parts if id(part) not in below]


def _narrowed(node: Any, kept: dict[str, set[str]]) -> Any:
    if isinstance(node, Union):
        return Union(node.source, tuple(_branch(one, kept[node.source], kept) for one in node.branches))
    if not isinstance(node, Relation):
        return node
    return type(node)(**{one.name: _narrowed(getattr(node, one.name), kept) for one in fields(node)})


def _branch(branch: Branch, names: set[str], kept: dict[str, set[str]]) -> Branch:
    columns = tuple((name, scalar) for name, scalar in branch.columns if name in names)
    return Branch(_narrowed(branch.input, kept), columns)
