"""The flights example: its files, its manifest, and the numbers that its comments and README state."""

from __future__ import annotations

import runpy
from pathlib import Path

import duckdb
import pytest

from catalog.ingest import TableReport, ingest_table
from catalog.manifest import Manifest, read_manifest
from catalog.schema import check_declared, unit_of

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flights"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its data, in a folder of its own."""
    target = tmp_path_factory.mktemp("flights")
    for name in ("listing.toml", "policy.toml", "LICENCE.txt"):
        (target / name).write_bytes((EXAMPLE / name).read_bytes())
    runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](target / "data")
    return target


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / "listing.toml")


@pytest.fixture(scope="module")
def reports(manifest: Manifest, folder: Path) -> dict[str, TableReport]:
    return {
        name: ingest_table(path, table=name, unit=unit_of(manifest.policy, name), out=folder / "out" / name)
        for name, path in manifest.tables.items()
    }


def test_making_the_data_again_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](tmp_path)
    assert len(again) == 5
    for path in again:
        assert path.read_bytes() == (folder / "data" / path.name).read_bytes()


def test_every_table_is_taken_whole(reports: dict[str, TableReport]) -> None:
    rows = {name: (report.rows, report.rows_without_unit) for name, report in reports.items()}
    assert rows == {
        "flights": (334_264, 2_512),
        "planes": (3_322, 0),
        "airlines": (16, 0),
        "airports": (1_458, 0),
        "weather": (26_115, 0),
    }
    assert sum(rows["flights"]) == 336_776


def test_delays_are_whole_numbers_and_time_hour_is_a_time(reports: dict[str, TableReport]) -> None:
    types = reports["flights"].schema.types
    assert {types[name] for name in ("dep_delay", "arr_delay", "air_time", "distance")} == {"integer"}
    assert types["time_hour"] == reports["weather"].schema.types["time_hour"] == "timestamp"


def test_the_policy_speaks_of_every_column(manifest: Manifest, reports: dict[str, TableReport]) -> None:
    check_declared(manifest.policy, {name: report.schema for name, report in reports.items()})
    flights = manifest.policy["tables"]["flights"]["columns"]
    assert len(flights) == 18  # 19 columns, of which the unit needs no declaration
    assert flights["dep_delay"] == flights["arr_delay"] == {"bounds": [-60, 600]}
    assert flights["flight"] == {"selectable": False}
    assert len(flights["carrier"]["keys"]) == 16


def test_declared_keys_and_bounds_cover_the_data(manifest: Manifest, reports: dict[str, TableReport]) -> None:
    """Bounds of delays are meant to clip; all other declarations hold for every value."""
    for name in ("flights", "planes"):
        profile = {column["name"]: column for column in reports[name].profile["columns"]}
        for column, settings in manifest.policy["tables"][name]["columns"].items():
            if isinstance(settings.get("keys"), list):
                common = {entry["value"] for entry in profile[column]["common"]}
                assert common <= {str(key) for key in settings["keys"]}, column
            elif "bounds" in settings and not column.endswith("_delay"):
                low, high = settings["bounds"]
                seen = [profile[column]["min"], profile[column]["max"]]
                if isinstance(low, str):
                    seen = [value.replace(" ", "T") for value in seen]
                    assert low <= seen[0] <= seen[1] <= high, column
                else:
                    assert low <= float(seen[0]) <= float(seen[1]) <= high, column


def test_caps_keep_what_the_comments_say(manifest: Manifest, reports: dict[str, TableReport]) -> None:
    caps = manifest.policy["tables"]["flights"]
    table = f"read_parquet('{reports['flights'].parts[0].path}')"

    def kept(keys: str, cap: int) -> float:
        counts = f"SELECT count(*) AS n FROM {table} GROUP BY tailnum{keys}"
        share = duckdb.sql(f"SELECT sum(least(n, {cap})) / sum(n) FROM ({counts})").fetchall()[0][0]
        return round(float(share), 3)

    assert kept("", caps["max_rows"]) == 0.998
    assert kept(", origin", caps["max_rows_per_group"]) == pytest.approx(0.94, abs=0.005)
    assert kept(", carrier", caps["max_rows_per_group"]) == pytest.approx(0.89, abs=0.005)
    assert kept(", month", caps["max_rows_per_group"]) == 1
    assert kept(", month", 40) == pytest.approx(0.99, abs=0.005)
    rows = reports["flights"].profile["unit"]["rows_per_unit"]
    assert (rows["min"], rows["median"], rows["q99"], rows["max"]) == (1, 54, 335, 575)
    assert reports["planes"].profile["unit"]["rows_per_unit"]["max"] == 1
