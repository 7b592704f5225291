"""An entry as an event of the Open Cybersecurity Schema Framework 1.6.0: Datastore Activity, class 6005.

https://schema.ocsf.io/1.6.0/classes/datastore_activity. What the class has an attribute for is mapped; the
rest of the leaf is under `unmapped`, and the leaf's own JSON under `raw_data`, so that nothing is lost. No
profile is used. Standard library alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from exchange.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "1.6.0"
CLASS, CATEGORY = 6005, 6
READ, UPDATE, CONNECT, QUERY, WRITE, CREATE, DELETE, LIST, OTHER = 1, 2, 3, 4, 5, 6, 7, 8, 99
NAMES = {
    READ: "Read",
    UPDATE: "Update",
    CONNECT: "Connect",
    QUERY: "Query",
    WRITE: "Write",
    CREATE: "Create",
    DELETE: "Delete",
    LIST: "List",
}
"""activity_id -> its name; the name of 99, Other, is the kind itself."""

# The whole kind, where the verb alone would mislead.
_KINDS = {
    "door.used": CONNECT,
    "token.used": CONNECT,
    "session.started": CONNECT,
    "device.started": CONNECT,
    "account.connected": UPDATE,
    "upload.started": WRITE,
    "credential.reused": OTHER,
    "profile.reused": READ,
    "query.released": QUERY,
    "exchange.released": QUERY,
}
# Of a query, everything but the start and the end of a connection is a part of asking it.
_SUBJECTS = {"query": QUERY, "quote": QUERY, "answer": READ, "log": READ, "ledger": READ, "audit": READ}
_VERBS = {
    READ: "read exported fetched opened",
    LIST: "listed",
    CREATE: "created requested issued drafted proposed entered started opened invited joined added placed "
    "raised saved",
    WRITE: "published booked recorded received credited",
    DELETE: "withdrawn revoked removed forgotten expired purged ended retired cancelled lapsed "
    "erased deleted",
    UPDATE: (
        "changed moved set approved declined decided confirmed accepted signed granted renewed rotated "
        "settled reserved enabled disabled kept closed rebuilt reconciled stuck forfeited voided released "
        "assigned deprecated noted resolved renamed lifted identified not_retired not_rotated connected "
        "credit_ended none refused failed"
    ),
}
_OF_VERB = {verb: activity for activity, verbs in _VERBS.items() for verb in verbs.split()}


def activity_of(kind: str) -> int:
    """The activity_id of a kind of entry; 99, Other, for a kind that is not mapped."""
    subject, _, verb = kind.partition(".")
    return _KINDS.get(kind) or _SUBJECTS.get(subject) or _OF_VERB.get(verb, OTHER)


def event(
    document: Mapping[str, Any], leaf: bytes, *, leaf_hash: str, org_name: str | None, origin: str
) -> dict[str, Any]:
    """The event of one entry: `document` is what its `leaf` says."""
    kind, outcome, activity = document["kind"], document["outcome"], activity_of(document["kind"])
    actor, source = document["actor"] or {}, document["source"] or {}
    made = {
        "activity_id": activity,
        "activity_name": NAMES.get(activity, kind),
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "Datastore Activity",
        "type_uid": CLASS * 100 + activity,
        "time": int(datetime.fromisoformat(document["time"]).timestamp() * 1000),
        "timezone_offset": 0,
        "severity_id": 1 if outcome == "done" else 2,
        "status_id": {"done": 1, "refused": 2}.get(outcome, 99),
        "status": {"done": "Success", "refused": "Failure"}.get(outcome, outcome),
        "status_code": document["code"],
        "message": f"{kind} {outcome}",
        "type_id": 1,
        "actor": {"user": _user(actor, org_name)},
        # An address is kept as a network alone, and a network is no `ip`.
        "src_endpoint": {"name": source.get("ip_truncated") or "unknown"},
        "database": _database(document, origin),
        "metadata": {
            "version": VERSION,
            "product": {
                "name": "exchange",
                "vendor_name": "private-data-exchange",
                "version": __version__,
            },
            "uid": document["id"],
            "event_code": kind,
            "log_name": origin,
            "sequence": document["seq"],
            "original_time": document["time"],
            "correlation_uid": source.get("request_id"),
        },
        "query_info": _query_info(document),
        "raw_data": leaf[1:].decode("utf-8"),
        "unmapped": _unmapped(document, leaf_hash),
    }
    made["metadata"] = _known(made["metadata"])
    return _known(made)


def _user(actor: Mapping[str, Any], org_name: str | None) -> dict[str, Any]:
    role, org = actor.get("role"), actor.get("org")
    kinds = {None: (0, None), "system": (3, "System")}
    number, name = kinds.get(role, (99, role))
    belongs = _known({"uid": org, "name": org_name}) if org else None
    return _known({"uid": actor.get("ref") or "unknown", "type_id": number, "type": name, "org": belongs})


def _database(document: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """What was acted on: the dataset or, where there is none, the object; the log itself without either."""
    thing = document["object"] or {}
    name = thing.get("dataset") or thing.get("type") or origin
    return _known({"name": name, "uid": thing.get("id"), "type_id": 99, "type": thing.get("type") or "log"})


def _query_info(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The query by its id; its text is in no leaf, its digest stands for it."""
    query, result = document["query"] or {}, document["result"] or {}
    if not query.get("id"):
        return None
    text = f"sha256:{query['sql_sha256']}" if query.get("sql_sha256") else "unknown"
    return _known({"uid": query["id"], "query_string": text, "bytes": result.get("bytes")})


def _unmapped(document: Mapping[str, Any], leaf_hash: str) -> dict[str, Any]:
    names = (
        "outcome",
        "object",
        "licence",
        "query",
        "privacy",
        "money",
        "result",
        "org_seq",
        "prev_org_leaf",
    )
    rest = {name: document[name] for name in names}
    return _known({**rest, "auth": (document["actor"] or {}).get("auth"), "leaf_hash": leaf_hash})


def _known(members: Mapping[str, Any]) -> dict[str, Any]:
    """Without what has no value: OCSF knows no null."""
    return {name: value for name, value in members.items() if value is not None}
