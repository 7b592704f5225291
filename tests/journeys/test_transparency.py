"""The public part: anybody adds up what was spent from the log alone, and sees where the exchange differs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sqlalchemy import event
from sqlalchemy.orm import Session

from exchange.audit import spending
from exchange.cli import main
from exchange.client import Exchange, Keys
from settlement import ledger
from settlement.ledger import chart, entries
from tests.market import sample
from tests.market.stand import Stand, problem


@contextlib.contextmanager
def anybody(stand: Stand, transport: httpx.BaseTransport | None = None) -> Iterator[Exchange]:
    """The SDK without a token."""
    door = transport or httpx.WSGITransport(app=stand.app)
    with Exchange("http://market.test", token="", transport=door) as x:
        yield x


def asked(stand: Stand, *rhos: str) -> None:
    for number, rho in enumerate(rhos):
        reply = stand.run(sql=f"{sample.COUNT} -- {number}", rho=rho)
        assert reply.status_code == 200, reply.text


def test_anybody_adds_up_what_was_spent(stand: Stand) -> None:
    asked(stand, "0.01", "0.02")
    stand.publish_log()
    with anybody(stand) as x:
        report = x.audit.spending()
    assert report.good, report.log.findings
    (city,) = report.domains
    spent = stand.budget()["rho_nano_spent"]
    assert (city.domain, city.log_rho_nano, city.said_rho_nano) == (sample.DOMAIN, spent, spent)
    assert city.entries >= 1
    assert sample.DOMAIN in report._repr_html_()


def test_what_is_not_published_yet_is_waited_for_and_not_found_good_without(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    stand.publish_log()
    asked(stand, "0.01")
    with anybody(stand) as x:
        report = x.audit.spending(wait_s=0)
        assert report.log.exit_code == 10
        assert [(one.log_rho_nano, one.agree) for one in report.domains] == [(None, False)]
        soon = threading.Timer(0.2, stand.publish_log)
        soon.start()
        report = x.audit.spending(wait_s=30)
        soon.join()
    assert report.good, report.log.findings
    assert [one.log_rho_nano for one in report.domains] == [stand.budget()["rho_nano_spent"]]


class Saying(httpx.BaseTransport):
    """An exchange that says that less was spent than was."""

    def __init__(self, stand: Stand) -> None:
        self._inner = httpx.WSGITransport(app=stand.app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._inner.handle_request(request)
        if request.url.path != "/audit/spending":
            return reply
        told = json.loads(reply.read())
        told["items"][0]["rho_nano_spent"] -= 1
        return httpx.Response(200, json=told)


def test_an_exchange_that_says_less_is_caught(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    asked(stand, "0.01")
    stand.publish_log()
    with anybody(stand, Saying(stand)) as x:
        report = x.audit.spending()
    assert report.log.exit_code == 11
    assert "the exchange says" in str(report.log.findings[0])


def test_the_pages_are_open_and_say_how_to_check(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    empty = stand.get(None, f"/transparency?domain={sample.DOMAIN}")
    assert "Nothing has been spent." in empty.text
    assert "Nothing has been published yet" in empty.text
    asked(stand, "0.01", "0.02")
    stand.publish_log()
    page, lines = stand.get(None, "/transparency"), stand.get(None, f"/transparency?domain={sample.DOMAIN}")
    assert sample.DOMAIN in page.text
    assert "exchange audit spending --url http://market.test" in page.text
    told = stand.get(None, f"/audit/spending/entries?domain={sample.DOMAIN}").json()["items"]
    assert told
    assert all(one["leaf_hash"][:16] in lines.text for one in told)
    assert stand.get(None, "/transparency?domain=nobody:there").status_code == 404
    assert stand.get(None, "/transparency?page=" + "x" * 500).status_code == 422


def test_a_page_of_entries_leads_to_the_next(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    asked(stand, "0.001", "0.002", "0.003")
    path = f"/audit/spending/entries?domain={sample.DOMAIN}&limit=1"
    found, token = [], None
    for _ in range(10):
        told = stand.get(None, path + (f"&page_token={token}" if token else "")).json()
        found += told["items"]
        token = told["next_page_token"]
        if token is None:
            break
    spent = stand.budget()["rho_nano_spent"]
    assert sum(one["rho_nano"] for one in found) == found[0]["spent_after"] == spent
    assert {one["kind"] for one in found} <= set(spending.KINDS)
    problem(stand.get(None, path + "&page_token=x"), 422, "page_token_invalid")
    problem(stand.get(None, "/audit/spending/entries?domain=nobody:there"), 404, "not_found")
    problem(stand.get(None, "/audit/spending?limit=0"), 422, "request_invalid")


def test_a_page_of_domains_costs_the_same_however_many_it_shows(stand: Stand) -> None:
    """Anybody may ask, without an account: fifty at most, and no statement for each."""
    names = [f"riders:{number:03}" for number in range(60)]

    def grant(session: Session, now: datetime) -> None:
        for name in names:
            chart.open_domain(session, name)
            legs: Any = entries.budget_granted(name, rho_nano=10**9, delta_pico=10**6)
            given: dict[str, Any] = {
                "kind": "budget_granted",
                "business_key": name,
                "actor": "test",
                "legs": legs,
            }
            ledger.post(session, journal=f"jnl_{name}", now=now, **given)

    stand.market.store.jot(grant)
    said, pages = list[str](), dict[int, int]()
    event.listen(stand.market.store.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    for limit in (1, 500):
        said.clear()
        told = stand.get(None, f"/audit/spending?limit={limit}").json()
        pages[len(told["items"])] = len([one for one in said if one.startswith("SELECT")])
    assert pages[1] == pages[50]
    rest = stand.get(None, f"/audit/spending?limit=500&page_token={told['next_page_token']}").json()
    found = [one["domain"] for one in told["items"] + rest["items"]]
    assert found == sorted({sample.DOMAIN, *names, *found})
    assert len(stand.get(None, f"/audit/spending/entries?domain={names[0]}").json()["items"]) == 0


def test_a_page_looks_at_so_many_entries_and_no_more(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quotes name a domain and cost nothing: a stranger's page does not read through a million of them."""
    stand = sqlite_stand
    asked(stand, "0.01")
    for _ in range(6):
        stand.quote()
    monkeypatch.setattr("exchange.audit.log._MOST_LOOKED_AT", 3)
    path = f"/audit/spending/entries?domain={sample.DOMAIN}"
    first = stand.get(None, path).json()
    assert (first["items"], first["next_page_token"] is None) == ([], False)
    assert "older ones follow" in stand.get(None, f"/transparency?domain={sample.DOMAIN}").text
    found, token = [], first["next_page_token"]
    while token is not None:
        told = stand.get(None, f"{path}&page_token={token}").json()
        found, token = found + told["items"], told["next_page_token"]
    assert sum(one["rho_nano"] for one in found) == stand.budget()["rho_nano_spent"]


def test_the_command_tells_a_table_and_an_exit_code(
    sqlite_stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    asked(stand, "0.01")
    stand.publish_log()
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(
        "exchange.cli.commands.client",
        lambda url, profile: anybody(stand),
    )
    done = CliRunner().invoke(main, ["audit", "spending", "--json"])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["good"], [one["agree"] for one in told["domains"]]) == (0, True, [True])
    drawn = CliRunner().invoke(main, ["audit", "spending"])
    assert sample.DOMAIN in drawn.stdout
    assert "good:" in drawn.stdout
    key = stand.get(None, "/audit/key").text.strip()
    assert Keys(key, "").log_key == key
