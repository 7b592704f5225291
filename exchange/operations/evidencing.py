"""A file of evidence is put together: entries with proofs, and from books and register what they name."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from exchange.audit import acceptances as receipts
from exchange.audit import evidence, log, single_file
from exchange.audit import leaf as leaves
from exchange.audit.errors import LogDiverged
from exchange.audit.receipts import attach_inclusion
from exchange.audit.stored_zip import Writer
from exchange.audit.tiles import Folder
from settlement import ledger, licences
from settlement.documents import canonical
from settlement.errors import LicenceNotAccepted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy.orm import Session

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.export import Exported, Head
    from exchange.market import Market

_JOURNALS_AT_ONCE = 200
_READ_ME = """EVIDENCE FROM AN AUDIT LOG

Exchange:  {exchange}
Log:       {origin}
Exported:  {exported_at}
Entries:   {entries} of the first {size} of the log

What this is. Each entry in entries.jsonl was in the log that the exchange signed; nobody can
change, add or remove one afterwards without it being found. ledger.jsonl holds the bookings that
the entries name, acceptances/ the licences that were accepted and by whom, licences/ their texts
and their rules (ODRL), checkpoint the signed state of the log, verify.py the program that checks all
this, manifest.json the digest of every other file here, signed.

How to check it, without the exchange and without a network. You need this file as you received
it, the name of the log, and two public keys: of the log and of receipts. Take the keys from where
the exchange published them or from whoever supervises it. Do not take them from this file: who
forges the file forges the keys in it.

    pip install cryptography
    python verify.py evidence FILE.zip --origin NAME --key KEY --receipt-key KEY

If the log's key was replaced after you noted it down, add --follow-keys KEYS, a file of what the
exchange publishes at /audit/keys: in it each key is vouched for by the one before.

Take verify.py out of this file, or better from a source of your own: the exchange publishes it with
each version, and it is made again, byte for byte, from the published sources. FILE.zip is this very
file as you received it. Do not pack it again: the check is of every byte.

What the answer means, as an exit code:
    0   good: every byte is as it was signed, every entry is in the log, all that they name is here
    11  something was altered, added, removed or put in another order
    13  a signature is missing or false, or the keys are not those of this log
    14  an entry was left out that should be here
    15  the file is damaged or is no evidence
    16  too few witnesses have signed the checkpoint

What it does not say. The file holds the entries that match the filters in manifest.json and that
were under the checkpoint. Without filters, the check finds each entry that is left out. With an
organisation alone, it finds those that are left out before its last entry here. Whether it did more
afterwards, or more entries match other filters, is seen in the whole log: exchange audit verify.
"""


@dataclass
class _Named:
    """What entries name, gathered while they are written."""

    journals: dict[str, str] = field(default_factory=dict)
    acceptances: set[str] = field(default_factory=set)
    policies: set[str] = field(default_factory=set)

    def note(self, document: Mapping[str, Any]) -> None:
        """Remember what one entry names."""
        money, licence = document["money"] or {}, document["licence"] or {}
        if money.get("journal"):
            self.journals[money["journal"]] = money["journal_sha256"]
        if licence.get("acceptance_id"):
            self.acceptances.add(licence["acceptance_id"])
        if licence.get("odrl_sha256"):
            self.policies.add(licence["odrl_sha256"])


def build(
    market: Market,
    head: Head,
    filters: Mapping[str, str],
    checkpoint: Checkpoint,
    entries: Iterable[Exported],
) -> IO[bytes]:
    """A file of evidence, open at its beginning; whoever takes it closes it. Removed from the disk by then.

    Raises LogDiverged where the books or the register do not hold what an entry names: run
    `exchange audit verify`.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever sends it closes it
    try:
        _write(market, file, head, filters, checkpoint, entries)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _write(
    market: Market,
    file: IO[bytes],
    head: Head,
    filters: Mapping[str, str],
    checkpoint: Checkpoint,
    entries: Iterable[Exported],
) -> None:
    writer, listed, named = Writer(file), [], _Named()

    def add(name: str, parts: Iterable[bytes]) -> None:
        digest, size = writer.add(name, parts)
        listed.append({"name": name, "sha256": digest, "size": size})

    told = {"exchange": head.exchange, "origin": head.origin, "exported_at": head.exported_at}
    counted = {"entries": head.entries, "size": checkpoint.size}
    add(evidence.README, [_READ_ME.format(**told, **counted).encode()])
    add(evidence.VERIFIER, [single_file.source().encode()])
    add(evidence.CHECKPOINT, [checkpoint.encoded()])
    add(evidence.ENTRIES, _entries(entries, named))
    add(evidence.LEDGER, _journals(market, named.journals))
    texts: dict[str, bytes] = {}
    for acceptance in sorted(named.acceptances):
        document = _acceptance(market, acceptance, checkpoint, texts, named.policies)
        add(evidence.acceptance_name(acceptance), [document])
    policies = market.store.read(lambda session: licences.policies(session, named.policies))
    if missing := named.policies - set(policies):
        raise LogDiverged(f"There is no licence of the digest {min(missing)}, which an entry names.")
    texts |= {evidence.policy_name(digest): text.encode() for digest, text in policies.items()}
    for name in sorted(texts):
        add(name, [texts[name]])
    keys = {"log_key": head.log_key, "receipt_key": market.receipts.verifier_key}
    body = {"format": evidence.FORMAT, **told, **counted, **keys, "filters": dict(filters), "members": listed}
    writer.add(evidence.MANIFEST, [evidence.write_manifest(body, market.receipts.key)])
    writer.close()


