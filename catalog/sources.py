"""What a file is, told from its bytes; each kind yields batches in our types. Ingest process only."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from catalog.csv_source import CsvSource
from catalog.errors import InvalidUpload
from catalog.parquet_source import ParquetSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from catalog.ingest import Limits
    from catalog.schema import Column

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LOOK = 512
# First bytes of what people send by mistake, or on purpose.
_OTHER_FORMATS = (
    (b"PK", "a zip archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"ARROW1", "an Arrow IPC file"),
    (b"\xff\xff\xff\xff", "an Arrow IPC stream"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"SQLite format 3", "a SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    *((b"\x80" + bytes([protocol]), "a Python pickle") for protocol in range(2, 6)),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
)
_OTHER_TEXTS = ((b"<", "a web page or XML"), (b"{", "JSON"), (b"[", "JSON"))


class Source(Protocol):
    """A table that can be read once from the start."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns in file order."""

    @property
    def schema(self) -> pa.Schema:
        """Their Arrow types, all of our own."""

    @property
    def unit(self) -> str | None:
        """The privacy unit's column as the file spells it."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in file order, in :attr:`schema`."""


def open_source(path: Path, *, table: str, unit: str | None, limits: Limits) -> Source:
    """Look at a file's first bytes and open it as what it is. Raises InvalidUpload."""
    with path.open("rb") as file:
        head = file.read(_LOOK)
    if not head:
        raise InvalidUpload("empty_file", "The file has 0 bytes.", table=table)
    if head.startswith(b"PARE"):
        raise InvalidUpload("encrypted_file", "The file is an encrypted Parquet file.", table=table)
    if head.startswith(b"PAR1"):
        return ParquetSource(path, table=table, unit=unit, limits=limits)
    if path.suffix.lower() in (".parquet", ".pq"):
        raise InvalidUpload("not_parquet", "The file is named as Parquet and is something else.", table=table)
    opener = _opener(path, head)
    try:
        with opener() as stream:
            start = stream.read(_LOOK)
    except (OSError, EOFError, pa.ArrowException):
        raise InvalidUpload("damaged_file", "The file cannot be unpacked.", table=table) from None
    _refuse_other(start, table)
    return CsvSource(opener, path.stat().st_size, table=table, unit=unit, limits=limits)


def _opener(path: Path, head: bytes) -> Callable[[], BinaryIO]:
    if head.startswith(_GZIP):
        return lambda: gzip.open(path, "rb")  # type: ignore[return-value]
    if head.startswith(_ZSTD):
        return lambda: io.BufferedReader(pa.CompressedInputStream(str(path), "zstd"))
    return lambda: path.open("rb")


def _refuse_other(start: bytes, table: str) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidUpload("not_utf8", "The file is UTF-16 text; UTF-8 is needed.", table=table)
    if start.startswith(b"PAR1"):
        raise InvalidUpload("unsupported_format", "Parquet is taken as it is, not packed again.", table=table)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, name in (*_OTHER_FORMATS, *_OTHER_TEXTS):
        if (text if (magic, name) in _OTHER_TEXTS else start).startswith(magic):
            raise InvalidUpload("unsupported_format", f"The file is {name}, not CSV or Parquet.", table=table)
