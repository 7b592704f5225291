"""Attacks on answers read in each shape that stored rows have: the victim is in the layout, or is not.

Exact parts come out of layouts of both neighbours, of which each shape in turn is made the cheapest. Noise is
the product's own, as in every attack.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import privacy
from privacy.auditor import Claim
from privacy.engines.duckdb import LENGTHS, NUMBER, SALT_TABLE
from privacy.release import Histogram
from tests.privacy.every_shape import Database
from tests.statistics.attacks import Attack
from tests.statistics.databases import DOCUMENT, TYPES, VICTIM, Row, crowd, tables, visit
from tests.statistics.laboratory import Laboratory
from tests.statistics.sampling import SALT, Exact, Ruler, parts, scores, stacked

KEPT = ("ward", "code", "cost")
POLICY = privacy.Policy.from_document(
    {
        **DOCUMENT,
        "tables": {
            "visits": {
                **DOCUMENT["tables"]["visits"],
                "columns": {name: DOCUMENT["tables"]["visits"]["columns"][name] for name in KEPT},
            }
        },
    },
    {"visits": {name: TYPES["visits"][name] for name in ("person", *KEPT)}},
)
RHO = 0.5
CLIP = privacy.Options(strategy="clip")
AT_ONCE = 1_000
SUMS = {
    "count": "SELECT count(*) AS n FROM visits",
    "sum by a public key": "SELECT ward, sum(cost) AS s FROM visits GROUP BY ward",
    "average by a public key": "SELECT ward, avg(cost) AS a FROM visits GROUP BY ward",
    "count by a private key": "SELECT code, count(*) AS n FROM visits GROUP BY code",
}
MEDIAN = {"median by a public key": "SELECT ward, median(cost) AS m FROM visits GROUP BY ward"}
ASKED = {
    "rows": SUMS | MEDIAN,
    "synopsis": SUMS,
    "synopsis with lengths": SUMS,
    "histogram": MEDIAN,
    "histogram with lengths": MEDIAN,
}
Read = dict[str, pa.Table]
"""What a statement reads, by the names that it has for it."""
Spoil = Callable[["Shaped", Laboratory, Read], Read]


@dataclass(frozen=True)
class Shaped:
    """One question, read in one shape."""

    name: str
    shape: str
    sql: str

    def attack(self, laboratory: Laboratory, spoil: Spoil | None = None) -> Attack:
        """The attack, with the exact part read once from the layout of each of the neighbours.

        Args:
            spoil: changes what is stored after it was verified; by default nothing does.
        """
        (larger,), (smaller,) = (self._exact(laboratory, side, spoil) for side in ("with", "without"))
        charged = self.plan().cost
        draw = _nodes if self.sql in MEDIAN.values() else _sums
        samplers = draw(larger, smaller)
        share = 0.2 if self.sql in MEDIAN.values() else 1.0
        return Attack(self.name, Claim.zcdp(charged.rho_nano, charged.delta_pico), *samplers, share=share)

    def plan(self) -> privacy.Plan:
        """What is asked of both."""
        return privacy.plan(self.sql, POLICY, rho=RHO, options=CLIP)

    def read(self, laboratory: Laboratory, side: str) -> tuple[str, Read]:
        """The statement over one side's stored rows, and these."""
        (one,) = self.plan().releases
        ways = database(laboratory, side).ways(one)
        (served,) = (way for about, way in ways.items() if kind(about) == self.shape)
        return served.sql, {
            name: pa.concat_tables([pq.read_table(path) for path in paths])
            for name, paths in served.files.items()
        }

    def _exact(self, laboratory: Laboratory, side: str, spoil: Spoil | None) -> list[Exact]:
        sql, read = self.read(laboratory, side)
        given = spoil(self, laboratory, read) if spoil else read
        salted = {**given, SALT_TABLE: pa.table({"salt": [SALT.hex()]})}
        table = laboratory.engine.run(sql, salted)
        return [Exact(name, table, release, show) for name, _, release, show in parts(self.plan())]


