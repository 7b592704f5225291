"""Datasets: search and detail for everybody; listing as code for providers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from exchange.operations import drafting, laying, listing, offering
from exchange.web.api.body import body, idempotency_key, page
from exchange.web.auth import actor, market

datasets = Blueprint("datasets", __name__, url_prefix="/v1/datasets")

_MANIFEST = {"manifest": dict, "files": dict, "manifest_sha256": str}


@datasets.get("")
def search() -> Response:
    """Search published listings."""
    limit, token = page()
    return jsonify(
        listing.search(market(), actor(), request.args.get("q", ""), limit=limit, page_token=token)
    )


@datasets.post("")
def create() -> tuple[Response, int]:
    """Ingest the uploaded files and add a version to the dataset that the manifest names."""
    given = body(_MANIFEST, required=("manifest", "files"))
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
def publish(dataset: str) -> Response:
    """Publish a version."""
    given = body({"version": str}, required=("version",))
    return jsonify(offering.publish(market(), actor(), dataset, given["version"], key=idempotency_key()))


@datasets.post("/<path:dataset>/withdraw")
def withdraw(dataset: str) -> Response:
    """Withdraw the listing; grants stop at the next query."""
    return jsonify(offering.withdraw(market(), actor(), dataset, key=idempotency_key()))


@datasets.get("/<path:dataset>")
def show(dataset: str) -> Response:
    """A listing with its licence, policy, plans and what is left of the privacy budget."""
    return jsonify(laying.show(market(), actor(), dataset))
