"""The market: the frozen bag of what an operation needs - store, objects, engine, signer, layouts, settings.

Adapters that touch files or processes are wrapped so that a call with a transaction open fails loudly.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exchange.errors import Overloaded, StripeMissing
from exchange.persons.passwords import Passwords
from exchange.store import assert_outside_transaction
from exchange.turns import Places, Shares, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from catalog.objects import Objects
    from exchange.audit.receipts import ReceiptSigner
    from exchange.config import Settings
    from exchange.layouts import Layouts
    from exchange.runs import Runs
    from exchange.store import Store
    from exchange.turns import Turn
    from exchange.vault import Vault
    from privacy.sandbox import Sandbox
    from settlement.stripe import Till

_DRAINED = 0.75
"""Share of the time to stop in which queries may end by themselves."""
_DAY_S, _UNTOUCHED_S = 86_400.0, 3600.0
"""What was put within this time may be about to be named: longer than any query takes."""


class OutsideObjects:
    """An object store that refuses to work inside a transaction."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, source: Path) -> str:
        """Keep a file under its SHA-256; returns the digest."""
        assert_outside_transaction()
        return self._objects.put(source)

    def put_bytes(self, *contents: bytes) -> tuple[str, ...]:
        """Keep each of these under its SHA-256; returns the digests."""
        assert_outside_transaction()
        return self._objects.put_bytes(*contents)

    def discard(self, sha256: str, *, untouched_s: float = _UNTOUCHED_S) -> bool:
        """Remove an object that nothing names any more, unless it was put again a moment ago; whether it is
        gone.
        """
        assert_outside_transaction()
        return self._objects.discard(sha256, untouched_since=time.time() - untouched_s)

    def untouched(self, seconds: float) -> Iterator[str]:
        """The objects that were not put, nor put again, for so long."""
        assert_outside_transaction()
        return self._objects.untouched(since=time.time() - seconds)

    def tidy(self, untouched_s: float) -> int:
        """Remove what processes that died left of their work, once it is so old; returns how much."""
        assert_outside_transaction()
        return self._objects.tidy(untouched_since=time.time() - untouched_s)

    def every(self) -> Iterator[str]:
        """All objects, also those that are put meanwhile, as far as they are met."""
        return self.untouched(-_DAY_S)  # by a clock that is up to a day ahead of ours

    @contextlib.contextmanager
    def held(self, sha256: str) -> Iterator[Path]:
        """Where an object's bytes are on this machine, until the block is left."""
        assert_outside_transaction()
        with self._objects.held(sha256) as (path,):
            yield path

    def path(self, sha256: str) -> Path:
        """Where an object's bytes are on this machine now; to work with them, hold them."""
        assert_outside_transaction()
        return self._objects.path(sha256)

    @contextlib.contextmanager
    def all_held(self, objects: Sequence[str]) -> Iterator[tuple[Path, ...]]:
        """The same of several, in their order."""
        assert_outside_transaction()
        with self._objects.held(*objects) as paths:
            yield paths

    def ensure_writable(self) -> None:
        """Raises OSError or ObjectsUnavailable where nothing could be kept now."""
        assert_outside_transaction()
        self._objects.ensure_writable()

    def read(self, sha256: str) -> bytes:
        """An object's bytes, whole. Raises ObjectDamaged where they are not those that its name promises."""
        assert_outside_transaction()
        return self._objects.read(sha256)


class OutsideEngine:
    """The sandbox, which starts with the first query and is not handed out inside a transaction.

    A command that asks nothing starts no worker processes.
    """

    def __init__(
        self, start: Callable[[], Sandbox], *, workers: int = 1, shares: Shares | None = None
    ) -> None:
        self._start = start
        self.turns = Turns(shares or Shares.of(workers))
        self._sandbox: Sandbox | None = None
        self._closed = False
        self._lock = threading.Lock()

    def sandbox(self) -> Sandbox:
        """The running sandbox. Raises InsideTransaction with a transaction open, :class:`Overloaded` once the
        engine is closed: no worker starts in a process that stops.
        """
        assert_outside_transaction()
        with self._lock:
            if self._closed:
                raise Overloaded("the exchange is about to stop")
            if self._sandbox is None:
                self._sandbox = self._start()
            return self._sandbox

    def enter(self, org: str) -> Turn:
        """A place in the queue for a worker. Raises :class:`Overloaded` or :class:`TooManyQueries`."""
        assert_outside_transaction()
        return self.turns.enter(org)

    @contextlib.contextmanager
    def turn(self, org: str, patience_s: float) -> Iterator[None]:
        """Hold one of the workers, waiting for at most ``patience_s``. Raises what :meth:`enter` raises."""
        with self.enter(org) as turn:
            turn.wait(patience_s)
            yield

    def overruns(self) -> int:
        """Tasks that were killed at their time limit, in this process so far."""
        return 0 if self._sandbox is None else self._sandbox.overruns

    def close(self) -> None:
        """End the worker processes, for good: what they were at fails."""
        with self._lock:
            self._closed = True
            if self._sandbox is not None:
                self._sandbox.close()
                self._sandbox = None


@dataclass(frozen=True)
class Market:
    """Everything an operation works with; built by :mod:`exchange.bootstrap` alone."""

    settings: Settings
    store: Store
    objects: OutsideObjects
    vault: Vault
    engine: OutsideEngine
    receipts: ReceiptSigner
    salt: Callable[[str], bytes]
    layouts: Layouts
    runs: Runs
    ingests: Places
    exports: Places
    till: Till | None = None
    passwords: Passwords = field(default_factory=Passwords)

    def stripe(self) -> Till:
        """The way to Stripe. Raises StripeMissing, and InsideTransaction with a transaction open."""
        assert_outside_transaction()
        if self.till is None:
            raise StripeMissing("this exchange has no account at Stripe")
        return self.till

    def close(self) -> None:
        """End worker processes and database connections.

        Queries that were begun are given a while to end well. Then who waits for a worker is sent away,
        uncharged, and the workers are killed: what runs is forfeited, rho kept and money returned, by its own
        thread if the process lives for long enough, by the sweeper otherwise, once its lease has ended.
        """
        self.engine.turns.close(self.settings.stop_grace_s * _DRAINED)
        self.runs.close()
        self.engine.close()
        self.layouts.close()
        self.store.dispose()
