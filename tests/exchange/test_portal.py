"""The portal: what each person sees, what nobody may see, and what no page may do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from exchange import bootstrap, identity
from exchange.config import Settings
from exchange.identity import Role
from exchange.operations import administering
from privacy.sandbox import Sandbox
from tests.market import sample
from tests.market.prepared import environment
from tests.market.stand import Stand

PAGE, OWN = f"/datasets/{sample.SLUG}", "/queries"


class Markup(HTMLParser):
    """What a page holds that our content security policy forbids, and its landmarks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forbidden: list[str] = []
        self.tags: list[str] = []
        self.language = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.language = self.language or (given.get("lang") or "" if tag == "html" else "")
        inline = [name for name in given if name == "style" or name.startswith("on")]
        if (
            tag in ("style", "iframe", "object", "embed", "base")
            or inline
            or (tag == "script" and "src" not in given)
        ):
            self.forbidden.append(f"{tag} {inline}")
        for name in ("src", "href", "action"):
            if (given.get(name) or "").startswith(("http:", "https:", "//", "javascript:", "data:")):
                self.forbidden.append(f"{tag} {name}={given[name]}")


@pytest.fixture(scope="module")
def asked(shared_sqlite_stand: Stand) -> Stand:
    """The market after one question, under a checkpoint."""
    assert shared_sqlite_stand.run(sql=sample.BY_ZONE).status_code == 200
    shared_sqlite_stand.publish_log()
    return shared_sqlite_stand


@pytest.fixture
def browse(asked: Stand) -> Iterator[Callable[[str], httpx.Client]]:
    """A function that opens a signed-in browser for a person."""
    opened: list[httpx.Client] = []

    def open_as(who: str) -> httpx.Client:
        opened.append(asked.sign_in(who))
        return opened[-1]

    yield open_as
    for browser in opened:
        browser.close()


def visitor(stand: Stand) -> httpx.Client:
    """A browser of nobody, which follows no redirect."""
    return httpx.Client(transport=httpx.WSGITransport(app=stand.app), base_url="http://market.test")


def entry_path(stand: Stand) -> str:
    return f"/officer/entries/{stand.entries(kind='query.settled')[0].id}"


def test_the_catalogue_is_open_to_everybody(asked: Stand) -> None:
    page = asked.get(None, "/").text
    assert "Rides in the city" in page
    assert "from 0.25 USD" in page
    assert "Rides in the city" in asked.get(None, "/?q=mobility").text
    nothing = asked.get(None, "/?q=elephants").text
    assert "Nothing matches" in nothing
    assert "Rides in the city" not in nothing
    broken = asked.get(None, "/?page=x")
    assert broken.status_code == 422
    assert "What to do" in broken.text


def test_a_dataset_is_described_to_everybody_and_asked_for_by_who_signs_in(asked: Stand) -> None:
    with visitor(asked) as stranger:
        page = stranger.get(PAGE)
        assert page.status_code == 200
        assert "0 to 120" in page.text
        assert f"{sample.RIDES:,}" not in page.text.replace(str(sample.RIDES), f"{sample.RIDES:,}")
        sent = stranger.get(f"{PAGE}/request")
        assert f'href="{PAGE}/request"' in page.text
        assert (sent.status_code, sent.headers["Location"]) == (302, f"/sign-in?next={PAGE}/request")
        assert stranger.get("/datasets/city/none").status_code == 404


def test_a_page_of_a_person_asks_to_sign_in_and_comes_back(asked: Stand) -> None:
    with visitor(asked) as browser:
        sent = browser.get(f"{OWN}?x=1")
        assert sent.status_code == 302
        form = browser.get(sent.headers["Location"]).text
        target = re.search(r'name="next" value="([^"]*)"', form)
        assert target is not None
        assert target[1] == f"{OWN}?x=1"
        signed = browser.post("/sign-in", data={"token": asked.tokens["buyer"], "next": target[1]})
        assert (signed.status_code, signed.headers["Location"]) == (302, f"{OWN}?x=1")
        cookie = signed.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert browser.get(OWN).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", f"tok_{'0' * 24}.{'A' * 43}", "\N{SNOWMAN}"])
