"""Is this CSV well formed? A strict reading of RFC 4180 that names every broken line. Ingest process only.

The fast readers at hand are too kind for a market: one takes ``"x"y`` for a value, another ends the file
without a word at a quote that is never closed. So every line is checked here first; the fast reader then
reads what is already known to be regular.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import methodcaller
from typing import TYPE_CHECKING

from catalog.errors import BrokenRow, InvalidUpload
from catalog.schema import check_column_names

if TYPE_CHECKING:
    from typing import BinaryIO

    from catalog.ingest import Limits

MAX_RECORD = 1 << 20
_SHOWN = 20
_BLOCK = 1 << 20
_ALWAYS_ALLOWED = 64 << 20
_DELIMITERS = (",", ";", "\t", "|")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a well-formed file looks like."""

    names: tuple[str, ...]
    delimiter: str
    rows: int


@dataclass
class _Findings:
    table: str
    rows: int = 0
    broken_count: int = 0
    not_utf8: int = 0
    broken: list[BrokenRow] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        self.broken_count += 1
        self.not_utf8 += reason == _NOT_UTF8
        if len(self.broken) < _SHOWN:
            self.broken.append(BrokenRow(line, reason))

    def take(self, others: _Findings) -> None:
        """Move what others found to here."""
        self.broken_count += others.broken_count
        self.broken += others.broken[: _SHOWN - len(self.broken)]
        others.broken_count = 0
        others.broken.clear()

    def raise_if_any(self) -> None:
        if not self.broken_count:
            return
        shown = "; ".join(f"line {line}: {reason}" for line, reason in self.broken)
        more = self.broken_count - len(self.broken)
        count = "1 row is" if self.broken_count == 1 else f"{self.broken_count:,} rows are"
        message = f"{count} broken, so nothing was taken in: {shown}" + (
            f"; and {more:,} more" if more else ""
        )
        raise InvalidUpload(
            "not_utf8" if self.not_utf8 == self.broken_count else "broken_rows",
            message,
            table=self.table,
            row=self.broken[0].line,
            broken_rows=self.broken,
            broken_count=self.broken_count,
        )


_NOT_UTF8 = "holds bytes that are not UTF-8 text"
_NUL = "holds a NUL byte"
_BLANK = "is blank"


def check_csv(stream: BinaryIO, *, file_bytes: int, table: str, limits: Limits) -> Shape:
    """Read a whole CSV file and return its shape. Lines count from 1, which is the header.

    Raises InvalidUpload: ``broken_rows`` or ``not_utf8`` with the first 20 lines and the count of all, or the
    limit that was passed. Blank lines are broken rows, except at the end of the file.
    """
    lines = _Lines(stream, file_bytes, table, limits)
    names, delimiter = _header(lines, table, limits)
    check = _Checker(lines, len(names), delimiter, _Findings(table), limits)
    check.run()
    if not check.findings.rows:
        raise InvalidUpload("empty_file", "The file has a header and no rows.", table=table)
    return Shape(tuple(names), delimiter, check.findings.rows)


class _Lines(Iterator[bytes]):
    """Lines without their line feed, counted, with bounded memory whatever the file unpacks to."""

    def __init__(self, stream: BinaryIO, file_bytes: int, table: str, limits: Limits) -> None:
        self.number = 0
        self._stream, self._table = stream, table
        self._allowed = min(limits.expanded_bytes, max(_ALWAYS_ALLOWED, limits.expansion * file_bytes))
        self._file_bytes = file_bytes
        self._taken = 0
        self._rest = b""
        self._block: list[bytes] = []
        self._at = 0

    def __next__(self) -> bytes:
        if self._at == len(self._block) and not self._load():
            raise StopIteration
        line = self._block[self._at]
        self._at += 1
        self.number += 1
        return line

    def pass_plain(self, delimiter: bytes, separators: int, longest: int) -> int:
        """Pass over the block that comes next if all of it is plainly well formed; returns its lines.

        Plain is UTF-8 without quotes, NULs, stray carriage returns and blank lines, each line with as many
        delimiters as the header. Almost every block of almost every file is, and is judged here at the speed
        of C; 0 sends the block to the line by line check.
        """
        if self._at < len(self._block) or not self._load():
            return 0
        raw = b"\n".join(self._block).replace(b"\r\n", b"\n").removesuffix(b"\r")
        if b'"' in raw or b"\r" in raw or _text_fault(raw):
            return 0
        lines = raw.split(b"\n")
        if not all(lines) or max(map(len, lines)) > longest:
            return 0
        if set(map(methodcaller("count", delimiter), lines)) != {separators}:
            return 0
        self._at = len(self._block)
        self.number += len(lines)
        return len(lines)

    def _load(self) -> bool:
        """Read on until there are whole lines; False at the end of the file."""
        while block := self._stream.read(_BLOCK):
            self._taken += len(block)
            if self._taken > self._allowed:
                message = f"The file of {self._file_bytes:,} bytes unpacks to more than {self._allowed:,}."
                raise InvalidUpload("expands_too_much", message, table=self._table)
            *self._block, self._rest = (self._rest + block).split(b"\n")
            self._at = 0
            if len(self._rest) > MAX_RECORD:
                raise too_long(self._table, self.number + len(self._block) + 1)
            if self._block:
                return True
        self._block, self._rest, self._at = [self._rest] if self._rest else [], b"", 0
        return bool(self._block)


