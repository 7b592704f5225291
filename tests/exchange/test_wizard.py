"""A provider lists a dataset step by step on the portal: what is kept, what is refused, where it is told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape

import httpx
import pytest

from exchange import listing_drafts
from exchange.operations import composing, tidying, typed_listings
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand

OWNED = "trams"
"""Name of the listing: its rows are those of another seed, about people of another domain."""


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    """A provider's browser."""
    with closing(member(stand, "provider", "ada@city.example")) as browser:
        yield browser


@pytest.fixture
def bo(sqlite_stand: Stand) -> Iterator[Browser]:
    """The same where it does not depend on the database."""
    with closing(member(sqlite_stand, "provider", "bo@city.example")) as browser:
        yield browser


def fields(page: httpx.Response) -> dict[str, str]:
    """The fields of the step's form as a browser would send them."""
    form = page.text.partition('name="number"')[2].partition("</form>")[0]
    number = re.search(r'name="number" value="(\d+)"', page.text)
    found = {"number": number[1]} if number else {}
    for tag in re.findall(r"<input[^>]*>", form):
        given = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if given.get("type") == "checkbox" and not re.search(r"\bchecked\b", tag):
            continue
        if "name" in given and given["name"] != "csrf":
            found[unescape(given["name"])] = unescape(given.get("value", ""))
    for name, text in re.findall(r'<textarea[^>]*name="([^"]*)"[^>]*>\n?(.*?)</textarea>', form, re.DOTALL):
        found[unescape(name)] = unescape(text)
    for name, inside in re.findall(r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', inside) or re.search(r'value="([^"]*)"', inside)
        found[unescape(name)] = unescape(chosen[1]) if chosen else ""
    return found


class Wizard:
    """A draft in a browser: fills in the step that is open, as a person would."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.page = browser.post("/provide")
        assert self.page.status_code == 200, self.page.text
        self.draft = self.page.url.path.split("/")[2]

    def send(self, **files: bytes) -> httpx.Response:
        """Send files by the plain form."""
        sent = [("files", (name.replace("__", "."), data)) for name, data in files.items()]
        where = f"/provide/{self.draft}/send"
        self.page = self.browser.http.post(where, data={"csrf": self.browser.csrf()}, files=sent)
        return self.page

    def open(self, step: str) -> httpx.Response:
        """Open a step."""
        self.page = self.browser.get(f"/provide/{self.draft}/{step}")
        return self.page

    def save(self, step: str, act: str = "next", **typed: str) -> httpx.Response:
        """Change fields of a step as it stands, and press a button."""
        known = fields(self.open(step))
        changed = known | {name.replace("__", "."): text for name, text in typed.items()}
        self.page = self.browser.post(f"/provide/{self.draft}/{step}", **changed, act=act)
        return self.page

    def upload(self) -> None:
        """Send the sample's files and look into them."""
        self.send(rides__parquet=sample.rides(seed=11), zones__csv=sample.zones())
        assert self.save("files").url.path.endswith("/columns"), self.page.text

    def protect(self) -> None:
        """Declare the sample's privacy, with the bounds that are suggested."""
        assert self.save("privacy", "again", zones__public="yes", rides__unit="rider").status_code == 200
        assert self.save("privacy", "suggest:rides").status_code == 200
        self.save("privacy", domain=f"riders:{OWNED}", profile_rho="0", rho="2")
        assert self.page.url.path.endswith("/about"), self.page.text

    def describe(self, **changes: str) -> None:
        """Say what it is, on which terms, for what."""
        about = {"title": "Trams", "slug": f"city/{OWNED}", "description": "Tram rides.", "keywords": "a, b"}
        assert self.save("about", **{**about, **changes}).url.path.endswith("/licence"), self.page.text
        assert self.save("licence", "template", template="research").status_code == 200
        assert self.save("licence").url.path.endswith("/price"), self.page.text
        assert self.save("price").url.path.endswith("/preview"), self.page.text

    def publish(self) -> httpx.Response:
        """Press the last button."""
        number = re.search(r'name="number" value="(\d+)"', self.page.text)
        seen = number[1] if number else ""
        self.page = self.browser.post(f"/provide/{self.draft}/publish", number=seen)
        return self.page


