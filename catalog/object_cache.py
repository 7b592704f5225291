"""Copies of objects in a local folder that takes at most so many bytes, for several processes at once.

What is used is held by a shared lock on the file itself: it ends with its process, however that ends, and
whoever makes room removes nothing that he cannot lock alone. The longest unused go first. A tally beside the
copies says what they take; it is counted anew whenever room is made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.objects import require_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LEAST_COST = 64 << 10
"""A file counts as at least so many bytes: small ones are bounded in number, too."""
_DIGITS = 20


@dataclass(frozen=True)
class Held:
    """A copy that nobody removes until it is closed."""

    path: Path
    handle: int

    def close(self) -> None:
        """Let go of it."""
        os.close(self.handle)


class Draft:
    """A file that is being written, held by its writer. ``fits`` says whether there is room to keep it."""

    def __init__(self, path: Path, handle: int, fits: bool) -> None:
        self.path, self.handle, self.fits = path, handle, fits
        self._digest = hashlib.sha256()

    def write(self, block: bytes) -> None:
        """Add bytes."""
        self._digest.update(block)
        left = memoryview(block)
        while left:
            left = left[os.write(self.handle, left) :]

    def finish(self) -> str:
        """Have it on disk as it is; returns the SHA-256 of its bytes."""
        os.ftruncate(self.handle, os.lseek(self.handle, 0, os.SEEK_CUR))
        os.fchmod(self.handle, 0o440)
        os.fsync(self.handle)
        return self._digest.hexdigest()


class Cache:
    """The folder. Safe for several threads and processes; on a disk of this machine, for its locks."""

    def __init__(self, root: Path, max_bytes: int, *, clock_ns: Callable[[], int]) -> None:
        """``clock_ns`` tells the nanoseconds since 1970: when a copy was last used."""
        self._clock_ns = clock_ns
        self._root, self._incoming, self._max = Path(root), Path(root) / "incoming", max_bytes

    def hold(self, sha256: str) -> Held | None:
        """A copy that is here, as used a moment ago; None where there is none."""
        place = self._place(sha256)
        while True:
            try:
                handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            fcntl.flock(handle, fcntl.LOCK_SH)  # who holds it alone looks whether it may go: a moment
            try:
                state = os.fstat(handle)
                if os.path.samestat(state, place.stat()):
                    with contextlib.suppress(PermissionError):  # a copy that another user's process made
                        os.utime(handle, ns=(self._clock_ns(), state.st_mtime_ns))
                    return Held(place, handle)
            except FileNotFoundError:
                pass
            os.close(handle)  # it was removed, and perhaps made anew

    @contextlib.contextmanager
    def draft(self, size: int, *, needed: bool = True) -> Iterator[Draft]:
        """A file for ``size`` bytes, for which room is made; it is gone when the block is left, unless kept.

        Raises OSError (ENOSPC) where all that could go is in use; or hands out one that will not be kept, if
        it is not ``needed``.
        """
        with self._tally() as tally:
            fits = self._fit(tally, _cost(size))
            if needed and not fits:
                raise OSError(
                    errno.ENOSPC, "the copies in use leave no room: raise EXCHANGE_OBJECTS_CACHE_BYTES"
                )
            handle, name = tempfile.mkstemp(dir=self._incoming)
            os.fchmod(handle, 0o660)  # another user of the group looks whether it is held
            fcntl.flock(handle, fcntl.LOCK_SH)
            os.ftruncate(handle, size)
            tally.bytes += _cost(size) if fits else 0
        draft = Draft(Path(name), handle, fits)
        try:
            yield draft
        finally:
            if fits and os.fstat(handle).st_nlink == 1:  # not kept
                with contextlib.suppress(OSError), self._tally() as tally:
                    draft.path.unlink()  # while nobody counts
                    tally.bytes -= _cost(size)
            draft.path.unlink(missing_ok=True)
            os.close(handle)

    def keep(self, draft: Draft, sha256: str) -> Held:
        """Put a finished draft into its place, held; or hold the copy that another was first to make."""
        place = self._place(sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                os.link(draft.path, place)
            except FileExistsError:
                found = self.hold(sha256)
                if found is not None:
                    return found
            else:
                return Held(place, os.dup(draft.handle))  # with the draft's lock

    def drop(self, sha256: str) -> None:
        """Remove a copy that is not what its name promises; who has it open goes on with it."""
        self._place(sha256).unlink(missing_ok=True)

    def ensure_writable(self) -> None:
        """Raises OSError where nothing could be written now."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        require_room(self._incoming)

    def _place(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def _fit(self, tally: _Tally, more: int) -> bool:
        """Whether there is room for so many bytes more; made with a tenth to spare, where there was none."""
        if tally.bytes + more <= self._max:
            return True
        tally.bytes = self._evicted(max(0, self._max * 9 // 10 - more))
        return tally.bytes + more <= self._max

    def _evicted(self, most: int) -> int:
        """Remove what is not in use, the longest unused first, until ``most`` is left; returns what is."""
        # Drafts first, to the end: one that gets into its place meanwhile is met twice, and not missed.
        found = [_seen(path) for path in self._incoming.iterdir()]
        found += [_seen(path) for path in self._root.glob("??/??/*")]
        files = sorted(one for one in found if one is not None)
        left = sum(cost for _, cost, _ in files)
        for _, cost, path in files:
            draft = path.parent == self._incoming  # one that nobody holds is of a process that ended
            if (draft or left > most) and _removed(path):
                left -= cost
        return left

    @contextlib.contextmanager
    def _tally(self) -> Iterator[_Tally]:
        """What is taken, as nobody else changes it meanwhile."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._root / "tally", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            written = os.pread(handle, _DIGITS, 0)
            tally = _Tally(int(written) if len(written) == _DIGITS and written.isdigit() else self._max)
            yield tally
            os.pwrite(handle, b"%0*d" % (_DIGITS, max(0, tally.bytes)), 0)
        finally:
            os.close(handle)


@dataclass
class _Tally:
    """The bytes that are taken: never less than there are, and more only until room is made the next time."""

    bytes: int


def _cost(size: int) -> int:
    return max(size, _LEAST_COST)


def _seen(path: Path) -> tuple[int, int, Path] | None:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_atime_ns, _cost(found.st_size), path
    return None


def _removed(path: Path) -> bool:
    """Whether a file was removed here: not one that anybody holds, nor a draft that got into its place, nor
    one that another user's process keeps from this one.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except (BlockingIOError, FileNotFoundError, PermissionError):
        return False
    finally:
        os.close(handle)
    return True
