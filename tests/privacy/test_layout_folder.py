"""What may befall the folder of a layout, and what a version may hold: answers never hang on it."""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.layout import building
from privacy.layout.documents import FORMAT, sha256_of
from privacy.sandbox import Task
from tests.privacy.conftest import SALT, SALTED

SQL = "SELECT k, count(*) AS n FROM t GROUP BY k"
FILTERED = "SELECT k, count(*) AS n FROM t WHERE k <> 'c' GROUP BY k"


def policy(tables: dict[str, Any] | None = None, types: dict[str, Any] | None = None) -> privacy.Policy:
    given = tables or {"t": {"unit": "u", "columns": {"k": {"keys": ["a", "b"]}}}}
    document = {"domain": "people:folders", "rho": 10.0, "delta": 1e-6, "tables": given}
    return privacy.Policy.from_document(document, types or {"t": {"u": "integer", "k": "text"}})


def written(folder: Path, rows: int = 30, name: str = "t") -> dict[str, str]:
    path = folder / f"{name}.parquet"
    keys = [("a", "b", "c")[row % 3] for row in range(rows)]
    pq.write_table(pa.table({"u": [row % 7 for row in range(rows)], "k": keys}), path)
    return {"t": str(path)}


def exact(
    sandbox: privacy.Sandbox, plan: privacy.Plan, files: dict[str, Any], laid: privacy.Layout | None = None
) -> list[dict[str, Any]]:
    (one,) = plan.releases
    read = {
        name: (found,) if isinstance(found, str) else tuple(found)
        for name, found in files.items()
        if name in plan.tables
    }
    sql = one.candidates_sql
    if laid is not None:
        served = laid.serving(one.lowered.aggregate, read)
        assert served is not None
        sql, read = served.sql, dict(served.files)
    rows: list[dict[str, Any]] = sandbox.run(Task(sql, read, SALTED)).to_pylist()
    return rows


def serves(laid: privacy.Layout, files: dict[str, str], whose: privacy.Policy, sql: str = SQL) -> bool:
    (one,) = privacy.plan(sql, whose, rho=0.1).releases
    return laid.serving(one.lowered.aggregate, {"t": (files["t"],)}) is not None


def _removed(path: Path) -> None:
    path.unlink()


def _written_anew(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def _spoiled(path: Path) -> None:
    """So that nothing but its bytes tells."""
    state = path.stat()
    path.write_bytes(b"x" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("befalls", [_removed, _written_anew, _spoiled])
def test_the_plain_files_answer_where_stored_rows_are_gone(
    sandbox: privacy.Sandbox, tmp_path: Path, befalls: Callable[[Path], None]
) -> None:
    files, held = written(tmp_path), policy()
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox)
    assert serves(laid, files, held)
    for part in laid.files:
        befalls(tmp_path / "laid" / part.file)
    assert serves(laid, files, held) is (befalls is _spoiled)
    for sql in (SQL, FILTERED):
        plan = privacy.plan(sql, held, rho=0.1)
        answer = privacy.answer(plan, files, salt=SALT, sandbox=sandbox, layout=laid)
        assert answer.table.column("k").to_pylist() == ["a", "b"]
    if befalls is not _written_anew:
        with pytest.raises(privacy.LayoutInvalid):
            laid.checked()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../plain.parquet", "/etc/hostname", "plain.parquet", 7, "x\0"]
)
def test_a_document_names_nothing_but_files_of_a_layout(
    sandbox: privacy.Sandbox, tmp_path: Path, name: object
) -> None:
    """Neither to be read as stored rows nor to be removed as such."""
    files, held, folder = written(tmp_path), policy(), tmp_path / "laid"
    folder.mkdir()
    plain = [tmp_path / "plain.parquet", folder / "plain.parquet"]
    for path in plain:
        path.write_bytes(b"not ours")
    sources = {"t": [sha256_of(Path(files["t"]))]}
    part = {"file": name, "rows": 1, "units": 1, "size": 8, "sha256": sha256_of(plain[0])}
    one = {"about": "", "tables": ["t"], "made_of": [], "count": 1, "verified": False, "parts": [part]}
    document = {"format": FORMAT, "sources": sources, "stored": {"x": one}, "left_out": {}}
    (folder / "layout.json").write_text(json.dumps(document))
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(folder, held)
    if name == "../plain.parquet":
        laid = privacy.layout(held, files, folder, sandbox=sandbox)
        assert serves(laid, files, held)
    assert all(path.read_bytes() == b"not ours" for path in plain)


