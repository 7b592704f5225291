"""The accuracy benchmark: what counts as an error, what a runner may do, what peers are asked."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from bench import accuracy
from bench.peers import environments, runner, runs, scores
from bench.peers.questions import QUESTIONS
from bench.peers.scores import Score

TRUTH = {("a",): [100.0], ("b",): [200.0], ("c",): [0.0]}
REQUEST = {"runs": 5, "seconds": 30.0, "limit_s": 30.0}


def record(*released: list[Any]) -> dict[str, Any]:
    return {"id": "Q", "way": "rows", "seconds": [0.5], "plain_s": 0.1, "runs": list(released)}


def test_a_group_that_is_missing_or_has_no_number_is_wholly_wrong() -> None:
    found = scores.score(TRUTH, record([[["a"], [90.0]]], [[["a"], [math.nan]], [["b"], [None]]]))
    assert (found.median, found.p95) == (1.0, 1.0)
    assert found.released == pytest.approx(3 / 6)


def test_errors_are_relative_and_a_true_zero_has_none() -> None:
    found = scores.score(TRUTH, record([[["a"], [90.0]], [["b"], [260.0]], [["c"], [7.0]]]))
    assert found.median == pytest.approx((0.1 + 0.3) / 2)
    assert found.p95 == pytest.approx(0.3)


def test_an_infinite_value_is_an_infinite_error() -> None:
    assert math.isinf(scores.score(TRUTH, record([[["a"], [math.inf]], [["b"], [math.inf]]])).median)


def test_the_best_way_is_the_one_with_the_least_median() -> None:
    ways = [Score(0.3, 0.4, way="groups"), Score(0.2, 0.9, way="rows"), Score(unable="cannot", way="other")]
    assert scores.best(ways).way == "rows"
    assert scores.best([Score(unable="cannot")]).unable == "cannot"


def test_peers_are_compared_over_the_questions_that_both_answer() -> None:
    ours = {"A": Score(0.1, 0.1), "B": Score(0.1, 0.1), "C": Score(unable="refused: x")}
    peer = {"A": Score(0.2, 0.1), "B": Score(0.8, 0.1), "C": Score(0.1, 0.1)}
    assert scores.over_shared(ours, peer, "median") == (pytest.approx(4.0), 2)
    assert (
        scores.best_single({"wide": peer, "narrow": {"A": Score(0.1, 0.1)}, "none": {"A": Score(unable="x")}})
        == "narrow"
    )


def test_an_error_of_zero_counts_as_a_tenth_of_a_percent() -> None:
    assert scores.geometric_mean([0.0, 0.1]) == pytest.approx(0.01)


class Counting:
    """A peer that answers the number of times it was asked."""

    ways = ("rows",)

    def __init__(self, fails: BaseException | None = None, seconds: float = 0.0) -> None:
        self.asked, self.fails, self.seconds = 0, fails, seconds

    def prepare(self, question: dict[str, Any], way: str) -> runner.Ask:
        def ask() -> runner.Rows:
            self.asked += 1
            until = time.perf_counter() + self.seconds
            while time.perf_counter() < until:
                pass
            if self.fails is not None:
                raise self.fails
            return [(["a"], [float(self.asked)])]

        return ask


def test_a_runner_answers_as_often_as_it_is_asked() -> None:
    found = runner.answered(Counting(), {}, "rows", REQUEST)
    assert found["runs"] == [[[["a"], [float(run)]]] for run in range(1, 6)]
    assert len(found["seconds"]) == 5


def test_a_runner_begins_no_answer_after_its_time() -> None:
    assert len(runner.answered(Counting(seconds=0.02), {}, "rows", REQUEST | {"seconds": 0.01})["runs"]) == 1


@pytest.mark.parametrize(
    ("peer", "limit_s", "reason"),
    [
        (Counting(runner.Unable("has no medians")), 30.0, "has no medians"),
        (Counting(ValueError("bad\ntrace")), 30.0, "fails: ValueError: bad"),
        (Counting(seconds=20.0), 0.05, "not answered within 0.05 s"),
    ],
)
def test_what_a_peer_cannot_do_is_recorded_with_its_reason(
    peer: Counting, limit_s: float, reason: str
) -> None:
    assert runner.answered(peer, {}, "rows", REQUEST | {"limit_s": limit_s}) == {"unable": reason}


def test_every_question_can_be_sent_and_names_declared_columns() -> None:
    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS) == 16
    for question in QUESTIONS:
        sent = json.loads(json.dumps(question.request()))
        assert set(sent["keys"]) <= set(sent["columns"])
        assert question.private_keys == any(sent["columns"][key]["keys"] is None for key in sent["keys"])


def test_quick_questions_need_no_large_data() -> None:
    assert {question.dataset for question in QUESTIONS if question.quick} == {"events", "flights"}


@pytest.mark.parametrize("peer", ["tpch", *accuracy.PEERS])
def test_requirements_are_pinned_and_name_no_index(peer: str) -> None:
    lines = (environments.REQUIREMENTS / f"{peer}.txt").read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line)] == []
    assert peer == "tpch" or (Path(runner.__file__).parent / f"{peer}.py").exists()


def test_what_came_too_late_is_asked_again_but_known(tmp_path: Path) -> None:
    """Answers in time are kept for every run, the others for runs that ask nobody."""
    (question, *_) = QUESTIONS
    path = tmp_path / "peer-Q02-0.json"
    assert runs._known(path, question) == [{"id": question.id, "way": "", "unable": "not asked"}]
    late = [{"id": question.id, "way": "rows", "unable": f"{runs.TOO_LATE} 60 s"}]
    runs._keep(path, late)
    assert not path.exists()
    assert runs._known(path, question) == late
    runs._keep(path, [answered := record()])
    assert path.exists()
    assert runs._known(path, question) == [answered]
