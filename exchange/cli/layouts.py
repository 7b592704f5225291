"""Layouts of the datasets on offer, on the home of this machine: show, build, drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import json_option
from exchange.cli.operating import opened
from exchange.cli.output import safe, show, table

if TYPE_CHECKING:
    from catalog.listings import ListingView
    from exchange.market import Market


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(layout)


@click.group()
def layout() -> None:
    """What is kept beside a dataset's files so that questions are answered sooner."""


@layout.command("show")
@click.argument("datasets", nargs=-1)
@json_option
def show_layouts(datasets: tuple[str, ...], as_json: bool) -> None:
    """Show how far the layouts of DATASETS are; of all on offer where none is named."""
    with opened() as market:
        _show(market, _views(market, datasets), as_json)


@layout.command()
@click.argument("datasets", nargs=-1)
@json_option
def build(datasets: tuple[str, ...], as_json: bool) -> None:
    """Build the layouts of DATASETS here and now, or what is missing or altered of them; of all where none is
    named. Exit code 6 if one failed.
    """
    from exchange.cli.failures import SERVER
    from exchange.layouts import FAILED, name_of
    from exchange.operations import laying

    with opened() as market:
        views = _views(market, datasets)
        states = []
        for view in views:
            if name_of(view):
                market.layouts.want(name_of(view))
            tell = None if as_json else _teller(view.slug)
            states.append(laying.build(market, view, tell=tell).state)
        _show(market, views, as_json)
    if FAILED in states:
        click.get_current_context().exit(SERVER)


@layout.command()
@click.argument("datasets", nargs=-1, required=True)
@json_option
def drop(datasets: tuple[str, ...], as_json: bool) -> None:
    """Remove the layouts of DATASETS; the plain files answer until they are built again."""
    from exchange.layouts import name_of

    with opened() as market:
        views = _views(market, datasets)
        for view in views:
            if name_of(view):
                market.layouts.drop(name_of(view))
        _show(market, views, as_json)


def _views(market: Market, datasets: tuple[str, ...]) -> list[ListingView]:
    from exchange.operations import laying

    return laying.on_offer(market, datasets)


def _teller(slug: str) -> Any:
    """Says on standard error what is being built."""

    def tell(about: str, done: float) -> None:
        click.echo(f"{safe(slug)}: {done:4.0%} {safe(about)}", err=True)

    return tell


def _show(market: Market, views: list[ListingView], as_json: bool) -> None:
    from exchange.operations import laying

    told = [{"dataset": view.slug, "version": view.version_id, **laying.told(market, view)} for view in views]
    names = ("dataset", "state", "progress", "bytes", "in_words")
    rows = [(*(one[name] for name in names), ", ".join(one["left_out"])) for one in told]
    show(as_json, told, lambda: table((*names[:-1], "says", "left out"), rows))
