"""The API keeps to its own description; ``make soak`` sends fifty thousand requests."""

from __future__ import annotations

from collections import Counter

import pytest

from exchange.web import create_app
from tests.exchange.described import try_all
from tests.market.stand import Stand


# The test client leaves the files open in which it sends large bodies.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_described_is_taken_and_nothing_else_opens(sqlite_stand: Stand) -> None:
    """No 5xx, no door without a token, every refusal a known problem, no field refused that is described."""
    tried = try_all(sqlite_stand, create_app(sqlite_stand.market), cases=2_000, chosen=20261122)
    assert Counter(tried.wrong).most_common(20) == []
    assert sum(tried.replies.values()) >= 1_500
    assert {200, 401, 403, 404, 422} <= set(tried.replies)
