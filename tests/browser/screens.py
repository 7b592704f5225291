"""Pictures of pages, and what must hold of every page that a picture is taken of."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from tests.browser import accessibility

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

WIDE, NARROW = {"width": 1120, "height": 800}, {"width": 375, "height": 700}
_TALLEST, _COLOURS = 1_500, 48


class Album:
    """A folder of pictures, and what examines each page before: axe-core's text, where it is given."""

    def __init__(self, folder: Path, axe: str = "") -> None:
        self._folder, self._axe = folder, axe

    def take(self, page: Page, name: str) -> None:
        """A picture of the page as on a wide screen, from its top and in few colours, so that it stays small.

        The page must have one heading of the first level, fit a phone without scrolling sideways, and be
        usable by everybody as far as a program can tell: on a phone and on a wide screen, in both colours.
        """
        page.wait_for_load_state()  # a page without its style sheet yet is wide and has no colours
        self._folder.mkdir(parents=True, exist_ok=True)
        assert page.locator("h1").count() == 1, name
        for size in (NARROW, WIDE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{name}: too wide"
            for scheme in ("dark", "light"):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                found = accessibility.grave(page, self._axe) if self._axe else []
                assert not found, "\n".join([f"{name}, {size['width']} wide, {scheme}", *found])
        seen = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        seen = seen.crop((0, 0, seen.width, min(seen.height, _TALLEST)))
        seen.quantize(_COLOURS).save(self._folder / f"{name}.png", optimize=True)
