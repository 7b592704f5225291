"""Batches become our own Parquet: one layout, no source metadata, no statistics. Ingest process only.

Statistics are left out on purpose. An engine prunes row groups by them, so the run time of a buyer's filter
would tell where single values lie; and a file that leaves the house by accident should not carry its extremes
in its footer.

Under a key the parts are encrypted as they are written, and never lie anywhere in plain: Parquet modular
encryption, AES-GCM, footer and all. What a part would be without it is hashed beside: encrypting draws at
random, so that the digest of what is stored says no more whether two tables are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.parquet import encryption

from catalog.errors import InvalidUpload

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

ROW_GROUP_ROWS = 122_880  # DuckDB's own row group: one task of a parallel scan
_ROW_GROUP_BYTES = 256 << 20
_PART_ROWS = 100 * ROW_GROUP_ROWS
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Counts:
    """What was kept and dropped; ``not_finite`` counts NaN and infinities that became NULL, per column."""

    rows: int
    rows_without_unit: int
    not_finite: dict[str, int]


class Rewriter:
    """Writes batches of one schema to ``part-00000.parquet`` on; without a key the bytes depend on the values
    alone. ``digests`` say what they would be, part by part, where there is a key.
    """

    def __init__(
        self, out: Path, schema: pa.Schema, *, table: str, unit: str | None, key: bytes | None = None
    ) -> None:
        self.parts: list[Path] = []
        self.digests: list[str] = []
        self._out, self._table, self._unit, self._key = out, table, unit, key
        self._schema = schema.remove_metadata()
        self._floats = [field.name for field in self._schema if pa.types.is_floating(field.type)]
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = self._part_rows = 0
        self._rows = self._without_unit = 0
        self._not_finite: dict[str, int] = {}
        self._writer: _Part | None = None

    def __enter__(self) -> Rewriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Take the rows of a batch that have a unit."""
        batch = self._with_unit(self._finite(batch))
        if not batch.num_rows:
            return
        self._rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        while self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> Counts:
        """Write what waits and close the last part. Raises InvalidUpload when nothing was kept."""
        if not self._rows:
            code, message = "empty_file", "The file has no rows."
            if self._without_unit:
                code = "unit_empty"
                message = f"None of the {self._without_unit:,} rows names its privacy unit."
            raise InvalidUpload(code, message, table=self._table, column=self._unit)
        while self._waiting_rows:
            self._flush()
        self._close_part()
        return Counts(self._rows, self._without_unit, self._not_finite)

    def _finite(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name in self._floats:
            values = batch.column(name)
            odd = pc.invert(pc.is_finite(values))
            count = pc.sum(odd).as_py() or 0
            if count:
                self._not_finite[name] = self._not_finite.get(name, 0) + count
                values = pc.if_else(odd, pa.scalar(None, values.type), values)
                batch = batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), values)
        return batch

    def _with_unit(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._unit is None:
            return batch
        units = batch.column(self._unit)
        known = pc.is_valid(units)
        if pa.types.is_string(units.type):
            known = pc.and_(known, pc.fill_null(pc.not_equal(units, ""), False))
        kept = batch.filter(known)
        self._without_unit += batch.num_rows - kept.num_rows
        return kept

    def _flush(self) -> None:
        """Write one row group: the first ROW_GROUP_ROWS that wait, or all of them when they are heavy."""
        table = pa.Table.from_batches(self._waiting, self._schema)
        group, rest = table.slice(0, ROW_GROUP_ROWS), table.slice(ROW_GROUP_ROWS)
        self._open_part().write(group.combine_chunks())
        self._part_rows += group.num_rows
        if self._part_rows >= _PART_ROWS:
            self._close_part()
        self._waiting = rest.to_batches() if rest.num_rows else []
        self._waiting_rows, self._waiting_bytes = rest.num_rows, rest.nbytes

    def _open_part(self) -> _Part:
        if self._writer is None:
            path = self._out / f"part-{len(self.parts):05d}.parquet"
            self.parts.append(path)
            self._writer = _Part(path, self._schema, self._key)
        return self._writer

    def _close_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            if self._key is not None:
                self.digests.append(self._writer.plain.sha256.hexdigest())
            self._writer, self._part_rows = None, 0


class _Part:
    """One part in the making: as it is stored, and under a key as it would be in plain, for its digest."""

    def __init__(self, path: Path, schema: pa.Schema, key: bytes | None) -> None:
        self.plain = _Hashed()
        sealed = None if key is None else encryption.create_encryption_properties(key)
        self._writers = [_writer(path, schema, encryption_properties=sealed)]
        if key is not None:
            self._writers.append(_writer(pa.PythonFile(self.plain, mode="w"), schema))

    def write(self, group: pa.Table) -> None:
        """Write one row group."""
        for writer in self._writers:
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)

    def close(self) -> None:
        """Write the footer."""
        with contextlib.ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)


class _Hashed:
    """A write-only file that keeps nothing but the digest of what is written."""

    closed = False

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """The digest stays."""


def _writer(where: Path | pa.PythonFile, schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        where,
        schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
        **options,
    )
