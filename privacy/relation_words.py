"""How a question relates private rows, in words: where a row finds its unit, and where rows are capped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.algebra import (
    Capped,
    Join,
    PerUnit,
    Relation,
    Scan,
    Semi,
    Union,
    Windowed,
    inputs_of,
    scans_of,
)

if TYPE_CHECKING:
    from privacy.algebra import Question


def unit_name(relation: Relation) -> str:
    """What the policy calls the privacy unit of private rows."""
    return next((scan.unit.name for scan in scans_of(relation) if scan.unit is not None), "unit")


def relation_words(question: Question) -> list[str]:
    """A line for each thing that is done to private rows before they are bounded, each once, from the outside
    in."""
    unit = unit_name(question.input)
    lines: list[str] = []
    pending: list[Relation] = [question.input]
    while pending:
        part = pending.pop(0)
        lines += [line for line in _words(part, unit) if line not in lines]
        pending = [*pending, *(_joined(part) if isinstance(part, Join) else inputs_of(part))]
    if question.rows_per_unit is not None:
        lines.append(f"so that each {unit} has at most {_rows(question.rows_per_unit)} to count")
    return lines


def _joined(relation: Relation) -> list[Relation]:
    """All sides of joins of joins, which are told of at once."""
    if not isinstance(relation, Join):
        return [relation]
    return _joined(relation.left) + _joined(relation.right)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _words(relation: Relation, unit: str) -> list[str]:
    if isinstance(relation, Scan):
        return _way(relation) if relation.path else []
    if isinstance(relation, Capped):
        of = " and ".join([f"each {unit}", *(f"each {key.name}" for key in relation.keys)])
        return [f"keeps at most {_rows(relation.rows)} of {_names(relation)} for {of}, where it is joined"]
    if isinstance(relation, PerUnit):
        keys = ", ".join(getattr(scalar, "name", "an expression") for _, scalar in relation.keys)
        return [f"aggregates {_names(relation)} within each {unit}{f' by {keys}' if keys else ''}"]
    if isinstance(relation, Windowed):
        return [f"compares rows of {_names(relation)} within each {unit}"]
    if isinstance(relation, Union):
        return [f"puts the rows of {_names(relation)} together"]
    private = [side for side in inputs_of(relation) if any(scan.unit is not None for scan in scans_of(side))]
    if isinstance(relation, Join | Semi) and len(private) > 1:
        return [f"joins {_names(relation)} on {unit}, or on a key of it"]
    return []


def _way(scan: Scan) -> list[str]:
    assert scan.unit is not None
    steps = ", ".join(f"{hop.column} = {hop.table}.{hop.key}" for hop in scan.path)
    return [f"finds the {scan.unit.name} of a row of {scan.table} by {steps}"]


def _names(relation: Relation) -> str:
    return ", ".join(dict.fromkeys(scan.table for scan in scans_of(relation) if scan.unit is not None))
