"""The queries that this process reserved and answers, each in a thread of its own, whoever waits for them.

Only the process that reserved a query starts it, so this is also where it can be stopped at once. Where it
was ended by another process, the watch finds out from the books, within two seconds, and stops it here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from exchange.errors import MarketError, Overloaded
from exchange.telemetry import traces
from privacy.sandbox import Cancellation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from exchange.turns import Turn

_WATCH_EVERY_S, _WATCH_ENDS_S = 1.0, 5.0
_LOG = logging.getLogger("exchange.queries")


class Run:
    """One query of this process. ``cancellation`` ends what the engine does for it."""

    def __init__(self, query_id: str, turn: Turn) -> None:
        self.query_id = query_id
        self.cancellation = Cancellation()
        self.error: BaseException | None = None
        self._turn = turn
        self._done = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Whether it is over, after so many seconds at the latest."""
        return self._done.wait(max(0.0, seconds))

    def stop(self) -> None:
        """End it, whether it waits for a worker or has one; the books are not this one's to change."""
        self.cancellation.cancel()
        if not self._turn.came:
            self._turn.leave()

    def carry_out(self, work: Callable[[Run], None]) -> None:
        """Do the work, and keep what it raises for those who wait."""
        try:
            work(self)
        except BaseException as error:
            self.error = error
            if not isinstance(error, MarketError):  # by its type alone: messages of engines hold data values
                _LOG.error("query %s ended with %s", self.query_id, type(error).__name__)


class Runs:
    """All of them.

    Args:
        threads: at most so many at a time, those included that wait for a worker.
        replies: at most so many requests wait: for their answer - the others are told at once that it goes
            on - or for a turn that they need before they can reply.
        ended: which of these queries the books say are over.
    """

    def __init__(
        self, *, threads: int, replies: int, ended: Callable[[Collection[str]], Collection[str]]
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="query")
        self._replies = threading.BoundedSemaphore(replies)
        self._ended = ended
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._watch_thread: threading.Thread | None = None
        self._closed = threading.Event()

    def begin(self, query_id: str, turn: Turn, work: Callable[[Run], None]) -> Run:
        """Begin one; it goes on whether anybody waits for it or not."""
        run = Run(query_id, turn)
        with self._lock:
            self._runs[query_id] = run
            self._pool.submit(traces.carried(self._carry_out), run, work)
            if self._watch_thread is None:
                self._watch_thread = threading.Thread(target=self._watch, name="query-watch", daemon=True)
                self._watch_thread.start()
        return run

    def find(self, query_id: str) -> Run | None:
        """A query that this process is answering, or None."""
        with self._lock:
            return self._runs.get(query_id)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place for a request to wait in. Raises :class:`Overloaded`, at once, where all are taken: the
        other threads serve whoever does not wait.
        """
        if not self._replies.acquire(blocking=False):
            raise Overloaded("too many requests wait for a worker")
        try:
            yield
        finally:
            self._replies.release()

    def wait(self, run: Run, seconds: float) -> bool:
        """Whether a run is over, after so many seconds at the latest; at once where too many wait already."""
        if not self._replies.acquire(blocking=False):
            return run.wait(0)
        try:
            return run.wait(seconds)
        finally:
            self._replies.release()

    def stop(self, query_id: str) -> None:
        """End a query here, if it is here."""
        run = self.find(query_id)
        if run is not None:
            run.stop()

    def close(self) -> None:
        """Begin nothing more, and wait for no query; the watch has ended afterwards."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            watch = self._watch_thread
        if watch is not None:
            watch.join(_WATCH_ENDS_S)

    def _carry_out(self, run: Run, work: Callable[[Run], None]) -> None:
        run.carry_out(work)
        with self._lock:
            self._runs.pop(run.query_id, None)
        run._done.set()

    def _watch(self) -> None:
        """Stop what another process ended, as long as there is something to watch."""
        while not self._closed.wait(_WATCH_EVERY_S):
            with self._lock:
                here = list(self._runs)
                if not here:
                    self._watch_thread = None
                    return
            try:
                over = self._ended(here)
            except Exception as error:  # the database restarts, perhaps: the next round may pass
                _LOG.warning("queries cannot be watched: %s", type(error).__name__)
                continue
            for query_id in over:
                self.stop(query_id)
