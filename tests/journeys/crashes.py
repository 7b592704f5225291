"""Where a process can die in the life of a query, and how a test makes it die there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from exchange.operations import querying, settling

#: Longer than the lease of a query under test: twice 30 s for its two tasks, 30 s of margin.
LEASE_S = 91


class Died(BaseException):
    """The process dies here: nothing of ours may catch it and tidy up."""


@dataclass(frozen=True)
class Crash:
    """A boundary between two steps, and what the sweeper must make of it (design: the life of a query)."""

    name: str
    state: str
    swept: str
    ends: str
    pays: bool
    spends: bool

    def __str__(self) -> str:
        return self.name


#: In order: state at death, what the sweeper counts, state after it, is money charged, is rho charged.
CRASHES = (
    Crash("after the reservation", "RESERVED", "voided", "VOIDED", pays=False, spends=False),
    Crash("after the start", "EXECUTING", "forfeited", "FORFEITED", pays=False, spends=True),
    Crash("after the result was computed", "EXECUTING", "forfeited", "FORFEITED", pays=False, spends=True),
    Crash("after the result was kept", "RESULT_DURABLE", "settled", "SETTLED", pays=True, spends=True),
    Crash("before the reply", "SETTLED", "", "SETTLED", pays=True, spends=True),
)
BY_NAME = {crash.name: crash for crash in CRASHES}


def plant(patch: pytest.MonkeyPatch, name: str, die: Callable[[], Any]) -> None:
    """Make the next query die at the boundary ``name``."""
    before: dict[str, tuple[Any, str]] = {
        "after the reservation": (settling, "start"),
        "after the result was computed": (settling, "keep"),
        "after the result was kept": (settling, "settle"),
        "before the reply": (querying, "_deliver"),
    }
    if name == "after the start":
        start = settling.start

        def started(*given: Any) -> None:
            start(*given)
            die()

        patch.setattr(settling, "start", started)
    else:
        module, step = before[name]
        patch.setattr(module, step, lambda *given, **named: die())
