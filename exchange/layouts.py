"""Layouts on disk: a folder for what each is of, the state it is in, and those that are open.

A folder is named by the files and the declared tables that its layout is of. Versions that differ in price or
licence alone share it; a version of other files, or under another policy, has another. All of it is a cache:
whoever removes it, at any time, makes answers slower and changes none of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import queue
import re
import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from exchange import sharing
from exchange.store import assert_outside_transaction
from privacy import Layout, LayoutInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from catalog.listings import ListedTable, ListingView
    from privacy import Policy, Sandbox

    Files = Mapping[str, tuple[str, ...]]
    Hold = Callable[[], AbstractContextManager[Files]]

NONE, BUILDING, READY, FAILED = "none", "building", "ready", "failed"
MAX_OPEN = 256
"""Layouts that one process keeps open: what they consist of, not their rows."""
_DOCUMENT, _STATE, _LOCK, _DROPPED = "layout.json", "state.json", "lock", "dropped"
_NAME = re.compile(r"[0-9a-f]{32}")
_LOG = logging.getLogger("exchange.layouts")


@dataclass(frozen=True)
class State:
    """How far a layout is.

    Attributes:
        state: none, building, ready or failed.
        reason: code of why there is none, or why it failed; empty where the state says all.
        done: the part of it that is built, from 0 to 1.
        about: what is being built.
        at: when this was noted; ISO 8601.
        bytes: of its files.
        left_out: what there was no room for.
    """

    state: str = NONE
    reason: str = ""
    done: float = 0.0
    about: str = ""
    at: str = ""
    bytes: int = 0
    left_out: tuple[str, ...] = ()

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> State:
        """Read a kept state. Raises KeyError, TypeError or ValueError where it is none."""
        if document["state"] not in (BUILDING, READY, FAILED):
            raise ValueError("not a state that is kept")
        if datetime.fromisoformat(document["at"]).tzinfo is None:
            raise ValueError("a time needs its zone")
        return cls(
            state=document["state"],
            reason=str(document["reason"]),
            done=min(max(float(document["done"]), 0.0), 1.0),
            about=str(document["about"]),
            at=str(document["at"]),
            bytes=int(document["bytes"]),
            left_out=tuple(map(str, document["left_out"])),
        )


def name_of(view: ListingView) -> str:
    """The name of a version's layout; empty where it has no private table, and so none."""
    if all(table.public for table in view.tables):
        return ""
    files = {table.name: _stored(table) for table in view.tables}
    # Whoever writes to the store itself may leave something else there.
    tables = view.policy.get("tables") if isinstance(view.policy, dict) else None
    of = json.dumps([tables, files], sort_keys=True)
    return hashlib.sha256(of.encode()).hexdigest()[:32]


def _stored(table: ListedTable) -> list[str]:
    """The objects that hold a table's files."""
    return [sealed or plain for plain, sealed in zip(table.objects, table.stored, strict=True)]


