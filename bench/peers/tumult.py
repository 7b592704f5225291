"""Tumult Analytics on local Spark: truncation by identifier, double geometric or discrete Gaussian noise."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from typing import Any

from bench.peers.runner import Ask, Rows, Unable, measures_of, serve, top_of

GROUPS_SHARE = 0.3
"""Share of epsilon for finding private keys, which Tumult does in a query of its own."""


class Tumult:
    """A Spark data frame in memory; a session of its own for each answer."""

    ways = ("rows", "groups", "groups, zCDP")

    def __init__(self, request: dict[str, Any]) -> None:
        from pyspark.sql import SparkSession

        self.epsilon, self.delta = request["epsilon"], request["delta"]
        wanted = sorted({name for question in request["questions"] for name in question["columns"]})
        settings = {
            "spark.driver.memory": "6g",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "4",
            "spark.sql.warehouse.dir": tempfile.gettempdir(),
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            # The JDK's own access rules, as Tumult's installation guide sets them for Java 17.
            "spark.driver.extraJavaOptions": "-Dio.netty.tryReflectionSetAccessible=true",
        }
        builder = SparkSession.builder.master("local[2]").appName("bench")
        for name, value in settings.items():
            builder = builder.config(name, value)
        self.spark = builder.getOrCreate()
        self.frame = self.spark.read.parquet(request["file"]).select(*wanted).cache()
        self.frame.count()

    def prepare(self, question: dict[str, Any], way: str) -> Ask:
        measures = measures_of(question, ["rows", "units", "sum", "avg", "quantile"])
        if way.startswith("groups") and len(question["keys"]) > 1:
            raise Unable("MaxGroupsPerID takes one grouping column")
        if way.endswith("zCDP") and question["private_keys"]:
            raise Unable("private keys need approximate DP")
        return lambda: top_of(question, self._answer(question, measures, way))

    def _answer(self, question: dict[str, Any], measures: list[dict[str, Any]], way: str) -> Rows:
        session = self._session(question, way)
        query = _bounded(question, way)
        keys = question["keys"]
        if keys:
            query = query.groupby(self._keys(session, question, way))
        found: dict[tuple[Any, ...], dict[str, float]] = {}
        for place, measure in enumerate(measures):
            share = 1.0 / (len(measures) - place)
            released = session.evaluate(_aggregate(query, question, measure), _part(session, share))
            for row in released.collect():
                found.setdefault(tuple(row[key] for key in keys), {})[measure["name"]] = row[measure["name"]]
        session.stop()
        names = [one["name"] for one in measures]
        return [
            (list(key), [None if values.get(name) is None else float(values[name]) for name in names])
            for key, values in found.items()
        ]

    def _session(self, question: dict[str, Any], way: str) -> Any:
        from tmlt.analytics import AddRowsWithID, ApproxDPBudget, RhoZCDPBudget, Session

        budget = ApproxDPBudget(self.epsilon, self.delta)
        if way.endswith("zCDP"):
            budget = RhoZCDPBudget(question["rho"])
        return Session.from_dataframe(
            privacy_budget=budget,
            source_id="rows",
            dataframe=self.frame.select(*question["columns"]),
            protected_change=AddRowsWithID(id_column=question["unit"]),
        )

    def _keys(self, session: Any, question: dict[str, Any], way: str) -> Any:
        from tmlt.analytics import ApproxDPBudget, KeySet

        if not question["private_keys"]:
            return KeySet.from_dict({key: list(question["columns"][key]["keys"]) for key in question["keys"]})
        budget = ApproxDPBudget(GROUPS_SHARE * self.epsilon, self.delta)
        found = session.evaluate(_bounded(question, way).get_groups(question["keys"]), budget)
        return KeySet.from_dataframe(found)


def _part(session: Any, share: float) -> Any:
    """A share of what is left of a session's budget."""
    from tmlt.analytics import ApproxDPBudget, RhoZCDPBudget

    left = session.remaining_privacy_budget
    if isinstance(left, RhoZCDPBudget):
        return left if share == 1.0 else RhoZCDPBudget(float(left.rho) * share)
    return ApproxDPBudget(float(left.epsilon) * share, 0)


def _bounded(question: dict[str, Any], way: str) -> Any:
    from tmlt.analytics import MaxGroupsPerID, MaxRowsPerGroupPerID, MaxRowsPerID, QueryBuilder

    query = QueryBuilder("rows")
    if question["where"]:
        query = query.filter(question["where"])
    for column in dict.fromkeys(one["column"] for one in question["measures"] if one["column"]):
        query = query.drop_null_and_nan([column])
    caps, keys = question["caps"], question["keys"]
    if way == "rows" or not keys:
        return query.enforce(MaxRowsPerID(caps["rows"]))
    distinct = any(one["kind"] == "units" for one in question["measures"])
    per_group = 1 if distinct else caps["rows_per_group"]
    return query.enforce(MaxGroupsPerID(keys[0], caps["groups"])).enforce(
        MaxRowsPerGroupPerID(keys[0], per_group)
    )


def _aggregate(query: Any, question: dict[str, Any], measure: dict[str, Any]) -> Any:
    name, kind = measure["name"], measure["kind"]
    if kind == "rows":
        return query.count(name=name)
    if kind == "units":
        return query.count_distinct([question["unit"]], name=name)
    low, high = question["columns"][measure["column"]]["bounds"]
    if kind == "quantile":
        return query.quantile(measure["column"], measure["at"], low, high, name=name)
    form = query.sum if kind == "sum" else query.average
    return form(measure["column"], low, high, name=name)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    serve(Tumult)
