"""Receipts of licence acceptances: the acceptance, the log's receipt for it, and the buyer's signature.

The receipt of the log (:mod:`exchange.audit.receipts`) fixes the SHA-256 of the acceptance's canonical JSON;
the buyer may have signed the same digest with a key of its own. All of it is checked offline.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from exchange.audit import leaf as leaves
from exchange.audit import note
from exchange.audit.errors import CryptographyMissing, Malformed
from exchange.audit.receipts import ReceiptReport, verify_receipt
from exchange.audit.report import ALTERED, MALFORMED, SIGNATURE, Finding, exit_code_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exchange.audit.note import VerifierKey

FORMAT = "exchange-acceptance/v1"
ALGORITHMS = ("Ed25519", "ES256")
_MEMBERS = {"format", "acceptance", "signature", "receipt"}
_KINDS = ("access.requested", "licence.accepted")
_SAME = {"id": "acceptance_id", "odrl_sha256": "odrl_sha256", "org": "org", "entry_id": "entry_id"}


def message_of(digest: str) -> bytes:
    """What a buyer signs: the format and the digest of the acceptance in hex, a line each."""
    return f"{FORMAT}\n{digest}\n".encode()


def is_acceptance(document: Mapping[str, Any]) -> bool:
    """Whether a document is a receipt of an acceptance, by its format."""
    return document.get("format") == FORMAT


def signature_holds(algorithm: str, public_key: str, signature: str, digest: str) -> bool:
    """Whether a signature over the digest of an acceptance is one of the key.

    ``Ed25519`` (RFC 8032): 32 bytes of key, 64 of signature. ``ES256`` (RFC 7518, 3.4): an uncompressed point
    of P-256 (65 bytes), and r and s (64 bytes). All in base64.

    Raises:
        Malformed: another algorithm, or bytes of another form.
        CryptographyMissing: signatures cannot be checked here.
    """
    key, value = note.decode_base64(public_key), note.decode_base64(signature)
    if algorithm not in ALGORITHMS or len(value) != 64 or len(key) != (32 if algorithm == "Ed25519" else 65):
        raise Malformed(
            f"A signature is Ed25519 or ES256, with keys and values of their lengths: {algorithm}."
        )
    if algorithm == "Ed25519":
        return note.VerifierKey("buyer", key).verify(message_of(digest), value)
    return _es256(key, value, message_of(digest))


def verify_acceptance(
    document: Mapping[str, Any],
    *,
    receipt_keys: Sequence[str | VerifierKey],
    log_keys: Sequence[str | VerifierKey],
    origin: str,
    now: datetime,
    witnesses: Sequence[str | VerifierKey] = (),
    required: int = 0,
    licence_text: bytes | None = None,
) -> ReceiptReport:
    """Checks the receipt of an acceptance offline; never raises for a bad one.

    That the log's receipt stands, that it fixes this very acceptance, that the buyer's signature (where there
    is one) is over it, and that ``licence_text`` (where it is given) is the text that was shown.

    Raises:
        CryptographyMissing: signatures cannot be checked here.
    """
    if set(document) != _MEMBERS or document["format"] != FORMAT:
        return _invalid("The receipt does not have the members of its format.")
    text, receipt = document["acceptance"], document["receipt"]
    if not isinstance(text, str) or not isinstance(receipt, Mapping):
        return _invalid("A member of the receipt has the wrong form.")
    try:
        accepted = leaves.parse(text)
    except Malformed as error:
        return _invalid(str(error))
    if not isinstance(accepted, dict) or not isinstance(accepted.get("id"), str):
        return _invalid("The acceptance is not a JSON object with an id.")
    data = text.encode("utf-8", "surrogatepass")
    report = verify_receipt(
        receipt,
        receipt_keys=receipt_keys,
        log_keys=log_keys,
        origin=origin,
        now=now,
        witnesses=witnesses,
        required=required,
        result=data,
    )
    found = [*_told_findings(accepted, receipt), *_signature_findings(document["signature"], data)]
    if licence_text is not None and hashlib.sha256(licence_text).hexdigest() != accepted.get("shown_sha256"):
        found.append(Finding(ALTERED, "The text is not the one that was shown and accepted."))
    if not found:
        return report
    findings = (*report.findings, *found)
    code = exit_code_of(one.exit_code for one in findings)
    return dataclasses.replace(report, exit_code=code, state="invalid", findings=findings)


def _told_findings(accepted: Mapping[str, Any], receipt: Mapping[str, Any]) -> list[Finding]:
    """The entry is one of an acceptance, and names what the acceptance says."""
    summary = receipt.get("summary")
    told = summary if isinstance(summary, Mapping) else {}
    same = all(accepted.get(name) == told.get(member) for name, member in _SAME.items())
    if told.get("kind") in _KINDS and same:
        return []
    return [Finding(ALTERED, "The entry of the log is not the one of this acceptance.")]


def _signature_findings(signature: Any, data: bytes) -> list[Finding]:
    if signature is None:
        return []
    try:
        algorithm, key, value = (signature[name] for name in ("algorithm", "public_key", "signature"))
        good = signature_holds(str(algorithm), str(key), str(value), hashlib.sha256(data).hexdigest())
    except (KeyError, TypeError, Malformed) as error:
        return [Finding(MALFORMED, f"The buyer's signature cannot be read: {error}")]
    return [] if good else [Finding(SIGNATURE, "The buyer's signature is not over this acceptance.")]


def _es256(key: bytes, value: bytes, message: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils
    except ImportError:
        raise CryptographyMissing("Signatures need the cryptography package.") from None
    r, s = int.from_bytes(value[:32], "big"), int.from_bytes(value[32:], "big")
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
        public.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _invalid(message: str) -> ReceiptReport:
    return ReceiptReport(MALFORMED, "invalid", (Finding(MALFORMED, message),))
