"""Programs of an organisation: its OAuth clients, and what it let clients do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exchange.client.configuration import Token
from exchange.client.connection import new_key, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.client.connection import Connection


@dataclass(frozen=True)
class Client:
    """A client; ``secret`` is there in the reply to its creation alone, and empty for a public one."""

    client_id: str
    name: str
    kind: str
    scope: str
    grants: tuple[str, ...]
    redirect_uris: tuple[str, ...]
    created_at: str
    secret: Token = field(default=Token(""), repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Client:
        """Read a client."""
        return cls(
            client_id=document["client_id"],
            name=document["name"],
            kind=document["kind"],
            scope=document["scope"],
            grants=tuple(document["grants"]),
            redirect_uris=tuple(document["redirect_uris"]),
            created_at=document["created_at"],
            secret=Token(document.get("client_secret") or ""),
        )


@dataclass(frozen=True)
class Authorization:
    """What somebody, or a client for itself, let a client do."""

    id: str
    client_id: str
    granted_by: str
    scope: str
    created_at: str
    expires_at: str | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Authorization:
        """Read an authorization."""
        rest = ("client_id", "granted_by", "scope", "created_at", "expires_at")
        return cls(document["authorization"], *(document[name] for name in rest))


class Programs:
    """Clients and authorizations: made, listed, ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        name: str,
        *,
        kind: str = "confidential",
        scope: str = "ask",
        redirect_uris: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Client:
        """Create a client, whose ``secret`` is shown once.

        ``scope`` is the most that its tokens may do, such as "dataset:nyc/flights purpose:research rho:1.5".
        """
        body = {"name": name, "kind": kind, "scope": scope, "redirect_uris": list(redirect_uris)}
        return read(Client.from_document, self._connection.post("/v1/clients", body, key=idempotency_key))

    def clients(self, *, org: str | None = None) -> list[Client]:
        """The organisation's clients, newest first."""
        items = self._connection.get("/v1/clients", org=org)["items"]
        return [read(Client.from_document, item) for item in items]

    def revoke(self, client_id: str) -> None:
        """End a client with every token of it. Raises ``NotFound``."""
        self._delete(f"/v1/clients/{client_id}")

    def authorizations(self) -> list[Authorization]:
        """What the organisation let clients do and is in force, newest first."""
        items = self._connection.get("/v1/authorizations")["items"]
        return [read(Authorization.from_document, item) for item in items]

    def take_back(self, authorization_id: str) -> None:
        """End an authorization with every token of it. Raises ``NotFound``."""
        self._delete(f"/v1/authorizations/{authorization_id}")

    def _delete(self, path: str) -> None:
        self._connection.send("DELETE", path, headers={"Idempotency-Key": new_key()})
