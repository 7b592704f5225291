"""What a layout consists of, as a document beside its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.algebra import scans_of, tables_of
from privacy.engines import duckdb
from privacy.engines.duckdb import LENGTHS, STORED
from privacy.errors import PrivacyError
from privacy.files import files_of
from privacy.layout.rows import LaidRows, over_rows
from privacy.layout.selections import selections, with_instead
from privacy.layout.synopses import Leaves, Synopsis
from privacy.sealed import derived, sealed
from privacy.shapes import TYPICAL, Shape, cheapest, in_order, plain, synopsis

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from privacy.algebra import Aggregate
    from privacy.files import Files
    from privacy.layout.wanted import Wanted
    from privacy.planned import PlannedRelease
    from privacy.policy import Policy
    from privacy.shapes import Sizes

FORMAT = 2
DOCUMENT = "layout.json"
OURS = re.compile(r"[0-9a-f]{24}-[0-9]{4}\.(parquet|unfinished)")
"""Names of files of stored rows, and of such in the making. Whatever else is in the folder is left alone."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a document raises that was damaged, or is none."""
_FILES_REMEMBERED = 4_096


class LayoutInvalid(PrivacyError):
    """A folder is no layout, or files of it are missing or were altered."""

    code = "layout_invalid"
    hint = "Build the layout anew; until then the plain files answer."


@dataclass(frozen=True)
class Part:
    """One Parquet file of stored rows: all rows of its units.

    Attributes:
        file: its name within the layout's folder.
        units: how many units it has rows of.
        sha256: of its bytes.
    """

    file: str
    rows: int
    units: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Stored:
    """The stored rows of one SELECT.

    Attributes:
        about: what it is, for people.
        tables: the private tables that it was made of.
        made_of: SHA-256 of each part of the stored rows that it was made of, if it was.
    """

    about: str
    tables: tuple[str, ...]
    parts: tuple[Part, ...]
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Served:
    """An exact part that reads stored rows.

    Attributes:
        files: by the names that the statement has for them.
        about: what is read, for people.
    """

    sql: str
    files: Mapping[str, tuple[str, ...]]
    about: str


@dataclass(frozen=True)
class Layout:
    """A built layout.

    Attributes:
        folder: where its files are.
        sources: SHA-256 of each file of each table that it was made of, by the table's name in lower case.
        stored: by the SHA-256 of the SELECT that made it: what another policy or another release of this
            package would select differently is not found, and so never used.
        states: what tells of each file whether it is the one that was opened.
        key: under which its files are encrypted, if they are.
    """

    folder: Path
    policy: Policy
    sources: Mapping[str, tuple[str, ...]]
    stored: Mapping[str, Stored]
    states: Mapping[str, tuple[int, int, int]] = field(default_factory=dict, repr=False)
    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def open(cls, folder: str | Path, policy: Policy, tables: Files | None = None) -> Layout:
        """Read a layout. Sizes of its files are compared; `checked` compares their bytes.

        Args:
            policy: whose questions it is to serve; what was stored for another one is not used.
            tables: files of every private table of the policy: of encrypted ones the layout is encrypted,
                under a key that comes from theirs.

        Raises:
            LayoutInvalid: it is none, or not whole.
        """
        path = Path(folder)
        try:
            document = json.loads((path / DOCUMENT).read_text(encoding="utf-8"))
            found = _read(path, policy, document)
            states = {part.file: _state(path / part.file) for part in found.files}
        except UNREADABLE:
            raise LayoutInvalid("The folder holds no layout that can be read.") from None
        if any(states[part.file][0] != part.size for part in found.files):
            raise LayoutInvalid("A file of the layout has another size than it was built with.")
        key = None if tables is None else key_of_layout(policy, tables)
        return replace(found, states=states, key=key)

    @property
    def files(self) -> list[Part]:
        """All its files."""
        return [part for one in self.stored.values() for part in one.parts]

    def checked(self) -> Layout:
        """The layout, after its files' bytes were compared with what was built.

        Raises:
            LayoutInvalid: some were altered, or are gone.
        """
        try:
            altered = any(sha256_of(self.folder / part.file) != part.sha256 for part in self.files)
        except OSError:
            raise LayoutInvalid("A file of the layout cannot be read.") from None
        if altered:
            raise LayoutInvalid("A file of the layout was altered.")
        return self

    @cached_property
    def _selections(self) -> tuple[Wanted, ...]:
        wanted = with_instead(selections(self.policy))
        return tuple(one for one in wanted if one.selected.digest in self.stored)

    def shapes(self, release: PlannedRelease) -> list[Shape]:
        """The ways in which an exact part may be read where this is a layout of the files, the cheapest
        first; the plain files are one."""
        aggregate, sizes = release.lowered.aggregate, release.choice.sizes
        there = [one for one in self._selections if self._whole(one)]
        found = [offer.shape for offer in self._offers(aggregate, sizes, there)]
        return cheapest([*found, plain(aggregate, sizes)])

    def serving(
        self, aggregate: Aggregate, files: Mapping[str, Sequence[str]], sizes: Sizes = TYPICAL
    ) -> Served | None:
        """How stored rows answer an aggregate over these files at the least cost; None where they do not.

        Args:
            sizes: how much there is to read, as far as a profile tells.
        """
        there = [one for one in self._selections if self._holds(one, files)]
        offers = self._offers(aggregate, sizes, there)
        if not offers:
            return None
        best = min(offers, key=lambda offer: offer.shape.seconds)
        read = {name: tuple(files[name]) for name in best.tables} | {
            name: self._paths(one) for name, one in best.stored.items()
        }
        return Served(best.sql(), read, best.shape.about)

    def _offers(self, aggregate: Aggregate, sizes: Sizes, there: Sequence[Wanted]) -> list[_Offer]:
        found = [_of_synopsis(one, there, aggregate, sizes) for one in there if isinstance(one, Synopsis)]
        scanned = {scan.table for scan in scans_of(aggregate.input.input) if scan.unit is not None}
        laid = {one.table: one for one in there if isinstance(one, LaidRows) and one.table in scanned}
        if laid:
            found.append(_of_rows(laid, aggregate, sizes))
        return [one for one in found if one is not None]

    def _holds(self, one: Wanted, files: Mapping[str, Sequence[str]]) -> bool:
        """Whether the selection was stored of exactly these files, and what was opened still is there."""
        try:
            return (
                all(name in files for name in one.tables)
                and self._whole(one)
                and self.is_of(one.tables, files)
                and all(
                    _state(self.folder / part.file) == self.states.get(part.file)
                    for part in self.stored[one.selected.digest].parts
                )
            )
        except OSError:
            return False

    def _whole(self, one: Wanted) -> bool:
        """Whether what it was made of is what is stored beside it."""
        if one.of is None:
            return True
        source = self.stored.get(one.of.selected.digest)
        made_of = self.stored[one.selected.digest].made_of
        return source is not None and made_of == tuple(part.sha256 for part in source.parts)

    def _paths(self, one: Wanted) -> tuple[str, ...]:
        return self.paths(self.stored[one.selected.digest])

    def paths(self, one: Stored) -> tuple[str, ...]:
        """The files of stored rows."""
        return tuple(sealed(self.folder / part.file, self.key) for part in one.parts)

    def is_of(self, tables: Sequence[str], files: Mapping[str, Sequence[str]]) -> bool:
        """Whether it was made of exactly these files of the tables."""
        return all(self.sources.get(name.lower()) == digests_of(files[name]) for name in tables)


