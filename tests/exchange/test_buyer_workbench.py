"""The query workbench on the portal: quote, purchase, answer, chart, receipt, history - and every refusal."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from contextlib import closing
from html import unescape

import httpx
import pytest

from exchange.client.receipts import Receipt
from exchange.web.portal import queries as pages
from tests.journeys.running import gated
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand

LOGIN = "ada@acme.example"


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    """Somebody of acme, which has access and money."""
    with closing(member(stand, login=LOGIN)) as browser:
        yield browser


@pytest.fixture
def bo(sqlite_stand: Stand) -> Iterator[Browser]:
    """The same on SQLite alone."""
    with closing(member(sqlite_stand, login=LOGIN)) as browser:
        yield browser


def quote(browser: Browser, sql: str = sample.BY_ZONE, **fields: str) -> httpx.Response:
    """Send the editor."""
    typed = {"by": "rho", "rho": "0.01", "epsilon": "", "column": "", "error": "", **fields}
    return browser.post("/workbench", sql=sql, **typed)


def purchase(reply: httpx.Response) -> dict[str, str]:
    """The fields of the form that buys."""
    form = re.search(r'<form method="post" action="/workbench/run">(.*?)</form>', reply.text, re.DOTALL)
    assert form is not None, reply.text
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[1]))


def run(browser: Browser, sql: str = sample.BY_ZONE, **fields: str) -> httpx.Response:
    """Quote, then run for the price that was shown."""
    reply = browser.http.post("/workbench/run", data=purchase(quote(browser, sql, **fields)))
    until = time.monotonic() + 30
    while "It goes on" in reply.text:
        assert time.monotonic() < until
        reply = browser.get(reply.url.path)
    return reply


def query_of(reply: httpx.Response) -> str:
    found = re.fullmatch(r"/queries/(qry_\w+)", reply.url.path)
    assert found is not None, reply.url
    return found[1]


def test_a_question_from_its_price_to_its_receipt(stand: Stand, ada: Browser) -> None:
    before = stand.wallet().available
    shown = quote(ada)
    page = unescape(shown.text)
    assert "Run for at most 0.25 USD" in page
    assert "rho 0.01" in page
    assert re.search(r"<code>n</code></th><td>count</td>\s*<td class=\"number\">± \d", page)
    assert "Of your allowance rho 1 is left" in page
    assert stand.wallet().available == before, "a quote costs nothing"
    reply = run(ada)
    query = query_of(reply)
    page = unescape(reply.text)
    assert before - stand.wallet().available == 25
    rows = list(csv.reader(io.StringIO(ada.get(f"/queries/{query}/answer.csv").text)))
    assert rows[0] == ["zone", "n"]
    assert len(rows) == 4
    for _, n in rows[1:]:
        assert f'<td class="number">{n}<div class="meta">' in page
    bars = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', page.split('class="chart"')[1])
    assert len(bars) == 3
    assert page.count('class="error"') == 9, "three lines for each error bar"
    told = ada.get(f"/queries/{query}/receipt.json")
    assert f"{query}.receipt.json" in told.headers["Content-Disposition"]
    assert Receipt(told.json(), query).summary["query_id"] == query
    arrow = ada.get(f"/queries/{query}/answer.arrow").content
    assert stand.get("buyer", f"/v1/queries/{query}/result").content == arrow
    entry = stand.entries(kind="query.settled")[-1].document
    assert entry["actor"]["ref"].startswith("per_")
    assert stand.broken_laws() == []


@pytest.mark.parametrize(
    ("asked", "keys"),
    [
        ("quantile_cont(minutes, [0.25, 0.5, 0.75])", None),
        ("histogram(minutes, [30, 60, 90])", ["30", "60", "90", "> 90"]),
        ("histogram(minutes, [0.5, 60.5])", ["0.5", "60.5", "> 60.5"]),
    ],
)
def test_lists_and_maps_are_read_line_by_line(bo: Browser, asked: str, keys: list[str] | None) -> None:
    sql = f"select zone, {asked} as q from rides group by zone"
    reply = run(bo, sql, rho="0.05")
    assert reply.status_code == 200
    page = unescape(reply.text)
    assert 'class="chart"' not in page, "a list is no bar"
    told = bo.stand.run(sql=sql, rho="0.05").json()
    assert told["repeated"]
    cells = re.findall(r'<td class="number">(.*?)</td>', page.split("The answer</h2>")[1], re.DOTALL)
    assert len(cells) == len(told["rows"]) == 3
    for cell, (_, value), (low, high) in zip(cells, told["rows"], told["intervals"]["q"], strict=True):
        for entry in zip(value, low, high, strict=True):
            one, least, most = (part[1] for part in entry) if keys else entry
            assert f'{one}<div class="meta">{least} to {most}</div>' in cell
        assert [key for key in keys or [] if f">{key}:</span>" not in cell] == []
        assert "9223372036854775807" not in cell
        assert "Infinity" not in cell


def test_an_error_without_a_bound_is_told_as_such(bo: Browser) -> None:
    sql = "select zone, regr_slope(cents, minutes) as s from rides group by zone"
    shown = quote(bo, sql, rho="0.001")
    assert shown.status_code == 200
    assert "no bound is known <span" in shown.text
    page = run(bo, sql, rho="0.001").text
    ends = bo.stand.run(sql=sql, rho="0.001").json()["intervals"]["s"]
    assert page.count('<div class="meta">no bound is known</div>') == ends.count(None)


def test_an_answer_says_what_its_intervals_hold(sqlite_stand: Stand, bo: Browser) -> None:
    policy = sample.policy(profile_rho="0.1")
    policy["tables"]["rides"]["max_rows"] = 3
    sqlite_stand.publish(manifest=sample.manifest(policy=policy))
    sql = "select sum(minutes) as m, median(minutes) as q from rides"
    page = unescape(run(bo, sql).text)
    assert "by the noise alone; what the limits on a unit's rows leave out is not in it" in page
    columns = {one["name"]: one for one in sqlite_stand.run(sql=sql).json()["columns"]}
    assert columns["m"]["expected_bias"]
    share = f"{columns['m']['expected_bias'] * 100:.2g}"
    assert f"about {share}% of rows are expected to be left out</li>" in page
    assert f"<code>q</code>: {columns['q']['note']}" in page


def test_the_same_form_sent_twice_buys_once(stand: Stand, ada: Browser) -> None:
    before = stand.wallet().available
    form = purchase(quote(ada))
    first, second = (ada.http.post("/workbench/run", data=form) for _ in range(2))
    assert query_of(first) == query_of(second)
    assert before - stand.wallet().available == 25
    again = run(ada)
    assert "given again, free" in again.text
    assert query_of(again) == query_of(first)
    assert before - stand.wallet().available == 25


def test_it_runs_for_the_price_that_was_shown_or_not_at_all(stand: Stand, ada: Browser) -> None:
    books = stand.books()
    form = purchase(quote(ada))
    for most, told in (("0.24", "The price is above max_price"), ("", "names no highest price"), ("x", "")):
        reply = ada.http.post("/workbench/run", data={**form, "max_price": most})
        assert reply.status_code in (409, 422), most
        page = unescape(reply.text)
        assert told in page
        assert sample.BY_ZONE in page, "the statement is kept"
        assert "Run for at most 0.25 USD" in page
    assert stand.books() == books
    stand.clock.advance(minutes=16)
    ada.sign_in(LOGIN)
    reply = ada.http.post("/workbench/run", data={**form, "csrf": ada.csrf()})
    assert reply.status_code == 410
    page = unescape(reply.text)
    assert "This quote has ended" in page
    assert "Run for at most" not in page
    assert sample.BY_ZONE in page
    assert stand.books() == books


REFUSED = {
    "select zone, frum rides": (1, 14),
    "select count(*) as n\nfrom rides\nwhere nosuch = 1": (3, 7),
    "select rider from rides": (1, 8),
    "drop table rides": (1, 1),
}


@pytest.mark.parametrize("sql", REFUSED)
def test_a_refused_statement_is_pointed_at_and_costs_nothing(shared_sqlite_stand: Stand, sql: str) -> None:
    stand = shared_sqlite_stand
    with closing(member(stand, login=f"u{abs(hash(sql))}@acme.example")) as ada:
        books = stand.books()
        reply = quote(ada, sql.replace("\n", "\r\n"), rho="0.07")
        told = stand.quote(sql=sql).json()
        assert reply.status_code == 422
        page = unescape(reply.text)
        assert f"Line {told['line']}, column {told['column']}:" in page
        line = sql.split("\n")[told["line"] - 1]
        marked = re.search(r"<pre><code>(.*?)<mark>(.*?)</mark>(.*?)</code></pre>", page, re.DOTALL)
        assert marked is not None
        assert "".join(marked.groups()) == line
        assert len(marked[1]) == told["column"] - 1
        assert f">\n{sql}</textarea>" in page
        assert 'value="0.07"' in page
        assert told["hint"] in page
        assert stand.books() == books


def test_what_was_typed_is_kept_whatever_is_wrong(bo: Browser) -> None:
    for fields, told in (
        ({"sql": " "}, "The statement is empty"),
        ({"rho": ""}, "Say how much rho"),
        ({"rho": "much"}, "Rho must be a decimal number"),
        ({"by": "epsilon", "epsilon": "-1"}, "Epsilon must be a positive number"),
        ({"by": "error", "column": "zone", "error": "5"}, ""),
        ({"by": "error", "column": "n", "error": ""}, "Error must be a positive number"),
        ({"rho": "900000"}, ""),
    ):
        reply = quote(bo, **{"sql": "select count(*) as n from rides", **fields})
        assert 400 <= reply.status_code < 500, fields
        page = unescape(reply.text)
        assert "text/html" in reply.headers["Content-Type"]
        assert 'role="alert"' in page, fields
        assert told in page, fields
        for name, value in fields.items():
            assert value in page, (name, fields)


def test_accuracy_is_asked_for_in_three_ways(bo: Browser) -> None:
    by_error = unescape(quote(bo, sample.COUNT, by="error", column="n", error="250").text)
    width = re.search(r"± ([\d.]+)", by_error)
    assert width is not None
    assert float(width[1]) <= 250
    assert 'value="250' in by_error
    assert "Run for at most" in quote(bo, sample.COUNT, by="epsilon", epsilon="0.3").text


def test_a_wallet_that_does_not_cover_it_is_told_with_the_way_out(sqlite_stand: Stand) -> None:
    with closing(member(sqlite_stand, "poor", "pip@initech.example")) as pip:
        shown = quote(pip)
        assert "The wallet does not cover this." in shown.text
        reply = pip.http.post("/workbench/run", data=purchase(shown))
        assert reply.status_code == 402
        assert 'href="/wallet"' in reply.text
        assert sample.BY_ZONE in unescape(reply.text)
        assert sqlite_stand.states() == []


def test_a_running_job_is_watched_without_a_script_and_cancelled(
    sqlite_stand: Stand, bo: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    with gated(monkeypatch) as gate:
        reply = bo.http.post("/workbench/run", data=purchase(quote(bo)))
        gate.await_arrival()
        assert "It goes on" in reply.text
        assert reply.headers["Refresh"] == "2"
        where = reply.url.path
        still = bo.get(f"{where}?still=1")
        assert "Refresh" not in still.headers
        assert "Look again" in still.text
        bo.post(f"{where}/cancel")
        gate.open(1)
        page = bo.get(where)
        assert "Refresh" not in page.headers
        assert "cancelled" in page.text
    assert stand.states() == ["FORFEITED"]
    assert stand.broken_laws() == []


def test_history_is_searched_and_asked_again(sqlite_stand: Stand, bo: Browser) -> None:
    sqlite_stand.run(sql=sample.COUNT)
    query = query_of(run(bo, sample.MINUTES))
    assert bo.get("/queries").text.count("Ask again") == 2
    for text, found in (("MINUTES", 1), (query[:12], 1), ("city/", 2), ("%", 0), ("nothing", 0)):
        page = bo.get(f"/queries?q={text.replace('%', '%25')}").text
        assert page.count("Ask again") == found, text
    page = unescape(bo.get(f"/workbench?again={query}").text)
    assert f">\n{sample.MINUTES}</textarea>" in page
    assert 'value="0.01"' in page
    assert "The answer is no longer kept" not in bo.get(f"/queries/{query}").text


def test_history_has_pages(sqlite_stand: Stand, bo: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_A_PAGE", 2)
    for n in range(5):
        sqlite_stand.run(sql=f"select count(*) as n from rides where minutes > {n}")
    seen: list[str] = []
    where = "/queries"
    while where:
        page = unescape(bo.get(where).text)
        seen += re.findall(r'<div class="meta">(qry_\w+)</div>', page)
        older = re.search(r'href="(/queries\?[^"]*)" rel="next"', page)
        where = older[1] if older else ""
    assert len(seen) == len(set(seen)) == 5


def test_an_answer_is_read_as_long_as_its_licence_allows(sqlite_stand: Stand, bo: Browser) -> None:
    query = query_of(run(bo))
    (grant,) = sqlite_stand.get("buyer", "/v1/grants").json()["items"]
    said = {"reason": "for now"}
    assert sqlite_stand.post("provider", f"/v1/grants/{grant['grant']}/suspend", said).status_code == 200
    page = bo.get(f"/queries/{query}")
    assert page.status_code == 200
    assert "The answer</h2>" not in page.text
    assert "suspended" in page.text
    assert bo.get(f"/queries/{query}/answer.csv").status_code == 403
    assert bo.get(f"/queries/{query}/receipt.json").status_code == 200
    assert "There is nothing that you may ask yet" in bo.get("/workbench").text


def test_nothing_is_asked_under_another_access_than_the_chosen(sqlite_stand: Stand, bo: Browser) -> None:
    stand = sqlite_stand
    (grant,) = (one["grant"] for one in stand.get("buyer", "/v1/grants").json()["items"])
    assert stand.request(purpose="journalism", plan="taste").status_code == 201
    shown = quote(bo, grant=grant)
    assert "Of your allowance rho 1 is left" in shown.text
    said = {"reason": "for now"}
    assert stand.post("provider", f"/v1/grants/{grant}/suspend", said).status_code == 200
    assert "Of your allowance" not in bo.get(f"/workbench?quote={purchase(shown)['quote']}").text
    refused = quote(bo, grant=grant)
    assert refused.status_code == 422
    assert "The access that was chosen cannot be used now" in refused.text
    assert sample.BY_ZONE in unescape(refused.text)


def test_access_that_cannot_be_used_is_not_exchanged_for_another(sqlite_stand: Stand, bo: Browser) -> None:
    stand = sqlite_stand
    (mine,) = (one["grant"] for one in stand.get("buyer", "/v1/grants").json()["items"])
    (theirs,) = (one["grant"] for one in stand.get("other", "/v1/grants").json()["items"])
    ended = stand.request(purpose="journalism", plan="taste").json()["grant"]["grant"]
    query = stand.run(grant=ended).json()["query"]
    assert stand.post("buyer", f"/v1/grants/{ended}/end").status_code == 200
    for named in (ended, theirs, "grt_" + "0" * 20, "x"):
        page = unescape(bo.get(f"/workbench?grant={named}").text)
        assert "The access that was named cannot be used now." in page, named
        assert '<option value="" selected>' in page
        assert f'<option value="{mine}">' in page, "it is there to be chosen"
        assert 'id="about"' not in page, "no dataset is shown"
    page = bo.get(f"/workbench?grant={mine}").text
    assert "cannot be used now" not in page
    assert f'<option value="{mine}" selected>' in page
    refused = quote(bo, grant="")
    assert refused.status_code == 422
    assert "No access is chosen" in refused.text
    page = unescape(bo.get(f"/workbench?again={query}").text)
    assert "Another one to the same dataset is chosen: pay, research, EU." in page
    assert f'<option value="{mine}" selected>' in page


def test_another_organisation_finds_nothing(sqlite_stand: Stand, bo: Browser) -> None:
    shown = quote(bo)
    form = purchase(shown)
    query = query_of(bo.http.post("/workbench/run", data=form))
    with closing(member(sqlite_stand, "other", "gil@globex.example")) as gil:
        csrf = gil.csrf()
        for path in ("", "/answer.csv", "/answer.arrow", "/receipt.json"):
            theirs = gil.get(f"/queries/{query}{path}")
            assert theirs.status_code == 404, path
            assert "rides group by" not in theirs.text
        assert gil.get(f"/workbench?again={query}").status_code == 404
        assert gil.get(f"/workbench?quote={form['quote']}").status_code == 404
        assert gil.http.post("/workbench/run", data={**form, "csrf": csrf}).status_code == 404
        assert query not in gil.get("/queries").text


def test_what_somebody_typed_is_text(bo: Browser) -> None:
    evil = "select '</textarea><script>alert(1)</script>' as x from rides"
    page = quote(bo, evil).text
    assert "<script>alert" not in page
    assert "&lt;/textarea&gt;" in page
