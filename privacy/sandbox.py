"""Runs one SELECT at a time in a process that can do nothing else.

Generated SQL runs here because files come from strangers and no SQL engine calls itself safe for untrusted
input. A `Sandbox` keeps a few workers forked and warm; each runs one task and is thrown away. In a worker:
limits on memory, processor time, file size and result size; no network, no programs, no files but the named
ones (kernel and engine both say so); the engine's settings locked. `Sandbox.protections` names what a kernel
grants. The time limit is kept by SIGKILL. Engine messages never leave a worker. Linux only.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from privacy.errors import EngineFailed
from privacy.sealed import key_of, real
from privacy.worker import FRAME, LENGTH, MAX_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from types import TracebackType

_GRACE_S = 1.0  # the engine stops itself at the time limit; this much later the worker is killed
_START_S = 30.0
_MORE = 2
_WILDCARDS = frozenset("*?[")

PROTECTIONS = ("network_namespace", "capabilities", "seccomp", "landlock", "resource_limits")
"""All that a kernel can grant."""

# The package's own front (SQL parser, noise) is not loaded into workers: a bare package stands in its place.
_BOOT = (
    "import sys, types; package = types.ModuleType('privacy'); package.__path__ = [sys.argv.pop(1)];"
    " sys.modules['privacy'] = package; from privacy import worker; worker.main()"
)


@dataclass(frozen=True)
class Limits:
    """What one task may use.

    Attributes:
        memory_bytes: address space beyond an idle worker's; the engine spills to disk at half of it, the rest
            is for what it does not count (threads, fragments, the result). 512 MiB and more is sensible.
        cpu_s: processor seconds over all threads.
        timeout_s: seconds from sending the task to the last byte of its result; killed one second later.
        file_bytes: scratch space, in all and for each file.
        threads: engine threads.
        result_bytes: size of the result as an Arrow stream.
    """

    memory_bytes: int = 2 * 2**30
    cpu_s: int = 120
    timeout_s: float = 60.0
    file_bytes: int = 4 * 2**30
    threads: int = 2
    result_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class Task:
    """One SELECT and all it may see.

    Attributes:
        sql: a single SELECT statement.
        files: view name -> the Parquet files that it reads, at least one; no wildcard characters in paths.
            A :class:`privacy.sealed.SealedFile` is decrypted in the worker.
        tables: table name -> an Arrow table, copied into the worker.
        result_bytes: size of this task's result, in place of the sandbox's own limit.
        at_once: the result is known to be small: all of it is computed before any of it is sent. That saves
            reading a long statement twice; a large result would fill memory and scratch space.
    """

    sql: str
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    result_bytes: int | None = None
    at_once: bool = False


class Cancellation:
    """Ends, from any thread and for good, the tasks that run under it: their workers are killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[_Handle] = set()
        self._cancelled = False

    def cancel(self) -> None:
        """Kill what runs; what would begin from now on fails as `query_failed`."""
        with self._lock:
            self._cancelled = True
            for worker in self._held:
                worker.kill()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    @contextlib.contextmanager
    def holding(self, worker: _Handle) -> Iterator[None]:
        """Have the worker killed by a cancellation. Its process id is not used again before this ends."""
        with self._lock:
            if self._cancelled:
                raise EngineFailed("query_failed")
            self._held.add(worker)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(worker)


