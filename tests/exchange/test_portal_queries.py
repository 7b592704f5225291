"""A buyer's queries on the portal: what goes on, its place in the queue, and the button that ends it."""

from __future__ import annotations

import re
import time
from contextlib import closing
from html import unescape

import pytest

from tests.journeys.running import gated
from tests.journeys.test_jobs import ended, submit
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand

STATEMENTS = (sample.COUNT, sample.BY_ZONE, sample.MINUTES, "select sum(cents) as c from rides")
STATE = re.compile(r'<div class="meta">(qry_\w+)</div></td>\s*<td>(.*?)</td>', re.DOTALL)


def states(browser: Browser) -> dict[str, str]:
    """Query -> what the page says of its state."""
    found = STATE.findall(browser.get("/queries").text)
    return {query: unescape(re.sub(r"<[^>]+>", "", state)).strip() for query, state in found}


def buttons(browser: Browser) -> set[str]:
    return set(re.findall(r'action="/queries/(qry_\w+)/cancel"', browser.get("/queries").text))


def running(stand: Stand, where: str) -> None:
    until = time.monotonic() + 20
    while stand.get("buyer", where).json()["state"] != "running":
        assert time.monotonic() < until
        time.sleep(0.02)


def test_queries_are_seen_in_their_places_and_cancelled(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    with gated(monkeypatch) as gate, closing(member(stand)) as ada:
        assert ">Queries</a>" in ada.get("/").text
        assert "None yet" in ada.get("/queries").text
        sent = [submit(stand, sql=sql, key=sql).json()["query"] for sql in STATEMENTS]
        gate.await_arrival()
        running(stand, f"/v1/queries/{sent[0]}")
        assert states(ada) == {
            sent[0]: "running",
            **{one: f"queued {n} of 3 of yours" for n, one in enumerate(sent[1:], 1)},
        }
        assert buttons(ada) == set(sent)
        html = ada.get("/queries").text
        assert html.count('<details class="confirm">') == html.count("/cancel") == 4, (
            "none without a second press"
        )
        assert ada.http.post(f"/queries/{sent[2]}/cancel", data={"csrf": "x"}).status_code == 400
        assert buttons(ada) == set(sent), "a forged form ends nothing"
        page = ada.post(f"/queries/{sent[2]}/cancel")
        assert page.url.path == "/queries"
        assert states(ada)[sent[2]] == "cancelled"
        assert states(ada)[sent[3]] == "queued 2 of 2 of yours"
        ada.post(f"/queries/{sent[0]}/cancel")
        gate.open(4)
        for one in (sent[1], sent[3]):
            assert ended(stand, f"/v1/queries/{one}")["state"] == "succeeded"
        assert buttons(ada) == set()
        before = stand.books()
        assert ada.post(f"/queries/{sent[1]}/cancel").url.path == "/queries"
        assert stand.books() == before, "one that has ended stays as it is"
        told = states(ada)
    assert [told[one] for one in sent] == ["cancelled", "succeeded", "cancelled", "succeeded"]
    ends = [*stand.entries(kind="query.voided"), *stand.entries(kind="query.forfeited")]
    assert [one.document["actor"]["ref"][:4] for one in ends] == ["per_", "per_"]
    assert stand.broken_laws() == []


def test_buyers_alone_have_queries_and_each_their_own(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    made = stand.run().json()["query"]
    with (
        closing(member(stand, "other", "gil@globex.example")) as gil,
        closing(member(stand, "provider", "pat@city.example")) as pat,
        closing(Browser(stand)) as nobody,
    ):
        assert made not in gil.get("/queries").text
        assert gil.post(f"/queries/{made}/cancel").status_code == 404
        assert pat.get("/queries").status_code == 403
        assert ">Queries</a>" not in pat.get("/").text
        assert nobody.get("/queries").url.path == "/sign-in"


def test_a_statement_is_shown_as_text(sqlite_stand: Stand) -> None:
    sqlite_stand.run(sql="select count(*) as n from rides where kind = '<script>alert(1)</script>'")
    with closing(member(sqlite_stand)) as ada:
        page = ada.get("/queries").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
