"""Parquet from strangers: types that are taken, lies that are found, bytes that repeat, limits that hold."""

from __future__ import annotations

import datetime as dt
import io
import os
import pickle
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import InvalidUpload
from catalog.ingest import Limits, ingest_table
from tests.catalog.conftest import CONFINED, Ingest, Refuse


def _parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _zip() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("x.csv", "a,b\n1,2\n")
    return sink.getvalue()


def _ipc() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, pa.schema([("a", pa.int64())])) as writer:
        writer.write_batch(pa.record_batch({"a": [1]}))
    return sink.getvalue()


NOT_PARQUET = {
    "pickle": pickle.dumps({"a": [1]}),
    "zip": _zip(),
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "json": b'[{"a": 1}]',
    "arrow": _ipc(),
    "csv": b"a,b\n1,2\n",
}


@pytest.mark.parametrize("case", NOT_PARQUET)
def test_another_format_named_parquet_is_refused(case: str, refuse: Refuse) -> None:
    assert refuse(NOT_PARQUET[case], name="data.parquet").code == "not_parquet"


@pytest.mark.parametrize("case", [name for name in NOT_PARQUET if name != "csv"])
def test_another_format_named_csv_is_told_by_its_bytes(case: str, refuse: Refuse) -> None:
    assert refuse(NOT_PARQUET[case], name="data.csv").code == "unsupported_format"


def test_parquet_is_told_by_its_bytes_whatever_its_name(ingest: Ingest) -> None:
    assert ingest(pa.table({"a": [1, 2]}), name="data.csv").rows == 2


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_ends_early_is_truncated(keep: float, refuse: Refuse) -> None:
    whole = _parquet(pa.table({"a": list(range(10_000)), "b": [str(i) for i in range(10_000)]}))
    assert refuse(whole[: int(len(whole) * keep)]).code == "truncated_file"


def test_a_footer_longer_than_its_file_is_truncated(refuse: Refuse) -> None:
    assert refuse(b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1").code == "truncated_file"


def test_a_footer_of_nonsense_is_damaged(refuse: Refuse) -> None:
    assert refuse(b"PAR1" + b"\x5a" * 64 + (64).to_bytes(4, "little") + b"PAR1").code == "damaged_file"


def test_flipped_bytes_never_pass_in_silence(ingest: Ingest) -> None:
    """With page checksums a flipped byte of a page is refused; elsewhere it may be refused or be harmless."""
    table = pa.table({"a": list(range(5_000))})
    whole = _parquet(table, write_page_checksum=True, compression="none", use_dictionary=False)
    truth = ingest(table).parts[0].sha256
    codes = []
    for position in range(100, len(whole), len(whole) // 12):
        flipped = bytearray(whole)
        flipped[position] ^= 0x40
        try:
            assert ingest(bytes(flipped)).parts[0].sha256 == truth
        except InvalidUpload as refusal:
            codes.append(refusal.code)
    assert codes.count("damaged_file") >= 10


def test_an_encrypted_file_is_named_as_that(refuse: Refuse) -> None:
    assert refuse(b"PARE" + b"\x00" * 40 + b"PARE").code == "encrypted_file"


NESTED = {
    "list": pa.array([[1], [2]]),
    "struct": pa.array([{"x": 1}, {"x": 2}]),
    "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"a", b"b"]),
    "time": pa.array([dt.time(1), None]),
    "duration": pa.array([dt.timedelta(1), None]),
    "uuid": pa.array([b"0" * 16, None], pa.uuid()),
    "decimal256": pa.array([Decimal(1), None], pa.decimal256(60, 2)),
}


@pytest.mark.parametrize("case", NESTED)
def test_types_that_are_not_one_value_a_cell_are_refused_by_column(case: str, refuse: Refuse) -> None:
    refusal = refuse(pa.table({"fine": [1, 2], "odd": NESTED[case]}))
    assert (refusal.code, refusal.column) == ("unsupported_type", "odd")


def test_every_taken_type_becomes_one_of_ours(ingest: Ingest) -> None:
    moment = dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC)
    table = pa.table(
        {
            "small": pa.array([1], pa.int8()),
            "unsigned": pa.array([1], pa.uint32()),
            "half": pa.array([0.5], pa.float16()),
            "exact": pa.array([Decimal("1.50")]),
            "flag": [True],
            "large": pa.array(["x"], pa.large_string()),
            "coded": pa.array(["x"]).dictionary_encode(),
            "nothing": pa.nulls(1),
            "day": pa.array([dt.date(2013, 1, 1)], pa.date64()),
            "zoned": pa.array([moment], pa.timestamp("ms", "America/New_York")),
            "fine": pa.array([moment.replace(tzinfo=None)], pa.timestamp("ns")),
        }
    )
    report = ingest(table)
    assert list(report.schema.types.values()) == [
        *("integer", "integer", "float", "decimal", "boolean", "text", "text", "text", "date"),
        *("timestamp", "timestamp"),
    ]
    row = pq.read_table(report.parts[0].path).to_pylist()[0]
    assert row["zoned"] == row["fine"] == dt.datetime(2013, 1, 1, 5)  # noqa: DTZ001 - stored without a zone
    assert (row["exact"], row["half"], row["nothing"]) == (Decimal("1.50"), 0.5, None)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**63], pa.uint64()),
        pa.array([3_000_000], pa.date32()),
        pa.array([-(10**18)], pa.timestamp("us")),
        pa.array([2**62], pa.timestamp("ms")),
    ],
)
def test_values_that_no_reader_can_show_are_refused(values: pa.Array, refuse: Refuse) -> None:
    refusal = refuse(pa.table({"x": values}))
    assert (refusal.code, refusal.column) == ("value_out_of_range", "x")


