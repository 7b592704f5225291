"""Answers: rows in Python's types, Arrow bytes held against the receipt's hash, intervals, the receipt."""

from __future__ import annotations

import datetime
import hashlib
import importlib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from exchange.client import errors, html
from exchange.client.connection import Connection, read
from exchange.client.price import NANO, Price
from exchange.client.receipts import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas
    import polars
    import pyarrow

    Interval = tuple[Any, Any] | None

ARROW = "application/vnd.apache.arrow.stream"
_SHOWN_ROWS = 50


@dataclass(frozen=True)
class AnswerColumn:
    """A released column: Arrow ``type``, noise scale and 95% half-width (None for keys and derived ones).

    ``expected_bias`` is the share that bounding is expected to have left out, ``note`` what the figures hold
    for; both as the quote has them.
    """

    name: str
    type: str
    sigma: float | None = None
    half_width: float | None = None
    expected_bias: float | None = None
    note: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> AnswerColumn:
        """Read a column of an answer."""
        told = (document.get(name) for name in ("sigma", "half_width", "expected_bias", "note"))
        return cls(document["name"], document["type"], *told)


@dataclass(frozen=True)
class Answer:
    """A differentially private answer.

    ``rows`` is a list of tuples in the order of ``columns`` (names may repeat, so rows are not dictionaries;
    :meth:`to_dicts` makes them). Dates, times and decimals come as Python's own types. ``intervals`` gives
    for each noisy column one ``(low, high)`` per row, 95%, or None where there is none. ``repeated`` says
    that this organisation had the answer already: then ``charged`` is zero and no privacy budget was spent.
    ``refines`` is the query whose answer this one makes more accurate, at the price of the difference.
    ``releases`` tells for each noisy table behind the answer how one unit's contribution was bounded.
    """

    id: str
    columns: tuple[AnswerColumn, ...]
    rows: list[tuple[Any, ...]] = field(repr=False)
    intervals: dict[str, list[Interval]] = field(repr=False)
    repeated: bool
    charged: Price
    rho_nano: int
    result_sha256: str
    receipt: Receipt = field(repr=False)
    _connection: Connection = field(repr=False, compare=False)
    refines: str | None = None
    releases: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Answer:
        """Read an answer with its rows."""
        columns = tuple(AnswerColumn.from_document(column) for column in document["columns"])
        return cls(
            id=document["query"],
            columns=columns,
            rows=_decoded_rows(columns, document["rows"]),
            intervals=_decoded_intervals(columns, document.get("intervals") or {}),
            repeated=bool(document["repeated"]),
            charged=Price.from_document(document["charged"]),
            rho_nano=int(document["rho_nano"]),
            result_sha256=document["result_sha256"],
            receipt=Receipt(document["receipt"], document["query"], connection),
            _connection=connection,
            refines=document.get("refines"),
            releases=tuple(document.get("releases") or ()),
        )

    @property
    def rho(self) -> Decimal:
        """What this call cost the privacy budget: zero for a repeated answer."""
        return Decimal(self.rho_nano) / NANO

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns' names in order."""
        return tuple(column.name for column in self.columns)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Rows as dictionaries. Raises ``ValueError`` where two columns have the same name."""
        names = self.column_names
        if len(set(names)) != len(names):
            raise ValueError(
                f"two columns have the same name: {', '.join(names)}; use rows, or name them in the SQL"
            )
        return [dict(zip(names, row, strict=True)) for row in self.rows]

    def arrow_bytes(self) -> bytes:
        """The result as an Arrow IPC stream, fetched and held against the receipt's hash.

        Raises :class:`~exchange.client.errors.VerificationFailed` where the bytes are not the receipt's.
        """
        reply = self._connection.send("GET", f"/v1/queries/{self.id}/result", headers={"Accept": ARROW})
        found = hashlib.sha256(reply.content).hexdigest()
        if found != self.result_sha256:
            raise errors.VerificationFailed(
                f"the result's bytes have another hash ({found[:16]}...) than the answer names "
                f"({self.result_sha256[:16]}...)"
            )
        return reply.content

    def to_arrow(self) -> pyarrow.Table:
        """The result as an Arrow table (needs pyarrow)."""
        try:
            from pyarrow import ipc
        except ImportError:
            raise errors.missing("pyarrow", "arrow", "to_arrow()") from None
        with ipc.open_stream(self.arrow_bytes()) as reader:
            return reader.read_all()

    def to_pandas(self) -> pandas.DataFrame:
        """The result as a pandas frame (needs pyarrow and pandas)."""
        if not _installed("pandas"):
            raise errors.missing("pandas", "pandas", "to_pandas()")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """The result as a polars frame (needs pyarrow and polars)."""
        try:
            import polars
        except ImportError:
            raise errors.missing("polars", "arrow", "to_polars()") from None
        return polars.from_arrow(self.to_arrow())

    def _repr_html_(self) -> str:
        shown = [
            [_with_interval(self, i, j) for j in range(len(self.columns))]
            for i in range(min(len(self), _SHOWN_ROWS))
        ]
        more = f", first {_SHOWN_ROWS} rows" if len(self) > _SHOWN_ROWS else ""
        paid = "repeated, free" if self.repeated else f"{self.charged.text}, rho {self.rho}"
        return html.table(
            self.column_names, shown, caption=f"{len(self)} rows ({paid}){more}; 95% intervals in brackets"
        )


def fetch(connection: Connection, query_id: str) -> Answer:
    """A past query's answer. Raises :class:`~exchange.client.errors.QueryFailed` where there is none."""
    job = connection.get(f"/v1/queries/{query_id}")
    if read(_state, job) != "succeeded":
        raise errors.QueryFailed(f"the query {query_id} has no answer: it is {job['state']}")
    result = connection.get(f"/v1/queries/{query_id}/result")
    receipt = connection.get(f"/v1/queries/{query_id}/receipt")
    return read(_again, job, result, receipt, connection)


