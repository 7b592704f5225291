"""Layouts of the market under test: built as the worker does, taken up as a web process does in time."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from catalog import listings
from exchange.layouts import name_of
from exchange.operations import laying, listing
from tests.market import sample

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.listings import ListingView
    from privacy import Layout
    from tests.market.stand import Stand


def view(stand: Stand, slug: str = sample.SLUG) -> ListingView:
    """The newest version that was offered, in whatever state the listing is."""
    return stand.market.store.read(lambda session: listings.find(session, slug, sees_all=True))


def folder(stand: Stand, slug: str = sample.SLUG) -> Path:
    """Where the layout of the version on offer is."""
    return stand.market.layouts.folder(name_of(view(stand, slug)))


def lay_out(stand: Stand) -> None:
    """One round of the worker."""
    laying.LayingOut(stand.market).round()


def taken(stand: Stand, slug: str = sample.SLUG) -> Layout | None:
    """What queries are answered from, once it was checked."""
    found = view(stand, slug)
    stand.market.layouts.take(
        name_of(found), listing.policy_of(found), partial(stand.market.vault.files, found)
    )
    return laying.serving(stand.market, found)


def told(stand: Stand, who: str = "provider") -> dict[str, Any] | None:
    """What a person reads of the layout over HTTP."""
    reply = stand.get(who, f"/v1/datasets/{sample.SLUG}")
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] | None = reply.json().get("layout")
    return found


def plain_files(stand: Stand, table: str = "rides") -> list[Path]:
    """The provider's files of a table, encrypted as they are stored."""
    (found,) = [one for one in view(stand).tables if one.name == table]
    return [stand.market.objects.path(stored) for stored in found.stored if stored]


def spoil_rows(path: Path) -> None:
    """Make the rows of a Parquet file unreadable, so that nothing but reading them tells."""
    data, state = path.read_bytes(), path.stat()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    path.chmod(0o600)
    path.write_bytes(data[:4] + bytes(len(data) - 4 - footer) + data[-footer:])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def flip(path: Path, *, hidden: bool = False) -> None:
    """Change one bit in the middle; with ``hidden`` neither size nor time tells."""
    data, state = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if hidden:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
