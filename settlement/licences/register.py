"""Publish, withdraw, accept and find licence versions. Documents are hashed over their stored bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, select

from settlement.documents import canonical, sha256_hex
from settlement.errors import (
    LicenceInvalid,
    LicenceMissing,
    LicenceNotAccepted,
    LicenceRefused,
    PurposeNotAllowed,
    TerritoryNotAllowed,
)
from settlement.licences.evaluation import Acceptance, evaluate
from settlement.licences.tables import acceptance, licence, licence_withdrawal
from settlement.licences.terms import LicenceTerms, is_purpose, is_territory, to_odrl
from settlement.schema import insert_once, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

_MOST_TEXT = 200_000


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence version. ``odrl`` is the stored JSON-LD text; ``withdrawn_at`` is None while in use."""

    id: str
    org: str
    title: str
    version: int
    text: str
    text_sha256: str
    terms: LicenceTerms
    odrl: str
    odrl_sha256: str
    published_at: str
    withdrawn_at: str | None


def publish_licence(
    session: Session,
    *,
    id: str,  # noqa: A002
    org: str,
    title: str,
    text: str,
    terms: Mapping[str, Any],
    now: datetime,
) -> Licence:
    """Keep a new version of the organisation's licence of this title; versions count from 1.

    LicenceInvalid for terms that are unknown or broken, or text that is empty, too long or not Unicode.
    """
    read = LicenceTerms.from_document(terms)
    _check_text(title, text)
    versions = select(licence.c.version).where(licence.c.org == org, licence.c.title == title)
    terms_text, odrl_text = (
        canonical(read.document),
        canonical(to_odrl(read, f"urn:private-data-exchange:licence:{id}")),
    )
    values = {
        "id": id,
        "org": org,
        "title": title,
        "version": max(session.scalars(versions), default=0) + 1,
        "text": text,
        "text_sha256": sha256_hex(text),
        "terms": terms_text,
        "terms_sha256": sha256_hex(terms_text),
        "odrl": odrl_text,
        "odrl_sha256": sha256_hex(odrl_text),
        "published_at": timestamp(now),
    }
    session.execute(licence.insert().values(values))
    return find_licence(session, id)


