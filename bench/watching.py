"""A sandbox under watch: how long its tasks over private rows take, and the most memory that a worker has.

Memory is what Linux calls the high-water mark of a process's resident set: of a worker, read from outside as
long as it lives; of plain DuckDB, read by a process of its own at its end. Both have Python, DuckDB and
Arrow loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from privacy.sandbox import Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    import pyarrow as pa

LIMITS = Limits(timeout_s=600.0, cpu_s=1_200, file_bytes=32 * 2**30)
"""The usual memory, and time enough for what is slow."""
MIB = 2**20
_SAMPLE_S = 0.002
_QUIET_LOOKS, _QUIET_S, _QUIET_AT_MOST_S = 5, 0.004, 3.0
_PLAIN = """
import json, sys
import duckdb, pyarrow
files, sql, threads = json.loads(sys.argv[1])
connection = duckdb.connect(config={"threads": threads})
connection.execute("SET enable_progress_bar = false")
for name, path in files.items():
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")
connection.sql(sql).to_arrow_table()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


class Watched(Sandbox):
    """A sandbox that notes when tasks ran that read from watched places: files, and all in a folder."""

    def __init__(self, limits: Limits = LIMITS, workers: int = 2) -> None:
        super().__init__(limits, workers)
        self.places: frozenset[str] = frozenset()
        self._spans: list[tuple[float, float]] = []

    def run(self, task: Task) -> pa.Table:
        """Run it, with a note of when."""
        with self._noting(task):
            return super().run(task)

    def batches(self, task: Task) -> Generator[pa.RecordBatch]:
        """Run it, with a note of when."""
        with self._noting(task):
            yield from super().batches(task)

    @contextlib.contextmanager
    def _noting(self, task: Task) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            paths = {Path(path).resolve() for parts in task.files.values() for path in parts}
            if any({str(path), str(path.parent)} & self.places for path in paths):
                self._spans.append((started, time.perf_counter()))

    def taken_s(self) -> float:
        """Seconds in which some such task ran since this was asked last."""
        spans, self._spans = sorted(self._spans), []
        taken, until = 0.0, 0.0
        for start, end in spans:
            taken += max(end - max(start, until), 0.0)
            until = max(until, end)
        return taken


def settle() -> None:
    """Wait until this process's sandboxes have made their workers ready.

    A worker that a task has used up is replaced at once. That takes none of the task's own time, but would
    take some of whatever is timed next.
    """
    deadline, quiet = time.monotonic() + _QUIET_AT_MOST_S, 0
    while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
        time.sleep(_QUIET_S)
        quiet = 0 if any(map(_busy, _sandboxed())) else quiet + 1


def _busy(process: int) -> bool:
    """Whether a thread of it runs or waits for a disk."""
    for path in Path(f"/proc/{process}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            state = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
            if state in "RD":
                return True
    return False


def _sandboxed() -> list[int]:
    """Zygotes, which are children of this process, and their workers."""
    zygotes = _children(os.getpid())
    return [*zygotes, *(worker for zygote in zygotes for worker in _children(zygote))]


def worker_peak(run: Callable[[], object], every_s: float = _SAMPLE_S) -> int:
    """The largest high-water mark, in bytes, of any worker of this process's sandboxes while it runs.

    A mark only grows, so that no more is missed than what a worker adds to it between the last look and its
    end.
    """
    done, peaks = threading.Event(), [0]
    sampler = threading.Thread(target=_sample, args=(done, peaks, every_s))
    sampler.start()
    try:
        run()
    finally:
        done.set()
        sampler.join()
    return max(peaks)


def largest_child() -> int:
    """The largest high-water mark, in bytes, among this process's children and theirs."""
    waiting, peaks = _children(os.getpid()), [0]
    while waiting:
        process = waiting.pop()
        waiting += _children(process)
        peaks.append(_high_water(process))
    return max(peaks)


def own_peak() -> int:
    """This process's high-water mark, in bytes."""
    return _high_water(os.getpid())


def _sample(done: threading.Event, peaks: list[int], every_s: float) -> None:
    while not done.wait(every_s):
        peaks[0] = max([peaks[0], *map(_high_water, _sandboxed())])


def _children(process: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text(encoding="ascii").split())
    return found


def _high_water(process: int) -> int:
    with contextlib.suppress(OSError):
        return high_water(Path(f"/proc/{process}/status").read_text(encoding="utf-8"))
    return 0


def high_water(status: str) -> int:
    """The high-water mark in the text of `/proc/PID/status`, in bytes; 0 where it has no memory."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def plain_peak(files: Mapping[str, Path], sql: str, threads: int = 2) -> int:
    """The high-water mark, in bytes, of a process that answers the statement in plain DuckDB."""
    asked = json.dumps([{name: str(path) for name, path in files.items()}, sql, threads])
    done = subprocess.run([sys.executable, "-c", _PLAIN, asked], capture_output=True, text=True, check=True)
    return int(done.stdout)
