"""The log's verifier: how long a million leaves take, and how much memory; how long one proof takes.

    python -m bench.audit [--leaves 1000000] [--proofs 200] [--folder FOLDER] [--markdown]

The log is made as the exchange makes it: leaves of the size of answered queries, numbered and chained,
published by the integrator in steps of 100,000. It is verified in a process of its own by `verify.py`, the
single file that anybody is given, from the folder and from a zip of it, with a checkpoint of half the log
pinned. Its peak of memory is the high-water mark of its own address space (VmHWM; `ru_maxrss` would count
what the process that started it held), beside that of the same process for a log of one bundle. A proof is
made from the tiles and checked with its checkpoint's signature, out of nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import report, watching
from exchange.audit import checkpoint as checkpoints
from exchange.audit import leaf as leaves
from exchange.audit import merkle, single_file, tiles
from exchange.audit.entry import Entry, timestamp
from exchange.audit.integrate import integrate
from exchange.audit.note import SigningKey
from exchange.audit.signing import LogSigner
from exchange.audit.tiles import Folder
from exchange.audit.tlog_proof import TlogProof, verify_tlog_proof

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ORIGIN = "bench.example/log"
GOAL_LOG_S, GOAL_PROOF_S = 60.0, 0.050
_STEP = 100_000
_ORGS = 50
_RHO_NANO = 1_000_000
_SIGNER = SigningKey(ORIGIN, bytes(range(32)))
_START = datetime(2026, 11, 23, tzinfo=UTC)
_MEASURED = """
import pathlib, runpy, sys
said, *sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    pathlib.Path(said).write_bytes(pathlib.Path("/proc/self/status").read_bytes())
"""
"""Runs the file named as a process of it would, and keeps the kernel's account of that process."""


@dataclass(frozen=True)
class Verified:
    """One run of `verify.py`: seconds by the clock and of the processor, and the peak of its memory."""

    what: str
    leaves: int
    seconds: float
    processor_seconds: float
    peak_mib: float


