"""Asking an address outside, which somebody else may have chosen: the one place from which a server fetches.

Who answers is looked up once, and that very address is asked: a name that means another machine a moment
later leads nowhere else. Addresses within are asked where the operator names their network. No redirect is
followed, no proxy of the environment used, and what comes back is short, soon and JSON.
"""

from __future__ import annotations

import base64
import functools
import os
import socket
import ssl
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import httpx

from exchange import addresses
from exchange.web.auth.signing import object_of

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
    form: Mapping[str, str] | None = None,
    login: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """The JSON object at an address, or in the reply to a form that is sent there.

    Args:
        text: the address, https, or http at this machine.
        inside: networks that are asked although they are not public.
        form: what is posted; nothing: it is a GET.
        login: with which the request proves itself (RFC 7617).

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
                return _answer(transport, _request(place, ip, form, login))
            except httpx.ConnectError as error:
                refused = error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise NotAsked(type(error).__name__) from error
    raise NotAsked("nobody takes the connection") from refused


def _request(
    place: Address, ip: IP, form: Mapping[str, str] | None, login: tuple[str, str] | None
) -> httpx.Request:
    """A request to an IP address, with the name of the host in it and asked of the certificate."""
    headers = {"Host": place.authority, "Accept": "application/json", "Accept-Encoding": "identity"}
    if login is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"
    return httpx.Request(
        "GET" if form is None else "POST",
        place.at(ip),
        headers=headers,
        data=None if form is None else dict(form),
        extensions={
            "sni_hostname": place.host.strip("[]"),
            "timeout": httpx.Timeout(_TIMEOUT_S).as_dict(),
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
            raise NotAsked("the host is within, and EXCHANGE_OIDC_NETWORKS does not name its network")
        if place.scheme != "https" and not ip.is_loopback:
            raise NotAsked("plain http is for this machine alone")
    return found[:_MOST_ADDRESSES]


def _answer(transport: httpx.HTTPTransport, request: httpx.Request) -> dict[str, Any]:
    until = time.monotonic() + LONGEST_S
    reply = transport.handle_request(request)
    try:
        if reply.status_code != 200 or reply.headers.get("Content-Encoding", "identity") != "identity":
            raise NotAsked(f"the answer has the status {reply.status_code}, or is packed")
        held = bytearray()
        for block in reply.iter_raw():
            held += block
            if len(held) > LARGEST_BYTES or time.monotonic() > until:
                raise NotAsked("the answer is too long, or takes too long")
    finally:
        reply.close()
    try:
        return object_of(bytes(held))
    except (ValueError, TypeError, RecursionError) as error:
        raise NotAsked("the answer is no JSON object") from error
