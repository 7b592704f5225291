"""Skewed events at any size: few users have most of the rows, few categories most of the events.

A user has a home region, where four of five events are; times run through one year, in order. Every million
rows have ten thousand users and one of 46,000 rows, so that sizes differ in nothing but size. Rows are made
and written a slice of the year at a time: 100 million need under 3 GB of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = 20_261_122
MILLION = 1_000_000
USERS_OF_MILLION = 10_000
LARGEST_OF_MILLION = 46_000
REGIONS = tuple(f"region-{place:02d}" for place in range(50))
HOME_SHARE = 0.8
COMMON_CATEGORIES, RARE_CATEGORIES = 4_500, 500
RARE_SHARE = 25 / MILLION
"""Of the rows, in all rare categories together: of a million rows most of them have none."""

ROWS_AT_A_TIME = 4 * 2**20
YEAR_S = 365 * 86_400

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Size:
    """How many events of how many users and categories.

    Attributes:
        common: categories that are not rare.
    """

    rows: int
    users: int
    common: int = COMMON_CATEGORIES

    @property
    def largest(self) -> int:
        """Events of the largest user."""
        return self.rows * LARGEST_OF_MILLION // MILLION

    @property
    def categories(self) -> int:
        """All there are, rare ones too."""
        return self.common + RARE_CATEGORIES

    @property
    def name(self) -> str:
        """As in ``10m``; with users and categories where they are not the usual."""
        unusual = "" if self == size_of(self.rows) else f"-{name_of(self.users)}-{self.categories}"
        return name_of(self.rows) + unusual


def size_of(rows: int) -> Size:
    """So many rows of the usual share of users."""
    return Size(rows, rows * USERS_OF_MILLION // MILLION)


def rows_in(text: str) -> int:
    """The number that ``10m``, ``250k`` or ``1000`` stands for."""
    scale = {"k": 1_000, "m": MILLION}.get(text[-1:].lower())
    return int(text) if scale is None else int(text[:-1]) * scale


def name_of(rows: int) -> str:
    """The shortest of its spellings: ``10m``."""
    for letter, scale in (("m", MILLION), ("k", 1_000)):
        if rows % scale == 0:
            return f"{rows // scale}{letter}"
    return str(rows)


def write(path: Path, size: Size) -> None:
    """Write so many events, in the order of their times; the same ones every time."""
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for table in slices(size):
            writer.write_table(table)


_SCHEMA = pa.schema(
    {
        "user_id": pa.int64(),
        "region": pa.string(),
        "category": pa.string(),
        "amount": pa.float64(),
        "happened_at": pa.timestamp("us"),
    }
)


def slices(size: Size) -> Iterator[pa.Table]:
    """The rows, some millions at a time."""
    rng = np.random.default_rng(SEED)
    user = np.repeat(np.arange(size.users, dtype=np.int32), rows_per_user(rng, size))
    people = _People(rng, size)
    starts = range(0, size.rows, ROWS_AT_A_TIME)
    if len(starts) > 1:
        _ = people.home  # drawn before the rows are shuffled, as where there is one slice
        rng.shuffle(user)
    for place, start in enumerate(starts):
        ends = [YEAR_S * each // len(starts) for each in (place, place + 1)]
        yield _slice(people, user[start : start + ROWS_AT_A_TIME], ends)


def _slice(people: _People, user: Numbers, ends: list[int]) -> pa.Table:
    """Rows between two seconds of the year."""
    rng, rows = people.rng, len(user)
    region = _regions(people, user)
    amount = _amounts(people, user, region)
    second = np.sort(rng.integers(ends[0], ends[1], rows))
    order = rng.permutation(rows)
    start = np.datetime64("2025-01-01T00:00:00", "us")
    columns = [
        user[order].astype(np.int64),
        _named(REGIONS, region[order]),
        _named([f"cat-{place:04d}" for place in range(people.size.categories)], _categories(people, rows)),
        amount[order],
        start + second.astype("timedelta64[s]"),
    ]
    return pa.table(columns, schema=_SCHEMA)


@dataclass(frozen=True)
class _People:
    """What is drawn once for all slices, when it is first needed."""

    rng: np.random.Generator
    size: Size

    @cached_property
    def home(self) -> Numbers:
        weights = 1 / (10 + np.arange(len(REGIONS)))
        return self.rng.choice(len(REGIONS), self.size.users, p=weights / weights.sum())

    @cached_property
    def levels(self) -> tuple[Numbers, Numbers]:
        """How much money is usual in each region, and with each user."""
        return self.rng.normal(0, 0.3, len(REGIONS)), self.rng.normal(0, 0.4, self.size.users)

    @cached_property
    def weights(self) -> Numbers:
        """Of the categories: a power law, and a tail of rare ones."""
        common = 1 / np.arange(1, self.size.common + 1)
        common *= (1 - RARE_SHARE) / common.sum()
        weights = np.concatenate([common, np.full(RARE_CATEGORIES, RARE_SHARE / RARE_CATEGORIES)])
        found: Numbers = weights / weights.sum()
        return found


def rows_per_user(rng: np.random.Generator, size: Size) -> Numbers:
    """A lognormal body with a Zipf-like tail: median 54, the largest with 46,000 of a million rows."""
    body = np.exp(rng.normal(0.0, 1.05, size.users))
    tail = size.largest / np.arange(1, size.users + 1) ** 1.25
    body *= (size.rows - tail.sum()) / body.sum()
    rows = np.maximum(np.rint(body + tail), 1).astype(np.int64)
    largest = int(rows.argmax())
    rows[largest] = size.largest
    others = np.flatnonzero((np.arange(size.users) != largest) & (rows > 10))
    surplus = int(rows.sum()) - size.rows
    corrected = rng.choice(others, abs(surplus), replace=abs(surplus) > len(others))
    np.add.at(rows, corrected, -1 if surplus > 0 else 1)
    found: Numbers = rng.permutation(rows)
    return found


def _regions(people: _People, user: Numbers) -> Numbers:
    """A home region for four rows of five, any other for the rest: a user touches a median of 11."""
    home = people.home[user]
    elsewhere = (home + people.rng.integers(1, len(REGIONS), len(user))) % len(REGIONS)
    found: Numbers = np.where(people.rng.random(len(user)) < HOME_SHARE, home, elsewhere)
    return found


def _categories(people: _People, rows: int) -> Numbers:
    found: Numbers = people.rng.choice(people.size.categories, rows, p=people.weights)
    return found


def _amounts(people: _People, user: Numbers, region: Numbers) -> Numbers:
    """Skewed sums of money that differ by region and by user, in cents, within [0, 1000]."""
    of_region, of_user = people.levels
    level = np.log(40) + of_region[region] + of_user[user]
    found: Numbers = np.round(np.clip(np.exp(level + people.rng.normal(0, 0.9, len(user))), 0, 1000), 2)
    return found


def _named(names: Any, codes: Numbers) -> pa.Array:
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), pa.array(names)).cast(pa.string())