def _state(job: Mapping[str, Any]) -> str:
    return str(job["state"])


def _again(
    job: Mapping[str, Any], result: Mapping[str, Any], receipt: Mapping[str, Any], connection: Connection
) -> Answer:
    """An answer that was paid for before: this call charged nothing."""
    free = {"amount": "0", "currency": job["charge"]["currency"], "amount_minor": 0}
    known = {name: job[name] for name in ("columns", "intervals", "releases") if name in job}
    now = {"receipt": receipt, "repeated": True, "charged": free, "rho_nano": 0}
    return Answer.from_document({**job, **result, **known, **now}, connection)


def _decoded_rows(columns: tuple[AnswerColumn, ...], rows: list[list[Any]]) -> list[tuple[Any, ...]]:
    decoders = [_decoder(column.type) for column in columns]
    if not any(decoders):
        return [tuple(row) for row in rows]
    return [
        tuple(
            value if decode is None or value is None else decode(value)
            for decode, value in zip(decoders, row, strict=True)
        )
        for row in rows
    ]


def _decoded_intervals(
    columns: tuple[AnswerColumn, ...], given: Mapping[str, Any]
) -> dict[str, list[Interval]]:
    kinds = {column.name: _decoder(column.type) for column in columns}
    return {name: [_interval(pair, kinds.get(name)) for pair in pairs] for name, pairs in given.items()}


def _interval(pair: Any, decode: Callable[[Any], Any] | None) -> Interval:
    if pair is None:
        return None
    low, high = (value if decode is None or value is None else decode(value) for value in pair)
    return low, high


def _decoder(kind: str) -> Callable[[Any], Any] | None:
    """How a value of an Arrow type travels in JSON: decimals, dates and times as text, also in lists and
    maps, and as a key of a map the bin without an upper end."""
    if kind.startswith("list<"):
        return _each(_decoder(kind[5:-1].partition(": ")[2]))
    if kind.startswith("map<"):
        key, _, value = kind[4:-1].partition(", ")
        return _each_pair(float if key == "double" else _decoder(key), _decoder(value))
    if kind.startswith("decimal"):
        return lambda value: Decimal(str(value))
    if kind.startswith("date"):
        return datetime.date.fromisoformat
    if kind.startswith("timestamp"):
        return datetime.datetime.fromisoformat
    if kind.startswith("time"):
        return datetime.time.fromisoformat
    return None


def _each(decode: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    return None if decode is None else lambda values: [None if one is None else decode(one) for one in values]


def _each_pair(
    key: Callable[[Any], Any] | None, value: Callable[[Any], Any] | None
) -> Callable[[Any], Any] | None:
    if key is None and value is None:
        return None
    decoders = (key or _same, value or _same)
    return lambda pairs: [[decode(one) for decode, one in zip(decoders, pair, strict=True)] for pair in pairs]


def _same(value: Any) -> Any:
    return value


def _with_interval(answer: Answer, row: int, column: int) -> str:
    value = answer.rows[row][column]
    intervals = answer.intervals.get(answer.columns[column].name)
    interval = intervals[row] if intervals else None
    return f"{value} [{interval[0]}, {interval[1]}]" if interval else str(value)


def _installed(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True
