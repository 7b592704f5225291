"""A log whose key was replaced, and one that is witnessed: every door believes what its caller pinned."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exchange.audit import checkpoint
from exchange.audit.note import SigningKey
from exchange.cli import main
from exchange.client import Exchange, Keys
from exchange.client.audit import verify_evidence
from exchange.signer.home import SignerHome
from privacy.sandbox import Sandbox
from tests.exchange.audit import alone
from tests.exchange.audit.samples import WITNESSES
from tests.market.prepared import Postgres, Prepared, copied
from tests.market.server import on_a_port
from tests.market.stand import Stand

Prepare = Callable[[str], tuple[Prepared, Postgres | None]]


class Replaced:
    """A market over HTTP whose log has a second key, what its first reader pinned, and files to check."""

    def __init__(self, stand: Stand, url: str, place: Path) -> None:
        self.stand, self.url, self.place = stand, url, place
        self.pinned = Keys(self._public("/audit/key").strip(), self._public("/audit/receipt-key"))
        signer = SignerHome(stand.home, stand.environ)
        signer.rotate(datetime.now(UTC))
        stand.publish_log()
        signer.retire()
        assert stand.run().status_code == 200
        stand.publish_log()
        self.statements, self.bad = place / "keys.txt", place / "bad.txt"
        self.statements.write_text(self._public("/audit/keys"))
        self.bad.write_text(self._public("/audit/keys").replace("number 1", "number 2"))
        self.evidence = place / "evidence.zip"
        made = stand.post("officer", "/v1/audit/exports", {"format": "evidence"})
        self.evidence.write_bytes(made.content)
        stand.publish_log()
        (place / "verify.py").write_bytes(stand.get(None, "/audit/verify.py").content)
        alone.packages(place / "packages")

    def _public(self, path: str) -> str:
        reply = self.stand.get(None, path)
        assert reply.status_code == 200, reply.text
        return reply.text

    def sdk(self) -> Exchange:
        return Exchange(self.url, token="")

    def command(self, *words: str | Path) -> int:
        """The exit code of a command of ``exchange audit``, which says the same as JSON."""
        done = CliRunner().invoke(main, ["audit", *map(str, words), "--json"])
        if done.exit_code != 2:
            told = json.loads(done.stdout)
            assert (told["exit_code"], told["good"]) == (done.exit_code, done.exit_code == 0)
        return done.exit_code

    def alone(self, *words: str | Path) -> int:
        """The exit code of verify.py."""
        done = alone.run(self.place / "packages", self.place / "verify.py", *words, "--json")
        if done.returncode != 2:
            told = json.loads(done.stdout)
            assert (told["exit_code"], told["good"]) == (done.returncode, done.returncode == 0)
        return done.returncode


@pytest.fixture(scope="module")
def log(
    prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replaced]:
    prepared, server = prepared_markets("sqlite")
    folder = tmp_path_factory.mktemp("replaced")
    with copied(prepared, folder / "market", lent_sandbox, server) as stand, on_a_port(stand.app) as url:
        stand.publish_log()
        yield Replaced(stand, url, folder)


@pytest.fixture(autouse=True)
def configured(log: Replaced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("EXCHANGE_URL", log.url)
    monkeypatch.setenv("EXCHANGE_TOKEN", "")


def test_a_key_that_was_replaced_is_not_enough_and_its_statements_are(log: Replaced) -> None:
    followed = Keys(log.pinned.log_key, log.pinned.receipt_key, log.statements.read_text())
    broken = Keys(log.pinned.log_key, log.pinned.receipt_key, log.bad.read_text())
    with log.sdk() as x:
        doors: list[Callable[..., int]] = [
            lambda **by: x.audit.verify(books=False, **by).exit_code,
            lambda **by: x.audit.spending(**by).log.exit_code,
            lambda **by: x.audit.verify_evidence(log.evidence, **by).exit_code,
        ]
        for door in doors:
            assert door(keys=log.pinned) == 13
            assert door(keys=log.pinned, follow_keys=True) == 0
            assert door(keys=followed) == 0
            assert door(keys=broken) == 13
    codes = [verify_evidence(log.evidence, keys).exit_code for keys in (log.pinned, followed, broken)]
    assert codes == [13, 0, 13]


COMMANDS: dict[str, Callable[[Replaced], list[str | Path]]] = {
    "verify": lambda log: ["verify", "--no-books", "--url", log.url],
    "evidence": lambda log: ["verify", "--evidence", log.evidence, "--receipt-key", log.pinned.receipt_key],
    "spending": lambda log: ["spending"],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_commands_follow_keys(log: Replaced, what: str) -> None:
    asked = [*COMMANDS[what](log), "--log-key", log.pinned.log_key]
    assert log.command(*asked) == 13
    assert log.command(*asked, "--follow-keys") == 0
    assert log.command(*asked, "--follow-keys", log.statements) == 0
    assert log.command(*asked, "--follow-keys", log.bad) == 13
    assert log.command(*asked, "--follow-keys", log.evidence) == 15
    assert log.command(*asked, "--follow-keys", log.place / "nowhere") == 2


@pytest.mark.parametrize("who", ["officer", "buyer"])
def test_a_report_says_whether_the_books_were_compared(
    log: Replaced, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """An exchange that refuses them to an officer has to be seen to."""
    monkeypatch.setenv("EXCHANGE_TOKEN", log.stand.tokens[who])
    asked = ["audit", "verify", "--log-key", log.pinned.log_key, "--follow-keys"]
    told, shown = (CliRunner().invoke(main, [*asked, *more]) for more in (["--json"], []))
    assert (told.exit_code, shown.exit_code) == (0, 0)
    assert json.loads(told.stdout)["books"] is (who == "officer")
    assert ("the books were not compared" in shown.stdout) is (who != "officer")


def test_evidence_is_checked_by_options_that_are_of_it_and_others_are_refused(
    log: Replaced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXCHANGE_URL", "http://127.0.0.1:9")
    asked = [*COMMANDS["evidence"](log), "--log-key", log.pinned.log_key, "--follow-keys", log.statements]
    assert log.command(*asked) == 0, "with keys and statements given, no exchange is asked"
    assert log.command(*asked, "--witness", str(WITNESSES[0].verifier)) == 16
    assert log.command(*asked, "--witness", str(WITNESSES[0].verifier), "--witnesses-required", "0") == 0
    for option in (["--checkpoint", log.statements], ["--save-checkpoint", "x"], ["--local"], ["--no-books"]):
        assert log.command(*asked, *option) == 2


def test_verify_py_follows_keys(log: Replaced) -> None:
    answer = log.stand.run().json()["query"]
    log.stand.publish_log()
    receipt = log.place / "receipt.json"
    receipt.write_bytes(log.stand.get("buyer", f"/v1/queries/{answer}/receipt").content)
    proof = log.place / "answer.tlog-proof"
    with Exchange(log.url, token=log.stand.tokens["buyer"]) as x:
        proof.write_bytes(x.receipt(answer).tlog_proof())
    key, receipts = ["--key", log.pinned.log_key], ["--receipt-key", log.pinned.receipt_key]
    files: dict[str, list[str | Path]] = {
        "log": [log.stand.settings.log_path, *key],
        "receipt": [receipt, *key, *receipts],
        "proof": [proof, *key],
        "evidence": [log.evidence, *key, *receipts],
    }
    for what, asked in files.items():
        assert log.alone(what, *asked) == 13, what
        assert log.alone(what, *asked, "--follow-keys", log.statements) == 0, what
        assert log.alone(what, *asked, "--follow-keys", log.bad) == 13, what
        assert log.alone(what, *asked, "--follow-keys", log.evidence) == 15, what
        assert log.alone(what, *asked, "--follow-keys") == (0 if what == "log" else 2), what
    other = str(SigningKey(log.pinned.origin, bytes(32)).verifier)
    assert log.alone("log", log.stand.settings.log_path, "--key", other, "--follow-keys") == 13


def cosigned(stand: Stand) -> None:
    """Publish a checkpoint, and sign it as the first two witnesses."""
    head = stand.publish_log()
    for witness in WITNESSES[:2]:
        head = checkpoint.cosign(head, witness, datetime.now(UTC))
    (stand.settings.log_path / "checkpoint").write_bytes(head.encoded())


def test_witnesses_are_counted_at_every_door(log: Replaced) -> None:
    """Two of three witnesses signed the newest checkpoint, and the one that evidence was made of."""
    names = [str(witness.verifier) for witness in WITNESSES]
    cosigned(log.stand)
    made = log.stand.post("officer", "/v1/audit/exports", {"format": "evidence"})
    evidence = log.place / "witnessed.zip"
    evidence.write_bytes(made.content)
    cosigned(log.stand)
    followed = Keys(log.pinned.log_key, log.pinned.receipt_key, log.statements.read_text())
    with log.sdk() as x:
        doors: list[Callable[..., Any]] = [
            lambda **by: x.audit.verify(books=False, **by),
            lambda **by: x.audit.spending(**by).log,
            lambda **by: x.audit.verify_evidence(evidence, **by),
        ]
        for door in doors:
            found = [door(keys=followed, witnesses=names, witnesses_required=n).exit_code for n in (2, 3)]
            assert found == [0, 16]
            assert door(keys=followed, witnesses=names).exit_code == 16, "without a number, all have to sign"
            assert door(keys=followed, witnesses=names[:2]).witnesses == tuple(
                witness.name for witness in WITNESSES[:2]
            )
    trust = ["--log-key", log.pinned.log_key, "--follow-keys", log.statements]
    words = [word for name in names for word in ("--witness", name)]
    of_file = ["verify", "--evidence", evidence, "--receipt-key", log.pinned.receipt_key]
    for asked in (COMMANDS["verify"](log), COMMANDS["spending"](log), of_file):
        codes = [log.command(*asked, *trust, *words, "--witnesses-required", str(n)) for n in (2, 3)]
        assert codes == [0, 16], asked
        assert log.command(*asked, *trust, *words) == 16
