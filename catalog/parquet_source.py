"""A Parquet file from a stranger: its footer is a claim, checked while reading. Ingest process only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.arrow_types import expanded_bytes, target_of, to_ours
from catalog.errors import InvalidUpload, nearest
from catalog.schema import Column, check_column_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from catalog.ingest import Limits

_MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
_MIB = 1 << 20
_THRIFT_STRINGS = 16 * _MIB
_THRIFT_ITEMS = 1_000_000
_BATCH_ROWS = 8_192
_ALWAYS_ALLOWED = 64 * _MIB


class ParquetSource:
    """A Parquet file, read one row group and one batch at a time so that memory stays bounded."""

    def __init__(self, path: Path, *, table: str, unit: str | None, limits: Limits) -> None:
        self._table, self._limits = table, limits
        _check_frame(path, table)
        self._file_bytes = path.stat().st_size
        try:
            self._file = pq.ParquetFile(
                path,
                buffer_size=_MIB,
                pre_buffer=False,
                page_checksum_verification=True,
                thrift_string_size_limit=_THRIFT_STRINGS,
                thrift_container_size_limit=_THRIFT_ITEMS,
            )
            self._check_shape()
            fields = list(self._file.schema_arrow)
        except (pa.ArrowException, OSError):
            raise self._damaged() from None
        check_column_names([field.name for field in fields], table=table)
        targets = [target_of(field, table=table) for field in fields]
        self.columns = tuple(column for column, _ in targets)
        self.schema = pa.schema([(column.name, kind) for column, kind in targets])
        self.unit = find_unit(self.columns, unit, table=table)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in file order. Raises InvalidUpload for damage, for lies and past the limits."""
        allowed = min(
            self._limits.expanded_bytes, max(_ALWAYS_ALLOWED, self._limits.expansion * self._file_bytes)
        )
        rows = taken = 0
        for batch in self._raw_batches():
            rows += batch.num_rows
            taken += self._expanded_bytes(batch)
            if rows > self._limits.rows:
                raise self._too_many_rows()
            if taken > allowed:
                message = f"The file of {self._file_bytes:,} bytes unpacks to more than {allowed:,}."
                raise InvalidUpload("expands_too_much", message, table=self._table)
            yield self._ours(batch)
        if rows != self._file.metadata.num_rows:
            raise self._damaged()

    def _raw_batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for group in range(self._file.metadata.num_row_groups):
                yield from self._file.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, MemoryError):
                raise
            raise self._damaged() from None

    def _expanded_bytes(self, batch: pa.RecordBatch) -> int:
        try:
            return sum(expanded_bytes(array) for array in batch.columns)
        except pa.ArrowException:
            raise self._damaged() from None

    def _ours(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [
            to_ours(array, column, kind, table=self._table, cell_bytes=self._limits.cell_bytes)
            for array, column, kind in zip(batch.columns, self.columns, self.schema.types, strict=True)
        ]
        return pa.record_batch(arrays, schema=self.schema)

    def _check_shape(self) -> None:
        metadata = self._file.metadata
        if metadata.num_columns > self._limits.columns:
            raise too_many_columns(self._table, self._limits)
        if metadata.num_rows > self._limits.rows:
            raise self._too_many_rows()
        if metadata.num_rows == 0 or metadata.num_columns == 0:
            raise InvalidUpload("empty_file", "The file has no row or no column.", table=self._table)

    def _too_many_rows(self) -> InvalidUpload:
        message = f"The file has more than {self._limits.rows:,} rows."
        return InvalidUpload("too_many_rows", message, table=self._table)

    def _damaged(self) -> InvalidUpload:
        return InvalidUpload("damaged_file", "The Parquet file contradicts itself.", table=self._table)


def find_unit(columns: tuple[Column, ...], unit: str | None, *, table: str) -> str | None:
    """The unit's column as the file spells it. Raises InvalidUpload where the file lacks it."""
    if unit is None:
        return None
    names = [column.name for column in columns]
    found = next((name for name in names if name.lower() == unit.lower()), None)
    if found is None:
        message = f"The file has no column `{unit}` for the privacy unit; {nearest(unit, names)}"
        raise InvalidUpload("unit_missing", message, table=table, column=unit)
    return found


def too_many_columns(table: str, limits: Limits) -> InvalidUpload:
    """The refusal of a table that is too wide."""
    message = f"The file has more than {limits.columns:,} columns."
    return InvalidUpload("too_many_columns", message, table=table)


def _check_frame(path: Path, table: str) -> None:
    """Magic at both ends, and a footer that fits between them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if tail.endswith(_ENCRYPTED):
        raise InvalidUpload("encrypted_file", "The file is an encrypted Parquet file.", table=table)
    footer = int.from_bytes(tail[:4], "little")
    if size < 12 or not tail.endswith(_MAGIC) or footer + 12 > size:
        raise InvalidUpload("truncated_file", "The Parquet file ends before its footer.", table=table)