def test_bad_text_is_refused(refuse: Refuse) -> None:
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    assert refuse(pa.table({"x": bad})).code == "not_utf8"
    assert refuse(pa.table({"x": ["a\0b"]})).code == "broken_rows"
    assert refuse(pa.table({"x": ["y" * 70_000]})).code == "cell_too_large"


def test_nan_and_infinity_become_null_and_are_counted(ingest: Ingest) -> None:
    report = ingest(pa.table({"x": [1.0, float("nan"), float("inf"), None]}))
    assert pq.read_table(report.parts[0].path)["x"].to_pylist() == [1.0, None, None, None]
    assert report.profile["not_finite"] == {"x": 2}


@pytest.mark.parametrize(
    "unit",
    [pa.array([1.0, float("nan"), None, 1.0]), pa.array(["a", "", None, "a"]), pa.array([1, None, None, 1])],
)
def test_rows_of_nobody_are_dropped_and_counted(unit: pa.Array, ingest: Ingest) -> None:
    report = ingest(pa.table({"who": unit, "x": [1, 2, 3, 4]}), unit="who")
    assert (report.rows, report.rows_without_unit) == (2, 2)
    assert pq.read_table(report.parts[0].path)["x"].to_pylist() == [1, 4]


def test_shape_limits(refuse: Refuse) -> None:
    assert refuse(pa.table({f"c{i}": [1] for i in range(10_000)})).code == "too_many_columns"
    assert refuse(pa.table({"a": [1] * 11}), limits=Limits(rows=10)).code == "too_many_rows"
    assert refuse(pa.table({"a": [1]}), limits=Limits(file_bytes=10)).code == "file_too_large"
    assert refuse(pa.table({"a": pa.array([], pa.int64())})).code == "empty_file"
    assert refuse(pa.table({"a": [1], "A": [2]})).code == "duplicate_column"


def test_a_small_file_that_holds_much_is_stopped(refuse: Refuse) -> None:
    bomb = _parquet(pa.table({"a": pa.repeat(7, 20_000_000)}), compression="zstd")
    assert len(bomb) < 100_000
    assert refuse(bomb).code == "expands_too_much"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_what_a_dictionary_spreads_out_to_is_counted_before_it_is(refuse: Refuse, kind: pa.DataType) -> None:
    """All rows mean one text: as Arrow holds it that is little, as rows it is 250 MB."""
    words = pa.array(["x" * 50_000], kind)
    meant = pa.DictionaryArray.from_arrays(pa.repeat(0, 5_000), words)
    bomb = _parquet(pa.table({"a": meant}), compression="zstd")
    assert len(bomb) < 2_000
    assert refuse(bomb).code == "expands_too_much"


def test_memory_is_limited_whatever_the_file_says(refuse: Refuse) -> None:
    """A single page of 200 MB: no batch size helps, only the limit on the address space does."""
    bomb = _parquet(pa.table({"a": ["x" * 200_000_000]}), compression="zstd", use_dictionary=False)
    assert len(bomb) < 200_000
    limits = Limits(memory_bytes=600 << 20, cell_bytes=1 << 30, expansion=1 << 30)
    assert refuse(bomb, limits=limits).code == "expands_too_much"


def test_time_is_limited_and_the_child_is_gone(refuse: Refuse) -> None:
    slow = b"a,b,c,d\n" + b'"1","2","3","4"\n' * 2_000_000
    start = time.monotonic()
    assert refuse(slow, limits=Limits(seconds=1)).code == "took_too_long"
    assert time.monotonic() - start < 20


def test_the_same_values_give_the_same_bytes_whatever_the_layout(ingest: Ingest) -> None:
    """CSV and Parquet, one row group or many, with or without compression and metadata."""
    count = 130_000  # more than one of our row groups
    table = pa.table({"n": list(range(count)), "s": [f"v{i % 97}" for i in range(count)]})
    text = "n,s\n" + "".join(f"{i},v{i % 97}\n" for i in range(count))
    tagged = table.replace_schema_metadata({"pandas": "{}", "author": "somebody"})
    hashes = {
        ingest(content).parts[0].sha256
        for content in (
            table,
            table,
            text.encode(),
            _parquet(table, row_group_size=1_000, compression="none", use_dictionary=False),
            _parquet(tagged, row_group_size=50_000, data_page_version="2.0"),
        )
    }
    assert len(hashes) == 1


