"""The whole suite is as large as it was: tests do not vanish unnoticed."""

from __future__ import annotations

from typing import Literal

import pytest

from tests import held
from tests.house.collection import FLOORS, shrunken
from tests.house.sources import ROOT


def test_suites_do_not_shrink(request: pytest.FixtureRequest) -> None:
    chosen = request.config.getoption("keyword") or request.config.getoption("markexpr")
    if chosen or request.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        pytest.skip("counts the whole suite: run pytest without arguments")
    assert list(shrunken((item.nodeid for item in request.session.items), FLOORS)) == []


def test_every_suite_has_a_floor() -> None:
    suites = {
        path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("*/test_*.py")
    }
    assert suites <= set(FLOORS)


def test_what_is_counted_is_tested() -> None:
    """The numbers at the end of a run count tests that exist."""
    for name in (name for names in held.HELD.values() for name in names):
        path, _, test = name.partition("::")
        assert f"def {test}" in (ROOT / "tests" / path).read_text(), name


def _report(
    name: str,
    outcome: Literal["passed", "failed"],
    when: Literal["setup", "call"] = "call",
    held_: int | None = None,
) -> pytest.TestReport:
    properties = [] if held_ is None else [("held", held_)]
    return pytest.TestReport(
        f"tests/{name}", ("", 0, ""), {}, outcome, None, when, user_properties=properties
    )


def test_the_end_of_a_run_says_what_was_held_and_what_not() -> None:
    plant = "statistics/test_audit.py::test_a_planted_fault_is_caught"
    fuzzed = "privacy/test_fuzz.py::test_mutated_statements_are_planned_or_refused_and_nothing_else"
    passed = [_report(f"{plant}[{n}]", "passed") for n in range(3)] + [_report(fuzzed, "passed", held_=2000)]
    passed += [_report(f"{plant}[1]", "passed", "setup"), _report("catalog/test_a.py::test_b", "passed")]
    reports = {"passed": passed, "failed": [_report(f"{plant}[x]", "failed")]}
    assert list(held.told(reports)) == [
        "  2,000 mutated statements planned or refused",
        "      3 planted faults caught; 1 not",
    ]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_vanished_tests_are_caught(kept: int) -> None:
    collected = [f"tests/privacy/test_plan.py::test_{number}[a/b]" for number in range(kept)]
    findings = list(shrunken([*collected, "tests/test_root.py::test_a"], {"privacy": 2}))
    assert findings == ([] if kept == 2 else [f"tests/privacy has {kept} tests, at least 2 are expected"])
