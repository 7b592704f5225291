"""From exact to noisy: claims are recomputed, shapes are checked, and the order tells nothing."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from privacy.accounting import sigma_for, threshold_for
from privacy.errors import PrivacyError
from privacy.mechanisms import CLAMP, charge_nano
from privacy.release import ChargeMismatch, ExactTableInvalid, Measure, Release, Threshold, perturb

SILENT = 0.01  # at this sigma P(noise != 0) < 1e-2000
FREE = charge_nano(1, SILENT)
NOISY = sigma_for(1, 10**6)


def silent(*names: str, keys: tuple[str, ...] = (), threshold: Threshold | None = None) -> Release:
    return Release(keys, tuple(Measure(name, 1, SILENT, FREE) for name in names), threshold)


def lone_unit_threshold(delta_pico: int = 1) -> Threshold:
    return Threshold("n", threshold_for(SILENT, 1, delta_pico), delta_pico)


def test_rows_come_in_key_order_with_null_last_whatever_the_scan_order() -> None:
    exact = pa.table({"k": ["b", None, "a", "Z"], "n": [2, 0, 1, 26]})
    assert perturb(exact, silent("n", keys=("k",))).to_pylist() == [
        {"k": "Z", "n": 26},
        {"k": "a", "n": 1},
        {"k": "b", "n": 2},
        {"k": None, "n": 0},
    ]


def test_several_keys_of_any_type_order_rows_together() -> None:
    exact = pa.table(
        {
            "n": [1, 2, 3, 4],
            "day": pa.array([20, None, 10, 20], pa.date32()),
            "who": pa.array(["x", "x", "x", "a"]).dictionary_encode(),
            "nothing": pa.nulls(4),
        }
    )
    noisy = perturb(exact, silent("n", keys=("day", "who", "nothing")))
    assert noisy.column("n").to_pylist() == [3, 4, 1, 2]
    assert noisy.column_names == ["day", "who", "nothing", "n"]
    assert noisy.schema.field("day").type == pa.date32()
    assert noisy.schema.field("who").type == pa.string()


def test_totals_wider_than_int64_are_clamped_exactly_and_released_as_int64() -> None:
    wide = pa.array([Decimal(2**53 + 1), Decimal(2**100), Decimal(-(2**100))], pa.decimal128(38, 0))
    noisy = perturb(pa.table({"k": [1, 2, 3], "s": wide}), silent("s", keys=("k",)))
    assert noisy.column("s").to_pylist() == [2**53 + 1, CLAMP, -CLAMP]
    assert noisy.schema.field("s").type == pa.int64()


def test_a_global_release_has_one_row() -> None:
    release = silent("n", "s")
    assert perturb(pa.table({"n": [3], "s": [-5]}), release).to_pylist() == [{"n": 3, "s": -5}]
    for rows in ([], [1, 2]):
        with pytest.raises(ExactTableInvalid):
            perturb(pa.table({"n": pa.array(rows, pa.int64()), "s": pa.array(rows, pa.int64())}), release)


def test_every_measure_is_noised_once_and_independently() -> None:
    measures = tuple(Measure(name, 1, 1e6, charge_nano(1, 1e6)) for name in ("n", "s"))
    exact = pa.table({"k": list(range(50)), "n": [0] * 50, "s": [0] * 50})
    noisy = perturb(exact, Release(("k",), measures, None))
    draws = noisy.column("n").to_pylist() + noisy.column("s").to_pylist()
    assert len(set(draws)) > 90  # 100 draws of sigma 1e6: ten collisions have a chance below 1e-20


def test_keys_below_the_threshold_are_hidden_with_all_their_measures() -> None:
    exact = pa.table({"k": ["a", "b", "c"], "n": [1, 2, 1], "s": [10, 20, 30]})
    noisy = perturb(exact, silent("n", "s", keys=("k",), threshold=lone_unit_threshold()))
    assert noisy.to_pylist() == [{"k": "b", "n": 2, "s": 20}]


def test_a_release_may_show_no_key_at_all() -> None:
    release = silent("n", keys=("k",), threshold=lone_unit_threshold())
    for keys in (["a"], []):
        exact = pa.table({"k": pa.array(keys, pa.string()), "n": pa.array([1] * len(keys), pa.int64())})
        noisy = perturb(exact, release)
        assert noisy.num_rows == 0
        assert noisy.schema.types == [pa.string(), pa.int64()]


def test_the_shown_count_is_the_one_that_decided() -> None:
    sigma = 50.0
    value = threshold_for(sigma, 1, 10**9)
    release = Release(("k",), (Measure("n", 1, sigma, charge_nano(1, sigma)),), Threshold("n", value, 10**9))
    counts = perturb(pa.table({"k": list(range(400)), "n": [value] * 400}), release).column("n").to_pylist()
    assert 100 < len(counts) < 300  # half of 400, ten standard deviations either way
    assert min(counts) >= value


def test_the_cost_is_the_sum_of_the_measures_and_the_threshold() -> None:
    release = silent("n", "s", keys=("k",), threshold=lone_unit_threshold(7))
    assert release.rho_nano == 2 * FREE
    assert release.delta_pico == 7
    assert silent("n").delta_pico == 0


@pytest.mark.parametrize(
    "change",
    [{"rho_nano": FREE - 1}, {"sensitivity_squared": 2}, {"sigma": SILENT * 0.999999}, {"rho_nano": 0}],
)
def test_a_measure_that_claims_too_little_does_not_run(change: dict[str, Any]) -> None:
    release = silent("n")
    forged = dataclasses.replace(release, measures=(dataclasses.replace(release.measures[0], **change),))
    with pytest.raises(ChargeMismatch) as caught:
        perturb(pa.table({"n": [424242]}), forged)
    assert caught.value.code == "charge_mismatch"
    assert isinstance(caught.value, PrivacyError)
    assert "424242" not in str(caught.value)


def test_a_charge_above_the_map_is_allowed() -> None:
    release = Release((), (Measure("n", 1, SILENT, FREE + 1),), None)
    assert perturb(pa.table({"n": [5]}), release).to_pylist() == [{"n": 5}]


@pytest.mark.parametrize(
    "threshold",
    [
        Threshold("n", threshold_for(NOISY, 4, 10**6) - 1, 10**6),
        Threshold("n", threshold_for(NOISY, 1, 10**6), 10**6),
        Threshold("n", threshold_for(NOISY, 4, 10**6), 10**5),
        Threshold("unknown", 1000, 10**6),
    ],
)
def test_a_threshold_lower_than_its_delta_pays_for_does_not_run(threshold: Threshold) -> None:
    measures = (Measure("n", 4, NOISY, charge_nano(4, NOISY)),)
    with pytest.raises(ChargeMismatch):
        perturb(pa.table({"k": ["a"], "n": [9]}), Release(("k",), measures, threshold))


def test_a_threshold_without_keys_does_not_run() -> None:
    with pytest.raises(ChargeMismatch):
        perturb(pa.table({"n": [9]}), silent("n", threshold=lone_unit_threshold()))


@pytest.mark.parametrize(
    "exact",
    [
        pa.table({"k": ["a"]}),
        pa.table({"n": [1]}),
        pa.table({"k": ["a"], "n": [1], "more": [2]}),
        pa.table({"k": ["a", "b"], "n": [1, None]}),
        pa.table({"k": ["a"], "n": [1.5]}),
        pa.table({"k": ["a"], "n": pa.array([Decimal("1.5")], pa.decimal128(38, 1))}),
        pa.table({"k": ["a"], "n": ["1"]}),
        pa.table({"k": ["a", "a"], "n": [1, 2]}),
        pa.table({"k": pa.array([None, None], pa.string()), "n": [1, 2]}),
        pa.table([pa.array(["a"]), pa.array([1]), pa.array([1])], names=["k", "n", "n"]),
    ],
)
def test_a_table_of_another_shape_is_refused_before_any_noise(exact: pa.Table) -> None:
    with pytest.raises(ExactTableInvalid) as caught:
        perturb(exact, silent("n", keys=("k",)))
    assert caught.value.code == "exact_table_invalid"
