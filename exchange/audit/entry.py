"""Entry: one fact as the code that causes it states it, in the groups of the leaf. Ids and digests only.

No literal of a query, no result, no secret and no personal data belongs here: a published leaf cannot be
taken back.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

from exchange.audit import leaf
from exchange.audit.errors import EntryInvalid

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping
    from datetime import datetime


class ActorGroup(TypedDict, total=False):
    """Who acted: a pseudonymous reference, the organisation acted for, the role, and how it was proved."""

    ref: str | None
    org: str | None
    role: str | None
    auth: str | None


class SourceGroup(TypedDict, total=False):
    """Where the command came from: a truncated address (see `truncated_network`) and the request id."""

    ip_truncated: str | None
    request_id: str | None


class ObjectGroup(TypedDict, total=False):
    """What was acted on, and the dataset that it belongs to."""

    type: str | None
    id: str | None
    version: str | None
    dataset: str | None


class LicenceGroup(TypedDict, total=False):
    """The licence acceptance that allowed it, the hash of its ODRL text, and the declared purpose."""

    acceptance_id: str | None
    odrl_sha256: str | None
    purpose: str | None


class QueryGroup(TypedDict, total=False):
    """The query: digests of its plan and of its SQL text, never the text."""

    id: str | None
    plan_sha256: str | None
    sql_sha256: str | None


class PrivacyGroup(TypedDict, total=False):
    """Privacy loss charged to a domain: rho in 1e-9, delta in 1e-12; spent and left after it, in 1e-9."""

    domain: str | None
    mechanism: str | None
    rho_nano: int | None
    delta_pico: int | None
    spent_after: int | None
    remaining_after: int | None


class MoneyGroup(TypedDict, total=False):
    """Money moved, in minor units, by a journal of the ledger whose canonical digest is fixed here."""

    currency: str | None
    amount_minor: int | None
    journal: str | None
    journal_sha256: str | None


class ResultGroup(TypedDict, total=False):
    """The stored result's digest and its length in bytes."""

    sha256: str | None
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One fact. `kind` is a dotted past participle (`query.settled`), `code` the error code of a refusal.

    A member that is left out, None or empty text is null in the leaf. `id` is given by `append` where it is
    None. `pii_commitment` commits to the person whom the entry concerns (docs/decisions/0038-erasure.md).
    """

    kind: str
    outcome: str
    id: str | None = None
    code: str | None = None
    actor: ActorGroup | None = None
    source: SourceGroup | None = None
    object: ObjectGroup | None = None
    licence: LicenceGroup | None = None
    query: QueryGroup | None = None
    privacy: PrivacyGroup | None = None
    money: MoneyGroup | None = None
    result: ResultGroup | None = None
    pii_commitment: str | None = None

    @property
    def org(self) -> str | None:
        """The organisation in whose chain the entry is numbered: the actor's."""
        return (self.actor.get("org") if self.actor else None) or None

    def groups(self) -> dict[str, dict[str, builtins.object] | None]:
        """The nested groups in the leaf's form: every member present, amounts as decimal text.

        Raises:
            EntryInvalid: an unknown member, an address that is not truncated, a journal without its digest.
        """
        groups = {name: _group(name, getattr(self, name)) for name in leaf.GROUPS}
        source, money = groups["source"], groups["money"]
        if source:
            _check_truncated(source["ip_truncated"])
        if money and (money["journal"] is None) != (money["journal_sha256"] is None):
            raise EntryInvalid("A charge names its journal together with the journal's digest.")
        return groups


def timestamp(now: datetime) -> str:
    """`now` as leaves and tables hold it: microseconds, UTC, 32 characters, sortable as text.

    Raises:
        EntryInvalid: `now` is naive or not in UTC.
    """
    if now.utcoffset() != timedelta(0):
        raise EntryInvalid("The time of an entry must be an aware UTC time.", hint="Pass datetime.now(UTC).")
    return now.isoformat(timespec="microseconds")


def truncated_network(address: str | None) -> str | None:
    """The /24 (IPv4) or /48 (IPv6) network of an address, which names no household; None for no address."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    return str(ipaddress.ip_network(f"{ip}/{_prefix(ip)}", strict=False))


def _group(name: str, group: Mapping[str, object] | None) -> dict[str, object] | None:
    if group is None:
        return None
    kinds = leaf.GROUPS[name]
    if not set(group) <= set(kinds):
        raise EntryInvalid(f"The entry's group {name} has an unknown member.")
    return {member: _plain(kind, group.get(member)) for member, kind in kinds.items()}


def _plain(kind: str, value: object) -> object:
    """Amounts become decimal text (they may need 63 bits); texts of an enumeration become plain texts."""
    if kind == leaf.AMOUNT and type(value) is int:
        return str(value)
    if isinstance(value, str):
        return str.__str__(value) or None
    return value


def _check_truncated(value: object) -> None:
    if value is None:
        return
    try:
        address, _, prefix = str(value).partition("/")
        ip = ipaddress.ip_address(address)
        network = ipaddress.ip_network(f"{ip}/{prefix or _prefix(ip)}")
    except ValueError:
        network = None
    if network is None or network.prefixlen > _prefix(network.network_address):
        raise EntryInvalid(
            "The source is not the network of an address.", hint="Use truncated_network(address): /24 or /48."
        )


def _prefix(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return 24 if ip.version == 4 else 48
