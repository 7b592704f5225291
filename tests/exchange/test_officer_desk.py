"""The officer's overview, the list of domains, and the forms of exports: everything is reached from them."""

from __future__ import annotations

import dataclasses
import re
from contextlib import closing

import pytest

from exchange.web.portal import officer_desk
from tests.exchange.test_oversight import raise_one
from tests.exchange.test_portal import Markup
from tests.market import sample
from tests.market.browser import member
from tests.market.stand import Stand

PAGES = ("/officer/overview", "/officer/domains", "/officer/exports")


@pytest.mark.parametrize("who", ["buyer", "provider"])
def test_the_pages_are_for_officers_and_operators(sqlite_stand: Stand, who: str) -> None:
    with closing(sqlite_stand.sign_in(who)) as browser:
        for page in (*PAGES, "/officer/open?id=x"):
            assert browser.get(page).status_code == 403, page


def test_what_waits_for_an_officer_is_on_one_page(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    with closing(member(stand, "officer", "ada@cnil.example")) as ada:
        empty = ada.get("/officer/overview").text
        for text in ("No approval waits.", "No alert is open.", "No checkpoint has been published yet"):
            assert text in empty
        stand.publish_log()
        alert = raise_one(stand)
        made = stand.post("officer", "/v1/officer/freezes", {"organisation": "globex", "reason": "x"}).json()
        stand.post("officer", f"/v1/officer/freezes/{made['freeze']}/lift", {"reason": "settled"})
        page = ada.get("/officer/overview").text
        assert f"/officer/alerts/{alert}" in page
        assert f"Lift the freeze {made['freeze']}" in page
        assert re.search(r"Freezes in force</dt><dd><a [^>]+>1<", page)
        for path in PAGES:
            markup = Markup(ada.get(path).text)
            assert (markup.forbidden, markup.tags.count("h1")) == ([], 1), path


def test_an_id_opens_its_page(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    query = stand.run().json()["query"]
    entry = stand.entries(kind="query.settled")[0].id
    stand.publish_log()
    with closing(member(stand, "officer", "ada@cnil.example")) as ada:
        assert ada.get(f"/officer/open?id={query}").url.path == f"/officer/queries/{query}"
        assert ada.get(f"/officer/open?id=%20{entry}").url.path == f"/officer/entries/{entry}"
        assert ada.get("/officer/open?id=alr_nothing").url.params["q"] == "alr_nothing"
        assert ada.get("/officer/open?id=//evil.test").url.host == "market.test"
        assert ada.get("/officer/open?id=").status_code == 404


def test_domains_are_listed_page_by_page(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(officer_desk, "_DOMAINS", 1)
    stand = sqlite_stand
    other = sample.manifest(slug="city/small", policy=sample.policy(domain="a:first"))
    stand.publish(manifest=other, files={"rides": sample.rides(seed=9), "zones": sample.zones()})
    with closing(member(stand, "officer", "ada@cnil.example")) as ada:
        first = ada.get("/officer/domains").text
        assert "a:first" in first
        assert sample.DOMAIN not in first
        more = re.search(r'href="([^"]+)" rel="next"', first)
        assert more is not None
        assert sample.DOMAIN in ada.get(more[1]).text
    assert len(stand.get("officer", "/v1/audit/domains").json()["items"]) == 2


def test_entries_are_taken_away_by_the_form(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.run().status_code == 200
    stand.publish_log()
    with closing(member(stand, "officer", "ada@cnil.example")) as ada:
        form = ada.get("/officer/exports?kind=query.settled").text
        assert 'value="query.settled"' in form
        assert form.count("<option") == 6
        taken = ada.post("/officer/exports", format="csv", kind="query.settled", q="", since="")
        assert taken.headers["X-Entries"] == "1"
        assert ada.post("/officer/exports", format="pdf").status_code == 422
        for path in re.findall(r'href="(/audit/[^"]+)"', form):
            assert ada.get(path).status_code == 200, path


def test_an_officer_approves_a_licence_on_its_page(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    strict = dataclasses.replace(stand.market.settings, licence_approval=1)
    monkeypatch.setitem(vars(stand.market), "settings", strict)
    mine = sample.manifest(
        slug="city/waiting",
        policy=sample.policy(domain="riders:waiting"),
        licence=sample.licence(title="Ours", text="Ask <b>politely</b>.", attribution="Cite us."),
    )
    drafted = stand.draft(manifest=mine, files=sample.files(seed=21)).json()
    where, what = "/v1/datasets/city/waiting/publish", {"version": drafted["version"]}
    assert stand.post("provider", where, what).status_code == 409
    with closing(member(stand, "officer", "ada@cnil.example")) as ada:
        assert "/officer/licences" in ada.get("/officer/approvals").text
        page = ada.get("/officer/licences").text
        assert "Ask &lt;b&gt;politely&lt;/b&gt;." in page, "what is approved is read there"
        assert "Cite us.</li>" in page, "one full stop"
        asked = re.search(r"<bdi>Ours</bdi>.*?(/officer/licences/lic_\w+/approve)", page, re.DOTALL)
        assert asked is not None
        done = ada.post(asked[1])
        assert (done.status_code, done.url.path) == (200, "/officer/licences")
        assert asked[1] not in done.text
        assert ada.get("/officer/licences?page=nonsense").status_code == 422
    assert stand.post("provider", where, what).status_code == 200
    assert stand.entries(kind="licence.approved")[-1].document["actor"]["ref"].startswith("per_")
    with closing(member(stand, "operator", "op@market.example")) as other:
        assert other.get("/officer/licences").status_code == 403
