"""Layouts of the versions on offer: built by the worker, used by queries, shown to their provider.

A layout is no fact of the market: it changes no answer, no price and no charge, and the log does not speak of
it. What should be there follows from which versions are on offer, so that no list of jobs is kept: a worker
that was killed, a version that was withdrawn and a folder that was removed are all seen by the next round.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import privacy
from catalog import listings
from exchange.errors import LayoutStopped
from exchange.identity import Role
from exchange.layouts import BUILDING, FAILED, MAX_OPEN, NONE, READY, State, name_of
from exchange.operations import listing
from privacy.layout import is_complete, left_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market

RETRY = timedelta(hours=1)
"""What failed is tried again after so long."""
_LEAST_BYTES = 1 << 20
"""A layout of little data is mostly metadata: so much is always granted."""
_LOG = logging.getLogger("exchange.layouts")
_WORDS = {
    (NONE, ""): "It is built in a moment, when the worker comes to it.",
    (NONE, "interrupted"): "Building was interrupted; the worker goes on where it ended.",
    (NONE, "dropped"): "The operator dropped it. `exchange layout build` builds it anew.",
    (NONE, "off"): "The operator has switched layouts off (EXCHANGE_LAYOUT_PERCENT).",
    (NONE, "nothing_private"): "There is no private table, and so nothing to lay out.",
    (NONE, "not_offered"): "Only a version on offer has one.",
    (FAILED, "disk_full"): "The disk is full. Free some of it; the worker tries again every hour.",
    (FAILED, "folder_unusable"): "Its folder cannot be written. Look at its owner and permissions.",
    (
        FAILED,
        "layout_invalid",
    ): "What was stored was not what the files hold. `exchange check` looks at both.",
    (FAILED, "tables_unfit"): "A file does not have the types that the policy declares: publish it anew.",
    (FAILED, "query_timeout"): "A part took too long. The worker tries again every hour.",
    (FAILED, "query_failed"): "The engine did not finish within its memory and disk. Raise "
    "EXCHANGE_INGEST_MEMORY_BYTES, then `exchange layout build`.",
    (READY, ""): "Questions are answered from it where it serves.",
}


def serving(market: Market, view: ListingView) -> privacy.Layout | None:
    """The layout to answer a version's questions from; None where the plain files are to answer."""
    name = _name(market, view)
    if not name:
        return None
    try:
        return market.layouts.serving(name, listing.policy_of(view), partial(market.vault.files, view))
    except (OSError, RuntimeError):  # no thread: then without
        return None


def warm(market: Market) -> None:
    """Have layouts of versions on offer checked, beside: so that the first question finds them."""
    for version in market.store.read(listings.offered)[:MAX_OPEN]:
        serving(market, _view(market, version))


