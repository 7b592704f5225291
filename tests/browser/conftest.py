"""A real browser, and a market that it can reach."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.people import PATIENCE_MS, Person
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


expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def every_script(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | float | bool]:
    """The environment of a browser that finds letters for every language: those that documents are set in."""
    home = tmp_path_factory.mktemp("letters")
    (home / "fonts").mkdir()
    letters = importlib.resources.files("manimgx_fonts_cjk")
    (home / "fonts" / "cjk").symlink_to(str(letters), target_is_directory=True)
    return {**os.environ, "XDG_DATA_HOME": str(home)}


@pytest.fixture(scope="module")
def chromium(every_script: dict[str, str | float | bool]) -> Iterator[Browser]:
    """The Chromium of the services, for one module: Playwright's event loop must not outlive it."""
    program = service_address("EXCHANGE_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=list(FLAGS),
            chromium_sandbox=os.geteuid() != 0,
            env=every_script,
        )
        with closing(browser):
            yield browser


@pytest.fixture
def site(stand: Stand) -> Iterator[str]:
    """The market's address on a free port of this machine."""
    with on_a_port(stand.app) as url:
        yield url


@pytest.fixture
def come(chromium: Browser, stand: Stand, site: str) -> Iterator[Callable[..., Person]]:
    """A function that lets somebody join an organisation of the stand, in a browser of their own.

    ``scripts=False`` is a browser in which no script runs.
    """
    with ExitStack() as stack:

        def enter(who: str, login: str, *, scripts: bool = True) -> Person:
            context = chromium.new_context(
                base_url=site, locale="en-GB", timezone_id="UTC", java_script_enabled=scripts
            )
            person = Person(stand, stack.enter_context(closing(context)).new_page())
            person.join(who, login)
            return person

        yield enter


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core, by which pages are examined."""
    return Path(service_address("EXCHANGE_TEST_AXE")).read_text(encoding="utf-8")


@pytest.fixture
def album(request: pytest.FixtureRequest, tmp_path: Path, axe: str) -> Album:
    """Where pictures go: ``docs/screens`` where ``EXCHANGE_SCREENS`` is set, else nowhere that stays.

    The pictures are of the market on SQLite; the one on PostgreSQL looks the same.
    """
    kept = bool(os.environ.get("EXCHANGE_SCREENS")) and "postgres" not in request.node.name
    return Album(ROOT / "docs" / "screens" if kept else tmp_path / "screens", axe)
