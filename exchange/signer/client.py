"""The worker's side of the socket: a HeadSigner that holds no key."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING

from exchange.audit import note as notes
from exchange.audit.bounded import Deadline
from exchange.audit.errors import HeadRefused, Malformed, SignerUnavailable
from exchange.audit.heads import FORBIDDEN, Growth
from exchange.audit.succession import LogKeys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exchange.audit.note import Signature

WITHIN_S = 5.0
_MOST_BYTES = 262_144
_STATUS = re.compile(r"([1-5][0-9]{2})(?: ([0-9]{1,19}))?")


class SignerClient:
    """Asks the signer on a socket, for at most `within_s` seconds each time."""

    def __init__(self, path: Path, *, within_s: float = WITHIN_S) -> None:
        self._path = path
        self._within_s = within_s

    def keys(self) -> LogKeys:
        """The keys that sign now. Raises SignerUnavailable."""
        told, separator, statements = self._ask(b"keys\n").partition(b"\n\n")
        if not separator:
            raise Malformed("The signer's answer is not its keys.")
        current = [notes.VerifierKey.parse(line) for line in told.decode("utf-8", "replace").split("\n")]
        return LogKeys(tuple(current), statements)

    def sign_head(self, text: str, old_size: int, proof: Sequence[bytes]) -> tuple[Signature, ...]:
        """Signatures over a checkpoint's text.

        Raises:
            HeadRefused: it does not continue what the signer signed last.
            SignerUnavailable: no answer, or none of a signer's.
        """
        body = self._ask(b"sign\n" + Growth(old_size, tuple(proof), text.encode()).encoded())
        return notes.parse_signatures(text, body).signatures

    def _ask(self, request: bytes) -> bytes:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._within_s)
                connection.connect(str(self._path))
                # Who may not ask is told so before he has.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(request)
                    connection.shutdown(socket.SHUT_WR)
                reply = Deadline(connection, self._within_s).read_all(_MOST_BYTES)
        except OSError as error:
            raise SignerUnavailable(f"The signer does not answer: {type(error).__name__}.") from None
        first, _, body = reply.partition(b"\n")
        match = _STATUS.fullmatch(first.decode("utf-8", "replace"))
        if match is None or len(reply) > _MOST_BYTES:
            raise SignerUnavailable("What answers on the socket is no signer.")
        if match[1] == "200":
            return body
        message = body.decode("utf-8", "replace").strip()[:200]
        if match[1].startswith("5") or int(match[1]) == FORBIDDEN:
            raise SignerUnavailable(message)
        raise HeadRefused(message, status=int(match[1]), size=int(match[2]) if match[2] else None)
