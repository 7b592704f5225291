"""One pass over a published log: bundles, tiles and a database's copy side by side, 256 entries at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from exchange.audit import leaf as leaves
from exchange.audit import merkle, tiles
from exchange.audit.chain import SequenceCheck
from exchange.audit.errors import Malformed
from exchange.audit.rebuild import MISSING, Rebuild
from exchange.audit.report import ALTERED, FORK, GAP, MALFORMED, TRUNCATED, Finding

if TYPE_CHECKING:
    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.tiles import Reader

MOST_FINDINGS = 1_000
"""Findings that a report lists; what is found beyond is counted."""

Also = Callable[[Sequence[Mapping[str, Any]]], Iterable[Finding]]
"""Is given the documents of each bundle while it is verified, in order, and says what is wrong with them."""


class StoredLeaf(Protocol):
    """A database's copy of an entry (`exchange.audit.log.Record`)."""

    @property
    def seq(self) -> int:
        """Sequence number of the row."""

    @property
    def id(self) -> str:
        """Entry id of the row."""

    @property
    def leaf(self) -> bytes:
        """Leaf bytes of the row."""

    @property
    def leaf_hash(self) -> bytes:
        """Leaf hash of the row."""


class Findings:
    """Keeps the first thousand findings and the codes of all."""

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self.codes: set[int] = set()
        self.more = 0

    def add(self, code: int, message: str, **place: int | str | None) -> None:
        """Adds a finding at a place."""
        self.extend([Finding(code, message, **place)])  # type: ignore[arg-type]

    def extend(self, findings: Iterable[Finding]) -> None:
        """Adds findings."""
        for finding in findings:
            self.codes.add(finding.exit_code)
            if len(self.listed) < MOST_FINDINGS:
                self.listed.append(finding)
            else:
                self.more += 1


@dataclass(frozen=True)
class _Bundle:
    """One bundle of the log: its entries and what entries and tile say that the leaf hashes are."""

    first: int
    path: str
    tile_path: str
    entries: Sequence[bytes]
    from_entries: Sequence[bytes]
    from_tile: Sequence[bytes]


