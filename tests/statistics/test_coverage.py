"""The stated intervals hold as often as they say: a few runs here, 10,000 of each aggregate in `make audit`.

Runs are independent, so that misses are binomial; false alarms have probability below 1e-6 for the whole
file. An interval that is a fifth too short is caught.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from privacy.measures import KINDS
from privacy.planned import PlannedRelease
from tests.statistics.chance import FALSE_ALARM, too_many
from tests.statistics.coverage import BY_WARD, CASES, MOMENTS, Case, tried

RUNS = 1_000
QUICK = [
    Case("count(*)", rho=0.005),
    Case("count(DISTINCT code)", rho=0.005),
    *(Case(measure) for measure in MOMENTS if "samp" not in measure),
    Case("sum(score)", BY_WARD, 0.1, strategy="clip"),
    Case("avg(score)", BY_WARD, 0.02),
    Case("median(cost)", rho=0.001, calibrated=False),
]
ALARM = FALSE_ALARM / (2 * len(QUICK))
NAMED = {
    "rows": "count(*)", "units": "count(DISTINCT person)", "distinct": "count(DISTINCT code)",
    "quantile": "median(", "quantiles": "quantile_cont(cost, [",
}  # fmt: skip
"""How a measure is asked for, where its kind does not say so."""


@pytest.mark.parametrize("case", QUICK, ids=lambda case: f"{case.measure} {case.rest}".strip())
def test_intervals_hold_as_often_as_they_say(case: Case) -> None:
    found = tried(case, RUNS)
    assert found.null == 0
    assert not too_many(found.trials - found.held, found.trials, 0.055, ALARM)
    assert not case.calibrated or not too_many(found.held, found.trials, 0.955, ALARM)


@pytest.mark.parametrize("case", [QUICK[0], Case("avg(cost)"), Case("corr(cost, score)")])
def test_an_interval_that_is_too_short_is_caught(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four fifths of the length it holds 88% of the time: 4,000 runs miss that with probability below
    1e-12."""
    honest = PlannedRelease.measured

    def understated(self: PlannedRelease, place: int) -> Any:
        asked = honest(self, place)
        sigmas, widths = ([0.8 * one for one in part] for part in (asked.sigmas, asked.widths))
        return dataclasses.replace(asked, sigmas=tuple(sigmas), widths=tuple(map(int, widths)))

    monkeypatch.setattr(PlannedRelease, "measured", understated)
    found = tried(case, 4_000)
    assert too_many(found.trials - found.held, found.trials, 0.055, ALARM)


def test_every_aggregate_with_an_interval_is_tried() -> None:
    asked = [case.measure for case in CASES]
    for kind in (name for name, one in KINDS.items() if one.interval):
        assert any(measure.startswith(NAMED.get(kind, f"{kind}(")) for measure in asked), kind
