"""A slice of the fuzzer, in a process of its own; `make fuzz` is the whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import privacy
from tests.privacy import fuzz
from tests.privacy.mutants import SENTINEL, Mutator, worlds

ROOT = Path(__file__).parents[2]


def test_mutated_statements_are_planned_or_refused_and_nothing_else(record_property: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.privacy.fuzz", "--count", "2000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    told = re.search(r"(\d+) mutants: (\d+) planned, (\d+) refused", done.stdout)
    assert told is not None
    mutants, planned, refused = map(int, told.groups())
    assert mutants == planned + refused == 2000
    record_property("held", mutants)
    assert planned > 150
    assert refused > 1000


def test_a_mutant_is_made_again_from_its_number() -> None:
    known = worlds()
    first, second = Mutator(1, known), Mutator(1, known)
    assert [first.mutant(number) for number in range(50)] == [second.mutant(number) for number in range(50)]
    assert first.mutant(7) != Mutator(2, known).mutant(7)


def _defects(monkeypatch: pytest.MonkeyPatch, plan: object) -> list[str]:
    monkeypatch.setattr(privacy, "plan", plan)
    fuzzer = fuzz.Fuzzer.__new__(fuzz.Fuzzer)
    fuzzer.figures, fuzzer.plans = fuzz.Figures(), {}
    return fuzzer._defects(worlds()[0], f"SELECT count(*) AS n FROM flights WHERE dest = '{SENTINEL}'")


@pytest.mark.parametrize(
    ("raised", "found"),
    [
        (KeyError("x"), "KeyError in"),
        (privacy.Refused("syntax", "Wrong.", line=9, hint="Mend it."), "9:1 is not in the text"),
        (privacy.Refused("syntax", f"No {SENTINEL}.", hint="Mend it."), "syntax repeats a literal"),
        (privacy.Refused("syntax", "Wrong.", hint="Mend it"), "syntax does not end its sentence"),
    ],
)
def test_the_fuzzer_finds_planted_defects(
    raised: Exception, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(*_arguments: object, **_options: object) -> privacy.Plan:
        raise raised

    assert any(defect.startswith(found) for defect in _defects(monkeypatch, plan))


def test_the_fuzzer_sees_a_file_that_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    original = privacy.plan

    def plan(sql: str, policy: privacy.Policy, **budget: Any) -> privacy.Plan:
        fuzz._watch("open", ("/etc/passwd",))
        return original(sql, policy, **budget)

    assert "planning did open" in _defects(monkeypatch, plan)
