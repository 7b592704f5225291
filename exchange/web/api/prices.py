"""Prices before publishing: are they beaten, and what will questions cost under them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from exchange.operations import pricing, simulating
from exchange.web.api.body import body, takes
from exchange.web.auth import actor, market

prices = Blueprint("prices", __name__, url_prefix="/v1/prices")

_SIMULATION = {"dataset": str, "plans": list, "policy": dict, "schemas": dict, "questions": list, "plan": str}


@prices.post("/check")
@takes({"plans": list}, required=("plans",))
def check() -> Response:
    """Check the price plans of a listing as publishing would; nothing is stored."""
    return jsonify(pricing.check(market(), actor(), body()["plans"]))


@prices.post("/simulate")
@takes(_SIMULATION)
def simulate() -> Response:
    """Rho, epsilon, error and price of questions under each plan, and what they earn; nothing is stored."""
    return jsonify(simulating.simulate(market(), actor(), body()))
