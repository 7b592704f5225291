"""Licences: templates, checks, versions and their differences; acceptances, their receipts and signatures."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from exchange.errors import RequestInvalid
from exchange.operations import accepting, licence_versions, listing
from exchange.web.api.body import asked, asks, body, idempotency_key, keyed, takes
from exchange.web.auth import actor, market

licences = Blueprint("licences", __name__, url_prefix="/v1")

_LONGEST_REASON = 1000
_MOST_PURPOSES = 100
_JSON, _JSON_LD, _TEXT = "application/json", "application/ld+json", "text/plain"
_DATASPACE = "https://w3id.org/dspace/2025/1"
_ACCEPTANCE = {"purposes": list, "territory": str, "licence_sha256": str, "role": str, "publishes": bool}
_SIGNATURE = {"algorithm": str, "public_key": str, "signature": str}


@licences.get("/licences/templates")
def templates() -> Response:
    """The licences that a provider may start from."""
    actor()
    return jsonify(licence_versions.templates())


@licences.get("/licences/templates/<name>")
def template(name: str) -> Response:
    """One licence to start from, with its terms in words."""
    actor()
    return jsonify(licence_versions.template(name))


@licences.post("/licences/check")
@takes({"title": str, "text": str, "terms": dict}, required=("terms",))
def check() -> Response:
    """What a licence would say if it were published: terms in words, and as ODRL; nothing is stored."""
    given = body()
    actor()
    made = licence_versions.check(given.get("title") or "", given.get("text") or "", given["terms"])
    return jsonify(made)


@licences.get("/licences/<licence_id>")
def show(licence_id: str) -> Response:
    """A licence version: as JSON, its text, or its ODRL policy, by ``Accept``."""
    return _licence(licence_versions.show(market(), actor(), licence_id))


@licences.post("/licences/<licence_id>/withdraw")
@takes({"reason": str}, required=("reason",))
@keyed
def withdraw(licence_id: str) -> Response:
    """Stop every new use of a licence version."""
    reason = body()["reason"]
    if len(reason) > _LONGEST_REASON:
        raise RequestInvalid(f"a reason has at most {_LONGEST_REASON} characters")
    made = licence_versions.withdraw(market(), actor(), licence_id, reason, key=idempotency_key())
    return jsonify(made)


@licences.post("/licences/<licence_id>/approve")
@keyed
def approve(licence_id: str) -> Response:
    """Approve a licence version that somebody else wrote."""
    return jsonify(licence_versions.approve(market(), actor(), licence_id, key=idempotency_key()))


@licences.get("/datasets/<path:dataset>/licence")
def of_dataset(dataset: str) -> Response:
    """A dataset's licence: JSON, text, ODRL, or an Offer of the Dataspace Protocol, by ``Accept``."""
    if _wants_dataspace():
        return _ld(licence_versions.offer(market(), actor(), dataset), profile=_DATASPACE)
    return _licence(licence_versions.of_listing(market(), actor(), dataset))


@licences.get("/datasets/<path:dataset>/licence/versions")
def versions(dataset: str) -> Response:
    """The licence versions that a dataset has been on offer under, each with what it changed."""
    return jsonify(licence_versions.versions(market(), actor(), dataset))


@licences.get("/datasets/<path:dataset>/licence/diff")
@asks("from", "to")
def diff(dataset: str) -> Response:
    """What one licence version changes against another, in words; ``from`` and ``to`` name them."""
    old, new = asked("from"), asked("to")
    return jsonify(licence_versions.diff(market(), actor(), dataset, old, new))


@licences.post("/datasets/<path:dataset>/licence/accept")
@takes(_ACCEPTANCE, required=("purposes", "territory", "licence_sha256"))
@keyed
def accept(dataset: str) -> tuple[Response, int]:
    """Accept the licence in force, by the hash of its text; grants for the same use go on under it."""
    given = body()
    purposes = given["purposes"]
    if not all(isinstance(one, str) for one in purposes) or len(purposes) > _MOST_PURPOSES:
        raise RequestInvalid(f"purposes must be a list of at most {_MOST_PURPOSES} names")
    declared = accepting.Given(
        tuple(purposes), given["territory"], given.get("role", ""), given.get("publishes", False)
    )
    command = accepting.AcceptLicence(dataset, declared, given["licence_sha256"])
    return jsonify(accepting.accept(market(), actor(), command, key=idempotency_key())), 201


@licences.get("/acceptances/<acceptance_id>")
def acceptance(acceptance_id: str) -> Response:
    """An acceptance: JSON, or an Agreement of the Dataspace Protocol, by ``Accept``."""
    if _wants_dataspace():
        return _ld(accepting.agreement(market(), actor(), acceptance_id), profile=_DATASPACE)
    return jsonify(accepting.show(market(), actor(), acceptance_id))


@licences.get("/acceptances/<acceptance_id>/receipt")
def receipt(acceptance_id: str) -> Response:
    """The receipt of an acceptance, which is checked offline."""
    return jsonify(accepting.receipt(market(), actor(), acceptance_id))


@licences.post("/acceptances/<acceptance_id>/signature")
@takes(_SIGNATURE, required=tuple(_SIGNATURE))
@keyed
def sign(acceptance_id: str) -> Response:
    """Add the buyer's own signature, Ed25519 or ES256, over the acceptance's digest."""
    given = body()
    command = accepting.SignAcceptance(acceptance_id, **given)
    return jsonify(accepting.sign(market(), actor(), command, key=idempotency_key()))


def _licence(found: Any) -> Response:
    """A licence version in the form that is asked for; text and policy are the stored bytes."""
    kind = request.accept_mimetypes.best_match([_JSON, _JSON_LD, _TEXT], default=_JSON)
    if kind == _TEXT:
        return Response(found.text, content_type=f"{_TEXT}; charset=utf-8")
    if kind == _JSON_LD:
        return Response(found.odrl, content_type=_JSON_LD)
    return jsonify(listing.licence_document(found))


def _wants_dataspace() -> bool:
    """Whether ``Accept`` asks for JSON-LD of the Dataspace Protocol (the profile parameter of RFC 6906)."""
    return any(
        _JSON_LD in kind and _DATASPACE in kind and quality > 0 for kind, quality in request.accept_mimetypes
    )


def _ld(document: dict[str, Any], *, profile: str) -> Response:
    reply = jsonify(document)
    reply.content_type = f'{_JSON_LD}; profile="{profile}"'
    return reply
