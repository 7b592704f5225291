"""A zip in one spelling: members are stored as they are, with no time, no comment and nothing between them.

Names and contents determine every byte of such a file (PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and
4.3.16), so that a reader can demand exactly these bytes. Nothing is compressed: no member is larger than the
file, and there is no bomb to defuse. Any unzip program opens it. Standard library alone.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.audit.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO

MOST_MEMBERS, MOST_BYTES = 60_000, (1 << 32) - (1 << 20)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_LONGEST_NAME, _CHUNK = 120, 1 << 20
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_LOCAL_SIGN, _CENTRAL_SIGN, _END_SIGN = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_DATE = 0x21  # 1980-01-01, the first day that a zip knows
_NEEDED, _MADE_BY, _MODE = 20, 0x0314, 0o100644 << 16


@dataclass(frozen=True)
class Member:
    """A member: its name, its size and CRC-32, and where its bytes begin in the file."""

    name: str
    size: int
    crc: int
    begins: int


class Writer:
    """Writes members one after the other into a file that can be sought in; `close` ends it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._members: list[Member] = []

    def add(self, name: str, parts: Iterable[bytes]) -> tuple[str, int]:
        """Write a member; returns the SHA-256 of its bytes, in hex, and their number. Raises Malformed."""
        if not _is_name(name) or len(self._members) >= MOST_MEMBERS:
            raise Malformed("The zip cannot hold a member of this name, or has too many.")
        before = self._file.tell()
        self._file.write(_local(name, 0, 0))
        begins, size, crc, digest = self._file.tell(), 0, 0, hashlib.sha256()
        for part in parts:
            self._file.write(part)
            size, crc = size + len(part), zlib.crc32(part, crc)
            digest.update(part)
            if begins + size > MOST_BYTES:
                raise Malformed("The zip would be too large.")
        self._file.seek(before)
        self._file.write(_local(name, size, crc))
        self._file.seek(begins + size)
        self._members.append(Member(name, size, crc, begins))
        return digest.hexdigest(), size

    def close(self) -> None:
        """Write the directory of members."""
        self._file.write(_directory(self._members, self._file.tell()))


def members(file: IO[bytes]) -> list[Member]:
    """The members of a zip whose every byte outside of them is as `Writer` writes it.

    Raises Malformed for any other file, also for one that any unzip program would open.
    """
    length = file.seek(0, 2)
    if length > MOST_BYTES + _CHUNK * 16:
        raise Malformed("The file is too large for a zip of this kind.")
    file.seek(0)
    found: list[Member] = []
    while (head := file.read(_LOCAL.size))[:4] == _LOCAL_SIGN:
        found.append(_member(file, head, length))
        if len(found) > MOST_MEMBERS:
            raise Malformed("The zip has too many members.")
        file.seek(found[-1].begins + found[-1].size)
    if len({member.name for member in found}) != len(found):
        raise Malformed("The zip has two members of one name.")
    ends = found[-1].begins + found[-1].size if found else 0
    directory = _directory(found, ends)
    file.seek(ends)
    if length - ends != len(directory) or file.read(len(directory) + 1) != directory:
        raise Malformed("The zip's directory does not say what its members say, or the file was cut.")
    return found


def parts(file: IO[bytes], member: Member) -> Iterator[bytes]:
    """The bytes of a member. Raises Malformed, at their end, where they do not have its CRC-32."""
    left, crc = member.size, 0
    position = member.begins
    while left:
        file.seek(position)
        part = file.read(min(_CHUNK, left))
        if not part:
            break
        left, crc, position = left - len(part), zlib.crc32(part, crc), position + len(part)
        yield part
    if left or crc != member.crc:
        raise Malformed(f"The bytes of {member.name} are not those that the zip counted.")


def _member(file: IO[bytes], head: bytes, length: int) -> Member:
    if len(head) < _LOCAL.size:
        raise Malformed("The zip ends inside a member.")
    crc, size, length_of_name = (_LOCAL.unpack(head)[place] for place in (6, 8, 9))
    data = file.read(min(length_of_name, _LONGEST_NAME + 1))
    name = data.decode("ascii", "replace")
    begins = file.tell()
    if not _is_name(name) or _local(name, size, crc) != head + data:
        raise Malformed("A member of the zip is not stored in the one way that is read here.")
    if begins + size > length:
        raise Malformed("The zip ends inside a member.")
    return Member(name, size, crc, begins)


def _is_name(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def _local(name: str, size: int, crc: int) -> bytes:
    data = name.encode("ascii")
    return _LOCAL.pack(_LOCAL_SIGN, _NEEDED, 0, 0, 0, _DATE, crc, size, size, len(data), 0) + data


def _directory(found: Sequence[Member], begins: int) -> bytes:
    entries = []
    for member in found:
        data = member.name.encode("ascii")
        at = member.begins - _LOCAL.size - len(data)
        sizes = (member.crc, member.size, member.size)
        head = (_CENTRAL_SIGN, _MADE_BY, _NEEDED, 0, 0, 0, _DATE, *sizes, len(data), 0, 0, 0, 0, _MODE, at)
        entries.append(_CENTRAL.pack(*head) + data)
    listed = b"".join(entries)
    return listed + _END.pack(_END_SIGN, 0, 0, len(found), len(found), len(listed), begins, 0)