class Sandbox:
    """A pool of single-use worker processes. Thread-safe; usable after a fork (the copy starts its own pool).

    At most `workers` tasks run at a time; further callers wait for their turn, each turn being bounded by the
    time limit.

    Args:
        limits: what each task may use.
        workers: tasks at a time, and workers kept warm.

    Raises:
        EngineFailed: the worker processes do not start.
    """

    def __init__(self, limits: Limits | None = None, workers: int = 2) -> None:
        self.limits = limits or Limits()
        self._workers = workers
        self._pool = _Pool(self.limits, workers)
        self._cancellation = Cancellation()
        with _failing():
            self._pool.ensure_started()

    def under(self, cancellation: Cancellation) -> Sandbox:
        """This sandbox, its workers and its limits, for tasks that end with the cancellation."""
        made = copy.copy(self)
        made._cancellation = cancellation
        return made

    @property
    def protections(self) -> tuple[str, ...]:
        """What holds for every worker on this kernel: `network_namespace`, `seccomp`, `landlock`, ..."""
        return self._pool.protections

    @property
    def missing(self) -> tuple[str, ...]:
        """Which of `PROTECTIONS` this kernel does not grant; workers do without, and the others hold."""
        return tuple(name for name in PROTECTIONS if name not in self.protections)

    @property
    def overruns(self) -> int:
        """Tasks of this process that were killed at their time limit."""
        return self._pool.overruns

    def ensure_started(self) -> None:
        """Have workers that wait for tasks, starting them anew where they ended. Raises EngineFailed."""
        self._own_pool().restart_if_ended()

    def run(self, task: Task) -> pa.Table:
        """Run the task in a fresh worker.

        Raises:
            EngineFailed: `query_failed`, `query_timeout` or `query_too_large`, without the engine's message.
        """
        with _failing():
            most = self.limits.result_bytes if task.result_bytes is None else task.result_bytes
            message = _encode(task, most)
        with self._own_pool().turn, _failing():
            return self._exchange(self._pool.take(), message, most)

    def batches(self, task: Task) -> Generator[pa.RecordBatch]:
        """Run the task in a fresh worker and hand on its result as it comes, so that it need not fit into
        memory; an empty batch comes first. The worker ends, and another caller has its turn, when the
        iterator is through or closed: close it (`contextlib.closing`).

        Raises:
            EngineFailed: as `run`; of what was handed on nothing is to be kept then.
        """
        with _failing():
            most = self.limits.result_bytes if task.result_bytes is None else task.result_bytes
            message = _encode(task, most)
        with (
            self._own_pool().turn,
            _failing(),
            self._pool.take() as worker,
            self._cancellation.holding(worker),
            self._pool.counting_overruns(),
        ):
            worker.deadline = time.monotonic() + self.limits.timeout_s + _GRACE_S
            for part in message:
                worker.send(part)
            source = pa.PythonFile(_Arriving(worker, most), mode="r")
            with pa.ipc.open_stream(source) as reader:
                yield pa.RecordBatch.from_pylist([], reader.schema)
                for batch in reader:
                    batch.validate(full=True)
                    yield batch

    def close(self) -> None:
        """End all workers, running or idle, and remove their scratch space. Running tasks fail."""
        self._own_pool().close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own_pool(self) -> _Pool:
        if self._pool.owner != os.getpid():
            self._pool = _Pool(self.limits, self._workers)  # the other process keeps the one it owns
        return self._pool

    def _exchange(self, worker: _Handle, message: list[bytes], most: int) -> pa.Table:
        with worker, self._cancellation.holding(worker), self._pool.counting_overruns():
            worker.deadline = time.monotonic() + self.limits.timeout_s + _GRACE_S
            for part in message:
                worker.send(part)
            return _decode(worker.receive_result(most))


