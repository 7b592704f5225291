"""Runs plans on tables without rows, in this process and without noise."""

from __future__ import annotations

import duckdb
import pyarrow as pa

import privacy
from privacy.release import perturb
from tests.privacy.conftest import silent
from tests.privacy.mutants import World

KINDS = {
    "boolean": pa.bool_(), "integer": pa.int64(), "float": pa.float64(), "decimal": pa.decimal128(18, 2),
    "text": pa.string(), "date": pa.date32(), "timestamp": pa.timestamp("us"),
}  # fmt: skip


class Empty:
    """The tables of a policy, all of them empty."""

    def __init__(self, world: World) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        for name, columns in world.types.items():
            schema = pa.schema([(column, KINDS[kind]) for column, kind in columns.items()])
            self.connection.register(name, schema.empty_table())
        self.connection.register("_salt", pa.table({"salt": ["00" * 16]}))

    def defect(self, plan: privacy.Plan) -> str | None:
        """What the engine has against the plan, or None."""
        try:
            for place, one in enumerate(plan.releases):
                exact = self.connection.sql(one.sql).to_arrow_table()
                self.connection.register(f"_released{place}", one.shown(perturb(exact, silent(one.release))))
            table = self.connection.sql(plan.public_sql).to_arrow_table()
        except duckdb.Error as error:
            return f"{type(error).__name__} {str(error).splitlines()[0][:200]}"
        return None if table.num_columns >= len(plan.columns) else "columns are missing"
