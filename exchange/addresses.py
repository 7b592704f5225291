"""Addresses of the web in the one spelling that this exchange takes, and what is inside a network.

A browser, a resolver and a library read some spellings differently: numbers in other bases, digits of other
scripts, a backslash, a login before the host. Whoever is asked then is not who was looked at. None of them is
guessed at: they are refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IP = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK = frozenset({"127.0.0.1", "[::1]", "localhost"})

_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label begins with a letter: what ends in a number is read as an IPv4 address by many.
_NAME = rf"(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?"
_ADDRESS = re.compile(
    rf"(https?)://((?i:{_NAME})|[0-9.]{{7,15}}|\[[0-9a-f:]{{2,39}}\])(?::([1-9][0-9]{{0,4}}))?"
    r"(?:/[\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]*)?",
    re.ASCII,
)
# RFC 4291, 2.4: of the addresses of IPv6, these alone are given out; RFC 3056: 2002: holds one of IPv4.
_UNICAST, _WITHIN_IPV4 = IPv6Network("2000::/3"), IPv6Network("2002::/16")


@dataclass(frozen=True)
class Address:
    """A place of the web; ``host`` as it is written, an address of IPv6 with its brackets."""

    text: str
    scheme: str
    host: str
    port: int

    @property
    def ip(self) -> IP | None:
        """The host, where it is an address and no name."""
        return _ip(self.host)

    @property
    def authority(self) -> str:
        """Host and port as a request names them (RFC 9110, section 7.2)."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    def at(self, ip: IP) -> str:
        """The same address with the host's IP address in place of its name."""
        host = f"[{ip}]" if ip.version == 6 else str(ip)
        path = self.text.partition("://")[2].partition("/")[2]
        return f"{self.scheme}://{host}:{self.port}/{path}"


def parse(text: str) -> Address:
    """Read an absolute http(s) address without login and fragment. Raises ValueError for other spellings."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("an address is absolute, in plain letters, without a login and a fragment")
    scheme, host, port = match.group(1, 2, 3)
    found = Address(text, scheme, host, int(port) if port else _PORTS[scheme])
    if found.port > 65_535 or len(host) > 253 or (host[0] in "[0123456789" and not _plain(found)):
        raise ValueError("an address names its host and port in the usual way")
    return found


def is_public(ip: IP) -> bool:
    """Whether an address is one of the internet's, not of a machine, a link or a private network."""
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast
    return ip in _UNICAST and ip not in _WITHIN_IPV4 and not ip.is_private


def networks(text: str) -> tuple[Network, ...]:
    """Networks that are written with commas between them. Raises ValueError."""
    return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())


def _ip(host: str) -> IP | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _plain(found: Address) -> bool:
    """Whether a host that begins like an IP address is a name, or such an address as it is always written."""
    if re.fullmatch(_NAME, found.host, re.ASCII | re.IGNORECASE):
        return True
    ip = found.ip
    return ip is not None and found.host == (f"[{ip}]" if ip.version == 6 else str(ip))
