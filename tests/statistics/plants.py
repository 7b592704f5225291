"""Faults that the auditor must catch: each stands in a copy of a plan, a table or the noise for one audit."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pyarrow as pa

import privacy
from privacy import release
from privacy.accounting import sigma_for
from privacy.mechanisms import discrete_gaussian
from privacy.release import Release
from tests.statistics.attacks import NONE, Attack, Fault
from tests.statistics.cases import BY_NAME
from tests.statistics.databases import DOCUMENT, TYPES
from tests.statistics.laboratory import Laboratory
from tests.statistics.laws import low_bits, noise_scale, order_of_rows
from tests.statistics.sampling import Exact
from tests.statistics.shapes import SHAPED, Spoil, lengths_of_another, stale_lengths

Noise = Callable[[Sequence[int], float], list[int]]


@dataclass(frozen=True)
class Plant:
    """A fault, and the attack that must see it.

    Attributes:
        attack: the name of a case, or what makes an attack.
        fault: what it changes of the exact part and of what is released.
        noise: makes what draws in place of the noise; made anew for each audit.
        spoil: changes what is stored of the neighbours, where the attack reads that.
        patches: further functions of `privacy.release`, by name, to put in place of the real ones.
        runs: enough to catch it but for a chance far below 1e-6; those that tell at once need few.
    """

    name: str
    attack: str | Callable[[Laboratory], Attack]
    fault: Fault = NONE
    noise: Callable[[], Noise] | None = None
    patches: dict[str, Any] = field(default_factory=dict)
    spoil: Spoil | None = None
    runs: int = 10_000

    def build(self, laboratory: Laboratory) -> Attack:
        """The attack on the faulty release, under the claim of the sound one. Audit it under `planted`."""
        if isinstance(self.attack, str) and self.attack in SHAPED:
            return SHAPED[self.attack].attack(laboratory, self.spoil)
        if isinstance(self.attack, str):
            return BY_NAME[self.attack].attack(laboratory.engine, self.fault)
        return self.attack(laboratory)

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """While open, noise is drawn and claims are checked as the fault has it."""
        patches = {**self.patches, **({"discrete_gaussian": self.noise()} if self.noise else {})}
        with contextlib.ExitStack() as stack:
            for name, put in patches.items():
                stack.enter_context(mock.patch.object(release, name, put))
            yield


# The noise


def half() -> Noise:
    return lambda values, sigma: discrete_gaussian(values, sigma / 2)


def none() -> Noise:
    return lambda values, _sigma: list(values)


def reused() -> Noise:
    """One draw serves every release of as many values and that scale."""
    kept: dict[tuple[int, float], list[int]] = {}

    def draw(values: Sequence[int], sigma: float) -> list[int]:
        noise = kept.setdefault((len(values), sigma), discrete_gaussian([0] * len(values), sigma))
        return [value + one for value, one in zip(values, noise, strict=True)]

    return draw


def seeded() -> Noise:
    def draw(values: Sequence[int], sigma: float) -> list[int]:
        generator = random.Random(7)
        return [value + round(generator.gauss(0, sigma)) for value in values]

    return draw


def coarse() -> Noise:
    """Right in scale, and a multiple of 16: the low bits of the truth stay as they are."""

    def draw(values: Sequence[int], sigma: float) -> list[int]:
        noise = discrete_gaussian([0] * len(values), sigma)
        return [value + 16 * round(one / 16) for value, one in zip(values, noise, strict=True)]

    return draw


def scaled_by_data() -> Noise:
    """As with a scale made of the largest value that there is."""
    return lambda values, sigma: discrete_gaussian(values, sigma * (1.3 if max(values) > 50 else 1.0))


# What is released


def measures_with(change: Callable[[Any], Any]) -> Callable[[Release], Release]:
    return lambda one: dataclasses.replace(one, measures=tuple(change(measure) for measure in one.measures))


def released_as(change: Callable[[Release], Release]) -> Fault:
    return Fault(tamper=lambda one: dataclasses.replace(one, release=change(one.release)))


def halved_sensitivity(measure: Any) -> Any:
    square = max(1, measure.sensitivity_squared // 4)
    sigma = sigma_for(square, measure.rho_nano)
    return dataclasses.replace(measure, sensitivity_squared=square, sigma=sigma)


def threshold_lower_by(steps: int) -> Fault:
    def lower(one: Release) -> Release:
        assert one.threshold is not None
        return dataclasses.replace(
            one, threshold=dataclasses.replace(one.threshold, value=one.threshold.value - steps)
        )

    return released_as(lower)


def rows_for_units(one: Exact) -> Exact:
    """The threshold looks at a count of rows."""
    bar = one.release.threshold
    assert bar is not None
    (rows,) = (measure.name for measure in one.release.measures if measure.name != bar.measure)
    place = one.table.column_names.index(bar.measure)
    table: pa.Table = one.table.set_column(place, bar.measure, one.table.column(rows))
    return dataclasses.replace(one, table=table)


# The exact part


def with_policy(**columns: Any) -> Callable[[privacy.Plan], privacy.Plan]:
    """Runs the exact part under wider bounds than were charged for."""
    visits = DOCUMENT["tables"]["visits"]
    wide = {**visits, "columns": {**visits["columns"], **columns}}
    document = {**DOCUMENT, "tables": {**DOCUMENT["tables"], "visits": wide}}
    policy = privacy.Policy.from_document(document, TYPES)
    return lambda plan: privacy.plan(_statement(plan), policy, rho=0.5, options=plan.options)


def with_options(**options: Any) -> Callable[[privacy.Plan], privacy.Plan]:
    """Runs the exact part with other caps than were charged for."""
    return lambda plan: privacy.plan(
        _statement(plan), plan.policy, rho=0.5, options=privacy.Options(**options)
    )


def _statement(plan: privacy.Plan) -> str:
    """The statement of the table of cases whose plan this is: a plan itself has forgotten its text."""
    statements = {case.sql for case in BY_NAME.values() if isinstance(case.sql, str)}
    for sql in statements:
        with contextlib.suppress(privacy.Refused):
            if privacy.plan(sql, plan.policy, rho=0.5, options=plan.options).digest == plan.digest:
                return sql
    raise AssertionError("faults of the exact part are planted in cases of one statement at rho 0.5")


def unchecked(_release: Release) -> None:
    """The last check of what is charged, taken out."""


PLANTS = [
    Plant("half the noise", "count", noise=half),
    Plant("half the noise, in groups", "public groups", noise=half),
    Plant("half the noise, in an average", "average at the lower bound", noise=half),
    Plant("no clamp", "sum at the upper clamp", Fault(ran=with_policy(cost={"bounds": [-1000, 1000]}))),
    Plant("rows of a unit not capped", "count", Fault(ran=with_options(max_rows=12))),
    Plant(
        "groups of a unit not capped",
        "caps on groups",
        Fault(ran=with_options(max_groups=9, strategy="caps")),
    ),
    Plant(
        "sensitivity of add and remove halved",
        "sum at the lower clamp",
        released_as(measures_with(halved_sensitivity)),
    ),
    Plant(
        "sensitivity of an average halved",
        "average at the upper bound",
        released_as(measures_with(halved_sensitivity)),
    ),
    Plant(
        "threshold one too low",
        "a key of one unit",
        threshold_lower_by(1),
        patches={"check_charges": unchecked},
        runs=4_000,
    ),
    Plant(
        "threshold two units too low, clipped",
        "many keys of one unit, clipped",
        threshold_lower_by(1 << 20),
        patches={"check_charges": unchecked},
        runs=4_000,
    ),
    Plant(
        "threshold two too low",
        "many keys of one unit",
        threshold_lower_by(2),
        patches={"check_charges": unchecked},
        runs=4_000,
    ),
    Plant(
        "rows behind the threshold",
        "many rows behind a key of one unit",
        Fault(tamper=rows_for_units),
        runs=4_000,
    ),
    Plant("noise of one release used for another", "everyone but one unit", noise=reused),
    Plant("seeded noise", "each answer drawn anew", noise=seeded),
    Plant("noise on a coarse grid", low_bits, noise=coarse, runs=4_000),
    Plant("noise that follows the data", noise_scale, noise=scaled_by_data),
    Plant("rows in the order of the scan", order_of_rows, patches={"_sorted": lambda table, _keys: table}),
    Plant("HAVING on exact values", "HAVING", noise=none, runs=2_500),
    Plant("LIMIT on exact values", "LIMIT", noise=none, runs=2_500),
    Plant(
        "lengths of a unit before it had most of its rows",
        "sum by a public key, read from synopsis with lengths",
        spoil=stale_lengths,
        runs=2_500,
    ),
    Plant(
        "lengths of another unit",
        "count by a private key, read from synopsis with lengths",
        spoil=lengths_of_another,
        runs=2_500,
    ),
    Plant(
        "lengths of another unit, in a quantile",
        "median by a public key, read from histogram with lengths",
        spoil=lengths_of_another,
    ),
]
