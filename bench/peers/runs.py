"""Runs an engine over the questions of a dataset in its own environment, and keeps what a peer answered.

A peer's answers depend on its runner, its requirements, the data and the request alone. They are kept in
``.bench/answers`` under a digest of these, so that our engine is measured again without waiting for peers.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.peers import environments
from bench.peers.environments import NotInstalled
from privacy import accounting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.peers.questions import Question

OURS = "ours"
PEERS = ("smartnoise", "opendp", "pipelinedp", "qrlew", "tumult")
KEPT = environments.FOLDER / "answers"
EPSILON, DELTA = 1.0, 1e-6
EVERY = 99
TOO_LATE = "not answered within"
LATE = ".late"

Record = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is run: at most ``runs`` answers, begun within ``seconds``, by each of ``ways`` of bounding.

    Attributes:
        ways: how many of an engine's ways of bounding are tried.
        limit_s: for one question and way of bounding.
        timeout_s: for all questions of one dataset; what was answered until then counts.
    """

    runs: int
    seconds: float
    ways: int
    limit_s: float
    timeout_s: float


def answers(
    engine: str,
    questions: Sequence[Question],
    effort: Effort,
    plain_seconds: Callable[[Question], float],
    *,
    fresh: bool,
    kept: bool = False,
) -> list[Record]:
    """One record for each question and way of bounding: ``runs`` and ``seconds``, or why it is ``unable``.

    With ``kept`` no peer is asked: what it did not answer before is missing. ``plain_s`` is what
    ``plain_seconds`` measured next to the engine's own runs, on an equally busy machine.
    """
    found: list[Record] = []
    missing: list[Question] = []
    for question in questions:
        path = _kept(engine, question, effort)
        if engine != OURS and kept:
            found += _known(path, question)
        elif engine == OURS or fresh or not path.exists():
            missing.append(question)
        else:
            found += _known(path, question)
    if not missing:
        return found
    try:
        python = Path(sys.executable) if engine == OURS else environments.installed(engine)
    except NotInstalled as reason:
        return [*found, *({"id": one.id, "way": "", "unable": f"not installed: {reason}"} for one in missing)]
    plain = {one.id: plain_seconds(one) for one in missing}
    answered = [one | {"plain_s": plain[one["id"]]} for one in _run(engine, python, missing, effort)]
    for question in missing if engine != OURS else ():
        _keep(_kept(engine, question, effort), [one for one in answered if one["id"] == question.id])
    return found + answered


def _keep(path: Path, records: list[Record]) -> None:
    """What ran out of time is kept apart: the next run asks it again, without waiting for the others."""
    late = any(one.get("unable", "").startswith(TOO_LATE) for one in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.with_suffix(LATE) if late else path).write_text(json.dumps(records), encoding="utf-8")


def _known(path: Path, question: Question) -> list[Record]:
    """What was answered before, in time or not."""
    for known in (path, path.with_suffix(LATE)):
        if known.exists():
            records: list[Record] = json.loads(known.read_text(encoding="utf-8"))
            return records
    return [{"id": question.id, "way": "", "unable": "not asked"}]


def _request(question: Question) -> dict[str, Any]:
    """The question with the rho that its epsilon and delta come to, for peers that account in zCDP."""
    spare = round(DELTA * 1e12) // 2 if question.private_keys else 0
    rho_nano = accounting.rho_nano_for_epsilon(EPSILON, round(DELTA * 1e12) - spare)
    return question.request() | {"rho": rho_nano / 1e9}


def _run(engine: str, python: Path, questions: Sequence[Question], effort: Effort) -> list[Record]:
    request = {
        "file": str(questions[0].data.file),
        "questions": [_request(question) for question in questions],
        "epsilon": EPSILON,
        "delta": DELTA,
        "runs": effort.runs,
        "seconds": effort.seconds,
        "ways": EVERY if engine == OURS else effort.ways,
        "limit_s": effort.limit_s,
    }
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answers.jsonl"
        asked.write_text(json.dumps(request), encoding="utf-8")
        answered.touch()
        command = [str(python), "-m", f"bench.peers.{engine}", str(asked), str(answered)]
        ended = _wait(engine, command, effort.timeout_s)
        lines = answered.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]
    for question in questions:
        if not any(one["id"] == question.id for one in found):
            found.append({"id": question.id, "way": "", "unable": ended})
    return found


def _wait(engine: str, command: list[str], timeout_s: float) -> str:
    """Run to the end or the time limit; the answer is the reason why something may be missing."""
    log = environments.FOLDER / "logs" / f"{engine}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            command,
            cwd=environments.ROOT,
            stdout=said,
            stderr=said,
            start_new_session=True,
            env=_environment(),
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"{TOO_LATE} {timeout_s:g} s for the dataset"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["said nothing"]
    return f"ended with status {code}: {lines[-1][:200]}"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(environments.ROOT), "PYTHONWARNINGS": "ignore"}


def _kept(engine: str, question: Question, effort: Effort) -> Path:
    folder = Path(__file__).parent
    sources = [folder / "runner.py", folder / f"{engine}.py"]
    if engine != OURS:
        sources.append(environments.REQUIREMENTS / f"{engine}.txt")
    size = question.data.file.stat().st_size
    asked = [_request(question), size, EPSILON, DELTA, effort.runs, effort.seconds, effort.ways]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for source in sources:
        text = source.read_text(encoding="utf-8")
        digest.update((ast.dump(ast.parse(text)) if source.suffix == ".py" else text).encode())
    return KEPT / f"{engine}-{question.id.split()[0]}-{digest.hexdigest()[:16]}.json"
