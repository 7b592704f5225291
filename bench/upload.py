"""An upload beside a copy of the same file: how fast it arrives, and what the server holds of it in memory.

    python -m bench.upload [--megabytes 1024] [--rounds 3]

The file goes through the SDK to a served exchange on 127.0.0.1, resumable, in the SDK's own pieces; the copy
is the operating system's, flushed to the same disk. Memory is how much the largest web process grew over what
it held before, as its resident set's high-water mark. Rounds alternate, and the medians are compared.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import report, road, watching
from exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = 1 << 20


def main(arguments: Sequence[str]) -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.upload", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        figures = measure(Path(folder), asked.megabytes, asked.rounds)
    ratio = report.p50(figures["upload_s"]) / report.p50(figures["copy_s"])
    rows = [
        ("copy", f"{report.p50(figures['copy_s']):.1f}", "-", "-", "-"),
        (
            "upload",
            f"{report.p50(figures['upload_s']):.1f}",
            report.multiple(ratio),
            f"{figures['held_mib']:.0f}",
            f"{figures['grew_mib']:.0f}",
        ),
    ]
    headings = ("way", "seconds", "times a copy", "server holds, MiB", "grew by, MiB")
    report.show(f"A file of {asked.megabytes:,} MB", headings, rows)
    report.save("upload", {"arguments": vars(asked), **figures, "times_a_copy": ratio})


def measure(folder: Path, megabytes: int, rounds: int) -> dict[str, Any]:
    """Seconds of each copy and upload, and the web processes' memory."""
    environ = {
        **os.environ,
        "EXCHANGE_HOME": str(folder / "home"),
        "EXCHANGE_MAX_UPLOAD_BYTES": str((megabytes + 1) << 20),
    }
    token = road.prepare(environ)["provider"]
    copied, uploaded = [], []
    with road.serving(environ) as url, Exchange(url, token=token) as provider:
        provider.upload(_file(folder / "small", 1), progress=False)
        before = watching.largest_child()
        for number in range(rounds):
            source = _file(folder / f"source{number}", megabytes)
            copied.append(_timed_copy(source, folder / "copy"))
            began = time.perf_counter()
            provider.upload(source, progress=False)
            uploaded.append(time.perf_counter() - began)
            source.unlink()
        after = watching.largest_child()
    return {
        "copy_s": copied,
        "upload_s": uploaded,
        "held_mib": after / 2**20,
        "grew_mib": (after - before) / 2**20,
    }


def _file(path: Path, megabytes: int) -> Path:
    """A file of noise: nothing on the way makes it smaller."""
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(secrets.token_bytes(_BLOCK))
        os.fsync(file.fileno())
    return path


def _timed_copy(source: Path, target: Path) -> float:
    began = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    taken = time.perf_counter() - began
    target.unlink()
    return taken


if __name__ == "__main__":
    main(sys.argv[1:])
