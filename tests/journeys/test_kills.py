"""Fifty times SIGKILL to servers and workers under clients; ``make soak`` kills a thousand times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.kills import kill_many
from tests.market.prepared import Postgres


@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_whoever_is_killed(postgres_server: Postgres, tmp_path: Path) -> None:
    done = kill_many(postgres_server, tmp_path, kills=50, count=12, chosen=20261122)
    assert done["SETTLED"] >= 10
