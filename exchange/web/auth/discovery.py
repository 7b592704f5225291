"""What the identity provider says of itself, kept for a minute, and how many calls go out to it at a time.

Whoever opens the sign-in page makes the exchange ask. A provider that does not answer holds each call up for
seconds, so few are made at once, the others are told so, and a failure is remembered for a while.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import current_app

from exchange.errors import Overloaded, SingleSignOnRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_CALLS = 2
KEPT_S, AWAY_S = 60.0, 10.0
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class _Known:
    """A configuration, or none where the provider was away; and until when that counts."""

    configuration: dict[str, Any] | None
    until: float


class Discovery:
    """The configurations of one web process, and its calls. Safe for several threads."""

    def __init__(
        self,
        *,
        kept_s: float = KEPT_S,
        away_s: float = AWAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``kept_s`` and ``away_s``: how long a configuration, and a failure, are remembered."""
        self._kept_s, self._away_s, self._clock = kept_s, away_s, clock
        self._calls = threading.BoundedSemaphore(MOST_CALLS)
        self._known: dict[str, _Known] = {}

    @contextlib.contextmanager
    def call(self, *, patience_s: float = _PATIENCE_S) -> Iterator[None]:
        """The length of one call to the provider. Raises :class:`Overloaded` while as many as may go out."""
        if not self._calls.acquire(timeout=patience_s):
            raise Overloaded("too many people wait for the identity provider at this moment")
        try:
            yield
        finally:
            self._calls.release()

    def configuration(self, issuer: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``ask`` returned within the last minute, or returns now.

        Raises:
            SingleSignOnRefused: ``ask`` raised it, now or a moment ago.
            Overloaded: others ask already.
        """
        known = self._known.get(issuer)
        if known is None or known.until <= self._clock():
            known = self._asked(issuer, ask)
        if known.configuration is None:
            raise SingleSignOnRefused("the identity provider did not answer a moment ago")
        return known.configuration

    def _asked(self, issuer: str, ask: Callable[[], dict[str, Any]]) -> _Known:
        with self.call(patience_s=0):
            try:
                known = _Known(ask(), self._clock() + self._kept_s)
            except SingleSignOnRefused:
                self._known[issuer] = _Known(None, self._clock() + self._away_s)
                raise
        self._known[issuer] = known
        return known


def discovery() -> Discovery:
    """What the running application knows of its provider."""
    found: Discovery = current_app.extensions["discovery"]
    return found
