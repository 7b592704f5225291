"""OpenDP's Polars context layer: truncation by identifier, Laplace noise or (under zCDP) Gaussian.

``truncate_num_groups(keep="sample")`` of OpenDP 0.16 fails in Polars for every key ("multiple fields with
name"), so that groups can be chosen only by their order (``keep="first"``), the same for every unit.
"""

from __future__ import annotations

import datetime as dt
import warnings
from itertools import product
from typing import Any

import opendp.prelude as dp
import polars as pl
import polars.selectors as cs

from bench.peers.runner import Ask, Rows, measures_of, serve, top_of

MOST_ROWS = 10_000_000
"""A public bound on the rows of a group, which OpenDP's sums ask for."""

MOST_GROUPS = 10_000
CANDIDATES = 1_001
OPERATORS = {"=": "eq", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class OpenDP:
    """A lazy frame in memory; a context of its own for each answer."""

    ways = ("rows", "groups", "rows, zCDP", "groups, zCDP")

    def __init__(self, request: dict[str, Any]) -> None:
        self.epsilon, self.delta = request["epsilon"], request["delta"]
        wanted = sorted({name for question in request["questions"] for name in question["columns"]})
        # OpenDP's filters know no literals that are dates: days since 1970 are compared instead.
        self.frame = (
            pl.read_parquet(request["file"], columns=wanted).with_columns(cs.date().to_physical()).lazy()
        )

    def prepare(self, question: dict[str, Any], way: str) -> Ask:
        measures = measures_of(question, ["rows", "units", "sum", "avg", "quantile"])
        return lambda: top_of(question, self._answer(question, measures, way))

    def _answer(self, question: dict[str, Any], measures: list[dict[str, Any]], way: str) -> Rows:
        keys = question["keys"]
        query = _bounded(self._context(question, way).query(), question, way)
        shown = [_aggregate(one, question) for one in measures]
        query = query.group_by(keys).agg(*shown) if keys else query.select(*shown)
        if keys and not question["private_keys"]:
            query = query.with_keys(_key_set(question))
        table = query.release().collect()
        names = [one["name"] for one in measures]
        return [
            ([row[key] for key in keys], [_float(row[name]) for name in names]) for row in table.to_dicts()
        ]

    def _context(self, question: dict[str, Any], way: str) -> Any:
        loss = dp.loss_of(epsilon=self.epsilon, delta=self.delta)
        if way.endswith("zCDP"):
            spare = self.delta / 2 if question["private_keys"] else 0.0
            loss = dp.loss_of(rho=question["rho"], delta=spare)
        polars: Any = dp.polars  # type: ignore[attr-defined]
        margins = [polars.Margin(by=[], max_length=MOST_ROWS)]
        if question["keys"]:
            most = MOST_GROUPS if question["private_keys"] else len(_key_rows(question))
            margins.append(polars.Margin(by=question["keys"], max_length=MOST_ROWS, max_groups=most))
        unit = dp.unit_of(contributions=1, identifier=pl.col(question["unit"]))
        return dp.Context.compositor(
            data=self.frame, privacy_unit=unit, privacy_loss=loss, split_evenly_over=1, margins=margins
        )


def _bounded(query: Any, question: dict[str, Any], way: str) -> Any:
    for column, operator, value in question["filters"]:
        query = query.filter(_condition(column, operator, value))
    caps, keys = question["caps"], question["keys"]
    if any(one["kind"] == "units" for one in question["measures"]):
        rows = way.startswith("rows")
        query = query.truncate_per_group(caps["rows"]) if rows else _few(query, caps, keys)
        return query.truncate_per_group(1, by=keys)
    if way.startswith("rows") or not keys:
        return query.truncate_per_group(caps["rows"])
    return _few(query, caps, keys).truncate_per_group(caps["rows_per_group"], by=keys)


def _few(query: Any, caps: dict[str, int], keys: list[str]) -> Any:
    return query.truncate_num_groups(caps["groups"], by=keys, keep="first")


def _condition(column: str, operator: str, value: Any) -> pl.Expr:
    if value is None:
        return pl.col(column).is_not_null()
    if isinstance(value, dict):
        value = pl.col(value["column"]) if "column" in value else _days(value["date"])
    return getattr(pl.col(column), OPERATORS[operator])(value)


def _days(date: str) -> int:
    return (dt.date.fromisoformat(date) - dt.date(1970, 1, 1)).days


def _aggregate(measure: dict[str, Any], question: dict[str, Any]) -> Any:
    if measure["kind"] in ("rows", "units"):
        return dp.len(signed=True).alias(measure["name"])  # type: ignore[attr-defined]
    column = question["columns"][measure["column"]]
    low, high = column["bounds"]
    value = pl.col(measure["column"])
    if column["type"] == "float":
        value, low, high = value.fill_nan(0.0).fill_null(0.0), float(low), float(high)
    else:
        value = value.fill_null(0)
    if measure["kind"] == "quantile":
        step = (high - low) / (CANDIDATES - 1)
        candidates = [low + step * place for place in range(CANDIDATES)]
        return value.dp.quantile(measure["at"], candidates).alias(measure["name"])
    form = value.dp.sum if measure["kind"] == "sum" else value.dp.mean
    return form((low, high)).alias(measure["name"])


def _key_set(question: dict[str, Any]) -> pl.LazyFrame:
    return pl.LazyFrame(_key_rows(question), schema=question["keys"], orient="row")


def _key_rows(question: dict[str, Any]) -> list[tuple[Any, ...]]:
    return list(product(*(question["columns"][key]["keys"] for key in question["keys"])))


def _float(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    dp.enable_features("contrib")
    serve(OpenDP)
