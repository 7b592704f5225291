"""`POST /add-checkpoint` over HTTP. Put a reverse proxy with TLS in front of it."""

from __future__ import annotations

import http.server
import io
import socket
from typing import TYPE_CHECKING, Any

from exchange.audit.bounded import LONGEST_S, Bounded, Deadline
from exchange.audit.heads import BAD, MAX_REQUEST_BYTES, UNKNOWN
from exchange.witness.witness import Answer

if TYPE_CHECKING:
    from exchange.witness.witness import Witness

_NO_LENGTH, _TOO_LARGE, _NOT_ALLOWED = 411, 413, 405


class WitnessServer(Bounded, http.server.HTTPServer):
    """Serves one witness on an address."""

    allow_reuse_address = True

    def __init__(self, host: str, port: int, witness: Witness) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.witness = witness
        super().__init__((host, port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "exchange-witness", ""

    def setup(self) -> None:
        """A connection lasts for so long in all, whatever its client sends."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(Deadline(self.connection))

    def do_POST(self) -> None:
        """The one thing that a witness does."""
        if self.path != "/add-checkpoint":
            self._reply(Answer(UNKNOWN, "There is POST /add-checkpoint alone.\n"))
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdecimal()):
            self._reply(Answer(_NO_LENGTH, "Send the length of the body.\n"))
        elif len(length) > 9 or int(length) > MAX_REQUEST_BYTES:
            self._reply(Answer(_TOO_LARGE, "The body is too large.\n"))
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._reply(self.server.witness.add_checkpoint(body), last=False)
            else:
                self._reply(Answer(BAD, "The body is shorter than was said.\n"))

    def do_GET(self) -> None:
        """Nothing is read here."""
        self._reply(Answer(_NOT_ALLOWED, "There is POST /add-checkpoint alone.\n"))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the protocol refuses, without the page that repeats what was sent."""
        del message, explain
        self._reply(Answer(code, "The request cannot be read.\n"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: what is cosigned and refused the witness tells itself."""

    def _reply(self, answer: Answer, *, last: bool = True) -> None:
        data = answer.body.encode()
        self.close_connection = self.close_connection or last
        self.connection.settimeout(LONGEST_S)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
