"""A log in a zip file, read member by member; what may come from anybody, and so is refused where it is odd.

An honest zip of a log needs none of what attacks are made of: names that leave the folder, one name twice,
links, encryption, members that overlap or unpack to hundreds of times their size. Standard library alone.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO

from exchange.audit import checkpoint as checkpoints
from exchange.audit.errors import Malformed
from exchange.audit.tiles import MAX_FILE_BYTES, open_plain

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

MAX_MEMBERS = 200_000
"""A log of ten million entries has about 80,000 files."""
MAX_DIRECTORY_BYTES = 64 * 1024 * 1024
"""The zip's table of contents, which is the one part that is read at once."""
MAX_RATIO = 200
"""How much larger than packed a member may be: hashes do not shrink, entries shrink to a tenth or so."""

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_TAIL_BYTES = _END64.size + 20 + _END.size
"""The three records that a zip file ends with: the one of zip64, its locator, and the classic one."""
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_FILE_TYPES = (0, 0o100000, 0o040000)
"""No type (made on Windows), a plain file, a folder: no link, no device."""
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError)


class Archive:
    """A `Reader` of a zip file: members by their path, beneath one folder of it or at its top."""

    def __init__(self, path: Path | str, *, most_bytes: int = MAX_FILE_BYTES) -> None:
        """Opens the zip and looks at every member's name, size and kind, before any is unpacked.

        `most_bytes` is the largest size of a member that is read. Raises Malformed for a zip that is none,
        or that an honest program would not have made; OSError for a file that cannot be opened.
        """
        self._most_bytes = most_bytes
        self._file = open_plain(path)
        self._prefix = ""
        try:
            _check_directory_size(self._file)
            self._zip = zipfile.ZipFile(self._file)
            self.members = self._checked()
        except _BROKEN as error:
            self._file.close()
            raise Malformed(f"The zip file cannot be read: {type(error).__name__}.") from None
        except Malformed:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def beneath_checkpoint(self) -> Archive:
        """The same archive, read beneath the one folder that holds a checkpoint, where it is not the top.

        Raises:
            Malformed: more than one folder holds one.
        """
        folders = [name[: -len(checkpoints.PATH)] for name in self.members if _is_checkpoint(name)]
        if len(folders) > 1:
            raise Malformed("The zip file holds more than one log.")
        self._prefix = folders[0] if folders else ""
        return self

    def read(self, path: str) -> bytes | None:
        """The bytes under `path`, or None. Raises Malformed for a member that is too large or damaged."""
        member = self.members.get(self._prefix + path)
        if member is None:
            return None
        if member.file_size > self._most_bytes:
            raise Malformed(f"{path} is larger than any file of a log.")
        try:
            with self._zip.open(member) as file:
                data = file.read(member.file_size + 1)
        except _BROKEN:
            raise Malformed(f"{path} is damaged in the zip file.") from None
        if len(data) != member.file_size:
            raise Malformed(f"{path} does not have the size that the zip file says.")
        return data

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        found = self._zip.infolist()
        if len(found) > MAX_MEMBERS:
            raise Malformed("The zip file has too many members.")
        names = {member.filename.rstrip("/").casefold() for member in found}
        if len(names) != len(found):
            raise Malformed("The zip file has two members of one name.")
        end = 0
        for member in sorted(found, key=lambda one: one.header_offset):
            _check_member(member)
            if member.header_offset < end:
                raise Malformed("Members of the zip file overlap.")
            end = member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size
        if end > self._zip.start_dir:
            raise Malformed("Members of the zip file overlap.")
        return {member.filename: member for member in found if not member.is_dir()}


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = name.removesuffix("/").split("/")
    odd = not name.isascii() or not name.isprintable() or any(part in ("", ".", "..") for part in parts)
    if odd or name != member.orig_filename or "\\" in name or ":" in name or len(name) > 255:
        raise Malformed("A name in the zip file is not one of a file beneath its folder.")
    if member.external_attr >> 16 & 0o170000 not in _FILE_TYPES:
        raise Malformed("A member of the zip file is a link or a device.")
    if member.flag_bits & _ENCRYPTED or member.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):
        raise Malformed("A member of the zip file is encrypted or packed in an unusual way.")
    if member.file_size > MAX_RATIO * (member.compress_size + 64):
        raise Malformed("A member of the zip file unpacks to far more than it is.")


def _is_checkpoint(name: str) -> bool:
    return name.rpartition("/")[2] == checkpoints.PATH


def _check_directory_size(file: BinaryIO) -> None:
    """`zipfile` reads the table of contents at once, wherever the zip's last 98 bytes say, so they are held
    against limits first. A zip with a comment behind them is refused: readers differ on where it ends.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES).rjust(_TAIL_BYTES, b"\x00")
    signature, *_, length, _, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        raise Malformed("The file is not a zip file, or one with a comment.")
    if tail[_END64.size :].startswith(b"PK\x06\x07"):
        offset = int.from_bytes(tail[_END64.size + 8 : _END64.size + 16], "little")
        signature, *fields = _END64.unpack(tail[: _END64.size])
        if signature != b"PK\x06\x06" or offset != size - _TAIL_BYTES:
            raise Malformed("The zip file's last records do not stand where they belong.")
        length = fields[7]
    if length > MAX_DIRECTORY_BYTES:
        raise Malformed("The zip file's table of contents is too large.")