def test_the_rewritten_file_tells_nothing_but_its_values(ingest: Ingest) -> None:
    tagged = pa.table({"a": list(range(200_000))}).replace_schema_metadata({"author": "somebody"})
    path = ingest(tagged).parts[0].path
    metadata = pq.ParquetFile(path).metadata
    assert metadata.metadata is None
    assert b"somebody" not in path.read_bytes()
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [122_880, 77_120]
    assert not any(metadata.row_group(i).column(0).is_stats_set for i in range(metadata.num_row_groups))


def test_parts_follow_one_another_in_row_order(ingest: Ingest) -> None:
    count = 12_288_001
    report = ingest(pa.table({"a": pa.array(range(count), pa.int32())}))
    assert [part.path.name for part in report.parts] == ["part-00000.parquet", "part-00001.parquet"]
    assert pq.read_table(report.parts[1].path)["a"].to_pylist() == [count - 1]
    assert report.rows == count


def test_a_folder_that_holds_parts_is_never_written_over(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"a\n1\n")
    ingest_table(source, table="t", unit=None, out=tmp_path / "out")
    before = (tmp_path / "out" / "part-00000.parquet").read_bytes()
    with pytest.raises(FileExistsError):
        ingest_table(source, table="t", unit=None, out=tmp_path / "out")
    assert (tmp_path / "out" / "part-00000.parquet").read_bytes() == before


def test_the_child_has_its_limits_and_none_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named pipe holds the child at the moment where it opens the stranger's file; then it is looked at."""
    monkeypatch.setenv("EXCHANGE_SECRET_KEY", "not for children")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    limits = Limits(memory_bytes=1_234_567_168)
    with ThreadPoolExecutor(1) as pool:
        options = {"table": "t", "unit": None, "out": tmp_path / "out", "confinement": CONFINED}
        waiting = pool.submit(ingest_table, pipe, limits=limits, **options)
        child = _child_with(str(limits.memory_bytes))
        environment = (child / "environ").read_text()
        granted = (child / "limits").read_text()
        status = _confined(child)
        network = (child / "ns" / "net").readlink()
        pipe.open("wb").close()
        with pytest.raises(InvalidUpload) as caught:
            waiting.result()
    assert caught.value.code == "empty_file"
    assert network != Path("/proc/self/ns/net").readlink()
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert "EXCHANGE" not in environment
    assert "PYTHONPATH" not in environment
    assert f"Max cpu time              {limits.seconds + 1} " in granted
    assert f"Max file size             {limits.expanded_bytes} " in granted
    assert "Max core file size        0 " in granted


def test_a_confined_child_ends_with_its_parent(tmp_path: Path) -> None:
    """What it writes in the meantime may be readable: whoever is to remove it has gone."""
    child = (
        "import os, sys, time\nfrom catalog.ingest_worker import confine\n"
        f"confine({CONFINED!r}, source='/dev/null', out={str(tmp_path)!r}, parent=os.getppid())\n"
        "os.write(1, b'confined')\ntime.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys\n"
        "with subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE) as child:\n"
        "    assert child.stdout.read(8) == b'confined'\n"
        "    print(child.pid, flush=True)\n    os.kill(os.getpid(), 9)"
    )
    environ = {"PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", parent, child],
        env={**environ, "JE_ARROW_MALLOC_CONF": "background_thread:false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    status, until = Path("/proc", done.stdout.strip(), "status"), time.monotonic() + 10
    while status.exists() and "State:\tZ" not in status.read_text():  # whoever adopted it may be slow to reap
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.01)


def test_a_confined_child_reads_its_file_writes_its_folder_and_nothing_else(tmp_path: Path) -> None:
    """What a parser that was taken over could do: each of these is refused by the kernel."""
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_text("a\n1\n")
    (tmp_path / "secret").write_text("secret")
    out.mkdir()
    program = f"""
import os, socket, subprocess, sys
from catalog.ingest_worker import confine
confine({CONFINED!r}, source={str(source)!r}, out={str(out)!r}, parent=os.getppid())
open({str(source)!r}).read()
open({str(out / "part")!r}, "w").write("part")
for name, attempt in {{
    "read": lambda: open({str(tmp_path / "secret")!r}),
    "write": lambda: open({str(tmp_path / "more")!r}, "w"),
    "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
    "program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork(),
    "signal": lambda: os.kill({os.getpid()}, 0),
}}.items():
    try:
        attempt()
    except PermissionError:
        continue
    sys.exit(name)
"""
    one_thread = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), **one_thread},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "part").read_text() == "part"


def _confined(child: Path) -> dict[str, str]:
    """The child's status, once it is confined."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = (child / "status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status["Seccomp"] == "2":
            return status
        time.sleep(0.01)
    raise AssertionError("the child was never confined")


def _child_with(limit: str) -> Path:
    """The /proc folder of the child of this process that has taken the limit; waits for it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for children in Path("/proc/self/task").glob("*/children"):
            for child in children.read_text().split():
                if limit in (Path("/proc") / child / "limits").read_text():
                    return Path("/proc") / child
    raise AssertionError("no child took its limits")
