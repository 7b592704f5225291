"""The verifier's command line: a log, a receipt or a proof file, held against keys that the reader pinned.

This is what `verify.py` runs, the single file that anybody can read and run (`exchange.audit.single_file`).
Standard library and `cryptography`; no database and no network.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange.audit import leaf as leaves
from exchange.audit import note, succession
from exchange.audit.acceptances import is_acceptance, verify_acceptance
from exchange.audit.archive import Archive
from exchange.audit.errors import CryptographyMissing, Malformed, SignatureInvalid
from exchange.audit.evidence import verify_evidence
from exchange.audit.receipts import MAX_BYTES, ReceiptReport, verify_receipt
from exchange.audit.report import MALFORMED, SIGNATURE, Finding, printable
from exchange.audit.tiles import Folder, open_plain
from exchange.audit.tlog_proof import MAX_PROOF_BYTES, ProofReport, verify_tlog_proof
from exchange.audit.verify import LogReport, verify_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exchange.audit.errors import AuditError
    from exchange.audit.note import VerifierKey
    from exchange.audit.tiles import Reader

USAGE, CANNOT_CHECK = 2, 3
MAX_RESULT_BYTES = 1 << 31
"""The largest answer that is held against a receipt."""
_SHOWN_FINDINGS = 50
_OF_THE_LOG = Path()
_FOLLOW_KEYS: dict[str, Any] = {
    "type": Path,
    "metavar": "FILE",
    "help": "statements that lead from a key which was replaced to the newest, as the log publishes them "
    "in its file keys; with a log, those beside it where no FILE is given",
}
_CODES = """exit codes: 0 good, 10 truncated, 11 altered, inserted or reordered, 12 fork against the saved
checkpoint, 13 signature, 14 gap in a sequence, 15 malformed, 16 too few witnesses, 2 wrong usage or a file
that cannot be opened, 3 the package cryptography is missing"""

_Report = LogReport | ReceiptReport | ProofReport


def main(arguments: Sequence[str] | None = None) -> int:
    """Verifies what was asked for, says what was found, and returns the exit code."""
    _say_anything()
    given = _parser().parse_args(arguments)
    try:
        report = _report(given)
    except CryptographyMissing:
        sys.stderr.write("Signatures cannot be checked: install cryptography (pip install cryptography).\n")
        return CANNOT_CHECK
    except OSError as error:
        sys.stderr.write(printable(f"{error.filename}: {error.strerror}") + "\n")
        return USAGE
    except MemoryError:
        sys.stderr.write("There is too little memory to verify this.\n")
        return CANNOT_CHECK
    if given.json:
        sys.stdout.write(json.dumps(report.as_document(), indent=2, ensure_ascii=True) + "\n")
    else:
        _tell(report)
    return report.exit_code


def _say_anything() -> None:
    """Has both outputs escape what their encoding has no character for: a log may name anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _report(given: argparse.Namespace) -> _Report:
    """What was found; a file or a chain of keys that is no such thing is found too."""
    try:
        report: _Report = given.run(given)
    except SignatureInvalid as error:
        return _bad(given, SIGNATURE, error)
    except Malformed as error:
        return _bad(given, MALFORMED, error)
    return report


