"""What a data provider does, in a real browser: list a dataset step by step, with scripts and without."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.people import PATIENCE_MS, Person
from tests.browser.screens import Album
from tests.market.browser import PASSWORD, invited, path_of
from tests.market.processes import Web, ending, until
from tests.market.server import EXAMPLE, on_a_port
from tests.market.stand import Stand

pytestmark = pytest.mark.browser

_ROWS = 12_000
MOST_ACTIONS = 40


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The five files of the flights example, of the flights the first weeks."""
    paths: list[Path] = runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](
        tmp_path_factory.mktemp("flights")
    )
    first = next(path for path in paths if path.name == "flights.parquet")
    pq.write_table(pq.read_table(first).slice(0, _ROWS), first)
    return paths


class Provider:
    """A provider's hands on a page: every one of their actions is counted."""

    def __init__(self, page: Page) -> None:
        self.page, self.actions = page, 0

    def press(self, name: str, **more: Any) -> None:
        """Press a button."""
        self._act(self.page.get_by_role("main").get_by_role("button", name=name, **more), "click")

    def tick(self, label: str, table: str) -> None:
        """Tick a box of a table."""
        self._act(self.page.get_by_role("group", name=f"Table {table}").get_by_label(label), "check")

    def fill(self, label: str, text: str) -> None:
        """Fill in a field."""
        self._act(self.page.get_by_label(label, exact=True), "fill", text)

    def choose(self, label: str, value: str) -> None:
        """Choose from a list."""
        self._act(self.page.get_by_label(label, exact=True), "select_option", value)

    def send(self, *paths: Path) -> None:
        """Choose files."""
        self._act(self.page.get_by_label("Files, one or several"), "set_input_files", list(paths))

    def at(self, step: str) -> None:
        """Wait for a step's page."""
        expect(self.page.get_by_role("heading", level=1, name=step, exact=True)).to_be_visible()

    def _act(self, where: Locator, verb: str, *given: Any) -> None:
        getattr(where, verb)(*given)
        self.actions += 1


@pytest.fixture
def sit_down(chromium: Browser, stand: Stand, site: str) -> Iterator[Callable[..., Person]]:
    """A function that gives somebody of the provider a browser, with scripts or without."""
    with ExitStack() as stack:

        def enter(*, scripts: bool) -> Person:
            context = chromium.new_context(
                base_url=site, locale="en-GB", timezone_id="UTC", java_script_enabled=scripts
            )
            person = Person(stand, stack.enter_context(closing(context)).new_page())
            joined(person.page, stand)
            return person

        yield enter


def joined(page: Page, stand: Stand) -> None:
    """Somebody has just joined the provider."""
    page.goto(path_of(invited(stand, "provider", "ada@city.example")))
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Join").click()
    page.get_by_role("heading", name="Ada").wait_for()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_flights_are_listed_in_under_forty_actions(
    stand: Stand,
    sit_down: Callable[..., Person],
    album: Album,
    flights: list[Path],
    scripts: bool,
    request: pytest.FixtureRequest,
) -> None:
    if not scripts and "postgres" in request.node.name:
        pytest.skip("what needs no script does not depend on the database")
    ada = sit_down(scripts=scripts)
    page, hands = ada.page, Provider(ada.page)

    def picture(name: str) -> None:
        if scripts:
            album.take(page, name)

    send_and_look(hands, picture, flights, scripts=scripts)
    protect(hands, picture, scripts=scripts)
    describe(hands, picture)
    hands.press("Publish this listing")
    page.wait_for_url("**/datasets/city/flights")
    assert hands.actions < MOST_ACTIONS, hands.actions
    print(f"actions: {hands.actions}")
    page.go_back()
    expect(page).to_have_url("/datasets/city/flights")
    listed = stand.get("buyer", "/v1/datasets/city/flights").json()
    assert {table["name"]: table["public"] for table in listed["tables"]} == {
        "flights": False,
        "planes": False,
        "airlines": True,
        "airports": True,
        "weather": True,
    }
    assert stand.broken_laws() == []
    assert ada.errors == []


