"""The signer's side of the socket."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import socketserver
import struct
from typing import TYPE_CHECKING, Any

from exchange.audit.bounded import Bounded, Deadline
from exchange.audit.errors import AuditError, HeadRefused, Malformed
from exchange.audit.heads import BAD, FORBIDDEN, MAX_REQUEST_BYTES, Growth
from exchange.audit.note import signature_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from exchange.audit.signing import LogSigner

LONGEST_S = 5.0
_CREDENTIALS = struct.Struct("3i")  # ucred of unix(7): pid, uid, gid
_LOG = logging.getLogger("exchange.signer")


class SignerServer(Bounded, socketserver.UnixStreamServer):
    """Serves the log's signer on a socket to processes of the given users."""

    def __init__(self, path: Path, signer: Callable[[], LogSigner], uids: Collection[int]) -> None:
        """`signer` is asked anew for each request, so that a key that was added signs without a restart.

        Raises OSError where another process answers on the socket already.
        """
        self.signer, self.uids = signer, frozenset(uids)
        _remove_dead(path)
        before = os.umask(0o117)  # 0660 from the first moment
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(before)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the user at the other end may ask. Others are told so, and hold no connection."""
        del client_address
        data = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(data)
        if uid in self.uids:
            return True
        _LOG.warning("the user with the id %d may not ask", uid)
        request.setblocking(False)
        with contextlib.suppress(OSError):
            request.sendall(f"{FORBIDDEN}\nThe signer does not answer this user.\n".encode())
        return False


class _Handler(socketserver.BaseRequestHandler):
    server: SignerServer
    request: socket.socket

    def handle(self) -> None:
        """Answer one request."""
        asked = Deadline(self.request, LONGEST_S).read_all(MAX_REQUEST_BYTES)
        self.request.settimeout(LONGEST_S)
        self.request.sendall(_answer(self.server.signer, asked))


def _answer(signer: Callable[[], LogSigner], asked: bytes) -> bytes:
    verb, _, body = asked.partition(b"\n")
    try:
        if verb == b"keys" and not body:
            return b"200\n" + _keys(signer())
        if verb == b"sign":
            return b"200\n" + _signatures(signer(), body)
    except HeadRefused as refused:
        _LOG.error("refused: %s", refused)
        size = "" if refused.size is None else f" {refused.size}"
        return f"{refused.status}{size}\n{refused}\n".encode()
    except AuditError as error:
        _LOG.error("refused: %s", error)
        return f"{BAD}\n{error}\n".encode()
    except OSError as error:  # a full disk: what cannot be remembered is not signed
        _LOG.error("nothing is signed: %s", error.strerror)
        return b"500\nThe signer cannot keep what it signs.\n"
    return f"{BAD}\nThe signer does not know what was asked.\n".encode()


def _keys(signer: LogSigner) -> bytes:
    keys = signer.keys()
    return "".join(f"{key}\n" for key in keys.current).encode() + b"\n" + keys.statements


def _signatures(signer: LogSigner, body: bytes) -> bytes:
    growth = Growth.parse(body)
    try:
        text = growth.note.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("The checkpoint is not UTF-8.") from None
    return signature_lines(signer.sign_head(text, growth.old_size, growth.proof)).encode()


def _remove_dead(path: Path) -> None:
    """Remove the socket of a process that is gone. Raises OSError for anything else that lies there."""
    if path.exists() and not path.is_socket():
        raise OSError(f"{path} is no socket")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as tried:
        tried.settimeout(LONGEST_S)
        try:
            tried.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            path.unlink(missing_ok=True)
            return
    raise OSError(f"another signer answers on {path}")