def test_a_wrong_token_is_told_on_the_page_and_logged(asked: Stand, token: str) -> None:
    before = len(asked.entries())
    with visitor(asked) as browser:
        reply = browser.post("/sign-in", data={"token": token, "next": OWN})
        assert reply.status_code == 401
        assert "unknown, expired or revoked" in reply.text
        assert f'value="{OWN}"' in reply.text
        assert browser.get(OWN).status_code == 302, "nobody is signed in"
    fresh = [record.document for record in asked.entries()[before:]]
    assert [(e["kind"], e["code"], e["actor"]["org"]) for e in fresh] == [
        ("token.refused", "token_unknown", "unknown")
    ]


@pytest.mark.parametrize(
    "target",
    [
        "//evil.test",
        "https://evil.test/",
        "/\\evil.test",
        "javascript:alert(1)",
        "/\t/evil.test",
        "",
        "evil.test",
    ],
)
def test_signing_in_leads_nowhere_else(asked: Stand, target: str) -> None:
    with visitor(asked) as browser:
        signed = browser.post("/sign-in", data={"token": asked.tokens["buyer"], "next": target})
        assert (signed.status_code, signed.headers["Location"]) == (302, "/")


def test_signing_out_needs_a_form_of_ours(asked: Stand, browse: Callable[[str], httpx.Client]) -> None:
    browser = browse("buyer")
    token = re.search(r'name="csrf" value="([^"]+)"', browser.get("/").text)
    assert token is not None
    for data in (
        {},
        {"csrf": ""},
        {"csrf": "x" * len(token[1])},
        {"csrf": "\N{LATIN SMALL LETTER E WITH ACUTE}"},
    ):
        assert browser.post("/sign-out", data=data).status_code == 400
        assert browser.get(OWN).url.path == OWN, "still signed in"
    assert "Sign in" in browser.post("/sign-out", data={"csrf": token[1]}).text
    assert browser.get(OWN).url.path == "/sign-in"
    with visitor(asked) as nobody:
        assert nobody.post("/sign-out", data={"csrf": ""}).status_code == 400


def test_a_revoked_token_ends_its_sessions(asked: Stand) -> None:
    made = administering.create_token(asked.market, org="acme", role=Role.BUYER)
    asked.tokens["brief"] = made["token"]
    with contextlib.closing(asked.sign_in("brief")) as browser:
        assert browser.get(OWN).url.path == OWN
        with asked.market.store.engine.begin() as connection:
            table = identity.token
            connection.execute(update(table).where(table.c.id == made["token_id"]).values(revoked_at="2026"))
        assert browser.get(OWN).url.path == "/sign-in"


def test_a_forged_session_is_nobody(asked: Stand) -> None:
    with visitor(asked) as browser:
        browser.cookies.set("session", "eyJ0b2tlbiI6InRvayJ9.aaaa.bbbb")
        assert browser.get(OWN).status_code == 302


@pytest.mark.parametrize("who", ["provider", "buyer", "stranger", "rival", "officer", "operator"])
def test_a_dataset_page_tells_each_person_what_is_theirs(
    asked: Stand, browse: Callable[[str], httpx.Client], who: str
) -> None:
    page = browse(who).get(PAGE).text
    for text in (
        "Rides in the city",
        "riders:city",
        "rho 2",
        "north, south, east",
        "0 to 120",
        "USD a query",
    ):
        assert text in page
    assert "You may publish what you learn." in page
    assert ("only you see this" in page) is (who == "provider")
    rows = asked.get("provider", f"/v1/datasets/{sample.SLUG}/profile").json()["tables"][0]["rows"]
    assert (f"{rows:,}" in page) is (who == "provider")


def numbers_of_people(stand: Stand) -> re.Pattern[str]:
    """The counts that tell of private rows, however they are written; not as part of a digest."""
    (table,) = [
        table
        for table in stand.get("provider", f"/v1/datasets/{sample.SLUG}/profile").json()["tables"]
        if table["table"] == "rides"
    ]
    assert table["rows"] + table["rows_without_unit"] == sample.RIDES
    told = [table["rows"], table["rows_without_unit"], sample.RIDES, sample.RIDERS]
    forms = [form for n in told for form in {str(n), f"{n:,}"} if n > 99]
    return re.compile(rf"(?<![0-9a-f.,-])(?:{'|'.join(map(re.escape, forms))})(?![0-9a-f,])")


