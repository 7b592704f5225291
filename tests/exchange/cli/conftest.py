"""Fixtures of the command line's tests: a clean user, and a real market where one is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exchange.marketplace import alone, marketplace

__all__ = ["alone", "marketplace"]


@pytest.fixture(autouse=True)
def _clean_user(alone: Path) -> None:
    """Every test starts without configuration."""