def test_a_listing_is_published_step_by_step(ada: Browser, stand: Stand) -> None:
    wizard = Wizard(ada)
    wizard.upload()
    assert "3,217 rows" in wizard.page.text
    wizard.protect()
    wizard.describe()
    assert "Below is the listing as its buyers will see it" in wizard.page.text
    assert "Tram rides." in wizard.page.text
    assert wizard.page.text.count("<h1") == 1
    done = wizard.publish()
    assert done.url.path == f"/datasets/city/{OWNED}", done.text
    listed = stand.get("buyer", f"/v1/datasets/city/{OWNED}").json()
    assert listed["state"] == "published"
    minutes = next(c for t in listed["tables"] for c in t["columns"] if c["name"] == "minutes")
    assert minutes["bounds"] == [0, 100]
    for step in ("preview", "about"):  # what the back button asks for
        assert wizard.open(step).url.path == f"/datasets/city/{OWNED}"
    assert wizard.publish().url.path == f"/datasets/city/{OWNED}"
    assert len(stand.entries(kind="listing.published")) == 2, "the sample's and this one"
    assert stand.request(slug=f"city/{OWNED}", plan="pay-as-you-go", territory="US").status_code == 201
    assert stand.broken_laws() == []


def test_two_windows_and_neither_loses_what_was_typed(bo: Browser) -> None:
    wizard = Wizard(bo)
    first, second = fields(wizard.open("about")), fields(wizard.open("about"))
    where = f"/provide/{wizard.draft}/about"
    bo.post(where, **{**first, "title": "From the first window", "description": "One."}, act="again")
    behind = bo.post(where, **{**second, "title": "From the second window"}, act="next")
    assert behind.status_code == 409
    assert "From the first window" in behind.text, "what is saved"
    assert fields(behind)["title"] == "From the second window", "what was typed stays in its field"
    assert fields(wizard.open("about"))["title"] == "From the first window"
    bo.post(where, **fields(behind), act="again")
    assert fields(wizard.open("about"))["title"] == "From the second window"
    untouched = fields(wizard.open("licence"))
    saved = bo.post(f"/provide/{wizard.draft}/licence", **untouched | {"title": "Mine"}, act="again")
    assert saved.status_code == 422, "another step is no conflict: it has faults of its own alone"


def test_an_expired_session_keeps_what_was_typed(bo: Browser) -> None:
    wizard = Wizard(bo)
    known = fields(wizard.open("about"))
    token = bo.csrf()
    bo.post("/sign-out")
    typed = {**known, "title": "Typed for\nhalf an hour <b>", "keywords": "\N{HEBREW LETTER ALEF}, b"}
    where = f"/provide/{wizard.draft}/about"
    told = bo.post(where, csrf=token, **typed, act="next")
    assert told.status_code == 401
    assert "Nothing of what you typed is lost" in told.text
    bo.sign_in("bo@city.example")
    kept = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', told.text))
    kept = {name: unescape(text) for name, text in kept.items() if name != "csrf"}
    assert kept["title"] == typed["title"]
    again = bo.post(where, csrf="", **kept)
    assert again.status_code == 400
    assert fields(again)["keywords"] == typed["keywords"]
    assert "title" not in wizard.open("about").text.partition("About")[2]
    saved = bo.post(where, **{**fields(again), "title": "Typed"}, act="again")
    assert saved.status_code == 422
    assert fields(wizard.open("about"))["title"] == "Typed"


