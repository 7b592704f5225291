"""Evidence: entries of the log in one file, with all that is needed to check them without the exchange.

A zip in one spelling (:mod:`exchange.audit.stored_zip`) of the entries with their inclusion proofs, the
checkpoint that these lead to, the journals that the entries name, the acceptances with their receipts, and
the licences.
The manifest names every other member with its digest and is signed by the exchange's receipt key, so that no
byte of the file can change unseen. Standard library, and `cryptography` for signatures.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from exchange.audit import checkpoint as checkpoints
from exchange.audit import leaf as leaves
from exchange.audit import merkle, note, stored_zip
from exchange.audit.acceptances import verify_acceptance
from exchange.audit.errors import Malformed, SignatureInvalid
from exchange.audit.report import ALTERED, GAP, MALFORMED, SIGNATURE, WITNESSES, exit_code_of
from exchange.audit.scan import Findings
from exchange.audit.tiles import open_plain
from exchange.audit.verify import LogReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import IO

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.note import Signer, VerifierKey
    from exchange.audit.stored_zip import Member

FORMAT = "exchange-evidence-zip/v1"
MANIFEST, CHECKPOINT, ENTRIES, LEDGER = "manifest.json", "checkpoint", "entries.jsonl", "ledger.jsonl"
README, VERIFIER = "README.txt", "verify.py"
MOST_ENTRIES = 10_000
"""Entries of one file: a few tens of megabytes, and half a minute for whoever checks it on an old laptop."""
_LONGEST_LINE, _LONGEST_FILE = 4 << 20, 16 << 20
_MOST_PROOF = 63
_BODY = {
    "format",
    "origin",
    "log_key",
    "receipt_key",
    "exchange",
    "exported_at",
    "filters",
    "size",
    "entries",
    "members",
}
_TIMES = {"since", "until"}
_FILTERED: dict[str, tuple[tuple[str, ...], ...]] = {
    "org": (("actor", "org"),),
    "dataset": (("object", "dataset"),),
    "domain": (("privacy", "domain"),),
    "purpose": (("licence", "purpose"),),
    "kind": (("kind",),),
    "outcome": (("outcome",),),
    "q": (("query", "id"), ("id",), ("object", "id"), ("money", "journal")),
}
_DIGEST = re.compile(r"[0-9a-f]{64}")


def write_manifest(body: Mapping[str, Any], signer: Signer) -> bytes:
    """The manifest's bytes: canonical JSON (RFC 8785) of `body` with the signature over it."""
    told = {**body, "format": FORMAT}
    assert set(told) == _BODY, "a manifest has the members of its format"
    key = signer.verifier
    value = base64.b64encode(signer.sign(_message(told))).decode("ascii")
    signature = {"name": key.name, "key_id": key.key_id.hex(), "value": value}
    return leaves.canonical({**told, "signature": signature})


