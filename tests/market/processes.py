"""Servers and workers as an operator starts them: processes of their own on one database and one home."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from privacy.confinement import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


class Process:
    """One command of `exchange`, its output in a file."""

    def __init__(self, environ: Mapping[str, str], folder: Path, name: str, *command: str) -> None:
        self.output = folder / f"{name}.log"
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "exchange.cli", *command],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),  # also of a test run that is killed
            )
        self.pid = self._process.pid

    def told(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, to it and to every process that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.terminate()
        return self.ended()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._process.terminate()

    def ended(self) -> int:
        """The exit code, once it ended by itself."""
        return self._process.wait(PATIENCE_S)


class Web(Process):
    """`exchange serve` on a port of its own."""

    def __init__(
        self, environ: Mapping[str, str], folder: Path, name: str = "web", *options: str, port: int = 0
    ) -> None:
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(
            environ, folder, name, "serve", "--port", str(self.port), *(options or ("--no-worker",))
        )

    def answers(self, path: str) -> int:
        """The status of a path; 0 where nothing answers."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=15).status_code
        except httpx.HTTPError:
            return 0

    def refuses(self) -> bool:
        """Whether connections are refused."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def until_ready(self) -> None:
        """Wait for 200 at /readyz."""
        until(lambda: self.answers("/readyz") == 200, self.told)


def until(holds: Callable[[], bool], told: Callable[[], str] = str, *, within_s: float = PATIENCE_S) -> float:
    """Wait until something holds; returns the seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, f"not within {within_s} s\n{told()}"
        time.sleep(0.05)
    return time.monotonic() - began


def children(pid: int) -> list[int]:
    """The processes that this one started and that live, the oldest first."""
    told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return sorted(int(one) for one in told.split())


@contextlib.contextmanager
def ending(*processes: Process) -> Iterator[list[Process]]:
    """Processes that do not outlive the block; more may be added to the list."""
    started = list(processes)
    try:
        yield started
    finally:
        for process in started:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
