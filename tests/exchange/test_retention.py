"""How long which kind is kept: one table, in the code, at the command line and in the documents."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.config import Settings, SettingsError
from exchange.operations import retaining
from tests.market.stand import Stand

PAGE = Path(__file__).parents[2] / "docs" / "personal-data.md"


def test_the_documented_table_is_the_one_in_force() -> None:
    written = PAGE.read_text().partition("| kind | kept |")[2].partition("Bounds:")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in written.splitlines()[2:] if line]
    schedule = retaining.schedule(Settings())
    assert rows == [[one.kind, retaining.words(one.seconds), one.since, one.setting] for one in schedule]


def test_a_setting_changes_what_is_kept_and_is_told() -> None:
    found = {one.kind: one.seconds for one in retaining.schedule(replace(Settings(), answer_days=7))}
    assert found["answers"] == 7 * 86_400


def test_the_command_shows_the_table(shared_sqlite_stand: Stand) -> None:
    def run(*given: str) -> str:
        return CliRunner().invoke(main, ["retention", *given], env=shared_sqlite_stand.environ).output

    assert re.search(r"notifications\W+365 days", run())
    assert {"kind": "answers", "seconds": 90 * 86_400}.items() <= json.loads(run("--json"))["items"][
        0
    ].items()


@pytest.mark.parametrize(
    ("name", "value"), [("ANSWER_DAYS", "0"), ("ANSWER_DAYS", "3654"), ("IDEMPOTENCY_DAYS", "29")]
)
def test_what_is_out_of_bounds_refuses_to_start(tmp_path: Path, name: str, value: str) -> None:
    environ = {"EXCHANGE_HOME": str(tmp_path), "EXCHANGE_SECRET_KEY": "k" * 64, f"EXCHANGE_{name}": value}
    with pytest.raises(SettingsError, match=name):
        Settings.from_env(environ)