class _Checker:
    def __init__(
        self, lines: _Lines, width: int, delimiter: str, findings: _Findings, limits: Limits
    ) -> None:
        self.findings = findings
        self._lines, self._width, self._limits = lines, width, limits
        self._delimiter, self._separators = delimiter.encode(), width - 1
        csv.field_size_limit(limits.cell_bytes)
        self._reader = csv.reader(self._feed(), delimiter=delimiter, strict=True)
        self._next: bytes | None = None
        self._record_bytes = self._started = 0
        self._blanks = _Findings(findings.table)

    def run(self) -> None:
        """Check every line; raises InvalidUpload at the end with all that was found."""
        while True:
            passed = self._lines.pass_plain(self._delimiter, self._separators, self._limits.cell_bytes)
            line = None if passed else next(self._lines, None)
            if not passed and line is None:
                break
            if line is not None and line in (b"", b"\r"):
                self._blanks.add(self._lines.number, _BLANK)
                continue
            # Blank lines end a file without harm; with a row after them they are rows that lost their cells.
            self.findings.take(self._blanks)
            self._count(passed or 1)
            if line is not None:
                self._judge(line, line.removesuffix(b"\r"))
        self.findings.raise_if_any()

    def _judge(self, line: bytes, body: bytes) -> None:
        started = self._started = self._lines.number
        reason = self._quoted(line) if b'"' in body else self._bare(body)
        if reason:
            self.findings.add(started, reason)

    def _count(self, rows: int) -> None:
        self.findings.rows += rows
        if self.findings.rows > self._limits.rows:
            raise self._too_many()

    def _too_many(self) -> InvalidUpload:
        message = f"The file has more than {self._limits.rows:,} rows."
        return InvalidUpload("too_many_rows", message, table=self.findings.table)

    def _bare(self, body: bytes) -> str | None:
        """Why a line without any quote is broken, or None."""
        reason = _text_fault(body)
        if reason:
            return reason
        if b"\r" in body:
            return "holds a carriage return outside quotes"
        found = body.count(self._delimiter)
        if found != self._separators:
            return self._wrong_width(found + 1)
        if len(body) > self._limits.cell_bytes:
            return self._long_cell(body.split(self._delimiter))
        return None

    def _quoted(self, line: bytes) -> str | None:
        """Why a record with quotes is broken, or None; it may go on over the next lines."""
        self._next, self._record_bytes = line, 0
        try:
            cells = next(self._reader)
        except csv.Error as error:
            return _quoting_fault(str(error), self._limits)
        except UnicodeDecodeError:
            self._reader = csv.reader(self._feed(), delimiter=self._delimiter.decode(), strict=True)
            return _NOT_UTF8
        if len(cells) != self._width:
            return self._wrong_width(len(cells))
        if any("\0" in cell for cell in cells):
            return _NUL
        return self._long_cell([cell.encode() for cell in cells])

    def _feed(self) -> Iterator[str]:
        """The lines of the record at hand, as the csv reader asks for them."""
        while True:
            line = self._next if self._next is not None else next(self._lines, None)
            self._next = None
            if line is None:
                return
            self._record_bytes += len(line)
            if self._record_bytes > MAX_RECORD:
                raise too_long(self.findings.table, self._started)
            yield line.decode("utf-8") + "\n"

    def _wrong_width(self, found: int) -> str:
        return f"has {found} cell{'s' * (found != 1)} where the header has {self._width}"

    def _long_cell(self, cells: list[bytes]) -> str | None:
        if max(map(len, cells)) > self._limits.cell_bytes:
            return f"holds a text of more than {self._limits.cell_bytes:,} bytes"
        return None


def too_long(table: str, line: int) -> InvalidUpload:
    """The refusal of a row that does not fit into memory's allowance."""
    message = f"The row at line {line} has more than {MAX_RECORD:,} bytes."
    return InvalidUpload("cell_too_large", message, table=table, row=line)


def _header(lines: _Lines, table: str, limits: Limits) -> tuple[list[str], str]:
    body = next(lines, b"").removesuffix(b"\r").removeprefix(_BOM)
    fault = _text_fault(body)
    if fault == _NOT_UTF8:
        raise InvalidUpload("not_utf8", f"The header {_NOT_UTF8}.", table=table, row=1)
    if fault or b"\r" in body:
        raise InvalidUpload(
            "unsupported_format", "The first line is not the header of a CSV file.", table=table, row=1
        )
    text = body.decode("utf-8")
    delimiter = max(_DELIMITERS, key=text.count)
    if text.count(delimiter) >= limits.columns:
        message = f"The file has more than {limits.columns:,} columns."
        raise InvalidUpload("too_many_columns", message, table=table)
    try:
        names = next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        raise InvalidUpload("broken_rows", "The header's quoting is broken.", table=table, row=1) from None
    check_column_names(names or [""], table=table)
    return names, delimiter


def _text_fault(body: bytes) -> str | None:
    if b"\0" in body:
        return _NUL
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            return _NOT_UTF8
    return None


def _quoting_fault(message: str, limits: Limits) -> str:
    """The csv module's complaint in our words; its own texts name no values but are not ours to promise."""
    if "field larger" in message:
        return f"holds a text of more than {limits.cell_bytes:,} characters, or a quote that is not closed"
    if "unexpected end" in message:
        return "opens a quote that is never closed"
    if "new-line" in message:
        return "holds a carriage return outside quotes"
    return "has text after a closing quote"
