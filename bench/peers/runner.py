"""What every peer's runner shares; it imports the standard library alone, to run in any environment.

    python -m bench.peers.<peer> REQUEST.json ANSWERS.jsonl

The request names a Parquet file, the questions, epsilon, delta, and how many runs may take how long. One line
of JSON is written for each question and way of bounding as soon as it is done, so that a runner that has to
be stopped leaves what it finished.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, Protocol

Rows = Iterable[tuple[list[Any], list[float | None]]]
"""Released groups: key values, and the value of each measure."""

Ask = Callable[[], Rows]


class Unable(Exception):
    """The peer cannot express the question; the text says why."""


class TooLate(BaseException):
    """The time for one question is over; not an error that a library may handle."""


class Peer(Protocol):
    """A peer with the data at hand.

    ``ways`` are its ways of bounding what a unit contributes: ``groups`` (groups per unit and rows per group)
    and ``rows`` (rows per unit in all).
    """

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of its ways, the one that suits it best first."""

    def prepare(self, question: dict[str, Any], way: str) -> Ask:
        """A whole fresh answer, to be called once for each run.

        Raises:
            Unable: the peer has no words for the question.
        """


def serve(start: Callable[[dict[str, Any]], Peer]) -> None:
    """Answer the request of the command line."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    started = time.perf_counter()
    peer = start(request)
    loaded_s = time.perf_counter() - started
    with Path(sys.argv[2]).open("a", encoding="utf-8") as answers:
        for question in request["questions"]:
            for way in peer.ways[: request["ways"]]:
                found = {"id": question["id"], "way": way, "loaded_s": loaded_s}
                found |= answered(peer, question, way, request)
                answers.write(json.dumps(found) + "\n")
                answers.flush()


def answered(peer: Peer, question: dict[str, Any], way: str, request: dict[str, Any]) -> dict[str, Any]:
    """Up to ``runs`` answers; another is begun only while less than ``seconds`` have passed."""
    taken: list[float] = []
    released: list[list[Any]] = []
    signal.signal(signal.SIGALRM, _too_late)
    signal.setitimer(signal.ITIMER_REAL, request["limit_s"])
    try:
        ask = peer.prepare(question, way)
        began = time.perf_counter()
        while len(taken) < request["runs"] and (
            not taken or time.perf_counter() - began < request["seconds"]
        ):
            started = time.perf_counter()
            rows = [[list(keys), list(values)] for keys, values in ask()]
            taken.append(time.perf_counter() - started)
            released.append(rows)
    except Unable as reason:
        return {"unable": str(reason)}
    except TooLate:
        if not taken:
            return {"unable": f"not answered within {request['limit_s']:g} s"}
    except Exception as failed:
        traceback.print_exc()
        said = (str(failed).strip() or type(failed).__name__).splitlines()
        return {"unable": f"fails: {type(failed).__name__}: {said[0][:160]}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"seconds": taken, "runs": released}


def _too_late(*_: object) -> NoReturn:
    raise TooLate


def measures_of(question: dict[str, Any], kinds: Iterable[str]) -> list[dict[str, Any]]:
    """The measures of a question, if the peer has all of their kinds.

    Raises:
        Unable: it has not.
    """
    known = set(kinds)
    for measure in question["measures"]:
        if measure["kind"] not in known:
            raise Unable(f"has no user-level {measure['kind']}")
    return list(question["measures"])


def top_of(question: dict[str, Any], rows: Rows) -> Rows:
    """The groups that were asked for: those with the largest first measure."""
    if question["top"] is None:
        return rows
    ordered = sorted(rows, key=lambda row: -(row[1][0] or 0.0))
    return ordered[: question["top"]]
