"""Queries that last for as long as a test wants, and one that really burns a worker."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import privacy
from privacy.sandbox import Sandbox, Task
from tests.market.stand import Stand

ENDLESS = "SELECT count(*) FROM range(10000000000) a, range(1000) b WHERE hash(a.range, b.range) = 7"


class Gate:
    """What runs waits here until it is let through; ``arrived`` counts who came, ``order`` is their SQL."""

    def __init__(self) -> None:
        self._open = threading.Semaphore(0)
        self._came = threading.Semaphore(0)

    def pass_through(self) -> None:
        """Called by the query."""
        self._came.release()
        assert self._open.acquire(timeout=60), "nobody opened the gate"

    def await_arrival(self) -> None:
        """Until one more query is running."""
        assert self._came.acquire(timeout=30), "no query came"

    def open(self, count: int = 1) -> None:
        """Let so many through."""
        self._open.release(count)


@contextlib.contextmanager
def gated(patch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Every query waits at the gate once it has started, before it is answered; in the end all may pass."""
    gate, answer = Gate(), privacy.answer

    def waiting(*given: Any, **named: Any) -> Any:
        gate.pass_through()
        return answer(*given, **named)

    with patch.context() as patched:
        patched.setattr("privacy.answer", waiting)
        try:
            yield gate
        finally:
            gate.open(1_000)


def endless(patch: pytest.MonkeyPatch) -> threading.Event:
    """Every query burns its worker until the time limit; the event is set once one has begun."""
    begun = threading.Event()

    def burn(*_: object, sandbox: Sandbox, **__: object) -> Any:
        begun.set()
        sandbox.run(Task(ENDLESS))

    patch.setattr("privacy.answer", burn)
    return begun


def ended(stand: Stand, where: str, who: str = "buyer") -> dict[str, Any]:
    """The job at ``where`` once it has ended."""
    until = time.monotonic() + 30
    while True:
        job: dict[str, Any] = stand.get(who, where).json()
        if job["state"] not in ("queued", "running"):
            return job
        assert time.monotonic() < until, job
        time.sleep(0.02)