def find_licence(session: Session, licence_id: str) -> Licence:
    """A licence version. LicenceMissing for an unknown id; LicenceRefused when its terms cannot be read."""
    query = (
        select(licence, licence_withdrawal.c.withdrawn_at)
        .outerjoin(licence_withdrawal, licence_withdrawal.c.licence_id == licence.c.id)
        .where(licence.c.id == licence_id)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        raise LicenceMissing("There is no such licence.")
    values = row._asdict()
    values.pop("terms_sha256")
    return Licence(**{**values, "terms": _stored_terms(row)})


def withdraw_licence(
    session: Session, licence_id: str, *, org: str, actor: str, reason: str, now: datetime
) -> None:
    """Stop every new use of a licence version from this transaction on; withdrawing again changes nothing.

    LicenceMissing for an unknown id or another organisation's licence.
    """
    if find_licence(session, licence_id).org != org:
        raise LicenceMissing("There is no such licence.")
    values = {"licence_id": licence_id, "actor": actor, "reason": reason, "withdrawn_at": timestamp(now)}
    session.execute(insert_once(session, licence_withdrawal).values(values).on_conflict_do_nothing())


def accept_licence(
    session: Session,
    *,
    id: str,  # noqa: A002
    licence_id: str,
    org: str,
    actor: str,
    role: str,
    purposes: Sequence[str],
    territory: str,
    shown_sha256: str,
    now: datetime,
) -> Acceptance:
    """Record that a person accepted a licence version for an organisation, for named purposes and one
    territory.

    ``shown_sha256`` proves which text was shown: LicenceNotAccepted when it is not the licence's.
    LicenceMissing, LicenceWithdrawn, LicenceExpired, PurposeNotAllowed and TerritoryNotAllowed as at every
    later use.
    """
    found = find_licence(session, licence_id)
    if shown_sha256 != found.text_sha256:
        raise LicenceNotAccepted(
            "The text that was shown is not the text of this licence version.",
            clause="acceptance",
            hint="Read the current text and accept that.",
        )
    accepted = _acceptance(
        id=id,
        licence_id=licence_id,
        org=org,
        actor=actor,
        role=role,
        purposes=tuple(dict.fromkeys(purposes)),
        territory=territory,
        shown_sha256=shown_sha256,
        accepted_at=timestamp(now),
    )
    _check_acceptable(found, accepted, now)
    values = {name: getattr(accepted, name) for name in Acceptance.__slots__}
    session.execute(acceptance.insert().values({**values, "purposes": canonical(list(accepted.purposes))}))
    return accepted


def find_acceptance(session: Session, acceptance_id: str, *, org: str) -> Acceptance:
    """An organisation's acceptance. LicenceNotAccepted for an unknown id or another organisation's."""
    query = select(acceptance).where(acceptance.c.id == acceptance_id, acceptance.c.org == org)
    row = session.execute(query).one_or_none()
    if row is None:
        raise LicenceNotAccepted("There is no such licence acceptance.", clause="acceptance")
    return _from_row(row)


def acceptances_of(session: Session, *, org: str, licence_id: str) -> list[Acceptance]:
    """All acceptances of a licence version by an organisation, newest first."""
    query = select(acceptance).where(acceptance.c.org == org, acceptance.c.licence_id == licence_id)
    rows = session.execute(query.order_by(acceptance.c.accepted_at.desc(), acceptance.c.id.desc()))
    return [_from_row(row) for row in rows]


def permit(
    session: Session,
    *,
    acceptance_id: str,
    org: str,
    purpose: str,
    territory: str,
    now: datetime,
    queries_so_far: int = 0,
    rho_nano: int = 0,
) -> str:
    """The clause of the accepted licence that allows this use now; otherwise a LicenceRefused, as
    ``evaluate``.

    Reads the acceptance, the licence it names and whether that was withdrawn, all in the caller's
    transaction.
    """
    accepted = find_acceptance(session, acceptance_id, org=org)
    found = find_licence(session, accepted.licence_id)
    return evaluate(
        found.terms,
        accepted,
        purpose=purpose,
        territory=territory,
        now=now,
        queries_so_far=queries_so_far,
        rho_nano=rho_nano,
        withdrawn=found.withdrawn_at is not None,
    )


def check_documents(session: Session) -> list[str]:
    """Findings: licences and acceptances whose stored bytes no longer have the hashes stored beside them."""
    findings = []
    for row in session.execute(select(licence).order_by(licence.c.id)):
        for name in ("text", "terms", "odrl"):
            if sha256_hex(getattr(row, name)) != getattr(row, f"{name}_sha256"):
                findings.append(f"licence {row.id}: its {name} was changed after publication")
    query = select(acceptance, licence.c.text_sha256).join(licence, licence.c.id == acceptance.c.licence_id)
    for row in session.execute(query.order_by(acceptance.c.id)):
        stored = _from_row(row)
        names = [name for name in Acceptance.__slots__ if name != "digest"]
        if _acceptance(**{name: getattr(stored, name) for name in names}).digest != stored.digest:
            findings.append(f"acceptance {row.id}: it was changed after it was given")
        if row.shown_sha256 != row.text_sha256:
            findings.append(
                f"acceptance {row.id}: what was shown is not the text of licence {row.licence_id}"
            )
    return findings


def _acceptance(**fields: Any) -> Acceptance:  # every field but the digest, which is computed here
    return Acceptance(
        **fields, digest=sha256_hex(canonical({**fields, "purposes": list(fields["purposes"])}))
    )


def _from_row(row: Row[tuple[object, ...]]) -> Acceptance:
    fields = {name: getattr(row, name) for name in Acceptance.__slots__}
    return Acceptance(**{**fields, "purposes": tuple(json.loads(row.purposes))})


def _check_acceptable(found: Licence, accepted: Acceptance, now: datetime) -> None:
    if not accepted.purposes or not all(is_purpose(purpose) for purpose in accepted.purposes):
        raise PurposeNotAllowed("Name at least one purpose, such as research.", clause="purposes")
    if not is_territory(accepted.territory):
        raise TerritoryNotAllowed("Name a territory, such as US or US-NY.", clause="territories")
    for purpose in accepted.purposes:
        withdrawn = found.withdrawn_at is not None
        evaluate(
            found.terms, accepted, purpose=purpose, territory=accepted.territory, now=now, withdrawn=withdrawn
        )


def _stored_terms(row: Row[tuple[object, ...]]) -> LicenceTerms:
    try:
        return LicenceTerms.from_document(json.loads(row.terms))
    except LicenceInvalid as error:  # written by a newer version, say: what cannot be read denies
        raise LicenceRefused(
            f"The licence holds a term that this exchange cannot read: {error}", clause=error.path
        ) from error


def _check_text(title: str, text: str) -> None:
    if not title.strip() or len(title) > 200 or not title.isprintable():
        raise LicenceInvalid("title", "a printable line of at most 200 characters")
    if not text.strip() or len(text) > _MOST_TEXT:
        raise LicenceInvalid("text", f"a text of at most {_MOST_TEXT} characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LicenceInvalid("text", "holds characters that are not Unicode") from error
    if "\0" in text:
        raise LicenceInvalid("text", "holds a NUL character")
