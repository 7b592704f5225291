"""Evidence: an officer takes it away, a stranger checks it with public keys, and no byte changes unseen."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import struct
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from exchange.audit import evidence, single_file, stored_zip
from exchange.audit.evidence import verify_evidence
from exchange.audit.note import SigningKey
from exchange.audit.receipts import attach_inclusion
from exchange.audit.tiles import Folder
from exchange.audit.verify import LogReport
from tests.market.prepared import copied
from tests.market.stand import Stand, problem


def _fetched(stand: Stand, **filters: str) -> bytes:
    reply = stand.post("officer", "/v1/audit/exports", {"format": "evidence", **filters})
    assert reply.status_code == 200, reply.text
    assert reply.headers["Content-Length"] == str(len(reply.content))
    return reply.content


def _keys(stand: Stand) -> dict[str, Any]:
    key = (stand.settings.log_path / "key").read_text().strip()
    receipt_key = stand.market.receipts.verifier_key
    return {"origin": stand.settings.log_origin, "keys": [key], "receipt_keys": [receipt_key]}


@pytest.fixture(scope="module")
def made(prepared_markets: Any, lent_sandbox: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Evidence of everything that happened in a market with two paid answers, and the keys to it."""
    prepared, server = prepared_markets("sqlite")
    folder = tmp_path_factory.mktemp("evidence")
    with copied(prepared, folder / "market", lent_sandbox, server) as stand:
        assert stand.post("buyer", "/v1/audit/exports", {"format": "csv"}).status_code == 403
        assert stand.run().status_code == 200
        assert stand.run("other", rho="0.02").status_code == 200
        assert stand.run(rho="1000").status_code >= 400
        stand.publish_log()
        yield _fetched(stand), _fetched(stand, org=stand.orgs["buyer"]), _keys(stand), stand


def _check(data: bytes, pinned: dict[str, Any], folder: Path, **more: Any) -> LogReport:
    path = folder / "evidence.zip"
    path.write_bytes(data)
    return verify_evidence(path, **{**pinned, **more})


def _rebuilt(data: bytes, change: dict[str, bytes | None], *, add: dict[str, bytes] | None = None) -> bytes:
    """The file with other contents, in the same spelling: what whoever has no key can make."""
    out = io.BytesIO()
    writer = stored_zip.Writer(out)
    for name, content in _contents(data).items():
        kept = change.get(name, content)
        if name == evidence.MANIFEST:
            for new, bytes_ in (add or {}).items():
                writer.add(new, [bytes_])
        if kept is not None:
            writer.add(name, [kept])
    writer.close()
    return out.getvalue()


def _contents(data: bytes) -> dict[str, bytes]:
    file = io.BytesIO(data)
    return {member.name: b"".join(stored_zip.parts(file, member)) for member in stored_zip.members(file)}


def test_evidence_is_good_and_names_everything(made: Any, tmp_path: Path) -> None:
    data, of_buyer, keys, _ = made
    report = _check(data, keys, tmp_path)
    assert report.findings == ()
    assert (report.exit_code, report.good) == (0, True)
    contents = _contents(data)
    entries = [json.loads(line) for line in contents["entries.jsonl"].splitlines()]
    assert len(entries) == report.entries == report.size
    named = [json.loads(entry["leaf"][1:]) for entry in entries]
    journals = {leaf["money"]["journal"] for leaf in named if leaf["money"] and leaf["money"]["journal"]}
    assert journals
    ledger = [json.loads(line) for line in contents["ledger.jsonl"].splitlines()]
    assert {line["journal"] for line in ledger} == journals
    accepted = {leaf["licence"]["acceptance_id"] for leaf in named if leaf["licence"]} - {None}
    assert {name for name in contents if name.startswith("acceptances/")} == {
        f"acceptances/{one}.json" for one in accepted
    }
    assert sum(name.endswith(".txt") and name.startswith("licences/") for name in contents) == 1
    manifest = json.loads(contents["manifest.json"])
    assert manifest["filters"] == {}
    assert {one["name"]: one["sha256"] for one in manifest["members"]} == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in contents.items()
        if name != "manifest.json"
    }
    assert "verify.py evidence" in contents["README.txt"].decode()
    assert contents["verify.py"].decode() == single_file.source()
    report = _check(of_buyer, keys, tmp_path)
    assert (report.exit_code, report.findings) == (0, ())
    assert 0 < report.entries < len(entries)


