"""Qrlew (pyqrlew): a statement rewritten into one that clips each unit's vector and adds noise, on DuckDB.

Its rewriter reads the types from a database and takes the size of the tables to be public; an empty SQLite
database with the right number of blank rows gives it both. Where it composes several Gaussians at the noise
of one (an average), epsilon is lowered until the composition fits, so that budgets are equal.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import duckdb
import sqlalchemy as sa
from pyqrlew import Dialect
from pyqrlew.wrappers import Dataset

from bench.peers.runner import Ask, Rows, TooLate, Unable, serve, top_of

TYPES = {"integer": sa.BigInteger, "float": sa.Float, "text": sa.String, "date": sa.Date}


class Qrlew:
    """DuckDB over the file; one rewritten statement for each question."""

    ways = ("rows",)

    def __init__(self, request: dict[str, Any]) -> None:
        self.epsilon, self.delta = request["epsilon"], request["delta"]
        table = request["questions"][0]["table"]
        self.connection = duckdb.connect(config={"threads": 2})
        self.connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{request['file']}')")
        ((self.rows,),) = self.connection.execute(f"SELECT count(*) FROM {table}").fetchall()

    def prepare(self, question: dict[str, Any], way: str) -> Ask:  # noqa: ARG002 - there is one way
        sql = question["sql"].split(" ORDER BY ")[0]
        try:
            dataset = self._dataset(question)
            relation = dataset.relation(sql)
            epsilon = self.epsilon
            text, event = self._rewritten(dataset, relation, question, epsilon)
            spent = _rho(event)
            if spent > question["rho"]:
                epsilon *= math.sqrt(question["rho"] / spent)
                text, event = self._rewritten(dataset, relation, question, epsilon)
        except BaseException as panic:  # its Rust panics are no Exception
            if isinstance(panic, KeyboardInterrupt | SystemExit | TooLate):
                raise
            raise Unable(f"its rewriter fails: {str(panic).strip().splitlines()[0][:120]}") from None
        if "RANDOM" not in text:
            raise Unable("its rewriter adds no noise")
        return lambda: top_of(question, self._answer(text, len(question["keys"])))

    def _answer(self, text: str, size: int) -> Rows:
        rows = self.connection.execute(text).fetchall()
        return [
            (list(row[:size]), [None if one is None else float(one) for one in row[size:]]) for row in rows
        ]

    def _dataset(self, question: dict[str, Any]) -> Dataset:
        table, columns = question["table"], question["columns"]
        engine = sa.create_engine("sqlite://")
        described = sa.MetaData()
        sa.Table(table, described, *(sa.Column(name, TYPES[one["type"]]) for name, one in columns.items()))
        described.create_all(engine)
        numbers = f"SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT {self.rows}"
        blank = f"WITH RECURSIVE s(n) AS ({numbers}) SELECT NULL FROM s"
        with engine.begin() as connection:
            connection.execute(sa.text(f"INSERT INTO {table}({question['unit']}) {blank}"))
        dataset = Dataset.from_database("bench", engine, None)
        for name, one in columns.items():
            if one["keys"] is not None and one["type"] == "text":
                dataset = dataset.with_possible_values(None, table, name, list(one["keys"]))
            elif one["bounds"] is not None:
                dataset = dataset.with_range(None, table, name, *(float(end) for end in one["bounds"]))
        return dataset

    def _rewritten(self, dataset: Dataset, relation: Any, question: dict[str, Any], epsilon: float) -> Any:
        caps = question["caps"]
        rewritten = relation.rewrite_with_differential_privacy(
            dataset,
            [(question["table"], [], question["unit"])],
            {"epsilon": epsilon, "delta": self.delta},
            max_multiplicity=float(caps["rows"]),
            max_multiplicity_share=1.0,
            max_privacy_unit_groups=caps["groups"],
        )
        return rewritten.relation().to_query(Dialect.PostgreSql), rewritten.dp_event().to_dict()


def _rho(event: dict[str, Any]) -> float:
    """The zCDP of the Gaussians of an event that is made of nothing else; 0 for any other."""
    events = event.get("events", [event])
    if not all("noise_multiplier" in one for one in events):
        return 0.0
    return float(sum(0.5 / one["noise_multiplier"] ** 2 for one in events))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(Qrlew)