def send_and_look(
    hands: Provider, picture: Callable[[str], None], files: list[Path], *, scripts: bool
) -> None:
    """The first two steps."""
    page = hands.page
    page.goto("/provide")
    picture("provider-drafts")
    hands.press("Begin a new listing")
    hands.at("Files")
    hands.send(*files)
    if not scripts:
        hands.press("Send")
    expect(page.get_by_text("arrived", exact=True)).to_have_count(len(files))
    picture("provider-files")
    hands.press("Look into the files and go on")
    hands.at("Columns")
    assert page.get_by_role("img", name="Rows by value of dep_delay").locator("rect").count() == 20
    picture("provider-columns")


def protect(hands: Provider, picture: Callable[[str], None], *, scripts: bool) -> None:
    """The privacy step."""
    page = hands.page
    hands.press("Go on")
    hands.at("Privacy")
    for table in ("airlines", "airports", "weather"):
        hands.tick("Public: it tells of nobody", table)
    for table in ("flights", "planes"):
        hands.choose(f"Whom the rows of {table} tell of", "tailnum")
    hands.press("Save", exact=True)
    hands.press("Take the suggestions for flights")
    hands.press("Take the suggestions for planes")
    gauge = page.get_by_role("region", name="What this budget gives")
    expect(gauge).to_contain_text("such questions are left")
    if scripts:
        before = gauge.inner_text()
        page.get_by_label("Rho in all", exact=True).fill("2")
        expect(gauge).not_to_have_text(before, use_inner_text=True)
        page.get_by_label("Rho in all", exact=True).fill("5")
        expect(gauge).to_have_text(before, use_inner_text=True)
    picture("provider-privacy")
    hands.press("Save and go on")


def describe(hands: Provider, picture: Callable[[str], None]) -> None:
    """The steps from the description to the preview."""
    page = hands.page
    hands.at("Description")
    hands.fill("Title", "Flights out of New York City")
    hands.fill("Name in addresses", "city/flights")
    hands.fill("Description", "Flights of January 2013 with delays; private by aircraft.")
    hands.fill("Keywords", "aviation, delays")
    hands.fill("Source, and why you may pass it on", "US Bureau of Transportation Statistics; public domain.")
    hands.choose("Country where they were collected", "US")
    picture("provider-description")
    hands.press("Save and go on")
    hands.at("Licence")
    hands.choose("Template", "research")
    hands.press("Fill in from the template")
    expect(page.get_by_role("region", name="In plain words")).to_contain_text(
        "research, teaching, journalism"
    )
    picture("provider-licence")
    hands.press("Save and go on")
    hands.at("Price")
    expect(page.get_by_role("region", name="What questions would cost")).to_contain_text("USD")
    picture("provider-price")
    hands.press("Save and go on")
    hands.at("Flights out of New York City")
    picture("provider-preview")


def test_an_upload_goes_on_where_it_was_when_the_exchange_was_killed(
    sqlite_stand: Stand, chromium: Browser, tmp_path: Path
) -> None:
    big = tmp_path / "big.csv"
    line = b"rider,zone,minutes\n" + b"r0001,north,17\n" * 1_000_000
    big.write_bytes(line)
    environ = {**sqlite_stand.environ, "EXCHANGE_MAX_UPLOAD_BYTES": str(64 << 20)}
    with ending(Web(environ, tmp_path)) as processes:
        web = processes[0]
        assert isinstance(web, Web)
        until(lambda: web.answers("/healthz") == 200, web.told)
        with closing(chromium.new_context(base_url=web.url, locale="en-GB")) as context:
            page = context.new_page()
            joined(page, sqlite_stand)
            page.goto("/provide")
            page.get_by_role("button", name="Begin a new listing").click()
            slow = context.new_cdp_session(page)
            slow.send("Network.enable")
            slow.send(
                "Network.emulateNetworkConditions",
                {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 3 << 20},
            )
            offsets: list[int] = []
            page.on("request", lambda one: _note(offsets, one.method, one.headers))
            page.get_by_label("Files, one or several").set_input_files(big)
            page.get_by_role("button", name="Pause").click()
            expect(page.get_by_text("Paused")).to_be_visible()
            page.get_by_role("button", name="Resume").click()
            waiting = sqlite_stand.home / "quarantine"
            until(lambda: any(path.stat().st_size > 4 << 20 for path in waiting.glob("upl_*")), web.told)
            web.kill()
            arrived = max(path.stat().st_size for path in waiting.glob("upl_*"))
            assert arrived < len(line), "it was killed on the way"
            expect(page.get_by_text("The connection is gone; trying again")).to_be_visible()
            sent_before = len(offsets)
            again = Web(environ, tmp_path, "again", port=web.port)
            processes.append(again)
            until(lambda: again.answers("/healthz") == 200, again.told)
            expect(page.get_by_text("arrived", exact=True)).to_be_visible()
            assert min(offsets[sent_before:]) >= arrived, "nothing that arrived was sent again"
            assert sum(path.stat().st_size == len(line) for path in waiting.glob("upl_*")) == 1


