"""A one-line progress bar on stderr, on a terminal or in a notebook; silent elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal, Protocol, TextIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Progress: TypeAlias = 'bool | Literal["auto"] | Callable[[str, int, int], None]'
"""True, False, "auto", or a function that is told (label, done, in all), of bytes or seconds."""
_WIDTH = 30
_EVERY_S = 0.1


class Meter(Protocol):
    """Something that is told how far a transfer is."""

    def update(self, done: int, total: int | None = None) -> None:
        """``done`` bytes of the total have arrived; ``total`` where that has become another."""

    def __enter__(self) -> Meter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Bar:
    """A bar that redraws its line, at most ten times a second, and ends it when it is left."""

    def __init__(self, label: str, total: int, stream: TextIO, unit: str = "B") -> None:
        self._label, self._total, self._stream = label, total, stream
        self._unit = unit
        self._drawn_at = 0.0
        self._done = 0

    def update(self, done: int, total: int | None = None) -> None:
        """Redraw for ``done`` bytes, of another ``total`` if one is given."""
        self._done, self._total = done, self._total if total is None else total
        now = time.monotonic()
        if done >= self._total or now - self._drawn_at >= _EVERY_S:
            self._drawn_at = now
            self._draw()

    def __enter__(self) -> Bar:
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()
        self._stream.write("\n")
        self._stream.flush()

    def _draw(self) -> None:
        share = self._done / self._total if self._total else 1.0
        bar = "#" * int(share * _WIDTH)
        size = size_text(self._total) if self._unit == "B" else f"{self._total} {self._unit}"
        self._stream.write(f"\r{self._label[:30]:30} [{bar:{_WIDTH}}] {share:4.0%} {size}")
        self._stream.flush()


class Told:
    """Passes every update on to a function; with none, does nothing."""

    def __init__(self, label: str, total: int, tell: Callable[[str, int, int], None] | None) -> None:
        self._label, self._total, self._tell = label, total, tell

    def update(self, done: int, total: int | None = None) -> None:
        """Tell the function, if there is one."""
        self._total = self._total if total is None else total
        if self._tell is not None:
            self._tell(self._label, done, self._total)

    def __enter__(self) -> Told:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def meter(
    progress: Progress, label: str, total: int, *, stream: TextIO | None = None, unit: str = "B"
) -> Meter:
    """The meter that ``progress`` asks for: of bytes, or of seconds of the time that something may take."""
    out = stream or sys.stderr
    if callable(progress):
        return Told(label, total, progress)
    shown = (out.isatty() or "ipykernel" in sys.modules) if progress == "auto" else bool(progress)
    return Bar(label, total, out, unit) if shown else Told(label, total, None)


def size_text(count: int) -> str:
    """Bytes for people, in powers of 1024."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")
