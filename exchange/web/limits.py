"""How many requests come from one token, one person and one network: token buckets in each web process.

A bucket holds ten seconds' worth of requests and fills at the rate of the settings, so that a burst passes
and a flood does not. Each process counts for itself: behind several, the limit is as many times as large.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from flask import current_app

from exchange.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.config import Settings

BURST_S = 10
_MOST = 20_000


class Buckets:
    """One bucket for each key; the key that was not seen for longest goes where there are too many."""

    def __init__(self, per_s: int, *, clock: Callable[[], float] = time.monotonic, most: int = _MOST) -> None:
        """``per_s`` is the rate; 0 is no limit."""
        self.per_s, self.clock, self._most = per_s, clock, most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> None:
        """Take one request out of a bucket. Raises :class:`RateLimited` where it is empty."""
        if not self.per_s:
            return
        with self._lock:
            now = self.clock()
            level = self._level(key, now)
            if level >= 1.0:
                self._keep(key, level - 1.0, now)
                return
            self._keep(key, level, now)
        raise RateLimited(math.ceil((1.0 - level) / self.per_s))

    def spend(self, key: str, requests: int) -> None:
        """Make a request count for more than one, after the fact: a refused token is dearer than a good."""
        if not self.per_s:
            return
        with self._lock:
            now = self.clock()
            self._keep(key, max(-self._full, self._level(key, now) - requests), now)

    @property
    def _full(self) -> float:
        return float(self.per_s * BURST_S)

    def _level(self, key: str, now: float) -> float:
        level, at = self._levels.get(key, (self._full, now))
        return min(self._full, level + (now - at) * self.per_s)

    def _keep(self, key: str, level: float, now: float) -> None:
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)


class RequestLimits:
    """The limits of one web process."""

    def __init__(self, settings: Settings) -> None:
        self.of_caller = Buckets(settings.rate_of_caller)
        self.of_network = Buckets(settings.rate_of_network)


def request_limits() -> RequestLimits:
    """The limits of the running application."""
    found: RequestLimits = current_app.extensions["limits"]
    return found
