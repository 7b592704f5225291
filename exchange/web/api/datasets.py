"""Datasets: search and detail for everybody; listing as code for providers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange import facets
from exchange.operations import drafting, finding, laying, listing, offering
from exchange.web.api.body import asked, asked_all, asks, body, idempotency_key, keyed, page, takes
from exchange.web.auth import actor, market

datasets = Blueprint("datasets", __name__, url_prefix="/v1/datasets")

_MANIFEST = {"manifest": dict, "files": dict, "manifest_sha256": str}


@datasets.get("")
@asks("q", *facets.NAMES, "sort", "limit", "page_token")
def search() -> Response:
    """Search published listings; a facet may be given several times: one of its values is enough."""
    limit, token = page()
    found = finding.search(
        market(),
        actor(),
        asked("q") or "",
        chosen={name: asked_all(name) for name in facets.NAMES},
        sort=asked("sort") or finding.SORTS[0],
        limit=limit,
        page_token=token,
    )
    return jsonify(found)


@datasets.post("")
@takes(_MANIFEST, required=("manifest", "files"))
@keyed
def create() -> tuple[Response, int]:
    """Ingest the uploaded files and add a version to the dataset that the manifest names."""
    given = body()
    made = drafting.draft(
        market(),
        actor(),
        drafting.DraftListing(
            manifest=given["manifest"], files=given["files"], manifest_sha256=given.get("manifest_sha256", "")
        ),
        key=idempotency_key(),
    )
    return jsonify(made), 200 if made["unchanged"] else 201


@datasets.get("/<path:dataset>/profile")
def profile(dataset: str) -> Response:
    """The profile of the newest version, for its provider's eyes."""
    return jsonify(listing.profile(market(), actor(), dataset))


@datasets.post("/<path:dataset>/publish")
@takes({"version": str}, required=("version",))
@keyed
def publish(dataset: str) -> Response:
    """Publish a version."""
    given = body()
    return jsonify(offering.publish(market(), actor(), dataset, given["version"], key=idempotency_key()))


@datasets.post("/<path:dataset>/deprecate")
@takes({"reason": str}, required=("reason",))
@keyed
def deprecate(dataset: str) -> Response:
    """Take no new buyers; who has access goes on until it ends. Publishing the version again undoes it."""
    reason = body()["reason"]
    return jsonify(offering.deprecate(market(), actor(), dataset, reason=reason, key=idempotency_key()))


@datasets.post("/<path:dataset>/withdraw")
@keyed
def withdraw(dataset: str) -> Response:
    """Withdraw the listing; grants stop at the next query."""
    return jsonify(offering.withdraw(market(), actor(), dataset, key=idempotency_key()))


@datasets.get("/<path:dataset>")
def show(dataset: str) -> Response:
    """A listing with its licence, policy, plans and what is left of the privacy budget."""
    return jsonify(laying.show(market(), actor(), dataset))
