"""Random statements over private tables, from a grammar: relations within relations, to a stated depth.

Every relation shows the columns ``u`` (the unit), ``k`` (text), ``x`` and ``d`` (numbers), so that each may
stand wherever another does. They are for the tables of test_relations.py.
"""

from __future__ import annotations

import random

BASES = [
    "SELECT person AS u, ward AS k, cost AS x, day AS d FROM visits",
    "SELECT person AS u, note AS k, score AS x, visit AS d FROM visits WHERE day < 4",
    "SELECT person AS u, town AS k, rooms AS x, rooms AS d FROM homes",
    "SELECT id AS u, sex AS k, age AS x, age AS d FROM registry",
    "SELECT v.person AS u, b.kind AS k, b.amount AS x, v.day AS d FROM bills b JOIN visits v "
    "ON b.visit = v.visit",
    "SELECT v.person AS u, b.kind AS k, v.cost AS x, b.amount AS d FROM visits v "
    "LEFT JOIN bills b ON b.visit = v.visit AND b.amount > v.day",
    "SELECT holder AS u, 'acc' AS k, balance AS x, balance AS d FROM accounts",
    "SELECT v.person AS u, i.what AS k, i.price AS x, b.amount AS d FROM items i, bills b, visits v "
    "WHERE i.bill = b.bill AND b.visit = v.visit",
]
WITHIN = [
    "sum(x)",
    "avg(x)",
    "min(x)",
    "max(x)",
    "count(x)",
    "max(d)",
    "-min(-x)",
    "sum(x) FILTER (WHERE d > 1)",
    "median(x)",
    "median(d) FILTER (WHERE x > 0)",
    "stddev(x)",
    "var_pop(least(greatest(d, -9), 9))",
]
WINDOWS = [
    "row_number() OVER (PARTITION BY u ORDER BY x)",
    "row_number() OVER (PARTITION BY u, k ORDER BY d DESC)",
    "rank() OVER (PARTITION BY u ORDER BY d)",
    "dense_rank() OVER (PARTITION BY u ORDER BY k NULLS FIRST)",
    "lag(d) OVER (PARTITION BY u ORDER BY x, k)",
    "lead(d, 2, 0) OVER (PARTITION BY u ORDER BY k)",
    "count(*) OVER (PARTITION BY u ORDER BY d)",
    "count(k) FILTER (WHERE d > 1) OVER (PARTITION BY u)",
    "max(d) OVER (PARTITION BY u ORDER BY x ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
    "sum(least(greatest(d, 0), 9)) OVER (PARTITION BY u ORDER BY x ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
    "ntile(2) OVER (PARTITION BY u ORDER BY k)",
    "first_value(d) OVER (PARTITION BY u ORDER BY x DESC)",
]
CONDITIONS = [
    "d > 1", "x BETWEEN 0 AND 9", "k <> 'a'", "k IS NOT NULL", "d = 1", "d <= 2", "x < d",
    "k IN ('a', 'x', 'k')", "NOT (x > 3)", "d % 2 = 0", "u <> 'p1'", "k IN (SELECT ward FROM wards)",
    "k NOT IN (SELECT ward FROM wards WHERE city = 'N')", "try_cast(x AS varchar) <> '-0.0'",
]  # fmt: skip
MEASURES = [
    "count(*)", "count(x)", "count(DISTINCT u)", "sum(least(greatest(x, -5), 20))",
    "avg(least(greatest(d, 0), 9))", "count(*) FILTER (WHERE d > 1)",
]  # fmt: skip


