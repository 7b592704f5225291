"""The inside of the sandbox: a zygote that forks workers, and a worker that runs one statement and ends.

Started by `privacy.sandbox` with one end of a socket pair as standard input. The zygote imports DuckDB and
Arrow once, gives up what it does not need, opens an empty database, stays single-threaded, and forks a worker
whenever it is asked to. Each worker has a copy of that database for itself alone; before its task comes it
rehearses a statement over made-up rows, so that memory and code that any task needs are there. It waits for
one task, and is used once.

Protocol. Parent to zygote: any byte means "one more worker". Zygote to parent: its protections as JSON, then
for each worker one byte with two descriptors, the worker's socket and its pidfd. Parent to worker: frames of
(length, bytes), the header as JSON and then each table as an Arrow stream. Worker to parent: frames of
(kind, length, bytes): D data of one Arrow stream, E the name of a failure, Z the end.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from privacy import confinement, decryption
from privacy.errors import EngineFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LENGTH = struct.Struct("!Q")
FRAME = struct.Struct("!cI")
MAX_FRAME = 1 << 20
_BATCH_ROWS = 16_384
_SINGLE_THREADED = 1 << 20  # up to so many bytes of rows another thread takes longer to start than it saves

_REHEARSED = (
    "SELECT key, count(*)::HUGEINT AS rows, sum(greatest(number, 0))::HUGEINT AS added FROM rehearsed"
    " WHERE number < 900 AND key IN (SELECT key FROM released) GROUP BY key",
    "SELECT key AS o0, number + 1.5 AS o1 FROM released ORDER BY key DESC NULLS LAST LIMIT 9",
)
_REHEARSED_ROWS = "SELECT 'k' || range % 7 AS key, range AS number FROM range(1000)"


def main() -> NoReturn:
    """Entry of the zygote; `argv[1]` is JSON: the parent's process id, the scratch folder and the limits."""
    start = json.loads(sys.argv[1])
    _load_engine()
    protections = _confine_zygote()
    zygote = _Zygote(socket.socket(fileno=0), start)
    zygote.control.send(json.dumps(protections).encode())
    zygote.serve()


_REHEARSED_BYTES = 2**27
"""With less memory a task is not rehearsed: it is the task that must fail of that, not the worker."""


def _load_engine() -> None:
    """Import the engine for all workers to come, without the optional libraries that it would look for."""
    for unused in ("pandas", "polars", "numpy", "torch", "tensorflow"):
        sys.modules[unused] = None  # type: ignore[assignment]  # an import of it now fails, quickly
    import duckdb
    import pyarrow as pa
    import pyarrow.dataset

    pa.set_cpu_count(1)
    decryption.load()
    warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)  # see _Worker.reader
    _ = (duckdb.__version__, pyarrow.dataset.dataset)


def _confine_zygote() -> list[str]:
    """All that workers inherit. A user namespace needs, and a fork keeps, a single thread."""
    confinement.require_single_thread()
    held = {
        "network_namespace": confinement.leave_network(),
        "capabilities": confinement.drop_privileges(),
        "seccomp": confinement.forbid_network_and_programs(),
        "landlock": confinement.landlock_abi() > 0,
        "resource_limits": True,
    }
    return [name for name, holds in held.items() if holds]


def _open_database(limits: Mapping[str, Any]) -> Any:
    """An in-memory database, without threads of its own, with the settings that hold for any task."""
    import duckdb

    memory = int(limits["memory_bytes"] * 0.5)
    config: dict[str, Any] = {"threads": 1, "async_threads": 0, "memory_limit": f"{memory}B"}
    connection = duckdb.connect(":memory:", config=config)
    settings: dict[str, str | int] = {
        "max_temp_directory_size": f"{limits['file_bytes']}B",
        "disabled_optimizers": "top_n_window_elimination",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_extension_repositories": "forbidden",
        "allow_persistent_secrets": False,
        "enable_external_file_cache": False,
        "parquet_metadata_cache": True,  # a view and its query read a file's footer once
        "python_enable_replacements": False,
    }
    connection.execute("; ".join(f"SET {name} = {_literal(value)}" for name, value in settings.items()))
    return connection


