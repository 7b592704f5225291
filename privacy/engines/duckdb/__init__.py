"""Engine SQL for DuckDB, generated from the algebra alone: no buyer text comes here but literals, which are
written anew.
"""

from privacy.engines.duckdb.exact import Known, candidates_sql, exact_sql
from privacy.engines.duckdb.factors import held_together
from privacy.engines.duckdb.layouts import (
    LEAF_ROWS,
    LENGTHS,
    NUMBER,
    OWNER,
    STORED,
    Selected,
    StoredRows,
    StoredTotal,
    groups_of_leaves_sql,
    leaves_of,
    lengths_of,
    measured_sql,
    part_names,
    parts_of_leaves_sql,
    rows_of,
    stored_leaves_sql,
    stored_parts_sql,
    synopsis_of,
)
from privacy.engines.duckdb.literals import literal, normalised, quoted
from privacy.engines.duckdb.public import public_sql
from privacy.engines.duckdb.relations import SALT_TABLE, Multiplicity, fan_out_sql, released_table, unique_sql
from privacy.engines.duckdb.scalars import OPERATIONS, scalar

__all__ = [
    "LEAF_ROWS",
    "LENGTHS",
    "NUMBER",
    "OPERATIONS",
    "OWNER",
    "SALT_TABLE",
    "STORED",
    "Known",
    "Multiplicity",
    "Selected",
    "StoredRows",
    "StoredTotal",
    "candidates_sql",
    "exact_sql",
    "fan_out_sql",
    "groups_of_leaves_sql",
    "held_together",
    "leaves_of",
    "lengths_of",
    "literal",
    "measured_sql",
    "normalised",
    "part_names",
    "parts_of_leaves_sql",
    "public_sql",
    "quoted",
    "released_table",
    "rows_of",
    "scalar",
    "stored_leaves_sql",
    "stored_parts_sql",
    "synopsis_of",
    "unique_sql",
]
