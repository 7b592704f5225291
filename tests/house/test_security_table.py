"""The table of `docs/security.md` names tests that are there, and leaves out no chapter."""

from __future__ import annotations

import ast
import re

from tests.house.sources import ROOT

TABLE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(test_\w+)`")


def all_tests() -> set[str]:
    """The name of every test of the project."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        found |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return found


def missing(text: str) -> set[str]:
    """The tests that a text names and that are nowhere."""
    return set(NAMED.findall(text)) - all_tests()


def test_every_test_that_the_table_names_is_there() -> None:
    assert len(NAMED.findall(TABLE)) > 100
    assert missing(TABLE) == set()


def test_a_test_that_is_not_there_is_found() -> None:
    assert missing("see `test_of_nothing_at_all`") == {"test_of_nothing_at_all"}


def test_every_chapter_has_an_answer() -> None:
    assert {int(number) for number in re.findall(r"\bV(\d+) [A-Z]", TABLE)} == set(range(1, 18))


def test_every_row_has_an_answer() -> None:
    rows = [line for line in TABLE.partition("### V1 ")[2].splitlines() if line.startswith("| ")]
    assert len(rows) > 80
    for row in rows:
        requirement, answer, _ = (cell.strip() for cell in row.strip("|").split("|"))
        assert requirement, row
        assert answer, row
