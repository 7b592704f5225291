"""Statements without their literals: what counts as a word, and what as a value."""

from __future__ import annotations

import pytest

import privacy

ONE = "select count(*) from t where a = 5 and b = 'x'"


@pytest.mark.parametrize(
    "same",
    [
        "SELECT count( * )\nFROM T WHERE a=5 AND b='x';",
        "select count(*) /* why */ from t where a = 5 and b = 'x' -- because",
        "select count(*) from t where a = 7 and b = 'y'",
        "select count(*) from t where a = 'five' and b = 1.5",
    ],
)
def test_values_comments_and_case_do_not_count(same: str) -> None:
    assert privacy.skeleton(same).digest == privacy.skeleton(ONE).digest


@pytest.mark.parametrize(
    "other",
    [
        "select count(*) from t where a = 5 and c = 'x'",
        "select count(*) from t where a < 5 and b = 'x'",
        "select count(*) from t where a = 5 or b = 'x'",
        "select count(*) from t where \"A\" = 5 and b = 'x'",
        "select count(*) from t where a = -5 and b = 'x'",
        "select count(*) from t where a = 5 and b = 'x' and c = 1",
    ],
)
def test_words_count(other: str) -> None:
    assert privacy.skeleton(other).digest != privacy.skeleton(ONE).digest


def test_literals_are_in_their_order() -> None:
    text = "select sum(x) filter (where p = true) from t where d > date '2026-01-01' and a in (1, 2e3)"
    assert privacy.skeleton(text).literals == ("true", "2026-01-01", "1", "2e3")


@pytest.mark.parametrize("text", ["select 'open", "select \x00", "x" * 70_000])
def test_what_has_no_words_is_refused(text: str) -> None:
    with pytest.raises(privacy.Refused):
        privacy.skeleton(text)
