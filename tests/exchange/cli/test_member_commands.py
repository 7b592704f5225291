"""The operator's commands about members, from the first link to the last."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from exchange import bootstrap
from exchange.cli import main
from exchange.config import Settings
from exchange.identity import NOBODY
from exchange.operations import arriving, signing_in

LOGIN, PASSWORD = "ada@acme.example", "seven blue herons at noon"
Run = Callable[..., Result]


@pytest.fixture
def run(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a fresh home with two organisations."""
    monkeypatch.setenv("EXCHANGE_HOME", str(alone / "home"))

    def command(*words: str) -> Result:
        return CliRunner().invoke(main, list(words), catch_exceptions=False)

    assert command("init").exit_code == 0
    for name, role in (("acme", "buyer"), ("cnil", "officer")):
        assert command("org", "create", name, "--role", role).exit_code == 0
    return command


def with_market(act: Callable[[Any], Any]) -> Any:
    market = bootstrap.open_market(Settings.from_env())
    try:
        return act(market)
    finally:
        market.close()


def use(link: str) -> str:
    """Open a link and set a password; returns the session's text."""
    text = link.strip().rpartition("/join/")[2]
    opened = with_market(
        lambda market: arriving.accept(market, NOBODY, text, name="Ada", password=PASSWORD, agent="")
    )
    return str(opened.secret)


def opens(secret: str) -> bool:
    return with_market(lambda market: signing_in.visitor(market, secret)) is not None


def members(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("member", "list", "--org", "acme", "--json").stdout)["items"]
    return found


def test_a_members_life(run: Run) -> None:
    invited = run("member", "invite", LOGIN, "--org", "acme", "--role", "buyer", "--admin")
    assert invited.exit_code == 0
    assert invited.stdout.startswith("http://127.0.0.1:8000/join/inv_")
    assert "invited" in run("member", "list", "--org", "acme").stdout
    secret = use(invited.stdout)
    assert [(one["login"], one["admin"], one["state"]) for one in members(run)] == [(LOGIN, True, "active")]
    assert run("member", "change", LOGIN, "--org", "acme", "--no-admin").exit_code == 0
    assert members(run)[0]["admin"] is False
    assert opens(secret)
    assert run("member", "disable", LOGIN, "--org", "acme").exit_code == 0
    assert members(run)[0]["state"] == "disabled"
    assert not opens(secret)
    run("member", "disable", LOGIN, "--org", "acme", "--undo")
    assert run("member", "disable", LOGIN).exit_code == 0
    assert members(run)[0]["state"] == "disabled"
    run("member", "disable", LOGIN, "--undo")
    assert members(run)[0]["state"] == "active"
    assert opens(use(run("member", "reset", LOGIN, "--org", "acme").stdout))
    assert run("member", "remove", LOGIN, "--org", "acme").exit_code == 0
    assert members(run) == []
    assert run("check").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("invite", LOGIN, "--org", "nobody", "--role", "buyer"), 2, "not_found"),
        (("invite", LOGIN, "--org", "acme", "--role", "officer"), 3, "role_missing"),
        (("invite", "ada", "--org", "acme", "--role", "buyer"), 2, "request_invalid"),
        (("reset", LOGIN, "--org", "acme"), 2, "not_found"),
        (("remove", LOGIN, "--org", "acme"), 2, "not_found"),
        (("disable", LOGIN), 2, "not_found"),
        (("list", "--org", "nobody"), 2, "not_found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_done_is_told(run: Run, words: tuple[str, ...], code: int, told: str) -> None:
    done = run("member", *words, "--json")
    assert done.exit_code == code, done.output
    assert json.loads(done.stderr)["code"] == told
