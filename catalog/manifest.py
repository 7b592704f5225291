"""A provider's ``listing.toml``: dataset, files, licence, price plans and privacy policy in one document.

Standard library only, so that the command line reads it where no server is installed. Unknown fields are
refused with the nearest known name. Policy and plans pass through as JSON documents: the packages that own
them check them when the dataset is published. Files must lie in the manifest's folder or below, so that a
manifest from somebody else cannot publish what it was never shown.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog import declarations
from catalog.errors import InvalidManifest, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELDS = ("slug", "title", "description", "keywords", "tables", "licence", "plans", "policy", "declarations")
_LICENCE_FIELDS = ("title", "text")
_SLUG = re.compile(r"[a-z0-9-]+/[a-z0-9-]+", re.ASCII)
_TABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)
_LARGEST_TEXT = 1 << 20
_MOST_TABLES = 100
_LONGEST = {"slug": 128, "title": 200, "description": 20_000}
_MOST_KEYWORDS = 50
_LONGEST_KEYWORD = 64


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence as the manifest states it.

    Attributes:
        title: its name; empty where a template's stands.
        text: what people accept, the whole of the text file; empty where a template's stands.
        terms: every other field (template, purposes, territories, attribution...), a JSON document.
    """

    title: str
    text: str
    terms: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest in good form. ``tables`` maps names to files, in document order.

    Read by :func:`read_manifest`, the files exist; read by :meth:`from_document`, their paths are bare names
    that somebody else's computer knows.
    """

    slug: str
    title: str
    description: str
    keywords: tuple[str, ...]
    tables: Mapping[str, Path]
    licence: Licence
    plans: tuple[dict[str, Any], ...]
    policy: dict[str, Any]
    declared: declarations.Declarations | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The manifest as one JSON document: licence text and policy inline, bare file names."""
        return {
            "slug": self.slug,
            "title": self.title,
            "description": self.description,
            "keywords": list(self.keywords),
            "tables": {name: path.name for name, path in self.tables.items()},
            "licence": {"title": self.licence.title, "text": self.licence.text, **self.licence.terms},
            "plans": list(self.plans),
            "policy": self.policy,
            **({"declarations": self.declared.document()} if self.declared else {}),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Manifest:
        """Check a :attr:`document` from elsewhere; opens no file. Raises :class:`InvalidManifest`."""
        plain = {str(name): _plain(value, str(name)) for name, value in document.items()}
        return _manifest(plain, None)


def read_manifest(path: Path | str) -> Manifest:
    """Read a ``listing.toml``. Raises :class:`InvalidManifest` with the path of the field that is wrong."""
    source = Path(path)
    return _manifest(_toml(source, ""), source.resolve().parent)


def _manifest(document: dict[str, Any], folder: Path | None) -> Manifest:
    for name in document:
        if name not in _FIELDS:
            raise InvalidManifest(name, f"is not a field of a manifest; {nearest(name, _FIELDS)}")
    slug = _text(document, "slug")
    if not _SLUG.fullmatch(slug):
        raise InvalidManifest("slug", "must be provider/dataset in lower-case letters, digits and hyphens")
    return Manifest(
        slug=slug,
        title=_text(document, "title"),
        description=_text(document, "description"),
        keywords=_keywords(document.get("keywords", [])),
        tables=_tables(document.get("tables"), folder),
        licence=_licence(document.get("licence"), folder),
        plans=_plans(document.get("plans")),
        policy=_policy(document.get("policy"), folder),
        declared=declarations.read(document.get("declarations")),
    )


def _toml(path: Path, where: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(_file_text(path, where))
    except tomllib.TOMLDecodeError as error:
        raise InvalidManifest(where, f"{path.name} is not TOML: {error}") from None
    return {name: _plain(value, f"{where}.{name}" if where else name) for name, value in document.items()}


def _file_text(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_TEXT + 1)
    except OSError as error:
        raise InvalidManifest(where, f"{path.name} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST_TEXT:
        raise InvalidManifest(where, f"{path.name} has more than {_LARGEST_TEXT:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidManifest(where, f"{path.name} is not UTF-8 text") from None


def _plain(value: Any, where: str) -> Any:
    """The value as JSON knows it: TOML's dates and times become ISO 8601 texts."""
    if isinstance(value, dict):
        return {name: _plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidManifest(where, "must be a finite number")
    return value


def _text(document: Mapping[str, Any], name: str, path: str = "") -> str:
    where = f"{path}.{name}" if path else name
    value = document.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidManifest(where, "must be given, as text")
    longest = _LONGEST.get(name, _LONGEST["title"])
    if len(value) > longest:
        raise InvalidManifest(where, f"must have at most {longest} characters")
    return value


def _keywords(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
        raise InvalidManifest("keywords", "must be a list of words")
    if len(value) > _MOST_KEYWORDS or any(len(item) > _LONGEST_KEYWORD for item in value):
        raise InvalidManifest(
            "keywords", f"must be at most {_MOST_KEYWORDS} words of {_LONGEST_KEYWORD} characters"
        )
    return tuple(value)


def _section(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise InvalidManifest(where, f"must be given, as a section [{where}]")
    return value


def _tables(value: Any, folder: Path | None) -> dict[str, Path]:
    section = _section(value, "tables")
    if len(section) > _MOST_TABLES:
        raise InvalidManifest("tables", f"must be at most {_MOST_TABLES}")
    if len({name.lower() for name in section}) < len(section):
        raise InvalidManifest("tables", "must have names that differ by more than letter case")
    tables = {}
    for name, file in section.items():
        where = f"tables.{name}"
        if not _TABLE.fullmatch(name):
            raise InvalidManifest(where, "must be named by a letter and up to 62 letters, digits or _")
        tables[name] = _beside(folder, file, where)
    return tables


def _beside(folder: Path | None, file: Any, where: str) -> Path:
    """A file in the manifest's folder or below; links are followed first."""
    if not isinstance(file, str) or not file or "\0" in file:
        raise InvalidManifest(where, "must be the name of a file beside the manifest")
    if folder is None:
        return Path(file.replace("\\", "/").rpartition("/")[2])
    path = (folder / file).resolve()
    if not path.is_relative_to(folder):
        raise InvalidManifest(where, "must lie in the manifest's folder or below it")
    if not path.is_file():
        raise InvalidManifest(where, f"there is no file {file}")
    return path


def _licence(value: Any, folder: Path | None) -> Licence:
    section = _section(value, "licence")
    terms = {name: item for name, item in section.items() if name not in _LICENCE_FIELDS}
    lent = "template" in terms  # then title and text stand in the template, unless they are written here
    text, title = section.get("text", "" if lent else None), ""
    if folder is not None and text:
        text = _file_text(_beside(folder, text, "licence.text"), "licence.text")
    if not isinstance(text, str) or not (text.strip() or lent) or len(text) > _LARGEST_TEXT:
        raise InvalidManifest("licence.text", "must not be empty or longer than a megabyte")
    if section.get("title") or not lent:
        title = _text(section, "title", "licence")
    return Licence(title=title, text=text, terms=terms)


def _plans(value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise InvalidManifest("plans", "must be given, as sections [[plans]]")
    names = [_text(plan, "name", f"plans[{index}]") for index, plan in enumerate(value)]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidManifest(f"plans[{index}].name", f"repeats the name `{name}`")
    return tuple(value)


def _policy(value: Any, folder: Path | None) -> dict[str, Any]:
    if isinstance(value, str) and folder is not None:
        value = _toml(_beside(folder, value, "policy"), "policy")
    return _section(value, "policy")
