"""Pictures of pages, and what must hold of every page that a picture is taken of."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

WIDE, NARROW = {"width": 1120, "height": 800}, {"width": 375, "height": 700}
_TALLEST, _COLOURS = 1_500, 48


class Album:
    """A folder of pictures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, page: Page, name: str) -> None:
        """A picture of the page as on a wide screen, from its top and in few colours, so that it stays small.

        The page must have one heading of the first level and fit a phone without scrolling sideways.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        assert page.locator("h1").count() == 1, name
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], f"{name}: too wide"
        page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        seen = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        seen = seen.crop((0, 0, seen.width, min(seen.height, _TALLEST)))
        seen.quantize(_COLOURS).save(self._folder / f"{name}.png", optimize=True)
