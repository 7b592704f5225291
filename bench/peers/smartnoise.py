"""SmartNoise SQL: rows per unit by reservoir sampling in the database, Laplace noise, tau-thresholding."""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow.parquet as pq

from bench.peers.runner import Ask, Rows, Unable, measures_of, serve, top_of

TYPES = {"integer": "int", "float": "float", "text": "string", "date": "datetime"}
AGGREGATES = {"rows": "COUNT(*)", "sum": "SUM({column})", "avg": "AVG({column})"}


class SmartNoise:
    """A PrivateReader over a data frame (which it holds in SQLite)."""

    ways = ("rows",)

    def __init__(self, request: dict[str, Any]) -> None:
        from snsql.sql.reader.pandas import PandasReader

        self.epsilon, self.delta = request["epsilon"], request["delta"]
        wanted = sorted({name for question in request["questions"] for name in question["columns"]})
        self.frame = pq.read_table(request["file"], columns=wanted).to_pandas(date_as_object=True)
        for name in wanted:
            if any(
                question["columns"].get(name, {}).get("type") == "date" for question in request["questions"]
            ):
                self.frame[name] = self.frame[name].astype(str)
        question = request["questions"][0]
        self.reader = PandasReader(self.frame, self._metadata(question))

    def prepare(self, question: dict[str, Any], way: str) -> Ask:  # noqa: ARG002 - there is one way
        sql = self._sql(question)
        whole = self._reader(question, self.epsilon, self.delta)
        released = [one for one in whole._get_mechanisms(whole._rewrite(sql)[0]) if one is not None]
        epsilon = self.epsilon / len(released)
        charged = self._reader(question, epsilon, self.delta).get_privacy_cost(sql)[1]
        reader = self._reader(question, epsilon, self.delta * min(1.0, self.delta / max(charged, 1e-300)))
        spent = reader.get_privacy_cost(sql)
        if spent[0] > self.epsilon * 1.001 or spent[1] > self.delta * 1.001:
            raise Unable(f"its odometer says epsilon {spent[0]:.2f}, delta {spent[1]:.1e}")
        return lambda: top_of(question, self._rows(question, reader.execute(sql)))

    def _reader(self, question: dict[str, Any], epsilon: float, delta: float) -> Any:
        from snsql import Privacy
        from snsql.sql.private_reader import PrivateReader

        privacy = Privacy(epsilon=epsilon, delta=delta)
        return PrivateReader(self.reader, self._metadata(question), privacy=privacy)

    def _metadata(self, question: dict[str, Any]) -> dict[str, Any]:
        table: dict[str, Any] = {
            "max_ids": question["caps"]["rows"],
            "sample_max_ids": True,
            "row_privacy": False,
            "censor_dims": question["private_keys"],
            "clamp_counts": False,
            "clamp_columns": True,
        }
        for name, column in question["columns"].items():
            described = {"type": TYPES[column["type"]], "private_id": name == question["unit"]}
            if column["bounds"] is not None and name != question["unit"]:
                described |= dict(zip(("lower", "upper"), column["bounds"], strict=True))
            table[name] = described
        return {"": {"bench": {question["table"]: table}}}

    def _sql(self, question: dict[str, Any]) -> str:
        shown = list(question["keys"])
        for measure in measures_of(question, [*AGGREGATES, "units"]):
            form = (
                f"COUNT(DISTINCT {question['unit']})"
                if measure["kind"] == "units"
                else AGGREGATES[measure["kind"]]
            )
            shown.append(f"{form.format(**measure)} AS {measure['name']}")
        text = f"SELECT {', '.join(shown)} FROM bench.{question['table']}"
        if question["filters"]:
            text += " WHERE " + " AND ".join(_condition(*one) for one in question["filters"])
        return text + (f" GROUP BY {', '.join(question['keys'])}" if question["keys"] else "")

    def _rows(self, question: dict[str, Any], answer: list[Any]) -> Rows:
        size = len(question["keys"])
        return [(list(row[:size]), [float(value) for value in row[size:]]) for row in answer[1:]]


def _condition(column: str, operator: str, value: Any) -> str:
    if value is None:
        return f"{column} {operator} NULL"
    if isinstance(value, dict):
        return f"{column} {operator} {value.get('column') or repr(value['date'])}"
    return f"{column} {operator} {value!r}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(SmartNoise)