def entry_line(index: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """An entry as a line of `entries.jsonl`."""
    return json_line({"index": index, "leaf": leaf.decode("utf-8"), "proof": [one.hex() for one in proof]})


def journal_line(journal: str, text: str) -> bytes:
    """A journal as a line of `ledger.jsonl`; the SHA-256 of its text is what leaves name."""
    return json_line({"journal": journal, "text": text})


def json_line(document: Mapping[str, Any]) -> bytes:
    """A canonical JSON document (RFC 8785) on a line."""
    return leaves.canonical(dict(document)) + b"\n"


def acceptance_name(acceptance: str) -> str:
    """The member that holds the receipt of an acceptance."""
    return f"acceptances/{acceptance}.json"


def policy_name(sha256: str) -> str:
    """The member that holds a licence's ODRL, by the digest that leaves name."""
    return f"licences/{sha256}.odrl.json"


def text_name(sha256: str) -> str:
    """The member that holds a licence's text, by its digest."""
    return f"licences/{sha256}.txt"


def verify_evidence(
    path: Path | str,
    *,
    origin: str,
    keys: Sequence[str | VerifierKey],
    receipt_keys: Sequence[str | VerifierKey],
    witnesses: Sequence[str | VerifierKey] = (),
    required: int = 0,
) -> LogReport:
    """Checks a file of evidence offline; never raises for a bad one.

    That every byte is covered by the signed manifest; that each entry is in the log under the checkpoint, and
    is one that the filters ask for; that each journal, acceptance and licence which an entry names is there
    and is the one that was named, an acceptance with a proof by the same checkpoint. Where there are no
    filters, also that no entry under the checkpoint is left out; where they are an organisation alone, that
    none of its entries is left out before the last one here: what it did afterwards, nothing here tells.

    Args:
        path: the file.
        origin, keys, receipt_keys: what the log must call itself, and the keys of checkpoints and of
            receipts, known from elsewhere: never take them from the file itself.
        witnesses, required: pinned witness keys, and how many of them must have signed the checkpoint.

    Returns:
        A report with the exit codes of `verify_log`: 11 altered, 13 signature, 14 an entry is missing, 15
        malformed, 16 too few witnesses.

    Raises:
        CryptographyMissing: signatures cannot be checked here.
        OSError: the file cannot be read.
    """
    try:
        logs, receipts, observers = (
            [note.as_verifier(key) for key in some] for some in (keys, receipt_keys, witnesses)
        )
        with open_plain(path) as file:
            found = _Evidence(file, origin, logs, receipts)
            found.check(observers, required)
            return found.report()
    except SignatureInvalid as error:
        return _bad(SIGNATURE, str(error), origin)
    except Malformed as error:
        return _bad(MALFORMED, str(error), origin)


class _Evidence:
    """One file, read member by member; what its entries name is held against what it holds."""

    def __init__(
        self, file: IO[bytes], origin: str, keys: Sequence[VerifierKey], receipt_keys: Sequence[VerifierKey]
    ) -> None:
        self._file, self._origin, self._keys, self._receipt_keys = file, origin, keys, receipt_keys
        self._members = {member.name: member for member in stored_zip.members(file)}
        self._findings = Findings()
        self._journals: dict[str, str] = {}
        self._acceptances: set[str] = set()
        self._policies: set[str] = set()
        self._entries = 0
        self._cosigners: tuple[str, ...] = ()
        self._cosigned_at: int | None = None
        self._head: Checkpoint | None = None

    def report(self) -> LogReport:
        """What was found."""
        return LogReport(
            exit_code_of(self._findings.codes),
            tuple(self._findings.listed),
            self._origin,
            size=self._head.size if self._head else None,
            root=self._head.root if self._head else None,
            entries=self._entries,
            witnesses=self._cosigners,
            more_findings=self._findings.more,
            books=True,
            cosigned_at=self._cosigned_at,
        )

    def check(self, observers: Sequence[VerifierKey], required: int) -> None:
        """Manifest, members, checkpoint, entries, and what they name. Raises Malformed, SignatureInvalid."""
        manifest = self._manifest()
        if not self._covered(manifest):
            return  # what was altered says nothing about the rest
        head = checkpoints.open_checkpoint(self._read(CHECKPOINT), origin=self._origin, keys=self._keys)
        self._head = head
        cosigners = checkpoints.cosigners(head, observers, log_keys=self._keys)
        self._cosigners = tuple(key.name for key in cosigners)
        self._cosigned_at = checkpoints.cosigned_at(head, cosigners)
        if len(cosigners) < required:
            text = f"{len(cosigners)} pinned witnesses signed the checkpoint; {required} are required."
            self._findings.add(WITNESSES, text)
        if (manifest["origin"], manifest["size"]) != (head.origin, head.size):
            self._findings.add(ALTERED, "The manifest is of another checkpoint.", path=MANIFEST)
        self._check_entries(manifest, head)
        self._check_journals()
        self._check_acceptances(manifest["exported_at"])
        self._check_licences()

    def _manifest(self) -> dict[str, Any]:
        data = self._read(MANIFEST)
        manifest = leaves.parse(data)
        if not isinstance(manifest, dict) or leaves.canonical(manifest) != data:
            raise Malformed("The manifest is not canonical JSON.")
        if set(manifest) != _BODY | {"signature"} or manifest["format"] != FORMAT:
            raise Malformed("The manifest does not have the members of its format.")
        if not self._is_signed(manifest):
            raise SignatureInvalid("No pinned receipt key signed the manifest as it stands.")
        _check_manifest(manifest)
        return manifest

    def _is_signed(self, manifest: Mapping[str, Any]) -> bool:
        signature = manifest["signature"]
        if not isinstance(signature, dict) or set(signature) != {"name", "key_id", "value"}:
            raise Malformed("The manifest's signature does not have the members of its format.")
        if not isinstance(signature["value"], str):
            raise Malformed("The manifest's signature is not text.")
        value = note.decode_base64(signature["value"])
        message = _message({name: manifest[name] for name in _BODY})
        named = (signature["name"], signature["key_id"])
        pinned = [key for key in self._receipt_keys if (key.name, key.key_id.hex()) == named]
        return any(key.algorithm == note.ED25519 and key.verify(message, value) for key in pinned)

    def _covered(self, manifest: Mapping[str, Any]) -> bool:
        """Whether the members are those of the manifest, in its order, byte for byte."""
        listed = [member["name"] for member in manifest["members"]]
        if [*listed, MANIFEST] != list(self._members):
            self._findings.add(ALTERED, "The members are not those that the manifest names.", path=MANIFEST)
            return False
        for told in manifest["members"]:
            member, digest = self._members[told["name"]], hashlib.sha256()
            for part in stored_zip.parts(self._file, member):
                digest.update(part)
            if (digest.hexdigest(), member.size) != (told["sha256"], told["size"]):
                self._findings.add(
                    ALTERED, "The member is not the one that the manifest names.", path=member.name
                )
        return not self._findings.codes

    def _check_entries(self, manifest: Mapping[str, Any], head: Checkpoint) -> None:
        filters, before, expected = manifest["filters"], -1, 0
        complete = set(filters) <= {"org"}
        for index, leaf, proof in map(_entry, self._lines(ENTRIES)):
            self._entries += 1
            place = {"seq": index}
            hashed = merkle.leaf_hash(leaf)
            if not merkle.verify_inclusion(hashed, index, head.size, proof, head.root):
                text = "The proof does not lead from the leaf to the checkpoint's root."
                self._findings.add(ALTERED, text, **place)
            try:
                document = leaves.decode(leaf)
            except Malformed as error:
                self._findings.add(MALFORMED, str(error), **place)
                continue
            if document["seq"] != index or index <= before:
                self._findings.add(ALTERED, "The entry is not in its place.", **place)
            if not matches(document, filters):
                self._findings.add(ALTERED, "The filters do not ask for this entry.", **place)
            number = document["org_seq"] if filters else index
            if complete and number != expected:
                self._findings.add(GAP, f"An entry is left out before: {expected} is missing.", **place)
            before, expected = index, (number or 0) + 1
            self._remember(document)
        if self._entries != manifest["entries"]:
            self._findings.add(ALTERED, "The manifest counts other entries.", path=MANIFEST)
        if not filters and expected != head.size:
            self._findings.add(GAP, "Entries at the end of the log are left out.", path=ENTRIES)

    def _remember(self, document: Mapping[str, Any]) -> None:
        money, licence = document["money"] or {}, document["licence"] or {}
        journal, digest = money.get("journal"), str(money.get("journal_sha256"))
        if journal is not None and self._journals.setdefault(journal, digest) != digest:
            self._findings.add(ALTERED, "Two entries name one journal differently.", journal=journal)
        self._acceptances |= {licence["acceptance_id"]} if licence.get("acceptance_id") else set()
        self._policies |= {licence["odrl_sha256"]} if licence.get("odrl_sha256") else set()

    def _check_journals(self) -> None:
        missing = dict(self._journals)
        for line in self._lines(LEDGER):
            journal, text = _members(line, "journal", "text")
            digest = missing.pop(journal, None)
            if digest is None:
                self._findings.add(
                    ALTERED, "No entry names this journal, or it stands twice.", journal=journal
                )
            elif hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != digest:
                text = "The ledger's journal is not the one that was logged."
                self._findings.add(ALTERED, text, journal=journal)
        for journal in sorted(missing):
            self._findings.add(ALTERED, "The journal that an entry names is not here.", journal=journal)

    def _check_acceptances(self, exported_at: str) -> None:
        held = {name for name in self._members if name.startswith("acceptances/")}
        for name in sorted(held ^ {acceptance_name(one) for one in self._acceptances}):
            text = "The acceptances are not those that the entries name."
            self._findings.add(ALTERED, text, path=name)
        now = datetime.fromisoformat(exported_at)
        for name in sorted(held):
            document = leaves.parse(self._read(name))
            if not isinstance(document, Mapping):
                raise Malformed(f"{name} is not a JSON object.")
            report = verify_acceptance(
                document, receipt_keys=self._receipt_keys, log_keys=self._keys, origin=self._origin, now=now
            )
            self._findings.extend(report.findings)
            if report.good and not self._is_under_head(document["receipt"]):
                text = "The acceptance's entry is not proved to be under the checkpoint here."
                self._findings.add(ALTERED, text, path=name)
            accepted = leaves.parse(document["acceptance"]) if report.good else {}
            if report.good and acceptance_name(accepted["id"]) != name:
                self._findings.add(ALTERED, "This is another acceptance.", path=name)
            self._policies |= {str(accepted["odrl_sha256"])} if accepted.get("odrl_sha256") else set()
            self._require(text_name(str(accepted.get("shown_sha256"))), name, wanted=report.good)

    def _is_under_head(self, receipt: Mapping[str, Any]) -> bool:
        """Whether a good receipt proves its entry by the very checkpoint here, whose witnesses were counted.
        A promise is the receipt key's word alone, and another checkpoint may be one that nobody witnessed.
        """
        proved = receipt.get("inclusion")
        return proved is not None and proved["checkpoint"].encode() == self._read(CHECKPOINT)

    def _check_licences(self) -> None:
        for policy in sorted(self._policies):
            self._require(policy_name(policy), ENTRIES)
        for name in self._members:
            if name.startswith("licences/"):
                digest = hashlib.sha256()
                for part in stored_zip.parts(self._file, self._members[name]):
                    digest.update(part)
                if digest.hexdigest() not in name:
                    self._findings.add(ALTERED, "The licence is not the one of its digest.", path=name)

    def _require(self, name: str, by: str, *, wanted: bool = True) -> None:
        if wanted and name not in self._members:
            self._findings.add(ALTERED, f"{name} is named here and is missing.", path=by)

    def _read(self, name: str) -> bytes:
        member = self._member(name)
        if member.size > _LONGEST_FILE:
            raise Malformed(f"{name} is too large.")
        return b"".join(stored_zip.parts(self._file, member))

    def _member(self, name: str) -> Member:
        if name not in self._members:
            raise Malformed(f"The evidence has no {name}.")
        return self._members[name]

    def _lines(self, name: str) -> Iterator[Any]:
        """The JSON documents of a member, line by line. Raises Malformed."""
        rest = b""
        for part in stored_zip.parts(self._file, self._member(name)):
            *lines, rest = (rest + part).split(b"\n")
            yield from map(leaves.parse, lines)
            if len(rest) > _LONGEST_LINE:
                raise Malformed(f"A line of {name} is too long.")
        if rest:
            raise Malformed(f"{name} ends inside a line.")


def matches(document: Mapping[str, Any], filters: Mapping[str, str]) -> bool:
    """Whether a leaf's document is one that the filters of a search ask for; times as leaves write them."""
    at = document["time"]
    if not filters.get("since", at) <= at or ("until" in filters and not at < filters["until"]):
        return False
    equal = {name: value for name, value in filters.items() if name not in _TIMES}
    return all(value in {_value(document, path) for path in _FILTERED[name]} for name, value in equal.items())


def _value(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value = document[path[0]]
    return value if len(path) == 1 or value is None else value[path[1]]


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    texts = ("origin", "log_key", "receipt_key", "exchange", "exported_at")
    filters, listed = manifest["filters"], manifest["members"]
    good = all(isinstance(manifest[name], str) for name in texts)
    good = good and type(manifest["size"]) is int and type(manifest["entries"]) is int
    good = good and isinstance(filters, dict) and set(filters) <= set(_FILTERED) | _TIMES
    good = good and all(isinstance(value, str) for value in filters.values()) and isinstance(listed, list)
    good = good and all(isinstance(one, dict) and set(one) == {"name", "sha256", "size"} for one in listed)
    if not good:
        raise Malformed("The manifest does not have the members of its format.")
    try:
        utc = datetime.fromisoformat(manifest["exported_at"]).utcoffset() == timedelta(0)
    except ValueError:
        utc = False
    if not utc:
        raise Malformed("The manifest's time is not one of ISO 8601 in UTC.")


def _entry(line: Any) -> tuple[int, bytes, list[bytes]]:
    index, leaf, proof = _members(line, "index", "leaf", "proof", kinds=(int, str, list))
    if len(proof) > _MOST_PROOF or not all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in proof):
        raise Malformed("An inclusion proof has the wrong form.")
    return index, leaf.encode("utf-8", "surrogatepass"), [bytes.fromhex(one) for one in proof]


def _members(line: Any, *names: str, kinds: Iterable[type] = (str, str)) -> list[Any]:
    good = isinstance(line, dict) and set(line) == set(names)
    if not good or not all(type(line[name]) is kind for name, kind in zip(names, kinds, strict=True)):
        raise Malformed("A line of the evidence does not have the members of its format.")
    return [line[name] for name in names]


def _message(body: Mapping[str, Any]) -> bytes:
    """What is signed. The first line keeps the signature from being one of a receipt or a checkpoint."""
    return f"{FORMAT}\n".encode() + leaves.canonical(dict(body))


def _bad(code: int, message: str, origin: str) -> LogReport:
    findings = Findings()
    findings.add(code, message)
    return LogReport(code, tuple(findings.listed), origin)
