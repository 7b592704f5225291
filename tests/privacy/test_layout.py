"""A layout answers as the plain files do, bit for bit, or not at all; whatever happens while it is built."""

from __future__ import annotations

import dataclasses
import math
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.engines.duckdb import Selected
from privacy.layout import building
from privacy.sandbox import Task
from tests.privacy.conftest import SALT, SALTED

POLICY: dict[str, Any] = {
    "domain": "people:layouts",
    "rho": 10.0,
    "max_rho_per_query": 1.0,
    "delta": 1e-6,
    "tables": {
        "visits": {
            "unit": "person",
            "max_groups": 2,
            "max_rows_per_group": 3,
            "max_rows": 5,
            "columns": {
                "ward": {"keys": ["a", "b", "c"]},
                "code": {"keys": "private"},
                "cost": {"bounds": [0, 200]},
                "score": {"bounds": [-50, 50], "decimals": 1},
            },
        }
    },
}
TYPES = {"person": "integer", "ward": "text", "code": "text", "cost": "integer", "score": "float"}
STATEMENTS = [
    "SELECT count(*) AS n, count(score) AS m, sum(cost) AS s, avg(score) AS a FROM visits",
    "SELECT count(DISTINCT person) AS n FROM visits",
    "SELECT ward, count(*) AS n, count(DISTINCT person) AS u FROM visits GROUP BY ward",
    "SELECT ward, avg(score) AS a, sum(cost) AS s FROM visits GROUP BY ward",
    "SELECT code, count(*) AS n FROM visits GROUP BY code",
    "SELECT code, sum(score) AS s, avg(cost) AS a FROM visits GROUP BY code",
    "SELECT median(score) AS n FROM visits",
    "SELECT ward, median(cost) AS n, count(cost) AS m FROM visits GROUP BY ward",
]
OVER_SYNOPSES = STATEMENTS[:6]
OVER_ROWS = [
    "SELECT ward, count(*) AS n FROM visits WHERE cost > 10 GROUP BY ward",
    "SELECT ward, sum(cost * 2) AS n FROM visits GROUP BY ward",
    "SELECT ward, code, count(*) AS n FROM visits GROUP BY ward, code",
    "SELECT ward, count(DISTINCT code) AS n FROM visits GROUP BY ward",
    "SELECT count(*) AS n FROM (SELECT person, sum(cost) AS c FROM visits GROUP BY 1) WHERE c > 90",
    "SELECT a.ward, count(*) AS n FROM visits a JOIN visits b ON a.person = b.person WHERE b.cost > 9 "
    "GROUP BY a.ward",
    "SELECT ward, count(*) AS n FROM (SELECT ward, row_number() OVER (PARTITION BY person ORDER BY cost) "
    "AS k FROM visits) WHERE k < 3 GROUP BY ward",
    "SELECT ward, count(*) AS n FROM visits WHERE person IN (SELECT person FROM visits WHERE score < 0) "
    "GROUP BY ward",
    "SELECT ward, count(*) AS n FROM (SELECT person, ward FROM visits UNION ALL "
    "SELECT person, ward FROM visits) GROUP BY ward",
]
Rows = list[dict[str, Any]]


def policy(kind: str = "integer", **columns: Any) -> privacy.Policy:
    document = {**POLICY, "tables": {"visits": {**POLICY["tables"]["visits"]}}}
    visits = document["tables"]["visits"]
    visits["columns"] = visits["columns"] | columns
    return privacy.Policy.from_document(document, {"visits": {**TYPES, "person": kind}})


def people(count: int = 40) -> Rows:
    """Some have one row and some many; some values are far out, missing, or of no ward."""
    wards, scores = ["a", "b", "c", "d", None], [1.25, -70.0, None, math.nan, math.inf, -0.0]
    return [
        {
            "person": None if person == 7 else person,
            "ward": wards[(person + row) % 5],
            "code": "long" * 100 if row == 3 else f"c{(person * row) % 4}",
            "cost": None if row % 5 == 4 else (person * 37 + row * 11) % 260,
            "score": scores[(person + 2 * row) % 6],
        }
        for person in range(count)
        for row in range(1 + person % 11)
    ]


