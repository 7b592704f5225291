"""Folders and files that web and worker processes share, which may be of two users in one group.

A home that is open to its group says that they are: what lies in it is for that group, too. Any other home
is its owner's alone, and so is what lies in it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def is_open_to_group(folder: Path) -> bool:
    """Whether the group of a folder may list and enter it."""
    return folder.stat().st_mode & 0o050 == 0o050


def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there, for those whom the folder around it is for."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        share(folder, 0o770)


def share(path: Path, mode: int) -> None:
    """Hand what this process made to those whom the folder around it is for.

    That is its owner and group, as far as this process may give it away: the superuser may, and so makes
    nothing that the exchange cannot read. The group's part of ``mode`` holds where the folder is open to
    that group. Raises PermissionError for what another user made.
    """
    around = path.parent.stat()
    for owner in (-1, around.st_uid):  # the group at least
        with contextlib.suppress(PermissionError):
            os.chown(path, owner, around.st_gid)
    shared = is_open_to_group(path.parent) and path.stat().st_gid == around.st_gid
    path.chmod(mode if shared else mode & 0o700)
