"""The few words that the exchange keeps in its tables (roles, states) in the reader's language.

A word that is not here is shown as it is kept, with its underscores as spaces.
"""

from __future__ import annotations

from flask_babel import lazy_gettext as _

_WORDS = {
    "provider": _("provider"),
    "buyer": _("buyer"),
    "officer": _("officer"),
    "operator": _("operator"),
    "active": _("active"),
    "acted": _("acted"),
    "approved": _("approved"),
    "building": _("building"),
    "cancelled": _("cancelled"),
    "closed": _("closed"),
    "confidential": _("confidential"),
    "confirmed": _("confirmed"),
    "core": _("core"),
    "count": _("count"),
    "dataset": _("dataset"),
    "declined": _("declined"),
    "deprecated": _("deprecated"),
    "derived": _("derived"),
    "disabled": _("disabled"),
    "done": _("done"),
    "draft": _("draft"),
    "ended": _("ended"),
    "expired": _("expired"),
    "general": _("general"),
    "important": _("important"),
    "failed": _("failed"),
    "false_alarm": _("false alarm"),
    "in_force": _("in force"),
    "key": _("key"),
    "licence": _("licence"),
    "lapsed": _("lapsed"),
    "lifted": _("lifted"),
    "open": _("open"),
    "organisation": _("organisation"),
    "paid": _("paid"),
    "pending": _("pending"),
    "public": _("public"),
    "published": _("published"),
    "query": _("query"),
    "queued": _("queued"),
    "ready": _("ready"),
    "refunded": _("refunded"),
    "refused": _("refused"),
    "requested": _("requested"),
    "returned": _("returned"),
    "revoked": _("revoked"),
    "running": _("running"),
    "sent": _("sent"),
    "settled": _("settled"),
    "succeeded": _("succeeded"),
    "sum": _("sum"),
    "suspended": _("suspended"),
    "waiting": _("waiting"),
    "withdrawn": _("withdrawn"),
    "ok": _("ok"),
    "executing": _("executing"),
    "reserved": _("reserved"),
    "result_durable": _("result durable"),
    "not seen yet": _("not seen yet"),
}


def word(kept: str | None) -> str:
    """A kept word as a reader is shown it; nothing is a dash."""
    if not kept:
        return "-"
    return str(_WORDS.get(kept, kept.replace("_", " ")))
