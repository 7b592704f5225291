"""What a layout consists of, as a document beside its files."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.algebra import scans_of, tables_of
from privacy.engines import duckdb
from privacy.engines.duckdb import STORED
from privacy.errors import PrivacyError
from privacy.layout.rows import LaidRows, over_rows
from privacy.layout.selections import selections
from privacy.layout.synopses import Synopsis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from privacy.algebra import Aggregate
    from privacy.layout.selections import Selection
    from privacy.policy import Policy

FORMAT = 1
DOCUMENT = "layout.json"
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
    """

    about: str
    tables: tuple[str, ...]
    parts: tuple[Part, ...]


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
    """

    folder: Path
    policy: Policy
    sources: Mapping[str, tuple[str, ...]]
    stored: Mapping[str, Stored]

    @classmethod
    def open(cls, folder: str | Path, policy: Policy) -> Layout:
        """Read a layout. Sizes of its files are compared; `checked` compares their bytes.

        Args:
            policy: whose questions it is to serve; what was stored for another one is not used.

        Raises:
            LayoutInvalid: it is none, or not whole.
        """
        path = Path(folder)
        try:
            document = json.loads((path / DOCUMENT).read_text(encoding="utf-8"))
            found = _read(path, policy, document)
            sizes = {part.file: (path / part.file).stat().st_size for part in found.files}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise LayoutInvalid("The folder holds no layout that can be read.") from None
        if any(sizes[part.file] != part.size for part in found.files):
            raise LayoutInvalid("A file of the layout has another size than it was built with.")
        return found

    @property
    def files(self) -> list[Part]:
        """All its files."""
        return [part for one in self.stored.values() for part in one.parts]

    def checked(self) -> Layout:
        """The layout, after its files' bytes were compared with what was built.

        Raises:
            LayoutInvalid: some were altered.
        """
        if any(sha256_of(self.folder / part.file) != part.sha256 for part in self.files):
            raise LayoutInvalid("A file of the layout was altered.")
        return self

    @cached_property
    def _selections(self) -> tuple[Selection, ...]:
        return tuple(one for one in selections(self.policy) if one.digest in self.stored)

    def serving(self, aggregate: Aggregate, files: Mapping[str, Sequence[str]]) -> Served | None:
        """How stored rows answer an aggregate over these files; None where they do not."""
        usable = [one for one in self._selections if self._holds(one, files)]
        for one in usable:
            sql = one.candidates_sql(aggregate) if isinstance(one, Synopsis) else None
            if sql is not None:
                return Served(sql, {STORED: self._paths(one)}, one.about)
        scanned = {scan.table for scan in scans_of(aggregate.input.input) if scan.unit is not None}
        laid = {one.table: one for one in usable if isinstance(one, LaidRows) and one.table in scanned}
        if not laid:
            return None
        moved = over_rows(aggregate, laid)
        read = {name: tuple(files[name]) for name in tables_of(moved.input.input)}
        read |= {name: self._paths(one) for name, one in laid.items()}
        about = " and ".join(one.about for one in laid.values())
        return Served(duckdb.candidates_sql(moved), read, about)

    def _holds(self, one: Selection, files: Mapping[str, Sequence[str]]) -> bool:
        """Whether the selection was stored of exactly these files, and still is there."""
        return all(name in files for name in one.tables) and self.is_of(one.tables, files)

    def _paths(self, one: Selection) -> tuple[str, ...]:
        return self.paths(self.stored[one.digest])

    def paths(self, one: Stored) -> tuple[str, ...]:
        """The files of stored rows."""
        return tuple(str(self.folder / part.file) for part in one.parts)

    def is_of(self, tables: Sequence[str], files: Mapping[str, Sequence[str]]) -> bool:
        """Whether it was made of exactly these files of the tables."""
        return all(self.sources.get(name.lower()) == digests_of(files[name]) for name in tables)


def _read(folder: Path, policy: Policy, document: dict[str, Any]) -> Layout:
    if document["format"] != FORMAT:
        raise ValueError("another format")
    stored = {
        name: Stored(one["about"], tuple(one["tables"]), tuple(Part(**part) for part in one["parts"]))
        for name, one in document["stored"].items()
    }
    if any(Path(part.file).name != part.file for one in stored.values() for part in one.parts):
        raise ValueError("a file outside of the folder")
    return Layout(folder, policy, {name: tuple(files) for name, files in document["sources"].items()}, stored)


def digests_of(paths: Sequence[str]) -> tuple[str, ...]:
    """SHA-256 of each file; a file that did not change is read once."""
    states = [(os.path.realpath(path), Path(path).stat()) for path in paths]
    return tuple(_remembered(path, state.st_size, state.st_mtime_ns) for path, state in states)


@lru_cache(maxsize=_FILES_REMEMBERED)
def _remembered(path: str, _size: int, _mtime_ns: int) -> str:
    return sha256_of(Path(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