def test_the_verifier_inside_checks_it_alone(made: Any, tmp_path: Path) -> None:
    """What a regulator does: unpack one file, and run it on the zip with two keys from elsewhere."""
    _, data, keys, _ = made
    (tmp_path / "evidence.zip").write_bytes(data)
    (tmp_path / "verify.py").write_bytes(_contents(data)["verify.py"])
    asked = ["evidence", "evidence.zip", "--key", keys["keys"][0], "--receipt-key", keys["receipt_keys"][0]]
    command = [sys.executable, "-I", "verify.py", *asked]
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout[:5]) == (0, "good:"), good.stderr
    (tmp_path / "evidence.zip").write_bytes(data[:-1])
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 15


def test_other_programs_open_it(made: Any) -> None:
    data = made[0]
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == _contents(data)
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in opened.infolist()} == {0o100644}


def test_the_same_is_the_same_file_but_for_the_time(made: Any) -> None:
    stand = made[3]
    again = _contents(_fetched(stand, until="2020-01-01")), _contents(_fetched(stand, until="2020-01-01"))
    for name in again[0]:
        if name not in ("manifest.json", "README.txt"):
            assert again[0][name] == again[1][name], name
    assert list(again[0]) == list(again[1])


def test_every_flipped_byte_is_found(made: Any, tmp_path: Path) -> None:
    """A bit anywhere in the file, some in every member and everywhere between them."""
    _, data, keys, _ = made
    chance = random.Random(20261123)
    file = io.BytesIO(data)
    members = stored_zip.members(file)
    places = {chance.randrange(len(data)) for _ in range(120)}
    for member in members:
        places |= {member.begins + chance.randrange(member.size) for _ in range(3) if member.size}
        places |= {member.begins - 1 - chance.randrange(30)}
    places |= set(range(len(data) - 40, len(data)))
    for place in sorted(places):
        altered = bytearray(data)
        altered[place] ^= 1 << chance.randrange(8)
        report = _check(bytes(altered), keys, tmp_path)
        assert report.exit_code in (11, 13, 15), place
        assert report.findings
    assert len(places) > 150


