"""Load on a served exchange: requests of the real thing, and how figures are judged."""

from __future__ import annotations

import itertools

import pytest

from bench import load
from tests.market.server import DemoExchange


def test_clients_send_as_fast_as_they_are_answered_or_when_it_is_due(demo_exchange: DemoExchange) -> None:
    served = load.Served(demo_exchange.url, demo_exchange.token, database="")
    numbers = itertools.count()
    heard = load.run(served, load.Client.read, numbers, seconds=0.5, clients=2)
    assert len(heard.seconds) == next(numbers) > 2
    assert not heard.others
    due = load.run(served, load.Client.read, itertools.count(), seconds=0.5, clients=2, rate=8)
    assert len(due.seconds) == 4
    stranger = load.Served(demo_exchange.url, "exk_nobody", database="")
    refused = load.run(stranger, load.Client.ask, itertools.count(), seconds=0.5, clients=1, rate=2)
    assert refused.others == {401: 1}


@pytest.mark.parametrize(
    ("due", "done", "p99_s", "verdict"),
    [
        (None, 300.0, 9.0, ">= 300/s: met"),
        (None, 299.0, 0.1, ">= 300/s: missed"),
        (300.0, 300.0, 0.25, "p99 <= 250 ms: met"),
        (300.0, 300.0, 0.26, "p99 <= 250 ms: missed"),
        (1200.0, 320.0, 9.0, ">= 80% of the peak: met"),
        (1200.0, 319.0, 9.0, ">= 80% of the peak: missed"),
    ],
)
def test_a_line_is_judged_by_its_own_goal(due: float | None, done: float, p99_s: float, verdict: str) -> None:
    one = {"kind": "reads", "due_per_second": due, "done_per_second": done, "p50_s": 0.1, "p99_s": p99_s}
    assert load.line({**one, "others": {"503": 2}, "peak": 400.0})[-2:] == ("2 of 503", verdict)