def test_private_counts_are_shown_to_their_owner_alone(
    asked: Stand, browse: Callable[[str], httpx.Client]
) -> None:
    counts = numbers_of_people(asked)
    profile = asked.get("provider", f"/v1/datasets/{sample.SLUG}/profile").text
    assert counts.search(profile), "the search finds them where they are"
    assert counts.search(browse("provider").get(PAGE).text)
    paths = [
        "/v1/datasets",
        f"/v1/datasets/{sample.SLUG}",
        "/v1/usage",
        "/v1/grants",
        "/v1/queries",
        "/openapi.json",
    ]
    for path in paths:
        for who in ("buyer", "stranger"):
            reply = asked.get(who, path).text
            assert counts.search(reply) is None, path
    quote = asked.quote(sql=sample.BY_ZONE).text
    assert counts.search(quote) is None
    for path in ("/", PAGE, "/?q=rides"):
        assert counts.search(browse("buyer").get(path).text) is None, path


def test_the_officer_exports_what_the_page_found(asked: Stand, browse: Callable[[str], httpx.Client]) -> None:
    officer = browse("officer")
    page = officer.get("/officer?kind=query.settled").text
    assert '<option value="evidence">' in page
    assert '<input type="hidden" name="kind" value="query.settled">' in page
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    sent = {"csrf": found[1], "kind": "query.settled", "format": "csv"}
    reply = officer.post("/officer/exports", data=sent)
    assert reply.status_code == 200
    assert reply.headers["Content-Disposition"] == "attachment; filename=audit-log.csv"
    assert len(reply.text.splitlines()) == 1 + len(asked.entries(kind="query.settled"))
    assert officer.post("/officer/exports", data={**sent, "format": "xml"}).status_code == 422
    assert officer.post("/officer/exports", data={**sent, "csrf": "forged"}).status_code >= 400
    before = len(asked.entries(kind="audit.exported"))
    assert browse("buyer").post("/officer/exports", data=sent).status_code >= 400
    assert len(asked.entries(kind="audit.exported")) == before


def test_the_officer_sees_the_log_and_looking_is_logged(
    asked: Stand, browse: Callable[[str], httpx.Client]
) -> None:
    officer = browse("officer")
    page = officer.get("/officer").text
    assert "Newest checkpoint" in page
    assert "query.settled" in page
    assert "riders:city" in page
    assert re.search(r"acme", page)
    filtered = officer.get("/officer?kind=query.settled&purpose=research&dataset=city/rides").text
    assert filtered.count("/officer/entries/") == len(asked.entries(kind="query.settled"))
    assert "No entry matches" in officer.get("/officer?kind=no.such").text
    assert officer.get("/officer?since=soon").status_code == 422
    entry = officer.get(entry_path(asked)).text
    for text in (sample.BY_ZONE, "purpose: research", "SETTLED", "0.25 USD", "has the digest"):
        assert text in entry
    assert "Inclusion proof" in entry
    assert officer.get("/officer/entries/evt_0").status_code == 404
    reads = [record.document["object"]["type"] for record in asked.entries(kind="log.read")]
    assert reads.count("entry") >= 1
    assert reads.count("log") >= 3


def test_an_altered_journal_is_shown_to_the_officer(sqlite_stand: Stand) -> None:
    from tests.journeys.test_tampering import MONEY, alter

    stand = sqlite_stand
    assert stand.run().status_code == 200
    with contextlib.closing(stand.sign_in("officer")) as officer:
        assert "Not under a checkpoint yet" in officer.get(entry_path(stand)).text
        alter(stand, "transfer", f"UPDATE transfer SET amount = amount + 1 WHERE id = {MONEY}")
        assert "does not have the digest" in officer.get(entry_path(stand)).text


@pytest.mark.parametrize("who", ["provider", "buyer"])
def test_the_log_is_not_for_everybody(asked: Stand, browse: Callable[[str], httpx.Client], who: str) -> None:
    browser, before = browse(who), len(asked.entries())
    for path in ("/officer", entry_path(asked)):
        reply = browser.get(path)
        assert reply.status_code == 403
        assert "officer" in reply.text
        assert "query.settled" not in reply.text
    fresh = [record.document for record in asked.entries()[before:]]
    assert [(e["outcome"], e["code"]) for e in fresh] == [("refused", "role_missing")] * 2
    assert "Audit log" not in browser.get("/").text


def test_an_unknown_page_is_told(asked: Stand, browse: Callable[[str], httpx.Client]) -> None:
    reply = browse("buyer").get("/datasets/city/none")
    assert reply.status_code == 404
    assert "What to do" in reply.text


