"""Files beside the newest tree: partial tiles and bundles of earlier trees, which readers may still fetch,
and of the next one, whose checkpoint is not signed yet.

A partial file is the beginning of the file that replaced it, so that each one can be held against the newest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exchange.audit import tiles
from exchange.audit.errors import Malformed
from exchange.audit.report import ALTERED, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.audit.tiles import Folder

_PARTIAL = re.compile(r"(tile/(?:entries|[0-9]+)/(?:x[0-9]{3}/)*[0-9]{3})\.p/([0-9]{1,3})")


def strays(folder: Folder, size: int) -> Iterator[Finding]:
    """Files of the log's folder that are neither the beginning of what the tree of ``size`` leaves holds nor
    its continuation. What lies wholly behind that tree is held against nothing: nobody has signed it.
    """
    for path in sorted(folder.root.glob("tile/**/*")):
        name = path.relative_to(folder.root).as_posix()
        match = _PARTIAL.fullmatch(name)
        if match is None or not (width := _width(match[1], size)):
            continue
        try:
            held, signed = folder.read(name), tiles.find(folder, match[1], width)
        except Malformed as error:
            yield Finding(ALTERED, str(error), path=name)
            continue
        if held is None:
            continue  # the integrator removed it meanwhile
        pair = [held, signed[1] if signed else b""]
        earlier, later = reversed(pair) if int(match[2]) > width else pair
        if signed is None or not later.startswith(earlier):
            text = "The file is neither the beginning nor the continuation of the one that is signed."
            yield Finding(ALTERED, text, path=name)


def _width(full_path: str, size: int) -> int:
    _, level, number = full_path.split("/", 2)
    index = int(number.replace("x", "").replace("/", ""))
    return tiles.width_of(0 if level == "entries" else int(level), index, size)
