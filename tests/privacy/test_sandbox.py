"""The sandbox: one SELECT over named files gives an exact table; all else fails by name, without a trace."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy import confinement
from privacy.errors import EngineFailed
from privacy.sandbox import PROTECTIONS, Cancellation, Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
LIMITS = Limits(
    memory_bytes=512 * MIB, cpu_s=20, timeout_s=2.0, file_bytes=64 * MIB, threads=2, result_bytes=4 * MIB
)
BUSY_S = 1.0
SECRET = "Zebulon-4711"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(LIMITS, workers=2) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts")
    pq.write_table(pa.table({"unit": ["a", "b", SECRET], "x": [1, 2, 3]}), path / "one.parquet")
    pq.write_table(pa.table({"unit": ["d"], "x": [4]}), path / "two.parquet")
    pq.write_table(pa.table({"unit": ["hidden"], "x": [5]}), path / "other.parquet")
    return path


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, tuple[str, ...]]:
    return {"events": (str(folder / "one.parquet"), str(folder / "two.parquet"))}


def rows(
    sandbox: Sandbox, sql: str, files: dict[str, tuple[str, ...]] | None = None
) -> list[dict[str, object]]:
    found: list[dict[str, object]] = sandbox.run(Task(sql, files or {})).to_pylist()
    return found


def children_of(process: int) -> set[int]:
    """Process ids of all descendants, from /proc."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(after_name[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {process}} - found:
        found |= more
    return found