class _Rehearsal:
    """A task over made-up rows: they come as an Arrow stream, and from a file without a name, which the
    zygote's children inherit."""

    def __init__(self, connection: Any, scratch: Path) -> None:
        import pyarrow as pa

        named = scratch / "rehearsed.parquet"
        connection.execute(f"COPY ({_REHEARSED_ROWS}) TO {_literal(str(named))} (FORMAT parquet)")
        self.descriptor = os.open(named, os.O_RDONLY)
        named.unlink()
        table = connection.sql(_REHEARSED_ROWS).to_arrow_table()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        self.stream = sink.getvalue().to_pybytes()

    def run(self, connection: Any) -> None:
        """Leaves the database as empty as it was."""
        worker = _Worker(_Script(LENGTH.pack(len(self.stream)) + self.stream), Path(), {})
        json.loads(bytearray(json.dumps({"sql": _REHEARSED, "files": {}}).encode()))
        worker.create_table(connection, "released")
        worker.create_view(connection, "rehearsed", [f"/proc/self/fd/{self.descriptor}"], {})
        for sql, at_once in zip(_REHEARSED, (True, False), strict=True):
            worker.stream(worker.reader(connection, sql, at_once=at_once), MAX_FRAME)
        connection.execute("DROP VIEW rehearsed; DROP TABLE released")


class _Script:
    """In place of the parent: what it would send; what it is sent is lost."""

    def __init__(self, text: bytes) -> None:
        self.left = memoryview(text)

    def recv_into(self, view: memoryview) -> int:
        count = min(len(view), len(self.left))
        view[:count], self.left = self.left[:count], self.left[count:]
        return count

    def sendall(self, data: bytes) -> None:
        """Nobody listens."""


