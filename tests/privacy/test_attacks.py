"""Attacks whose outcome is certain: what they compare is equal on neighbours, or they are refused.

The noisy ones are in `tests/statistics`. Races for the budget, crashes and refunds are in `tests/journeys`
(`test_road`, `test_crashes`), as are quotes and pages of neighbouring markets (`test_neighbours`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest import mock

import pytest

import privacy
from tests.statistics import certain
from tests.statistics.cases import BY_NAME
from tests.statistics.certain import CERTAIN
from tests.statistics.laboratory import Laboratory
from tests.statistics.sampling import Engine, parts


@pytest.fixture
def where(sandbox: privacy.Sandbox, tmp_path: Path) -> Laboratory:
    return Laboratory(sandbox, tmp_path)


@pytest.mark.parametrize("name", CERTAIN)
def test_it_tells_nothing(name: str, where: Laboratory) -> None:
    found = CERTAIN[name](where)
    assert found.comparisons >= 6
    assert found.differing == ()


# Each comparison can fail


def test_sums_in_the_order_of_the_scan_are_caught(where: Laboratory) -> None:
    """Doubles added as they come, in place of integers."""

    def exact(self: Engine, plan: privacy.Plan, tables: object, *_: object) -> list[object]:
        self._connection.execute("SET threads = 4")
        for name, table in dict(tables).items():  # type: ignore[call-overload]
            self._connection.register(name, table)
        return list(self._connection.sql("SELECT sum(sqrt(abs(score))) FROM visits").fetchall())

    with mock.patch.object(Engine, "exact", exact), mock.patch.object(certain, "cells", lambda one: one):
        assert certain.totals_do_not_depend_on_the_layout(where).differing


def test_a_unit_that_moves_more_than_is_charged_is_caught(where: Laboratory) -> None:
    options = privacy.Options(max_rows=5)
    case = dataclasses.replace(BY_NAME["count"], options=options)
    (larger,), (smaller,) = (
        where.engine.exact(plan, side)
        for plan, side in zip(
            [case.plans()[0][0]] * 2, (case.pair().larger, case.pair().smaller), strict=True
        )
    )
    assert certain.within(larger, smaller)
    ((_, _, charged, _),) = parts(BY_NAME["count"].plans()[0][0])
    assert not certain.within(dataclasses.replace(larger, release=charged), smaller)


def test_an_answered_question_about_others_is_caught() -> None:
    with mock.patch.object(certain, "ABOUT_OTHERS", ["SELECT count(*) AS n FROM visits"]):
        assert certain.filters_on_other_units_are_refused().differing
    with mock.patch.object(certain, "METADATA", ["SELECT count(*) AS n FROM wards"]):
        assert certain.metadata_is_not_a_table().differing


def test_workers_with_equal_noise_are_caught() -> None:
    """A generator of this process, as it stands when it forks."""
    with (
        mock.patch.object(certain, "FORKS", 2),
        mock.patch.object(certain, "discrete_gaussian", return_value=[7]),
    ):
        assert certain.forked_workers_draw_different_noise().differing


def test_bounds_that_follow_an_outlier_are_caught(where: Laboratory) -> None:
    widths = [[[1.0]], [[2.0]], [[1.0]], [[1.0]]]
    with mock.patch.object(certain, "_widths", side_effect=widths):
        assert len(certain.outliers_move_no_bound(where).differing) == 1