@pytest.mark.parametrize("document", ["[" * 100_000, "\xff", '{"format": 2, "sources": 3, "stored": []}'])
def test_a_document_that_cannot_be_read_is_built_anew(
    sandbox: privacy.Sandbox, tmp_path: Path, document: str
) -> None:
    files, held, folder = written(tmp_path), policy(), tmp_path / "laid"
    folder.mkdir()
    for name in ("layout.json", "building.json"):
        (folder / name).write_bytes(document.encode("latin-1"))
    with pytest.raises(privacy.LayoutInvalid):
        privacy.Layout.open(folder, held)
    assert serves(privacy.layout(held, files, folder, sandbox=sandbox), files, held)


def test_a_layout_beside_the_plain_files_leaves_them_alone(sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    """Strays of a build that was killed are removed, and nothing else."""
    files, held = written(tmp_path), policy()
    stray = tmp_path / f"{'0' * 24}-0000.unfinished"
    for path in (stray, tmp_path / "notes.parquet.old", tmp_path / "layout.json.unfinished"):
        path.write_bytes(b"x")
    laid = privacy.layout(held, files, tmp_path, sandbox=sandbox)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"t.parquet", "notes.parquet.old", "layout.json", *(part.file for part in laid.files)}


class Killed(BaseException):
    """The process ends."""


def test_a_layout_of_other_files_is_whole_until_the_new_one_is(
    sandbox: privacy.Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, held, folder = written(tmp_path), written(tmp_path, 31, "new"), policy(), tmp_path / "laid"
    first = privacy.layout(held, before, folder, sandbox=sandbox)

    def killed(_: Any, name: str) -> None:
        if name == "layout.json":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(building.__dict__["_Builder"], "_write", killed)
        with pytest.raises(Killed):
            privacy.layout(held, after, folder, sandbox=sandbox)
    plan = privacy.plan(SQL, held, rho=0.1)
    for laid in (first, privacy.Layout.open(folder, held).checked()):
        assert exact(sandbox, plan, before) == exact(sandbox, plan, before, laid)
    second = privacy.layout(held, after, folder, sandbox=sandbox)
    assert exact(sandbox, plan, after) == exact(sandbox, plan, after, second)
    assert not serves(first, before, held)
    assert not serves(second, before, held)


def test_files_that_change_while_they_are_laid_out_are_found(
    sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    files, held = written(tmp_path), policy()

    def changing(_: str, share: float) -> None:
        if share == 0:
            written(tmp_path, 40)

    with pytest.raises(privacy.LayoutInvalid, match="is not what the files hold"):
        privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox, progress=changing)
    plan = privacy.plan(SQL, held, rho=0.1)
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox)
    assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid)


