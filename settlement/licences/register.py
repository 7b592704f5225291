"""Publish, approve, withdraw and find licence versions. Documents are hashed over their stored bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select

from settlement.documents import canonical, sha256_hex
from settlement.errors import (
    LicenceEditedByApprover,
    LicenceInvalid,
    LicenceMissing,
    LicenceNotApproved,
    LicenceRefused,
)
from settlement.licences.odrl import from_odrl, to_odrl
from settlement.licences.tables import licence, licence_approval, licence_withdrawal
from settlement.licences.terms import LicenceTerms
from settlement.schema import insert_once, timestamp

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

_MOST_TEXT = 200_000


@dataclass(frozen=True, slots=True)
class Licence:
    """One licence version. ``odrl`` is the stored JSON-LD text; ``withdrawn_at`` is None while in use,
    ``approved_at`` until somebody other than its ``editor`` has approved it.
    """

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
    editor: str | None
    approved_at: str | None
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
    editor: str | None = None,
) -> Licence:
    """Keep a new version of the organisation's licence of this title; versions count from 1.

    ``terms`` is a document of terms; ``editor`` is the actor who wrote them, who will not approve them.

    LicenceInvalid for terms that are unknown or broken, or text that is empty, too long or not Unicode.
    """
    read = LicenceTerms.from_document(terms)
    _check_text(title, text)
    versions = select(licence.c.version).where(licence.c.org == org, licence.c.title == title)
    terms_text, odrl_text = (
        canonical(read.document),
        canonical(to_odrl(read, uid_of(id))),
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
        "editor": editor,
    }
    session.execute(licence.insert().values(values))
    return find_licence(session, id)


def same_licence(
    session: Session, *, org: str, title: str, text: str, terms: Mapping[str, Any]
) -> str | None:
    """The id of an organisation's newest licence version of a title, where its words and terms are these."""
    versions = select(licence).where(licence.c.org == org, licence.c.title == title)
    newest = session.execute(versions.order_by(licence.c.version.desc()).limit(1)).one_or_none()
    same = newest is not None and (newest.text_sha256, newest.terms) == (sha256_hex(text), canonical(terms))
    return str(newest.id) if newest is not None and same else None


def find_licence(session: Session, licence_id: str) -> Licence:
    """A licence version. LicenceMissing for an unknown id; LicenceRefused when its terms cannot be read."""
    query = (
        select(licence, licence_withdrawal.c.withdrawn_at, licence_approval.c.approved_at)
        .outerjoin(licence_withdrawal, licence_withdrawal.c.licence_id == licence.c.id)
        .outerjoin(licence_approval, licence_approval.c.licence_id == licence.c.id)
        .where(licence.c.id == licence_id)
    )
    row = session.execute(query).one_or_none()
    if row is None:
        raise LicenceMissing("There is no such licence.")
    values = row._asdict()
    values.pop("terms_sha256")
    try:
        return Licence(**{**values, "terms": _stored_terms(row.terms, row.odrl)})
    except LicenceRefused as refused:
        refused.licence_id = licence_id
        raise


def policies(session: Session, digests: Collection[str]) -> dict[str, str]:
    """Policies (ODRL, as they were published) by their SHA-256; unknown ones are left out."""
    found: dict[str, str] = {}
    for digest in sorted(digests):
        row = session.execute(select(licence.c.odrl).where(licence.c.odrl_sha256 == digest)).first()
        if row is not None:
            found[digest] = row.odrl
    return found


def uid_of(licence_id: str) -> str:
    """The IRI of a licence version."""
    return f"urn:private-data-exchange:licence:{licence_id}"


def approve_licence(session: Session, licence_id: str, *, org: str | None, actor: str, now: datetime) -> bool:
    """Approve a licence version; False where it was approved before.

    ``org`` is the approver's organisation, None for an officer of the exchange. LicenceMissing for another
    organisation's licence, LicenceEditedByApprover for who wrote it, or where nobody knows who did.
    """
    found = find_licence(session, licence_id)
    if org is not None and found.org != org:
        raise LicenceMissing("There is no such licence.")
    if found.editor is None or actor == found.editor:
        refused = LicenceEditedByApprover(
            "Who wrote a licence version does not approve it.", clause="approval"
        )
        refused.licence_id = licence_id
        raise refused
    if found.approved_at is not None:
        return False
    values = {
        "licence_id": licence_id,
        "actor": actor,
        "org": org or "officer",
        "approved_at": timestamp(now),
    }
    session.execute(insert_once(session, licence_approval).values(values).on_conflict_do_nothing())
    return True


def waiting(session: Session, *, limit: int, after: tuple[str, str] | None) -> list[Licence]:
    """Versions in use that somebody may approve and nobody has, the newest first, behind the one of this time
    of publication and id.
    """
    known = select(licence.c.id).outerjoin(licence_approval, licence_approval.c.licence_id == licence.c.id)
    found = known.outerjoin(licence_withdrawal, licence_withdrawal.c.licence_id == licence.c.id).where(
        licence.c.editor.is_not(None),
        licence_approval.c.licence_id.is_(None),
        licence_withdrawal.c.licence_id.is_(None),
    )
    if after is not None:
        at, last = after
        same = and_(licence.c.published_at == at, licence.c.id > last)
        found = found.where(or_(licence.c.published_at < at, same))
    ids = session.scalars(found.order_by(licence.c.published_at.desc(), licence.c.id).limit(limit)).all()
    return [find_licence(session, one) for one in ids]


def require_approved(session: Session, licence_id: str) -> None:
    """LicenceNotApproved unless somebody other than its editor has approved the version."""
    if find_licence(session, licence_id).approved_at is None:
        refused = LicenceNotApproved("The licence version waits for somebody's approval.", clause="approval")
        refused.licence_id = licence_id
        raise refused


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


def check_licences(session: Session) -> list[str]:
    """Findings: licences whose stored bytes no longer have the hashes stored beside them."""
    findings = []
    for row in session.execute(select(licence).order_by(licence.c.id)):
        for name in ("text", "terms", "odrl"):
            if sha256_hex(getattr(row, name)) != getattr(row, f"{name}_sha256"):
                findings.append(f"licence {row.id}: its {name} was changed after publication")
    return findings


@lru_cache(maxsize=256)
def _stored_terms(terms: str, odrl: str) -> LicenceTerms:
    """What both stored documents say. What cannot be read, or differs, was not written here: it denies."""
    try:
        read, policy = LicenceTerms.from_document(json.loads(terms)), from_odrl(json.loads(odrl))
    except (LicenceInvalid, ValueError) as error:
        path = error.path if isinstance(error, LicenceInvalid) else "licence"
        raise LicenceRefused(
            f"The licence holds a term that this exchange cannot read: {error}", clause=path
        ) from error
    if read != policy:
        raise LicenceRefused("The licence's terms and its policy do not say the same.", clause="odrl")
    return read


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
