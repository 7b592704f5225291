"""The whole suite is as large as it was: tests do not vanish unnoticed."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_vanished_tests_are_caught(kept: int) -> None:
    collected = [f"tests/privacy/test_plan.py::test_{number}[a/b]" for number in range(kept)]
    findings = list(shrunken([*collected, "tests/test_root.py::test_a"], {"privacy": 2}))
    assert findings == ([] if kept == 2 else [f"tests/privacy has {kept} tests, at least 2 are expected"])
