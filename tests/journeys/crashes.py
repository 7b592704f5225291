"""Where a process can die in the life of a query or of a profile, and how a test makes it die there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from exchange.operations import offering, profiling, querying, settling

#: Longer than the lease of a query under test: three times 30 s for its tasks, 30 s of margin.
LEASE_S = 121


#: Longer than the lease of the profile of one table: twice 30 s, and 30 s of margin.
PROFILE_LEASE_S = 91


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
        "before the reservation": (querying, "_row"),
        "after the reservation": (settling, "start"),
        "after the result was computed": (settling, "keep"),
        "after the result was kept": (settling, "settle"),
        "before the reply": (querying, "_deliver"),
    }
    if name == "after the start":
        start = settling.start

        def started(*given: Any, **named: Any) -> None:
            start(*given, **named)
            die()

        patch.setattr(settling, "start", started)
    else:
        module, step = before[name]
        patch.setattr(module, step, lambda *given, **named: die())


@dataclass(frozen=True)
class ProfileCrash:
    """A boundary between two steps of publishing: what the sweeper makes of it, and the next publish."""

    name: str
    state: str
    swept: str
    ends: str
    released: bool

    def __str__(self) -> str:
        return self.name


#: In order: state at death, what the sweeper counts, state after it; whether the version then gets a profile.
PROFILE_CRASHES = (
    ProfileCrash("before the reservation", "", "", "", released=True),
    ProfileCrash("after the reservation", "RESERVED", "voided", "VOIDED", released=True),
    ProfileCrash("after the start", "EXECUTING", "forfeited", "FORFEITED", released=False),
    ProfileCrash("after the profile was computed", "EXECUTING", "forfeited", "FORFEITED", released=False),
    ProfileCrash("after the profile was kept", "RELEASED", "", "RELEASED", released=True),
    ProfileCrash("before the reply", "RELEASED", "", "RELEASED", released=True),
)


def plant_in_publishing(patch: pytest.MonkeyPatch, name: str, die: Callable[[], Any]) -> None:
    """Make the next publication die at the boundary ``name``."""
    before: dict[str, tuple[Any, str]] = {
        "before the reservation": (profiling, "_reserve"),
        "after the reservation": (profiling, "start"),
        "after the profile was computed": (profiling, "keep"),
        "after the profile was kept": (offering, "_offer"),
    }
    after: dict[str, tuple[Any, str]] = {
        "after the start": (profiling, "start"),
        "before the reply": (offering, "publish"),
    }
    module, step = before.get(name) or after[name]
    done = getattr(module, step)

    def dying(*given: Any, **named: Any) -> None:
        if name in after:
            done(*given, **named)
        die()

    patch.setattr(module, step, dying)