def test_what_is_wrong_stands_at_its_field(bo: Browser) -> None:
    wizard = Wizard(bo)
    told = wizard.save("price", **{"0.currency": "JPY", "0.fee": "0.001", "0.per_rho": "20", "0.name": ""})
    assert told.status_code == 422
    assert fields(told)["0.fee"] == "0.001"
    wrong = errors(told)
    assert set(wrong) == {"0.fee", "0.name"}
    assert "JPY" in wrong["0.fee"]
    wizard.save("price", "again", **{"0.currency": "USD", "0.fee": "0", "0.name": "dear", "0.max_rho": "1"})
    wizard.save("price", "plan+")
    cheap = {"1.name": "taste", "1.per_rho": "1.00", "1.max_rho": "0.5"}
    beaten = wizard.save("price", "again", **cheap)
    assert beaten.status_code == 422
    assert "cost" in beaten.text, "the purchases that beat the price, as a sentence"
    assert "USD" in unescape(beaten.text.partition('id="faults"')[2].partition("</section>")[0])
    assert fields(wizard.save("price", "plan-:1"))["plans"] == "1"
    wrong = errors(
        wizard.save("about", slug="No Slug", title="", assessment_date="soon", assessment_sha256="0" * 64)
    )
    assert {"slug", "title", "description", "assessment_date"} <= set(wrong)
    wrong = errors(wizard.save("licence", title="L", text="T", purposes="Re search", query_count="-1"))
    assert {"purposes", "query_count", "territories"} == set(wrong)
    assert errors(wizard.save("files")) == {}
    assert "Send at least one file" in wizard.page.text


def errors(page: httpx.Response) -> dict[str, str]:
    """Field -> the fault that stands at it."""
    found = re.findall(r'id="(f\w+)-error">([^<]*)<', page.text)
    names = dict(re.findall(r'id="(f\w{12})" name="([^"]*)"', page.text))
    names |= {two: one for one, two in re.findall(r'name="([^"]*)"[^>]*id="(f\w{12})"', page.text)}
    return {unescape(names[ident]): unescape(text) for ident, text in found}


def test_a_broken_file_is_told_by_row_and_column(bo: Browser) -> None:
    wizard = Wizard(bo)
    wizard.send(rides__csv=b"rider,zone\na,north\nb\nc,south,x\n")
    told = wizard.save("files")
    assert told.status_code == 422
    rows = unescape(told.text)
    assert ">3<" in rows
    assert ">4<" in rows
    assert "RFC 4180" in rows, "what to do"
    wizard.send(picture__csv=b"\x89PNG\r\n\x1a\n\x00\x00\x00")
    assert wizard.save("files").status_code == 422
    upload = re.findall(r"/files/(upl_\w+)/remove", wizard.page.text)
    assert "Put back" in bo.post(f"/provide/{wizard.draft}/files/{upload[0]}/remove").text
    again = bo.post(f"/provide/{wizard.draft}/files/{upload[0]}/restore")
    assert "Put back" not in again.text


