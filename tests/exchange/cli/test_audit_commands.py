"""What the officer's commands leave in files: the verifier, and proofs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.audit import single_file
from exchange.audit.tlog_proof import verify_tlog_proof
from exchange.cli import main
from tests.exchange.marketplace import SLUG, Marketplace

Run = Callable[..., Result]


@pytest.fixture
def run(marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as an organisation of the market."""

    def command(*words: str, who: str = "lab") -> Result:
        monkeypatch.setenv("EXCHANGE_URL", marketplace.url)
        monkeypatch.setenv("EXCHANGE_TOKEN", marketplace.tokens[who])
        return CliRunner().invoke(main, list(words), catch_exceptions=False)

    return command


def test_the_verifier_is_written_to_a_file_or_printed(tmp_path: Path) -> None:
    file = tmp_path / "verify.py"
    done = CliRunner().invoke(main, ["audit", "verifier", str(file), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() == single_file.sha256()
    assert told["version"] in CliRunner().invoke(main, ["audit", "verifier", str(file)]).stdout
    printed = CliRunner().invoke(main, ["audit", "verifier", "-"])
    assert printed.stdout_bytes == file.read_bytes()


def test_proofs_of_acceptances_and_of_any_entry_are_saved_as_files(
    marketplace: Marketplace, run: Run, tmp_path: Path
) -> None:
    with marketplace.client("lab") as x:
        keys = x.keys()
    terms = ("--purpose", "research", "--territory", "US", "--role", "data-steward")
    made = json.loads(run("licence", "accept", SLUG, *terms, "--json").stdout)["acceptance"]
    of_acceptance, of_entry = tmp_path / "accepted.tlog-proof", tmp_path / "entry.tlog-proof"
    save = ("licence", "receipt", made, str(of_acceptance), "--tlog-proof")
    early = run(*save)
    assert (early.exit_code, "carries no proof" in early.stderr) == (2, True)
    marketplace.publish_log()
    assert run(*save).exit_code == 0
    report = verify_tlog_proof(of_acceptance.read_bytes(), origin=keys.origin, keys=[keys.log_key])
    assert (report.good, report.document["licence"]["acceptance_id"]) == (True, made)
    [entry] = json.loads(run("audit", "search", "--limit", "1", "--json", who="guard").stdout)
    marketplace.publish_log()
    told = run("audit", "prove", entry["id"], str(of_entry), "--json", who="guard")
    assert told.exit_code == 0, told.stderr
    report = verify_tlog_proof(of_entry.read_bytes(), origin=keys.origin, keys=[keys.log_key])
    assert (report.good, report.seq, report.leaf_hash) == (True, entry["seq"], entry["leaf_hash"])
    assert json.loads(told.stdout)["size"] == report.size
    assert run("audit", "prove", "ent_none", str(of_entry), who="guard").exit_code == 2
