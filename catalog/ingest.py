"""A stranger's CSV or Parquet file becomes our own Parquet and a profile, in a limited process.

The file is hostile until rewritten: parsers of both formats are large C++ programs, footers lie about sizes,
and a small file can unpack to gigabytes. So a child process reads it, with caps on address space, CPU, files
and time, a clean environment and nothing in its memory worth stealing; the caller names what the kernel shall
forbid it besides: network, programs, and all files but the one it reads and the folder it writes. It answers
with one JSON report over a pipe. Nothing of the source survives but column names and values: metadata,
statistics, encodings and page layout are ours.

The rewritten bytes depend on the table's values, the column names and the pinned pyarrow alone, so that
publishing the same file again finds the same objects.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from catalog.errors import BrokenRow, InvalidUpload
from catalog.objects import lacks_room, sha256_of
from catalog.schema import Column, TableSchema, check_column_names, check_table_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MIB = 1 << 20
_GIB = 1 << 30
_LARGEST_REPORT = 16 * _MIB
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ROOT = Path(__file__).resolve().parent.parent
# -I keeps the caller's folder and PYTHON* variables out of the child; this line is all that it is told.
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from catalog.ingest_worker import main; main()"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one ingest may take. Every limit is a refusal with a code of its own, never a silent cut.

    Attributes:
        file_bytes: size of the file as sent.
        expanded_bytes: size of its contents, unpacked.
        expansion: unpacked size as a multiple of the file's; the first 64 MiB are always allowed.
        rows, columns: shape of the table.
        cell_bytes: one text in UTF-8.
        memory_bytes: address space of the child; about 1.1 GiB of it are the engines' own reservations.
        seconds: wall clock and CPU time of the child.
    """

    file_bytes: int = 2 * _GIB
    expanded_bytes: int = 16 * _GIB
    expansion: int = 200
    rows: int = 500_000_000
    columns: int = 1_000
    cell_bytes: int = 65_536
    memory_bytes: int = 3 * _GIB
    seconds: int = 600


