"""Engine SQL for DuckDB, generated from the algebra alone: no buyer text comes here but literals, which are
written anew.
"""

from privacy.engines.duckdb.exact import candidates_sql, exact_sql
from privacy.engines.duckdb.factors import held_together
from privacy.engines.duckdb.layouts import (
    NUMBER,
    OWNER,
    STORED,
    Selected,
    rows_of,
    stored_parts_sql,
    synopsis_of,
)
from privacy.engines.duckdb.literals import literal, normalised, quoted
from privacy.engines.duckdb.public import public_sql
from privacy.engines.duckdb.relations import SALT_TABLE, Multiplicity, fan_out_sql, released_table, unique_sql
from privacy.engines.duckdb.scalars import OPERATIONS, scalar

__all__ = [
    "NUMBER",
    "OPERATIONS",
    "OWNER",
    "SALT_TABLE",
    "STORED",
    "Multiplicity",
    "Selected",
    "candidates_sql",
    "exact_sql",
    "fan_out_sql",
    "held_together",
    "literal",
    "normalised",
    "public_sql",
    "quoted",
    "released_table",
    "rows_of",
    "scalar",
    "stored_parts_sql",
    "synopsis_of",
    "unique_sql",
]
