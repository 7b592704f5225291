"""An eye on the process: which connections it makes, and which names it looks up."""

from __future__ import annotations

import contextlib
import socket
import sys
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from tests.exchange.spellings import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

_watching: list[Guard] = []
_resolve = socket.getaddrinfo


@dataclass
class Guard:
    """What was tried; a connection to another place than ``allowed`` is not made."""

    allowed: set[tuple[str, int]] = field(default_factory=set)
    connections: list[tuple[str, int]] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)

    def resolve(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        """Names of the tests mean what the tests say; each turn of a name that has several, another one."""
        self.looked_up.append(str(host))
        turns = self.names.get(host)
        told = (turns.pop(0) if len(turns) > 1 else turns[0]) if turns else NAMES.get(host, host)
        if not told[:1].isdigit() and ":" not in told:
            raise socket.gaierror(f"no such name under test: {host}")
        return [one for ip in told.split() for one in _resolve(ip, port, *rest, **more)]


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watching or event not in ("socket.connect", "socket.sendto"):
        return
    place = args[-1]
    if not isinstance(place, tuple):
        return  # a socket of this machine's file system
    found = str(ip_address(place[0])), int(place[1])
    if found not in _watching[-1].allowed:
        _watching[-1].connections.append(found)
        raise ConnectionRefusedError(f"not under test: {found}")


sys.addaudithook(_hook)


@contextlib.contextmanager
def guarded() -> Iterator[Guard]:
    """Watch until the block ends."""
    made = Guard()
    _watching.append(made)
    socket.getaddrinfo = made.resolve
    try:
        yield made
    finally:
        socket.getaddrinfo = _resolve
        _watching.remove(made)
