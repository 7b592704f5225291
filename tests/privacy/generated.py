"""Statements at random over the tables of `tests.privacy.test_relations`: joins along the unit, features of
each unit, windows, unions, semi-joins, grouping sets, and a public part above.

Each is plain SQL whose meaning does not hang on the order of rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

NUMERIC = frozenset({"integer", "float"})
TABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "registry": ("id", {"age": "integer", "sex": "text"}),
    "homes": ("person", {"town": "text", "rooms": "integer"}),
    "visits": (
        "person",
        {"visit": "integer", "ward": "text", "day": "integer", "cost": "integer", "score": "float"},
    ),
    "accounts": ("holder", {"balance": "integer"}),
}


@dataclass(frozen=True)
class Made:
    """A private relation as SQL. Its column ``u`` is the unit; ``columns`` are the others by type."""

    sql: str
    columns: Mapping[str, str]


class Statements:
    """Draws statements; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._names = 0

    def statement(self) -> str:
        """One statement that shows released numbers."""
        if self._chance(0.15):
            return self._of_named()
        rows = self._relation(3)
        if self._chance(0.25):
            return self._above(rows)
        return self._aggregated(rows)

    # Private relations

    def _relation(self, depth: int) -> Made:
        if depth == 0 or self._chance(0.15):
            return self._scan()
        makers: list[Callable[[int], Made]] = [
            self._filtered, self._joined, self._along_path, self._per_unit, self._per_unit, self._windowed,
            self._windowed, self._union, self._semi, self._semi, self._with_public, self._once,
        ]  # fmt: skip
        return self.random.choice(makers)(depth - 1)

    def _scan(self) -> Made:
        table = self.random.choice([*TABLES, "visits", "visits"])
        unit, columns = TABLES[table]
        renamed = {name: self._fresh() for name in columns}
        shown = ", ".join(f"{name} AS {new}" for name, new in renamed.items())
        made = {renamed[name]: kind for name, kind in columns.items()}
        return Made(f"SELECT {unit} AS u, {shown} FROM {table}", made)

    def _filtered(self, depth: int) -> Made:
        below = self._relation(depth)
        return Made(self._select("t", below, f" WHERE {self._condition('t', below)}"), below.columns)

    def _joined(self, depth: int) -> Made:
        left, right = self._relation(depth), self._relation(min(depth, 1))
        word = self.random.choice(["JOIN", "LEFT JOIN"])
        on = "l.u = r.u"
        if self._chance(0.4):
            on += f" AND {self._compared('l', left, 'r', right)}"
        columns = {**left.columns, **right.columns}
        shown = ", ".join(
            ["l.u", *(f"l.{name}" for name in left.columns), *(f"r.{n}" for n in right.columns)]
        )
        source = f"({left.sql}) AS l {word} ({right.sql}) AS r ON {on}"
        if self._chance(0.3):
            other = self._relation(0)
            where = self.random.choice(["l.u = o.u", "l.u = o.u AND r.u = o.u"])
            source, columns = f"{source} JOIN ({other.sql}) AS o ON {where}", {**columns, **other.columns}
            shown += "".join(f", o.{name}" for name in other.columns)
        return Made(f"SELECT {shown} FROM {source}", columns)

    def _along_path(self, depth: int) -> Made:
        amount, kind, ward, what = (self._fresh() for _ in range(4))
        word = self.random.choice(
            ["visits v JOIN bills b", "visits v LEFT JOIN bills b", "bills b JOIN visits v"]
        )
        source = f"{word} ON b.visit = v.visit"
        columns = {amount: "integer", kind: "text", ward: "text"}
        shown = f"v.person AS u, b.amount AS {amount}, b.kind AS {kind}, v.ward AS {ward}"
        if self._chance(0.4):
            source += " JOIN items i ON i.bill = b.bill"
            shown, columns = f"{shown}, i.what AS {what}", {**columns, what: "text"}
        if self._chance(0.3):
            price = self._fresh()
            more = " LEFT JOIN visits w ON w.person = v.person AND w.day < v.day"
            source, shown = source + more, f"{shown}, w.cost AS {price}"
            columns[price] = "integer"
        return Made(f"SELECT {shown} FROM {source}", columns)

    def _per_unit(self, depth: int) -> Made:
        below = self._relation(depth)
        grouped = ["u"]
        columns: dict[str, str] = {}
        shown = ["t.u"]
        if self._chance(0.4):
            key, name = self._pick(below), self._fresh()
            grouped.append(f"t.{key}")
            shown.append(f"t.{key} AS {name}")
            columns[name] = below.columns[key]
        for _ in range(self.random.randint(1, 3)):
            call, kind = self._feature(below)
            name = self._fresh()
            shown.append(f"{call} AS {name}")
            columns[name] = kind
        having = " HAVING count(*) > 1" if self._chance(0.2) else ""
        keys = ", ".join(f"t.{key}" if key == "u" else key for key in grouped)
        return Made(f"SELECT {', '.join(shown)} FROM ({below.sql}) AS t GROUP BY {keys}{having}", columns)

    def _feature(self, below: Made) -> tuple[str, str]:
        name = self._pick(below)
        kind = below.columns[name]
        kept = f" FILTER (WHERE {self._condition('t', below)})" if self._chance(0.25) else ""
        calls = [
            ("count(*)", "integer"),
            (f"count(t.{name})", "integer"),
            (f"count(DISTINCT t.{name})", "integer"),
        ]
        calls += [(f"min(t.{name})", kind), (f"max(t.{name})", kind)]
        if kind in NUMERIC:
            calls += [(f"sum(t.{name})", kind), (f"avg(t.{name})", "float")]
        call, made = self.random.choice(calls)
        return call + kept, made

    def _windowed(self, depth: int) -> Made:
        below = self._relation(depth)
        columns = dict(below.columns)
        shown = ["t.u", *(f"t.{name}" for name in columns)]
        for _ in range(self.random.randint(1, 2)):
            call, kind = self._window(below)
            name = self._fresh()
            shown.append(f"{call} AS {name}")
            columns[name] = kind
        qualify = ""
        if self._chance(0.3):
            qualify = f" QUALIFY count(*) OVER (PARTITION BY t.u) {self.random.choice(['<', '>='])} 2"
        return Made(f"SELECT {', '.join(shown)} FROM ({below.sql}) AS t{qualify}", columns)

    def _window(self, below: Made) -> tuple[str, str]:
        """Of rows that are alike in all their columns it does not matter which comes first."""
        name = self._pick(below)
        kind = below.columns[name]
        first = self.random.choice(["", " DESC", " NULLS FIRST"])
        whole = ", ".join(f"t.{one}" for one in below.columns if one != name)
        order = f"ORDER BY t.{name}{first}{', ' if whole else ''}{whole}"
        within = "t.u" + (f", t.{self._pick(below)}" if self._chance(0.4) else "")
        calls = [
            (f"row_number() OVER (PARTITION BY {within} {order})", "integer"),
            (f"rank() OVER (PARTITION BY {within} ORDER BY t.{name}{first})", "integer"),
            (f"dense_rank() OVER (PARTITION BY {within} ORDER BY t.{name}{first})", "integer"),
            (f"count(t.{name}) OVER (PARTITION BY {within})", "integer"),
            (f"lag(t.{name}) OVER (PARTITION BY {within} {order})", kind),
            (f"lead(t.{name}, 2) OVER (PARTITION BY {within} {order})", kind),
            (f"first_value(t.{name}) OVER (PARTITION BY {within} {order})", kind),
            (f"max(t.{name}) OVER (PARTITION BY {within} ORDER BY t.{name}{first})", kind),
            (f"min(t.{name}) OVER (PARTITION BY {within} {order} ROWS 2 PRECEDING)", kind),
        ]
        if kind in NUMERIC:
            frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING"
            calls += [
                (f"sum(t.{name}) OVER (PARTITION BY {within} {order} {frame})", kind),
                (f"avg(t.{name}) OVER (PARTITION BY {within})", "float"),
            ]
        return self.random.choice(calls)

    def _union(self, depth: int) -> Made:
        parts = [self._relation(min(depth, 1)) for _ in range(2)]
        if self._chance(0.3):
            parts[1] = parts[0]
        kind = self.random.choice(["integer", "text"])
        name, place = self._fresh(), self._fresh()
        branches = []
        for number, part in enumerate(parts):
            found = [one for one, its in part.columns.items() if its == kind]
            value = self.random.choice(found) if found else ("1" if kind == "integer" else "'z'")
            branches.append(
                f"SELECT u, {value} AS {name}, lower('B{number}') AS {place} FROM ({part.sql}) AS t"
            )
        return Made(" UNION ALL ".join(branches), {name: kind, place: "text"})

    def _semi(self, depth: int) -> Made:
        below, other = self._relation(depth), self._relation(min(depth, 1))
        texts = [name for name, kind in below.columns.items() if kind == "text"]
        negated = self.random.choice(["", "NOT "])
        asked = [
            f"t.u {negated}IN (SELECT u FROM ({other.sql}) AS s WHERE {self._condition('s', other)})",
            f"{negated}EXISTS (SELECT 1 FROM ({other.sql}) AS s WHERE s.u = t.u)",
            f"{negated}EXISTS (SELECT 1 FROM ({other.sql}) AS s WHERE s.u = t.u"
            f" AND {self._compared('s', other, 't', below)})",
        ]
        if texts:
            name = self.random.choice(texts)
            asked += [
                f"{negated}EXISTS (SELECT 1 FROM wards w WHERE w.ward = t.{name})",
                f"t.{name} {negated}IN (SELECT ward FROM wards WHERE city = 'N')",
            ]
        return Made(self._select("t", below, f" WHERE {self.random.choice(asked)}"), below.columns)

    def _with_public(self, depth: int) -> Made:
        below = self._relation(depth)
        texts = [name for name, kind in below.columns.items() if kind == "text"]
        if not texts:
            return below
        name = self._fresh()
        word = self.random.choice(["JOIN", "LEFT JOIN"])
        shown = ", ".join(["t.u", *(f"t.{one}" for one in below.columns), f"w.city AS {name}"])
        on = f"w.ward = t.{self.random.choice(texts)}"
        return Made(
            f"SELECT {shown} FROM ({below.sql}) AS t {word} wards AS w ON {on}",
            {**below.columns, name: "text"},
        )

    def _once(self, depth: int) -> Made:
        below = self._relation(depth)
        kept = self.random.sample(list(below.columns), min(2, len(below.columns)))
        shown = ", ".join(["t.u", *(f"t.{one}" for one in kept)])
        return Made(
            f"SELECT DISTINCT {shown} FROM ({below.sql}) AS t", {one: below.columns[one] for one in kept}
        )

    # Released rows

    def _aggregated(self, rows: Made) -> str:
        calls = ", ".join(f"{call} AS a{place}" for place, call in enumerate(self._calls(rows)))
        keys = self.random.sample(
            list(rows.columns), min(self.random.choice([0, 1, 1, 2]), len(rows.columns))
        )
        if not keys:
            return f"SELECT {calls} FROM ({rows.sql}) AS t"
        shown = ", ".join(f"t.{key}" for key in keys)
        grouped = shown
        if self._chance(0.2):
            word = self.random.choice(["ROLLUP", "CUBE"])
            grouped = f"{word} ({shown})"
        return f"SELECT {shown}, {calls} FROM ({rows.sql}) AS t GROUP BY {grouped}"

    def _calls(self, rows: Made) -> list[str]:
        calls = []
        for _ in range(self.random.randint(1, 3)):
            name = self._pick(rows)
            known = ["count(*)", f"count(t.{name})", "count(DISTINCT t.u)"]
            if rows.columns[name] in NUMERIC:
                known += [f"sum(t.{name})", f"avg(t.{name})", f"sum(t.{name}) FILTER (WHERE t.{name} > 1)"]
            calls.append(self.random.choice(known))
        return calls

    def _of_named(self) -> str:
        rows = self._relation(2)
        key = self._pick(rows)
        tables = [f"p AS ({rows.sql})", f"g AS (SELECT {key} AS k, count(*) AS n FROM p GROUP BY {key})"]
        tables.append("h AS (SELECT count(DISTINCT u) AS m, count(*) AS c FROM p)")
        asked = self.random.choice(
            [
                "SELECT g.k, g.n, h.m FROM g JOIN h ON h.c >= g.n",
                "SELECT k, n, n * 2 AS twice FROM g WHERE n > (SELECT m FROM h) - 3",
                "SELECT k, n FROM g UNION ALL SELECT NULL, c FROM h",
                "SELECT n, count(*) AS groups FROM g GROUP BY n",
            ]
        )
        return f"WITH {', '.join(tables)} {asked}"

    def _above(self, rows: Made) -> str:
        inner = self._pick(rows)
        calls = self._calls(rows)
        grouped = (
            f"SELECT t.{inner} AS k, count(*) AS n, {calls[0]} AS a FROM ({rows.sql}) AS t GROUP BY t.{inner}"
        )
        asked = [
            f"SELECT k, a FROM ({grouped}) AS g WHERE n > 1",
            f"SELECT k, a, rank() OVER (ORDER BY n DESC) AS p FROM ({grouped}) AS g",
            f"SELECT k, sum(n) OVER () AS s FROM ({grouped}) AS g QUALIFY rank() OVER (ORDER BY n, k) < 4",
            f"SELECT max(n) AS x, count(*) AS y FROM ({grouped}) AS g",
            f"SELECT k, n FROM ({grouped}) AS g UNION ALL SELECT ward, 0 FROM wards",
            f"SELECT w.city, g.n FROM ({grouped}) AS g JOIN wards w ON w.ward = g.k",
            f"{grouped} HAVING count(*) > 1 ORDER BY n DESC, k",
            f"SELECT DISTINCT n FROM ({grouped}) AS g",
        ]
        if rows.columns[inner] != "text":
            del asked[4:6]
        return self.random.choice(asked)

    # Parts

    def _select(self, alias: str, below: Made, where: str) -> str:
        shown = ", ".join([f"{alias}.u", *(f"{alias}.{name}" for name in below.columns)])
        return f"SELECT {shown} FROM ({below.sql}) AS {alias}{where}"

    def _condition(self, alias: str, rows: Made) -> str:
        name = self._pick(rows)
        column = f"{alias}.{name}"
        if rows.columns[name] == "text":
            return self.random.choice(
                [
                    f"{column} <> 'a'",
                    f"{column} IN ('a', 'b', 'x', 'N')",
                    f"{column} IS NOT NULL",
                    f"{column} > 'b'",
                ]
            )
        return self.random.choice(
            [
                f"{column} > 1",
                f"{column} BETWEEN 0 AND 3",
                f"{column} IS NULL",
                f"NOT {column} = 2",
                f"{column} + 1 < 4",
            ]
        )

    def _compared(self, one: str, left: Made, other: str, right: Made) -> str:
        pairs = [
            (name, there)
            for name, kind in left.columns.items()
            for there, its in right.columns.items()
            if kind == its or {kind, its} <= NUMERIC
        ]
        if not pairs:
            return self._condition(other, right)
        name, there = self.random.choice(pairs)
        return f"{one}.{name} {self.random.choice(['=', '<', '<>', '>='])} {other}.{there}"

    def _pick(self, rows: Made) -> str:
        return self.random.choice(list(rows.columns))

    def _fresh(self) -> str:
        self._names += 1
        return f"x{self._names}"

    def _chance(self, share: float) -> bool:
        return self.random.random() < share
