"""Where the address and token come from, and who may see them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from exchange import ConfigurationError, Exchange
from exchange.client.configuration import Address, Keys, Token, resolve, store, user_file

OURS, THEIRS = "http://ours.test", "http://theirs.test"


def _stored(
    url: str = OURS, token: str = "tok_user", profile: str | None = None, keys: Keys | None = None
) -> Path:
    return store(Address(url, Token(token), keys), profile=profile)


def test_argument_wins_over_environment_over_project_over_user(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stored(token="tok_user")
    assert resolve() == Address(OURS, Token("tok_user"))
    (alone / "exchange.toml").write_text(f'url = "{OURS}"\ntoken = "tok_project"\n')
    assert resolve().token == "tok_project"
    monkeypatch.setenv("EXCHANGE_URL", "http://env.test")
    monkeypatch.setenv("EXCHANGE_TOKEN", "tok_env")
    assert resolve() == Address("http://env.test", Token("tok_env"))
    assert resolve("http://arg.test", "tok_arg") == Address("http://arg.test", Token("tok_arg"))


def test_profiles_are_named(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stored(OURS, "tok_a")
    _stored(THEIRS, "tok_b", profile="work")
    assert resolve().token == "tok_a"
    assert resolve(profile="work") == Address(THEIRS, Token("tok_b"))
    monkeypatch.setenv("EXCHANGE_PROFILE", "work")
    assert resolve().url == THEIRS
    with pytest.raises(ConfigurationError, match="nobody"):
        resolve(profile="nobody")


def test_project_may_choose_the_users_profile(alone: Path) -> None:
    _stored(OURS, "tok_a")
    _stored(THEIRS, "tok_b", profile="work")
    (alone / "exchange.toml").write_text('profile = "work"\n')
    assert resolve() == Address(THEIRS, Token("tok_b"))


def test_a_project_of_somebody_else_does_not_get_the_users_token(alone: Path) -> None:
    _stored(OURS, "tok_user", keys=Keys("log", "receipts"))
    (alone / "exchange.toml").write_text(f'url = "{THEIRS}"\n')
    assert resolve() == Address(THEIRS, Token(""), None)
    assert resolve(THEIRS).token == ""
    assert resolve(OURS).keys == Keys("log", "receipts")


def test_user_file_is_its_owners_alone(alone: Path) -> None:
    path = _stored()
    assert path == user_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others") as caught:
        resolve()
    assert "chmod 600" in caught.value.hint


def test_storing_keeps_the_other_profiles(alone: Path) -> None:
    _stored(OURS, "tok_a", keys=Keys("k+1+a", "k+2+b"))
    _stored(THEIRS, 'odd"profile', profile='na"me')
    assert resolve(OURS) == Address(OURS, Token("tok_a"), Keys("k+1+a", "k+2+b"))
    assert resolve(profile='na"me').token == 'odd"profile'
    assert [path.name for path in user_file().parent.iterdir()] == ["config.toml"]


def test_without_any_address_the_way_is_shown(alone: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Exchange()
    assert caught.value.code == "address_missing"
    assert "exchange login" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["ours.test", "ftp://ours.test", "http://", "http://me:pass@ours.test", "http://ours.test/?q=1"]
)
def test_an_address_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Exchange(url)


def test_an_address_with_a_login_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Exchange("http://me:hunter2@ours.test")
    assert "hunter2" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("text", ["url = ", "profiles = 3", "url = 5", "[profiles]\nx = 1"])
def test_a_broken_file_is_a_clear_error(alone: Path, text: str) -> None:
    (alone / "exchange.toml").write_text(text)
    with pytest.raises(ConfigurationError):
        resolve(profile="x" if "x = 1" in text else None)


def test_a_token_with_a_line_break_cannot_smuggle_a_header() -> None:
    with pytest.raises(ConfigurationError):
        Exchange(OURS, token="tok\r\nX-Evil: 1")


def test_token_does_not_show() -> None:
    address = Address(OURS, Token("tok_secret"))
    assert "tok_secret" not in repr(address)
