"""The integrator: committed leaves -> entry bundles and tiles -> signed checkpoint, in that order.

A crash between any two writes leaves the previous checkpoint over files that it covers entirely; the next
run continues from that checkpoint and writes the same bytes again. Nothing that contradicts what was
published before is ever published: the run stops with LogDiverged instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from exchange.audit import checkpoint as checkpoints
from exchange.audit import leaf as leaves_format
from exchange.audit import merkle, succession, tiles
from exchange.audit.checkpoint import Checkpoint
from exchange.audit.errors import HeadRefused, LogDiverged, Malformed, SequenceBroken, SignatureInvalid
from exchange.audit.heads import CONFLICT
from exchange.audit.note import Note, VerifierKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.audit.signing import HeadSigner
    from exchange.audit.succession import LogKeys
    from exchange.audit.tiles import Folder

Leaves = Callable[[int], Iterable[bytes]]
"""Gives the committed leaves from a sequence number on, in order and without gaps."""
Cosign = Callable[[Checkpoint], Checkpoint]
"""Gives a checkpoint with signatures of witnesses added."""
Announce = Callable[["LogKeys", bytes], None]
"""Is told the log's keys, and the statements that were published, before others are."""

KEY_PATH = "key"
"""Where the log's verifier key lies beside the checkpoint; whoever verifies pins it from elsewhere."""


def integrate(
    leaves: Leaves,
    folder: Folder,
    signer: HeadSigner,
    origin: str,
    *,
    announce: Announce | None = None,
    cosign: Cosign | None = None,
) -> Checkpoint:
    """Publishes every leaf that is not yet under the checkpoint in `folder`; returns the newest checkpoint.

    Running it again without new leaves changes nothing, but for a new key of the log's, which signs the same
    tree again. The signer is asked for its keys once, and `announce` hears of each statement before it is
    published. `cosign` gives the checkpoint that is published, with witnesses' signatures added, and takes no
    longer than a bound of its own. Memory: one bundle and one tile per level.

    Raises:
        LogDiverged: the database or the folder contradicts the published checkpoint.
        SequenceBroken: a leaf does not carry its own position as its sequence number.
        HeadRefused: the signer has signed what this tree does not continue.
        SignerUnavailable: the signer does not answer; the files are written, and it is asked again next time.
    """
    with folder.exclusively():
        keys = _announced(folder, signer, announce)
        published = _published(folder, keys, origin)
        start = published.size if published else 0
        growth = _Growth(folder, start)
        if growth.range.root() != (published.root if published else merkle.EMPTY_ROOT):
            raise LogDiverged("The published tiles do not produce the published root.")
        for leaf in _from(leaves, folder, start):
            growth.append(leaf)
        if published and growth.range.size == start and _is_signed_by(published, keys):
            _publish(folder, succession.PATH, keys.statements)
            _publish(folder, KEY_PATH, f"{keys.newest}\n".encode())
            return published
        growth.finish()
        size, root = growth.range.size, growth.range.root()
        if tiles.root(folder, size) != root:
            raise LogDiverged("The written tiles do not produce the root of the leaves.")
        checkpoint = _signed(folder, signer, checkpoints.text_of(origin, size, root), start)
        checkpoints.open_checkpoint(checkpoint.encoded(), origin=origin, keys=keys.trusted())
        # The newest key last: whoever reads it finds how it came, and a checkpoint that it signed. Where that
        # is not reached, the next run does it.
        _publish(folder, succession.PATH, keys.statements)
        checkpoint = cosign(checkpoint) if cosign else checkpoint
        folder.replace(checkpoints.PATH, checkpoint.encoded())
        _publish(folder, KEY_PATH, f"{keys.newest}\n".encode())
        growth.remove_replaced()
        return checkpoint


def published_checkpoint(folder: Folder, keys: Sequence[VerifierKey], origin: str) -> Checkpoint | None:
    """The verified checkpoint in `folder`, None before the first one. Raises Malformed, SignatureInvalid."""
    data = folder.read(checkpoints.PATH)
    return None if data is None else checkpoints.open_checkpoint(data, origin=origin, keys=keys)


def published_keys(folder: Folder) -> tuple[VerifierKey, ...]:
    """The keys that a log published of itself, empty before the first. Raises Malformed, SignatureInvalid."""
    data = folder.read(KEY_PATH)
    if data is None:
        return ()
    newest = VerifierKey.parse(data.decode("utf-8", "replace").strip())
    return succession.follow(newest, folder.read(succession.PATH) or b"")


