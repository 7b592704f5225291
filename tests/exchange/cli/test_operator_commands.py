"""The operator's commands on a home of their own, from an empty folder to a broken law."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from exchange.cli.seeding import manifest_of
from exchange.client import ConfigurationError

Run = Callable[..., Result]


@pytest.fixture
def run(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a home in the working folder."""
    monkeypatch.setenv("EXCHANGE_HOME", str(alone / "home"))
    monkeypatch.setenv("EXCHANGE_QUERY_WORKERS", "1")
    return lambda *words: CliRunner().invoke(main, list(words), catch_exceptions=False)


@pytest.fixture
def home(run: Run, alone: Path) -> Path:
    """A fresh home."""
    assert run("init").exit_code == 0
    return alone / "home"


def test_init_twice_keeps_the_keys(run: Run, home: Path) -> None:
    keys = (home / "keys.env").read_text()
    assert "stood already" in run("init").stdout
    assert (home / "keys.env").read_text() == keys


def test_without_a_home_nothing_starts(run: Run) -> None:
    for command in (["check"], ["config"], ["worker", "--once"], ["org", "create", "a", "--role", "buyer"]):
        done = run(*command)
        assert done.exit_code == 2
        assert "exchange init" in done.stderr


def test_migrate_and_config(run: Run, home: Path) -> None:
    assert run("migrate").exit_code == 0
    rows = json.loads(run("config", "--json").stdout)
    secret = next(row for row in rows if row["variable"] == "EXCHANGE_SECRET_KEY")
    assert secret["value"] == "***"
    written = (home / "keys.env").read_text().partition("=")[2].strip()
    assert written not in run("config").output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:hunter2@db:5432/x", "postgresql+psycopg://me:***@db:5432/x"),
        ("postgresql+psycopg://me:hun%40ter2@db/x", "postgresql+psycopg://me:***@db/x"),
        (
            "postgresql+psycopg://db/x?user=me&password=hunter2",
            "postgresql+psycopg://db/x?user=***&password=***",
        ),
        (
            "postgresql+psycopg://me:hunter2@db/x?password=a@b",
            "postgresql+psycopg://me:***@db/x?password=***",
        ),
    ],
)
def test_config_masks_every_password(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    monkeypatch.setenv("EXCHANGE_DATABASE_URL", url)
    monkeypatch.setenv("EXCHANGE_METRICS_TOKEN", "hunter2")
    rows = {row["variable"]: row["value"] for row in json.loads(run("config", "--json").stdout)}
    assert rows["EXCHANGE_DATABASE_URL"] == shown
    assert rows["EXCHANGE_METRICS_TOKEN"] == "***"
    assert "hunter2" not in run("config").output


def test_organisations_tokens_and_wallets(run: Run, home: Path) -> None:
    made = json.loads(run("org", "create", "lab", "--role", "buyer", "--json").stdout)
    assert made == json.loads(run("org", "create", "lab", "--role", "buyer", "--json").stdout)
    who = ("--legal-name", "The Lab", "--country", "KR", "--registration", "110111", "--evidence", "extract")
    said = json.loads(run("org", "identify", "lab", *who, "--json").stdout)
    assert (said["org"], said["legal_name"], len(said["sha256"])) == (made["org"], "The Lab", 64)
    token = run("token", "create", "--org", "lab", "--role", "buyer", "--expires", "2099-01-01")
    assert token.stdout.startswith("tok_")
    assert len(token.stdout.splitlines()) == 1
    credit = (
        "wallet",
        "credit",
        "--org",
        "lab",
        "--amount",
        "100.00",
        "--currency",
        "USD",
        "--reference",
        "T1",
    )
    assert json.loads(run(*credit, "--json").stdout)["replayed"] is False
    again = json.loads(run(*credit, "--json").stdout)
    assert (again["replayed"], again["balance"]["amount"]) == (True, "100.00")
    assert "credited before" in run(*credit).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("org", "create", "NOT A NAME", "--role", "buyer"), "lower-case"),
        (("org", "create", "a", "--role", "king"), "king"),
        (("token", "create", "--org", "nobody", "--role", "buyer"), "nobody"),
        (("token", "create", "--org", "a", "--role", "buyer", "--expires", "soon"), "ISO 8601"),
        (
            ("wallet", "credit", "--org", "a", "--amount", "1.001", "--currency", "USD", "--reference", "r"),
            "",
        ),
        (("seed", "nothing"), "flights"),
    ],
)
def test_mistakes_are_usage(run: Run, home: Path, words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_check_and_local_verification(run: Run, home: Path, alone: Path) -> None:
    assert run("audit", "verify", "--local").exit_code == 15
    run("org", "create", "lab", "--role", "buyer")
    run("wallet", "credit", "--org", "lab", "--amount", "5.00", "--currency", "USD", "--reference", "T1")
    assert run("worker", "--once").exit_code == 0
    laws = json.loads(run("check", "--json").stdout)
    assert {"L1", "L5", "L12"} <= {law["id"] for law in laws if law["holds"]}
    assert run("check").exit_code == 0
    good = run("audit", "verify", "--save-checkpoint", "cp", "--json")
    assert (good.exit_code, json.loads(good.stdout)["good"]) == (0, True)
    assert (alone / "cp").is_file()
    assert run("audit", "verify", "--local", "--checkpoint", "cp").exit_code == 0


def test_a_changed_amount_is_found(run: Run, home: Path) -> None:
    run("org", "create", "lab", "--role", "buyer")
    run("wallet", "credit", "--org", "lab", "--amount", "5.00", "--currency", "USD", "--reference", "T1")
    run("worker", "--once")
    with sqlite3.connect(home / "exchange.db") as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')
        assert database.execute("UPDATE transfer SET amount = amount + 1").rowcount == 1
    database.close()
    broken = run("check")
    assert (broken.exit_code, "BROKEN" in broken.stdout) == (1, True)
    found = run("audit", "verify", "--local", "--json")
    report = json.loads(found.stdout)
    assert (found.exit_code, report["exit_code"]) == (11, 11)
    assert any(finding["journal"] for finding in report["findings"])


def test_a_flipped_byte_is_found(run: Run, home: Path) -> None:
    run("org", "create", "lab", "--role", "buyer")
    run("worker", "--once")
    [bundle] = (home / "log" / "tile" / "entries").rglob("1")
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(bytes(data))
    assert run("audit", "verify", "--local").exit_code == 11


def test_every_command_has_help() -> None:
    def walk(group: object, words: tuple[str, ...]) -> None:
        for name, command in getattr(group, "commands", {}).items():
            done = CliRunner().invoke(main, [*words, name, "--help"])
            assert (done.exit_code, command.help is not None) == (0, True)
            walk(command, (*words, name))

    walk(main, ())


def test_module_is_the_command() -> None:
    command = [sys.executable, "-m", "exchange.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("exchange, version ")


def test_examples_are_known() -> None:
    assert manifest_of("flights").name == "listing.toml"
    with pytest.raises(ConfigurationError, match="other"):
        manifest_of("other")


def test_a_defect_shows_its_kind_and_no_message(
    monkeypatch: pytest.MonkeyPatch, run: Run, home: Path
) -> None:
    from exchange import checks

    def break_down(_: object) -> None:
        raise ZeroDivisionError("row of patient 17")

    monkeypatch.setattr(checks, "run", break_down)
    done = run("check")
    assert (done.exit_code, "ZeroDivisionError" in done.stderr) == (6, True)
    assert "patient" not in done.output


def test_keys_are_rotated_and_retired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXCHANGE_HOME", str(tmp_path / "home"))
    assert CliRunner().invoke(main, ["init"]).exit_code == 0
    kids = [CliRunner().invoke(main, ["keys", "rotate"]).stdout.strip() for _ in range(2)]
    listed = json.loads(CliRunner().invoke(main, ["keys", "list", "--json"]).stdout)
    assert listed == [{"kid": kids[0], "signs": False}, {"kid": kids[1], "signs": True}]
    assert CliRunner().invoke(main, ["keys", "retire", kids[1]]).exit_code == 0
    again = CliRunner().invoke(main, ["keys", "retire", kids[1]])
    assert again.exit_code != 0
    listed = json.loads(CliRunner().invoke(main, ["keys", "list", "--json"]).stdout)
    assert listed == [{"kid": kids[0], "signs": True}]
    assert CliRunner().invoke(main, ["keys", "retire", "../keys"]).exit_code != 0
