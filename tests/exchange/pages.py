"""Every page of the portal, as the application's map of addresses has it, and something to show on each."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from exchange.identity import Actor
from exchange.operations import composing, typed_listings, uploading
from settlement import licences
from tests.exchange.doors import SEARCH, things_of
from tests.market import sample
from tests.market.browser import Browser, invited, path_of
from tests.market.stand import Stand

if TYPE_CHECKING:
    from collections.abc import Iterator

PEOPLE = ("officer", "provider", "buyer", "operator")
#: Addresses that lead elsewhere, or hand out a file: no page is shown there.
NO_PAGES = ("/language/", "/sign-in/with", "/sign-in/back", "/static/")
QUERIES = {
    "portal.domain_page": f"?domain={sample.DOMAIN}",
    "portal.transparency": f"?domain={sample.DOMAIN}",
}


class Outline(HTMLParser):
    """What must hold of a page: its language, title and headings, and what our policy refuses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.language, self.title, self.headings, self.refused = "", "", list[int](), list[str]()
        self.ids, self.labelled = list[str](), list[str]()
        self._in_title = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html":
            self.language = given.get("lang") or ""
        if given.get("class") == "wide" and "tabindex" not in given:
            self.refused.append("a table that the keyboard cannot scroll")
        self._in_title = tag == "title" and not self.title
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag == "style" or (tag == "script" and not (given.get("src") or "").startswith("/")):
            self.refused.append(tag)
        self.refused += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        self.ids += [given["id"] or ""] if "id" in given else []
        for name in ("aria-labelledby", "aria-describedby", "for"):
            self.labelled += (given.get(name) or "").split()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data.strip()


def faults(html: str) -> list[str]:
    """What is wrong with a page's outline."""
    page = Outline(html)
    found = [f"refused: {one}" for one in page.refused]
    found += [f"twice: #{one}" for one in sorted({one for one in page.ids if page.ids.count(one) > 1})]
    found += [f"nothing is #{one}" for one in sorted(set(page.labelled) - set(page.ids))]
    if page.headings.count(1) != 1:
        found.append(f"{page.headings.count(1)} headings of the first level")
    steps = zip(page.headings, page.headings[1:], strict=False)
    found += [f"h{after} follows h{before}" for before, after in steps if after > before + 1]
    if page.language not in ("en", "zh-Hans", "ko"):
        found.append(f"language {page.language!r}")
    if len(page.title.partition("·")[0].strip()) < 2:
        found.append(f"title {page.title!r}")
    return found


def furnish(stand: Stand) -> dict[str, str]:
    """Something for every id of an address; the market is fuller afterwards."""
    made = things_of(stand)
    owner, name = sample.SLUG.split("/")
    search = stand.post("officer", "/v1/audit/searches", SEARCH).json()["search"]
    return {
        **{f"{kind}_id": made[kind] for kind in ("request", "grant", "query", "approval", "entry", "alert")},
        **{f"{kind}_id": made[kind] for kind in ("invoice", "top_up", "acceptance", "licence")},
        "search_id": search,
        "statement_id": made["month"],
        "org": "acme",
        "draft": written(stand),
        "owner": owner,
        "name": name,
        "text": path_of(invited(stand, "buyer", "new@acme.example")).rpartition("/")[2],
    }


def written(stand: Stand) -> str:
    """A draft of the provider's in which every step is in order."""
    market, actor = stand.market, Actor("tok_1", stand.orgs["provider"], "city", "provider")
    draft = composing.begin(market, actor)
    data = b"rider,zone,minutes\n" + b"".join(b"r%d,north,%d\n" % (i % 40, i % 60) for i in range(400))
    upload = composing.start_upload(market, actor, draft, length=len(data), name="rides.csv")
    uploading.append(market, actor, upload, offset=0, stream=io.BytesIO(data))
    composing.inspect(market, actor, draft)
    lent = typed_listings.typed_licence(licences.templates()["research"])
    privacy = {"rides.unit": "rider", "rides.zone.use": "keys", "rides.zone.keys": "north", "rho": "1"}
    about = {"title": "Rides", "slug": "city/more", "description": "More rides."}
    for step, typed in (("privacy", privacy), ("about", about), ("licence", lent)):
        known = composing.look(market, actor, draft).of(step)
        assert composing.save(market, actor, draft, step, {**known, **typed}, number=0)
    return draft


def addresses(stand: Stand, things: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The endpoint and the address of every page that can be asked for; an unknown thing is ``nought``."""
    adapter = stand.app.url_map.bind("market.test")
    for rule in sorted(stand.app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if "GET" not in (rule.methods or ()) or not rule.endpoint.startswith("portal."):
            continue
        if rule.rule.startswith(NO_PAGES):
            continue
        values = {name: things.get(name, "nought") for name in rule.arguments}
        for step in composing.STEPS if "step" in values else ("",):
            shown = values | ({"step": step} if step else {})
            yield rule.endpoint, adapter.build(rule.endpoint, shown) + QUERIES.get(rule.endpoint, "")


def person(stand: Stand, who: str) -> Browser:
    """An administrator of an organisation of the stand, with an authenticator app, signed in."""
    browser = Browser(stand)
    link = invited(stand, who, f"walker@{who}.example", admin=True)
    assert browser.join(link).status_code == 200
    browser.add_app()
    return browser
