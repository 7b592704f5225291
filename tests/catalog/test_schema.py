"""A policy must speak of exactly the tables and columns that the files have."""

from __future__ import annotations

from typing import Any

import pytest

from catalog import PolicyMismatch
from catalog.schema import Column, TableSchema, check_declared, is_public, keys_of, unit_of

SCHEMAS = {
    "flights": TableSchema(
        "flights", (Column("tailnum", "text"), Column("dep_delay", "float"), Column("Origin", "text"))
    ),
    "airlines": TableSchema("airlines", (Column("carrier", "text"), Column("name", "text"))),
}


def _policy(**flights: Any) -> dict[str, Any]:
    columns = {"dep_delay": {"bounds": [-60, 600]}, "origin": {"keys": "private"}}
    return {
        "tables": {
            "flights": {"unit": "tailnum", "columns": columns, **flights},
            "airlines": {"public": True},
        }
    }


def test_a_policy_that_knows_every_column_passes_in_any_letter_case() -> None:
    check_declared(_policy(), SCHEMAS)
    check_declared(_policy(unit="TailNum"), SCHEMAS)


def test_a_misspelt_column_is_named_with_its_neighbour() -> None:
    columns = {"dep_dely": {}, "origin": {}}
    with pytest.raises(PolicyMismatch) as caught:
        check_declared(_policy(columns=columns), SCHEMAS)
    assert (caught.value.code, caught.value.path) == (
        "policy_unknown_column",
        "tables.flights.columns.dep_dely",
    )
    assert "did you mean `dep_delay`?" in str(caught.value)


def test_a_column_that_nobody_declared_closes_the_door() -> None:
    with pytest.raises(PolicyMismatch) as caught:
        check_declared(_policy(columns={"dep_delay": {}}), SCHEMAS)
    assert (caught.value.code, caught.value.path) == (
        "policy_undeclared_column",
        "tables.flights.columns.Origin",
    )
    assert "Origin = { selectable = false }" in caught.value.hint


def test_a_unit_that_is_no_column_is_named() -> None:
    with pytest.raises(PolicyMismatch) as caught:
        check_declared(_policy(unit="tailnumber"), SCHEMAS)
    assert (caught.value.code, caught.value.path) == ("policy_unknown_column", "tables.flights.unit")


def test_a_unit_at_the_end_of_a_path_stands_in_another_table() -> None:
    path = [{"from": "tailnum", "table": "planes", "to": "tail"}]
    policy = _policy(unit="owner", path=path, columns={"tailnum": {}, "dep_delay": {}, "origin": {}})
    check_declared(policy, SCHEMAS)
    assert unit_of(policy, "flights") is None
    with pytest.raises(PolicyMismatch, match="tailnum"):
        check_declared(_policy(unit="owner", path=path), SCHEMAS)


def test_keys_are_the_columns_that_paths_lead_to() -> None:
    steps = [{"from": "b", "table": "Two", "to": "k"}, {"from": "c", "table": "three", "to": "K"}]
    tables = {
        "one": {"path": steps},
        "two": {"path": steps[1:]},
        "four": {"path": [steps[0], 1, {}]},
        "five": 1,
    }
    found = {name: keys_of({"tables": tables}, name) for name in ("one", "two", "three", "four")}
    assert found == {"one": (), "two": ("k",), "three": ("K",), "four": ()}


@pytest.mark.parametrize("public", ["yes", 1, None, False])
def test_only_the_plain_word_true_makes_a_table_public(public: object) -> None:
    policy = _policy()
    policy["tables"]["airlines"] = {"public": public}
    assert not is_public(policy, "airlines")
    with pytest.raises(PolicyMismatch, match=r"airlines\.columns\.carrier"):
        check_declared(policy, SCHEMAS)


def test_tables_must_match_both_ways() -> None:
    policy = _policy()
    policy["tables"]["airports"] = {"public": True}
    with pytest.raises(PolicyMismatch) as caught:
        check_declared(policy, SCHEMAS)
    assert (caught.value.code, caught.value.path) == ("policy_unknown_table", "tables.airports")
    del policy["tables"]["airports"], policy["tables"]["airlines"]
    with pytest.raises(PolicyMismatch) as caught:
        check_declared(policy, SCHEMAS)
    assert (caught.value.code, caught.value.path) == ("policy_undeclared_table", "tables.airlines")


def test_a_public_table_may_name_columns_but_only_its_own() -> None:
    policy = _policy()
    policy["tables"]["airlines"]["columns"] = {"carrier": {}}
    check_declared(policy, SCHEMAS)
    policy["tables"]["airlines"]["columns"] = {"nmae": {}}
    with pytest.raises(PolicyMismatch, match="`name`"):
        check_declared(policy, SCHEMAS)


@pytest.mark.parametrize(
    "policy", [{}, {"tables": []}, {"tables": {"flights": 1, "airlines": {"public": True}}}, {"tables": None}]
)
def test_a_policy_of_another_shape_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(PolicyMismatch):
        check_declared(policy, SCHEMAS)


def test_the_unit_of_a_public_table_is_nobody() -> None:
    assert unit_of(_policy(), "FLIGHTS") == "tailnum"
    assert unit_of(_policy(public=True), "flights") is None
    assert unit_of(_policy(), "airlines") is None
    assert unit_of(_policy(), "unknown") is None


def test_schemas_survive_their_documents() -> None:
    for schema in SCHEMAS.values():
        assert TableSchema.from_document(schema.document()) == schema
    with pytest.raises(ValueError, match="unknown column type"):
        Column("x", "blob")
