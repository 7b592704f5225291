"""A real browser, and a market that it can reach."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.people import Person
from tests.browser.screens import Album
from tests.conftest import ROOT, service_address
from tests.market.server import on_a_port
from tests.market.stand import Stand

#: Nothing but the page under test is asked for: Chromium looks for updates and hosts of its own otherwise.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The Chromium of the services, for one module: Playwright's event loop must not outlive it."""
    program = service_address("EXCHANGE_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=list(FLAGS), chromium_sandbox=os.geteuid() != 0
        )
        with closing(browser):
            yield browser


@pytest.fixture
def site(stand: Stand) -> Iterator[str]:
    """The market's address on a free port of this machine."""
    with on_a_port(stand.app) as url:
        yield url


@pytest.fixture
def come(chromium: Browser, stand: Stand, site: str) -> Iterator[Callable[[str, str], Person]]:
    """A function that lets somebody join an organisation of the stand, in a browser of their own."""
    with ExitStack() as stack:

        def enter(who: str, login: str) -> Person:
            context = chromium.new_context(base_url=site, locale="en-GB", timezone_id="UTC")
            person = Person(stand, stack.enter_context(closing(context)).new_page())
            person.join(who, login)
            return person

        yield enter


@pytest.fixture
def album(request: pytest.FixtureRequest, tmp_path: Path) -> Album:
    """Where pictures go: ``docs/screens`` where ``EXCHANGE_SCREENS`` is set, else nowhere that stays.

    The pictures are of the market on SQLite; the one on PostgreSQL looks the same.
    """
    kept = bool(os.environ.get("EXCHANGE_SCREENS")) and "postgres" not in request.node.name
    return Album(ROOT / "docs" / "screens" if kept else tmp_path / "screens")
