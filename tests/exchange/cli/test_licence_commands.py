"""`exchange licence ...`: a provider starts from a template, a buyer accepts, and a file proves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from exchange.client.configuration import Keys
from tests.exchange.marketplace import MANIFEST, SLUG, Marketplace

Run = Callable[..., Result]


@pytest.fixture
def run(marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as an organisation of the market."""

    def command(*words: str, who: str = "lab") -> Result:
        monkeypatch.setenv("EXCHANGE_URL", marketplace.url)
        monkeypatch.setenv("EXCHANGE_TOKEN", marketplace.tokens[who])
        return CliRunner().invoke(main, list(words), catch_exceptions=False)

    return command


def test_templates_are_listed_and_printed_as_a_section(run: Run) -> None:
    listed = run("licence", "templates", who="clinic")
    assert listed.exit_code == 0
    assert "public-statistics" in listed.stdout
    one = run("licence", "templates", "public-statistics", who="clinic").stdout
    assert one.startswith('[licence]\ntemplate = "public-statistics"\n')
    assert '# purposes = ["public-statistics"]' in one
    assert run("licence", "templates", "none", who="clinic").exit_code == 2


def test_a_licence_is_checked_from_its_manifest_or_its_policy(run: Run, tmp_path: Path) -> None:
    manifest = tmp_path / "listing.toml"
    manifest.write_text(MANIFEST)
    checked = run("licence", "check", str(manifest), who="clinic")
    assert (checked.exit_code, "Territories: US, EU." in checked.stdout) == (0, True)
    manifest.write_text(MANIFEST.replace("purposes = ", "purpose = "))
    wrong = run("licence", "check", str(manifest), who="clinic")
    assert (wrong.exit_code, "did you mean purposes?" in wrong.stderr) == (3, True)
    policy = tmp_path / "policy.json"
    policy.write_text(run("licence", "show", SLUG, "--odrl").stdout)
    again = run("licence", "check", str(policy), "--json", who="clinic")
    assert (
        json.loads(again.stdout)["terms"]
        == json.loads(run("show", SLUG, "--json").stdout)["licence"]["terms"]
    )
    policy.write_text(policy.read_text().replace('"isAnyOf"', '"isNoneOf"'))
    refused = run("licence", "check", str(policy), "--json", who="clinic")
    assert refused.exit_code == 3
    assert json.loads(refused.stderr)["path"] == "odrl.permission[0].constraint[0].operator"
    for broken in ("{", "[]"):
        policy.write_text(broken)
        assert run("licence", "check", str(policy), who="clinic").exit_code in (2, 3)
    manifest.write_text("slug = 1\n")
    assert run("licence", "check", str(manifest), who="clinic").exit_code == 2


def test_a_licence_is_shown_in_words_as_text_and_for_other_systems(run: Run) -> None:
    shown = run("licence", "show", SLUG)
    assert (shown.exit_code, "Purposes: research." in shown.stdout) == (0, True)
    assert run("licence", "show", SLUG, "--text").stdout == "Do no harm.\n"
    offer = json.loads(run("licence", "show", SLUG, "--dataspace").stdout)
    assert offer["@type"] == "Offer"
    assert run("licence", "diff", SLUG).stdout.startswith("Nothing differs.")
    assert json.loads(run("licence", "diff", SLUG, "--json").stdout)["changes"] == []


def test_an_acceptance_is_proved_by_its_file_offline(
    marketplace: Marketplace, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = ("--purpose", "research", "--territory", "EU", "--role", "data-steward")
    made = json.loads(run("licence", "accept", SLUG, *terms, "--json").stdout)
    marketplace.publish_log()
    saved, words = tmp_path / "acceptance.json", tmp_path / "licence.txt"
    done = run("licence", "receipt", made["acceptance"], str(saved))
    assert (done.exit_code, "in the log" in done.stdout) == (0, True)
    words.write_bytes(run("licence", "show", SLUG, "--text").stdout_bytes)
    with marketplace.client("lab") as x:
        keys: Keys = x.keys()
    for name in ("URL", "TOKEN"):
        monkeypatch.delenv(f"EXCHANGE_{name}")
    trusted = ("--log-key", keys.log_key, "--receipt-key", keys.receipt_key)
    command = ["receipt", "verify", str(saved), *trusted, "--licence", str(words)]
    good = CliRunner().invoke(main, [*command, "--json"])
    assert good.exit_code == 0, good.output
    told = json.loads(good.stdout)
    assert (told["good"], told["summary"]["acceptance_id"]) == (True, made["acceptance"])
    words.write_text("Do harm.\n")
    assert CliRunner().invoke(main, command).exit_code == 11
    document = json.loads(saved.read_text())
    document["acceptance"] = document["acceptance"].replace('"territory":"EU"', '"territory":"US"')
    saved.write_text(json.dumps(document))
    assert CliRunner().invoke(main, command[:-2]).exit_code == 11


def test_refusals_have_the_exit_code_of_refusals(run: Run) -> None:
    terms = ("--purpose", "advertising", "--territory", "EU", "--json")
    refused = run("licence", "accept", SLUG, *terms)
    assert refused.exit_code == 3
    assert json.loads(refused.stderr)["clause"] == "purposes: research"
    licence = json.loads(run("show", SLUG, "--json").stdout)["licence"]["id"]
    assert run("licence", "approve", licence, who="clinic").exit_code == 3
    assert run("licence", "approve", licence, who="guard").exit_code == 0
    assert run("licence", "withdraw", licence, "--reason", "x", who="lab").exit_code == 3
    use = (
        "--plan",
        "pay",
        "--purpose",
        "research",
        "--territory",
        "EU",
        "--publishes",
        "--role",
        "researcher",
    )
    published = run("request", SLUG, *use, "--accept-licence", "--json")
    assert published.exit_code == 0, published.stderr
