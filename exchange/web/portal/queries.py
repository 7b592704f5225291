"""A buyer's queries: their history, one with its answer, its chart and its receipt, and the end of a job."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from flask import Response, make_response, redirect, render_template, request, url_for

from exchange.identity import Actor, Role
from exchange.operations import jobs, querying
from exchange.operations.receipting import newest_checkpoint
from exchange.store import REFUSALS
from exchange.web.api.render import as_csv, as_json
from exchange.web.auth import market
from exchange.web.portal import charts, portal
from exchange.web.portal.pages import downloaded, visitor_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

    from exchange.operations.querying import Answered

_A_PAGE = 50
_ROWS_SHOWN = 200
_BARS_SHOWN = 40
_LOOK_AGAIN_S = 2
_OPEN = ("queued", "running")
_LABELS = ("key", "public")
_NO_END = 2**63 - 1  # of the last bin of whole numbers


@portal.get("/queries")
@visitor_page(Role.BUYER)
def queries(visitor: Actor) -> str:
    """The organisation's queries, newest first, or those that hold a text."""
    text = request.args.get("q", "")[:200].strip()
    before = request.args.get("before", "")[:40] or None
    found = jobs.history(market(), visitor, text=text, before=before, limit=_A_PAGE)
    waiting = {one["query"]: one for one in jobs.latest(market(), visitor)["items"] if one.get("place")}
    return render_template("queries.html", found=found, text=text, waiting=waiting, open_states=_OPEN)


@portal.post("/queries/<query_id>/cancel")
@visitor_page(Role.BUYER)
def cancel_query(visitor: Actor, query_id: str) -> BaseResponse:
    """End a query; one that has ended stays as it is."""
    jobs.cancel(market(), visitor, query_id)
    return redirect(url_for("portal.queries"))


@portal.get("/queries/<query_id>")
@visitor_page(Role.BUYER)
def own_query(visitor: Actor, query_id: str) -> Response:
    """One query: how it goes on, and then its answer. While it runs the page comes again by itself."""
    found = jobs.show(market(), visitor, query_id)
    answer, refusal = None, None
    if found["state"] == "succeeded":
        try:
            answer = _shown(querying.answered(market(), visitor, query_id))
        except REFUSALS as refused:  # it was read once, and may not be read any more
            refusal = refused
    waits = found["state"] in _OPEN and request.args.get("still") != "1"
    page = make_response(
        render_template(
            "buyer/query.html",
            one=found,
            answer=answer,
            refusal=refusal,
            waits=waits,
            open_states=_OPEN,
            charts=charts,
            again_s=_LOOK_AGAIN_S,
            repeated=request.args.get("repeated") == "1",
            checkpoint=newest_checkpoint(market()),
        )
    )
    if waits:
        page.headers["Refresh"] = str(_LOOK_AGAIN_S)
    return page


@portal.get("/queries/<query_id>/answer.csv")
@visitor_page(Role.BUYER)
def answer_csv(visitor: Actor, query_id: str) -> Response:
    """The answer as CSV."""
    text = as_csv(querying.answered(market(), visitor, query_id).table)
    return downloaded(text, "text/csv; charset=utf-8", f"{query_id}.csv")


@portal.get("/queries/<query_id>/answer.arrow")
@visitor_page(Role.BUYER)
def answer_arrow(visitor: Actor, query_id: str) -> Response:
    """The answer's own bytes, whose digest the receipt names."""
    arrow = querying.answered(market(), visitor, query_id).arrow
    return downloaded(arrow, "application/vnd.apache.arrow.stream", f"{query_id}.arrow")


@portal.get("/queries/<query_id>/receipt.json")
@visitor_page(Role.BUYER)
def answer_receipt(visitor: Actor, query_id: str) -> Response:
    """The receipt, which is checked offline."""
    text = json.dumps(querying.receipt(market(), visitor, query_id), indent=2)
    return downloaded(text, "application/json", f"{query_id}.receipt.json")


def _shown(answered: Answered) -> dict[str, Any]:
    """An answer as its page shows it: the first rows with their intervals, and a chart where one fits."""
    rows, intervals = as_json(answered.table)["rows"], answered.intervals
    fields = list(answered.table.schema)
    cells = [
        [
            _lines(value, intervals[f.name][at] if f.name in intervals else None, pa.types.is_map(f.type))
            for f, value in zip(fields, row, strict=True)
        ]
        for at, row in enumerate(rows[:_ROWS_SHOWN])
    ]
    return {
        "columns": answered.columns,
        "cells": cells,
        "noisy": set(intervals),
        "row_count": len(rows),
        "rows_hidden": max(0, len(rows) - _ROWS_SHOWN),
        "chart": _chart(answered.columns, rows, intervals),
        "receipt": answered.receipt,
    }


def _lines(value: Any, interval: Any, is_map: bool) -> list[dict[str, Any]]:
    """A value as the lines of its cell, each with its interval: one for each entry of a list or a map."""
    if not isinstance(value, list):
        return [{"key": None, "value": value, "interval": interval}]
    keys = _bins([entry[0] for entry in value]) if is_map else [None] * len(value)
    texts, *ends = (
        [entry[1] for entry in one] if is_map else one for one in (value, *(interval or ([], [])))
    )
    pairs: list[Any] = list(zip(*ends, strict=True)) or [None] * len(value)
    return [
        {"key": key, "value": text, "interval": pair}
        for key, text, pair in zip(keys, texts, pairs, strict=True)
    ]


def _bins(keys: list[Any]) -> list[Any]:
    """The bins of a histogram by their upper ends, but the last by where it begins: it has no end."""
    is_open = len(keys) > 1 and keys[-1] in (_NO_END, "Infinity")
    return [*keys[:-1], f"> {keys[-2]}"] if is_open else keys


def _number(value: Any) -> float:
    """What a bar can be drawn of: a number, or the text of a decimal; NaN for all else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _chart(
    columns: list[dict[str, Any]], rows: list[list[Any]], intervals: dict[str, Any]
) -> dict[str, Any] | None:
    """Bars with error bars, where an answer has one key and one number with intervals."""
    labels = [at for at, one in enumerate(columns) if one["kind"] in _LABELS]
    numbers = [at for at, one in enumerate(columns) if intervals.get(one["name"])]
    if (len(labels), len(numbers)) != (1, 1) or not 1 < len(rows) <= _BARS_SHOWN:
        return None
    label, number = labels[0], numbers[0]
    name = columns[number]["name"]
    drawn = [
        (str(row[label]), _number(row[number]), _number(ends[0]), _number(ends[1]))
        for row, ends in zip(rows, intervals[name], strict=True)
        if ends is not None
    ]
    points = [one for one in drawn if math.isfinite(one[1]) and not any(map(math.isnan, one[2:]))]
    if not points:
        return None
    return {"of": name, "by": columns[label]["name"], "drawn": charts.with_errors(points)}