def _bad(given: argparse.Namespace, code: int, error: AuditError) -> _Report:
    findings = (Finding(code, str(error)),)
    if given.run is _receipt:
        return ReceiptReport(code, "invalid", findings)
    return (ProofReport if given.run is _proof else LogReport)(code, findings, _origin(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Verifies an exchange's audit log, its receipts and its proofs, offline.", epilog=_CODES
    )
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    log = _kind(kinds, "log", _log, "a log: a folder or zip file of checkpoint and tiles")
    log.add_argument("place", type=Path, metavar="FOLDER_OR_ZIP")
    log.add_argument(
        "--checkpoint", type=Path, help="a checkpoint saved earlier, which the log must continue"
    )
    log.add_argument("--follow-keys", nargs="?", const=_OF_THE_LOG, **_FOLLOW_KEYS)
    receipt = _kind(kinds, "receipt", _receipt, "the receipt of an answer or of a licence acceptance")
    receipt.add_argument("--follow-keys", **_FOLLOW_KEYS)
    receipt.add_argument("file", type=Path, metavar="FILE")
    receipt.add_argument("--receipt-key", action="append", required=True, help="the receipts' public key")
    receipt.add_argument("--result", type=Path, help="the answer's Arrow bytes")
    receipt.add_argument("--licence", type=Path, help="the text that was accepted")
    proof = _kind(kinds, "proof", _proof, "a proof file (c2sp.org/tlog-proof) of one entry")
    proof.add_argument("file", type=Path, metavar="FILE.tlog-proof")
    proof.add_argument("--follow-keys", **_FOLLOW_KEYS)
    proof.add_argument("--leaf", type=Path, help="the entry's leaf, where the proof file does not carry it")
    evidence = _kind(kinds, "evidence", _evidence, "a file of evidence, with all that its entries name")
    evidence.add_argument("file", type=Path, metavar="FILE.zip")
    evidence.add_argument("--follow-keys", **_FOLLOW_KEYS)
    evidence.add_argument("--receipt-key", action="append", required=True, help="the receipts' public key")
    return parser


def _kind(kinds: Any, name: str, run: Any, about: str) -> argparse.ArgumentParser:
    kind: argparse.ArgumentParser = kinds.add_parser(
        name, help=about, description=f"Verifies {about}.", epilog=_CODES
    )
    kind.set_defaults(run=run)
    kind.add_argument(
        "--key", action="append", required=True, help="the log's public key, from a source that you trust"
    )
    kind.add_argument("--origin", help="the log's name; else the name in the first key")
    kind.add_argument("--witness", action="append", default=[], help="a witness's public key; repeat it")
    kind.add_argument(
        "--witnesses-required",
        type=_count,
        metavar="N",
        help="how many of these witnesses must have signed; all, where it is not given",
    )
    kind.add_argument("--json", action="store_true", help="print JSON")
    return kind


def _log(given: argparse.Namespace) -> LogReport:
    pinned = None if given.checkpoint is None else _bytes(given.checkpoint, note.MAX_NOTE_BYTES)
    with _opened(given.place) as reader:
        beside = (reader.read(succession.PATH) or b"") if given.follow_keys == _OF_THE_LOG else None
        return verify_log(reader, keys=_keys(given, beside), pinned=pinned, **_trusted(given))


def _receipt(given: argparse.Namespace) -> ReceiptReport:
    options = {
        "receipt_keys": given.receipt_key,
        "log_keys": _keys(given),
        "now": datetime.now(UTC),
        **_trusted(given),
    }
    result = None if given.result is None else _bytes(given.result, MAX_RESULT_BYTES)
    text = None if given.licence is None else _bytes(given.licence, MAX_BYTES)
    document = leaves.parse(_bytes(given.file, MAX_BYTES))
    if isinstance(document, dict) and is_acceptance(document):
        return verify_acceptance(document, licence_text=text, **options)
    return verify_receipt(document, result=result, **options)


def _proof(given: argparse.Namespace) -> ProofReport:
    leaf = None if given.leaf is None else _bytes(given.leaf, leaves.MAX_BYTES)
    data = _bytes(given.file, MAX_PROOF_BYTES)
    return verify_tlog_proof(data, keys=_keys(given), leaf=leaf, **_trusted(given))


def _evidence(given: argparse.Namespace) -> LogReport:
    return verify_evidence(given.file, keys=_keys(given), receipt_keys=given.receipt_key, **_trusted(given))


def _keys(given: argparse.Namespace, statements: bytes | None = None) -> tuple[VerifierKey, ...]:
    """The pinned keys of the log, and those that statements lead to. Raises Malformed, SignatureInvalid."""
    if statements is None:
        file = given.follow_keys
        statements = b"" if file is None else _bytes(file, succession.MAX_BYTES)
    return succession.pinned_keys(given.key, statements)


def _trusted(given: argparse.Namespace) -> dict[str, Any]:
    required = given.witnesses_required
    required = len(given.witness) if required is None else required
    return {"origin": _origin(given), "witnesses": given.witness, "required": required}


def _origin(given: argparse.Namespace) -> str:
    return str(given.origin or given.key[0].partition("+")[0])


@contextlib.contextmanager
def _opened(place: Path) -> Iterator[Reader]:
    if place.is_dir():
        yield Folder(place)
        return
    with Archive(place) as archive:
        yield archive.beneath_checkpoint()


def _bytes(path: Path, most: int) -> bytes:
    """A file's bytes, which are all of them. Raises Malformed for more than `most`."""
    with open_plain(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Malformed(f"{path} is larger than {most} bytes.")
    return data


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _tell(report: _Report) -> None:
    if report.good:
        sys.stdout.write(f"good: {printable(str(report))}\n")
        return
    for finding in report.findings[:_SHOWN_FINDINGS]:
        sys.stdout.write(printable(str(finding)) + "\n")
    rest = len(report.findings) - _SHOWN_FINDINGS
    rest += report.more_findings if isinstance(report, LogReport) else 0
    if rest > 0:
        sys.stdout.write(f"and {rest} more\n")
    sys.stderr.write(f"not good: exit code {report.exit_code}\n")