def gone(processes: set[int], within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not any(Path("/proc", str(process)).exists() for process in processes):
            return True
        time.sleep(0.01)
    return False


def test_a_select_sees_the_named_files_as_one_view(
    sandbox: Sandbox, files: dict[str, tuple[str, ...]]
) -> None:
    assert rows(sandbox, "SELECT count(*) AS n, sum(x)::BIGINT AS s FROM events", files) == [
        {"n": 4, "s": 10}
    ]


def test_arrow_tables_stand_beside_files(sandbox: Sandbox, files: dict[str, tuple[str, ...]]) -> None:
    names = pa.table({"unit": ["a", "d"], "wide": pa.array([Decimal(10**30), None], pa.decimal128(38, 0))})
    joined = sandbox.run(
        Task("SELECT x, wide FROM events JOIN names USING (unit) ORDER BY x", files, {"names": names})
    )
    assert joined.to_pylist() == [{"x": 1, "wide": Decimal(10**30)}, {"x": 4, "wide": None}]


def test_names_are_quoted_and_files_may_have_quotes(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "it's; DROP.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    table = pa.table({"x": [2]})
    task = Task(
        'SELECT x FROM "a ""b" UNION ALL SELECT x FROM "select"', {'a "b': (str(path),)}, {"select": table}
    )
    assert sorted(sandbox.run(task).column("x").to_pylist()) == [1, 2]


def test_a_folder_named_like_a_partition_adds_no_column(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "year=2026").mkdir()
    path = tmp_path / "year=2026" / "p.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    assert sandbox.run(Task("SELECT * FROM t", {"t": (str(path),)})).column_names == ["x"]


def test_a_path_with_a_wildcard_is_refused_not_expanded(sandbox: Sandbox, folder: Path) -> None:
    with pytest.raises(EngineFailed):
        rows(sandbox, "SELECT * FROM t", {"t": (str(folder / "*.parquet"),)})


@pytest.mark.parametrize(
    "value", [2**53 + 1, 2**63, 2**64 + 1, 10**37 + 1, 10**38 - 1, -(2**63) - 1, -(10**38) + 1]
)
def test_totals_of_128_bits_survive_exactly(sandbox: Sandbox, value: int) -> None:
    total = sandbox.run(
        Task(f"SELECT sum(v) AS s FROM (VALUES ('{value - 1}'::HUGEINT), (1::HUGEINT)) AS t(v)")
    )
    assert int(total.column("s")[0].as_py()) == value


def test_an_empty_result_has_its_columns(sandbox: Sandbox, files: dict[str, tuple[str, ...]]) -> None:
    table = sandbox.run(Task("SELECT unit, x FROM events WHERE false", files))
    assert table.num_rows == 0
    assert table.column_names == ["unit", "x"]


def test_settings_of_the_engine_are_the_agreed_ones(
    sandbox: Sandbox, files: dict[str, tuple[str, ...]]
) -> None:
    names = [
        "lock_configuration",
        "enable_external_access",
        "autoload_known_extensions",
        "autoinstall_known_extensions",
        "python_enable_replacements",
        "allow_community_extensions",
        "disabled_optimizers",
        "threads",
    ]
    settings = ", ".join(f"current_setting('{name}')::VARCHAR AS {name}" for name in names)
    found = rows(sandbox, f"SELECT {settings} FROM events LIMIT 1", files)[0]
    assert found.pop("threads") == "2"
    assert found.pop("disabled_optimizers") == "top_n_window_elimination"
    assert found.pop("lock_configuration") == "true"
    assert set(found.values()) == {"false"}


def test_a_result_computed_at_once_is_the_same(sandbox: Sandbox, files: dict[str, tuple[str, ...]]) -> None:
    sql = "SELECT unit, x, x::HUGEINT AS big FROM events ORDER BY unit, x"
    assert sandbox.run(Task(sql, files, at_once=True)).equals(sandbox.run(Task(sql, files)))
    none = sandbox.run(Task("SELECT unit, x FROM events WHERE false", files, at_once=True))
    assert (none.num_rows, none.column_names) == (0, ["unit", "x"])


@pytest.mark.parametrize(
    "name", ["copy out", "attach in a second statement", "set", "create", "nothing", "an error with a value"]
)
def test_at_once_is_no_way_around(
    name: str, sandbox: Sandbox, folder: Path, files: dict[str, tuple[str, ...]]
) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(EngineFailed):
        sandbox.run(Task(HOSTILE[name].format(folder=folder), files, at_once=True))
    assert sorted(folder.iterdir()) == before


def test_a_worker_knows_nothing_of_its_rehearsal(sandbox: Sandbox) -> None:
    found = "FROM duckdb_tables() UNION ALL BY NAME FROM duckdb_views() WHERE NOT internal"
    listed = f"SELECT count(*) AS n FROM ({found})"
    assert rows(sandbox, listed) == [{"n": 0}]


HOSTILE = {
    "copy out": "COPY (SELECT 1) TO '{folder}/stolen.csv'",
    "copy over a readable file": "COPY (SELECT 1) TO '{folder}/one.parquet' (FORMAT parquet)",
    "attach a new file": "ATTACH '{folder}/new.db' AS fresh",
    "attach in a second statement": "SELECT 1; ATTACH '{folder}/new.db' AS fresh",
    "export": "EXPORT DATABASE '{folder}/dump'",
    "read_csv": "SELECT * FROM read_csv('/etc/passwd', header=false, sep='|')",
    "read_text": "SELECT content FROM read_text('/etc/passwd')",
    "read_blob of the environment": "SELECT content FROM read_blob('/proc/self/environ')",
    "another parquet": "SELECT * FROM read_parquet('{folder}/other.parquet')",
    "another parquet by path": "SELECT * FROM '{folder}/other.parquet'",
    "a glob": "SELECT * FROM glob('{folder}/*')",
    "another parquet by glob": "SELECT * FROM read_parquet('{folder}/*.parquet')",
    "the metadata of another file": "SELECT * FROM parquet_metadata('{folder}/other.parquet')",
    "getenv": "SELECT getenv('PATH')",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "load a file": "LOAD '{folder}/evil.duckdb_extension'",
    "the network": "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
    "set": "SET memory_limit = '100GB'",
    "set in a second statement": "SET threads = 64; SELECT 1",
    "reset": "RESET lock_configuration",
    "pragma": "PRAGMA enable_profiling",
    "set by function": "SELECT set_config('threads', '64')",
    "create": "CREATE TABLE t AS SELECT 1",
    "drop": "DROP VIEW events",
    "python": "SELECT * FROM some_python_variable",
    "nothing": "",
    "no sql": "this is not SQL at all '",
    "a cast of a value": "SELECT unit::INTEGER FROM events",
    "an error with a value": "SELECT error(unit) FROM events",
    "recursion without end": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
    " SELECT count(*) FROM r",
    "a cross join": "SELECT count(*) FROM range(10000000000) a, range(1000) b"
    " WHERE hash(a.range, b.range) = 7",
    "an expression that heeds no interrupt": "SELECT levenshtein(repeat('ab', 99000), repeat('ba', 99000))",
    "memory in one value": "SELECT length(repeat('x', 3000000000))",
    "memory in a sort": "SELECT max(n) FROM (SELECT row_number() OVER (PARTITION BY r % 1000 ORDER BY h) AS n"
    " FROM (SELECT hash(range) AS h, range AS r FROM range(100000000)))",
    "memory in a list": "SELECT length(list(range)) FROM range(1000000000)",
    "a huge result": "SELECT range, repeat('x', 1000) AS s FROM range(10000000)",
    "one huge value": "SELECT repeat('x', 20000000) AS s",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sql_fails_by_name_within_the_deadline_and_writes_nothing(
    sandbox: Sandbox, folder: Path, files: dict[str, tuple[str, ...]], name: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    started = time.monotonic()
    with pytest.raises(EngineFailed) as caught:
        rows(sandbox, HOSTILE[name].replace("{folder}", str(folder)), files)
    assert time.monotonic() - started < LIMITS.timeout_s + 2.5
    assert caught.value.code in {"query_failed", "query_timeout", "query_too_large"}
    told = f"{caught.value!r} {caught.value} {caught.value.hint} {caught.value.__cause__}"
    assert SECRET not in told
    assert str(folder) not in told
    assert caught.value.__cause__ is None
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert rows(sandbox, "SELECT 1 AS a") == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a cross join", "query_timeout"),
        ("recursion without end", "query_timeout"),
        ("an expression that heeds no interrupt", "query_timeout"),
        ("a huge result", "query_too_large"),
        ("one huge value", "query_too_large"),
        ("a cast of a value", "query_failed"),
    ],
)
def test_the_code_names_the_kind_of_failure(
    sandbox: Sandbox, files: dict[str, tuple[str, ...]], name: str, code: str
) -> None:
    with pytest.raises(EngineFailed) as caught:
        rows(sandbox, HOSTILE[name], files)
    assert caught.value.code == code


def test_attaching_a_readable_file_is_not_a_select(
    sandbox: Sandbox, files: dict[str, tuple[str, ...]]
) -> None:
    with pytest.raises(EngineFailed):
        rows(sandbox, f"ATTACH '{files['events'][0]}' AS z", files)


def test_a_worker_that_does_not_stop_is_killed_one_second_after_the_limit() -> None:
    """A stopped process answers no time limit of the engine: only the kill can end the wait."""
    with Sandbox(Limits(timeout_s=1.5, memory_bytes=512 * MIB), workers=1) as sandbox:
        rows(sandbox, "SELECT 1 AS a")
        (zygote,) = sandbox_processes(sandbox)
        with ThreadPoolExecutor(1) as pool:
            started = time.monotonic()
            running = pool.submit(rows, sandbox, HOSTILE["a cross join"])
            stopped = stop_busy_child(zygote)
            with pytest.raises(EngineFailed) as caught:
                running.result(timeout=10)
        assert caught.value.code == "query_timeout"
        assert 2.4 < time.monotonic() - started < 6.0
        assert gone({stopped})
        assert rows(sandbox, "SELECT 1 AS a") == [{"a": 1}]


def sandbox_processes(sandbox: Sandbox) -> set[int]:
    """The zygote: the one child of ours whose pool this is."""
    zygote = sandbox._pool._zygote
    assert zygote is not None
    return {zygote.process.pid}


def ticks_of(process: int) -> int:
    """Hundredths of a second of processor time, 0 for a process that has ended."""
    try:
        after_name = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(after_name[11]) + int(after_name[12])


def stop_busy_child(zygote: int) -> int:
    """SIGSTOP the worker that burns processor time."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        for child in children_of(zygote):
            if ticks_of(child) > 10:
                os.kill(child, signal.SIGSTOP)
                return child
        time.sleep(0.005)
    raise AssertionError("no worker is busy")


def test_a_killed_worker_fails_its_task_only(sandbox: Sandbox) -> None:
    (zygote,) = sandbox_processes(sandbox)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(rows, sandbox, HOSTILE["a cross join"])
        os.kill(stop_busy_child(zygote), signal.SIGKILL)
        with pytest.raises(EngineFailed):
            running.result(timeout=10)
    assert rows(sandbox, "SELECT 1 AS a") == [{"a": 1}]


def test_idle_workers_that_died_are_replaced(sandbox: Sandbox) -> None:
    rows(sandbox, "SELECT 1 AS a")
    (zygote,) = sandbox_processes(sandbox)
    idle = children_of(zygote)
    for child in idle:
        with contextlib.suppress(ProcessLookupError):  # the one whose task is done may be gone by now
            os.kill(child, signal.SIGKILL)
    assert gone(idle)
    assert rows(sandbox, "SELECT 1 AS a") == [{"a": 1}]


def test_a_zygote_that_died_is_started_again_and_takes_its_workers_along() -> None:
    with Sandbox(LIMITS, workers=2) as sandbox:
        rows(sandbox, "SELECT 1 AS a")
        (zygote,) = sandbox_processes(sandbox)
        workers = children_of(zygote)
        assert workers
        os.kill(zygote, signal.SIGKILL)
        assert gone(workers)
        assert rows(sandbox, "SELECT 1 AS a") == [{"a": 1}]
        assert sandbox_processes(sandbox) != {zygote}


def test_workers_and_scratch_space_end_with_a_killed_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            made = Sandbox(LIMITS, workers=2)
            rows(made, "SELECT 1 AS a")
            os.write(writing, b"ready")
            threading.Event().wait(60)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read(5) == b"ready"
        family = children_of(parent)
        assert len(family) >= 2
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
    assert all_ended(family)
    assert list(tmp_path.iterdir()) == []


def all_ended(processes: set[int]) -> bool:
    """Gone or zombies: whoever adopted them may be slow to reap."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if all(state_of(process) in {"Z", "X", ""} for process in processes):
            return True
        time.sleep(0.02)
    return False


def state_of(process: int) -> str:
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_eight_threads_share_two_workers(sandbox: Sandbox, files: dict[str, tuple[str, ...]]) -> None:
    def ask(number: int) -> object:
        if number % 5 == 4:
            with pytest.raises(EngineFailed):
                rows(sandbox, "SELECT error(unit) FROM events", files)
            return number
        return rows(sandbox, f"SELECT sum(x)::BIGINT + {number} AS s FROM events", files)[0]["s"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(40)))
    assert found == [number if number % 5 == 4 else 10 + number for number in range(40)]


def test_a_copy_after_a_fork_has_its_own_workers_and_leaves_ours_alone(sandbox: Sandbox) -> None:
    rows(sandbox, "SELECT 1 AS a")
    ours = sandbox_processes(sandbox)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            good = rows(sandbox, "SELECT 2 AS a") == [{"a": 2}] and sandbox_processes(sandbox) != ours
            sandbox.close()
            status = 0 if good else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert sandbox_processes(sandbox) == ours
    assert rows(sandbox, "SELECT 1 AS a") == [{"a": 1}]


def test_closing_leaves_no_process_and_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = Sandbox(LIMITS, workers=3)
    (zygote,) = sandbox_processes(sandbox)
    spilling = (
        "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY hash(range)) AS n FROM range(60000000))"
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(rows, sandbox, spilling)
        stop_busy_child(zygote)
        family = children_of(zygote) | {zygote}
        sandbox.close()
        with pytest.raises(EngineFailed):
            running.result(timeout=5)
    assert gone(family)
    assert list(tmp_path.iterdir()) == []
    sandbox.close()
    with pytest.raises(EngineFailed):
        rows(sandbox, "SELECT 1 AS a")


def test_scratch_space_is_removed_after_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox(Limits(memory_bytes=512 * MIB, timeout_s=20), workers=1) as sandbox:
        window = "row_number() OVER (PARTITION BY range % 999 ORDER BY hash(range))"
        spilling = f"SELECT max(n) AS most FROM (SELECT {window} AS n FROM range(9990000))"
        assert rows(sandbox, spilling) == [{"most": 10_000}]
        (root,) = tmp_path.iterdir()
        until = time.monotonic() + 5
        while any(child.name == "1" for child in root.iterdir()) and time.monotonic() < until:
            time.sleep(0.01)
        assert all(not list(child.iterdir()) for child in root.iterdir() if child.name != "1")
        assert not (root / "1").exists()


def test_protections_say_what_holds(sandbox: Sandbox) -> None:
    assert "resource_limits" in sandbox.protections
    assert set(sandbox.protections) <= set(PROTECTIONS)
    assert sorted((*sandbox.protections, *sandbox.missing)) == sorted(PROTECTIONS)
    assert ("landlock" in sandbox.missing) is (confinement.landlock_abi() == 0)


def test_what_is_cancelled_is_killed_at_once_and_nothing_begins_after_it(sandbox: Sandbox) -> None:
    cancellation = Cancellation()
    (zygote,) = sandbox_processes(sandbox)
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        running = pool.submit(rows, sandbox.under(cancellation), HOSTILE["a cross join"])
        stopped = stop_busy_child(zygote)  # nothing in it can react any more
        cancellation.cancel()
        with pytest.raises(EngineFailed):
            running.result(timeout=10)
    assert gone({stopped})
    assert time.monotonic() - started < LIMITS.timeout_s + 1
    assert cancellation.cancelled
    with pytest.raises(EngineFailed):
        rows(sandbox.under(cancellation), "SELECT 1 AS a")
    with (
        pytest.raises(EngineFailed),
        contextlib.closing(sandbox.under(cancellation).batches(Task("SELECT 1 AS a"))) as parts,
    ):
        next(parts)
    assert rows(sandbox, "SELECT 1 AS a") == [{"a": 1}], "others go on"
    assert rows(sandbox.under(Cancellation()), "SELECT 1 AS a") == [{"a": 1}]


BOMBS = ("a cross join", "an expression that heeds no interrupt", "memory in a sort", "recursion without end")


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_answered_soon_after_its_deadline(sandbox: Sandbox, name: str) -> None:
    """However it burns: 1.5 s after the time limit, and a little for a machine that is busy."""
    started = time.monotonic()
    with pytest.raises(EngineFailed):
        rows(sandbox, HOSTILE[name])
    assert time.monotonic() - started < LIMITS.timeout_s + 1.5 + BUSY_S
