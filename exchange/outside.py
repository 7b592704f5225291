"""Asking an address outside, which somebody else may have chosen: the one place from which a server fetches.

Who answers is looked up once, and that very address is asked: a name that means another machine a moment
later leads nowhere else. Addresses within are asked where the operator names their network. No redirect is
followed, no proxy of the environment used, and what comes back is short and soon.
"""

from __future__ import annotations

import functools
import os
import socket
import ssl
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

import httpx

from exchange import addresses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.addresses import IP, Address, Network

LARGEST_BYTES = 256 << 10
LONGEST_S = 10.0
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
    with httpx.HTTPTransport(verify=_trusted(os.environ.get("SSL_CERT_FILE")), trust_env=False) as transport:
        for ip in found:
            try:
                return _answer(transport, _request(place, ip, headers, body, timeout_s))
            except httpx.ConnectError as error:
                refused = error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise NotAsked(type(error).__name__) from error
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
    until = time.monotonic() + LONGEST_S
    reply = transport.handle_request(request)
    try:
        if reply.headers.get("Content-Encoding", "identity") != "identity":
            raise NotAsked("the answer is packed")
        held = bytearray()
        for block in reply.iter_raw():
            held += block
            if len(held) > LARGEST_BYTES or time.monotonic() > until:
                raise NotAsked("the answer is too long, or takes too long")
    finally:
        reply.close()
    return reply.status_code, bytes(held)
