"""C2SP proof files (https://c2sp.org/tlog-proof): that one leaf is under a signed checkpoint, as a text file.

Ours carry the leaf itself as their extra data, so that one file is all that a stranger needs beside the log's
origin and keys. The format does not authenticate extra data; the proof does, because it begins at the leaf's
hash. Standard library and, for signatures, `cryptography`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exchange.audit import checkpoint as checkpoints
from exchange.audit import leaf as leaves
from exchange.audit import merkle, note
from exchange.audit.errors import Malformed, SignatureInvalid
from exchange.audit.report import ALTERED, GOOD, MALFORMED, SIGNATURE, WITNESSES, Finding, exit_code_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.audit.note import VerifierKey

SUFFIX = ".tlog-proof"
MAX_HASHES = 63
"""Longest audit path in a tree of fewer than 2**63 leaves."""
MAX_PROOF_BYTES = 524_288
"""Above the largest note, the longest path and the largest leaf in base64 together."""

_HEADER = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class TlogProof:
    """A proof file's parts: the leaf's index, its audit path, the checkpoint verbatim, and extra data."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encoded(self) -> bytes:
        """The file's bytes. Raises Malformed for parts that `parse_tlog_proof` would not read again."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode('ascii')}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(hashed).decode("ascii") for hashed in self.hashes]
        data = "\n".join(lines).encode() + b"\n\n" + self.checkpoint
        if parse_tlog_proof(data) != self:
            raise Malformed("The proof cannot be written as a file.")
        return data


@dataclass(frozen=True)
class ProofReport:
    """What a proof file is worth: the entry's place, the size of the log that holds it, and what it says."""

    exit_code: int
    findings: tuple[Finding, ...]
    origin: str
    seq: int | None = None
    size: int | None = None
    leaf_hash: str | None = None
    witnesses: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """True if the leaf is proved to be in the log."""
        return self.exit_code == GOOD

    def as_document(self) -> dict[str, Any]:
        """The report as JSON: what `--json` prints."""
        return {
            "good": self.good,
            "exit_code": self.exit_code,
            "origin": self.origin,
            "seq": self.seq,
            "size": self.size,
            "leaf_hash": self.leaf_hash,
            "witnesses": list(self.witnesses),
            "findings": [vars(finding) for finding in self.findings],
            "entry": dict(self.document),
        }

    def __str__(self) -> str:
        if self.good:
            return f"Entry {self.seq} is in the log of {self.size} entries."
        return "\n".join(str(finding) for finding in self.findings)


