"""From released groups to relative errors, and from errors to a comparison of engines."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.report import p95

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MISSING = 1.0
"""The error of a group that the answer does not hold, or holds without a number."""

LEAST = 0.001
"""Errors below a tenth of a percent count as this much in a geometric mean, so that one exact median by luck
does not decide it."""

Truth = dict[tuple[Any, ...], list[float]]


@dataclass(frozen=True)
class Score:
    """How one engine did at one question: relative errors over all groups, measures and runs.

    Attributes:
        released: share of the true groups that were in the answers.
        seconds: of each whole answer.
        plain_s: of the statement in plain DuckDB, measured next to them.
        unable: why there is no answer; then everything else is empty.
    """

    median: float = math.nan
    p95: float = math.nan
    released: float = 0.0
    seconds: tuple[float, ...] = field(default=())
    way: str = ""
    unable: str = ""
    plain_s: float = math.nan


def score(truth: Truth, record: Mapping[str, Any]) -> Score:
    """The score of one record of a runner."""
    if "unable" in record:
        return Score(way=record["way"], unable=record["unable"])
    errors: list[float] = []
    shown = 0
    for run in record["runs"]:
        released = {tuple(keys): values for keys, values in run}
        shown += sum(group in released for group in truth)
        for group, true in truth.items():
            errors += _errors(true, released.get(group))
    runs = len(record["runs"])
    return Score(
        statistics.median(errors),
        p95(errors),
        shown / runs / len(truth),
        tuple(record["seconds"]),
        record["way"],
        plain_s=record["plain_s"],
    )


def _errors(true: Sequence[float], released: Sequence[float | None] | None) -> list[float]:
    """Relative errors of one group's measures. A true zero has no relative error and is left out."""
    found = []
    for place, value in enumerate(true):
        shown = None if released is None else released[place]
        if value == 0:
            continue
        lost = shown is None or math.isnan(shown)
        found.append(MISSING if lost or shown is None else abs(shown - value) / abs(value))
    return found


def best(scores: Iterable[Score]) -> Score:
    """The way of bounding with the least median error (then p95): what the engine could do at its best."""
    listed = list(scores)
    answered = [one for one in listed if not one.unable]
    if answered:
        return min(answered, key=lambda one: (one.median, one.p95))
    return listed[0] if listed else Score(unable="no answer")


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean; NaN of nothing."""
    logs = [math.log(max(value, LEAST)) for value in values]
    return math.exp(statistics.fmean(logs)) if logs else math.nan


def over_shared(ours: Mapping[str, Score], peer: Mapping[str, Score], figure: str) -> tuple[float, int]:
    """Geometric mean of (the peer's error / ours) over the questions that both answer, and their number."""
    ratios = [
        max(getattr(peer[name], figure), LEAST) / max(getattr(ours[name], figure), LEAST)
        for name in ours
        if name in peer and not ours[name].unable and not peer[name].unable
    ]
    return geometric_mean(ratios), len(ratios)


def best_single(peers: Mapping[str, Mapping[str, Score]]) -> str | None:
    """The peer with the lowest geometric mean of median errors over the questions that it can express."""
    means = {
        name: geometric_mean(one.median for one in scores.values() if not one.unable)
        for name, scores in peers.items()
    }
    usable = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    return min(usable, key=lambda name: usable[name]) if usable else None


def plain(value: Any) -> Any:
    """A key as JSON gives it back."""
    return value.isoformat() if isinstance(value, dt.date) else value
