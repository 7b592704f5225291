"""Plans of late are kept, and never more of them than is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exchange.plans import Plans
from privacy import Refused


class Planner:
    """Counts the plans that were made; each is an object of its own."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, name: str) -> Callable[[], Any]:
        def make() -> object:
            self.made.append(name)
            return object()

        return make


@pytest.fixture
def planner() -> Planner:
    return Planner()


def test_the_same_question_is_planned_once(planner: Planner) -> None:
    plans = Plans()
    first = plans.planned(("policy", None), "SELECT 1", (("rho_nano", "5"), ()), planner("one"))
    again = plans.planned(("policy", None), "SELECT 1", (("rho_nano", "5"), ()), planner("two"))
    assert first is again
    assert planner.made == ["one"]


@pytest.mark.parametrize(
    ("documents", "sql", "asked"),
    [
        (("another", None), "SELECT 1", (("rho_nano", "5"), ())),
        (("policy", "profile"), "SELECT 1", (("rho_nano", "5"), ())),
        (("policy", None), "SELECT 2", (("rho_nano", "5"), ())),
        (("policy", None), "SELECT 1", (("rho_nano", "6"), ())),
        (("policy", None), "SELECT 1", (("epsilon", "5"), ())),
        (("policy", None), "SELECT 1", (("rho_nano", "5"), (("max_rows", 3),))),
    ],
)
def test_whatever_differs_is_planned_anew(
    planner: Planner, documents: tuple[str | None, ...], sql: str, asked: tuple[object, ...]
) -> None:
    plans = Plans()
    first = plans.planned(("policy", None), "SELECT 1", (("rho_nano", "5"), ()), planner("one"))
    assert plans.planned(documents, sql, asked, planner("two")) is not first
    assert planner.made == ["one", "two"]


def test_the_longest_unused_goes_first(planner: Planner) -> None:
    plans = Plans(plans=2)
    for sql in ("a", "b", "a", "c", "a", "b"):
        plans.planned(("policy",), sql, (), planner(sql))
    assert planner.made == ["a", "b", "c", "b"]


def test_long_statements_do_not_fill_the_memory(planner: Planner) -> None:
    plans = Plans(length=10)
    for sql in ("a" * 6, "b" * 5, "b" * 5, "a" * 6, "c" * 11, "c" * 11):
        plans.planned(("policy",), sql, (), planner(sql[0]))
    assert planner.made == ["a", "b", "a", "c", "c"]


def test_a_refusal_is_not_kept(planner: Planner) -> None:
    def refuse() -> Any:
        raise Refused("too_long", "no", hint="less")

    plans = Plans()
    with pytest.raises(Refused):
        plans.planned(("policy",), "a", (), refuse)
    plans.planned(("policy",), "a", (), planner("a"))
    assert planner.made == ["a"]
