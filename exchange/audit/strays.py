"""Files beside the newest tree: earlier partial tiles and bundles, which readers may still fetch.

A partial file is the beginning of the file that replaced it, so that each one can be held against the newest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exchange.audit import tiles
from exchange.audit.report import ALTERED, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.audit.tiles import Folder

_PARTIAL = re.compile(r"(tile/(?:entries|[0-9]+)/(?:x[0-9]{3}/)*[0-9]{3})\.p/([0-9]{1,3})")


def strays(folder: Folder, size: int) -> Iterator[Finding]:
    """Files of the log's folder that are not the beginning of what the tree of ``size`` leaves now holds."""
    for path in sorted(folder.root.glob("tile/**/*")):
        if path.is_dir():
            continue
        name = path.relative_to(folder.root).as_posix()
        match = _PARTIAL.fullmatch(name)
        if match is None:
            continue
        newest = _newest(folder, match[1], size)
        if newest is None or not newest.startswith(path.read_bytes()):
            yield Finding(ALTERED, "The file is not the beginning of the one that replaced it.", path=name)


def _newest(folder: Folder, full_path: str, size: int) -> bytes | None:
    """The widest file of a tile or bundle that belongs to the tree of ``size`` leaves."""
    found = tiles.find(folder, full_path, _width(full_path, size))
    return None if found is None else found[1]


def _width(full_path: str, size: int) -> int:
    _, level, number = full_path.split("/", 2)
    index = int(number.replace("x", "").replace("/", ""))
    return tiles.width_of(0 if level == "entries" else int(level), index, size)
