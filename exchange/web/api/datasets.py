"""Datasets: search and detail for everybody; listing as code for providers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange.operations import drafting, laying, listing, offering
from exchange.web.api.body import asked, asks, body, idempotency_key, keyed, page, takes
from exchange.web.auth import actor, market

datasets = Blueprint("datasets", __name__, url_prefix="/v1/datasets")

_MANIFEST = {"manifest": dict, "files": dict, "manifest_sha256": str}


@datasets.get("")
@asks("q", "limit", "page_token")
def search() -> Response:
    """Search published listings."""
    limit, token = page()
    return jsonify(listing.search(market(), actor(), (asked("q") or ""), limit=limit, page_token=token))


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


@datasets.post("/<path:dataset>/withdraw")
@keyed
def withdraw(dataset: str) -> Response:
    """Withdraw the listing; grants stop at the next query."""
    return jsonify(offering.withdraw(market(), actor(), dataset, key=idempotency_key()))


@datasets.get("/<path:dataset>")
def show(dataset: str) -> Response:
    """A listing with its licence, policy, plans and what is left of the privacy budget."""
    return jsonify(laying.show(market(), actor(), dataset))
