"""Fixtures of the SDK's tests: a clean user, and a real market where one is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exchange.marketplace import alone, marketplace, visits

__all__ = ["alone", "marketplace", "visits"]


@pytest.fixture(autouse=True)
def _clean_user(alone: Path) -> None:
    """Every test starts without configuration."""
