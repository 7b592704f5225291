"""Folders to work in, which hold what nobody else may see and are gone afterwards, however a process ends.

Whoever works in one holds a lock on a file inside it. The kernel lets go of the lock with the process, so
that a folder without one is of a process that died: the next one that comes along removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRAFT, _IN_USE, _LOCK = "new-", "ingest-", "in-use"


@contextlib.contextmanager
def working(scratch: Path) -> Iterator[Path]:
    """A folder below ``scratch`` for as long as the block lasts."""
    clear(scratch)
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=scratch))
    try:
        with (folder / _LOCK).open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            # It has its name only now, so that nobody ever meets one whose lock is still to be taken.
            folder = folder.rename(scratch / folder.name.replace(_DRAFT, _IN_USE, 1))
            yield folder
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear(scratch: Path) -> int:
    """Remove the folders of processes that died; returns how many. Whatever cannot be removed stays."""
    return sum(map(_cleared, scratch.glob(f"{_IN_USE}*")))


def _cleared(folder: Path) -> bool:
    # An OSError says that somebody works in it, or that it was removed meanwhile.
    with contextlib.suppress(OSError), (folder / _LOCK).open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
        return True
    return False