class Confinement(Protocol):
    """What a module offers by which the child confines itself; some tell whether the kernel does it."""

    def leave_network(self) -> bool:
        """Have no network from now on."""

    def drop_privileges(self) -> bool:
        """Keep no capability but access to files."""

    def die_with_parent(self, parent: int) -> None:
        """End this process when the one that started it ends, which is ``parent``."""

    def forbid_network_and_programs(self) -> bool:
        """Refuse sockets and other programs."""

    def forbid_processes_and_signals(self) -> bool:
        """Refuse new processes, and signals to others."""

    def confine_files(self, readable: Iterable[str], scratch: str) -> bool:
        """Read these files, read and write below ``scratch``, and no other file."""


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a rewritten table.

    ``sha256`` is of its bytes, or of what they would be without encryption: it tells whether two are alike.
    Of an encrypted part the child says it, which read a stranger's file: nothing is to be opened by it.
    """

    sha256: str
    bytes: int
    path: Path


@dataclass(frozen=True, slots=True)
class TableReport:
    """What an ingest made of a file.

    ``rows`` counts what was kept, ``rows_without_unit`` what was dropped because it belongs to nobody.
    ``profile`` is a JSON document for the provider's eyes only: it shows values of single rows.
    """

    table: str
    schema: TableSchema
    rows: int
    rows_without_unit: int
    parts: tuple[Part, ...]
    profile: dict[str, Any]


def ingest_table(
    source: Path,
    *,
    table: str,
    unit: str | None,
    out: Path,
    keys: Sequence[str] = (),
    limits: Limits | None = None,
    confinement: str = "",
    key: bytes | None = None,
    histograms: bool = False,
) -> TableReport:
    """Read a CSV (also gzip or zstd) or Parquet file; write ``part-00000.parquet`` on to the folder ``out``.

    The format is told from the file's bytes, never from its name. ``unit`` names the privacy unit's column of
    a private table, in any letter case; rows where it is NULL, NaN or empty are dropped and counted. Each row
    that is kept needs a value of its own in each column that ``keys`` names. A file with any broken row is
    refused whole. ``confinement`` is the name of a module with :class:`Confinement`'s functions, by which the
    child confines itself before it opens the file. Under a ``key`` of 32 bytes the parts are encrypted; it
    goes to the child on its standard input. ``histograms`` are added to the profile where
    asked for. Raises :class:`InvalidUpload`, and OSError (ENOSPC) where the disk of ``out`` is full; then it
    holds no part.
    """
    limits = limits or Limits()
    check_table_name(table)
    size = Path(source).stat().st_size
    if size > limits.file_bytes:
        message = f"The file has {size:,} bytes; at most {limits.file_bytes:,} are taken."
        raise InvalidUpload("file_too_large", message, table=table)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob("part-*.parquet")):
        raise FileExistsError(f"{out} holds parts already")
    task = {
        "source": str(Path(source).resolve()),
        "out": str(out.resolve()),
        "table": table,
        "unit": unit,
        "keys": list(keys),
        "limits": asdict(limits),
        "confinement": confinement,
        "key": (key or b"").hex(),
        "histograms": histograms,
        "parent": os.getpid(),
    }
    try:
        return _report(_run_child(task, limits, table, out), table, out, sealed=key is not None)
    except BaseException:
        for part in out.glob("part-*.parquet"):
            part.unlink()
        raise


def _run_child(task: dict[str, Any], limits: Limits, table: str, out: Path) -> dict[str, Any]:
    scratch = tempfile.mkdtemp(prefix="scratch-", dir=out.resolve())  # one folder is all that it may write to
    try:
        task["scratch"] = scratch
        reply, code, late = _converse(json.dumps(task).encode(), scratch, limits.seconds)
        full = lacks_room(out)  # before what it wrote is removed
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if late or code == -signal.SIGXCPU:
        message = f"Reading the file took longer than {limits.seconds} seconds."
        raise InvalidUpload("took_too_long", message, table=table)
    try:
        document = json.loads(reply)
    except ValueError:
        document = None
    if full and (code != 0 or not isinstance(document, dict) or _is_unreadable(document)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # that is no fault of the file
    if code in (-signal.SIGABRT, -signal.SIGKILL):
        raise InvalidUpload("expands_too_much", "The file needs more memory than is allowed.", table=table)
    if code != 0 or not isinstance(document, dict):
        raise InvalidUpload("unreadable_file", "Reading the file failed.", table=table)
    return document


def _is_unreadable(document: dict[str, Any]) -> bool:
    error = document.get("error")
    return isinstance(error, dict) and error.get("code") == "unreadable_file"


def _converse(task: bytes, scratch: str, seconds: int) -> tuple[bytes, int, bool]:
    """Run the child; returns its reply, its exit code, and whether it was killed at the deadline."""
    child = subprocess.Popen(  # noqa: S603 - our own interpreter with a constant program
        [sys.executable, "-I", "-c", _CHILD, str(_ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # an engine's message carries cell values
        cwd=scratch,
        env=_environment(scratch),
        start_new_session=True,
    )
    late = threading.Event()

    def kill() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds + 1, kill)
    timer.start()
    try:
        with child:
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(task)
                child.stdin.close()
            except BrokenPipeError:
                pass  # the child died before it listened; its exit code tells
            reply = child.stdout.read(_LARGEST_REPORT)
            if child.stdout.read(1):
                child.kill()
                reply = b""
            code = child.wait()
    finally:
        timer.cancel()
        child.kill()
    return reply, code, late.is_set()


def _environment(scratch: str) -> dict[str, str]:
    return {
        "HOME": scratch,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # glibc's allocator with one arena: the others reserve address space by the gigabyte.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a process of one thread can be confined
        "MALLOC_ARENA_MAX": "1",
        # Large blocks go back to the system when freed: memory follows what is in use, not its history.
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "MALLOC_TRIM_THRESHOLD_": "1048576",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _report(document: Mapping[str, Any], table: str, out: Path, *, sealed: bool) -> TableReport:
    """The child's reply as a report. It read a stranger's file, so names and types are checked again here."""
    if "error" in document:
        raise _refusal(document["error"], table)
    columns = tuple(Column(str(name), str(kind)) for name, kind in document["columns"])
    check_column_names([column.name for column in columns], table=table)
    paths = sorted(out.glob("part-*.parquet"))
    digests = _digests(document, len(paths)) if sealed else map(sha256_of, paths)
    parts = tuple(
        Part(sha256, path.stat().st_size, path) for sha256, path in zip(digests, paths, strict=True)
    )
    return TableReport(
        table=table,
        schema=TableSchema(table, columns),
        rows=int(document["rows"]),
        rows_without_unit=int(document["rows_without_unit"]),
        parts=parts,
        profile=dict(document["profile"]),
    )


def _digests(document: Mapping[str, Any], count: int) -> list[str]:
    """What the child says that the parts would be. Raises ValueError where those are no digests."""
    found = [str(one) for one in document["digests"]]
    if len(found) != count or not all(map(_DIGEST.fullmatch, found)):
        raise ValueError("not one digest for each part")
    return found


def _refusal(error: Mapping[str, Any], table: str) -> InvalidUpload:
    return InvalidUpload(
        error["code"],
        error["message"],
        table=table,
        row=error["row"],
        column=error["column"],
        broken_rows=[BrokenRow(line, reason) for line, reason in error["broken_rows"]],
        broken_count=error["broken_count"],
    )
