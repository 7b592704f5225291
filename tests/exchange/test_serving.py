"""Serving keeps a worker running whatever the machine refuses for a while."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.market.stand import Stand

#: A server whose keeper is refused its first process, as where there are too many; its worker leaves a file.
PROGRAM = """
import errno, os, pathlib, sys, time
from exchange import serving
from exchange.config import Settings

ran, server, fork, refused = pathlib.Path(sys.argv[1]), os.getpid(), os.fork, []

def forking():
    if os.getpid() != server and not refused:
        refused.append(True)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

def until_it_ran(_):
    until = time.monotonic() + 30
    while not ran.exists() and time.monotonic() < until:
        time.sleep(0.01)

os.fork = forking
serving._PAUSES_S = (0.05, 60.0)
serving.run_forever = lambda settings, parent: ran.write_text("ran")
serving._Server.run = until_it_ran
serving.serve(Settings.from_env(), host="127.0.0.1", port=0)
"""


def test_a_worker_is_started_once_the_machine_lets_it(sqlite_stand: Stand, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ran)],
        env={**os.environ, **sqlite_stand.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ran.exists()
    assert "no worker can be started" in done.stderr
