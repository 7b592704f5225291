"""Makes the contribution profile of a dataset version: the only thing that is released of it unasked."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from privacy.accounting import ParameterInvalid, rho_to_nano, sigma_for
from privacy.algebra import Column, Literal, tables_of
from privacy.arithmetic import Bounds, fixed
from privacy.engines.duckdb import quoted
from privacy.engines.duckdb.contributions import Contributions, CountedKey, CountedNumber
from privacy.errors import Refused
from privacy.files import Files, check_private_files, files_of
from privacy.plan import plan
from privacy.profile import Histogram, KeyProfile, NumberProfile, Profile, TableProfile
from privacy.profiled import CENTRES_SHARE, least_profile_rho_nano, profiled_keys, profiled_numbers
from privacy.release import Measure, Release, perturb
from privacy.sandbox import Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from privacy.policy import Column as DeclaredColumn
    from privacy.policy import Policy, Table


def profile(
    policy: Policy, tables: Files, *, rho: float | str | Decimal | None = None, sandbox: Sandbox | None = None
) -> Profile:
    """Release the contribution profile of a dataset version. Whoever calls it charges `Profile.rho_nano`.

    Args:
        tables: files of every private table of the policy, by name.
        rho: what it may cost (rounded down to 1e-9; default: the policy's ``profile_rho``).
        sandbox: where the engine runs; without one, a sandbox is made for this alone.

    Raises:
        Refused: ``budget_invalid``, less rho than `least_profile_rho_nano` of the tables, or nothing private.
        TablesMissing: a private table's files were not given.
        TablesUnfit: a private table's file is not one that every question can be answered from.
        EngineFailed: the engine did not answer.
    """
    if sandbox is None:
        with Sandbox(Limits(), workers=1) as own:
            return profile(policy, tables, rho=rho, sandbox=own)
    spend = policy.profile_rho_nano if rho is None else rho_to_nano(rho, budget=True)
    private = [table for table in policy.tables.values() if table.private]
    least = least_profile_rho_nano(private)
    if not private or spend < least:
        hint = (
            f"Use at least rho={Decimal(least).scaleb(-9).normalize():f}."
            if private
            else "No table of the policy is private."
        )
        raise Refused("budget_invalid", "There is too little rho for a profile.", hint=hint)
    share = spend // len(private)
    made = {table.name.lower(): _Maker(policy, table, tables, share, sandbox) for table in private}
    profiled = {name: one.made() for name, one in made.items()}
    cost = sum(one.cost_nano for one in made.values())
    assert cost <= spend
    return Profile(cost, profiled)


class _Maker:
    """Makes the profile of one table, and adds up what it costs."""

    def __init__(self, policy: Policy, table: Table, tables: Files, share: int, sandbox: Sandbox) -> None:
        self.cost_nano = 0
        self._share = share
        self._sandbox = sandbox
        self._keys = profiled_keys(table)
        numbers = profiled_numbers(table)
        self._numbers = [one for one in numbers if _has_centre(one, _centre_share(share, len(numbers)))]
        counted = (
            ", ".join(f"count({quoted(one.name)})" for one in [*self._keys, *self._numbers]) or "count(*)"
        )
        sql = f"SELECT {counted} FROM {quoted(table.name)}"  # noqa: S608 - a policy's names, quoted
        reading = plan(sql, policy, rho_nano=policy.max_rho_per_query_nano)
        question = reading.releases[0].question
        self._relation, self._unit = question.input, question.unit
        self._files = files_of(tables_of(self._relation), tables)
        check_private_files(reading, files_of(reading.tables, tables), sandbox)

    def made(self) -> TableProfile:
        centres = self._centres()
        found = self._histograms(centres)
        rows = next(found)
        keys = {one.name.lower(): KeyProfile(next(found), next(found)) for one in self._keys}
        numbers = {
            one.name.lower(): NumberProfile(centre, next(found), next(found))
            for one, centre in zip(self._numbers, centres, strict=True)
        }
        return TableProfile(rows, keys, numbers)

    def _centres(self) -> list[int]:
        """Near the mean of units' own means of each number."""
        if not self._numbers:
            return []
        counted = self._contributions([0] * len(self._numbers))
        reaches = [1, *(one.reach for one in counted.numbers)]
        names = ["units", *(f"c{place}" for place in range(len(counted.numbers)))]
        share = _centre_share(self._share, len(counted.numbers))
        measures = tuple(_measure(name, reach**2, share) for name, reach in zip(names, reaches, strict=True))
        (row,) = self._noisy(counted.centres_sql(), Release((), measures)).to_pylist()
        units = max(row.pop("units"), 1)
        return [
            one.middle + max(min(total // units, one.reach), -one.reach)
            for one, total in zip(counted.numbers, row.values(), strict=True)
        ]

    def _histograms(self, centres: list[int]) -> Iterator[Histogram]:
        counted = self._contributions(centres)
        measure = _measure("n", len(counted.digits), self._share - self.cost_nano)
        noisy = self._noisy(counted.histograms_sql(), Release(("h", "b"), (measure,)))
        for h, most in enumerate(counted.digits):
            counts = noisy.filter(pc.equal(noisy.column("h"), h)).column("n").to_pylist()
            assert len(counts) == most
            yield Histogram(tuple(counts), round(measure.sigma * 1000) / 1000)

    def _contributions(self, centres: list[int]) -> Contributions:
        source = self._unit.source
        keys = tuple(
            CountedKey(Column(source, one.name, one.type or "text"), _domain(one)) for one in self._keys
        )
        numbers = tuple(
            _counted_number(source, one, centre) for one, centre in zip(self._numbers, centres, strict=True)
        )
        return Contributions(self._relation, self._unit, keys, numbers)

    def _noisy(self, sql: str, release: Release) -> pa.Table:
        self.cost_nano += release.rho_nano
        return perturb(self._sandbox.run(Task(sql, self._files)), release)


def _measure(name: str, sensitivity_squared: int, share: int) -> Measure:
    return Measure(name, sensitivity_squared, sigma_for(sensitivity_squared, share), share)


def _centre_share(share: int, numbers: int) -> int:
    """Nano-rho for the centre of each of so many numbers, and for the number of units."""
    return share // CENTRES_SHARE // (1 + numbers)


def _has_centre(one: DeclaredColumn, share: int) -> bool:
    """Whether the bounds are not so wide that there is no noise for a centre at its share of rho."""
    with suppress(ParameterInvalid):
        _measure("", _counted_number("", one, 0).reach ** 2, share)
        return True
    return False


def _domain(one: DeclaredColumn) -> tuple[Literal, ...] | None:
    return None if one.keys is None else tuple(Literal(value, one.type or "text") for value in one.keys)


def _counted_number(source: str, one: DeclaredColumn, centre: int) -> CountedNumber:
    assert one.low is not None
    assert one.high is not None
    bounds = Bounds(one.low, one.high, one.decimals)
    middle = (one.low + one.high) // 2
    reach = max(one.high - middle, middle - one.low, 1)
    scalar = fixed(Column(source, one.name, one.type or "float"), lambda _: bounds).scalar
    return CountedNumber(scalar, middle, reach, centre)
