"""The law of layouts: each has the bytes with which it was built, and is of the files that it stands beside.

An altered layout changes no answer: whoever would read it compares it first, and reads the plain files. But
somebody has written to a folder of the exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import privacy
from catalog import CatalogError, listings
from exchange.layouts import READY, checked, name_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.market import Market


def altered(market: Market) -> list[str]:
    """What is wrong with the layouts of the versions on offer, and what to do about it."""

    def look(session: Session) -> list[ListingView]:
        return [listings.version_of(session, version) for version in listings.offered(session)]

    findings = []
    for view in market.store.read(look):
        name = name_of(view)
        if name and market.layouts.state(name).state == READY:
            found = _wrong(market, view, name)
            if found:
                findings.append(f"{view.slug}: {found} Run `exchange layout build {view.slug}`.")
    return findings


def _wrong(market: Market, view: ListingView, name: str) -> str:
    try:
        with market.vault.files(view) as files:
            checked(market.layouts.folder(name), privacy.Policy.from_document(view.policy, None), files)
    except privacy.LayoutInvalid as error:
        return str(error)
    except (OSError, CatalogError):
        return "The files that it is of cannot be read."
    return ""
