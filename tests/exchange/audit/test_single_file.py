"""verify.py alone: on a log of the integrator, each exit code, hostile zips, and no other package at hand."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exchange.audit import checkpoint, single_file, verifier
from exchange.audit.integrate import integrate
from exchange.audit.note import MAX_NOTE_BYTES
from exchange.audit.receipts import ReceiptSigner, attach_inclusion
from exchange.audit.tiles import Fetched, Folder
from exchange.audit.tlog_proof import TlogProof, proof_of_receipt
from exchange.version import __version__
from tests.exchange.audit import alone
from tests.exchange.audit.samples import (
    KEYS,
    NOW,
    ORIGIN,
    RECEIPTS,
    STRANGER,
    WITNESSES,
    load,
    publish,
    records,
    sha,
    signed_head,
    signer_of,
)

SIZE = 300
LEAVES = [record.leaf for record in records(SIZE)]
TRUST = ("--origin", ORIGIN, "--key", KEYS[0])
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with verify.py, the packages it may import, and a log that the integrator published."""
    folder = tmp_path_factory.mktemp("outsider")
    (folder / "verify.py").write_text(single_file.source())
    alone.packages(folder / "packages")
    published = Folder(folder / "log")
    for size in (100, SIZE):
        integrate(lambda start, most=size: LEAVES[start:most], published, signer_of(published), ORIGIN)
    return folder


