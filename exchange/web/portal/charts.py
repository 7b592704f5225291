"""Bars for charts that are drawn as SVG on the server: places and lengths, nothing else.

A chart has its numbers in a table beside it, so that nobody needs to see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT, GAP, LINE, LABEL = 720, 160, 1, 26, 200.0


@dataclass(frozen=True)
class Bar:
    """One bar in units of the drawing: its corner, its size, and the label and value that it stands for."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: int


def upright(values: Sequence[tuple[str, int]]) -> list[Bar]:
    """Bars side by side, the largest as high as the drawing; what is above zero is never invisible."""
    largest, step = max((value for _, value in values), default=0), WIDTH / max(1, len(values))
    made = []
    for place, (label, value) in enumerate(values):
        height = max(2.0, HEIGHT * value / largest) if value > 0 else 0.0
        made.append(Bar(round(place * step, 2), round(HEIGHT - height, 2), step - GAP, height, label, value))
    return made


def lying(values: Sequence[tuple[str, int]]) -> list[Bar]:
    """Bars below each other, each behind the room for its label."""
    largest = max((value for _, value in values), default=0)
    room = WIDTH - LABEL
    return [
        Bar(
            LABEL,
            place * LINE + 4.0,
            max(2.0, room * value / largest) if value > 0 else 0.0,
            18.0,
            label,
            value,
        )
        for place, (label, value) in enumerate(values)
    ]
