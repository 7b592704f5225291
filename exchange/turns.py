"""Who has a query worker's turn, and who is next: fair between organisations, bounded for each and in all.

Turns go round the organisations that wait, one each: fifty queries of one do not keep another waiting for
fifty. Within an organisation they are served in the order of asking. A place in the queue is given at once or
refused at once: who is refused holds nothing (docs/decisions/0022-a-job-runs-where-it-was-reserved.md).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.errors import InProgress, Overloaded, TooManyQueries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

_SOONEST_S, _LATEST_S = 1, 30


@dataclass(frozen=True)
class Shares:
    """How many turns there are at a time, and places to wait for one.

    Attributes:
        at_once: turns at a time.
        of_one: turns at a time of one organisation.
        waiting: places in the queue.
        waiting_of_one: places of one organisation.
    """

    at_once: int
    of_one: int
    waiting: int
    waiting_of_one: int

    @classmethod
    def of(cls, workers: int, *, of_one: int = 0, waiting: int = 64, waiting_of_one: int = 16) -> Shares:
        """The shares of so many workers; where ``of_one`` is 0 an organisation leaves one to the others."""
        return cls(workers, of_one or max(1, workers - 1), waiting, waiting_of_one)


class Turn:
    """A place in the queue, and later a turn; leave it in either case. ``with`` leaves it at the end."""

    def __init__(self, org: str, leave: Callable[[Turn], None]) -> None:
        self.org = org
        self._came = threading.Event()
        self._leave = leave
        self._over = False

    def wait(self, patience_s: float) -> None:
        """Until it is this one's turn. Raises :class:`Overloaded`, and leaves, when that takes longer."""
        self._came.wait(patience_s)
        if self._over or not self._came.is_set():
            self.leave()
            raise Overloaded("every query worker is busy")

    def leave(self) -> None:
        """Give turn or place back; again changes nothing. Who waits for it learns that it will not come."""
        self._leave(self)

    @property
    def came(self) -> bool:
        """Whether it is this one's turn."""
        return self._came.is_set() and not self._over

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Turns:
    """The queue. Safe for many threads."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self._lock = threading.Lock()
        self._queues: OrderedDict[str, deque[Turn]] = OrderedDict()  # the next organisation first
        self._running: Counter[str] = Counter()
        self._closed = False

    def enter(self, org: str) -> Turn:
        """A place in the queue, for an organisation.

        Raises :class:`TooManyQueries` where the organisation has all of its places, :class:`Overloaded` where
        there is none left; ``Retry-After`` tells how long the queue is, and nothing of what is asked.
        """
        turn = Turn(org, self._leave)
        with self._lock:
            if self._closed:
                raise Overloaded("the exchange is about to stop")
            if not self._is_free(org):
                self._require_place(org)
            self._queues.setdefault(org, deque()).append(turn)
            self._serve()
        return turn

    def waiting(self) -> int:
        """How many wait."""
        with self._lock:
            return self._waiting()

    def running(self) -> int:
        """How many have a turn."""
        with self._lock:
            return self._running.total()

    def close(self, within_s: float = 0.0) -> None:
        """Let nobody in, serve those who are here for so many seconds, then send away who still waits.

        Those whose turn it is are not disturbed.
        """
        with self._lock:
            self._closed = True
        self.settled(within_s)
        with self._lock:
            left = [turn for queue in self._queues.values() for turn in queue]
            self._queues.clear()  # all at once: who leaves from now on hands its turn to nobody
            for turn in left:
                turn._over = True
                turn._came.set()

    def settled(self, within_s: float) -> bool:
        """Wait until nobody has a turn or waits for one; whether that is so in time."""
        until = time.monotonic() + within_s
        while self.running() or self.waiting():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def _waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def _is_free(self, org: str) -> bool:
        mine = self._running[org] < self.shares.of_one and not self._queues.get(org)
        return mine and self._running.total() < self.shares.at_once

    def _require_place(self, org: str) -> None:
        waiting, own = self._waiting(), len(self._queues.get(org, ()))
        if own >= self.shares.waiting_of_one:
            raise TooManyQueries(
                f"{own} queries of your organisation wait already",
                retry_after_s=self._retry_after(own, self.shares.of_one),
            )
        if waiting >= self.shares.waiting:
            raise Overloaded(
                "too many queries wait for a worker",
                retry_after_s=self._retry_after(waiting, self.shares.at_once),
            )

    def _retry_after(self, waiting: int, at_once: int) -> int:
        """Seconds; a second for each round, whatever the queries are: it tells of load alone."""
        return min(_LATEST_S, _SOONEST_S + waiting // at_once)

    def _serve(self) -> None:
        """Give free turns to the organisations in their order, one each, those with a turn more behind."""
        while self._running.total() < self.shares.at_once:
            org = next((one for one in self._queues if self._running[one] < self.shares.of_one), None)
            if org is None:
                return
            queue = self._queues[org]
            turn = queue.popleft()
            self._queues.move_to_end(org)
            if not queue:
                del self._queues[org]
            self._running[org] += 1
            turn._came.set()

    def _leave(self, turn: Turn) -> None:
        with self._lock:
            if turn._over:
                return
            turn._over = True
            if turn._came.is_set():
                self._running[turn.org] -= 1
                self._running += Counter()  # forget who has none
            else:
                queue = self._queues[turn.org]
                queue.remove(turn)
                if not queue:
                    del self._queues[turn.org]
                turn._came.set()  # whoever waits for it wakes up
            self._serve()


class Places:
    """So many at a time, and so many of one organisation. Nobody waits: who finds none comes again."""

    def __init__(self, at_once: int, of_one: int) -> None:
        self._at_once, self._of_one = at_once, of_one
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, org: str, what: str) -> Iterator[None]:
        """Hold a place. Raises :class:`InProgress` where the organisation has its own, :class:`Overloaded`
        where none is left; ``what`` is what they are for.
        """
        with self._lock:
            if self._taken[org] >= self._of_one:
                raise InProgress(
                    f"{what} of your organisation is under way",
                    hint="Wait until it has ended, and repeat the request with the same key.",
                )
            if self._taken.total() >= self._at_once:
                raise Overloaded(f"{what} of others is under way")
            self._taken[org] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[org] -= 1
                self._taken += Counter()  # forget who has none
