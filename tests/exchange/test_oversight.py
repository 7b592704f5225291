"""The officer's further pages and doors: the queue, saved searches, a domain, a query."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from exchange.client import Conflict, Exchange, NotFound
from exchange.operations import domain_accounts, watching
from exchange.web.portal import charts
from tests.exchange.test_alerts import Seeded, refused
from tests.exchange.test_portal import Markup
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand, problem


@pytest.fixture(scope="module")
def asked(shared_sqlite_stand: Stand) -> Stand:
    """A market with two answers, an alert, and all of it published."""
    stand = shared_sqlite_stand
    for rho in ("0.01", "0.02"):
        assert stand.run(sql=f"{sample.BY_ZONE} -- {rho}", rho=rho).status_code == 200
    stand.publish_log()
    raise_one(stand)
    return stand


def raise_one(stand: Stand) -> str:
    """An alert about acme's refusals; its id."""
    refused(Seeded(stand), 21)
    watching.watch(stand.market)
    return str(stand.get("officer", "/v1/alerts?kind=refusals").json()["items"][0]["alert"])


def as_officer(stand: Stand, who: str = "officer") -> Exchange:
    door = httpx.WSGITransport(app=stand.app)
    return Exchange("http://market.test", token=stand.tokens[who], transport=door)


@pytest.fixture
def browser(asked: Stand, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """An officer who is a person; logins are unique in a market that tests share."""
    login = re.sub(r"[^a-z]", "", request.node.name)[-60:]
    with closing(member(asked, "officer", f"{login}@cnil.example")) as made:
        yield made


def test_an_alert_goes_its_way_over_the_api(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    stand.publish_log()
    alert = raise_one(stand)
    with as_officer(stand) as x:
        (one,) = x.alerts.list(kind="refusals")
        assert (one.id, one.subject, one.state, one.assignee) == (alert, "acme", "open", None)
        assert "21 requests" in one.text
        assert len(one.entries) == 20
        assert x.audit.entry(one.entries[-1]).outcome == "refused"
        assert x.alerts.assign(alert).assignee == stand.tokens["officer"].partition(".")[0]
        assert [n.text for n in x.alerts.note(alert, " A nightly job. ").notes] == ["A nightly job."]
        done = x.alerts.resolve(alert, "false_alarm", note="It is mended.")
        assert (done.state, len(done.notes)) == ("false_alarm", 2)
        with pytest.raises(Conflict):
            x.alerts.resolve(alert, "acted")
        with pytest.raises(NotFound):
            x.alerts.get("alr_" + "0" * 24)
        assert [a.id for a in x.alerts.list(state="false_alarm")] == [alert]
        assert "A nightly job." in one._repr_html_() + done._repr_html_()
    kinds = [r.document["kind"] for r in stand.entries() if r.document["kind"].startswith("alert.")]
    assert kinds == ["alert.raised", "alert.assigned", "alert.noted", "alert.dismissed", "alert.refused"]
    assert "nightly" not in "".join(r.leaf.decode() for r in stand.entries())


@pytest.mark.parametrize(
    ("verb", "body", "status", "code"),
    [
        ("notes", {"text": "x" * 2001}, 422, "request_invalid"),
        ("notes", {"text": "  "}, 422, "request_invalid"),
        ("resolve", {"state": "open"}, 422, "request_invalid"),
        ("resolve", {"state": "acted", "note": "x" * 2001}, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_written_on_an_alert(
    asked: Stand, verb: str, body: dict[str, str], status: int, code: str
) -> None:
    (alert,) = asked.get("officer", "/v1/alerts?kind=refusals").json()["items"]
    problem(asked.post("officer", f"/v1/alerts/{alert['alert']}/{verb}", body), status, code)
    assert asked.get("officer", f"/v1/alerts/{alert['alert']}").json()["notes"] == []


def test_an_alert_has_fifty_notes(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.alerts.queue.MOST_NOTES", 2)
    sqlite_stand.publish_log()
    alert = raise_one(sqlite_stand)
    replies = [sqlite_stand.post("officer", f"/v1/alerts/{alert}/notes", {"text": "x"}) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 422]


@pytest.mark.parametrize("query", ["state=closed", "kind=none", "page_token=x", "limit=0"])
def test_a_wrong_question_to_the_queue_is_refused(asked: Stand, query: str) -> None:
    reply = asked.get("officer", f"/v1/alerts?{query}")
    problem(reply, 422, "request_invalid")
    assert "items" not in reply.json()


def test_the_queue_is_read_page_by_page(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    seeded = Seeded(stand)
    for who in ("buyer", "other", "poor"):
        seeded.entries(*[seeded.of(who, "query.refused", "refused")] * 21)
    stand.publish_log()
    watching.watch(stand.market)
    first = stand.get("officer", "/v1/alerts?limit=2").json()
    rest = stand.get("officer", f"/v1/alerts?limit=2&page_token={first['next_page_token']}").json()
    subjects = [one["subject"] for one in first["items"] + rest["items"]]
    assert sorted(subjects) == ["acme", "globex", "initech"]
    assert rest["next_page_token"] is None
    with as_officer(stand) as x:
        assert len(list(x.alerts.list(limit=2))) == 2


def test_saved_searches_are_ones_own(asked: Stand) -> None:
    with as_officer(asked) as x, as_officer(asked, "operator") as other:
        made = x.searches.save("refused ones", outcome="refused", since="2026-01-01", kind="")
        assert made.filters == {"outcome": "refused", "since": "2026-01-01"}
        assert list(other.searches) == []
        with pytest.raises(NotFound):
            other.searches.delete(made.id)
        renamed = x.searches.rename(made.id, "all refusals")
        assert [one.name for one in x.searches] == ["all refusals"]
        assert next(x.audit.search(**renamed.filters)).outcome == "refused"
        x.searches.delete(made.id)
        assert list(x.searches) == []
    kept = "".join(r.leaf.decode() for r in asked.entries() if r.document["kind"].startswith("search."))
    assert "all refusals" not in kept
    assert "2026-01-01" not in kept


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x" * 81, "filters": {"kind": "a"}},
        {"name": "\n", "filters": {"kind": "a"}},
        {"name": "x", "filters": {}},
        {"name": "x", "filters": {"sql": "a"}},
        {"name": "x", "filters": {"since": "soon"}},
        {"name": "x", "filters": {"kind": 5}},
        {"name": "x", "filters": {"kind": "a" * 201}},
    ],
)
def test_a_search_that_cannot_be_saved(asked: Stand, body: dict[str, Any]) -> None:
    problem(asked.post("officer", "/v1/audit/searches", body), 422, "request_invalid")
    assert asked.get("officer", "/v1/audit/searches").json()["items"] == []


def test_fifty_searches_and_no_name_twice(asked: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.operations.saved_searches.MOST", 2)
    bodies = [{"name": name, "filters": {"kind": "a"}} for name in ("a", "a", "b", "c")]
    replies = [asked.post("operator", "/v1/audit/searches", body) for body in bodies]
    assert [reply.status_code for reply in replies] == [201, 422, 201, 422]
    for one in asked.get("operator", "/v1/audit/searches").json()["items"]:
        asked.call("operator", "DELETE", f"/v1/audit/searches/{one['search']}")


def test_a_search_is_saved_and_deleted_on_the_page(browser: Browser) -> None:
    assert "can be saved" in browser.get("/officer").text
    page = browser.post("/officer/searches", name="<b>settled", kind="query.settled", q="a&b=c")
    assert page.url.params["kind"] == "query.settled"
    assert page.url.params["q"] == "a&b=c"
    assert "&lt;b&gt;settled" in page.text
    found = re.search(r"/officer/searches/(sea_\w+)/rename", page.text)
    assert found is not None
    assert (
        ">settled again<" in browser.post(f"/officer/searches/{found[1]}/rename", name="settled again").text
    )
    assert "settled again" not in browser.post(f"/officer/searches/{found[1]}/delete").text


def test_the_pages_of_alerts(asked: Stand, browser: Browser) -> None:
    listed = browser.get("/officer/alerts")
    assert "Many refusals of one organisation" in listed.text
    (path,) = set(re.findall(r"/officer/alerts/alr_\w+", listed.text))
    page = browser.post(f"{path}/assign").text
    assert "Assigned to</dt><dd>Ada" in page
    assert "&lt;i&gt;x&lt;/i&gt;" in browser.post(f"{path}/notes", text="<i>x</i>").text
    assert "No alert matches" in browser.get("/officer/alerts?kind=forfeits").text
    assert browser.get("/officer/alerts?state=x").status_code == 422
    assert Markup(page).forbidden == Markup(listed.text).forbidden == []
    with closing(asked.sign_in("operator")) as operator:
        shown = operator.get(path).text
        assert "Officers assign, note and resolve" in shown
        csrf = re.search(r'name="csrf" value="([^"]+)"', shown)
        assert csrf is not None
        assert operator.post(f"{path}/resolve", data={"csrf": csrf[1], "state": "acted"}).status_code == 403


def test_a_queue_without_alerts_says_so(sqlite_stand: Stand) -> None:
    with closing(sqlite_stand.sign_in("officer")) as officer:
        assert "No alert is open" in officer.get("/officer/alerts").text


def test_the_page_of_a_domain_has_every_number_of_its_charts(asked: Stand, browser: Browser) -> None:
    page = browser.get(f"/officer/domain?domain={sample.DOMAIN}").text
    spent = asked.budget()["rho_nano_spent"]
    told = asked.market.store.read(lambda s: domain_accounts.spent.by_day(s, sample.DOMAIN, "2000-01-01"))
    assert sum(told.values()) == spent > 0
    assert f"Rho spent</dt><dd>{spent / 1e9:g} of 2 granted" in page
    assert "No end in sight" in page or "It ends on" in page
    assert "at the pace of the last 30 days" in page
    tags = Markup(page)
    assert tags.forbidden == []
    assert page.count('class="chart"') == 2
    assert page.count('role="img" aria-labelledby') == 2
    assert tags.tags.count("table") == 2
    assert re.search(r"<th scope=\"row\"><a [^>]+>acme</a></th>", page)
    assert browser.get("/officer/domain?domain=nobody:there").status_code == 404


def test_a_domain_of_which_nothing_is_spent(sqlite_stand: Stand) -> None:
    with closing(sqlite_stand.sign_in("officer")) as officer:
        page = officer.get(f"/officer/domain?domain={sample.DOMAIN}").text
    for text in ("No end in sight", "Nothing was spent in the last 90 days", "Nobody has spent anything"):
        assert text in page


@pytest.mark.parametrize(
    ("spent", "days", "state", "on"),
    [
        (1_000, {}, "spent", None),
        (400, {}, "none_in_sight", None),
        (400, {0: 300}, "ends", 60),
        (999, {0: 300, 29: 300}, "ends", 0),
        (400, {30: 300}, "none_in_sight", None),
    ],
)
def test_a_forecast(spent: int, days: dict[int, int], state: str, on: int | None) -> None:
    """600 left at 300 in 30 days last for 60 days; what is 30 days old does not count."""
    today = date(2026, 11, 23)
    sums = {(today - timedelta(days=back)).isoformat(): rho for back, rho in days.items()}
    told = domain_accounts.forecast({"rho_nano_granted": 1_000, "rho_nano_spent": spent}, sums, today)
    assert told["state"] == state
    assert told["on"] == (None if on is None else (today + timedelta(days=on)).isoformat())


def test_bars_keep_their_proportions() -> None:
    low, none, high = charts.upright([("a", 1), ("b", 0), ("c", 2)])
    assert (low.height * 2, none.height, high.height) == (charts.HEIGHT, 0, charts.HEIGHT)
    assert all(bar.y + bar.height == charts.HEIGHT for bar in (low, high))
    room = charts.WIDTH - charts.LABEL
    assert [bar.width for bar in charts.lying([("a", 4), ("b", 1)])] == [room, room / 4]
    assert charts.upright([]) == charts.lying([]) == []


def test_the_dossier_of_a_query(asked: Stand, browser: Browser) -> None:
    entry = asked.entries(kind="query.settled")[-1].document
    query = entry["query"]["id"]
    with as_officer(asked) as x:
        told = x.audit.query(query)
        with pytest.raises(NotFound):
            x.audit.query("qry_" + "0" * 24)
    kinds = [one["kind"] for one in told["entries"]]
    assert kinds.index("query.reserved") < kinds.index("query.settled")
    assert told["privacy"]["before_nano"] + told["privacy"]["rho_nano"] == told["privacy"]["after_nano"]
    assert told["privacy"]["after_nano"] == int(entry["privacy"]["spent_after"])
    assert told["asked"]["clause"]
    assert told["grant"]["state"] == "active"
    assert {one["as_fixed"] for one in told["journals"]} == {True}
    assert told["plan"]["plan_sha256"] == entry["query"]["plan_sha256"]
    assert told["proof"]["status"] == "published"
    page = browser.get(f"/officer/queries/{query}").text
    for text in (told["asked"]["clause"], "its receipt proves inclusion", "has the digest", "Spent before"):
        assert text in page
    assert Markup(page).forbidden == []
    shown = browser.get(f"/officer/entries/{entry['id']}").text
    assert f"/officer/queries/{query}" in shown
    assert told["asked"]["clause"] in shown
    assert browser.get("/officer/queries/qry_x").status_code == 404


def test_a_dossier_before_the_end(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.run().status_code == 200
    (settled,) = stand.entries(kind="query.settled")
    told = stand.get("officer", f"/v1/audit/queries/{settled.document['query']['id']}").json()
    assert told["proof"]["status"] == "promised"
    public = stand.run(sql=sample.PUBLIC).json()["query"]
    told = stand.get("officer", f"/v1/audit/queries/{public}").json()
    assert told["privacy"] is None or told["privacy"]["rho_nano"] == 0


@pytest.mark.parametrize("path", ["/officer/alerts", "/officer/domain", "/officer/queries/qry_x"])
def test_others_are_refused_by_an_entry(asked: Stand, path: str) -> None:
    for who in ("buyer", "provider"):
        with closing(asked.sign_in(who)) as browser:
            before = len(asked.entries())
            assert browser.get(path).status_code == 403
            assert [one.document["outcome"] for one in asked.entries()[before:]] == ["refused"]


@pytest.fixture
def run(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a command as the officer."""
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("exchange.cli.commands.client", lambda url, profile: as_officer(sqlite_stand))

    def command(*words: str) -> Result:
        return CliRunner().invoke(main, ["alerts", *words])

    return command


def test_the_commands(sqlite_stand: Stand, run: Any) -> None:
    sqlite_stand.publish_log()
    alert = raise_one(sqlite_stand)
    assert "refusals" in run("list").stdout
    assert [one["alert"] for one in json.loads(run("list", "--json").stdout)] == [alert]
    assert "acme" in run("show", alert).stdout
    assert json.loads(run("assign", alert, "--json").stdout)["assignee"].startswith("tok_")
    drawn = run("note", alert, "red \x1b[31m text").stdout
    assert "\\x1b[31m" in drawn
    assert "\x1b" not in drawn
    done = run("resolve", alert, "--as", "acted", "--note", "done", "--json")
    assert (done.exit_code, json.loads(done.stdout)["state"]) == (0, "acted")
    assert run("resolve", alert, "--as", "acted").exit_code == 3
    assert json.loads(run("list", "--state", "acted", "--json").stdout)[0]["alert"] == alert
    assert run("resolve", alert).exit_code == 2