def key_of_layout(policy: Policy, tables: Files) -> bytes | None:
    """The key of the layout of these files; None where those of all private tables are plain.

    Raises:
        TablesMissing: a private table's files were not given.
    """
    private = [table.name for table in policy.tables.values() if table.private]
    return derived(files_of(private, tables), private)


@dataclass(frozen=True)
class _Offer:
    """A shape that stored rows have, and how it is read.

    Attributes:
        stored: what is read of the layout, by the names that the statement has for it.
        tables: names of tables whose files are read.
    """

    shape: Shape
    sql: Callable[[], str]
    stored: Mapping[str, Wanted]
    tables: Collection[str] = ()


def _of_synopsis(one: Synopsis, there: Sequence[Wanted], aggregate: Aggregate, sizes: Sizes) -> _Offer | None:
    """How a synopsis answers, with the lengths of its units where they are stored."""
    lengths = next((other for other in there if other.of == one), None)
    known = one.known(aggregate, lengths=lengths is not None)
    if known is None:
        return None
    stored: dict[str, Wanted] = {STORED: one}
    if lengths is not None and known.lengths is not None:
        stored[LENGTHS] = lengths
    with_lengths, leaves = known.lengths is not None, isinstance(one, Leaves)
    shape = synopsis(one.about, aggregate, sizes, lengths=with_lengths, leaves=leaves)
    return _Offer(shape, partial(duckdb.candidates_sql, aggregate, known), stored)


def _of_rows(laid: Mapping[str, LaidRows], aggregate: Aggregate, sizes: Sizes) -> _Offer:
    """The statement over stored rows instead of tables."""
    moved, about = over_rows(aggregate, laid), " and ".join(one.about for one in laid.values())
    tables = tables_of(moved.input.input) - laid.keys()
    return _Offer(in_order(about, aggregate, sizes), partial(duckdb.candidates_sql, moved), laid, tables)


def _read(folder: Path, policy: Policy, document: dict[str, Any]) -> Layout:
    if document["format"] != FORMAT:
        raise ValueError("another format")
    stored = {
        name: Stored(one["about"], tuple(one["tables"]), tuple(parts_of(one)), tuple(one["made_of"]))
        for name, one in document["stored"].items()
    }
    return Layout(folder, policy, {name: tuple(files) for name, files in document["sources"].items()}, stored)


def parts_of(held: Mapping[str, Any]) -> list[Part]:
    """The parts that a document names.

    Raises:
        KeyError, TypeError: they are not written as they should be.
        ValueError: one is no file of a layout, be it of this folder or another.
    """
    parts = [Part(**part) for part in held["parts"]]
    if not all(OURS.fullmatch(part.file) and part.file.endswith(".parquet") for part in parts):
        raise ValueError("not a file of a layout")
    return parts


def _state(path: Path) -> tuple[int, int, int]:
    """Size, time of the last change, and which file it is: another when it was replaced."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def digests_of(paths: Sequence[str]) -> tuple[str, ...]:
    """SHA-256 of each file; a file that did not change is read once."""
    real = [os.path.realpath(path) for path in paths]
    return tuple(_remembered(path, _state(Path(path))) for path in real)


@lru_cache(maxsize=_FILES_REMEMBERED)
def _remembered(path: str, _as_it_is: tuple[int, int, int]) -> str:
    return sha256_of(Path(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
