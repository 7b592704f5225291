"""What commands print: tables for people, JSON for programs, errors as a sentence with a hint."""

from __future__ import annotations

import json
import math
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from exchange.audit.report import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console

_WIDE = 160


def show(as_json: bool, document: Any, draw: Callable[[], None]) -> None:
    """Print ``document`` as JSON, or ``draw`` it for a person."""
    if as_json:
        click.echo(
            json.dumps(_finite(document), indent=2, ensure_ascii=False, default=plain, allow_nan=False)
        )
    else:
        draw()


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table that fits the terminal."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(safe(title)) if title else None, title_justify="left")
    for name in header:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(Text(safe(cell)) for cell in row))
    console().print(made)


def facts(pairs: Iterable[tuple[str, object]], *, title: str = "") -> None:
    """Names and values, one on a line."""
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(safe(title)) if title else None, title_justify="left", show_header=False, box=None
    )
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, Text(safe(value)))
    console().print(made)


def console() -> Console:
    """The console of this moment's stdout; without a terminal lines are wide, so that nothing is cut."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def safe(value: object) -> str:
    """Text of strangers for a terminal: control, escape and direction characters become visible."""
    return printable("" if value is None else str(value))


def _finite(value: Any) -> Any:
    """JSON has no number for the end of a bin that has none: it travels as text, as in the API."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity" if value < 0 else None
    return value


def plain(value: object) -> Any:
    """What JSON does not know: amounts as exact text, bytes as hex, everything else as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def complain(document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an error to stderr."""
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, default=plain), err=True)
        return
    place = "".join(f", {name} {document[name]}" for name in ("line", "column") if document.get(name))
    click.echo(f"error: {safe(document['message'])} [{safe(document['code'])}{place}]", err=True)
    if document.get("hint"):
        click.echo(f"hint: {safe(document['hint'])}", err=True)
    if document.get("nearest"):
        click.echo(f"nearest: {safe(document['nearest'])}", err=True)
    if document.get("request_id"):
        click.echo(f"request: {safe(document['request_id'])}", err=True)
