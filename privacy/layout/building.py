"""Builds a layout part by part, so that neither memory nor a kill bounds how much can be laid out."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.engines.duckdb import NUMBER, STORED
from privacy.files import Files, check_private_files, files_of
from privacy.layout.cutting import Cut
from privacy.layout.documents import (
    DOCUMENT,
    FORMAT,
    OURS,
    UNREADABLE,
    Layout,
    LayoutInvalid,
    Part,
    digests_of,
    key_of_layout,
    parts_of,
    sha256_of,
)
from privacy.layout.selections import selections, with_instead
from privacy.sandbox import Limits, Sandbox, Task
from privacy.sealed import sealed, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from privacy.layout.wanted import Wanted
    from privacy.policy import Policy

ROWS_IN_PART = 4_000_000
"""A part has about so many rows: so much is lost with a kill, and read at a time when the rest is taken from
it."""
MAX_PARTS = 4_096
MAX_UNITS = 2**31 - 1
_ROW_GROUP = 122_880
_JOURNAL = "building.json"
_RESULT_BYTES = 2**40
LIMITS = Limits(cpu_s=14_400, timeout_s=7_200.0, file_bytes=2**40)


def layout(
    policy: Policy,
    tables: Files,
    folder: str | Path,
    *,
    sandbox: Sandbox | None = None,
    rows_in_part: int = ROWS_IN_PART,
    max_bytes: float = math.inf,
    progress: Callable[[str, float], None] | None = None,
) -> Layout:
    """Build the layout of a version, or what is missing of it, and verify it against the files.

    What an earlier call finished is kept: after a kill the next call goes on. A folder that is a layout of
    the same files already is opened. Of two calls at a time for one folder the second waits for the first.
    A layout of other files that is in the folder stays whole until this one is.

    Args:
        tables: files of every private table of the policy, by name.
        folder: where it is kept; made if it is not there.
        sandbox: where the engine runs, with limits that suffice; without one, a sandbox is made for this.
        rows_in_part: about how many rows a part has.
        max_bytes: the most that the stored files may take together. What would go past this is left out
            (`left_out`), and what is smaller may follow: without room for a table's rows, what is taken from
            them comes from the files.
        progress: told what is being built and how much of all is done, from 0 to 1, part by part. What it
            raises ends the call; what was finished is kept.

    Raises:
        TablesMissing: a private table's files were not given.
        TablesUnfit: a private table's file is not one that every question can be answered from.
        LayoutInvalid: what was built is not what the files hold, as when they changed meanwhile.
        EngineFailed: the engine did not finish.
        OSError: the folder cannot be written, as when the disk is full; what was finished is kept.
    """
    if sandbox is None:
        given: dict[str, Any] = {"rows_in_part": rows_in_part, "max_bytes": max_bytes, "progress": progress}
        with Sandbox(LIMITS, workers=1) as own:
            return layout(policy, tables, folder, sandbox=own, **given)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    private = [table.name for table in policy.tables.values() if table.private]
    key = key_of_layout(policy, tables)
    builder = _Builder(path, files_of(private, tables), sandbox, rows_in_part, max_bytes, key)
    wanted = selections(policy)

    def tell(place: int, part: float = 0.0) -> None:
        if progress is not None:
            about = wanted[place].about if place < len(wanted) else "done"
            progress(about, (place + part) / len(wanted) if wanted else 1.0)

    with _alone(path):
        builder.begin()
        for place, one in enumerate(wanted):
            tell(place)
            check_private_files(one.reading, builder.files, sandbox)
            builder.store(one, partial(tell, place))
        builder.finish(wanted)
        tell(len(wanted))
        return Layout.open(path, policy, tables)


def left_out(folder: str | Path) -> dict[str, str]:
    """What there was no room for in a built layout, for people, by what names it.

    Raises:
        LayoutInvalid: the folder holds no layout that can be read.
    """
    try:
        document = json.loads((Path(folder) / DOCUMENT).read_text(encoding="utf-8"))
        return {name: str(one["about"]) for name, one in document["left_out"].items()}
    except UNREADABLE:
        raise LayoutInvalid("The folder holds no layout that can be read.") from None


def is_complete(layout: Layout) -> bool:
    """Whether all is stored, or was left out, that this release of the package would store.

    Raises:
        LayoutInvalid: the folder holds no layout that can be read.
    """
    settled = {*layout.stored, *left_out(layout.folder)}
    return all(
        any(either.selected.digest in settled for either in with_instead([one]))
        for one in selections(layout.policy)
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else builds in the folder meanwhile; whoever ends, however, lets go of it."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


class _NoRoom(Exception):
    """A selection takes more bytes than are left; at least so many."""

    def __init__(self, found: int) -> None:
        super().__init__()
        self.bytes = found


@dataclass
class _Builder:
    """The layout in the making: its journal grows with every part."""

    folder: Path
    files: Mapping[str, tuple[str, ...]]
    sandbox: Sandbox
    rows_in_part: int
    room: float
    key: bytes | None

    def begin(self) -> None:
        """Take up what was finished of the same files; remove what is of others, or unfinished."""
        self.kept: list[str] = []
        self.sources = {name.lower(): list(digests_of(paths)) for name, paths in self.files.items()}
        self.done: dict[str, dict[str, Any]] = {}
        self.left: dict[str, dict[str, Any]] = {}
        for name in (DOCUMENT, _JOURNAL):
            with contextlib.suppress(*UNREADABLE):
                found = json.loads((self.folder / name).read_text(encoding="utf-8"))
                if (found["format"], found["sources"]) == (FORMAT, self.sources):
                    self.done |= {digest: _sane(held) for digest, held in found["stored"].items()}
                    self.left |= {
                        digest: {"about": str(one["about"]), "bytes": int(one["bytes"])}
                        for digest, one in found["left_out"].items()
                    }

    def store(self, one: Wanted, tell: Callable[[float], None]) -> None:
        """Build a selection where there is room for it; of one that is left out nothing stays.

        How large it is at least is kept, so that it is not tried again before there is more room.
        """
        digest = one.selected.digest
        if one.of is not None and one.of.selected.digest not in self.done:
            if one.instead is not None:
                return self.store(one.instead, tell)
            self.left[digest] = {"about": one.about, "bytes": 0}
            return None
        made_of = self._made_of(one)
        if digest not in self.done or self.done[digest]["made_of"] != made_of:
            begun = {"about": one.about, "tables": list(one.tables), "parts": [], "made_of": made_of}
            self.done[digest] = begun
        held = self.done[digest]
        known = self.left.pop(digest, {"bytes": 0})["bytes"]
        try:
            self._require(known)
            self.room -= self._stored(one, held, tell)
            self.kept.append(digest)
            if one.instead is not None:
                self.left.pop(one.instead.selected.digest, None)
        except _NoRoom as found:
            del self.done[digest]
            self.left[digest] = {"about": one.about, "bytes": found.bytes}
            self._write(_JOURNAL)
            for part in parts_of(held):
                (self.folder / part.file).unlink(missing_ok=True)

    def _stored(self, one: Wanted, held: dict[str, Any], tell: Callable[[float], None]) -> int:
        """Build the parts of a selection that are not there yet, and compare them with what they are of;
        their bytes.

        Raises:
            _NoRoom: they are more than there is room for.
        """
        parts = self._sound(held)
        self._require(sum(part.size for part in parts))
        with contextlib.closing(self._missing(one, held, parts)) as missing:
            for batches in missing:
                parts.append(self._part(one, parts, batches))
                held |= {"parts": [asdict(part) for part in parts], "verified": False}
                self._write(_JOURNAL)
                tell(_share(held, parts))
        held["count"] = len(parts)
        if not held.get("verified"):
            self._verify(one, parts)
            held["verified"] = True
            self._write(_JOURNAL)
        return sum(part.size for part in parts)

    def _missing(
        self, one: Wanted, held: dict[str, Any], parts: Sequence[Part]
    ) -> Generator[Iterator[pa.RecordBatch]]:
        """The rows of each part that is not there yet. Each is to be read before the next is asked for.

        What is sorted comes in one stream, also after a kill: of the units after the last one that is stored.
        """
        if one.of is not None:
            held["count"] = len(held["made_of"])
            for place in range(len(parts), held["count"]):
                task = Task(one.selected.numbered_sql(), self._files(one, place), {}, _RESULT_BYTES)
                with contextlib.closing(self.sandbox.batches(task)) as batches:
                    yield batches
        elif len(parts) != held.get("count"):
            held["rows"] = self._asked(one.selected.count_sql(), one)["rows"]
            task = Task(
                one.selected.sorted_sql(after=bool(parts)), self._beside(one, parts), {}, _RESULT_BYTES
            )
            with contextlib.closing(self.sandbox.batches(task)) as batches:
                cut = Cut(batches, sum(part.units for part in parts), self.rows_in_part)
                while cut.more or not parts:
                    yield cut.part()

    def _beside(self, one: Wanted, parts: Sequence[Part]) -> dict[str, tuple[str, ...]]:
        """What a selection reads, and the last of its parts."""
        last = {STORED: (self._path(parts[-1]),)} if parts else {}
        return self._files(one) | last

    def _require(self, found: int) -> None:
        if found > self.room:
            raise _NoRoom(found)

    def _made_of(self, one: Wanted) -> list[str]:
        """What the parts of a selection are made of, where that is stored rows: a part of each part."""
        return [] if one.of is None else [part.sha256 for part in self._parts(one.of)]

    def _parts(self, one: Wanted) -> list[Part]:
        return parts_of(self.done[one.selected.digest])

    def finish(self, wanted: Sequence[Wanted]) -> None:
        """Write the document, once all is there; what nothing names any more is removed."""
        self.done = {digest: self.done[digest] for digest in self.kept}
        digests = {one.selected.digest for one in with_instead(wanted)}
        self.left = {digest: left for digest, left in self.left.items() if digest in digests}
        self._write(DOCUMENT)
        kept = {part["file"] for one in self.done.values() for part in one["parts"]}
        for stray in self.folder.iterdir():
            if OURS.fullmatch(stray.name) and stray.name not in kept:
                stray.unlink(missing_ok=True)
        for name in (_JOURNAL, _unfinished(_JOURNAL), _unfinished(DOCUMENT)):
            (self.folder / name).unlink(missing_ok=True)

    def _sound(self, held: dict[str, Any]) -> list[Part]:
        """The finished parts, up to the first that is not as it was written."""
        parts: list[Part] = []
        for part in parts_of(held):
            path = self.folder / part.file
            if not path.is_file() or sha256_of(path) != part.sha256:
                break
            parts.append(part)
        return parts

    def _part(self, one: Wanted, before: Sequence[Part], batches: Iterator[pa.RecordBatch]) -> Part:
        """Write the part after these, or nothing of it.

        Its name is its own among layouts of other files, so that it takes the place of no part of those.
        """
        place, first = len(before), sum(part.units for part in before)
        taken = sum(part.size for part in before)
        path = self.folder / f"{self._name(one)}-{place:04d}.parquet"
        unfinished = path.with_suffix(".unfinished")
        if place >= MAX_PARTS:
            raise LayoutInvalid("There are more parts than a layout can have.")
        try:
            rows, last = _written(unfinished, batches, lambda size: self._require(taken + size), self.key)
            units = 0 if last is None else last + 1 - first
            if first + units > MAX_UNITS:
                raise LayoutInvalid("There are more units than a layout can number.")
            made = Part(path.name, rows, units, unfinished.stat().st_size, sha256_of(unfinished))
            self._require(taken + made.size)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return made

    def _verify(self, one: Wanted, parts: list[Part]) -> None:
        """Compare what is stored with what it was made of: rows, values, and who has which number.

        Raises:
            LayoutInvalid: they differ. The parts are removed.
        """
        unchanged = all(
            list(digests_of(self.files[name])) == self.sources[name.lower()] for name in one.tables
        )
        if unchanged and self._alike(one, parts):
            return
        for part in parts:
            (self.folder / part.file).unlink(missing_ok=True)
        raise LayoutInvalid(f"What was stored of {one.about} is not what the files hold.")

    def _alike(self, one: Wanted, parts: Sequence[Part]) -> bool:
        """Whether the stored rows are those of the SELECT: in all, or part by part where it reads parts."""
        stored = [self._path(part) for part in parts]
        if one.of is None:
            read = {STORED: tuple(stored)}
            if not self._run(one.selected.numbering_sql(STORED), read)["fit"]:
                return False
            return self._same(one, self._files(one), read, sum(part.rows for part in parts))
        return all(
            self._same(one, self._files(one, place), {STORED: (path,)}, parts[place].rows)
            for place, path in enumerate(stored)
        )

    def _same(
        self,
        one: Wanted,
        read: Mapping[str, tuple[str, ...]],
        stored: Mapping[str, tuple[str, ...]],
        rows: int,
    ) -> bool:
        source = self._run(one.selected.fingerprint_sql(), read)
        found = self._run(one.selected.fingerprint_sql(STORED), stored)
        return source == found and found["rows"] == rows

    def _name(self, one: Wanted) -> str:
        """Names the stored rows of a selection of these files."""
        named = json.dumps([one.selected.digest, *(self.sources[name.lower()] for name in one.tables)])
        return hashlib.sha256(named.encode()).hexdigest()[:24]

    def _asked(self, sql: str, one: Wanted) -> dict[str, Any]:
        return self._run(sql, self._files(one))

    def _run(self, sql: str, files: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
        row: dict[str, Any] = self.sandbox.run(Task(sql, files)).to_pylist()[0]
        return row

    def _files(self, one: Wanted, place: int | None = None) -> dict[str, tuple[str, ...]]:
        """What a selection reads; for one part of it."""
        if one.of is None:
            return {name: self.files[name] for name in one.tables}
        parts = self._parts(one.of)[slice(None) if place is None else slice(place, place + 1)]
        return {one.of.called: tuple(self._path(part) for part in parts)}

    def _path(self, part: Part) -> str:
        return sealed(self.folder / part.file, self.key)

    def _write(self, name: str) -> None:
        """A document in the place of the one before, or that one."""
        kept = {"stored": self.done, "left_out": self.left}
        document = {"format": FORMAT, "sources": self.sources, **kept}
        unfinished = self.folder / _unfinished(name)
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.folder / name)


def _share(held: Mapping[str, Any], parts: Sequence[Part]) -> float:
    """How much of a selection is stored."""
    whole: int = held["rows"] if "rows" in held else held["count"]
    stored = sum(part.rows for part in parts) if "rows" in held else len(parts)
    return min(stored / max(whole, 1), 1.0)


def _unfinished(name: str) -> str:
    return f"{name}.unfinished"


def _sane(held: dict[str, Any]) -> dict[str, Any]:
    """What a document says of a selection's stored rows.

    Raises:
        KeyError, TypeError, ValueError: it is not written as it should be.
    """
    parts = [asdict(part) for part in parts_of(held)]
    named = {name: list(held[name]) for name in ("tables", "made_of")} | {"about": str(held["about"])}
    if "count" not in held:
        return {**named, "parts": parts, "verified": False}
    count = int(held["count"])
    if not len(parts) <= count <= MAX_PARTS:
        raise ValueError("more parts than there can be")
    verified = held["verified"] is True
    return {**named, "parts": parts, "count": count, "verified": verified}


def _written(
    path: Path, batches: Iterator[pa.RecordBatch], require: Callable[[int], None], key: bytes | None
) -> tuple[int, int | None]:
    """Write the batches in row groups of an even size: how many rows there were, the last unit's number.

    An empty batch comes first, from which a part without rows has its columns. ``require`` is told how many
    bytes there are after each row group, and raises where that is too many.
    """
    rows, last = 0, None
    held = [next(batches)]
    with pq.ParquetWriter(path, held[0].schema, compression="snappy", **writing(key)) as writer:
        for batch in batches:
            held.append(batch)
            if sum(one.num_rows for one in held) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(held))
                require(path.stat().st_size)
                held = []
            rows += batch.num_rows
            if batch.num_rows:
                last = batch.column(NUMBER)[-1].as_py()
        if held:
            writer.write_table(pa.Table.from_batches(held))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return rows, last
