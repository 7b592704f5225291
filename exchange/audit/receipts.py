"""Receipts: a signed promise that one leaf is, or soon will be, in the log, checked offline by its holder.

A receipt is a JSON document: the leaf itself, its hash, a summary of what it says, the promise (origin and
latest time of integration), the signature of the exchange's receipt key over all of that, and - once the
leaf is published - an inclusion proof with the checkpoint that it leads to. Checking needs the standard
library and `cryptography`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from exchange.audit import checkpoint as checkpoints
from exchange.audit import leaf as leaves
from exchange.audit import merkle, note, tiles
from exchange.audit.entry import timestamp
from exchange.audit.errors import Malformed, SignatureInvalid
from exchange.audit.report import (
    ALTERED,
    GOOD,
    MALFORMED,
    SIGNATURE,
    TRUNCATED,
    WITNESSES,
    Finding,
    exit_code_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.note import Signer, VerifierKey
    from exchange.audit.tiles import Reader

FORMAT = "exchange-receipt/v1"
MAX_BYTES = 1_048_576
DEFAULT_WITHIN = timedelta(seconds=65)
"""How long the exchange takes, at most, to integrate a leaf."""
LONGEST = timedelta(hours=1)
"""No promise may run for longer, and no clock be further ahead of the reader's: else it would never end."""

_SIGNED = {"format", "issued_at", "summary", "leaf", "leaf_hash", "seq", "promise"}
_SUMMARY = {
    "entry_id": ("id",),
    "kind": ("kind",),
    "outcome": ("outcome",),
    "time": ("time",),
    "org": ("actor", "org"),
    "dataset": ("object", "dataset"),
    "object_type": ("object", "type"),
    "object_id": ("object", "id"),
    "object_version": ("object", "version"),
    "acceptance_id": ("licence", "acceptance_id"),
    "odrl_sha256": ("licence", "odrl_sha256"),
    "purpose": ("licence", "purpose"),
    "query_id": ("query", "id"),
    "plan_sha256": ("query", "plan_sha256"),
    "sql_sha256": ("query", "sql_sha256"),
    "domain": ("privacy", "domain"),
    "mechanism": ("privacy", "mechanism"),
    "rho_nano": ("privacy", "rho_nano"),
    "delta_pico": ("privacy", "delta_pico"),
    "currency": ("money", "currency"),
    "amount_minor": ("money", "amount_minor"),
    "journal": ("money", "journal"),
    "result_sha256": ("result", "sha256"),
    "result_bytes": ("result", "bytes"),
}
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00")
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_PROOF = 63


@dataclass(frozen=True)
class ReceiptSigner:
    """The exchange's receipt key with the promise that it makes: the log's origin and the longest wait."""

    key: Signer
    origin: str
    within: timedelta = DEFAULT_WITHIN

    @property
    def verifier_key(self) -> str:
        """The public half as text (`name+id+base64`)."""
        return str(self.key.verifier)

    def issue(self, leaf: bytes, now: datetime) -> dict[str, Any]:
        """A receipt for a committed leaf."""
        return build_receipt(
            leaf, origin=self.origin, signer=self.key, now=now, integrate_by=now + self.within
        )