def run(place: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return alone.run(place / "packages", place / "verify.py", *arguments)


def write(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(path: Path, files: Files, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(prefix + name, data)
    return path


# ---- the file


def test_the_file_is_made_of_the_modules_and_the_same_each_time() -> None:
    text = single_file.source()
    fresh = [sys.executable, "-c", "from exchange.audit import single_file; print(single_file.sha256())"]
    assert (
        subprocess.run(fresh, capture_output=True, text=True, check=True).stdout.strip()
        == single_file.sha256()
    )
    assert single_file.sha256() == hashlib.sha256(text.encode()).hexdigest()
    assert f"version {__version__}" in text
    parts = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert {"_merkle", "_scan", "_receipts", "_tlog_proof", "_archive", "_verifier"} <= set(parts)
    for name, part in parts.items():
        module = Path(single_file.__file__).with_name(f"{name[1:]}.py").read_text()
        ours = [node for node in part.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        assert [ast.dump(node) for node in ours] == _definitions(module), name


def _definitions(module: str) -> list[str]:
    """Functions and classes of a module; its docstrings stand four columns to the left of the file's."""
    indented = "def module():\n" + "\n".join(f"    {line}".rstrip() for line in module.splitlines())
    (whole,) = ast.parse(indented).body
    assert isinstance(whole, ast.FunctionDef)
    return [ast.dump(node) for node in whole.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def test_the_file_imports_the_standard_library_and_cryptography_alone() -> None:
    nodes = [*ast.walk(ast.parse(single_file.source()))]
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    roots = {name.partition(".")[0] for name in names}
    assert roots - sys.stdlib_module_names == {"cryptography"}
    assert not roots & {"socket", "urllib", "http", "sqlite3", "subprocess", "ssl", "ctypes", "pickle"}


def test_where_cryptography_is_missing_it_says_what_to_install(place: Path, tmp_path: Path) -> None:
    nothing = alone.packages(tmp_path / "nothing", ())
    for what in (["log", place / "log"], ["proof", proof_of(place, tmp_path)]):
        done = alone.run(nothing, place / "verify.py", *what, *TRUST)
        assert (done.returncode, done.stdout) == (3, "")
        assert "pip install cryptography" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["log"],
        ["log", "nowhere"],
        ["log", "nowhere", *TRUST],
        ["log", ".", *TRUST, "--checkpoint", "nowhere"],
        ["log", ".", *TRUST, "--witnesses-required", "-1"],
        ["receipt", "nowhere", *TRUST],
        ["proof", "nowhere", *TRUST],
        ["everything"],
    ],
)
def test_wrong_usage_is_neither_good_nor_a_finding(place: Path, arguments: list[str]) -> None:
    done = run(place, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


# ---- logs


def test_a_good_log_is_good_as_folder_and_as_zip(place: Path, tmp_path: Path) -> None:
    files, seen = load(place / "log"), tmp_path / "seen"
    seen.write_bytes(publish(LEAVES[:70])["checkpoint"])
    plain, beneath = zipped(tmp_path / "a.zip", files), zipped(tmp_path / "b.zip", files, "backup/log/")
    for log in (place / "log", plain, beneath):
        done = run(place, "log", log, *TRUST, "--checkpoint", seen)
        assert (done.returncode, done.stderr) == (0, ""), log
        assert re.fullmatch(rf"good: {ORIGIN}, {SIZE} entries, root [0-9a-f]{{64}}\n", done.stdout)
    told = json.loads(run(place, "log", plain, "--key", KEYS[0], "--json").stdout)
    assert (told["good"], told["size"], told["entries"], told["findings"]) == (True, SIZE, SIZE, [])


def signed_by_a_stranger(files: Files) -> Files:
    head = checkpoint.parse_checkpoint(files["checkpoint"])
    return {**files, "checkpoint": signed_head(head.size, head.root, STRANGER)}


def flipped(files: Files, path: str) -> Files:
    data = bytearray(files[path])
    data[len(data) // 2] ^= 4
    return {**files, path: bytes(data)}


def without(files: Files, path: str) -> Files:
    return {name: data for name, data in files.items() if name != path}


FORKED = signed_head(SIZE, bytes.fromhex(sha("another root")))
TAMPERED: list[tuple[str, int, Callable[[Files], Files], list[str]]] = [
    ("a tile is gone", 10, lambda f: without(f, "tile/0/000"), []),
    ("the log was cut back", 10, lambda f: publish(LEAVES[:200]), ["--checkpoint", "HEAD"]),
    ("an entry was altered", 11, lambda f: flipped(f, "tile/entries/000"), []),
    ("a tile was altered", 11, lambda f: flipped(f, "tile/0/001.p/44"), []),
    ("an entry stands twice", 11, lambda f: publish([*LEAVES[:9], LEAVES[8], *LEAVES[9:]]), []),
    ("two logs of one size", 12, lambda f: f, ["--checkpoint", "FORK"]),
    ("another past", 12, lambda f: publish([LEAVES[0], *LEAVES[2:], *LEAVES[:2]]), ["--checkpoint", "OLD"]),
    ("another key signed", 13, signed_by_a_stranger, []),
    ("an entry was left out", 14, lambda f: publish([*LEAVES[:9], *LEAVES[10:]]), []),
    ("the checkpoint is cut", 15, lambda f: {**f, "checkpoint": f["checkpoint"][:20]}, []),
    ("there is nothing", 15, lambda f: {"tile/entries/000": f["tile/entries/000"]}, []),
    ("a leaf is no leaf", 15, lambda f: publish([*LEAVES[:9], b"\x02{}", *LEAVES[10:]]), []),
    ("nobody watched", 16, lambda f: f, ["--witness", str(WITNESSES[0].verifier)]),
]


@pytest.mark.parametrize(("what", "code", "change", "more"), TAMPERED, ids=[case[0] for case in TAMPERED])
def test_each_exit_code_is_shown(
    place: Path, tmp_path: Path, what: str, code: int, change: Callable[[Files], Files], more: list[str]
) -> None:
    files = load(place / "log")
    for name, data in {
        "HEAD": files["checkpoint"],
        "FORK": FORKED,
        "OLD": publish(LEAVES[:70])["checkpoint"],
    }.items():
        (tmp_path / name).write_bytes(data)
    log = write(tmp_path / "log", change(files))
    arguments = [str(tmp_path / word) if (tmp_path / word).is_file() else word for word in more]
    done = run(place, "log", log, *TRUST, *arguments, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"], told["good"]) == (code, code, False)
    assert code in {finding["exit_code"] for finding in told["findings"]}
    spoken = run(place, "log", zipped(tmp_path / "log.zip", load(log)), *TRUST, *arguments)
    assert (spoken.returncode, spoken.stderr) == (code, f"not good: exit code {code}\n")
    assert f"[{code}]" in spoken.stdout


def test_every_exit_code_is_in_the_table() -> None:
    assert {case[1] for case in TAMPERED} == set(range(10, 17))


def test_witnesses_are_counted(place: Path, tmp_path: Path) -> None:
    head = checkpoint.parse_checkpoint((place / "log" / "checkpoint").read_bytes())
    for witness in WITNESSES[:2]:
        head = checkpoint.cosign(head, witness, NOW)
    log = write(tmp_path / "log", {**load(place / "log"), "checkpoint": head.encoded()})
    pinned = [word for witness in WITNESSES for word in ("--witness", str(witness.verifier))]
    codes = [
        run(place, "log", log, *TRUST, *pinned, "--witnesses-required", str(n)).returncode for n in (2, 3)
    ]
    assert codes == [0, 16]
    assert run(place, "log", log, *TRUST, *pinned).returncode == 16, "without a number, all have to sign"


def test_what_a_log_says_is_no_escape_sequence_on_a_terminal(place: Path, tmp_path: Path) -> None:
    leaves = [leaf.replace(b'"org":"org_buyer"', b'"org":"\\u001b[31m\xe2\x80\xae"') for leaf in LEAVES[:40]]
    done = run(place, "log", write(tmp_path / "log", publish(leaves)), *TRUST)
    assert done.returncode == 11
    assert "\\x1b[31m\\x202e" in done.stdout
    assert "\x1b" not in done.stdout


# ---- receipts and proofs


def receipt_of(place: Path, seq: int, *, proved: bool = True) -> dict[str, Any]:
    receipt = ReceiptSigner(RECEIPTS, ORIGIN).issue(LEAVES[seq], NOW)
    files = load(place / "log")
    head = checkpoint.parse_checkpoint(files["checkpoint"])
    return attach_inclusion(receipt, Fetched(files), head) if proved else receipt


def proof_of(place: Path, folder: Path, seq: int = 6) -> Path:
    path = folder / f"{seq}.tlog-proof"
    path.write_bytes(proof_of_receipt(receipt_of(place, seq)).encoded())
    return path


def test_a_receipt_is_checked_with_its_result(place: Path, tmp_path: Path) -> None:
    file, result = tmp_path / "receipt.json", tmp_path / "result"
    file.write_text(json.dumps(receipt_of(place, 6), indent=2))
    result.write_text("result6")
    trust = [*TRUST, "--receipt-key", str(RECEIPTS.verifier)]
    done = run(place, "receipt", file, *trust, "--result", result)
    assert (done.returncode, done.stdout) == (0, f"good: Entry 6 is in the log of {SIZE} entries.\n")
    result.write_text("another")
    assert run(place, "receipt", file, *trust, "--result", result).returncode == 11
    assert run(place, "receipt", file, *TRUST, "--receipt-key", str(STRANGER.verifier)).returncode == 13
    file.write_text(json.dumps(receipt_of(place, 6, proved=False)))
    assert run(place, "receipt", file, *trust).returncode == 10, "promised long ago, and still not proved"
    file.write_text("{")
    assert run(place, "receipt", file, *trust).returncode == 15


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("checkpoint", 15),
        ("keys", 15),
        ("tile/entries/000", 11),
        ("tile/0/001.p/44", 11),
        ("tile/1/000.p/1", 11),
    ],
)
def test_a_pipe_in_a_log_keeps_nobody_waiting(place: Path, tmp_path: Path, name: str, code: int) -> None:
    log = write(tmp_path / "log", load(place / "log"))
    (log / name).unlink(missing_ok=True)
    os.mkfifo(log / name)
    done = run(place, "log", log, *TRUST, "--follow-keys")
    assert (done.returncode, name in done.stdout) == (code, True)


@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_what_is_no_file_is_malformed_wherever_it_is_named(place: Path, tmp_path: Path, kind: str) -> None:
    odd, receipts = tmp_path / "odd", ("--receipt-key", str(RECEIPTS.verifier))
    os.mkfifo(odd) if kind == "a pipe" else odd.symlink_to("/dev/zero")
    for asked in (
        ["log", odd],
        ["log", place / "log", "--checkpoint", odd],
        ["log", place / "log", "--follow-keys", odd],
        ["receipt", odd, *receipts],
        ["proof", odd],
        ["proof", proof_of(place, tmp_path), "--leaf", odd],
        ["evidence", odd, *receipts],
    ):
        done = run(place, *asked, *TRUST)
        assert (done.returncode, "is not a plain file" in done.stdout) == (15, True), asked


def test_a_file_that_is_too_large_is_refused_and_not_cut(place: Path, tmp_path: Path) -> None:
    """What stands behind the first megabyte of a receipt is part of it."""
    receipt, leaf = tmp_path / "receipt.json", tmp_path / "leaf"
    trust = [*TRUST, "--receipt-key", str(RECEIPTS.verifier)]
    document = json.dumps(receipt_of(place, 6))
    receipt.write_text(document.ljust(1 << 20))
    assert run(place, "receipt", receipt, *trust).returncode == 0
    receipt.write_text(document.ljust(1 << 20) + ' {"and": "more"}')
    told = json.loads(run(place, "receipt", receipt, *trust, "--json").stdout)
    assert (told["exit_code"], told["state"]) == (15, "invalid")
    assert "larger than 1048576 bytes" in told["findings"][0]["message"]
    leaf.write_bytes(LEAVES[6].ljust(70_000))
    assert run(place, "proof", proof_of(place, tmp_path), *TRUST, "--leaf", leaf).returncode == 15


def test_what_a_terminal_has_no_letters_for_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name in a finding is shown, and the finding's code returned, under whatever locale."""
    shown, file = io.BytesIO(), tmp_path / "\u65e5\u672c"
    file.write_bytes(bytes(MAX_NOTE_BYTES + 1))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True))
    asked = ["log", str(tmp_path), "--key", KEYS[0], "--checkpoint", str(file)]
    assert verifier.main(asked) == 15
    assert b"\\u65e5\\u672c is larger than" in shown.getvalue()


def test_a_proof_is_checked_with_the_leaf_that_it_carries_or_another(place: Path, tmp_path: Path) -> None:
    file, leaf = proof_of(place, tmp_path), tmp_path / "leaf"
    done = run(place, "proof", file, *TRUST)
    assert (done.returncode, done.stdout) == (0, f"good: Entry 6 is in the log of {SIZE} entries.\n")
    leaf.write_bytes(LEAVES[6])
    told = json.loads(run(place, "proof", file, *TRUST, "--leaf", leaf, "--json").stdout)
    assert (told["good"], told["entry"]["seq"]) == (True, 6)
    leaf.write_bytes(LEAVES[7])
    assert run(place, "proof", file, *TRUST, "--leaf", leaf).returncode == 11
    assert run(place, "proof", file, "--key", str(STRANGER.verifier)).returncode == 13
    assert run(place, "proof", file, *TRUST, "--witness", str(WITNESSES[0].verifier)).returncode == 16
    bare = proof_of_receipt(receipt_of(place, 6))
    file.write_bytes(TlogProof(bare.index, bare.hashes, bare.checkpoint).encoded())
    assert run(place, "proof", file, *TRUST).returncode == 15, "there is no leaf to prove"
    leaf.write_bytes(LEAVES[6])
    assert run(place, "proof", file, *TRUST, "--leaf", leaf).returncode == 0
