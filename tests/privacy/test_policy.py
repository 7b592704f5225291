"""The policy: what is declared is read exactly, and what cannot be meant is refused at its place."""

from __future__ import annotations

import copy
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy

TOML = """
domain = "aircraft:nyc"
rho    = 5.0
delta  = 1e-6
max_rho_per_query = 0.5

[tables.flights]
unit = "tailnum"
max_groups = 8
max_rows_per_group = 50
[tables.flights.columns]
origin    = { keys = ["EWR", "JFK", "LGA"] }
dest      = { keys = "private" }
dep_delay = { bounds = [-60, 600], decimals = 0 }
price     = { bounds = [0.5, 99.95], decimals = 2 }
flight    = { selectable = false }
day       = { keys = [2013-01-01, 2013-01-02], type = "date" }

[tables.airlines]
public = true
"""
MINIMAL: dict[str, Any] = {
    "domain": "people:test",
    "rho": 1.0,
    "delta": 1e-6,
    "tables": {"t": {"unit": "u", "columns": {"x": {"bounds": [0, 10]}, "k": {"keys": ["a"]}}}},
}


def _changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(MINIMAL)
    *folders, name = path.split(".")
    place = document
    for folder in folders:
        place = place.setdefault(folder, {})
    if value is None:
        place.pop(name)
    else:
        place[name] = value
    return document


def test_a_toml_policy_with_types_from_parquet(tmp_path: Path) -> None:
    (tmp_path / "flights.toml").write_text(TOML)
    schema = {
        "tailnum": pa.string(), "origin": pa.dictionary(pa.int32(), pa.string()), "dest": pa.large_string(),
        "dep_delay": pa.int16(), "price": pa.float64(), "flight": pa.int64(), "day": pa.date32(),
        "extra": pa.timestamp("ns", "UTC"), "nested": pa.list_(pa.int64()),
    }  # fmt: skip
    table = pa.schema(list(schema.items())).empty_table()
    pq.write_table(table, tmp_path / "flights.parquet")
    policy = privacy.Policy.load(tmp_path / "flights.toml", tables={"flights": tmp_path / "flights.parquet"})
    assert (policy.domain, policy.rho_nano, policy.delta_pico) == ("aircraft:nyc", 5_000_000_000, 1_000_000)
    assert policy.max_rho_per_query_nano == 500_000_000
    assert policy.max_delta_per_query_pico == 10_000
    flights = policy.table("Flights")
    assert flights is not None
    types = {name: column.type for name, column in flights.columns.items()}
    assert types == {
        "tailnum": "text", "origin": "text", "dest": "text", "dep_delay": "integer", "price": "float",
        "flight": "integer", "day": "date", "extra": "timestamp",
    }  # fmt: skip
    price = flights.column("price")
    assert price is not None
    assert (price.low, price.high, price.decimals) == (50, 9995, 2)
    assert flights.columns["day"].keys == (dt.date(2013, 1, 1), dt.date(2013, 1, 2))
    assert flights.max_rows == 400
    assert not policy.tables["airlines"].private
    assert policy.document["tables"]["flights"]["columns"]["extra"] == {"type": "timestamp"}