def main(arguments: Sequence[str]) -> None:
    """Make the log, verify it all, prove entries of it, print the tables and write the figures."""
    asked = _arguments(arguments)
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        root = Path(place)
        (root / "verify.py").write_text(single_file.source(), encoding="utf-8")
        seconds, size = make(root / "log", asked.leaves), _size(root / "log")
        make(root / "small", tiles.WIDTH)
        packed = pack(root / "log", root / "log.zip")
        saved = root / "saved"
        saved.write_bytes(_head(root / "log", asked.leaves // 2, asked.leaves))
        runs = [
            verify(root, "one bundle", root / "small", tiles.WIDTH),
            verify(root, "a folder", root / "log", asked.leaves, "--checkpoint", saved),
            verify(root, "a zip", packed, asked.leaves, "--checkpoint", saved),
        ]
        proofs = prove(root / "log", asked.leaves, asked.proofs)
    headings: tuple[str, ...] = ("log", "leaves", "seconds", "of the processor", "goal s", "peak MiB")
    report.show("Verified whole, by verify.py", headings, [_row(one) for one in runs], asked.markdown)
    cells = (
        f"{asked.proofs:,}",
        *(report.milliseconds(some(proofs)) for some in (report.p50, report.p99, max)),
    )
    headings = ("proofs", "p50 ms", "p99 ms", "longest ms", "goal ms")
    report.show(
        f"One proof, of {asked.leaves:,} leaves",
        headings,
        [(*cells, f"{GOAL_PROOF_S * 1000:.0f}")],
        asked.markdown,
    )
    print(f"made by the integrator in {seconds:.0f} s: {size / 2**20:,.0f} MiB")
    figures = {
        "made_s": seconds,
        "bytes": size,
        "proof_p50_s": report.p50(proofs),
        "proof_p99_s": report.p99(proofs),
    }
    report.save("audit", {"arguments": vars(asked), **figures, "verified": [asdict(one) for one in runs]})


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--proofs", type=int, default=200)
    parser.add_argument(
        "--folder", default=str(Path.cwd()), help="where the log is made, 1.2 GB for a million leaves"
    )
    parser.add_argument("--markdown", action="store_true", help="the tables as they stand in documents")
    return parser.parse_args(arguments)


def make(folder: Path, count: int) -> float:
    """A log of so many leaves, published by the integrator; how many seconds that took, leaves included."""
    began = time.perf_counter()
    published, source = Folder(folder), _leaves(count)
    last: list[bytes] = []
    signer = LogSigner([_SIGNER], Folder(folder / ".signer"))
    signer.begin()

    def from_last(start: int, stop: int) -> Iterator[bytes]:
        """The integrator asks from the last published leaf on."""
        yield from last
        for leaf in itertools.islice(source, stop - start - len(last)):
            last[:] = [leaf]
            yield leaf

    for stop in [*range(_STEP, count, _STEP), count]:
        print(f"\r{stop:,} leaves", end="", file=sys.stderr, flush=True)
        integrate(lambda start, stop=stop: from_last(start, stop), published, signer, ORIGIN)  # type: ignore[misc]
    print(file=sys.stderr)
    return time.perf_counter() - began


def _leaves(count: int) -> Iterator[bytes]:
    chains: dict[str, tuple[int, str | None]] = {}
    template = _template()
    for seq in range(count):
        org = f"org_{seq * 7919 % _ORGS:024x}"
        org_seq, before = chains.get(org, (-1, None))
        digest = f"{seq:064x}"
        document = {
            **template,
            "seq": seq,
            "id": f"ent_{seq:024x}",
            "time": timestamp(_START + timedelta(seconds=seq)),
            "actor": {**template["actor"], "org": org},
            "privacy": {**template["privacy"], "spent_after": str(_RHO_NANO * (seq + 1))},
            "query": {"id": f"qry_{seq:024x}", "plan_sha256": digest, "sql_sha256": digest},
            "org_seq": org_seq + 1,
            "prev_org_leaf": before,
        }
        leaf = leaves.encode(document)
        chains[org] = org_seq + 1, merkle.leaf_hash(leaf).hex()
        yield leaf


def _template() -> dict[str, Any]:
    digest = "0" * 64
    entry = Entry(
        kind="query.settled",
        outcome="done",
        actor={"ref": "tok_0123456789abcdef01234567", "org": "org_x", "role": "buyer", "auth": "token"},
        source={"ip_truncated": "203.0.113.0/24", "request_id": "req_0123456789abcdef01234567"},
        object={
            "type": "dataset",
            "id": "ds_0123456789ab",
            "version": "ver_0123456789ab",
            "dataset": "city/taxis",
        },
        licence={
            "acceptance_id": "acc_0123456789abcdef01234567",
            "odrl_sha256": digest,
            "purpose": "research",
        },
        query={"id": "qry_x", "plan_sha256": digest, "sql_sha256": digest},
        privacy={
            "domain": "person:city",
            "mechanism": "discrete_gaussian",
            "rho_nano": _RHO_NANO,
            "delta_pico": 1_000,
            "spent_after": _RHO_NANO,
            "remaining_after": 2**62,
        },
        money={
            "currency": "USD",
            "amount_minor": 125,
            "journal": "jnl_0123456789ab",
            "journal_sha256": digest,
        },
        result={"sha256": digest, "bytes": 4_096},
    )
    fixed = {"v": 1, "kind": entry.kind, "outcome": entry.outcome, "code": None, "pii_commitment": None}
    return {**fixed, **entry.groups()}


def pack(folder: Path, path: Path) -> Path:
    """The log as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                packed.write(file, file.relative_to(folder).as_posix())
    return path


def verify(root: Path, what: str, log: Path, count: int, *more: str | Path) -> Verified:
    """One run of the single file in a process of its own."""
    print(f"verify.py: {what}", file=sys.stderr, flush=True)
    said = root / "status"
    command = [sys.executable, "-c", _MEASURED, str(said), str(root / "verify.py")]
    command += ["log", str(log), "--key", str(_SIGNER.verifier)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, *map(str, more)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    peak = watching.high_water(said.read_text(encoding="utf-8"))
    return Verified(what, count, seconds, used.ru_utime + used.ru_stime, peak / 2**20)


def prove(folder: Path, count: int, times: int) -> list[float]:
    """Seconds of one proof each: from tiles on disk to a checked proof file."""
    rng, found = random.Random(1), []
    data = (folder / checkpoints.PATH).read_bytes()
    for _ in range(times):
        seq = rng.randrange(count)
        began = time.perf_counter()
        published = Folder(folder)
        path = tiles.inclusion_proof(published, seq, count)
        index, offset = divmod(seq, tiles.WIDTH)
        leaf = tiles.read_bundle(published, index, tiles.width_of(0, index, count))[offset]
        file = TlogProof(seq, tuple(path), data, leaf).encoded()
        assert verify_tlog_proof(file, origin=ORIGIN, keys=[_SIGNER.verifier]).good
        found.append(time.perf_counter() - began)
    return found


def _head(folder: Path, size: int, count: int) -> bytes:
    """The checkpoint that the log had at an earlier size."""
    root = merkle.root_of(tiles.nodes(Folder(folder), count), size)
    return checkpoints.sign_checkpoint(ORIGIN, size, root, _SIGNER).encoded()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _row(one: Verified) -> tuple[str, ...]:
    goal = f"{GOAL_LOG_S * one.leaves / 1_000_000:.1f}"
    figures = (f"{one.seconds:.1f}", f"{one.processor_seconds:.1f}", goal, f"{one.peak_mib:.0f}")
    return (one.what, f"{one.leaves:,}", *figures)


if __name__ == "__main__":
    main(sys.argv[1:])
