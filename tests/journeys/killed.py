"""Run one query, or publish a version, and die at a boundary as a killed server does.

Arguments: BOUNDARY TOKEN, and VERSION to publish it.
"""

from __future__ import annotations

import os
import sys

import httpx
import pytest

from exchange import bootstrap
from exchange.config import Settings
from exchange.web import create_app
from tests.journeys.crashes import plant, plant_in_publishing
from tests.market import sample


def main(boundary: str, token: str, version: str = "") -> None:
    """Ask, and never come back."""
    market = bootstrap.open_market(Settings.from_env())
    planting = plant_in_publishing if version else plant
    planting(pytest.MonkeyPatch(), boundary, lambda: os._exit(9))
    body: dict[str, str] = {"dataset": sample.SLUG, "sql": sample.COUNT, "rho": "0.01"}
    path = "/v1/queries"
    if version:
        path, body = f"/v1/datasets/{sample.SLUG}/publish", {"version": version}
    with httpx.Client(
        transport=httpx.WSGITransport(create_app(market)), base_url="http://market.test"
    ) as client:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "killed"}
        reply = client.post(path, json=body, headers=headers, timeout=60)
    sys.exit(f"still alive: {reply.status_code} {reply.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
