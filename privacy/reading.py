"""What a statement reads, for whoever decides whether it may: columns by table, and how far it joins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.algebra import Join, Semi, columns_of, inputs_of, scans_of

if TYPE_CHECKING:
    from privacy.algebra import Output, Query, Question, Relation
    from privacy.policy import Policy

#: Members that name the unit whose rows are bounded: the engine reads it, the statement did not ask for it.
_UNIT = ("unit",)


def columns_read(query: Query) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Every table that the statement scans with the columns that its expressions name, in order of names.

    The column of the privacy unit is read to bound what a unit contributes; it is listed where a condition
    or a join names it, and not where a statement aggregates within each unit or counts units. A table whose
    rows are counted alone has no columns.
    """
    found: dict[str, set[str]] = {}
    parts: list[Question | Output] = [*query.questions, query.output]
    for part in parts:
        tables = {scan.source: scan.table for scan in scans_of(part.input)}
        for table in tables.values():
            found.setdefault(table, set())
        for column in columns_of(part, without=_UNIT):
            if column.source in tables:
                found[tables[column.source]].add(column.name)
    return tuple((table, tuple(sorted(found[table]))) for table in sorted(found))


def joins_made(query: Query, policy: Policy) -> str:
    """How far the statement joins: "none", "public" (one private table, with public ones) or "any".

    A semi-join (IN, EXISTS) is a join. Subqueries and unions that stand beside each other are none, since
    each of them reads its own rows.
    """
    joined: list[int] = []
    pending: list[Relation] = [*(question.input for question in query.questions), query.output.input]
    while pending:
        relation = pending.pop()
        pending.extend(inputs_of(relation))
        if isinstance(relation, Join | Semi):
            joined.append(sum(policy.tables[scan.table.lower()].private for scan in scans_of(relation)))
    return "none" if not joined else "any" if max(joined) > 1 else "public"
