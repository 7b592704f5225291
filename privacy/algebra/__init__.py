"""The closed algebra between SQL text and engine SQL.

    Scan, Capped, Join, Semi, Filter,       rows, each of one privacy unit (or of a public table)
    PerUnit, Windowed, Union
    Bound                                   exactly one between rows and sums: what one unit may contribute
    Aggregate                               integer sums over bounded units
    Released, Scan, Join, Semi, Filter,     public tables: released numbers and public files,
    Grouped, Windowed, Union, Limited,      free to compute on
    Output

Projection is substitution: a column of a subquery *is* the expression over scanned columns that defines
it, so that equal questions have equal trees however they are nested. Nothing here holds buyer text but
literals, and no name but those of the policy's tables and columns (`Output` alone carries the asked column
names).

Every node has a canonical text; a digest of it says whether two questions are the same.
"""

from privacy.algebra.questions import (
    Aggregate,
    Bound,
    Key,
    Measure,
    Number,
    Output,
    Query,
    Question,
    Sum,
    Total,
    columns_of,
    renamed,
)
from privacy.algebra.relations import (
    Branch,
    Capped,
    Filter,
    Grouped,
    Hop,
    Join,
    Limited,
    Order,
    PerUnit,
    Relation,
    Released,
    Scan,
    Semi,
    Union,
    Window,
    Windowed,
    holding,
    inputs_of,
    scans_of,
    shown_sources,
    sources_ranked,
    sources_within,
    tables_of,
)
from privacy.algebra.scalars import (
    COMMUTATIVE,
    TRUE,
    Call,
    Column,
    Literal,
    Scalar,
    conjunction,
    conjuncts,
)

__all__ = [
    "COMMUTATIVE", "TRUE", "Aggregate", "Bound", "Branch", "Call", "Capped", "Column", "Filter", "Grouped",
    "Hop", "Join", "Key", "Limited", "Literal", "Measure", "Number", "Order", "Output", "PerUnit", "Query",
    "Question", "Relation", "Released", "Scalar", "Scan", "Semi", "Sum", "Total", "Union", "Window",
    "Windowed", "columns_of", "conjunction", "conjuncts", "holding", "inputs_of", "renamed", "scans_of",
    "shown_sources", "sources_ranked", "sources_within", "tables_of",
]  # fmt: skip
