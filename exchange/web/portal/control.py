"""The officer's pages for what is stopped and kept, and for what two persons decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, request, url_for

from exchange.errors import ConfirmationNeeded
from exchange.identity import Role
from exchange.operations import approving, deciding, licence_versions, restraining
from exchange.restraints import FREEZE, HOLD, SUBJECTS
from exchange.web.auth import log_refusal, login, market
from exchange.web.portal import portal
from exchange.web.portal.pages import form, visitor_page

if TYPE_CHECKING:
    from exchange.identity import Actor

_READERS = (Role.OFFICER, Role.OPERATOR)
_LONGEST_NAME = 200


@portal.get("/officer/freezes")
@visitor_page(*_READERS)
def freezes(visitor: Actor) -> str:
    """Freezes, and the form that sets one."""
    return _restraints_page(visitor, FREEZE)


@portal.post("/officer/freezes")
@visitor_page(Role.OFFICER)
def set_freeze(visitor: Actor) -> Any:
    """Freeze at once."""
    return _impose(visitor, FREEZE)


@portal.post("/officer/freezes/<freeze_id>/lift")
@visitor_page(Role.OFFICER)
def ask_to_lift_freeze(visitor: Actor, freeze_id: str) -> Any:
    """Ask for the approval to lift a freeze."""
    return _ask_to_lift(visitor, FREEZE, freeze_id)


@portal.get("/officer/holds")
@visitor_page(*_READERS)
def holds(visitor: Actor) -> str:
    """Legal holds, and the form that sets one."""
    return _restraints_page(visitor, HOLD)


@portal.post("/officer/holds")
@visitor_page(Role.OFFICER)
def set_hold(visitor: Actor) -> Any:
    """Put a legal hold in force."""
    return _impose(visitor, HOLD)


@portal.post("/officer/holds/<hold_id>/lift")
@visitor_page(Role.OFFICER)
def ask_to_lift_hold(visitor: Actor, hold_id: str) -> Any:
    """Ask for the approval to lift a legal hold."""
    return _ask_to_lift(visitor, HOLD, hold_id)


@portal.get("/officer/approvals")
@visitor_page(*_READERS)
def approvals(visitor: Actor) -> str:
    """What waits for a second person, and what was decided."""
    state = request.args.get("state", "").strip() or None
    found = approving.listed(market(), visitor, state=state, page_token=request.args.get("page"))
    return render_template("approvals.html", found=found, state=state or "")


@portal.get("/officer/approvals/<approval_id>")
@visitor_page(*_READERS)
def approval(visitor: Actor, approval_id: str) -> str:
    """One approval with what it is bound to; who asked for it cannot give it."""
    return render_template("approval.html", one=approving.show(market(), visitor, approval_id))


@portal.post("/officer/approvals/<approval_id>/approve")
@visitor_page(Role.OFFICER)
def approve(visitor: Actor, approval_id: str) -> Any:
    """Approve, with a second factor shown just now; else it is asked for first."""
    try:
        deciding.approve(market(), visitor, approval_id, who=login(), digest=form("digest", 64))
    except ConfirmationNeeded as refusal:
        log_refusal(refusal)
        back = url_for("portal.approval", approval_id=approval_id)
        return redirect(url_for("portal.confirm", next=back))
    return redirect(url_for("portal.approval", approval_id=approval_id))


@portal.post("/officer/approvals/<approval_id>/decline")
@visitor_page(Role.OFFICER)
def decline(visitor: Actor, approval_id: str) -> Any:
    """Decline what is asked for."""
    approving.decline(market(), visitor, approval_id)
    return redirect(url_for("portal.approval", approval_id=approval_id))


@portal.get("/officer/licences")
@visitor_page(Role.OFFICER)
def waiting_licences(visitor: Actor) -> str:
    """Licence versions that wait for somebody other than their writer to approve them."""
    found = licence_versions.waiting(market(), visitor, page_token=request.args.get("page"))
    return render_template("officer/licences.html", found=found)


@portal.post("/officer/licences/<licence_id>/approve")
@visitor_page(Role.OFFICER)
def approve_licence(visitor: Actor, licence_id: str) -> Any:
    """Approve a licence version."""
    licence_versions.approve(market(), visitor, licence_id, key=None)
    return redirect(url_for("portal.waiting_licences"))


def _restraints_page(visitor: Actor, kind: str) -> str:
    found = restraining.listed(market(), visitor, kind)["items"]
    return render_template("restraints.html", kind=kind, found=found, subjects=SUBJECTS[kind])


def _impose(visitor: Actor, kind: str) -> Any:
    given = {form("subject_type", 20): form("subject", _LONGEST_NAME)}
    subject = restraining.subject_given(kind, given)
    restraining.impose(market(), visitor, kind, subject, form("reason", approving.LONGEST_REASON))
    return redirect(url_for(f"portal.{kind}s"))


def _ask_to_lift(visitor: Actor, kind: str, restraint_id: str) -> Any:
    reason = form("reason", approving.LONGEST_REASON)
    made = restraining.ask_to_lift(market(), visitor, kind, restraint_id, reason)
    return redirect(url_for("portal.approval", approval_id=made["approval"]))