Written = Callable[..., dict[str, str]]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(rows: Rows, kind: pa.DataType | None = None, name: str = "visits") -> dict[str, str]:
        unit = kind or pa.int64()
        columns = [
            ("ward", pa.string()),
            ("code", pa.string()),
            ("cost", pa.int64()),
            ("score", pa.float64()),
        ]
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, pa.schema([("person", unit), *columns])), path)
        return {"visits": str(path)}

    return write


def exact(
    sandbox: privacy.Sandbox, plan: privacy.Plan, files: dict[str, str], laid: privacy.Layout | None = None
) -> list[Rows]:
    """The exact rows of a plan, from the plain files or from a layout that must serve them."""
    tables = []
    given: dict[str, tuple[str, ...]] = {name: (path,) for name, path in files.items()}
    for one in plan.releases:
        sql, read = one.candidates_sql, given
        if laid is not None:
            served = laid.serving(one.lowered.aggregate, given)
            assert served is not None
            sql, read = served.sql, dict(served.files)
        tables.append([_in_order(row) for row in sandbox.run(Task(sql, read, SALTED)).to_pylist()])
    return tables


def _in_order(row: dict[str, Any]) -> dict[str, Any]:
    """Pairs of a histogram come in any order."""
    pairs = {name: value for name, value in row.items() if isinstance(value, list)}
    return row | {name: sorted(value, key=lambda pair: pair["b"]) for name, value in pairs.items()}


def serves(laid: privacy.Layout, sql: str, files: dict[str, str], whose: privacy.Policy) -> bool:
    given = {name: (path,) for name, path in files.items()}
    (one,) = privacy.plan(sql, whose, rho=0.1).releases
    return laid.serving(one.lowered.aggregate, given) is not None


def served_from(laid: privacy.Layout, plan: privacy.Plan, files: dict[str, str]) -> str:
    (served,) = (
        laid.serving(one.lowered.aggregate, {name: (path,) for name, path in files.items()})
        for one in plan.releases
    )
    return "" if served is None else served.about


@pytest.mark.parametrize(("strategy", "in_part"), [("caps", 20), ("clip", 10_000), ("weights", 60)])
def test_exact_sums_are_those_of_the_plain_files(
    written: Written, sandbox: privacy.Sandbox, tmp_path: Path, strategy: str, in_part: int
) -> None:
    files, held = written(people()), policy()
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox, rows_in_part=in_part)
    assert (max(len(one.parts) for one in laid.stored.values()) > 1) is (in_part < 100)
    for sql in STATEMENTS + OVER_ROWS:
        plan = privacy.plan(sql, held, rho=0.1, options=privacy.Options(strategy=strategy))
        about = served_from(laid, plan, files)
        assert about.startswith("rows") or sql not in OVER_ROWS
        assert about.startswith("synopsis") or sql not in OVER_SYNOPSES
        assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid), sql


def test_what_is_not_stored_is_answered_from_the_plain_files(
    written: Written, sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    files, held = written(people()), policy()
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox)
    stranger = dataclasses.replace(laid, stored={})
    for sql in STATEMENTS:
        assert not serves(stranger, sql, files, held)
        plan = privacy.plan(sql, held, rho=0.1)
        assert privacy.answer(plan, files, salt=SALT, sandbox=sandbox, layout=stranger).table.num_columns
    plan = privacy.plan(STATEMENTS[2], held, rho=0.1)
    answer = privacy.answer(plan, files, salt=SALT, sandbox=sandbox, layout=laid)
    assert answer.table.column("ward").to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("kind", "name", "unit"),
    [
        (pa.string(), "text", lambda person: None if person is None else str(uuid.UUID(int=person))),
        (pa.int64(), "integer", lambda _: None),
        (pa.int64(), "integer", lambda _: 1),
    ],
    ids=["uuids", "nobody", "one unit"],
)
def test_any_unit_can_be_laid_out(
    written: Written,
    sandbox: privacy.Sandbox,
    tmp_path: Path,
    kind: pa.DataType,
    name: str,
    unit: Callable[[int | None], object],
) -> None:
    files = written([{**row, "person": unit(row["person"])} for row in people()], kind)
    held = policy(name)
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox, rows_in_part=50)
    for sql in STATEMENTS:
        plan = privacy.plan(sql, held, rho=0.1)
        assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid), sql


