"""What a contribution profile makes of a question: which limits it gets, and what is kept in reserve."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

import privacy
from privacy.algebra import Sum
from privacy.planned import PlannedRelease
from privacy.profile import Histogram, TableProfile
from privacy.rescaling import Totals, made_up
from tests.privacy.profiles import visits
from tests.privacy.test_sensitivity import POLICY as DECLARED
from tests.privacy.test_sensitivity import TYPES

POLICY = privacy.Policy.from_document(DECLARED, TYPES)


def _release(sql: str, profile: privacy.Profile | None = None) -> PlannedRelease:
    (release,) = privacy.plan(sql, POLICY, profile=profile or visits(), rho=0.05).releases
    return release


def _planned(rows: Histogram, *, declared: int) -> privacy.Plan:
    """A count of all rows, with a profile of these and the declared size of a unit."""
    document: dict[str, Any] = copy.deepcopy(DECLARED)
    document["tables"]["visits"]["max_rows"] = declared
    policy = privacy.Policy.from_document(document, TYPES)
    profile = privacy.Profile(1000, {"visits": TableProfile(rows)})
    return privacy.plan("SELECT count(*) AS n FROM visits", policy, profile=profile, rho=0.1)


def _limit(release: PlannedRelease, kind: str) -> float:
    """The length that a unit's numbers of one kind may have."""
    (found,) = {one.norm_squared for one in release.lowered.aggregate.sums if one.kind == kind}
    return math.sqrt(found)


def _sums(release: PlannedRelease) -> list[Sum]:
    return list(release.lowered.aggregate.sums)