class Grammar:
    """Writes statements; the same seed writes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._aliases = 0

    def statement(self, depth: int) -> str:
        """A question about a relation of that depth."""
        measures = self._random.sample(MEASURES, self._random.randint(1, 2))
        named = ", ".join(f"{measure} AS m{place}" for place, measure in enumerate(measures))
        rows = f"FROM ({self.relation(depth)}) AS t"
        key = self._random.choice([None, None, "k", "d", "x > 3"])
        return f"SELECT {named} {rows}" if key is None else f"SELECT {key} AS g, {named} {rows} GROUP BY g"

    def relation(self, depth: int) -> str:
        """A SELECT with the four columns."""
        if depth == 0:
            return self._random.choice(BASES)
        made: str = self._random.choice(
            [
                self._filtered, self._projected, self._grouped, self._grouped, self._once, self._windowed,
                self._windowed, self._united, self._joined, self._joined, self._with_wards, self._semi,
            ]
        )(depth - 1)  # fmt: skip
        return made

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}"

    def _one(self, depth: int) -> str:
        return f"({self.relation(depth)}) AS {self._alias()}"

    def _filtered(self, depth: int) -> str:
        chosen = " AND ".join(self._random.sample(CONDITIONS, self._random.randint(1, 2)))
        return f"SELECT u, k, x, d FROM {self._one(depth)} WHERE {chosen}"

    def _projected(self, depth: int) -> str:
        numbers = self._random.choice(
            [
                "x + 1 AS x, -d AS d",
                "-x AS x, d",
                "CASE WHEN x > 1 THEN 5 ELSE 2 END AS x, 3 AS d",
                "d AS x, x AS d",
                "coalesce(x, 0) AS x, d",
            ]
        )
        return f"SELECT u, lower(k) AS k, {numbers} FROM {self._one(depth)}"

    def _grouped(self, depth: int) -> str:
        of = self._random.choice(WITHIN)
        if self._random.random() < 0.3:
            return f"SELECT u, k, {of} AS x, count(DISTINCT d) AS d FROM {self._one(depth)} GROUP BY u, k"
        having = self._random.choice(["", "", " HAVING count(*) > 1", " HAVING max(d) < 4 OR bool_or(x > 1)"])
        return f"SELECT u, max(k) AS k, {of} AS x, count(*) AS d FROM {self._one(depth)} GROUP BY u{having}"

    def _once(self, depth: int) -> str:
        return f"SELECT DISTINCT u, k, x, d FROM {self._one(depth)}"

    def _windowed(self, depth: int) -> str:
        window = self._random.choice(WINDOWS)
        qualify = self._random.choice(["", "", f" QUALIFY {window} <= 2"])
        return f"SELECT u, k, x, {window} AS d FROM {self._one(depth)}{qualify}"

    def _united(self, depth: int) -> str:
        kind = self._random.choice(["UNION ALL", "UNION"])
        return f"{self._plain(depth)} {kind} {self._plain(0)}"

    def _plain(self, depth: int) -> str:
        return f"SELECT u, k, x * 1.0 AS x, d FROM {self._one(depth)}"

    def _joined(self, depth: int) -> str:
        one, other = self._alias(), self._alias()
        further = self._random.choice(["", "", f" AND {one}.d < {other}.d", f" AND {one}.k = {other}.k"])
        kind = self._random.choice(["JOIN", "JOIN", "LEFT JOIN"])
        on = f"{one}.u = {other}.u{further}"
        left, right = f"({self.relation(depth)}) AS {one}", f"({self.relation(0)}) AS {other}"
        if self._random.random() < 0.5:
            left, right = right.replace(f"AS {other}", f"AS {one}"), left.replace(f"AS {one}", f"AS {other}")
        return f"SELECT {one}.u, {other}.k, {one}.x, {other}.d FROM {left} {kind} {right} ON {on}"

    def _with_wards(self, depth: int) -> str:
        name = self._alias()
        kind = self._random.choice(["JOIN", "LEFT JOIN"])
        return (
            f"SELECT {name}.u, w.city AS k, {name}.x, {name}.d FROM ({self.relation(depth)}) AS {name} "
            f"{kind} wards w ON w.ward = {name}.k"
        )

    def _semi(self, depth: int) -> str:
        one, other = self._alias(), self._alias()
        word = self._random.choice(["", "NOT "])
        further = self._random.choice(["", f" AND {other}.d <> {one}.d", f" AND {other}.k = {one}.k"])
        inner = f"({self.relation(0)}) AS {other}"
        if self._random.random() < 0.4:
            condition = f"{one}.u {word}IN (SELECT {other}.u FROM {inner})"
        else:
            condition = f"{word}EXISTS (SELECT 1 FROM {inner} WHERE {other}.u = {one}.u{further})"
        return f"SELECT u, k, x, d FROM ({self.relation(depth)}) AS {one} WHERE {condition}"