def test_two_that_build_at_once_build_one_layout(tmp_path: Path) -> None:
    files, held = written(tmp_path), policy()
    made: list[privacy.Layout] = []
    with privacy.Sandbox(privacy.Limits(), workers=2) as sandbox:
        build = lambda: made.append(privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox))  # noqa: E731
        threads = [threading.Thread(target=build) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 2
    assert made[0].checked() == made[1]


def test_a_full_disk_leaves_the_sandbox_to_others(
    sandbox: privacy.Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to whoever handles the error, with the unfinished result still at hand."""
    files, held = written(tmp_path), policy()

    def full(_: Path, batches: Iterator[pa.RecordBatch], *__: Any) -> Any:
        next(batches)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(building, "_written", full)
    with pytest.raises(OSError, match="No space") as caught:
        privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox)
    done = threading.Event()

    def used() -> None:
        sandbox.run(Task("SELECT 1 AS one"))
        done.set()

    threading.Thread(target=used, daemon=True).start()
    assert done.wait(30)
    assert caught.value.errno == 28


DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(1, 1, 1, 0, 0, 0, 1)  # noqa: DTZ001
PRICE = pa.array(
    [Decimal("1.10"), None, Decimal("-0.00"), Decimal("9.99"), Decimal("1.10")], pa.decimal128(9, 2)
)
ODD: dict[str, Any] = {
    "text": (["", "a\0", "a", "\u00e9", "e\u0301"], "text"),
    "dates": ([DAY, None, DAY, dt.date(1, 1, 1), DAY], "date"),
    "times": (pa.array([MOMENT, None, MOMENT, MOMENT, MOMENT], pa.timestamp("us")), "timestamp"),
    "truths": ([True, None, False, True, True], "boolean"),
    "prices": (PRICE, "decimal"),
    "far": ([float("nan"), -0.0, 0.0, float("-inf"), 1e300], "float"),
}


def test_keys_and_units_of_any_kind(sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    """Also units that look alike, a column called as what is added, several files, names in other letters,
    and tables called as parts of the statements."""
    columns = {name: {"keys": "private"} for name in ODD} | {"#owner": {}, "#Unit": {}}
    types = {
        "u": "text",
        "#owner": "text",
        "#Unit": "text",
        **{name: kind for name, (_, kind) in ODD.items()},
    }
    plain = dict(list(columns.items())[:-2])
    held = policy(
        {"Mine": {"unit": "u", "columns": columns}, "numbers": {"unit": "u", "columns": plain}},
        {"Mine": types, "numbers": {name: kind for name, kind in types.items() if name[0] != "#"}},
    )
    units = ["p", "p\0", "\u00e9", "e\u0301", ""]
    data = {
        "u": units,
        "#owner": units[::-1],
        "#Unit": units,
        **{name: found for name, (found, _) in ODD.items()},
    }
    whole = pa.table(data)
    for place, part in enumerate([whole, whole.slice(0, 0), pa.concat_tables([whole.slice(1, 3)] * 3)]):
        pq.write_table(part, tmp_path / f"{place}.parquet")
    paths = [str(tmp_path / f"{place}.parquet") for place in range(3)]
    given = {"MINE": paths, "Numbers": paths[:2]}
    laid = privacy.layout(held, given, tmp_path / "laid", sandbox=sandbox, rows_in_part=4)
    files = {"Mine": paths, "numbers": paths[:2]}
    for table in ("mine", "NUMBERS"):
        for name in ODD:
            sql = f"SELECT {name}, count(*) AS n, count(DISTINCT u) AS m FROM {table} GROUP BY {name}"
            plan = privacy.plan(sql, held, rho=0.1, options=privacy.Options(strategy="caps"))
            if table == "NUMBERS" or name in ("text", "truths"):
                assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid), sql
    assert "rows of Mine" not in {one.about for one in laid.stored.values()}
    privacy.answer(plan, {"numbers": paths[:2]}, salt=SALT, sandbox=sandbox, layout=laid)


def test_a_key_that_names_the_units_of_another_table_has_no_synopsis(
    sandbox: privacy.Sandbox, tmp_path: Path
) -> None:
    tables = {
        "people": {"unit": "id", "columns": {"id": {}}},
        "accounts": {
            "unit": "id",
            "path": [{"from": "holder", "table": "people", "to": "id"}],
            "columns": {"holder": {}, "kind": {"keys": ["x"]}},
        },
    }
    held = policy(tables, {"people": {"id": "text"}, "accounts": {"holder": "text", "kind": "text"}})
    files = {name: str(tmp_path / f"{name}.parquet") for name in tables}
    pq.write_table(pa.table({"id": ["p", "q"]}), files["people"])
    pq.write_table(
        pa.table({"holder": ["p", "p", "q", None], "kind": ["x", "y", "x", "x"]}), files["accounts"]
    )
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox)
    assert {one.about for one in laid.stored.values() if not one.about.startswith("lengths")} == {
        "rows of people", "synopsis of people by unit",
        "rows of accounts", "synopsis of accounts by unit", "synopsis of accounts by unit and kind",
    }  # fmt: skip
    plan = privacy.plan("SELECT kind, count(*) AS n FROM accounts GROUP BY kind", held, rho=0.1)
    assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid)


def test_a_table_with_many_columns(sandbox: privacy.Sandbox, tmp_path: Path) -> None:
    names = [f"c{place}" for place in range(400)]
    tables = {"t": {"unit": "u", "columns": {"k": {"keys": ["a"]}}}}
    held = policy(tables, {"t": {"u": "integer", "k": "text", **dict.fromkeys(names, "integer")}})
    files = {"t": str(tmp_path / "t.parquet")}
    pq.write_table(
        pa.table({"u": [1, 2], "k": ["a", "b"], **{name: [1, None] for name in names}}), files["t"]
    )
    laid = privacy.layout(held, files, tmp_path / "laid", sandbox=sandbox)
    plan = privacy.plan("SELECT k, count(*) AS n FROM t WHERE c399 = 1 GROUP BY k", held, rho=0.1)
    assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid)
