"""Acceptances: given for exact versions, found again, and what is said to a use under one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, select

from settlement.documents import canonical, sha256_hex
from settlement.errors import (
    AssigneeNotAllowed,
    LicenceNotAccepted,
    LicenceRefused,
    PurposeNotAllowed,
    SignatureRefused,
    TerritoryNotAllowed,
)
from settlement.licences.evaluation import Acceptance, Reads, evaluate
from settlement.licences.register import Licence, find_licence
from settlement.licences.tables import acceptance, acceptance_signature, licence, licence_refusal
from settlement.licences.terms import is_purpose, is_territory
from settlement.schema import insert_once, rows_changed, timestamp

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

_LONGEST_ROLE = 40


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
    org_name: str | None = None,
    dataset: str | None = None,
    dataset_version: str | None = None,
    publishes: bool = False,
    entry_id: str | None = None,
) -> Acceptance:
    """Record that a person accepted a licence version for an organisation, for named purposes and one
    territory.

    ``shown_sha256`` proves which text was shown: LicenceNotAccepted when it is not the licence's.
    LicenceMissing, LicenceWithdrawn, LicenceExpired, AssigneeNotAllowed, PurposeNotAllowed,
    TerritoryNotAllowed and PublicationNotAllowed as at every later use.
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
        org_name=org_name,
        licence_version=found.version,
        odrl_sha256=found.odrl_sha256,
        dataset=dataset,
        dataset_version=dataset_version,
        publishes=publishes,
        entry_id=entry_id,
    )
    _check_acceptable(found, accepted, now)
    values = {name: getattr(accepted, name) for name in Acceptance.__slots__}
    session.execute(acceptance.insert().values({**values, "purposes": canonical(list(accepted.purposes))}))
    return accepted


def document_of(accepted: Acceptance) -> dict[str, Any]:
    """What the digest of an acceptance hashes, as canonical JSON: every known field but the digest."""
    fields = {name: getattr(accepted, name) for name in Acceptance.__slots__ if name != "digest"}
    known = {name: value for name, value in fields.items() if value is not None}
    return {**known, "purposes": list(accepted.purposes)}


def find_acceptance(session: Session, acceptance_id: str, *, org: str | None) -> Acceptance:
    """An organisation's acceptance; anybody's where ``org`` is None.

    LicenceNotAccepted for an unknown id or another organisation's.
    """
    query = select(acceptance).where(acceptance.c.id == acceptance_id)
    if org is not None:
        query = query.where(acceptance.c.org == org)
    row = session.execute(query).one_or_none()
    if row is None:
        raise LicenceNotAccepted("There is no such licence acceptance.", clause="acceptance")
    return _from_row(row)


def find_acceptances(session: Session, ids: Collection[str]) -> dict[str, Acceptance]:
    """Anybody's acceptances by their ids; unknown ones are left out."""
    rows = session.execute(select(acceptance).where(acceptance.c.id.in_(ids)))
    return {row.id: _from_row(row) for row in rows}


def acceptances_of(session: Session, *, org: str, licence_id: str) -> list[Acceptance]:
    """All acceptances of a licence version by an organisation, newest first."""
    query = select(acceptance).where(acceptance.c.org == org, acceptance.c.licence_id == licence_id)
    rows = session.execute(query.order_by(acceptance.c.accepted_at.desc(), acceptance.c.id.desc()))
    return [_from_row(row) for row in rows]


def acceptances_under(session: Session, of: Licence, *, org: str) -> list[str]:
    """The ids of an organisation's acceptances of a licence in all its versions."""
    versions = select(licence.c.id).where(licence.c.org == of.org, licence.c.title == of.title)
    found = select(acceptance.c.id).where(acceptance.c.org == org, acceptance.c.licence_id.in_(versions))
    return list(session.scalars(found.order_by(acceptance.c.id)))


def permit(
    session: Session,
    *,
    acceptance_id: str,
    org: str,
    purpose: str,
    territory: str,
    now: datetime,
    queries_so_far: int = 0,
    rho_so_far_nano: int = 0,
    rho_nano: int = 0,
    more_rho_nano: int | None = None,
    reads: Reads | None = None,
) -> str:
    """The clause of the accepted licence that allows this use now; otherwise a LicenceRefused, as
    ``evaluate``, which says which licence and acceptance were judged.

    Reads the acceptance, the licence it names and whether that was withdrawn, all in the caller's
    transaction.
    """
    accepted = find_acceptance(session, acceptance_id, org=org)
    try:
        found = find_licence(session, accepted.licence_id)
    except LicenceRefused as refused:
        refused.licence_id, refused.acceptance_id = accepted.licence_id, accepted.id
        raise
    return judge(
        found,
        accepted,
        purpose=purpose,
        territory=territory,
        now=now,
        queries_so_far=queries_so_far,
        rho_so_far_nano=rho_so_far_nano,
        rho_nano=rho_nano,
        more_rho_nano=more_rho_nano,
        reads=reads,
    )


def judge(found: Licence, accepted: Acceptance, **use: Any) -> str:
    """``evaluate`` for a licence and an acceptance of it, which a refusal names; ``use`` is what it takes."""
    try:
        return evaluate(found.terms, accepted, withdrawn=found.withdrawn_at is not None, **use)
    except LicenceRefused as refused:
        refused.licence_id, refused.acceptance_id = accepted.licence_id, accepted.id
        raise


