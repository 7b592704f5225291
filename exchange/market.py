"""The market: the frozen bag of what an operation needs - store, objects, engine, signer, layouts, settings.

Adapters that touch files or processes are wrapped so that a call with a transaction open fails loudly.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import ObjectDamaged
from exchange.errors import Overloaded, StripeMissing
from exchange.store import assert_outside_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from catalog.listings import ListingView
    from catalog.objects import LocalObjects
    from exchange.audit.receipts import ReceiptSigner
    from exchange.config import Settings
    from exchange.layouts import Layouts
    from exchange.store import Store
    from privacy.sandbox import Sandbox
    from settlement.stripe import Till


class OutsideObjects:
    """An object store that refuses to work inside a transaction."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects

    def put(self, source: Path) -> str:
        """Keep a file under its SHA-256; returns the digest."""
        assert_outside_transaction()
        return self._objects.put(source)

    def put_bytes(self, *contents: bytes) -> tuple[str, ...]:
        """Keep each of these under its SHA-256; returns the digests."""
        assert_outside_transaction()
        return self._objects.put_bytes(*contents)

    def path(self, sha256: str) -> Path:
        """Where an object's bytes are."""
        return self._objects.path(sha256)

    def files(self, view: ListingView) -> dict[str, tuple[str, ...]]:
        """Table name -> the Parquet files of a version that an engine may read."""
        return {table.name: tuple(str(self.path(one)) for one in table.objects) for table in view.tables}

    def read(self, sha256: str) -> bytes:
        """An object's bytes, whole. Raises ObjectDamaged where they are not those that its name promises."""
        assert_outside_transaction()
        data = self._objects.path(sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ObjectDamaged(f"The object {sha256} does not have the bytes that its name promises.")
        return data


class OutsideEngine:
    """The sandbox, which starts with the first query and is not handed out inside a transaction.

    A command that asks nothing starts no worker processes.
    """

    def __init__(self, start: Callable[[], Sandbox], *, workers: int) -> None:
        self._start = start
        self._turns = threading.BoundedSemaphore(workers)
        self._sandbox: Sandbox | None = None
        self._lock = threading.Lock()

    def sandbox(self) -> Sandbox:
        """The running sandbox. Raises InsideTransaction with a transaction open."""
        assert_outside_transaction()
        with self._lock:
            if self._sandbox is None:
                self._sandbox = self._start()
            return self._sandbox

    @contextlib.contextmanager
    def turn(self, patience_s: float) -> Iterator[None]:
        """Hold one of the workers, waiting for at most ``patience_s``. Raises :class:`Overloaded`."""
        assert_outside_transaction()
        if not self._turns.acquire(timeout=patience_s):
            raise Overloaded("every query worker is busy")
        try:
            yield
        finally:
            self._turns.release()

    def close(self) -> None:
        """End the worker processes."""
        with self._lock:
            if self._sandbox is not None:
                self._sandbox.close()
                self._sandbox = None


@dataclass(frozen=True)
class Market:
    """Everything an operation works with; built by :mod:`exchange.bootstrap` alone."""

    settings: Settings
    store: Store
    objects: OutsideObjects
    engine: OutsideEngine
    receipts: ReceiptSigner
    salt: Callable[[str], bytes]
    layouts: Layouts
    till: Till | None = None

    def stripe(self) -> Till:
        """The way to Stripe. Raises StripeMissing, and InsideTransaction with a transaction open."""
        assert_outside_transaction()
        if self.till is None:
            raise StripeMissing("this exchange has no account at Stripe")
        return self.till

    def close(self) -> None:
        """End worker processes and database connections."""
        self.engine.close()
        self.layouts.close()
        self.store.dispose()
