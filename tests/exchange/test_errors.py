"""Every error has a status, an exception in Python and a line in the documentation."""

from __future__ import annotations

import re

import pytest

from exchange.client.errors import ExchangeError, QueryRefused, ServerError, from_problem
from exchange.store import REFUSALS
from exchange.web.errors import STATUS
from privacy import Refused
from tests.exchange import error_catalogue
from tests.exchange.error_catalogue import PAGE, catalogue, error_classes, sql_codes

CODES = sorted(catalogue())
CLASSES = error_classes()


def test_the_walk_finds_the_packages_errors() -> None:
    modules = {kind.__module__.split(".")[0] for kind in CLASSES}
    assert modules == {"catalog", "exchange", "privacy", "settlement"}
    assert len(CLASSES) > 60


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_and_a_next_step(kind: type[Exception]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", str(kind.code))  # type: ignore[attr-defined]
    assert str(kind.hint).endswith((".", "`", '"'))  # type: ignore[attr-defined]
    assert kind is Refused or kind.code in STATUS  # type: ignore[attr-defined]


def test_every_status_is_of_a_known_code() -> None:
    bases = {kind.code for kind in REFUSALS}
    assert set(STATUS) == set(CODES) | bases


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_an_exception_in_python(code: str) -> None:
    status = STATUS[code]
    kind = type(from_problem({"code": code}, status=status))
    assert issubclass(kind, ExchangeError)
    assert kind is not ExchangeError
    assert issubclass(kind, ServerError) <= (status >= 500), "a mistake of the caller is no failure of ours"


def test_the_documentation_says_what_the_code_says() -> None:
    expected = error_catalogue.table()
    documented = error_catalogue.documented(PAGE.read_text())
    stale = set(expected.splitlines()) ^ set(documented.splitlines())
    assert not stale, "run python -m tests.exchange.error_catalogue:\n" + "\n".join(sorted(stale))
    assert documented == expected


def test_every_refusal_of_the_compiler_is_documented() -> None:
    told = PAGE.read_text().partition("## Statements that are not answered")[2]
    documented = re.findall(r"^\| `([a-z_]+)` \|", told, re.MULTILINE)
    assert documented == sorted(documented)
    assert set(documented) == sql_codes()


@pytest.mark.parametrize("code", sorted(sql_codes()))
def test_a_refused_statement_is_one_exception_whatever_its_rule(code: str) -> None:
    told = from_problem({"code": code, "category": "sql", "line": 2, "column": 7}, status=422)
    assert type(told) is QueryRefused
    assert (told.code, told.line, told.column) == (code, 2, 7)