def _entries(entries: Iterable[Exported], named: _Named) -> Iterator[bytes]:
    for entry in entries:
        assert entry.proof is not None, "evidence is of entries under the checkpoint"
        named.note(entry.document)
        yield evidence.entry_line(entry.document["seq"], entry.leaf, entry.proof)


def _journals(market: Market, named: Mapping[str, str]) -> Iterator[bytes]:
    """The journals that entries name, as the books hold them, a few at a time."""
    wanted = sorted(named)
    for start in range(0, len(wanted), _JOURNALS_AT_ONCE):
        some = wanted[start : start + _JOURNALS_AT_ONCE]
        texts = market.store.read(partial(_texts, journals=some))
        for journal in some:
            if journal not in texts:
                raise LogDiverged(f"The books have no journal {journal}, which an entry names.")
            yield evidence.journal_line(journal, texts[journal])


def _texts(session: Session, *, journals: list[str]) -> dict[str, str]:
    return ledger.journal_texts(session, journals)


def _acceptance(
    market: Market, acceptance: str, checkpoint: Checkpoint, texts: dict[str, bytes], policies: set[str]
) -> bytes:
    """The receipt of an acceptance under the checkpoint; its licence's text and policy are noted."""

    def look(session: Session) -> tuple[licences.Acceptance, str, dict[str, str] | None, bytes | None]:
        accepted = licences.find_acceptance(session, acceptance, org=None)
        text = licences.find_licence(session, accepted.licence_id).text
        record = log.find(session, accepted.entry_id or "")
        leaf = None if record is None else record.leaf
        return accepted, text, licences.signature_of(session, acceptance), leaf

    try:
        accepted, text, signature, leaf = market.store.read(look)
    except LicenceNotAccepted:
        leaf = None
    if leaf is None:
        raise LogDiverged(f"The acceptance {acceptance}, which an entry names, is not in the register.")
    texts[evidence.text_name(accepted.shown_sha256)] = text.encode()
    if accepted.odrl_sha256:
        policies.add(accepted.odrl_sha256)
    time = datetime.fromisoformat(leaves.decode(leaf)["time"])
    promise, tiles = market.receipts.issue(leaf, time), Folder(market.settings.log_path)
    document = {
        "format": receipts.FORMAT,
        "acceptance": canonical(licences.document_of(accepted)),
        "signature": signature,
        "receipt": attach_inclusion(promise, tiles, checkpoint),
    }
    return evidence.json_line(document)