class Scan:
    """Verifies the tree under `checkpoint` and what its leaves say. Call `run` once."""

    def __init__(
        self,
        reader: Reader,
        checkpoint: Checkpoint,
        findings: Findings,
        *,
        pinned: Checkpoint | None,
        database: Iterable[StoredLeaf] | None,
        promised: Mapping[int, bytes],
        also: Also | None = None,
    ) -> None:
        self._reader = reader
        self._checkpoint = checkpoint
        self._findings = findings
        self._pinned = pinned
        self._promised = promised
        self._also = also
        self._sequence = SequenceCheck()
        self._database = _Database(database, findings) if database is not None else None
        # Where entries and tiles differ, the signed root decides which were altered: both are followed.
        pinned_size = pinned.size if pinned else None
        self._entries_tree = Rebuild(reader, pinned_size=pinned_size)
        self._tiles_tree = Rebuild(reader, pinned_size=pinned_size)
        self._differences: list[tuple[int, _Bundle]] = []
        self.entries = 0
        self.unpublished = 0

    def run(self) -> None:
        """Reads the whole log once."""
        size = self._checkpoint.size
        complete = True
        for index in range(-(-size // tiles.WIDTH)):
            bundle = self._read(index, tiles.width_of(0, index, size))
            if bundle is None:
                complete = False
                break
            self._extend(bundle)
            self._check_entries(bundle)
        if complete:
            self._check_root()
            if self._database is not None:
                self.unpublished = self._database.check_tail(size, self._sequence)
        else:
            self._report_differences("Entry and tile differ.", by_tile=False)
        for seq in sorted(s for s in self._promised if s >= size):
            self._findings.add(
                TRUNCATED, "A receipt promises this entry, and the log ends before it.", seq=seq
            )

    def _read(self, index: int, width: int) -> _Bundle | None:
        """The bundle and its tile, or None where what is left of them does not determine the leaf hashes."""
        bundle_path, tile_path = tiles.bundle_path(index, width), tiles.tile_path(0, index, width)
        entries = self._read_entries(index, width)
        hashes = self._read_hashes(index, width)
        if hashes is None and len(entries or ()) < width:
            return None
        computed = [merkle.leaf_hash(entry) for entry in entries or ()]
        from_tile = hashes or computed
        from_entries = [*computed, *from_tile[len(computed) :]]
        return _Bundle(index * tiles.WIDTH, bundle_path, tile_path, entries or (), from_entries, from_tile)

    def _read_entries(self, index: int, width: int) -> list[bytes] | None:
        path, data = self._find(tiles.bundle_path(index), width)
        if data is None:
            self._findings.add(TRUNCATED, "Entries that the checkpoint counts are missing.", path=path)
            return None
        entries, rest = _complete_entries(data)
        expected = width if ".p/" in path else tiles.WIDTH
        if rest or len(entries) > expected:
            self._findings.add(ALTERED, "The bundle does not consist of its entries.", path=path)
        elif len(entries) < expected:
            text = f"{expected - len(entries)} entries are missing at the bundle's end."
            self._findings.add(TRUNCATED, text, path=path)
        return entries[:width]

    def _read_hashes(self, index: int, width: int) -> list[bytes] | None:
        path, data = self._find(tiles.tile_path(0, index), width)
        if data is None:
            self._findings.add(TRUNCATED, "A tile that the checkpoint needs is missing.", path=path)
            return None
        expected = width if ".p/" in path else tiles.WIDTH
        if len(data) != expected * merkle.HASH_BYTES:
            self._findings.add(ALTERED, f"The tile does not have {expected} hashes.", path=path)
            return None
        return [data[i * merkle.HASH_BYTES : (i + 1) * merkle.HASH_BYTES] for i in range(width)]

    def _find(self, full_path: str, width: int) -> tuple[str, bytes | None]:
        path = full_path if width == tiles.WIDTH else f"{full_path}.p/{width}"
        try:
            return tiles.find(self._reader, full_path, width) or (path, None)
        except Malformed as error:
            self._findings.add(ALTERED, str(error), path=path)
            return path, None

    def _extend(self, bundle: _Bundle) -> None:
        full = len(bundle.from_entries) == tiles.WIDTH
        perfect = merkle.root(bundle.from_entries) if full else None
        same = bundle.from_entries == bundle.from_tile
        self._entries_tree.extend(bundle.from_entries, perfect)
        other = merkle.root(bundle.from_tile) if full and not same else perfect
        self._tiles_tree.extend(bundle.from_tile, other)

    def _check_entries(self, bundle: _Bundle) -> None:
        both, documents = zip(bundle.from_entries, bundle.from_tile, strict=True), []
        for offset, (from_entry, from_tile) in enumerate(both):
            seq = bundle.first + offset
            document = None
            if from_entry != from_tile:
                if len(self._differences) < MOST_FINDINGS:
                    self._differences.append((seq, bundle))
            elif offset < len(bundle.entries):
                document = self._decode(seq, bundle.entries[offset], bundle.path)
            if document is None:
                self._sequence.skip()
            else:
                self._findings.extend(self._sequence.check(document, from_entry))
                self.entries += 1
                documents.append(document)
            entry_id = None if document is None else str(document["id"])
            if self._database is not None:
                self._database.compare(seq, entry_id, {from_entry, from_tile})
            if self._promised.get(seq, from_entry) not in (from_entry, from_tile):
                text = "A receipt promises another entry in this place."
                self._findings.add(ALTERED, text, seq=seq, id=entry_id)
        if self._also is not None:
            self._findings.extend(self._also(documents))

    def _decode(self, seq: int, entry: bytes, path: str) -> dict[str, Any] | None:
        try:
            return leaves.decode(entry)
        except Malformed as error:
            self._findings.add(MALFORMED, str(error), seq=seq, path=path)
            return None

    def _check_root(self) -> None:
        self._entries_tree.finish()
        self._tiles_tree.finish()
        if self._entries_tree.range.root() == self._checkpoint.root:
            authentic: Rebuild | None = self._entries_tree
            self._report_differences("The tile does not match the signed entries.", by_tile=True)
        elif self._tiles_tree.range.root() == self._checkpoint.root:
            authentic = self._tiles_tree
            self._report_differences("The entry was altered, inserted or moved.", by_tile=False)
        else:
            authentic = None
            self._report_differences("Entry and tile differ.", by_tile=False)
            self._findings.add(ALTERED, "Neither the entries nor the tiles produce the signed root.")
        for path, problem in (authentic or self._entries_tree).problems:
            if problem == MISSING:
                self._findings.add(TRUNCATED, "A tile that the checkpoint needs is missing.", path=path)
            else:
                self._findings.add(ALTERED, "The tile does not match the tree below it.", path=path)
        self._check_pinned(authentic)

    def _check_pinned(self, authentic: Rebuild | None) -> None:
        pinned = self._pinned
        if pinned is None or authentic is None or pinned.size >= self._checkpoint.size:
            return  # equal and larger sizes were compared before the scan
        if authentic.pinned_root != pinned.root:
            text = f"The first {pinned.size} entries are not those of the pinned checkpoint."
            self._findings.add(FORK, text)

    def _report_differences(self, text: str, *, by_tile: bool) -> None:
        named: set[str] = set()
        for seq, bundle in self._differences:
            if not by_tile:
                entry_id = _id_of(bundle.entries, seq - bundle.first)
                self._findings.add(ALTERED, text, seq=seq, id=entry_id, path=bundle.path)
            elif bundle.tile_path not in named:
                named.add(bundle.tile_path)
                self._findings.add(ALTERED, text, path=bundle.tile_path)


class _Database:
    """The database's entries, in order, held against the published ones."""

    def __init__(self, rows: Iterable[StoredLeaf], findings: Findings) -> None:
        self._rows = iter(rows)
        self._findings = findings
        self._row: StoredLeaf | None = None
        self._ended = False
        self._missing_until = 0
        self._advance()

    def compare(self, seq: int, entry_id: str | None, hashes: set[bytes]) -> None:
        """Compares the row of `seq` with the published leaf's hash."""
        self._pass_before(seq)
        row = self._row
        if row is None:
            if not self._ended:
                text = "The database ends before entries that are published: truncated, or an old backup."
                self._findings.add(TRUNCATED, text, seq=seq, id=entry_id)
            self._ended = True
            return
        if row.seq > seq:
            if seq >= self._missing_until:
                text = f"Entries {seq} to {row.seq - 1} are missing from the database."
                self._findings.add(GAP, text, seq=seq, id=entry_id)
            self._missing_until = row.seq
            return
        self._check_row(row, entry_id, hashes)
        self._advance()

    def check_tail(self, size: int, sequence: SequenceCheck) -> int:
        """Checks the rows beyond the published tree for sequence and chains; returns how many there are."""
        self._pass_before(size)
        count = 0
        while self._row is not None:
            row, count = self._row, count + 1
            hashed = merkle.leaf_hash(row.leaf)
            try:
                document = leaves.decode(row.leaf)
            except Malformed as error:
                sequence.skip()
                code = MALFORMED if hashed == row.leaf_hash else ALTERED
                self._findings.add(code, f"The unpublished leaf: {error}", seq=row.seq, id=row.id)
            else:
                if hashed != row.leaf_hash or (row.seq, row.id) != (document["seq"], document["id"]):
                    text = "The unpublished leaf does not match its row's number, id or hash."
                    self._findings.add(ALTERED, text, seq=row.seq, id=row.id)
                self._findings.extend(sequence.check(document, hashed))
            self._advance()
        return count

    def _check_row(self, row: StoredLeaf, entry_id: str | None, hashes: set[bytes]) -> None:
        hashed = merkle.leaf_hash(row.leaf)
        if hashed not in hashes:
            text = "The database's leaf is not the published one."
            self._findings.add(ALTERED, text, seq=row.seq, id=entry_id or row.id)
        elif hashed != row.leaf_hash:
            text = "The database's leaf hash is not that of its leaf."
            self._findings.add(ALTERED, text, seq=row.seq, id=entry_id or row.id)
        elif entry_id is not None and entry_id != row.id:
            self._findings.add(ALTERED, "The database names another id.", seq=row.seq, id=entry_id)

    def _pass_before(self, seq: int) -> None:
        while self._row is not None and self._row.seq < seq:
            text = "The database has an entry that is repeated or out of order."
            self._findings.add(ALTERED, text, seq=self._row.seq, id=self._row.id)
            self._advance()

    def _advance(self) -> None:
        self._row = next(self._rows, None)


def _complete_entries(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole entries at the beginning of a bundle, and the bytes after them that are none."""
    entries, position = [], 0
    while len(data) - position >= 2:
        end = position + 2 + int.from_bytes(data[position : position + 2], "big")
        if end > len(data):
            break
        entries.append(data[position + 2 : end])
        position = end
    return entries, data[position:]


def _id_of(entries: Sequence[bytes], offset: int) -> str | None:
    """The id that the leaf as found claims, where it can be read."""
    try:
        return str(leaves.decode(entries[offset])["id"])
    except (IndexError, Malformed):
        return None
