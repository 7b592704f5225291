"""The questions, once for every engine: as SQL, and as a structure for peers without SQL.

Caps are the same for every engine that takes caps; they are what an analyst who knows the subject would
choose without looking at the rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench.data import DATASETS, Dataset, events_of
from bench.events import size_of

Value = str | int | float | dict[str, str] | None


@dataclass(frozen=True)
class Caps:
    """What one unit may contribute: groups, rows in each group, rows in all."""

    groups: int
    rows_per_group: int
    rows: int


@dataclass(frozen=True)
class Measure:
    """One aggregate: ``rows``, ``units``, ``sum``, ``avg`` or ``quantile`` (at a level)."""

    name: str
    kind: str
    column: str | None = None
    at: float | None = None


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        filters: (column, operator, value); a value ``{"column": name}`` or ``{"date": iso}`` is what it says,
        and None with ``is not`` is NULL.
        top: only the groups with the most rows are asked for.
        quick: among those of a quick run.
        rows: of events, where it is not a million of them.
    """

    id: str
    dataset: str
    keys: tuple[str, ...]
    measures: tuple[Measure, ...]
    caps: Caps
    filters: tuple[tuple[str, str, Value], ...] = ()
    top: int | None = None
    quick: bool = False
    rows: int | None = None

    @property
    def data(self) -> Dataset:
        return DATASETS[self.dataset] if self.rows is None else events_of(size_of(self.rows))

    @property
    def private_keys(self) -> bool:
        """Whether some key has no declared values: which groups there are is then private."""
        return any(self.data.columns[key].keys is None for key in self.keys)

    @property
    def where(self) -> str:
        """The filters as a condition of SQL."""
        return " AND ".join(f"{column} {sign} {_literal(value)}" for column, sign, value in self.filters)

    def sql(self) -> str:
        """The statement, in DuckDB's spelling."""
        shown = [*self.keys, *(f"{_aggregate(one, self.data.unit)} AS {one.name}" for one in self.measures)]
        text = f"SELECT {', '.join(shown)} FROM {self.dataset}"
        text += f" WHERE {self.where}" if self.filters else ""
        if self.keys:
            text += f" GROUP BY {', '.join(self.keys)}"
        if self.top is not None:
            text += f" ORDER BY {self.measures[0].name} DESC LIMIT {self.top}"
        return text

    def request(self) -> dict[str, Any]:
        """The structure that a peer's runner gets."""
        used = {*self.keys, *(one.column for one in self.measures if one.column), self.data.unit}
        for column, _, value in self.filters:
            used |= {column, value["column"]} if isinstance(value, dict) and "column" in value else {column}
        columns = {name: asdict(self.data.columns[name]) for name in sorted(used)}
        measures = [asdict(one) for one in self.measures]
        return {
            "id": self.id,
            "sql": self.sql(),
            "table": self.dataset,
            "unit": self.data.unit,
            "keys": list(self.keys),
            "measures": measures,
            "filters": [list(one) for one in self.filters],
            "where": self.where,
            "top": self.top,
            "caps": asdict(self.caps),
            "columns": columns,
            "private_keys": self.private_keys,
        }


def _aggregate(measure: Measure, unit: str) -> str:
    return {
        "rows": "count(*)",
        "units": f"count(DISTINCT {unit})",
        "quantile": f"quantile_cont({measure.column}, {measure.at})",
    }.get(measure.kind, f"{measure.kind}({measure.column})")


def _literal(value: Value) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, dict):
        return value["column"] if "column" in value else f"DATE '{value['date']}'"
    return f"'{value}'" if isinstance(value, str) else str(value)


_COUNT = Measure("n", "rows")
_USERS = Measure("users", "units")
_QUARTILES = tuple(Measure(f"q{place}", "quantile", "amount", place / 4) for place in (1, 2, 3))
_REGION = Caps(groups=4, rows_per_group=50, rows=200)
_CATEGORY = Caps(groups=20, rows_per_group=5, rows=200)
_PRICING = (
    Measure("sum_qty", "sum", "l_quantity"),
    Measure("sum_base_price", "sum", "l_extendedprice"),
    Measure("sum_disc_price", "sum", "disc_price"),
    Measure("sum_charge", "sum", "charge"),
    Measure("avg_qty", "avg", "l_quantity"),
    Measure("avg_price", "avg", "l_extendedprice"),
    Measure("avg_disc", "avg", "l_discount"),
    Measure("count_order", "rows"),
)


def _dates(column: str, start: str, end: str) -> tuple[tuple[str, str, Value], ...]:
    return ((column, ">=", {"date": start}), (column, "<", {"date": end}))


QUESTIONS = (
    Question("Q02 count by region", "events", ("region",), (_COUNT,), _REGION, quick=True),
    Question("Q03 count by private category", "events", ("category",), (_COUNT,), _CATEGORY, quick=True),
    Question(
        "Q04 sum by region", "events", ("region",), (Measure("s", "sum", "amount"),), _REGION, quick=True
    ),
    Question(
        "Q05 avg by region", "events", ("region",), (Measure("a", "avg", "amount"),), _REGION, quick=True
    ),
    Question("Q06 distinct users by region", "events", ("region",), (_USERS,), _REGION, quick=True),
    Question("Q07 quartiles by region", "events", ("region",), _QUARTILES, _REGION),
    Question("Q12 top 10 categories", "events", ("category",), (_COUNT,), _CATEGORY, top=10),
    Question(
        "Q13 count, sum by category",
        "events",
        ("category",),
        (_COUNT, Measure("s", "sum", "amount")),
        _CATEGORY,
    ),
    Question("F1 count by origin", "flights", ("origin",), (_COUNT,), Caps(3, 100, 300), quick=True),
    Question(
        "F2 count by month, carrier",
        "flights",
        ("flight_month", "carrier"),
        (_COUNT,),
        Caps(12, 25, 300),
        quick=True,
    ),
    Question(
        "F3 avg delay by carrier",
        "flights",
        ("carrier",),
        (Measure("a", "avg", "arr_delay"),),
        Caps(2, 150, 300),
        filters=(("arr_delay", "IS NOT", None),),
        quick=True,
    ),
    Question("F4 aircraft by private dest", "flights", ("dest",), (_USERS,), Caps(20, 15, 300), quick=True),
    Question(
        "F5 median delay by origin",
        "flights",
        ("origin",),
        (Measure("m", "quantile", "arr_delay", 0.5),),
        Caps(3, 100, 300),
        filters=(("arr_delay", "IS NOT", None),),
        quick=True,
    ),
    Question(
        "Q08 TPC-H Q1",
        "lineitem",
        ("l_returnflag", "l_linestatus"),
        _PRICING,
        Caps(4, 50, 200),
        filters=(("l_shipdate", "<=", {"date": "1998-09-02"}),),
    ),
    Question(
        "Q09 TPC-H Q6",
        "lineitem",
        (),
        (Measure("revenue", "sum", "discounted"),),
        Caps(1, 10, 10),
        filters=(
            *_dates("l_shipdate", "1994-01-01", "1995-01-01"),
            ("l_discount", ">=", 0.05),
            ("l_discount", "<=", 0.07),
            ("l_quantity", "<", 24),
        ),
    ),
    Question(
        "Q10 TPC-H Q5",
        "lineitem",
        ("s_nation",),
        (Measure("revenue", "sum", "disc_price"),),
        Caps(1, 10, 10),
        filters=(
            ("s_region", "=", "ASIA"),
            ("c_nation", "=", {"column": "s_nation"}),
            *_dates("o_orderdate", "1994-01-01", "1995-01-01"),
        ),
    ),
)
