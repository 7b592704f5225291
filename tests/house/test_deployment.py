"""What is deployed: the units are ones that systemd takes, and they start commands that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from exchange.cli import main
from tests.house.sources import ROOT

UNITS = sorted((ROOT / "deploy").glob("*.service"))
HARDENED = ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "LimitCORE=0")


def test_there_are_units_for_web_and_worker() -> None:
    assert [unit.name for unit in UNITS] == [
        "exchange-signer.service",
        "exchange-web.service",
        "exchange-worker.service",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_of_ours_and_is_hardened(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    words, options = start.split()[1:], re.findall(r"--[a-z-]+", start)
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    assert set(options) <= known
    assert set(HARDENED) <= set(lines)


def test_units_of_different_users_share_their_folder_and_take_it_from_nobody() -> None:
    """systemd gives a ``StateDirectory=`` and all that is in it to the user of the unit that starts."""
    owners: dict[str, set[str]] = {}
    for unit in UNITS:
        given = [line.split("=", 1) for line in unit.read_text().splitlines() if re.match(r"\w+=", line)]
        (user,) = (value for name, value in given if name == "User")
        (home,) = (value for name, value in given if name == "WorkingDirectory")
        folders = [one for name, value in given if name == "StateDirectory" for one in value.split()]
        for folder in folders:
            owners.setdefault(folder, set()).add(user)
        writable = [one for name, value in given if name == "ReadWritePaths" for one in value.split()]
        assert home in [*writable, *(f"/var/lib/{folder}" for folder in folders)]
    assert {folder: users for folder, users in owners.items() if len(users) > 1} == {}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_a_unit(unit: Path, tmp_path: Path) -> None:
    program = tmp_path / "exchange"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copied = tmp_path / unit.name
    copied.write_text(unit.read_text().replace("/opt/exchange/.venv/bin/exchange", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copied)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_copies_what_there_is_and_runs_as_nobody_special() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    copied = [
        name for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for name in line.split()[:-1]
    ]
    assert {"catalog", "exchange", "privacy", "settlement", "requirements.lock"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert re.search(r"^USER exchange$", text, re.MULTILINE)
    assert "--require-hashes" in text
