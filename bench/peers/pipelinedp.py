"""PipelineDP on its local backend: Laplace or Gaussian noise, keys by truncated geometric selection."""

from __future__ import annotations

import datetime as dt
import operator
from itertools import product
from typing import TYPE_CHECKING, Any

import pipeline_dp as pdp
import pyarrow.parquet as pq

from bench.peers.runner import Ask, Rows, Unable, measures_of, serve, top_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPERATORS = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "IS NOT": operator.is_not,
}
METRICS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rows": lambda _: pdp.Metrics.COUNT,
    "units": lambda _: pdp.Metrics.PRIVACY_ID_COUNT,
    "sum": lambda _: pdp.Metrics.SUM,
    "avg": lambda _: pdp.Metrics.MEAN,
    "quantile": lambda one: pdp.Metrics.PERCENTILE(100 * one["at"]),
}
NAMES = {"rows": "count", "units": "privacy_id_count", "sum": "sum", "avg": "mean"}


class PipelineDP:
    """Columns in memory; one pipeline with one accountant for each answer."""

    ways = ("rows", "groups", "groups, Gaussian")

    def __init__(self, request: dict[str, Any]) -> None:
        self.epsilon, self.delta = request["epsilon"], request["delta"]
        self.file = request["file"]

    def prepare(self, question: dict[str, Any], way: str) -> Ask:
        measures_of(question, METRICS)
        if way == "rows" and question["private_keys"]:
            raise Unable("selects private keys only with a cap on groups")
        rows = self._rows(question)
        return lambda: top_of(question, self._answer(question, rows, way))

    def _rows(self, question: dict[str, Any]) -> list[tuple[Any, ...]]:
        """(unit, key, values of the columns that are aggregated), with the question's filters applied."""
        table = pq.read_table(self.file, columns=sorted(question["columns"]))
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
        kept: Sequence[int] = range(table.num_rows)
        for column, sign, value in question["filters"]:
            compare, left = OPERATORS[sign], columns[column]
            if isinstance(value, dict) and "column" in value:
                right = columns[value["column"]]
                kept = [place for place in kept if compare(left[place], right[place])]
                continue
            other = dt.date.fromisoformat(value["date"]) if isinstance(value, dict) else value
            kept = [place for place in kept if compare(left[place], other)]
        keys = (
            list(zip(*(columns[key] for key in question["keys"]), strict=True)) if question["keys"] else None
        )
        units, values = columns[question["unit"]], [columns[name] for name in _valued(question)]
        return [(units[at], keys[at] if keys else (), *(value[at] for value in values)) for at in kept]

    def _answer(self, question: dict[str, Any], rows: list[tuple[Any, ...]], way: str) -> Rows:
        accountant = pdp.NaiveBudgetAccountant(total_epsilon=self.epsilon, total_delta=self.delta)
        engine = pdp.DPEngine(accountant, pdp.LocalBackend())
        parts = []
        columns: list[str | None] = [*_valued(question)] or [None]
        for column in columns:
            asked = [one for one in question["measures"] if one["column"] in (column, None)]
            asked = [one for one in asked if one["column"] == column or column == columns[0]]
            parts.append((asked, self._aggregated(engine, question, rows, column, asked, way)))
        accountant.compute_budgets()
        found: dict[tuple[Any, ...], dict[str, float]] = {}
        for asked, released in parts:
            for key, metrics in released:
                for one in asked:
                    found.setdefault(key, {})[one["name"]] = _value(metrics, one)
        names = [one["name"] for one in question["measures"]]
        return [(list(key), [values.get(name) for name in names]) for key, values in found.items()]

    def _aggregated(
        self, engine: Any, question: dict[str, Any], rows: Any, column: str | None, asked: list[Any], way: str
    ) -> Any:
        place = 2 + (_valued(question).index(column) if column else 0)
        extractors = pdp.DataExtractors(
            privacy_id_extractor=lambda row: row[0],
            partition_extractor=lambda row: row[1],
            value_extractor=(lambda row: row[place]) if column else (lambda _: 0),
        )
        low, high = question["columns"][column]["bounds"] if column else (0, 0)
        caps = question["caps"]
        bound: dict[str, Any] = {"max_contributions": caps["rows"]}
        if way.startswith("groups"):
            per_group = caps["rows_per_group"] if question["keys"] else caps["rows"]
            bound = {
                "max_partitions_contributed": caps["groups"],
                "max_contributions_per_partition": per_group,
            }
        params = pdp.AggregateParams(
            metrics=[METRICS[one["kind"]](one) for one in asked],
            noise_kind=pdp.NoiseKind.GAUSSIAN if way.endswith("Gaussian") else pdp.NoiseKind.LAPLACE,
            min_value=low if column else None,
            max_value=high if column else None,
            **bound,
        )
        public = None
        if not question["private_keys"]:
            public = list(product(*(question["columns"][key]["keys"] for key in question["keys"])))
        return engine.aggregate(rows, params, extractors, public_partitions=public)


def _valued(question: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(one["column"] for one in question["measures"] if one["column"]))


def _value(metrics: Any, measure: dict[str, Any]) -> float:
    if measure["kind"] == "quantile":
        return float(getattr(metrics, f"percentile_{round(100 * measure['at'])}"))
    return float(getattr(metrics, NAMES[measure["kind"]]))


if __name__ == "__main__":
    serve(PipelineDP)
