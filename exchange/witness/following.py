"""A log as its public files show it: to be followed, and to be held against what was cosigned elsewhere."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from exchange.audit import checkpoint as checkpoints
from exchange.audit import merkle, tiles
from exchange.audit.errors import AuditError, Malformed
from exchange.audit.heads import Growth
from exchange.audit.report import FORK, TRUNCATED, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exchange.audit.checkpoint import Checkpoint
    from exchange.audit.note import VerifierKey
    from exchange.witness.witness import Answer, Witness

WITHIN_S = 20.0


class LogUnavailable(Exception):
    """The log's files cannot be fetched now."""

    code = "log_unavailable"


class PublishedLog:
    """The files beneath a log's address. No redirect is followed."""

    def __init__(self, url: str) -> None:
        """Raises Malformed for what is not an http(s) address."""
        found = urlsplit(url)
        if found.scheme not in ("http", "https") or not found.hostname or found.query or found.username:
            raise Malformed("The log's address is https://HOST/audit, without a login.")
        self._host, self._tls, self._path = found.netloc, found.scheme == "https", found.path.rstrip("/")

    def read(self, path: str) -> bytes | None:
        """A file's bytes, None where there is none. Raises LogUnavailable."""
        made: http.client.HTTPConnection
        if self._tls:
            made = http.client.HTTPSConnection(
                self._host, timeout=WITHIN_S, context=ssl.create_default_context()
            )
        else:
            made = http.client.HTTPConnection(self._host, timeout=WITHIN_S)
        with contextlib.closing(made):
            try:
                made.connect()
                with _ended(made.sock):
                    made.request("GET", quote(f"{self._path}/{path}"), headers={"Connection": "close"})
                    reply = made.getresponse()
                    data = reply.read(tiles.MAX_FILE_BYTES + 1)
            except (OSError, http.client.HTTPException) as error:
                raise LogUnavailable(f"the log does not answer: {type(error).__name__}") from None
        if reply.status == 404:
            return None
        if reply.status != 200 or len(data) > tiles.MAX_FILE_BYTES:
            raise LogUnavailable(f"the log answers {reply.status} to {path}")
        return data


@contextlib.contextmanager
def _ended(connection: socket.socket) -> Iterator[None]:
    """A connection that lasts for so long in all, however it drips."""

    def end() -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(WITHIN_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def newest(log: tiles.Reader) -> Checkpoint:
    """The checkpoint that a log shows, not verified. Raises LogUnavailable, Malformed."""
    data = log.read(checkpoints.PATH)
    if data is None:
        raise LogUnavailable("the log has no checkpoint")
    return checkpoints.parse_checkpoint(data)


def follow_once(log: tiles.Reader, witness: Witness) -> Answer:
    """Show the witness the log's newest checkpoint, with the proof from the last one that it knows.

    Raises LogUnavailable, Malformed where there is no checkpoint or the tiles give no proof.
    """
    checkpoint = newest(log)
    try:
        last = witness.newest(checkpoint.origin)
        old_size = min(last.size, checkpoint.size)
    except AuditError:
        old_size = 0  # the witness says why
    proof = tiles.consistency_proof(log, old_size, checkpoint.size)
    return witness.add_checkpoint(Growth(old_size, tuple(proof), checkpoint.encoded()).encoded())


@dataclass(frozen=True)
class Seen:
    """A checkpoint of a log, and where it lay."""

    place: str
    checkpoint: Checkpoint


def seen_in(files: Iterable[tuple[str, bytes]], logs: Mapping[str, Sequence[VerifierKey]]) -> list[Seen]:
    """The checkpoints among files that a known log signed; whatever else lies there is left out."""
    found = []
    for place, data in files:
        with contextlib.suppress(AuditError):
            checkpoint = checkpoints.parse_checkpoint(data)
            keys = logs.get(checkpoint.origin, ())
            found.append(Seen(place, checkpoints.open_checkpoint(data, origin=checkpoint.origin, keys=keys)))
    return found


def compare(seen: Sequence[Seen], log: tiles.Reader | None, keys: Sequence[VerifierKey]) -> list[Finding]:
    """What is wrong among checkpoints of one log: two trees of one size, and, with the log, what it left.

    Each finding names the file that proves it: the log signed it.
    """
    findings, by_size = [], dict[int, Seen]()
    for one in seen:
        first = by_size.setdefault(one.checkpoint.size, one)
        if first.checkpoint.root != one.checkpoint.root:
            text = f"The log signed another tree of {one.checkpoint.size} entries in {first.place}."
            findings.append(Finding(FORK, text, path=one.place))
    if log is not None and seen:
        findings += _held_against(list(by_size.values()), log, keys)
    return findings


def _held_against(seen: Sequence[Seen], log: tiles.Reader, keys: Sequence[VerifierKey]) -> list[Finding]:
    origin = seen[0].checkpoint.origin
    now = checkpoints.open_checkpoint(newest(log).encoded(), origin=origin, keys=keys)
    findings = []
    for one in seen:
        size, root = one.checkpoint.size, one.checkpoint.root
        if size > now.size:
            text = f"The log shows {now.size} entries, and signed {size} before."
            findings.append(Finding(TRUNCATED, text, path=one.place))
            continue
        proof = tiles.consistency_proof(log, size, now.size) if 0 < size < now.size else []
        if not merkle.verify_consistency(size, now.size, proof, root, now.root):
            text = f"The log that is shown does not continue the tree of {size} entries that it signed."
            findings.append(Finding(FORK, text, path=one.place))
    return findings
