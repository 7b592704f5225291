"""What licences say at every use: which acceptance is in force, and whether it allows what is asked.

The judgement itself is one function, :func:`settlement.licences.evaluate`; here it is given what the exchange
knows of a use at request, quote, run and fetch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange import queries
from exchange.operations import listing
from settlement import licences
from settlement.errors import LicenceNotAccepted

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from exchange.operations.quoting import Terms
    from settlement import orders


def used_under(
    session: Session, use: orders.Grant | orders.AccessRequest, licence_id: str
) -> licences.Acceptance:
    """The acceptance by which a grant, or what a request asks for, is used: its own, or a newer one of the
    licence that is on offer, for the same purpose and territory.
    """
    accepted = licences.find_acceptance(session, use.acceptance_id, org=use.org)
    if accepted.licence_id != licence_id:
        for newer in licences.acceptances_of(session, org=use.org, licence_id=licence_id):
            if use.purpose in newer.purposes and use.territory == newer.territory:
                return newer
    return accepted


def frozen_by(session: Session, use: orders.Grant | orders.AccessRequest) -> dict[str, str]:
    """Whose freeze stops a grant, or what a request asks for: the dataset, the buyer, and the licence version
    by which it is used now.
    """
    accepted = used_under(session, use, listing.any_view(session, use.dataset).licence_id)
    return {"dataset": use.dataset, "organisation": use.org, "licence": accepted.licence_id}


def in_force(
    session: Session, grant: orders.Grant, licence_id: str, now: datetime
) -> tuple[licences.Acceptance, licences.Licence]:
    """The acceptance by which a grant is used now, and its licence; its declared use is evaluated.

    LicenceNotAccepted where that licence changed materially since; another LicenceRefused where it denies.
    """
    accepted = used_under(session, grant, licence_id)
    licence = licences.find_licence(session, accepted.licence_id)
    if licence.id != licence_id:
        _require_immaterial(licence, licences.find_licence(session, licence_id), accepted)
    licences.judge(licence, accepted, purpose=grant.purpose, territory=grant.territory, now=now)
    return accepted, licence


def permit_plan(session: Session, terms: Terms, now: datetime) -> str:
    """The clause that allows this plan now; raises a LicenceRefused.

    Queries and rho are counted over all versions of the licence: a new one begins no new count. A repeat of
    an answer that the organisation has costs nothing and is not counted: what it reads must be allowed all
    the same.
    """
    plan, org = terms.plan, terms.grant.org
    same = {"org": org, "version": terms.view.version_id, "plan_sha256": plan.digest}
    amounts: dict[str, Any] = {}
    limits = terms.licence.terms
    counted = limits.query_count is not None or limits.max_rho_total_nano is not None
    if queries.settled_before(session, **same) is None:
        under = licences.acceptances_under(session, terms.licence, org=org) if counted else []
        amounts = {
            "queries_so_far": queries.count_asked(session, under),
            "rho_so_far_nano": queries.rho_asked(session, under),
            "rho_nano": terms.rho_in_all_nano,
            "more_rho_nano": plan.cost.rho_nano,
        }
    return licences.permit(
        session,
        acceptance_id=terms.accepted.id,
        org=org,
        purpose=terms.grant.purpose,
        territory=terms.grant.territory,
        now=now,
        reads=licences.Reads(plan.columns_read, plan.joins),
        **amounts,
    )


def _require_immaterial(old: licences.Licence, new: licences.Licence, accepted: licences.Acceptance) -> None:
    changes = [change.says for change in licences.compare(old, new) if change.material]
    if changes:
        refused = LicenceNotAccepted(
            f"The dataset has a new licence version. {' '.join(changes)}",
            clause="acceptance",
            hint="Read it and accept it: `dataset.accept(...)`, or request access again.",
        )
        refused.licence_id, refused.acceptance_id = new.id, accepted.id
        raise refused