PAGES = ["/", "/?q=nothing", "/sign-in", PAGE, "/officer", "/datasets/city/none", "entry"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_hold_no_script_and_send_the_headers(
    asked: Stand, browse: Callable[[str], httpx.Client], path: str
) -> None:
    reply = browse("officer").get(entry_path(asked) if path == "entry" else path)
    page = Markup(reply.text)
    assert page.forbidden == []
    assert (page.language, page.tags.count("h1"), page.tags.count("main")) == ("en", 1, 1)
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    for part in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert part in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "same-origin"


def test_the_api_sends_the_headers_too(asked: Stand) -> None:
    for path in ("/v1/whoami", "/healthz", "/audit/checkpoint", "/static/portal.css"):
        headers = asked.get("buyer", path).headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert "default-src 'self'" in headers["Content-Security-Policy"], path


EVIL = "<script>alert(1)</script>"
MARK = "\"><img src=x onerror=alert(1)>'{{7*7}}"


def test_markup_in_texts_is_text(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    mine = sample.manifest(
        title=f"T {EVIL}",
        description=f"D {EVIL} {MARK}",
        keywords=[EVIL],
        licence=sample.licence(title=f"L {EVIL}", text=f"X {EVIL} {MARK}"),
        plans=[sample.plan(f"P {MARK}")],
        policy=policy_with(f"c {EVIL}"),
    )
    rows = ["r1,north,taxi,1,1,true,x", "r2,north,taxi,1,1,true,x"]
    csv = sample.rides_csv(rows).replace(b"paid\n", f"paid,c {EVIL}\n".encode())
    mine["slug"] = "city/markup"
    stand.publish(manifest=mine, files={"rides": csv, "zones": sample.zones()})
    with contextlib.closing(stand.sign_in("provider")) as browser:
        for path in (
            "/",
            f"/?q={EVIL}",
            "/datasets/city/markup",
            f"/sign-in?next={MARK}",
            f"/datasets/x/{EVIL}",
        ):
            reply = browser.get(path)
            assert Markup(reply.text).forbidden == [], path
            assert "img" not in Markup(reply.text).tags, path
            said = re.sub(r"[0-9a-f]{16,}", "", reply.text)  # ids and digests hold any two digits
            assert "49" not in said or "{{7*7}}" in said, path
        page = browser.get("/datasets/city/markup").text
    for text in ("T &lt;script&gt;", "L &lt;script&gt;", "c &lt;script&gt;", "onerror=alert(1)&gt;"):
        assert text in page
    with contextlib.closing(stand.sign_in("officer")) as officer:
        stand.request("stranger", purpose=EVIL)
        page = officer.get(f"/officer?q={EVIL}&kind={MARK}").text
        assert Markup(page).forbidden == []
        page = officer.get("/officer?kind=access.refused").text
        assert "access.refused" in page
        assert "script&gt;" not in page, "no text of a caller's choice enters the log"
        assert Markup(page).forbidden == []


def policy_with(column: str) -> dict[str, Any]:
    made = sample.policy(domain="riders:markup")
    made["tables"]["rides"]["columns"][column] = {"selectable": False}
    return made


def test_an_empty_market_says_what_to_do_first(tmp_path: Path, lent_sandbox: Callable[[], Sandbox]) -> None:
    environ = environment(tmp_path / "home")
    bootstrap.create(tmp_path / "home", environ)
    market = bootstrap.open_market(Settings.from_env(environ))
    administering.create_organisation(market, name="cnil", role=Role.OFFICER)
    token = administering.create_token(market, org="cnil", role=Role.OFFICER)["token"]
    market.close()
    stand = Stand(environ, lent_sandbox, {"officer": token}, {})
    assert "Nothing is listed yet" in stand.get(None, "/").text
    assert stand.get(None, "/audit/checkpoint").status_code == 404
    with contextlib.closing(stand.sign_in("officer")) as browser:
        page = browser.get("/officer").text
        assert "No checkpoint has been published yet" in page
        assert "No privacy domain yet" in page
    assert stand.get("officer", "/v1/audit/domains").json() == {"items": []}
    assert stand.broken_laws() == []
    stand.close()


def test_an_officer_sees_by_which_clause_a_licence_refused(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.request(purpose="advertising").status_code == 403
    entry = stand.entries(code="purpose_not_allowed")[-1].id
    with contextlib.closing(stand.sign_in("officer")) as officer:
        page = officer.get(f"/officer/entries/{entry}")
        shown = officer.get(f"/datasets/{sample.SLUG}")
    assert page.status_code == 200, page.text
    assert "purposes: research, journalism" in page.text
    assert "✓ The clause has the digest" in page.text
    assert "Purposes: research, journalism." in shown.text
