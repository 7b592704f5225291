"""Asking an address outside, which somebody else may have chosen: the one place from which a server fetches.

Who answers is looked up once, and that very address is asked: a name that means another machine a moment
later leads nowhere else. Addresses within are asked where the operator names their network. No redirect is
followed, no proxy of the environment used, and what comes back is short and soon.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

import httpx

from exchange import addresses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Self

    from exchange.addresses import IP, Address, Network

LARGEST_BYTES = 256 << 10
LONGEST_S = 10.0
"""Seconds from the first connection to the end of an answer, however it drips."""
_TIMEOUT_S = 5.0
_MOST_ADDRESSES = 4


class NotAsked(Exception):
    """Nobody was asked, or nobody answered as expected; ``str()`` says why, for the operator."""

    code = "not_asked"


def ask(
    text: str,
    *,
    inside: Sequence[Network],
    headers: Mapping[str, str],
    body: bytes | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> tuple[int, bytes]:
    """The status and the bytes that an address answers.

    Args:
        text: the address, https, or http at this machine.
        inside: networks that are asked although they are not public.
        body: what is posted; nothing: it is a GET.
        timeout_s: seconds that a connection, and each part of an answer, may take.

    Raises:
        NotAsked: the address is none, or of a machine that is not asked; or its answer is not as it must be.
    """
    try:
        place = addresses.parse(text)
    except ValueError as error:
        raise NotAsked(str(error)) from error
    found = _resolved(place, inside)
    # The transport alone: a client would look at redirects, cookies and the environment.
    verify = _trusted(os.environ.get("SSL_CERT_FILE"))
    with _Deadline(LONGEST_S) as deadline, httpx.HTTPTransport(verify=verify, trust_env=False) as transport:
        for ip in found:
            request = _request(place, ip, headers, body, timeout_s)
            request.extensions["trace"] = deadline.traced
            try:
                answer = _answer(transport, request)
            except httpx.ConnectError as error:
                refused = error
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = "the answer takes too long" if deadline.passed else type(error).__name__
                raise NotAsked(reason) from error
            if deadline.passed:  # what was cut off may look whole
                raise NotAsked("the answer takes too long")
            return answer
    raise NotAsked("nobody takes the connection") from refused


def _request(
    place: Address, ip: IP, headers: Mapping[str, str], body: bytes | None, timeout_s: float
) -> httpx.Request:
    """A request to an IP address, with the name of the host in it and asked of the certificate."""
    return httpx.Request(
        "GET" if body is None else "POST",
        place.at(ip),
        headers={"Host": place.authority, "Accept-Encoding": "identity", **headers},
        content=body,
        extensions={
            "sni_hostname": place.host.strip("[]"),
            "timeout": httpx.Timeout(timeout_s).as_dict(),
        },
    )


@functools.lru_cache(maxsize=4)
def _trusted(bundle: str | None) -> ssl.SSLContext:
    """Whose certificates are believed: those of a file that ``SSL_CERT_FILE`` names, else the usual ones."""
    return ssl.create_default_context(cafile=bundle) if bundle else httpx.create_ssl_context(trust_env=False)


def _resolved(place: Address, inside: Sequence[Network]) -> list[IP]:
    """What the host means, looked up once; every one of its addresses must be one that is asked."""
    try:
        told = socket.getaddrinfo(place.host.strip("[]"), place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotAsked("there is no such host") from error
    found = list(dict.fromkeys(ip_address(str(one[4][0]).partition("%")[0]) for one in told))
    for ip in found:
        if not addresses.is_public(ip) and not any(ip in network for network in inside):
            raise NotAsked("the host is within, and no setting names its network")
        if place.scheme != "https" and not ip.is_loopback:
            raise NotAsked("plain http is for this machine alone")
    return found[:_MOST_ADDRESSES]


def _answer(transport: httpx.HTTPTransport, request: httpx.Request) -> tuple[int, bytes]:
    reply = transport.handle_request(request)
    try:
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise NotAsked("the answer is packed")
        held = bytearray()
        for block in reply.iter_raw():
            held += block
            if len(held) > LARGEST_BYTES:
                raise NotAsked("the answer is too long")
    finally:
        reply.close()
    return reply.status_code, bytes(held)


class _Deadline:
    """Ends the connections of a request at a moment. A timeout of httpx bounds each part of an answer alone,
    and a head may have any number of parts.
    """

    def __init__(self, within_s: float) -> None:
        self._connections: list[socket.socket] = []
        self._timer = threading.Timer(within_s, self._end)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for connection in self._connections:
            connection.close()

    def traced(self, event: str, info: Mapping[str, Any]) -> None:
        """Takes note of each connection that httpx makes (its extension `trace`)."""
        if event == "connection.connect_tcp.complete":
            # A second descriptor: TLS takes the first away.
            self._connections.append(info["return_value"].get_extra_info("socket").dup())
            if self.passed:
                self._end()

    def _end(self) -> None:
        self.passed = True
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
