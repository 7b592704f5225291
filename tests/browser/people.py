"""A person in front of a browser: reads labels and presses buttons."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

import pyotp

from tests.market.browser import PASSWORD, invited, path_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.market.stand import Stand


#: How long a browser waits for what must come: a busy disk keeps a commit for half a minute.
PATIENCE_MS = 120_000


class Person:
    """Somebody with an authenticator app; ``page`` is what they look at."""

    def __init__(self, stand: Stand, page: Page) -> None:
        self.stand, self.page = stand, page
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda told: self.errors.append(told.text) if told.type == "error" else None)
        self._secret = ""

    def join(self, who: str, login: str) -> None:
        """Use an invitation's link, set a password and take an authenticator app into use."""
        page = self.page
        page.goto(path_of(invited(self.stand, who, login)))
        page.get_by_label("Your name").fill(login.partition("@")[0].title())
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Join").click()
        page.goto("/account")
        page.get_by_role("button", name="Add an authenticator app").click()
        self._secret = page.locator("div.notice pre").inner_text().strip()
        page.get_by_label("The code of six digits").fill(self.code())
        page.get_by_role("button", name="Take the app into use").click()
        page.get_by_role("heading", name="Your recovery codes").wait_for()

    def code(self) -> str:
        """What the authenticator app shows."""
        return pyotp.TOTP(self._secret).at(self.stand.clock())

    def confirm(self) -> None:
        """Show the second factor on the page that asks for it."""
        assert urllib.parse.urlsplit(self.page.url).path == "/sign-in/confirm"
        self.page.get_by_label("Code of six digits").fill(self.code())
        self.page.get_by_role("button", name="Confirm").click()

    def follow(self, name: str) -> None:
        """Press a link of the page's navigation; one of the account's menu once that is open."""
        self.page.wait_for_load_state()  # until the style sheet is there, every menu is shut
        link = self.page.locator("header nav").get_by_text(name, exact=True)
        if not link.is_visible():
            menu = link.locator("xpath=ancestor::nav").get_attribute("id")
            self.page.locator(f"button[popovertarget={menu}]").click()
        with self.page.expect_navigation():
            link.click()

    def told(self, heading: str) -> dict[str, str]:
        """The terms of the section under a heading, and what stands beside each."""
        section = self.page.get_by_role("region", name=heading)
        terms = section.locator("dt").all_inner_texts()
        return dict(zip(terms, section.locator("dd").all_inner_texts(), strict=True))
