"""What axe-core finds on a page that keeps somebody from using it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

_GRAVE = ("serious", "critical")
_OPEN = (
    "for (const one of document.querySelectorAll('details:not([open])')) one.dataset.shut = one.open = true"
)
_SHUT = "for (const one of document.querySelectorAll('details[data-shut]')) one.open = false"
_RUN = "axe.run(document, {resultTypes: ['violations'], preload: false})"


def grave(page: Page, source: str) -> list[str]:
    """The serious and critical faults of the page as it stands, with everything unfolded.

    Args:
        source: axe-core's text. It is evaluated and not added as a script, which the page's policy forbids.
    """
    page.evaluate(source)
    page.evaluate(_OPEN)
    found: dict[str, Any] = page.evaluate(_RUN)
    page.evaluate(_SHUT)
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in _GRAVE
        for node in one["nodes"]
    ]