def parse_tlog_proof(data: bytes | str) -> TlogProof:
    """Reads a proof file without trusting it; only the one spelling that `encoded` writes is accepted.

    Raises:
        Malformed: too large, another first line, an index, hash or base64 of another form, too many hashes,
            or no checkpoint.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_PROOF_BYTES:
        raise Malformed("The proof file is too large.")
    head, separator, checkpoint = raw.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Malformed("The proof file's first part is not ASCII.") from None
    if lines.pop(0) != _HEADER or not separator or not checkpoint:
        raise Malformed("The file is not a proof of the format c2sp.org/tlog-proof@v1.")
    extra = _extra(lines.pop(0)) if lines and lines[0].startswith("extra ") else None
    index = lines.pop(0).removeprefix("index ") if lines and lines[0].startswith("index ") else ""
    if _INDEX.fullmatch(index) is None or int(index) >= 2**63:
        raise Malformed("The proof file does not say the entry's index.")
    if len(lines) > MAX_HASHES:
        raise Malformed("The proof file has more hashes than any proof.")
    hashes = tuple(note.decode_base64(line) for line in lines)
    if any(len(hashed) != merkle.HASH_BYTES for hashed in hashes):
        raise Malformed("A hash of the proof file is not a SHA-256 hash.")
    return TlogProof(int(index), hashes, checkpoint, extra)


def proof_of_receipt(receipt: Mapping[str, Any]) -> TlogProof:
    """The proof that a receipt carries, of an answer or of an acceptance, with its leaf as extra data.

    Raises:
        Malformed: the receipt carries no proof yet, or is none.
    """
    try:
        of_log = receipt["receipt"] if isinstance(receipt.get("receipt"), Mapping) else receipt
        inclusion = of_log["inclusion"]
        hashes = tuple(note.decode_base64(item) for item in inclusion["proof"])
        checkpoint, leaf = inclusion["checkpoint"].encode("utf-8"), note.decode_base64(of_log["leaf"])
        return TlogProof(inclusion["index"], hashes, checkpoint, leaf)
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError):
        raise Malformed("The receipt carries no proof.", hint="Fetch it again in a few seconds.") from None


def verify_tlog_proof(
    data: bytes | str,
    *,
    origin: str,
    keys: Sequence[str | VerifierKey],
    leaf: bytes | None = None,
    witnesses: Sequence[str | VerifierKey] = (),
    required: int = 0,
) -> ProofReport:
    """Checks a proof file offline against the pinned origin and keys; never raises for a bad one.

    Args:
        data: the proof file.
        origin, keys: what the log must call itself and the keys that it may sign with, known from elsewhere.
        leaf: the leaf's bytes; else those that the file carries as extra data.
        witnesses, required: pinned witness keys, and how many of them must have signed the checkpoint.

    Raises:
        CryptographyMissing: signatures cannot be checked here.
    """
    try:
        proof = parse_tlog_proof(data)
        trusted, observers = ([note.as_verifier(key) for key in some] for some in (keys, witnesses))
        checkpoint = checkpoints.open_checkpoint(proof.checkpoint, origin=origin, keys=trusted)
        cosigners = checkpoints.cosigners(checkpoint, observers, log_keys=trusted)
    except SignatureInvalid as error:
        return ProofReport(SIGNATURE, (Finding(SIGNATURE, str(error)),), origin)
    except Malformed as error:
        return ProofReport(MALFORMED, (Finding(MALFORMED, str(error)),), origin)
    entry = proof.extra if leaf is None else leaf
    if entry is None:
        return ProofReport(MALFORMED, (Finding(MALFORMED, "There is no leaf to prove."),), origin)
    findings, hashed = [], merkle.leaf_hash(entry)
    if not merkle.verify_inclusion(hashed, proof.index, checkpoint.size, proof.hashes, checkpoint.root):
        text = "The proof does not lead from the leaf to the checkpoint's root."
        findings.append(Finding(ALTERED, text, seq=proof.index))
    document, more = _read(entry, proof)
    findings += more
    if len(cosigners) < required:
        text = f"{len(cosigners)} pinned witnesses signed the checkpoint; {required} are required."
        findings.append(Finding(WITNESSES, text))
    return ProofReport(
        exit_code_of(finding.exit_code for finding in findings),
        tuple(findings),
        origin,
        proof.index,
        checkpoint.size,
        hashed.hex(),
        tuple(key.name for key in cosigners),
        document,
    )


def _read(entry: bytes, proof: TlogProof) -> tuple[dict[str, Any], list[Finding]]:
    """The leaf's document, and what is wrong with it."""
    found = []
    if proof.extra not in (None, entry):
        found.append(Finding(ALTERED, "The file carries another leaf than the one given.", seq=proof.index))
    try:
        document = leaves.decode(entry)
    except Malformed as error:
        return {}, [*found, Finding(MALFORMED, str(error), seq=proof.index)]
    if document["seq"] != proof.index:
        found.append(Finding(ALTERED, "The leaf carries another number than its place.", seq=proof.index))
    return document, found


def _extra(line: str) -> bytes:
    extra = note.decode_base64(line.removeprefix("extra "))
    if not extra:
        raise Malformed("The proof file's extra data is empty.")
    return extra