def kind(about: str) -> str:
    """The shape's name without what it is of."""
    return f"{about.split()[0]}{' with lengths' if about.endswith('with lengths') else ''}"


def rows_of(side: str) -> list[Row]:
    """A crowd, and on one side a victim with far more rows than count in every ward, far above the bounds.
    Of the side "stale" the victim has one row yet."""
    victim = [visit(VICTIM, ward=ward, cost=10**6) for ward in "abc"] * 40
    return [*{"with": victim, "stale": victim[:1], "without": []}[side], *crowd()]


def database(laboratory: Laboratory, side: str) -> Database:
    """Files of one side and their layout, made once in a laboratory."""

    def made() -> Database:
        visits = tables(rows_of(side))["visits"].select(["person", *KEPT])
        files = {
            name: str(path) for name, path in laboratory.files(f"laid-{side}", {"visits": visits}).items()
        }
        folder = laboratory.folder / f"layout-{side}"
        return Database(files, privacy.layout(POLICY, files, folder, sandbox=laboratory.sandbox))

    return laboratory.once(f"layout {side}", made)


# What a buyer learns

Sampler = Callable[[int], Sequence[float]]


def _sums(larger: Exact, smaller: Exact) -> tuple[Sampler, Sampler]:
    ruler = Ruler.between(larger, smaller)
    assert not ruler.blind
    return lambda runs: scores([larger], [ruler], runs), lambda runs: scores([smaller], [ruler], runs)


def _nodes(larger: Exact, smaller: Exact) -> tuple[Sampler, Sampler]:
    """Released nodes of trees, weighed as the likelihood ratio weighs them."""
    one, other = (_drawn(_silent(exact), 1)[0] for exact in (larger, smaller))
    assert (one != other).any()

    def sampler(exact: Exact) -> Sampler:
        def draw(runs: int) -> Iterator[float]:
            for start in range(0, runs, AT_ONCE):
                nodes = _drawn(exact, min(AT_ONCE, runs - start))
                yield from (float(score) for score in (nodes - (one + other) / 2) @ (one - other))

        return lambda runs: list(draw(runs))

    return sampler(larger), sampler(smaller)


def _drawn(exact: Exact, runs: int) -> NDArray[np.float64]:
    """One line for each run: all nodes of all groups, which are public."""
    (measure,) = exact.release.measures
    nodes = stacked(exact, runs).column(measure.name).combine_chunks().flatten().to_numpy()
    found: NDArray[np.float64] = nodes.reshape(runs, -1).astype(np.float64)
    return found


def _silent(exact: Exact) -> Exact:
    """With noise so small that it rounds to nothing."""
    (measure,) = exact.release.measures
    assert isinstance(measure, Histogram)
    rho_nano = math.ceil(measure.sensitivity_squared * 1e9 / (2 * 0.01**2))
    quiet = dataclasses.replace(measure, sigma=0.01, rho_nano=rho_nano + 1)
    return dataclasses.replace(exact, release=dataclasses.replace(exact.release, measures=(quiet,)))


SHAPED = {
    one.name: one
    for shape, asked in ASKED.items()
    for one in (Shaped(f"{question}, read from {shape}", shape, sql) for question, sql in asked.items())
}


# Faults of what is stored


def stale_lengths(shaped: Shaped, laboratory: Laboratory, read: Read) -> Read:
    """Lengths of the units when the victim had but one row."""
    return {**read, LENGTHS: shaped.read(laboratory, "stale")[1][LENGTHS]} if _has_victim(read) else read


def lengths_of_another(_shaped: Shaped, _laboratory: Laboratory, read: Read) -> Read:
    """Each unit has the lengths of the one behind it."""
    lengths = read[LENGTHS]
    numbers = pa.array(np.roll(lengths.column(NUMBER).to_numpy(), 1), lengths.schema.field(NUMBER).type)
    place = lengths.column_names.index(NUMBER)
    return {**read, LENGTHS: lengths.set_column(place, NUMBER, numbers)}


def _has_victim(read: Read) -> bool:
    return VICTIM in read[LENGTHS].column("#owner").to_pylist()