def test_what_is_cut_added_removed_renamed_or_moved_is_found(made: Any, tmp_path: Path) -> None:
    _, data, keys, _ = made
    contents = _contents(data)
    for name in contents:
        removed = _check(_rebuilt(data, {name: None}), keys, tmp_path)
        assert removed.exit_code in (11, 15), name
        changed = _check(_rebuilt(data, {name: contents[name] + b" "}), keys, tmp_path)
        assert changed.exit_code in (11, 13, 15), name
    assert _check(_rebuilt(data, {}), keys, tmp_path).good
    assert _check(_rebuilt(data, {}, add={"more.txt": b"hello"}), keys, tmp_path).exit_code == 11
    renamed = _rebuilt(data, {"README.txt": None}, add={"README.TXT": contents["README.txt"]})
    assert _check(renamed, keys, tmp_path).exit_code == 11
    for end in (0, 1, 29, len(data) // 2, len(data) - 1):
        assert _check(data[:end], keys, tmp_path).exit_code == 15
    for odd in (data + b"\x00", b"\x00" + data, data + data):
        assert _check(odd, keys, tmp_path).exit_code == 15
    lines = contents["entries.jsonl"].splitlines(keepends=True)
    moved = b"".join([lines[1], lines[0], *lines[2:]])
    assert _check(_rebuilt(data, {"entries.jsonl": moved}), keys, tmp_path).exit_code == 11


def _resealed(stand: Stand, data: bytes, change: dict[str, bytes], **told: Any) -> bytes:
    """The file with other contents under a manifest that is signed again: what the exchange could forge."""
    contents = {**_contents(data), **change}
    manifest = json.loads(contents.pop("manifest.json"))
    del manifest["signature"]
    manifest["members"] = [
        {"name": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in contents.items()
    ]
    manifest |= told
    out = io.BytesIO()
    writer = stored_zip.Writer(out)
    for name, content in contents.items():
        writer.add(name, [content])
    writer.add("manifest.json", [evidence.write_manifest(manifest, stand.market.receipts.key)])
    writer.close()
    return out.getvalue()


def test_the_exchange_itself_cannot_forge_it(made: Any, tmp_path: Path) -> None:
    """With the receipt key, but without the log's: leaves, books, acceptances and licences are still held."""
    _, of_buyer, keys, stand = made
    contents = _contents(of_buyer)
    lines = contents["entries.jsonl"].splitlines(keepends=True)
    journals = contents["ledger.jsonl"].splitlines(keepends=True)
    forged = json.loads(lines[0])
    forged["leaf"] = forged["leaf"].replace('"outcome":"done"', '"outcome":"none"')
    # One that names nothing, so that its number in its organisation's chain is all that is missed.
    silent = next(line for line in lines[:-1] if b'\\"licence\\":null,\\"money\\":null' in line)
    fewer = [line for line in lines if line != silent]
    books = json.loads(journals[0])
    books["text"] = books["text"].replace('"amount":"', '"amount":"1')
    text = next(name for name in contents if name.startswith("licences/") and name.endswith(".txt"))
    acceptance = next(name for name in contents if name.startswith("acceptances/"))
    other = json.loads(contents[acceptance])
    other["acceptance"] = other["acceptance"].replace('"territory":"EU"', '"territory":"US"')
    cases: list[tuple[int, dict[str, bytes], dict[str, Any]]] = [
        (0, {}, {}),
        (11, {"entries.jsonl": evidence.json_line(forged) + b"".join(lines[1:])}, {}),
        (11, {"entries.jsonl": lines[0] + b"".join(lines)}, {}),
        (14, {"entries.jsonl": b"".join(fewer)}, {"entries": len(fewer)}),
        (11, {"ledger.jsonl": evidence.json_line(books) + b"".join(journals[1:])}, {}),
        (11, {"ledger.jsonl": b"".join(journals[1:])}, {}),
        (11, {"ledger.jsonl": b"".join([*journals, journals[0]])}, {}),
        (11, {text: b"Do as you like.\n"}, {}),
        (11, {acceptance: evidence.json_line(other)}, {}),
        (11, {}, {"filters": {"org": "org_another"}}),
        (11, {}, {"size": 1}),
        (14, {}, {"filters": {}}),
        (15, {}, {"filters": {"colour": "red"}}),
        (15, {}, {"exported_at": "2026-11-23T12:00:00"}),
        (15, {}, {"exported_at": "2026-11-23T12:00:00+01:00"}),
        (15, {}, {"exported_at": "0001-01-01T00:00:00+23:59"}),
        (15, {}, {"exported_at": "today"}),
        (15, {"entries.jsonl": b"{}\n"}, {}),
        (15, {"entries.jsonl": b"not json\n"}, {}),
    ]
    for code, change, told in cases:
        assert _check(_resealed(stand, of_buyer, change, **told), keys, tmp_path).exit_code == code, (
            list(change),
            told,
        )


def test_what_an_organisation_did_last_is_seen_in_the_whole_log_alone(made: Any, tmp_path: Path) -> None:
    """The end of an organisation's numbers is in no proof; the end of the log is in the checkpoint."""
    data, of_buyer, keys, stand = made
    for file, code in ((of_buyer, 0), (data, 14)):
        lines = _contents(file)["entries.jsonl"].splitlines(keepends=True)
        # Without the last entries that name nothing: what they named would be missed.
        while b'\\"licence\\":null,\\"money\\":null' in lines[-1]:
            lines = lines[:-1]
        cut = {"entries.jsonl": b"".join(lines)}
        assert lines != _contents(file)["entries.jsonl"].splitlines(keepends=True)
        assert _check(_resealed(stand, file, cut, entries=len(lines)), keys, tmp_path).exit_code == code
    readme = _contents(of_buyer)["README.txt"].decode()
    assert "left out before its last entry here" in readme


def test_an_acceptance_is_proved_by_the_checkpoint_of_the_file(made: Any, tmp_path: Path) -> None:
    """A promise is signed by the receipt key alone; another checkpoint may be one that no witness saw."""
    data, _, keys, stand = made
    contents = _contents(data)
    name = next(name for name in contents if name.startswith("acceptances/"))
    accepted, exported_at = json.loads(contents[name]), json.loads(contents["manifest.json"])["exported_at"]
    leaf = base64.b64decode(accepted["receipt"]["leaf"])
    promised = stand.market.receipts.issue(leaf, datetime.fromisoformat(exported_at))
    later = attach_inclusion(promised, Folder(stand.settings.log_path), stand.publish_log())
    same = {**promised, "inclusion": accepted["receipt"]["inclusion"]}
    for code, receipt in ((0, same), (11, promised), (11, {**promised, "inclusion": None}), (11, later)):
        forged = {name: evidence.json_line({**accepted, "receipt": receipt})}
        report = _check(_resealed(stand, data, forged), keys, tmp_path)
        assert report.exit_code == code, receipt
        assert {finding.path for finding in report.findings} == ({name} if code else set())


def test_other_keys_and_witnesses_are_not_enough(made: Any, tmp_path: Path) -> None:
    _, data, keys, _ = made
    stranger = str(SigningKey(keys["receipt_keys"][0].split("+")[0], bytes(32)).verifier)
    assert _check(data, keys, tmp_path, receipt_keys=[stranger]).exit_code == 13
    assert _check(data, keys, tmp_path, receipt_keys=[]).exit_code == 13
    log_name = keys["keys"][0].split("+")[0]
    other = str(SigningKey(log_name, bytes(32)).verifier)
    assert _check(data, keys, tmp_path, keys=[other]).exit_code == 13
    assert _check(data, keys, tmp_path, origin="another.example/log").exit_code == 15
    assert _check(data, keys, tmp_path, required=1).exit_code == 16


def test_hostile_zips_are_malformed(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"origin": "x", "keys": [], "receipt_keys": []}

    def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as made:
            for name, content in members:
                made.writestr(zipfile.ZipInfo(name), content, method)
        return out.getvalue()

    directory = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
    cases = [
        b"",
        b"PK",
        b"not a zip at all" * 100,
        directory,
        zipped(("a" * 10, bytes(1 << 22)), method=zipfile.ZIP_DEFLATED),
        zipped(("../../etc/passwd", b"x")),
        zipped(("/etc/passwd", b"x")),
        zipped(("manifest.json", b"{}")),
        zipped(*((f"n{i}", b"") for i in range(300))),
        b"PK\x03\x04" + bytes(26) + directory,
        b"PK\x03\x04" + b"\xff" * 60,
    ]
    for number, data in enumerate(cases):
        assert _check(data, keys, tmp_path).exit_code == 15, number


def test_evidence_has_a_limit_and_says_what_to_do(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = made[3]
    monkeypatch.setattr(evidence, "MOST_ENTRIES", 3)
    reply = stand.post("officer", "/v1/audit/exports", {"format": "evidence"})
    told = problem(reply, 413, "export_too_large")
    assert "Narrow" in told["hint"]
    problem(stand.post("buyer", "/v1/audit/exports", {"format": "evidence"}), 403, "role_missing")


def test_before_the_first_checkpoint_there_is_no_evidence(sqlite_stand: Stand) -> None:
    reply = sqlite_stand.post("officer", "/v1/audit/exports", {"format": "evidence"})
    assert problem(reply, 404, "not_found")["hint"].startswith("Try again")
