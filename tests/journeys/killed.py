"""Run one query in this process and die at a boundary, as a killed server does. Arguments: BOUNDARY TOKEN."""

from __future__ import annotations

import os
import sys

import httpx
import pytest

from exchange import bootstrap
from exchange.config import Settings
from exchange.web import create_app
from tests.journeys.crashes import plant
from tests.market import sample


def main(boundary: str, token: str) -> None:
    """Ask, and never come back."""
    market = bootstrap.open_market(Settings.from_env())
    plant(pytest.MonkeyPatch(), boundary, lambda: os._exit(9))
    with httpx.Client(
        transport=httpx.WSGITransport(create_app(market)), base_url="http://market.test"
    ) as client:
        body = {"dataset": sample.SLUG, "sql": sample.COUNT, "rho": "0.01"}
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "killed"}
        reply = client.post("/v1/queries", json=body, headers=headers, timeout=60)
    sys.exit(f"still alive: {reply.status_code} {reply.text}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