class _Growth:
    """The right edge of the tree on disk while leaves are added to it."""

    def __init__(self, folder: Folder, size: int) -> None:
        self._folder = folder
        self._start = size
        self._edges: list[list[bytes]] = []  # by level: the hashes of its last, partial tile
        self._entries: list[bytes] = []
        self._replaced: list[str] = []
        try:
            self._load(size)
        except Malformed as error:
            raise LogDiverged(f"The published files are damaged: {error}") from None

    def append(self, leaf: bytes) -> None:
        """Adds one leaf and writes the files that it completes."""
        self._entries.append(leaf)
        hashed = merkle.leaf_hash(leaf)
        if len(self._entries) == tiles.WIDTH:
            index = self.range.size // tiles.WIDTH
            self._complete(tiles.bundle_path(index), tiles.encode_bundle(self._entries))
            self._entries = []
        self.range.append(hashed)
        self._add(0, hashed)

    def finish(self) -> None:
        """Writes the partial files of the right edge."""
        size = self.range.size
        if self._entries:
            path = tiles.bundle_path(size // tiles.WIDTH, len(self._entries))
            self._folder.write_once(path, tiles.encode_bundle(self._entries))
        for level, edge in enumerate(self._edges):
            if edge:
                path = tiles.tile_path(level, size >> tiles.HEIGHT * (level + 1), len(edge))
                self._folder.write_once(path, b"".join(edge))

    def remove_replaced(self) -> None:
        """Removes the partial files whose full file now exists under a published checkpoint."""
        for full_path in self._replaced:
            for path in self._folder.list(f"{full_path}.p"):
                self._folder.remove(path)

    def _load(self, size: int) -> None:
        self.range = merkle.CompactRange(size, _peaks(self._folder, size))
        index, width = divmod(size, tiles.WIDTH)
        if width:
            self._entries = tiles.read_bundle(self._folder, index, width)
        level = 0
        while size >> tiles.HEIGHT * level:
            width = (size >> tiles.HEIGHT * level) % tiles.WIDTH
            number = size >> tiles.HEIGHT * (level + 1)
            self._edges.append(tiles.read_tile(self._folder, level, number, width) if width else [])
            level += 1
        if self._entries and [merkle.leaf_hash(entry) for entry in self._entries] != self._edges[0]:
            raise LogDiverged("The last published entries do not match their tile.")

    def _add(self, level: int, hashed: bytes) -> None:
        if level == len(self._edges):
            self._edges.append([])
        edge = self._edges[level]
        edge.append(hashed)
        if len(edge) == tiles.WIDTH:
            index = (self.range.size >> tiles.HEIGHT * (level + 1)) - 1
            self._complete(tiles.tile_path(level, index), b"".join(edge))
            self._edges[level] = []
            self._add(level + 1, merkle.root(edge))

    def _complete(self, path: str, data: bytes) -> None:
        self._folder.write_once(path, data)
        self._replaced.append(path)


def _published(folder: Folder, keys: LogKeys, origin: str) -> Checkpoint | None:
    try:
        return published_checkpoint(folder, keys.trusted(), origin)
    except (Malformed, SignatureInvalid) as error:
        raise LogDiverged(f"The published checkpoint cannot be continued: {error}") from None


def _is_signed_by(checkpoint: Checkpoint, keys: LogKeys) -> bool:
    """Whether the keys that sign now signed it, and none that was replaced."""
    signed = {(one.name, one.key_id) for one in checkpoint.note.signatures}
    known = {(key.name, key.key_id) for key in keys.trusted()}
    return signed & known == {(key.name, key.key_id) for key in keys.current}


def _signed(folder: Folder, signer: HeadSigner, text: str, start: int) -> Checkpoint:
    """The checkpoint, signed. What was signed before and not published is grown from."""
    origin, size, root = checkpoints.parse_text(text)
    try:
        signatures = signer.sign_head(text, start, tiles.consistency_proof(folder, start, size))
    except HeadRefused as refused:
        if refused.status != CONFLICT or refused.size is None or refused.size > size:
            raise
        proof = tiles.consistency_proof(folder, refused.size, size)
        signatures = signer.sign_head(text, refused.size, proof)
    return Checkpoint(origin, size, root, Note(text, signatures))


def _announced(folder: Folder, signer: HeadSigner, announce: Announce | None) -> LogKeys:
    """The keys, once they are announced. The caller holds the folder's lock until they are published."""
    keys, published = signer.keys(), folder.read(succession.PATH) or b""
    if not keys.statements.startswith(published):
        raise LogDiverged("The signer does not know the statements about keys that were published.")
    if announce:
        announce(keys, published)
    return keys


def _publish(folder: Folder, path: str, data: bytes) -> None:
    if data and folder.read(path) != data:
        folder.replace(path, data)


def _from(leaves: Leaves, folder: Folder, start: int) -> Iterable[bytes]:
    """The new leaves, after checking that the database still holds the last published one."""
    # One leaf earlier than needed: a database restored from an old backup would just have nothing new.
    source = iter(leaves(max(0, start - 1)))
    if start:
        last = next(source, None)
        if last is None:
            raise LogDiverged("The database holds fewer entries than were published.")
        index, offset = divmod(start - 1, tiles.WIDTH)
        published = tiles.read_tile(folder, 0, index, tiles.width_of(0, index, start))[offset]
        if merkle.leaf_hash(last) != published:
            raise LogDiverged("The database holds another entry than was published in the last place.")
    for seq, leaf in enumerate(source, start):
        if leaves_format.decode(leaf)["seq"] != seq:
            raise SequenceBroken(f"The leaf at position {seq} carries another sequence number.")
        yield leaf


def _peaks(folder: Folder, size: int) -> list[bytes]:
    node, start, hashes = tiles.nodes(folder, size), 0, []
    for height in range(size.bit_length() - 1, -1, -1):
        if size >> height & 1:
            hashes.append(node(height, start >> height))
            start += 1 << height
    return hashes
