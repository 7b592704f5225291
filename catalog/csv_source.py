"""A CSV file from a stranger: checked line by line, typed over every value. Ingest process only.

Three passes over the file with bounded memory: the strict check of :mod:`catalog.csv_lines`, one that decides
each column's type from all of its values, and one that yields the rows. Empty cells are NULL, and so is an
unquoted NA. Text that only looks like a number keeps its form: leading zeros, a plus sign and more than 18
digits make a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from catalog.arrow_types import OURS, to_ours
from catalog.csv_lines import MAX_RECORD, check_csv
from catalog.errors import InvalidUpload
from catalog.parquet_source import find_unit
from catalog.schema import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from catalog.ingest import Limits

_INTEGER = r"-?(0|[1-9][0-9]{0,17})"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"
_ZONED = pa.timestamp("us", "UTC")
# (type, pattern, how Arrow reads it), strictest first; a column gets the first that fits all of its values.
_READINGS: tuple[tuple[str, str, pa.DataType], ...] = (
    ("boolean", r"true|false|True|False|TRUE|FALSE", OURS["boolean"]),
    ("integer", _INTEGER, OURS["integer"]),
    ("float", rf"({_INTEGER})?(\.[0-9]{{1,17}})?([eE][+-]?[0-9]{{1,3}})?", OURS["float"]),
    ("date", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", OURS["date"]),
    ("timestamp", _TIME, OURS["timestamp"]),
    ("timestamp", r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{5,15}(Z|[+-][0-9]{2}(:?[0-9]{2})?)", _ZONED),
)
_TEXT = ("text", "", OURS["text"])
# What one reading accepts, the other accepts too: once the first fits, the second need not be tried.
_INCLUDED = {2: 1, 4: 3}


class CsvSource:
    """A CSV file that was found well formed. Opening it reads it twice."""

    def __init__(
        self, opener: Callable[[], BinaryIO], file_bytes: int, *, table: str, unit: str | None, limits: Limits
    ) -> None:
        self._opener, self._table, self._limits = opener, table, limits
        try:
            with opener() as stream:
                self._shape = check_csv(stream, file_bytes=file_bytes, table=table, limits=limits)
        except (OSError, EOFError, pa.ArrowInvalid):
            raise InvalidUpload("truncated_file", "The packed file ends too early.", table=table) from None
        readings = self._infer()
        self.columns = tuple(
            Column(name, kind) for name, (kind, _, _) in zip(self._shape.names, readings, strict=True)
        )
        self.schema = pa.schema([(column.name, OURS[column.type]) for column in self.columns])
        self.unit = find_unit(self.columns, unit, table=table)
        self._readings = [reading for _, _, reading in readings]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in file order, typed."""
        for texts in self._texts():
            arrays = [
                to_ours(
                    array.cast(reading), column, kind, table=self._table, cell_bytes=self._limits.cell_bytes
                )
                for array, reading, column, kind in zip(
                    texts, self._readings, self.columns, self.schema.types, strict=True
                )
            ]
            yield pa.record_batch(arrays, schema=self.schema)

    def _infer(self) -> list[tuple[str, str, pa.DataType]]:
        alive = [list(range(len(_READINGS))) for _ in self._shape.names]
        seen = [False] * len(alive)
        for texts in self._texts():
            for position, array in enumerate(texts):
                values = array.drop_null()
                seen[position] = seen[position] or len(values) > 0
                alive[position] = _still_fitting(values, alive[position])
        return [
            _READINGS[fitting[0]] if fitting and some else _TEXT
            for fitting, some in zip(alive, seen, strict=True)
        ]

    def _texts(self) -> Iterator[list[pa.Array]]:
        """Every column as text, batch by batch; empty cells are NULL."""
        rows = 0
        try:
            with self._opener() as stream, self._reader(stream) as reader:
                for batch in reader:
                    rows += batch.num_rows
                    yield [_empty_is_null(array) for array in batch.columns]
        except pa.ArrowMemoryError:
            raise
        except pa.ArrowInvalid:
            raise self._disagreement() from None
        if rows != self._shape.rows:
            raise self._disagreement()

    def _reader(self, stream: BinaryIO) -> pa.csv.CSVStreamingReader:
        return pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(
                use_threads=False,
                block_size=2 * MAX_RECORD,
                skip_rows=1,
                column_names=self._shape.names,
            ),
            parse_options=pa.csv.ParseOptions(delimiter=self._shape.delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(self._shape.names, pa.string()),
                null_values=["", "NA"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _disagreement(self) -> InvalidUpload:
        """The two readers disagree about the file: it is refused, never guessed at."""
        return InvalidUpload("broken_rows", "The rows cannot be told apart without doubt.", table=self._table)


def _empty_is_null(array: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


def _still_fitting(values: pa.Array, alive: list[int]) -> list[int]:
    fitting: list[int] = []
    for index in alive:
        if _INCLUDED.get(index) in fitting or _fits(values, index):
            fitting.append(index)
    return fitting


def _fits(values: pa.Array, index: int) -> bool:
    _, pattern, reading = _READINGS[index]
    if not pc.all(pc.match_substring_regex(values, rf"\A({pattern})\z"), min_count=0).as_py():
        return False
    try:
        values.cast(reading)
    except pa.ArrowInvalid:
        return False
    return True
