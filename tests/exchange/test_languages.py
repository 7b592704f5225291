"""Which language a visitor of the pages reads, and how amounts and times are written in it."""

from __future__ import annotations

import re
from contextlib import closing
from html import unescape

import pytest
from flask import Flask

from exchange.web import languages
from tests.journeys.test_price_plans import PLANS
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("zh-Hans-SG", "zh-Hans"),
        ("zh-TW,ko;q=0.5", "ko"),
        ("zh-TW", "en"),
        ("ko-KR", "ko"),
        ("fr,de", "en"),
        ("x" * 4000, "en"),
    ],
)
def test_a_browser_says_what_its_reader_reads(shared_stand: Stand, asked: str, tag: str) -> None:
    page = Browser(shared_stand).http.get("/", headers={"Accept-Language": asked})
    assert re.search(r'<html lang="([^"]+)">', page.text).group(1) == tag  # type: ignore[union-attr]


def test_a_language_chosen_on_a_page_is_kept(shared_stand: Stand) -> None:
    browser = Browser(shared_stand)
    browser.http.follow_redirects = False
    reply = browser.get("/language/ko?next=/%3Fq%3Dflights")
    assert (reply.status_code, reply.headers["Location"]) == (302, "/?q=flights")
    assert '<html lang="ko">' in browser.get("/").text
    assert browser.get("/language/tlh?next=https://elsewhere.example").headers["Location"] == "/"
    assert '<html lang="ko">' in browser.get("/").text


@pytest.mark.parametrize(
    ("locale", "minor", "currency", "text"),
    [
        ("en", 123456789, "USD", "1,234,567.89 USD"),
        ("ko", -5, "USD", "-0.05 USD"),
        ("zh_Hans", 12345, "JPY", "12,345 JPY"),
        ("en", 12345, "KWD", "12.345 KWD"),
        ("en", None, "USD", "-"),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(
    locale: str, minor: int | None, currency: str, text: str
) -> None:
    app = Flask(__name__)
    languages.install(app)
    with app.test_request_context(headers={"Cookie": f"language={locale}"}):
        assert languages.money(minor, currency) == text


def test_times_are_in_utc_and_in_the_reader_s_order() -> None:
    app = Flask(__name__)
    languages.install(app)
    found = {}
    for locale in languages.LANGUAGES:
        with app.test_request_context(headers={"Cookie": f"language={locale}"}):
            found[locale] = languages.moment("2026-11-23T17:18:58.123456Z")
    assert found["en"] == "2026-11-23 17:18:58 UTC"
    assert found["ko"].startswith("2026. 11. 23.")
    assert found["zh_Hans"].startswith("2026年11月23日")


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        (
            "zh_Hans",
            ("用途：research, journalism。", "预付款 5.00 USD，按", "剩余预付款", "不再有 journalism"),
        ),
        (
            "ko",
            ("목적: research, journalism.", "크레딧 5.00 USD 선불", "남은 크레딧", "더는 아님: journalism"),
        ),
    ],
)
def test_licences_and_prices_are_in_the_reader_s_language(
    sqlite_stand: Stand, locale: str, said: tuple[str, ...]
) -> None:
    stand = sqlite_stand
    stand.publish(manifest=sample.manifest(plans=PLANS))
    grant = stand.request(plan="bundle").json()["grant"]["grant"]
    dataset = stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()
    english = [*dataset["licence"]["in_words"], *(one["in_words"] for one in dataset["offers"])]
    form = f"/datasets/{sample.SLUG}/request"
    paths = (f"/datasets/{sample.SLUG}", form, f"/access/grants/{grant}", f"/workbench?grant={grant}")
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        shown = unescape(bo.get(form).text)
        assert [one for one in english if one not in shown] == []
        limits, others = shown.split("What it does not limit")
        assert "Purposes: research, journalism." in limits
        assert "Queries of one organisation: not limited." in others
        bo.get(f"/language/{locale}")
        pages = [bo.get(path).text for path in (*paths, "/wallet")]
        narrower = sample.manifest(plans=PLANS, licence=sample.licence(purposes=["research"]))
        stand.publish(manifest=narrower)
        pages.append(bo.get(paths[2]).text)
    told = unescape("".join(pages))
    assert [text for text in said if text not in told] == []
    assert [text for text in (*english, "How many rows", "Credit for private answers") if text in told] == []
