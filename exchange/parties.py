"""Who an organisation is, as the operator has verified it: legal name, country, registration, and by what.

A record is added and never changed or removed; the newest is the one in force. They are facts about legal
persons, shown to officers and to the parties of a listing whose law asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ForeignKeyConstraint, MetaData, String, Table, insert, select

from catalog.declarations import is_country
from exchange.errors import PartyUnidentified, RequestInvalid
from exchange.identity import organisation
from settlement.documents import canonical, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

metadata = MetaData()

organisation_identity = Table(
    "organisation_identity",
    metadata,
    Column("org", String(40), primary_key=True),
    Column("legal_name", String(200), nullable=False),
    Column("country", String(2), nullable=False),
    Column("registration", String(80), nullable=False),
    Column("evidence", String(400), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("recorded_by", String(40), nullable=False),
    Column("recorded_at", String(32), primary_key=True),
    ForeignKeyConstraint(["org"], [organisation.c.id]),
)

append_only = ["organisation_identity"]

FIELDS = {"legal_name": 200, "country": 2, "registration": 80, "evidence": 400}
"""What is recorded, and the most characters of each."""


def check(said: Mapping[str, str]) -> None:
    """Raise RequestInvalid for what cannot be recorded, as :func:`record` does."""
    for name, longest in FIELDS.items():
        text = said[name]
        if not text.strip() or len(text) > longest or not text.isprintable():
            raise RequestInvalid(f"{name} must be 1 to {longest} printable characters")
    if not is_country(said["country"]):
        raise RequestInvalid("country must be two capital letters of ISO 3166-1, as CN")


def record(session: Session, org: str, said: Mapping[str, str], *, by: str, now: datetime) -> str:
    """Record who an organisation is; returns the SHA-256 of what is recorded. The same again adds nothing.

    Raises:
        RequestInvalid: a field is empty or too long, holds control characters, or the country is none of
            ISO 3166-1.
    """
    check(said)
    document = {name: said[name] for name in FIELDS}
    digest = sha256_hex(canonical({"org": org, **document}))
    known = find(session, org)
    if known is None or known["sha256"] != digest:
        session.execute(
            insert(organisation_identity).values(
                org=org,
                **document,
                sha256=digest,
                recorded_by=by,
                recorded_at=now.isoformat(timespec="microseconds"),
            )
        )
    return digest


def find(session: Session, org: str) -> dict[str, Any] | None:
    """The record in force, None where nobody recorded any."""
    table = organisation_identity
    newest = select(table).where(table.c.org == org).order_by(table.c.recorded_at.desc()).limit(1)
    row = session.execute(newest).one_or_none()
    return None if row is None else {name: getattr(row, name) for name in (*FIELDS, "sha256", "recorded_at")}


def require(session: Session, org: str, law: str) -> None:
    """Raise :class:`PartyUnidentified` where nobody recorded who an organisation is."""
    if find(session, org) is None:
        raise PartyUnidentified(
            f"it is not on record who your organisation is, which is asked for here ({law})"
        )


def known(session: Session, orgs: Collection[str]) -> dict[str, str]:
    """Legal names by organisation, of those on record; the newest record's."""
    table = organisation_identity.c
    found = select(table.org, table.legal_name).where(table.org.in_(list(orgs)))
    return {row.org: row.legal_name for row in session.execute(found.order_by(table.recorded_at))}