def test_two_hundred_columns_in_any_script(bo: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    wizard = Wizard(bo)
    names = ["מזהה", "<script>alert(1)</script>", "a.b.use", *(f"c{i}" for i in range(197))]
    lines = [",".join(names)] + [",".join([f"u{i % 50}", "x", *map(str, range(198))]) for i in range(200)]
    wizard.send(wide__csv="\n".join(lines).encode())
    assert wizard.save("files").url.path.endswith("/columns")
    assert "<script>alert" not in wizard.page.text
    assert "מזהה" in wizard.page.text
    wizard.save("privacy", "again", wide__unit="מזהה", rho="1", profile_rho="0")
    suggested = wizard.save("privacy", "suggest:wide")
    assert suggested.status_code == 200
    typed = fields(suggested)
    assert typed["wide.c5.use"] == "range"
    assert typed["wide.a.b.use.use"] == "range", "a name with dots is a name"
    judged, judge = [], typed_listings.policy_faults
    monkeypatch.setattr(typed_listings, "policy_faults", lambda *given: judged.append(given) or judge(*given))
    wizard.open("privacy")
    assert len(judged) == 1, "one page judges a policy once"
    wrong = errors(wizard.save("privacy", "again", **{"wide.c7.low": "many", "wide.c9.high": ""}))
    assert set(wrong) == {"wide.c7.low", "wide.c9.low"}
    assert len(judged) == 3, "one more each for the page and for its form"
    assert len(wizard.page.content) < 2_000_000
    told = wizard.save("about", "again", title="<img src=x onerror=alert(1)>", slug="a/b")
    assert "<img" not in told.text
    assert fields(told)["title"] == "<img src=x onerror=alert(1)>"


def test_suggestions_are_taken_by_the_provider_alone(bo: Browser, sqlite_stand: Stand) -> None:
    wizard = Wizard(bo)
    wizard.upload()
    wizard.save("privacy", "again", zones__public="yes", rides__unit="rider", profile_rho="0")
    assert "Suggested: 100" in wizard.page.text
    assert fields(wizard.page)["rides.minutes.use"] == "filter"
    assert "low" not in {name.rpartition(".")[2] for name, text in fields(wizard.page).items() if text}
    wizard.save("privacy", "suggest:rides")
    gauge = bo.post(f"/provide/{wizard.draft}/gauge", **fields(wizard.page))
    assert re.search(
        r"within ±\d+ at 95% by the noise alone, and about 400 such questions are left", gauge.text
    )
    fewer = bo.post(
        f"/provide/{wizard.draft}/gauge", **fields(wizard.page) | {"rho": "0.05", "max_rho_per_query": "0.05"}
    )
    errors_at = [int(re.findall(r"±([\d,]+)", one.text)[0].replace(",", "")) for one in (gauge, fewer)]
    assert errors_at[0] < errors_at[1], "less budget, wider errors"
    assert fields(wizard.open("privacy"))["rho"] == "5", "nothing was saved"
    assert "city" not in sqlite_stand.get(None, "/?q=rider").text.partition("<main")[2].partition("Rides")[0]


def test_drafts_are_deleted_and_fetched_back(bo: Browser) -> None:
    wizard = Wizard(bo)
    wizard.save("about", "again", title="Kept a while")
    assert "Fetch back" in bo.post(f"/provide/{wizard.draft}/delete").text
    assert wizard.open("about").url.path == "/provide"
    refused = bo.post(f"/provide/{wizard.draft}/about", title="x", number="0", act="again")
    assert refused.status_code == 422
    bo.post(f"/provide/{wizard.draft}/restore")
    assert fields(wizard.open("about"))["title"] == "Kept a while"


def test_a_deleted_draft_is_fetched_back_where_there_is_room(
    bo: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composing, "MOST_DRAFTS", 2)
    away, _kept = Wizard(bo), Wizard(bo)
    bo.post(f"/provide/{away.draft}/delete")
    other = Wizard(bo)
    refused = bo.post(f"/provide/{away.draft}/restore")
    assert refused.status_code == 422
    assert "your organisation has 2 drafts" in refused.text
    assert away.open("files").url.path == "/provide", "it is still away"
    bo.post(f"/provide/{other.draft}/delete")
    assert bo.post(f"/provide/{away.draft}/restore").status_code == 200
    assert away.open("files").url.path.endswith("/files")


def test_the_list_of_drafts_reads_no_draft_whole(ada: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    wizard = Wizard(ada)
    wizard.save("about", "again", title="Trams and 一", description="x" * 100_000)

    def whole(*_: object) -> None:
        raise AssertionError("a draft is read whole")

    monkeypatch.setattr(listing_drafts, "_draft", whole)
    told = ada.get("/provide")
    assert told.status_code == 200
    assert "Trams and 一" in told.text
    assert f"/provide/{wizard.draft}/licence" in told.text, "where to go on"


def test_another_organisations_draft_is_not_there(bo: Browser, sqlite_stand: Stand) -> None:
    wizard = Wizard(bo)
    wizard.send(rides__csv=b"rider,zone\na,north\n")
    upload = re.findall(r"/files/(upl_\w+)/remove", wizard.page.text)[0]
    with closing(member(sqlite_stand, "rival", "cy@harbour.example")) as rival:
        for step in ("files", "about", "preview"):
            assert rival.get(f"/provide/{wizard.draft}/{step}").status_code == 404
            assert rival.post(f"/provide/{wizard.draft}/{step}", title="x").status_code == 404
        for verb in ("delete", "restore", "publish", "gauge", "uploads", f"files/{upload}/remove"):
            headers = {"X-CSRF-Token": rival.csrf(), "Upload-Length": "3"}
            reply = rival.http.post(f"/provide/{wizard.draft}/{verb}", headers=headers)
            assert reply.status_code == 404, verb
        assert rival.http.head(f"/provide/uploads/{upload}").status_code == 404
        assert wizard.draft not in rival.get("/provide").text


def test_pieces_of_a_file_need_the_sessions_token(bo: Browser) -> None:
    wizard = Wizard(bo)
    where = f"/provide/{wizard.draft}/uploads"
    piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert bo.http.post(where, headers={"Upload-Length": "20"}).status_code == 400
    token = {"X-CSRF-Token": bo.csrf()}
    made = bo.http.post(where, headers={"Upload-Length": "20", **token})
    assert made.status_code == 201
    upload = made.headers["Location"]
    assert bo.http.patch(upload, headers=piece, content=b"rider,zone").status_code == 400
    sent = bo.http.patch(upload, headers={**piece, **token}, content=b"rider,zone")
    assert (sent.status_code, sent.headers["Upload-Offset"]) == (204, "10")
    assert bo.http.head(upload).headers["Upload-Offset"] == "10"
    assert "10 of 20 bytes" in wizard.open("files").text
    assert "Not all of it has arrived" in wizard.save("files").text
    again = bo.http.patch(upload, headers={**piece, **token}, content=b"rider,zone")
    assert again.status_code == 409
    assert again.json()["offset"] == 10


def test_files_of_a_draft_wait_for_a_week(bo: Browser, sqlite_stand: Stand) -> None:
    stand, wizard = sqlite_stand, Wizard(bo)
    wizard.send(rides__csv=b"rider,zone\na,north\n")
    wizard.send(other__csv=b"rider,zone\na,north\n")
    kept, gone = re.findall(r"/files/(upl_\w+)/remove", wizard.page.text)
    bo.post(f"/provide/{wizard.draft}/files/{gone}/remove")
    for name in (kept, gone):
        path = stand.home / "quarantine" / name
        os.utime(path, (0, 0))
    stand.clock.advance(days=2)
    tidying.purge_uploads(stand.market)
    assert [(stand.home / "quarantine" / name).exists() for name in (kept, gone)] == [True, False]
    stand.clock.advance(days=6)
    tidying.purge_uploads(stand.market)
    assert not (stand.home / "quarantine" / kept).exists()
    bo.sign_in("bo@city.example")
    assert "waited too long" in wizard.save("files").text
    bo.post(f"/provide/{wizard.draft}/delete")
    stand.clock.advance(days=31)
    tidying.tidy(stand.market)
    bo.sign_in("bo@city.example")
    assert "Fetch back" not in bo.get("/provide").text


def test_what_needs_two_persons_waits_and_is_published_after(ada: Browser, stand: Stand) -> None:
    wizard = Wizard(ada)
    wizard.send(rides__parquet=sample.rides(seed=12), zones__csv=sample.zones())
    wizard.save("files")
    wizard.save("privacy", "again", zones__public="yes", rides__unit="rider")
    wizard.save("privacy", "suggest:rides")
    # More budget for the people of a domain that is listed already.
    wizard.save("privacy", domain=sample.DOMAIN, profile_rho="0", rho="9")
    wizard.describe()
    told = wizard.publish()
    assert told.status_code == 409
    assert "waits to be published" in told.text
    assert wizard.open("about").url.path.endswith("/preview")
    waiting = stand.get("officer", "/v1/officer/approvals").json()["items"]
    assert len(waiting) == 1
    assert waiting[0]["command"] == "listing.loosen"
    assert wizard.publish().status_code == 409, "nothing is ingested again, and nothing is asked for twice"
    assert len(stand.get("officer", "/v1/officer/approvals").json()["items"]) == 1
