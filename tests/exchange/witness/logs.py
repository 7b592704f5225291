"""A log that may show two histories, and witnesses of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from exchange.audit import checkpoint, merkle
from exchange.audit.heads import Growth
from exchange.audit.note import SigningKey
from exchange.witness import configuration, server
from exchange.witness.archive import FolderArchive
from exchange.witness.configuration import Configuration
from exchange.witness.witness import Answer, Witness
from tests.exchange.audit.samples import ORIGIN, SIGNER

HASHES = [merkle.leaf_hash(bytes([number])) for number in range(100)]
OTHERS = [*HASHES[:25], *HASHES[30:]]
"""The same beginning of 25 entries, and another end."""


def head(size: int, hashes: list[bytes] = HASHES, *, key: SigningKey = SIGNER, origin: str = ORIGIN) -> bytes:
    return checkpoint.sign_checkpoint(origin, size, merkle.root(hashes[:size]), key).encoded()


def proof(old: int, new: int, hashes: list[bytes] = HASHES) -> tuple[bytes, ...]:
    return tuple(merkle.consistency_proof(hashes[:new], old)) if 0 < old < new else ()


def growth(old: int, new: int, hashes: list[bytes] = HASHES) -> bytes:
    """The body of an honest request."""
    return Growth(old, proof(old, new, hashes), head(new, hashes)).encoded()


def made(folder: Path, number: int = 1, *, archive: str = "archive") -> Configuration:
    return configuration.create(
        folder,
        name=f"compliance.example/{number}",
        log_keys=[str(SIGNER.verifier)],
        archive=archive,
        listen="127.0.0.1:0",
    )


def witness(told: Configuration) -> Witness:
    return Witness(told, FolderArchive(told.folder / told.archive) if told.archive else None)


@contextlib.contextmanager
def serving(one: Witness) -> Iterator[int]:
    """Serves a witness; gives its port."""
    with server.WitnessServer("127.0.0.1", 0, one) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()
            thread.join()


def signed(answer: Answer) -> bool:
    """Whether an answer carries a signature; only one of status 200 may."""
    carries = "—" in answer.body
    assert carries == (answer.status == 200), answer
    return carries
