"""An outsider: nothing but what the public web gives, `verify.py` and files in the hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.exchange.audit import alone
from tests.exchange.audit.samples import WITNESSES
from tests.journeys.test_acceptances import accept
from tests.market.stand import Stand


class Outsider:
    """A folder of what was fetched, and the verifier run in it."""

    def __init__(self, stand: Stand, place: Path) -> None:
        self._stand, self.place = stand, place
        self.fetch("/audit/verify.py", "verify.py")
        log_key = stand.get(None, "/audit/key").text.strip()
        self.trust = ["--key", log_key, "--origin", stand.settings.log_origin]
        self.receipts = [*self.trust, "--receipt-key", stand.get(None, "/audit/receipt-key").text]
        alone.packages(place / "packages")

    def fetch(self, path: str, name: str, who: str | None = None) -> Path:
        """Keep what an address gives."""
        reply = self._stand.get(who, path)
        assert reply.status_code == 200, reply.text
        (self.place / name).parent.mkdir(parents=True, exist_ok=True)
        (self.place / name).write_bytes(reply.content)
        return self.place / name

    def run(self, *arguments: str | Path) -> int:
        """The exit code of the verifier."""
        done = alone.run(self.place / "packages", self.place / "verify.py", *arguments)
        assert "Traceback" not in done.stderr
        return done.returncode


@pytest.fixture
def outsider(sqlite_stand: Stand, tmp_path: Path) -> Outsider:
    """Somebody with the verifier and the keys, before anything is published."""
    sqlite_stand.publish_log()
    return Outsider(sqlite_stand, tmp_path)


def test_the_log_of_a_market_is_verified_from_its_public_files(
    sqlite_stand: Stand, outsider: Outsider
) -> None:
    seen = outsider.fetch("/audit/checkpoint", "seen")
    assert sqlite_stand.run().status_code == 200
    sqlite_stand.publish_log()
    folder = sqlite_stand.settings.log_path
    for path in [
        "checkpoint",
        *(p.relative_to(folder).as_posix() for p in folder.rglob("tile/**/*") if p.is_file()),
    ]:
        outsider.fetch(f"/audit/{path}", f"log/{path}")
    command = ["log", outsider.place / "log", *outsider.trust, "--checkpoint", seen]
    assert outsider.run(*command) == 0
    bundle = max((outsider.place / "log" / "tile" / "entries").rglob("*.p/*"), key=lambda p: int(p.name))
    bundle.write_bytes(bundle.read_bytes().replace(b"research", b"Research"))
    assert outsider.run(*command) == 11


def test_receipts_of_answers_and_acceptances_are_verified(sqlite_stand: Stand, outsider: Outsider) -> None:
    answer, accepted = sqlite_stand.run().json(), accept(sqlite_stand)
    sqlite_stand.publish_log()
    of_answer = outsider.fetch(f"/v1/queries/{answer['query']}/receipt", "answer.json", "buyer")
    result = outsider.fetch(f"/v1/queries/{answer['query']}/result", "answer.arrow", "buyer")
    assert outsider.run("receipt", of_answer, *outsider.receipts, "--result", result) == 0
    path = f"/v1/acceptances/{accepted['acceptance']}/receipt"
    of_acceptance = outsider.fetch(path, "acceptance.json", "buyer")
    assert outsider.run("receipt", of_acceptance, *outsider.receipts) == 0
    witness = ("--witness", str(WITNESSES[0].verifier))
    for file in (of_answer, of_acceptance):
        assert outsider.run("receipt", file, *outsider.receipts, *witness) == 16
    words = outsider.place / "words"
    words.write_text("another text")
    assert outsider.run("receipt", of_acceptance, *outsider.receipts, "--licence", words) == 11
    document = json.loads(of_acceptance.read_text())
    document["acceptance"] = document["acceptance"].replace("EU", "US")
    of_acceptance.write_text(json.dumps(document))
    assert outsider.run("receipt", of_acceptance, *outsider.receipts) == 11


def test_the_verifier_is_public_and_its_etag_is_its_hash(shared_sqlite_stand: Stand) -> None:
    reply = shared_sqlite_stand.get(None, "/audit/verify.py")
    assert reply.status_code == 200
    tag = reply.headers["ETag"]
    assert tag == f'"{hashlib.sha256(reply.content).hexdigest()}"'
    assert reply.headers["Content-Type"] == "text/x-python; charset=utf-8"
    again = shared_sqlite_stand.get(None, "/audit/verify.py", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