def test_units_are_numbered_and_together(written: Written, sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    laid = privacy.layout(policy(), written(people()), tmp_path / "laid", sandbox=sandbox, rows_in_part=20)
    for one in laid.stored.values():
        tables = [pq.read_table(path) for path in laid.paths(one)]
        numbers = [table.column("#unit").to_pylist() for table in tables]
        assert all(part == sorted(part) for part in numbers)
        flat = [number for part in numbers for number in dict.fromkeys(part)]
        assert flat == sorted(set(flat))
        if one.about == "rows of visits":
            assert flat == list(range(sum(part.units for part in one.parts)))
        assert [part.rows for part in one.parts] == [table.num_rows for table in tables]


def test_other_files_are_not_answered_from_it(
    written: Written, sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    held, laid_of = policy(), written(people(), name="before")
    laid = privacy.layout(held, laid_of, tmp_path / "laid", sandbox=sandbox)
    assert serves(laid, STATEMENTS[0], laid_of, held)
    assert not serves(laid, STATEMENTS[0], written(people(41)), held)


def test_synopses_of_another_policy_are_not_used(
    written: Written, sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    files, folder = written(people()), tmp_path / "laid"
    laid = privacy.layout(policy(), files, folder, sandbox=sandbox)
    fewer = policy(ward={"keys": ["a", "b"]})
    tighter = policy(cost={"bounds": [0, 100]}, ward={"keys": ["a", "b"]})
    for sql in STATEMENTS[2:4]:
        plan, reopened = privacy.plan(sql, fewer, rho=0.1), privacy.Layout.open(folder, fewer)
        assert served_from(reopened, plan, files) == "rows of visits"
        assert exact(sandbox, plan, files) == exact(sandbox, plan, files, reopened)
        plan = privacy.plan(sql, tighter, rho=0.1)
        assert not serves(privacy.Layout.open(folder, tighter), sql, files, tighter)
    assert privacy.answer(plan, files, salt=SALT, sandbox=sandbox, layout=laid).table.num_rows == 2


class Killed(BaseException):
    """The process ends."""


def _failing_after(parts: int, error: BaseException) -> Callable[..., Any]:
    written, left = building.__dict__["_written"], [parts]

    def write(path: Path, batches: Iterator[pa.RecordBatch], *more: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            path.write_bytes(b"half")
            raise error
        return written(path, batches, *more)

    return write


@pytest.mark.parametrize(
    ("parts", "error"),
    [(0, OSError(28, "No space left on device")), (1, Killed()), (5, Killed())],
    ids=["disk full", "killed early", "killed late"],
)
def test_building_goes_on_where_it_ended(
    written: Written,
    sandbox: privacy.Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parts: int,
    error: BaseException,
) -> None:
    files, held, folder = written(people()), policy(), tmp_path / "laid"
    whole = privacy.layout(held, files, tmp_path / "whole", sandbox=sandbox, rows_in_part=40)
    with monkeypatch.context() as patch:
        patch.setattr(building, "_written", _failing_after(parts, error))
        with pytest.raises(type(error)):
            privacy.layout(held, files, folder, sandbox=sandbox, rows_in_part=40)
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(folder, held)
    assert not list(folder.glob("*.unfinished"))
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert len(before) == parts
    laid = privacy.layout(held, files, folder, sandbox=sandbox, rows_in_part=40)
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before
    assert [[part.rows for part in one.parts] for one in laid.stored.values()] == [
        [part.rows for part in one.parts] for one in whole.stored.values()
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["layout.json", *(part.file for part in laid.files)]
    )


def test_a_layout_that_is_there_is_opened(written: Written, sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    files, held, folder = written(people()), policy(), tmp_path / "laid"
    told: list[tuple[str, float]] = []
    first = privacy.layout(held, files, folder, sandbox=sandbox, progress=lambda *one: told.append(one))
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert privacy.layout(held, files, folder, sandbox=sandbox).stored == first.stored
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[-1] == ("done", 1.0)


def test_what_was_altered_or_removed_is_found(
    written: Written, sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    files, held, folder = written(people()), policy(), tmp_path / "laid"
    laid = privacy.layout(held, files, folder, sandbox=sandbox)
    victim = folder / laid.files[0].file
    sound = victim.read_bytes()
    victim.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    assert privacy.Layout.open(folder, held)
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(folder, held).checked()
    victim.write_bytes(sound[:-1])
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(folder, held)
    assert privacy.layout(held, files, folder, sandbox=sandbox).checked().stored == laid.stored
    shutil.rmtree(folder)
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(folder, held)


@pytest.mark.parametrize(
    "document", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "sources": {}, "stored": {}}']
)
def test_what_is_no_layout_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "layout.json").write_text(document)
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(tmp_path, policy())


@pytest.mark.parametrize("way", ["sorted_sql", "numbered_sql"])
@pytest.mark.parametrize("fault", ["a row is lost", "a value is changed", "two units have one number"])
def test_building_verifies_what_it_built(
    written: Written,
    sandbox: privacy.Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    fault: str,
) -> None:
    """Rows that are sorted, and what is taken from them."""
    honest = getattr(Selected, way)
    merged = "#owner" if way == "sorted_sql" else "#unit"

    def faulty(self: Selected, **more: bool) -> str:
        sql = honest(self, **more)
        if fault == "a row is lost":
            return f"SELECT * FROM ({sql}) AS q OFFSET 1"
        changed = self.columns[-1] if fault == "a value is changed" else merged
        value = f'"{changed}" + 1' if changed != merged else f'"{changed}" // 2'
        return f'SELECT * REPLACE ({value} AS "{changed}") FROM ({sql}) AS q'

    monkeypatch.setattr(Selected, way, faulty)
    with pytest.raises(privacy.LayoutInvalid, match="is not what the files hold"):
        privacy.layout(policy(), written(people()), tmp_path / "laid", sandbox=sandbox)
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(tmp_path / "laid", policy())
    assert way == "numbered_sql" or not list((tmp_path / "laid").glob("*.parquet"))


def test_files_that_are_not_given_or_unfit_are_refused(
    written: Written, sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    with pytest.raises(privacy.TablesMissing):
        privacy.layout(policy(), {}, tmp_path / "laid", sandbox=sandbox)
    with pytest.raises(privacy.TablesUnfit):
        privacy.layout(policy("text"), written(people()), tmp_path / "laid", sandbox=sandbox)


def test_a_table_on_a_path_is_laid_out_with_its_owner(sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    document = {
        **POLICY,
        "tables": {
            "orders": {"unit": "customer", "columns": {"id": {}}},
            "items": {
                "unit": "customer",
                "path": [{"from": "order_id", "table": "orders", "to": "id"}],
                "columns": {"kind": {"keys": ["x", "y"]}, "price": {"bounds": [0, 9]}},
            },
        },
    }
    types = {
        "orders": {"customer": "integer", "id": "integer"},
        "items": {"order_id": "integer", "kind": "text", "price": "integer"},
    }
    held = privacy.Policy.from_document(document, types)
    tables = {
        "orders": pa.table({"customer": [1, 1, 2, None], "id": [10, 11, 12, 13]}),
        "items": pa.table(
            {
                "order_id": [10, 10, 11, 12, 13, 99],
                "kind": ["x", "y", "x", "x", "y", "x"],
                "price": [1, 2, 3, 4, 5, 6],
            }
        ),
    }
    files = {name: str(tmp_path / f"{name}.parquet") for name in tables}
    for name, table in tables.items():
        pq.write_table(table, files[name])
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox)
    plan = privacy.plan("SELECT kind, count(*) AS n, sum(price) AS s FROM items GROUP BY kind", held, rho=0.1)
    assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid)


def test_stored_rows_say_what_they_are(written: Written, sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    laid = privacy.layout(policy(), written(people()), tmp_path / "laid", sandbox=sandbox)
    assert {one.about for one in laid.stored.values() if not one.about.startswith("lengths")} == {
        "rows of visits",
        "synopsis of visits by unit",
        "synopsis of visits by unit and ward",
        "synopsis of visits by unit and code",
        'histogram of "cost" of visits by unit and ward',
        'histogram of "score" of visits by unit and ward',
        'histogram of "cost" of visits by unit',
        'histogram of "score" of visits by unit',
    }
    assert dataclasses.replace(laid).is_of(("visits",), {"visits": (str(tmp_path / "visits.parquet"),)})