class _Zygote:
    def __init__(self, control: socket.socket, start: Mapping[str, Any]) -> None:
        self.control = control
        self.parent: int = start["parent"]
        self.scratch = Path(start["scratch"])
        self.limits: Mapping[str, Any] = start["limits"]
        self.connection = _open_database(self.limits)
        self.rehearsal: _Rehearsal | None = None
        if self.limits["memory_bytes"] >= _REHEARSED_BYTES:
            self.rehearsal = _Rehearsal(self.connection, self.scratch)
            self.rehearsal.run(self.connection)
        confinement.require_single_thread()
        gc.collect()
        gc.freeze()
        self.pid = os.getpid()
        self.children: dict[int, Path] = {}
        self.serial = 0
        self.woken, wake = socket.socketpair()
        self.woken.setblocking(False)
        wake.setblocking(False)
        self.wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def serve(self) -> NoReturn:
        """Fork on demand and clean up after workers, until the parent closes its end or is gone."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.woken, select.POLLIN)
        while os.getppid() == self.parent:
            ready = [descriptor for descriptor, _ in poll.poll(1000)]
            self.reap()
            if self.control.fileno() in ready:
                if not self.asked():
                    break
                self.fork()
        self.end()

    def asked(self) -> bool:
        """Whether the parent wants one more; not so when it closed, be it with workers unclaimed."""
        try:
            return bool(self.control.recv(1))
        except ConnectionError:
            return False

    def fork(self) -> None:
        self.serial += 1
        scratch = self.scratch / str(self.serial)
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            self.become_worker(theirs, scratch)
        theirs.close()
        self.children[child] = scratch
        pidfd = os.pidfd_open(child)
        try:
            socket.send_fds(self.control, [b"w"], [ours.fileno(), pidfd])
        except OSError:
            self.end()
        finally:
            ours.close()
            os.close(pidfd)

    def become_worker(self, channel: socket.socket, scratch: Path) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            confinement.die_with_parent(self.pid)
            for held in (self.control, self.woken, self.wake):
                held.close()
            os.open(os.devnull, os.O_RDONLY)  # becomes descriptor 0
            _Worker(channel, scratch, self.limits).serve(self.connection, self.rehearsal)
            status = 0
        finally:
            os._exit(status)

    def reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.woken.recv(4096):
                pass
        for child in list(self.children):
            if os.waitpid(child, os.WNOHANG)[0]:
                shutil.rmtree(self.children.pop(child), ignore_errors=True)

    def end(self) -> NoReturn:
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        for child, scratch in self.children.items():
            os.waitpid(child, 0)
            shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        sys.exit(0)


class _Worker:
    """One connection, one task. What fails, fails by name only: engine messages carry cell values."""

    def __init__(self, channel: socket.socket | _Script, scratch: Path, limits: Mapping[str, Any]) -> None:
        self.channel = channel
        self.scratch = scratch
        self.limits = limits

    def serve(self, connection: Any, rehearsal: _Rehearsal | None) -> None:
        import duckdb

        self.scratch.mkdir()
        confinement.limit_resources(
            memory_bytes=self.limits["memory_bytes"],
            cpu_s=self.limits["cpu_s"],
            file_bytes=self.limits["file_bytes"],
        )
        confinement.forbid_processes_and_signals()
        connection.execute(f"SET temp_directory = {_literal(str(self.scratch))}")
        if rehearsal is not None:
            rehearsal.run(connection)
            os.close(rehearsal.descriptor)
        try:
            header = self.receive(LENGTH.size)
        except EOFError:
            return  # the parent closed without a task
        try:
            self.run(connection, LENGTH.unpack(header)[0])
        except duckdb.InterruptException:
            self.send(b"E", b"query_timeout")
        except EngineFailed as error:
            self.send(b"E", error.code.encode())
        except BaseException:  # the reason must not leave
            self.send(b"E", b"query_failed")

    def run(self, connection: Any, size: int) -> None:
        task = json.loads(self.receive(size))
        files: dict[str, list[str]] = task["files"]
        paths = sorted({path for parts in files.values() for path in parts})
        confinement.confine_files(paths, str(self.scratch))
        # From now on: rehearsing is not the task's time.
        most_ms = max(int(self.limits["timeout_s"] * 1000), 1)
        connection.execute(f"SET max_execution_time = {most_ms}")
        arrived = sum(self.create_table(connection, name) for name in task["tables"])
        if files or arrived > _SINGLE_THREADED:
            connection.execute(f"SET threads = {int(self.limits['threads'])}")
        self.lock(connection, paths)
        keys: dict[str, str] = task["keys"]
        if keys:
            decryption.prepare(int(self.limits["threads"]))
        for name, parts in files.items():
            self.create_view(connection, name, parts, keys)
        connection.execute("SET lock_configuration = true")
        reader = self.reader(connection, task["sql"], at_once=task["at_once"])
        self.stream(reader, int(task["result_bytes"]))

    def create_view(self, connection: Any, name: str, parts: list[str], keys: Mapping[str, str]) -> None:
        """A view over the parts: one read for those that share a key, or are plain."""
        grouped: dict[str, list[str]] = {}
        for part in parts:
            grouped.setdefault(keys.get(part, ""), []).append(part)
        reads = []
        for place, (key, some) in enumerate(grouped.items()):
            source = f"read_parquet({_literal(some)}, hive_partitioning = false)"
            if key:
                called = f"__decrypted {place} {name}"
                connection.register(called, decryption.dataset(some, key))
                source = _identifier(called)
            reads.append(f"FROM {source}")
        connection.execute(f"CREATE VIEW {_identifier(name)} AS {' UNION ALL '.join(reads)}")

    def create_table(self, connection: Any, name: str) -> int:
        """Returns the bytes that arrived for it."""
        import pyarrow as pa

        size = LENGTH.unpack(self.receive(LENGTH.size))[0]
        connection.register("__arriving", pa.ipc.open_stream(self.receive(size)).read_all())
        connection.execute(f"CREATE TABLE {_identifier(name)} AS FROM __arriving")
        connection.unregister("__arriving")
        return int(size)

    def lock(self, connection: Any, paths: list[str]) -> None:
        """Exactly these files stay readable. The list cannot grow once external access is off."""
        connection.execute(f"SET allowed_paths = {_literal(paths)}; SET enable_external_access = false")

    def reader(self, connection: Any, sql: str, *, at_once: bool) -> Any:
        """The result of the one SELECT, batch by batch.

        A result that comes as it is computed costs one more round of parsing and two of binding.
        """
        import duckdb

        (statement,) = connection.extract_statements(sql)
        if statement.type != duckdb.StatementType.SELECT:
            raise ValueError("not a SELECT")
        result = connection.execute(statement) if at_once else connection.sql(statement)
        return result.to_arrow_reader(_BATCH_ROWS)

    def stream(self, reader: Any, most: int) -> None:
        """Send a result as it comes."""
        import pyarrow as pa

        sink = _Sink(self, most)
        with pa.PythonFile(sink, mode="w") as out, pa.ipc.new_stream(out, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        self.send(b"Z", b"")

    def receive(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self.channel.recv_into(view)
            if count == 0:
                raise EOFError
            view = view[count:]
        return data

    def send(self, kind: bytes, data: bytes) -> None:
        self.channel.sendall(FRAME.pack(kind, len(data)) + data)


class _Sink:
    """A write-only file whose bytes go to the parent, up to a limit."""

    closed = False

    def __init__(self, worker: _Worker, most: int) -> None:
        self.worker = worker
        self.left = most

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.left -= len(view)
        if self.left < 0:
            raise EngineFailed("query_too_large")
        for part in _chunks(view):
            self.worker.send(b"D", bytes(part))
        return len(view)

    def flush(self) -> None:
        """Everything is sent as it is written."""

    def close(self) -> None:
        """The end is a frame of its own."""


def _chunks(view: memoryview) -> Iterator[memoryview]:
    return (view[start : start + MAX_FRAME] for start in range(0, len(view), MAX_FRAME))


def _literal(value: bool | int | str | list[str]) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower()


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