@pytest.fixture
def ada(sqlite_stand: Stand, chromium: Browser) -> Iterator[Page]:
    """Somebody of the provider, at a new listing."""
    with (
        on_a_port(sqlite_stand.app) as url,
        closing(chromium.new_context(base_url=url, locale="en-GB")) as context,
    ):
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        joined(page, sqlite_stand)
        page.goto("/provide")
        page.get_by_role("button", name="Begin a new listing").click()
        yield page


def test_an_upload_whose_session_ended_says_so_and_a_removed_file_begins_anew(
    ada: Page, tmp_path: Path
) -> None:
    page, context, file = ada, ada.context, tmp_path / "rides.csv"
    file.write_bytes(b"rider,zone\n" + b"r0001,north\n" * 200_000)
    slow = context.new_cdp_session(page)
    slow.send("Network.enable")
    speed = {"offline": False, "latency": 0, "downloadThroughput": -1}
    slow.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": 200 << 10})
    asked: list[str] = []
    with page.expect_request(lambda one: one.method == "PATCH"):
        page.get_by_label("Files, one or several").set_input_files(file)
    page.get_by_role("button", name="Pause rides.csv", exact=True).click()
    cookies: Any = context.cookies()
    context.clear_cookies()
    page.on("request", lambda one: asked.append(one.method))
    page.get_by_role("button", name="Resume rides.csv", exact=True).click()
    expect(page.get_by_text("You were signed out or signed in anew")).to_be_visible()
    told = len(asked)
    page.wait_for_timeout(1_500)
    assert len(asked) == told, "nothing is tried again"
    assert "PATCH" not in asked
    slow.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": -1})
    context.add_cookies(cookies)
    page.reload()
    page.get_by_role("button", name="Remove rides.csv", exact=True).click()
    expect(page.get_by_role("button", name="Put back")).to_be_visible()
    page.get_by_label("Files, one or several").set_input_files(file)
    expect(page.get_by_text("arrived", exact=True)).to_have_count(1)


def test_a_gauge_whose_session_ended_says_so_and_keeps_the_page(ada: Page, tmp_path: Path) -> None:
    file = tmp_path / "rides.csv"
    file.write_text("rider,zone\n" + "".join(f"r{n:04},north\n" for n in range(200)), encoding="utf-8")
    ada.get_by_label("Files, one or several").set_input_files(file)
    expect(ada.get_by_text("arrived", exact=True)).to_have_count(1)
    ada.get_by_role("button", name="Look into the files and go on").click()
    ada.get_by_role("heading", level=1, name="Columns", exact=True).wait_for()
    ada.get_by_role("main").get_by_role("button", name="Go on").click()
    ada.context.clear_cookies()
    ada.get_by_label("Rho in all", exact=True).fill("2")
    gauge = ada.get_by_role("region", name="What this budget gives")
    expect(gauge).to_contain_text("You were signed out; press Save")
    assert ada.get_by_label("Password").count() == 0, "no page of signing in within the page"
    assert ada.get_by_label("Rho in all", exact=True).input_value() == "2"


def _note(offsets: list[int], method: str, headers: dict[str, str]) -> None:
    if method == "PATCH":
        offsets.append(int(headers["upload-offset"]))