class Layouts:
    """The layouts of an exchange, under one folder. Safe for several threads and processes at once."""

    def __init__(self, root: Path, start: Callable[[], Sandbox]) -> None:
        """``start`` makes the sandbox in which layouts are built."""
        self._root = root
        self._start = start
        self._opened: OrderedDict[str, tuple[object, Layout | None]] = OrderedDict()
        self._asked: set[str] = set()
        self._jobs: queue.SimpleQueue[tuple[str, Policy, Hold]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._sandboxes: list[Sandbox] = []
        self._closed = False
        self._mutex = threading.Lock()

    # what there is

    def folder(self, name: str) -> Path:
        """Where a layout is, or would be."""
        return self._root / name

    def names(self) -> set[str]:
        """All that have a folder. Whatever else is there is left alone."""
        with contextlib.suppress(FileNotFoundError):
            return {path.name for path in self._root.iterdir() if _NAME.fullmatch(path.name)}
        return set()

    def state(self, name: str) -> State:
        """The state of a layout. One that nobody is building any more was interrupted."""
        assert_outside_transaction()
        folder = self.folder(name)
        if (folder / _DROPPED).exists():
            return State(NONE, "dropped")
        try:
            kept = State.from_document(json.loads((folder / _STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return State()
        if kept.state == BUILDING and not self._is_held(name):
            return dataclasses.replace(kept, state=NONE, reason="interrupted")
        return State() if kept.state == READY and self._seen(name) is None else kept

    def room(self, name: str, most: int) -> int:
        """The bytes that a layout may take: ``most``, and at most half of what the disk has for it."""
        sharing.make_folder(self._root)
        taken = sum(path.stat().st_size for path in self.folder(name).glob("*.parquet"))
        return min(most, (shutil.disk_usage(self._root).free + taken) // 2)

    # what changes it

    @contextlib.contextmanager
    def alone(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Whether nobody else changes the layout meanwhile; with ``wait`` it is so in the end.

        A process that ends, however, lets go of it.
        """
        assert_outside_transaction()
        with contextlib.ExitStack() as stack:
            yield self._held(name, stack, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def note(self, name: str, state: State) -> None:
        """Keep the state of a layout, in place of the one before."""
        folder = self.folder(name)
        unfinished = folder / f"{_STATE}.unfinished"
        unfinished.write_text(json.dumps(dataclasses.asdict(state)), encoding="utf-8")
        unfinished.replace(folder / _STATE)

    @contextlib.contextmanager
    def sandbox(self) -> Iterator[Sandbox]:
        """A sandbox to build in: a task may take longer there than a query, and other memory."""
        assert_outside_transaction()
        with self._start() as made:
            with self._mutex:
                self._sandboxes.append(made)
                if self._closed:
                    made.close()
            try:
                yield made
            finally:
                with self._mutex:
                    self._sandboxes.remove(made)

    def close(self) -> None:
        """End what is being built in this process, now and later: its tasks fail."""
        with self._mutex:
            self._closed = True
            for made in self._sandboxes:
                made.close()

    def drop(self, name: str) -> None:
        """Remove a layout. It stays removed until `want` is called: whoever builds it is told to stop."""
        assert_outside_transaction()
        self._make(name)
        (self.folder(name) / _DROPPED).touch()
        with self.alone(name, wait=True):
            self.clear(name)

    def want(self, name: str) -> None:
        """Take back that it was dropped."""
        (self.folder(name) / _DROPPED).unlink(missing_ok=True)

    def is_dropped(self, name: str) -> bool:
        """Whether it was dropped, and not wanted since."""
        return (self.folder(name) / _DROPPED).exists()

    def clear(self, name: str) -> None:
        """Remove everything of a layout but who has it, and that it was dropped."""
        for path in self.folder(name).iterdir():
            if path.name not in (_LOCK, _DROPPED):
                path.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a layout that no version on offer has; not while somebody changes it."""
        with self.alone(name, wait=False) as mine:
            if mine:
                shutil.rmtree(self.folder(name), ignore_errors=True)

    # what answers

    def serving(self, name: str, policy: Policy, hold: Hold) -> Layout | None:
        """The layout to answer from, at once: None while there is none that was checked.

        Whoever asks for one that was not checked yet has it checked beside, for those who ask later; ``hold``
        gives the files that it is of, for as long as they are read.
        """
        assert_outside_transaction()
        seen = self._seen(name)
        if seen is None:
            return None
        with self._mutex:
            known = self._opened.get(name)
            if known is not None and known[0] == seen:
                self._opened.move_to_end(name)
                return known[1]
            if name not in self._asked:
                self._asked.add(name)
                self._jobs.put((name, policy, hold))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._take_all, name="layouts", daemon=True)
                    self._thread.start()
        return None

    def take(self, name: str, policy: Policy, hold: Hold) -> Layout | None:
        """Open a layout, read it whole, compare it with its document and its sources, and remember it.

        None where it cannot be used: that is remembered too, until the layout is built anew; but not where it
        is its files that cannot be had at the moment.
        """
        assert_outside_transaction()
        seen = self._seen(name)
        found = None
        try:
            with hold() as files:
                try:
                    if seen is not None:
                        found = checked(self.folder(name), policy, files)
                except (LayoutInvalid, OSError) as error:
                    _LOG.warning("the layout %s is not used: %s", name, type(error).__name__)
            self._remember(name, seen, found)
        finally:
            with self._mutex:
                self._asked.discard(name)
        return found

    def _remember(self, name: str, seen: object, found: Layout | None) -> None:
        with self._mutex:
            self._opened[name] = (seen, found)
            self._opened.move_to_end(name)
            while len(self._opened) > MAX_OPEN:
                self._opened.popitem(last=False)

    def _take_all(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # of one layout: the others are still to be taken
                self.take(*self._jobs.get())

    def _seen(self, name: str) -> tuple[int, int, int] | None:
        """What tells whether a layout was built anew; None where it is not there."""
        try:
            found = (self.folder(name) / _DOCUMENT).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ino

    def _make(self, name: str) -> None:
        """Make a layout's folder: one process builds in it, those of another user may answer from it."""
        sharing.make_folder(self._root)
        sharing.make_folder(self.folder(name))

    def _held(self, name: str, stack: contextlib.ExitStack, how: int) -> bool:
        """Take the lock, and let go of it with the stack."""
        path = self.folder(name) / _LOCK
        while True:
            try:
                self._make(name)
                opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:  # whoever had it removed the folder a moment ago
                continue
            with contextlib.ExitStack() as mine:
                mine.callback(os.close, opened)
                try:
                    with contextlib.suppress(PermissionError):  # whoever made it shared it
                        sharing.share(path, 0o660)
                    fcntl.flock(opened, how)
                    if not os.path.samestat(os.fstat(opened), path.stat()):
                        continue
                except BlockingIOError:
                    return False
                except FileNotFoundError:
                    continue
                stack.push(mine.pop_all())
                return True

    def _is_held(self, name: str) -> bool:
        try:
            opened = os.open(self.folder(name) / _LOCK, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(opened)
        return False


def checked(folder: Path, policy: Policy, files: Files) -> Layout:
    """A layout whose bytes, and those of its sources, are what its document says.

    Raises:
        LayoutInvalid: they are not, or it is none.
    """
    found = Layout.open(folder, policy, files).checked()
    tables = {name for one in found.stored.values() for name in one.tables}
    if not found.is_of(sorted(tables), files):
        raise LayoutInvalid("The layout is of other files.")
    return found