def test_the_document_survives_json_with_the_same_hash(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(TOML)
    policy = privacy.Policy.load(tmp_path / "p.toml")
    again = privacy.Policy.from_document(json.loads(json.dumps(policy.document)))
    assert again.sha256 == policy.sha256
    (tmp_path / "p.json").write_text(json.dumps(policy.document))
    assert privacy.Policy.load(tmp_path / "p.json").sha256 == policy.sha256


def test_what_finds_units_has_the_type_of_the_file() -> None:
    """Another type is refused when the policy is read with its files, not at the first question."""
    schemas = {
        "orders": {"customer": "text", "key": "integer", "day": "date"},
        "lines": {"order_key": "integer", "line": "text"},
        "shops": {"shop": "integer"},
        "parts": {"of": "text", "order_key": "integer"},
    }
    privacy.Policy.from_document(PATHS, schemas)
    for table, column in (
        ("orders", "key"),
        ("orders", "customer"),
        ("lines", "order_key"),
        ("parts", "of"),
    ):
        other = {**schemas, table: {**schemas[table], column: "decimal"}}
        document = copy.deepcopy(PATHS)
        document["tables"]["orders"]["columns"]["customer"] = {"type": "text"}
        with pytest.raises(privacy.PolicyError) as caught:
            privacy.Policy.from_document(document, other)
        assert caught.value.path == f"tables.{table}.columns.{column}.type"


def test_types_without_a_schema_are_inferred_or_asked_for() -> None:
    policy = privacy.Policy.from_document(_changed("tables.t.columns.d", {"keys": "private"}))
    columns = policy.tables["t"].columns
    assert (columns["x"].type, columns["k"].type, columns["u"].type) == ("integer", "text", "text")
    with pytest.raises(privacy.Refused) as caught:
        privacy.plan("SELECT d, count(*) AS n FROM t GROUP BY d", policy, rho=0.1)
    assert (caught.value.code, caught.value.column) == ("unknown_type", 41)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("domain", None),
        ("domain", " "),
        ("rho", None),
        ("rho", 0),
        ("rho", -1.0),
        ("rho", float("inf")),
        ("rho", True),
        ("rho", 1e-12),
        ("delta", 1.0),
        ("delta", "much"),
        ("max_rho_per_query", 2.0),
        ("max_delta_per_query", 1e-3),
        ("profile_rho", -0.001),
        ("profile_rho", 1.5),
        ("profile_rho", 1e-12),
        ("profile_rho", "some"),
        ("profile_rho", True),
        ("tables", {}),
        ("tabels", {}),
        ("tables.t.unit", None),
        ("tables.t.public", True),
        ("tables.t.max_group", 5),
        ("tables.t.max_groups", 0),
        ("tables.t.max_groups", 20_000),
        ("tables.t.max_rows", 1.5),
        ("tables.t-1", {"public": True}),
        ("tables._salt", {"public": True}),
        ("tables.T", {"public": True}),
        ("tables.t.columns.x.bounds", [10, 0]),
        ("tables.t.columns.x.bounds", [0]),
        ("tables.t.columns.x.bounds", [0, 0.5]),
        ("tables.t.columns.x.bounds", [0, float("nan")]),
        ("tables.t.columns.x.bounds", [0, 2**62]),
        ("tables.t.columns.x.decimals", -1),
        ("tables.t.columns.x.decimals", 10),
        ("tables.t.columns.x.bound", [0, 1]),
        ("tables.t.columns.x.type", "int"),
        ("tables.t.columns.k.bounds", [0, 1]),
        ("tables.t.columns.k.keys", []),
        ("tables.t.columns.k.keys", ["a", "a"]),
        ("tables.t.columns.k.keys", ["a", 1]),
        ("tables.t.columns.k.keys", "public"),
        ("tables.t.columns.k.selectable", "no"),
        ("tables.t.columns.X", {}),
        ("tables.t.columns.u", {"type": "float"}),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(path: str, value: Any) -> None:
    with pytest.raises(privacy.PolicyError) as caught:
        privacy.Policy.from_document(_changed(path, value))
    assert caught.value.code == "policy_invalid"
    assert caught.value.path.split(".")[0] == path.split(".")[0]
    assert caught.value.hint


@pytest.mark.parametrize(
    ("declared", "nano"),
    [(None, 1_000_000), (0, 0), (0.0, 0), ("0.0123456789", 12_345_678), (1.0, 1_000_000_000)],
)
def test_a_profile_spends_a_thousandth_unless_said_and_never_more_than_said(declared: Any, nano: int) -> None:
    document = MINIMAL if declared is None else {**MINIMAL, "profile_rho": declared}
    assert privacy.Policy.from_document(document).profile_rho_nano == nano


def test_a_profile_that_would_be_noise_is_refused_at_its_field(tmp_path: Path) -> None:
    """The least gives counts a noise of 1,000 units: 625e-9 for each private table and each histogram of the
    largest one, which has one for its rows and two for each key and number."""
    document = copy.deepcopy(MINIMAL)
    document["tables"]["small"] = {"unit": "u"}
    document["tables"]["city"] = {"public": True, "columns": {"x": {"bounds": [0, 1]}}}
    least = 2 * (1 + 2 + 2) * 625
    assert privacy.Policy.from_document({**document, "profile_rho": least / 1e9}).profile_rho_nano == least
    for told in ((least - 1) / 1e9, 1e-9):
        with pytest.raises(privacy.PolicyError) as caught:
            privacy.Policy.from_document({**document, "profile_rho": told})
        assert (caught.value.path, "0.00000625" in caught.value.hint) == ("profile_rho", True)
    assert privacy.Policy.from_document({**document, "rho": least / 1e6}).profile_rho_nano == least
    assert privacy.Policy.from_document({**document, "rho": least / 1e6 - 1e-6}).profile_rho_nano == 0
    people = pa.table({"u": ["a", "b"], "x": [1, 2], "k": ["a", "a"]})
    pq.write_table(people, tmp_path / "t.parquet")
    policy = privacy.Policy.from_document({**document, "profile_rho": least / 1e9})
    files = {"t": tmp_path / "t.parquet", "small": tmp_path / "t.parquet"}
    rows = privacy.profile(policy, files).tables["t"].rows
    assert 990 < rows.sigma <= 1000
    with pytest.raises(privacy.Refused) as refused:
        privacy.profile(policy, files, rho=(least - 1) / 1e9)
    assert (refused.value.code, "0.00000625" in refused.value.hint) == ("budget_invalid", True)


PATHS: dict[str, Any] = {
    "domain": "customers:test",
    "rho": 1.0,
    "delta": 1e-6,
    "tables": {
        "orders": {"unit": "customer", "columns": {"key": {"type": "integer"}, "day": {"type": "date"}}},
        "lines": {
            "unit": "Customer",
            "path": [{"from": "order_key", "table": "ORDERS", "to": "Key"}],
            "columns": {"order_key": {"type": "integer"}, "line": {"type": "text"}},
        },
        "parts": {
            "unit": "customer",
            "path": [
                {"from": "of", "table": "lines", "to": "line"},
                {"from": "order_key", "table": "orders", "to": "key"},
            ],
            "columns": {"of": {"type": "text"}},
        },
        "shops": {"public": True, "columns": {"shop": {"type": "integer"}}},
    },
}


def test_a_path_leads_to_the_unit_of_another_table() -> None:
    policy = privacy.Policy.from_document(PATHS)
    lines, parts = policy.tables["lines"], policy.tables["parts"]
    assert [(hop.column, hop.table, hop.key) for hop in lines.path] == [("order_key", "orders", "key")]
    assert len(parts.path) == 2
    assert policy.unit_column(parts) == ("customer", "text")
    assert policy.identity(parts, "of") == policy.identity(lines, "line") == ("lines", "line")
    assert policy.identity(lines, "order_key") == policy.identity(policy.tables["orders"], "key")
    assert policy.identity(lines, "customer") is None


@pytest.mark.parametrize(
    ("path", "value", "at"),
    [
        ("lines.path", "orders", "tables.lines.path"),
        ("lines.path", [{}], "tables.lines.path[0].from"),
        (
            "lines.path",
            [{"from": "order_key", "table": "orders", "to": "key", "on": 1}],
            "tables.lines.path[0].on",
        ),
        ("lines.path", [{"from": "nothing", "table": "orders", "to": "key"}], "tables.lines.path[0].from"),
        (
            "lines.path",
            [{"from": "order_key", "table": "nothing", "to": "key"}],
            "tables.lines.path[0].table",
        ),
        ("lines.path", [{"from": "order_key", "table": "shops", "to": "shop"}], "tables.lines.path[0].table"),
        ("lines.path", [{"from": "order_key", "table": "lines", "to": "line"}], "tables.lines.path[0].table"),
        (
            "lines.path",
            [{"from": "order_key", "table": "orders", "to": "nothing"}],
            "tables.lines.path[0].to",
        ),
        ("lines.path", [{"from": "order_key", "table": "orders", "to": "day"}], "tables.lines.path[0].to"),
        ("lines.path", [{"from": "line", "table": "orders", "to": "key"}], "tables.lines.path[0].to"),
        ("lines.unit", "key", "tables.lines.unit"),
        ("lines.columns.customer", {"type": "text"}, "tables.lines.columns.customer"),
        ("parts.path", [{"from": "of", "table": "lines", "to": "line"}], "tables.parts.path[0].table"),
        ("shops.path", [{"from": "shop", "table": "orders", "to": "key"}], "tables.shops.path"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_at_its_step(path: str, value: Any, at: str) -> None:
    document = copy.deepcopy(PATHS)
    *folders, name = path.split(".")
    place = document["tables"]
    for folder in folders:
        place = place[folder]
    place[name] = value
    with pytest.raises(privacy.PolicyError) as caught:
        privacy.Policy.from_document(document)
    assert caught.value.path == at


def test_columns_that_the_file_does_not_have_are_refused() -> None:
    with pytest.raises(privacy.PolicyError) as caught:
        privacy.Policy.from_document(MINIMAL, {"t": {"u": "text", "x": "integer"}})
    assert caught.value.path == "tables.t.columns.k"
    with pytest.raises(privacy.PolicyError) as caught:
        privacy.Policy.from_document(MINIMAL, {"t": {"x": "integer", "k": "text"}})
    assert caught.value.path == "tables.t.unit"


def test_a_unit_is_never_read_as_another_type_than_its_file_has() -> None:
    """Rounding or parsing could take two people for one, and one person's leaving would then move twice as
    much."""
    document = _changed("tables.t.columns.u", {"type": "integer"})
    with pytest.raises(privacy.PolicyError):
        privacy.Policy.from_document(document, {"t": {"u": "text", "x": "integer", "k": "text"}})
    with pytest.raises(privacy.PolicyError):
        privacy.Policy.from_document(MINIMAL, {"t": {"u": "float", "x": "integer", "k": "text"}})


def test_budgets_round_down() -> None:
    policy = privacy.Policy.from_document(_changed("rho", 0.0000000019))
    assert policy.rho_nano == 1