def _crowded(profile: privacy.Profile, times: int) -> privacy.Profile:
    """So many times more units of each size."""

    def more(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return {
            name: [times * one for one in value] if name == "counts" else more(value)
            for name, value in part.items()
        }

    return privacy.Profile.from_document(more(profile.document()))


def test_a_single_row_is_never_scaled_down() -> None:
    """Where hardly a row in a thousand is left, those who are left have one: it counts whole."""
    rare = "day = 1 AND cost = 3 AND score = 0.5 AND note LIKE 'x%'"
    assert _limit(_release(f"SELECT ward, count(*) AS n FROM visits WHERE {rare} GROUP BY ward"), "rows") >= 1
    assert _limit(_release(f"SELECT count(*) AS n FROM visits WHERE {rare}"), "rows") >= 1


def test_filters_that_leave_fewer_rows_ask_for_shorter_limits() -> None:
    whole = _limit(_release("SELECT ward, count(*) AS n FROM visits GROUP BY ward"), "rows")
    some = _limit(_release("SELECT ward, count(*) AS n FROM visits WHERE day = 1 GROUP BY ward"), "rows")
    assert 1 <= some < whole


@pytest.mark.parametrize(
    ("declared", "hidden", "kept"),
    [(400, 150, True), (400, -60, True), (600, 150, True), (200, 150, False), (1000, -200, False)],
)
def test_the_busiest_units_are_not_cut_off_because_noise_hides_them(
    declared: int, hidden: int, kept: bool
) -> None:
    """Where the provider says that units may be that busy, a bin below the noise is taken to hold some; it is
    not where their size is beyond what is declared, nor where the noise leaves no room for them."""
    counts = [0, 170, 160, 220, 230, 600, 860, 1000, 490, hidden, *[0] * 20]
    (release,) = _planned(Histogram(tuple(counts), 79.0), declared=declared).releases
    assert (_limit(release, "rows") > 300) is kept


@pytest.mark.parametrize(("seen", "believed"), [(180, False), (400, True)])
def test_noise_makes_no_units_larger_than_the_provider_declares(seen: int, believed: bool) -> None:
    """Beyond the declared size a bin of two sigma is noise, as one of so many bins is by chance."""
    rows = Histogram((0, 170, 160, 220, 230, 600, 860, 1000, 490, 296, seen, *[0] * 20), 79.0)
    (release,) = _planned(rows, declared=400).releases
    assert (_limit(release, "rows") > 600) is believed


def test_a_condition_on_what_a_unit_has_one_of_leaves_its_rows_together() -> None:
    """Units with one value of a key pass with all of their rows; those with many values with some."""
    sql = "SELECT count(*) AS n FROM visits WHERE ward = 'a'"
    together = _limit(_release(sql, visits(rows=40, groups=1)), "rows")
    apart = _limit(_release(sql, visits(rows=40, groups=8)), "rows")
    assert together > 2 * apart


def test_totals_stand_in_reserve_where_a_filter_makes_it_a_guess() -> None:
    profile = _crowded(visits(rows=500), 100)
    counted = _release("SELECT count(*) AS n FROM visits WHERE cost = 3 AND score = 0.5", profile)
    (total,) = counted.lowered.aggregate.totals
    assert total.cap**2 >= _sums(counted)[0].norm_squared
    assert counted.choice.expected[0].ratio < 1.1
    for sql in (
        "SELECT count(*) AS n FROM visits",
        "SELECT sum(score) AS s FROM visits WHERE note LIKE 'x%'",
    ):
        assert not _release(sql, profile).lowered.aggregate.totals, (
            "no guess; a sum of both signs has no ratio"
        )


@pytest.mark.parametrize(
    ("reserve", "whole", "ratio"),
    [
        (False, 1300.0, 1.3),
        (True, 1300.0, 1.0),
        (True, 2000.0, 2.0),
        (False, 900.0, 1.0),
        (False, 300.0, 1.0),
    ],
)
def test_totals_scale_up_what_is_clearly_missing(reserve: bool, whole: float, ratio: float) -> None:
    """In reserve only where they differ by more than noise may."""
    totals = Totals(whole, 150.0, 1000.0, 20.0, 4, reserve)
    assert totals.ratio == pytest.approx(ratio)
    shown = made_up(np.array([100.0]), 5.0, totals, 0, whole_numbers=True)
    value, low, high = (column[0].as_py() for column in shown.arrays())
    assert value == round(100 * ratio)
    assert low < value < high


def test_an_average_does_not_cost_the_sum_beside_it() -> None:
    """They share one factor: what is scaled down for the average would be missing in the sum."""
    alone = _release("SELECT ward, avg(score) AS a FROM visits GROUP BY ward")
    beside = _release("SELECT ward, avg(score) AS a, sum(score) AS s FROM visits GROUP BY ward")
    assert _limit(beside, "centred") > _limit(alone, "centred")
    assert _limit(beside, "rows") >= _limit(alone, "rows")


def test_quantiles_are_limited_by_the_noise_of_their_tree() -> None:
    """A histogram's noise is several times that of a count, so that shorter limits serve it better."""
    count = _limit(_release("SELECT ward, count(*) AS n FROM visits GROUP BY ward", visits(rows=60)), "rows")
    median = "SELECT ward, median(score) AS m FROM visits GROUP BY ward"
    assert _limit(_release(median, visits(rows=60)), "histogram") < count


def test_choices_do_not_depend_on_the_order_of_measures() -> None:
    one = _release("SELECT ward, avg(score) AS a, sum(score) AS s, count(*) AS n FROM visits GROUP BY ward")
    other = _release("SELECT ward, count(*) AS n, sum(score) AS s, avg(score) AS a FROM visits GROUP BY ward")
    assert one.document() == other.document()


def test_an_average_of_all_rows_becomes_that_of_the_rows() -> None:
    """With each unit counting the same it would be that of units, whatever is paid: more rho lets busy units
    count with more of their rows."""
    sql = "SELECT avg(cost) AS a FROM visits"
    limits = [
        _limit(privacy.plan(sql, POLICY, profile=visits(rows=8), rho=rho).releases[0], "rows")
        for rho in (0.001, 0.01, 1.0)
    ]
    assert limits == sorted(limits)
    assert limits[-1] > 8 * limits[0]