def keep_signature(
    session: Session,
    acceptance_id: str,
    *,
    org: str,
    actor: str,
    algorithm: str,
    public_key: str,
    signature: str,
    now: datetime,
) -> None:
    """Keep the buyer's own signature over an acceptance, which the caller has verified; one, for ever.

    The same again changes nothing; SignatureRefused for another. LicenceNotAccepted as ``find_acceptance``.
    """
    find_acceptance(session, acceptance_id, org=org)
    signed = {"algorithm": algorithm, "public_key": public_key, "signature": signature}
    values = {"acceptance_id": acceptance_id, "actor": actor, "signed_at": timestamp(now), **signed}
    statement = insert_once(session, acceptance_signature).values(values).on_conflict_do_nothing()
    if not rows_changed(session, statement) and signature_of(session, acceptance_id) != signed:
        raise SignatureRefused("The acceptance has another signature already.")


def signature_of(session: Session, acceptance_id: str) -> dict[str, str] | None:
    """The buyer's own signature over an acceptance: algorithm, public key and signature, both in base64."""
    table = acceptance_signature
    query = select(table.c.algorithm, table.c.public_key, table.c.signature)
    row = session.execute(query.where(table.c.acceptance_id == acceptance_id)).one_or_none()
    return None if row is None else dict(row._asdict())


def record_refusal(
    session: Session, refused: LicenceRefused, *, entry_id: str, org: str, now: datetime
) -> tuple[str, str | None]:
    """Keep by which clause of which licence a use was refused, beside the entry of the log that says it was.

    Returns the digest that the entry fixes, and that of the licence's policy. Terms are the provider's words
    and the log is for ever, so they are kept here and not there.
    """
    document = refusal_document(
        entry_id, refused.licence_id or "", refused.acceptance_id, org, refused.code, refused.clause
    )
    digest = sha256_hex(canonical(document))
    session.execute(
        licence_refusal.insert().values({**document, "digest": digest, "refused_at": timestamp(now)})
    )
    policy = select(licence.c.odrl_sha256).where(licence.c.id == refused.licence_id)
    return digest, session.scalars(policy).one_or_none()


def refusal_document(
    entry_id: str, licence_id: str, acceptance_id: str | None, org: str | None, code: str, clause: str
) -> dict[str, Any]:
    """What the digest of a refusal hashes, as canonical JSON."""
    return {
        "entry_id": entry_id,
        "licence_id": licence_id,
        "acceptance_id": acceptance_id,
        "org": org,
        "code": code,
        "clause": clause,
    }


def refusal_of(session: Session, entry_id: str) -> dict[str, Any] | None:
    """The refusal behind an entry of the log: licence, acceptance, code, clause; None where none is kept."""
    row = session.execute(select(licence_refusal).where(licence_refusal.c.entry_id == entry_id)).one_or_none()
    return None if row is None else dict(row._asdict())


def check_acceptances(session: Session) -> list[str]:
    """Findings: acceptances and refusals that no longer have the hashes stored beside them."""
    findings = []
    licences: dict[str, Licence | None] = {}
    for row in session.execute(select(acceptance).order_by(acceptance.c.id)):
        stored = _from_row(row)
        if sha256_hex(canonical(document_of(stored))) != stored.digest:
            findings.append(f"acceptance {row.id}: it was changed after it was given")
        if row.licence_id not in licences:
            licences[row.licence_id] = _found(session, row.licence_id)
        found = licences[row.licence_id]
        if found is None or row.shown_sha256 != found.text_sha256:
            findings.append(
                f"acceptance {row.id}: what was shown is not the text of licence {row.licence_id}"
            )
    for row in session.execute(select(licence_refusal).order_by(licence_refusal.c.entry_id)):
        told = refusal_document(
            row.entry_id, row.licence_id, row.acceptance_id, row.org, row.code, row.clause
        )
        if sha256_hex(canonical(told)) != row.digest:
            findings.append(f"refusal {row.entry_id}: it was changed after it was logged")
    return findings


def _found(session: Session, licence_id: str) -> Licence | None:
    try:
        return find_licence(session, licence_id)
    except LicenceRefused:
        return None


def _acceptance(**fields: Any) -> Acceptance:  # every field but the digest, which is computed here
    unsigned = Acceptance(**fields, digest="")
    return Acceptance(**fields, digest=sha256_hex(canonical(document_of(unsigned))))


def _from_row(row: Row[tuple[object, ...]]) -> Acceptance:
    fields = {name: getattr(row, name) for name in Acceptance.__slots__}
    return Acceptance(**{**fields, "purposes": tuple(json.loads(row.purposes))})


def _check_acceptable(found: Licence, accepted: Acceptance, now: datetime) -> None:
    try:
        if not accepted.purposes or not all(is_purpose(purpose) for purpose in accepted.purposes):
            raise PurposeNotAllowed("Name at least one purpose, such as research.", clause="purposes")
        if not is_territory(accepted.territory):
            raise TerritoryNotAllowed("Name a territory, such as US or US-NY.", clause="territories")
        if not is_purpose(accepted.role) or len(accepted.role) > _LONGEST_ROLE:
            raise AssigneeNotAllowed("Name a role, such as data-steward.", clause="roles")
        for purpose in accepted.purposes:
            evaluate(
                found.terms,
                accepted,
                purpose=purpose,
                territory=accepted.territory,
                now=now,
                withdrawn=found.withdrawn_at is not None,
            )
    except LicenceRefused as refused:
        refused.licence_id = found.id
        raise