def show(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """A listing as its readers see it; its provider sees the state of its layout, too."""
    document = listing.show(market, actor, dataset)
    if actor.role == Role.PROVIDER:
        view = _view(market, document["version"])
        if view.org == actor.org:
            document["layout"] = told(market, view)
    return document


def told(market: Market, view: ListingView) -> dict[str, Any]:
    """What the provider of a version, and nobody else, reads of its layout."""
    state = _state(market, view)
    words = _WORDS.get((state.state, state.reason))
    if words is None:
        words = "It is being built." if state.state == BUILDING else "It failed. Look at the worker's log."
    return {
        "state": state.state,
        "reason": state.reason or None,
        "progress": round(1.0 if state.state == READY else state.done, 3),
        "about": state.about or None,
        "bytes": state.bytes,
        "left_out": list(state.left_out),
        "at": state.at or None,
        "in_words": words,
    }


def on_offer(market: Market, datasets: Sequence[str]) -> list[ListingView]:
    """The versions on offer of these datasets; of all where none is named. Raises NotFound."""

    def look(session: Session) -> list[ListingView]:
        if datasets:
            return [listing.published(session, one) for one in datasets]
        return [listings.version_of(session, one) for one in listings.offered(session)]

    return market.store.read(look)


def build(
    market: Market,
    view: ListingView,
    *,
    wait: bool = True,
    tell: Callable[[str, float], None] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> State:
    """Build a version's layout, or what is missing of it, and say what came of it.

    Args:
        wait: for another process that builds it; without it that one's state is returned, as is that of one
            that was dropped.
        tell: told what is being built and how much of it is done.
        stopping: asked after each part whether to end: then `LayoutStopped` is raised.
    """
    name = _name(market, view)
    if not name:
        return _state(market, view)
    with market.layouts.alone(name, wait=wait) as mine:
        if mine and not market.layouts.is_dropped(name):
            market.layouts.note(name, _building(market, "", 0.0))
            with market.vault.files(view) as files:
                market.layouts.note(name, _built(market, view, files, name, tell, stopping))
    return market.layouts.state(name)


def _built(
    market: Market,
    view: ListingView,
    files: Mapping[str, tuple[str, ...]],
    name: str,
    tell: Callable[[str, float], None] | None,
    stopping: Callable[[], bool],
) -> State:
    def progress(about: str, done: float) -> None:
        if stopping() or market.layouts.is_dropped(name):
            raise LayoutStopped("the layout was not built to the end")
        market.layouts.note(name, _building(market, about, done))
        if tell is not None:
            tell(about, done)

    policy = listing.policy_of(view)
    private = {table.name for table in view.tables if not table.public}
    size = sum(Path(path).stat().st_size for table in private for path in files[table])
    most = max(size * market.settings.layout_percent // 100, _LEAST_BYTES)
    try:
        with market.layouts.sandbox() as sandbox:
            laid = privacy.layout(
                policy,
                files,
                market.layouts.folder(name),
                sandbox=sandbox,
                max_bytes=market.layouts.room(name, most),
                progress=progress,
            )
    except LayoutStopped:
        raise
    except Exception as error:
        if stopping():
            raise LayoutStopped("the layout was not built to the end") from None
        failed = _failed(market, name, error)
        if failed.reason == "defect":
            market.layouts.note(name, failed)
            raise
        return failed
    done = State(READY, done=1.0, at=_now(market), bytes=sum(part.size for part in laid.files))
    return dataclasses.replace(done, left_out=tuple(left_out(laid.folder).values()))


def _failed(market: Market, name: str, error: Exception) -> State:
    """What is kept of a failure. On a full disk nothing of the layout stays: others need the room."""
    reason = error.code if isinstance(error, privacy.PrivacyError) else "defect"
    if isinstance(error, OSError):
        reason = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "folder_unusable"
    if reason == "disk_full":
        market.layouts.clear(name)
    _LOG.warning("the layout %s was not built: %s", name, reason)
    return State(FAILED, reason, at=_now(market))


class LayingOut:
    """Keeps the layouts that should be there: the worker's rounds.

    Args:
        stopping: asked between parts whether to end.
    """

    def __init__(self, market: Market, stopping: Callable[[], bool] = lambda: False) -> None:
        self._market = market
        self._stopping = stopping
        self._names: dict[str, str] = {}
        self._complete: set[str] = set()

    def round(self) -> None:
        """Remove the layouts of versions that are not on offer, and build what is missing of the others."""
        versions = self._market.store.read(listings.offered)
        known = self._names
        self._names = {one: known[one] if one in known else self._name(one) for one in versions}
        for stray in self._market.layouts.names() - set(self._names.values()):
            self._market.layouts.remove(stray)
        for version, name in self._names.items():
            if name and not self._stopping() and self._is_due(version, name):
                self._build(version)

    def _build(self, version: str) -> None:
        try:
            build(self._market, _view(self._market, version), wait=False, stopping=self._stopping)
        except LayoutStopped:
            _LOG.info("building a layout was stopped")
        except Exception as error:  # of one version: the others are still to be built
            _LOG.error("a layout was not built: %s", type(error).__name__)

    def _is_due(self, version: str, name: str) -> bool:
        state = self._market.layouts.state(name)
        if state.state == READY:
            return name not in self._complete and not self._is_complete(version, name)
        if state.state == FAILED:
            return datetime.fromisoformat(state.at) + RETRY <= self._market.store.clock()
        return state.state == NONE and state.reason != "dropped"

    def _is_complete(self, version: str, name: str) -> bool:
        """Whether a layout is whole, and as this release would build it; asked once in a process."""
        try:
            policy = listing.policy_of(_view(self._market, version))
            complete = is_complete(privacy.Layout.open(self._market.layouts.folder(name), policy))
        except privacy.LayoutInvalid:
            return False
        if complete:
            self._complete.add(name)
        return complete

    def _name(self, version: str) -> str:
        return _name(self._market, _view(self._market, version))


def _view(market: Market, version: str) -> ListingView:
    return market.store.read(lambda session: listings.version_of(session, version))


def _name(market: Market, view: ListingView) -> str:
    return name_of(view) if market.settings.layout_percent > 0 else ""


def _state(market: Market, view: ListingView) -> State:
    if not view.current:
        return State(NONE, "not_offered")
    if market.settings.layout_percent <= 0:
        return State(NONE, "off")
    name = name_of(view)
    return market.layouts.state(name) if name else State(NONE, "nothing_private")


def _building(market: Market, about: str, done: float) -> State:
    return State(BUILDING, done=done, about=about, at=_now(market))


def _now(market: Market) -> str:
    return market.store.clock().isoformat(timespec="seconds")
