"""SQL of window functions. Like every operation they are total."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from privacy.algebra import Window

Writer = Callable[[Window, Sequence[str], str], str]


def _plain(name: str) -> Writer:
    return lambda _window, parts, over: f"{name}({', '.join(parts)}) OVER ({over})"


WINDOWS: dict[str, Writer] = {
    "row_number": _plain("row_number"),
    "rank": _plain("rank"),
    "dense_rank": _plain("dense_rank"),
    "lag": _plain("lag"),
    "lead": _plain("lead"),
    "first_value": _plain("first_value"),
    "last_value": _plain("last_value"),
    "count": lambda _window, parts, over: f"count({', '.join(parts) or '*'}) OVER ({over})",
    "min": _plain("min"),
    "max": _plain("max"),
}
