"""Settings that no exchange should run with are refused at the start, with the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange.config import Settings, SettingsError


@pytest.mark.parametrize("key", ["hunter2", "k" * 31, "\u00e9" * 15])
def test_a_short_secret_key_is_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    """What is derived from it - cookies, receipts, the bounding of contributions - is guessed with it."""
    environ = {"EXCHANGE_HOME": str(tmp_path), "EXCHANGE_SECRET_KEY": key}
    with pytest.raises(SettingsError, match="openssl rand -hex 32") as refused:
        Settings.from_env(environ)
    assert key not in str(refused.value)
    for enough in ("k" * 32, "\u00e9" * 16):
        Settings.from_env({**environ, "EXCHANGE_SECRET_KEY": enough})


@pytest.mark.parametrize(
    ("name", "good", "bad", "told"),
    [
        ("PLATFORM_SHARE_PERCENT", ("0", "100"), "101", "at most 100"),
        ("PLATFORM_SHARE_PERCENT", ("10",), "-1", "at least 0"),
        ("HOLDBACK_PERCENT", ("0", "100"), "101", "at most 100"),
        ("HOLDBACK_PERCENT", ("10",), "-1", "at least 0"),
        ("LAYOUT_PERCENT", ("0", "300"), "-1", "at least 0"),
        ("QUERY_THREADS", ("1",), "0", "at least 1"),
        ("PASSWORD_HASHES", ("1",), "0", "at least 1"),
        ("WEB_THREADS", ("1",), "0", "at least 1"),
        ("WEB_WORKERS", ("1",), "0", "at least 1"),
    ],
)
def test_numbers_have_bounds(tmp_path: Path, name: str, good: tuple[str, ...], bad: str, told: str) -> None:
    environ = {"EXCHANGE_HOME": str(tmp_path), "EXCHANGE_SECRET_KEY": "k" * 64}
    for one in good:
        Settings.from_env({**environ, f"EXCHANGE_{name}": one})
    with pytest.raises(SettingsError, match=f"EXCHANGE_{name} must be {told}"):
        Settings.from_env({**environ, f"EXCHANGE_{name}": bad})