class _Handle:
    """The parent's hold on one worker; leaving it kills the worker, whatever it does."""

    def __init__(self, channel: socket.socket, pidfd: int, ended: Callable[[], None]) -> None:
        self.channel = channel
        self.pidfd = pidfd
        self.deadline = 0.0
        self._ended = ended

    def __enter__(self) -> _Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def kill(self) -> None:
        """End the process: whoever reads from it meets the end of its stream."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def discard(self) -> None:
        self.kill()
        self.channel.close()
        os.close(self.pidfd)
        self._ended()

    def alive(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)  # readable once the process has ended
        return not poll.poll(0)

    def send(self, data: bytes) -> None:
        self._arm()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its reason may still be read
            self.channel.sendall(data)

    def receive_result(self, most: int) -> bytearray:
        """All data frames up to the end frame, at most `most` bytes."""
        result = bytearray()
        while (data := self.receive_data(most - len(result))) is not None:
            result += data
        return result

    def receive_data(self, most: int) -> bytearray | None:
        """The next data frame, of at most `most` bytes; None at the end frame."""
        kind, size = FRAME.unpack(self._receive(FRAME.size))
        if size > min(MAX_FRAME, most):
            raise _failure("query_too_large")
        data = self._receive(size)
        if kind == b"Z":
            return None
        if kind != b"D":
            raise _failure(data.decode("ascii", "replace"))
        return data

    def _receive(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            self._arm()
            count = self.channel.recv_into(view)
            if count == 0:
                raise EngineFailed("query_failed")
            view = view[count:]
        return data

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.channel.settimeout(left)


class _Arriving:
    """A read-only file of the bytes that a worker sends, up to a limit."""

    closed = False

    def __init__(self, worker: _Handle, most: int) -> None:
        self._worker = worker
        self._left = most
        self._held = bytearray()
        self._ended = False

    def read(self, size: int) -> bytes:
        """So many bytes, or as many as there still are."""
        while len(self._held) < size and not self._ended:
            data = self._worker.receive_data(self._left)
            self._ended = data is None
            self._left -= len(data or b"")
            self._held += data or b""
        found = bytes(self._held[:size])
        del self._held[:size]
        return found

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        """Leaving the handle ends the worker."""


class _Pool:
    """The zygote, and the workers that it has forked ahead of demand: they wait in the control socket.

    An answer runs two tasks, one after the other. Two more wait than can be in use, and when two are missing
    they are replaced as a task ends: so none waits for a start, nor shares the processor with one.
    """

    def __init__(self, limits: Limits, workers: int) -> None:
        self.owner = os.getpid()
        self.turn = threading.BoundedSemaphore(workers)
        self.protections: tuple[str, ...] = ()
        self.overruns = 0
        self._limits = limits
        self._workers = workers
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._closed = False

    def ensure_started(self) -> _Zygote:
        if self._closed:
            raise EngineFailed("query_failed", "The sandbox is closed.")
        if self._zygote is not None and self._zygote.alive():
            return self._zygote
        self._stop()
        self._zygote = _Zygote(self._limits, self._workers)
        self.protections = self._zygote.protections
        self._zygote.refill()
        return self._zygote

    @contextlib.contextmanager
    def counting_overruns(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.overruns += 1
            raise

    def restart_if_ended(self) -> None:
        with self._lock, _failing():
            self.ensure_started()

    def take(self) -> _Handle:
        """A worker that lives, from a zygote that lives."""
        for _ in range(3 * self._workers + 9):
            with self._lock:
                try:
                    worker = self.ensure_started().take()
                except OSError:
                    self._stop()
                    continue
            if worker.alive():
                return worker
            worker.discard()
        raise EngineFailed("query_failed", "The query workers do not start.")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._stop()

    def _stop(self) -> None:
        if self._zygote is not None:
            self._zygote.stop()
            self._zygote = None


class _Zygote:
    def __init__(self, limits: Limits, workers: int) -> None:
        self._least = workers
        self._waiting = 0
        self._counting = threading.Lock()
        self.scratch = tempfile.mkdtemp(prefix="sandbox-")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        start = {"parent": os.getpid(), "scratch": self.scratch, "limits": asdict(limits)}
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-c", _BOOT, str(Path(__file__).parent), json.dumps(start)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self.process, self.control, self.scratch)
        self.control.settimeout(_START_S)
        hello = self.control.recv(4096)
        if not hello:
            self.stop()
            raise EngineFailed("query_failed", "The query workers do not start.")
        self.protections: tuple[str, ...] = tuple(json.loads(hello))

    def alive(self) -> bool:
        return self.process.poll() is None

    def refill(self) -> None:
        """More workers, if few are left; where the zygote is gone, the next one starts with all of them."""
        with self._counting, contextlib.suppress(OSError):
            if self._waiting > self._least:
                return
            while self._waiting < self._least + _MORE:
                self.control.send(b"+")
                self._waiting += 1

    def take(self) -> _Handle:
        _, descriptors, _, _ = socket.recv_fds(self.control, 16, 2)
        if len(descriptors) != 2:
            raise ConnectionResetError
        with self._counting:
            self._waiting -= 1
        channel, pidfd = descriptors
        os.set_inheritable(pidfd, False)
        return _Handle(socket.socket(fileno=channel), pidfd, self.refill)

    def stop(self) -> None:
        self._finalizer()


_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/nonexistent",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # a fork copies only one thread
    "MALLOC_ARENA_MAX": "2",  # address space is limited: no 64 MiB arena for each thread
}


def _end(owner: int, process: subprocess.Popen[bytes], control: socket.socket, scratch: str) -> None:
    control.close()  # the zygote kills its workers and exits
    if owner != os.getpid():  # a copy after a fork: the processes and files are not its own
        process.returncode = 0
        return
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()  # its workers die with it
        process.wait()
    shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise _failure("query_timeout") from None
    except (OSError, pa.ArrowException):
        raise EngineFailed("query_failed") from None


def _encode(task: Task, most: int) -> list[bytes]:
    files = {name: [real(path) for path in parts] for name, parts in task.files.items()}
    if any(_WILDCARDS.intersection(path) for parts in files.values() for path in parts):
        raise EngineFailed("query_failed", "A table's file has a wildcard (* ? [) in its path.")
    document = {
        "sql": task.sql,
        "files": files,
        "keys": {
            path: base64.b64encode(key).decode()
            for parts in files.values()
            for path in parts
            if (key := key_of(path)) is not None
        },
        "tables": list(task.tables),
        "result_bytes": most,
        "at_once": task.at_once,
    }
    header = json.dumps(document).encode()
    message = [LENGTH.pack(len(header)), header]
    for table in task.tables.values():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue()
        message += [LENGTH.pack(data.size), data]
    return message


def _decode(data: bytearray) -> pa.Table:
    """The worker may have been taken over by its input: its bytes are checked before anyone reads them."""
    table = pa.ipc.open_stream(data).read_all()
    table.validate(full=True)
    return table


def _failure(code: str) -> EngineFailed:
    if code == "query_timeout":
        error = EngineFailed(code)
        error.hint = "Ask for less: fewer tables joined, fewer groups, a narrower filter."
    elif code == "query_too_large":
        error = EngineFailed(code, "The result is larger than allowed.")
        error.hint = "Group by fewer or coarser keys."
    else:
        error = EngineFailed("query_failed")
    return error