@dataclass(frozen=True)
class ReceiptReport:
    """What a receipt is worth. `state` is included, promised, overdue or invalid."""

    exit_code: int
    state: str
    findings: tuple[Finding, ...]
    seq: int | None = None
    leaf_hash: str | None = None
    integrate_by: str | None = None
    checkpoint_size: int | None = None
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """True if nothing is wrong: the leaf is proved to be in the log, or the promise still runs."""
        return self.exit_code == GOOD

    def as_document(self) -> dict[str, Any]:
        """The report as JSON: what `--json` prints."""
        return {
            "good": self.good,
            "exit_code": self.exit_code,
            "state": self.state,
            "seq": self.seq,
            "leaf_hash": self.leaf_hash,
            "integrate_by": self.integrate_by,
            "checkpoint_size": self.checkpoint_size,
            "findings": [vars(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        if self.state == "included":
            return f"Entry {self.seq} is in the log of {self.checkpoint_size} entries."
        if self.state == "promised":
            return f"Entry {self.seq} is promised to be in the log by {self.integrate_by}."
        return "\n".join(str(finding) for finding in self.findings)


def build_receipt(
    leaf: bytes, *, origin: str, signer: Signer, now: datetime, integrate_by: datetime
) -> dict[str, Any]:
    """A signed receipt for a committed leaf, still without proof. Raises Malformed for what is no leaf."""
    document = leaves.decode(leaf)
    body = {
        "format": FORMAT,
        "issued_at": timestamp(now),
        "summary": summary_of(document),
        "leaf": base64.b64encode(leaf).decode("ascii"),
        "leaf_hash": merkle.leaf_hash(leaf).hex(),
        "seq": document["seq"],
        "promise": {"origin": origin, "integrate_by": timestamp(integrate_by)},
    }
    key = signer.verifier
    value = base64.b64encode(signer.sign(_message(body))).decode("ascii")
    return {**body, "signature": {"name": key.name, "key_id": key.key_id.hex(), "value": value}}


def attach_inclusion(receipt: Mapping[str, Any], reader: Reader, checkpoint: Checkpoint) -> dict[str, Any]:
    """The receipt with the proof that its leaf is under `checkpoint`, read from the tiles alone.

    Raises:
        Malformed: the leaf is not under this checkpoint yet, or the tiles do not prove it.
    """
    index = receipt["seq"]
    if index >= checkpoint.size:
        raise Malformed("The leaf is not under this checkpoint yet.", hint="Wait for the next checkpoint.")
    proof = tiles.inclusion_proof(reader, index, checkpoint.size)
    hashed = bytes.fromhex(receipt["leaf_hash"])
    if not merkle.verify_inclusion(hashed, index, checkpoint.size, proof, checkpoint.root):
        raise Malformed("The tiles do not prove this leaf; verify the log.")
    inclusion = {
        "index": index,
        "proof": [base64.b64encode(item).decode("ascii") for item in proof],
        "checkpoint": checkpoint.encoded().decode("utf-8"),
    }
    return {**receipt, "inclusion": inclusion}


def summary_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a leaf's document that a receipt shows; amounts stay decimal text."""
    return {name: _member(document, path) for name, path in _SUMMARY.items()}


def verify_receipt(
    receipt: Mapping[str, Any] | bytes | str,
    *,
    receipt_keys: Sequence[str | VerifierKey],
    log_keys: Sequence[str | VerifierKey],
    origin: str,
    now: datetime,
    witnesses: Sequence[str | VerifierKey] = (),
    required: int = 0,
    result: bytes | None = None,
) -> ReceiptReport:
    """Checks a receipt offline against pinned keys; never raises for a bad receipt.

    The signature, the leaf's hash, that the summary says what the leaf says, the result's digest where
    `result` holds the delivered bytes, and - where the receipt carries one - the inclusion proof with its
    checkpoint and witnesses. Without a proof the receipt is good (`promised`) until its time and then
    `overdue`, exit code 10; where witnesses are required, nothing shows that any has signed: exit code 16.
    A promise of more than an hour, or one given in the future, is malformed.

    Raises:
        CryptographyMissing: signatures cannot be checked here.
    """
    try:
        body = _shape(receipt)
        keys = [note.as_verifier(key) for key in receipt_keys]
        trusted, observers = (
            [note.as_verifier(key) for key in log_keys],
            [note.as_verifier(key) for key in witnesses],
        )
        leaf = note.decode_base64(body["leaf"])
        _check_promise(body, now)
    except Malformed as error:
        return _invalid(MALFORMED, str(error))
    if not _is_signed(body, keys):
        return _invalid(SIGNATURE, "No pinned receipt key signed this receipt as it stands.")
    findings, document = _content_findings(body, leaf, origin, result)
    included = body.get("inclusion")
    checkpoint = None
    if included is not None:
        more, checkpoint = _inclusion_findings(body, origin, trusted, observers, required)
        findings += more
    integrate_by = body["promise"]["integrate_by"]
    overdue = included is None and timestamp(now) > integrate_by
    if overdue and not findings:
        text = f"Promised by {integrate_by}, but no proof is attached: ask the exchange for it."
        findings.append(Finding(TRUNCATED, text, seq=body["seq"]))
    if included is None and required > 0:
        text = f"No proof is attached that witnesses could have signed; {required} are required."
        findings.append(Finding(WITNESSES, text, seq=body["seq"]))
    found = tuple(findings)
    code = exit_code_of(finding.exit_code for finding in found)
    state = "included" if included is not None else "promised"
    if code != GOOD:
        state = "overdue" if overdue and code == TRUNCATED else "invalid"
    size = checkpoint.size if checkpoint else None
    return ReceiptReport(code, state, found, body["seq"], body["leaf_hash"], integrate_by, size, document)


def _content_findings(
    body: Mapping[str, Any], leaf: bytes, origin: str, result: bytes | None
) -> tuple[list[Finding], dict[str, Any]]:
    findings = []
    if merkle.leaf_hash(leaf).hex() != body["leaf_hash"]:
        findings.append(Finding(ALTERED, "The leaf does not have the hash that the receipt names."))
    try:
        document = leaves.decode(leaf)
    except Malformed as error:
        return [*findings, Finding(MALFORMED, str(error))], {}
    if document["seq"] != body["seq"] or summary_of(document) != body["summary"]:
        findings.append(Finding(ALTERED, "The receipt's summary does not say what its leaf says."))
    if body["promise"]["origin"] != origin:
        findings.append(Finding(ALTERED, "The receipt promises an entry in another log."))
    if result is not None and hashlib.sha256(result).hexdigest() != body["summary"].get("result_sha256"):
        findings.append(Finding(ALTERED, "The delivered result is not the one that the receipt names."))
    return findings, document


def _inclusion_findings(
    body: Mapping[str, Any],
    origin: str,
    log_keys: Sequence[VerifierKey],
    witnesses: Sequence[VerifierKey],
    required: int,
) -> tuple[list[Finding], Checkpoint | None]:
    inclusion = body["inclusion"]
    try:
        proof = [note.decode_base64(item) for item in inclusion["proof"]]
        checkpoint = checkpoints.open_checkpoint(inclusion["checkpoint"], origin=origin, keys=log_keys)
        cosigners = checkpoints.cosigners(checkpoint, witnesses, log_keys=log_keys)
    except SignatureInvalid as error:
        return [Finding(SIGNATURE, f"The checkpoint in the receipt: {error}")], None
    except Malformed as error:
        return [Finding(MALFORMED, f"The inclusion proof in the receipt: {error}")], None
    findings = []
    hashed = bytes.fromhex(body["leaf_hash"])
    proved = merkle.verify_inclusion(hashed, inclusion["index"], checkpoint.size, proof, checkpoint.root)
    if inclusion["index"] != body["seq"] or not proved:
        findings.append(Finding(ALTERED, "The proof does not lead from the leaf to the checkpoint's root."))
    if len(cosigners) < required:
        text = f"{len(cosigners)} pinned witnesses signed the checkpoint; {required} are required."
        findings.append(Finding(WITNESSES, text))
    return findings, checkpoint


def _is_signed(body: Mapping[str, Any], keys: Sequence[VerifierKey]) -> bool:
    signature = body["signature"]
    try:
        value = note.decode_base64(signature["value"])
    except Malformed:
        return False
    named = [k for k in keys if (k.name, k.key_id.hex()) == (signature["name"], signature["key_id"])]
    message = _message({name: body[name] for name in _SIGNED})
    return any(key.algorithm == note.ED25519 and key.verify(message, value) for key in named)


def _message(body: Mapping[str, Any]) -> bytes:
    """What is signed. The first line keeps the signature from being one of a checkpoint."""
    return f"{FORMAT}\n".encode() + leaves.canonical(dict(body))


def _shape(receipt: Mapping[str, Any] | bytes | str) -> dict[str, Any]:
    """The receipt as a document whose members have their types. Raises Malformed."""
    if isinstance(receipt, (bytes, str)):
        if len(receipt) > MAX_BYTES:
            raise Malformed("The receipt is too large.")
        receipt = leaves.parse(receipt)
    if not isinstance(receipt, Mapping):
        raise Malformed("The receipt is not a JSON object.")
    body = dict(receipt)
    leaves.canonical(body)
    if set(body) - {"inclusion"} != _SIGNED | {"signature"} or body["format"] != FORMAT:
        raise Malformed("The receipt does not have the members of its format.")
    _texts(body, "leaf", "leaf_hash", "issued_at")
    _texts(_object(body, "promise", {"origin", "integrate_by"}), "origin", "integrate_by")
    _texts(_object(body, "signature", {"name", "key_id", "value"}), "name", "key_id", "value")
    _object(body, "summary", set(_SUMMARY))
    if not _HASH.fullmatch(body["leaf_hash"]) or not _counter(body["seq"]):
        raise Malformed("The receipt's leaf hash or sequence number has the wrong form.")
    if not _TIME.fullmatch(body["promise"]["integrate_by"]) or not _TIME.fullmatch(body["issued_at"]):
        raise Malformed("The receipt's times have the wrong form.")
    if body.get("inclusion") is not None:
        _check_inclusion(_object(body, "inclusion", {"index", "proof", "checkpoint"}))
    return body


def _check_promise(body: Mapping[str, Any], now: datetime) -> None:
    try:
        issued, ends = (
            datetime.fromisoformat(text) for text in (body["issued_at"], body["promise"]["integrate_by"])
        )
    except ValueError:
        raise Malformed("The receipt's times have the wrong form.") from None
    if not timedelta() <= ends - issued <= LONGEST:
        raise Malformed("The receipt promises nothing: its time is before it, or more than an hour after it.")
    if issued - now > LONGEST:
        raise Malformed("The receipt is of a time that is still to come.")


def _check_inclusion(inclusion: dict[str, Any]) -> None:
    _texts(inclusion, "checkpoint")
    proof = inclusion["proof"]
    if not _counter(inclusion["index"]) or not isinstance(proof, list) or len(proof) > _MAX_PROOF:
        raise Malformed("The receipt's inclusion proof has the wrong form.")
    if not all(isinstance(item, str) for item in proof):
        raise Malformed("The receipt's inclusion proof has the wrong form.")


def _object(body: Mapping[str, Any], name: str, members: set[str]) -> dict[str, Any]:
    value = body[name]
    if not isinstance(value, dict) or set(value) != members:
        raise Malformed(f"The receipt's {name} does not have the members of its format.")
    return value


def _texts(value: Mapping[str, Any], *names: str) -> None:
    if not all(isinstance(value[name], str) for name in names):
        raise Malformed("A member of the receipt is not text.")


def _counter(value: object) -> bool:
    return type(value) is int and value >= 0


def _member(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = document
    for name in path:
        value = None if value is None else value[name]
    return value


def _invalid(code: int, message: str) -> ReceiptReport:
    return ReceiptReport(code, "invalid", (Finding(code, message),))
