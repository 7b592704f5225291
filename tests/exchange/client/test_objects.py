"""What the SDK hands out: values in Python's types, text that cannot become markup, mock rows."""

from __future__ import annotations

import copy
import datetime
import io
import pickle
from decimal import Decimal
from typing import Any

import httpx
import pytest

from exchange import VerificationFailed
from exchange.client import Answer, Listing, Listings, Price, Receipt
from exchange.client.listings import Table
from exchange.client.mock import mock_tables
from exchange.client.progress import meter
from tests.exchange.client.desk import Desk

EVIL = '<script>alert("x")</script>'


def _answer(**changes: Any) -> Answer:
    document = {
        "query": "qry_1",
        "repeated": False,
        "charged": {"amount": "0.10", "currency": "USD", "amount_minor": 10},
        "rho_nano": 10_000_000,
        "columns": [
            {"name": "day", "type": "date32[day]", "sigma": None, "half_width": None},
            {"name": "at", "type": "timestamp[us]", "sigma": None, "half_width": None},
            {"name": "total", "type": "decimal128(38, 2)", "sigma": 2.0, "half_width": 4},
            {"name": "n", "type": "int64", "sigma": 2.0, "half_width": 4},
        ],
        "rows": [["2026-01-31", "2026-01-31T10:00:00", "12.50", 7], [None, None, None, None]],
        "intervals": {"total": [["12.46", "12.54"], None], "n": [[3, 11], None]},
        "row_count": 2,
        "result_sha256": "0" * 64,
        "receipt": {"summary": {}},
        **changes,
    }
    return Answer.from_document(document, Desk(httpx.Response(200, content=b"other bytes")).connection())


def test_values_come_as_python_knows_them() -> None:
    answer = _answer()
    first = (
        datetime.date(2026, 1, 31),
        datetime.datetime.fromisoformat("2026-01-31T10:00"),
        Decimal("12.50"),
        7,
    )
    assert answer.rows == [first, (None, None, None, None)]
    assert answer.intervals == {"total": [(Decimal("12.46"), Decimal("12.54")), None], "n": [(3, 11), None]}
    assert list(answer) == answer.rows
    assert len(answer) == 2
    assert answer.to_dicts()[0] == dict(zip(("day", "at", "total", "n"), first, strict=True))
    assert (answer.rho, answer.charged) == (Decimal("0.01"), Decimal("0.10"))


def test_two_columns_of_one_name_keep_their_values() -> None:
    columns = [{"name": "class", "type": "int64"}, {"name": "class", "type": "int64"}]
    answer = _answer(columns=columns, rows=[[1, 2]], intervals={})
    assert answer.rows == [(1, 2)]
    with pytest.raises(ValueError, match="same name"):
        answer.to_dicts()


def test_an_empty_answer_is_an_answer() -> None:
    answer = _answer(rows=[], intervals={"n": []})
    assert answer.rows == []
    assert answer.to_dicts() == []
    assert "0 rows" in answer._repr_html_()


def test_bytes_that_are_not_the_receipts_are_refused() -> None:
    with pytest.raises(VerificationFailed, match="another hash"):
        _answer().to_arrow()


def test_price_is_a_decimal_with_a_currency() -> None:
    price = Price("0.25", "USD", 25)
    assert price < Decimal("2.00")
    assert price == Decimal("0.25")
    assert price + 1 == Decimal("1.25")
    assert (str(price), price.text, f"{price:.1f}", repr(price)) == (
        "0.25",
        "0.25 USD",
        "0.2",
        "Price('0.25 USD')",
    )
    for twin in (copy.copy(price), copy.deepcopy(price), pickle.loads(pickle.dumps(price))):
        assert (twin, twin.currency, twin.amount_minor) == (price, "USD", 25)


def test_strangers_text_cannot_become_markup() -> None:
    listing = Listing("ds_1", "a/b", EVIL, EVIL, EVIL, (), "ver_1", 1, "", (), (EVIL,))
    columns = [{"name": EVIL, "type": "string"}]
    shown = [
        listing._repr_html_(),
        Listings([listing])._repr_html_(),
        _answer(columns=columns, rows=[[EVIL]], intervals={})._repr_html_(),
        Receipt({"summary": {"dataset": EVIL}})._repr_html_(),
    ]
    assert all("<script" not in text for text in shown)
    assert all("&lt;script&gt;" in text for text in shown)


COLUMNS = [
    {"name": "patient", "type": "text"},
    {"name": "site", "type": "text", "keys": ["north", "south"]},
    {"name": "town", "type": "text", "keys": "private"},
    {"name": "minutes", "type": "integer", "bounds": [-5, 120]},
    {"name": "cost", "type": "decimal", "bounds": [0, 10], "decimals": 2},
    {"name": "share", "type": "float", "bounds": [0.0, 1.0], "decimals": 3},
    {"name": "day", "type": "date", "bounds": ["2026-01-01", "2026-01-31"]},
    {"name": "at", "type": "timestamp", "bounds": ["2026-01-01T00:00:00", "2026-01-02T00:00:00"]},
    {"name": "open", "type": "boolean"},
    {"name": "free", "type": "timestamp"},
]
TABLE = {"name": "visits", "public": False, "unit": "patient", "columns": COLUMNS}


def test_mock_rows_stay_in_their_public_domains() -> None:
    rows = mock_tables([Table.from_document(TABLE)], 500, seed=1)["visits"]
    assert len(rows) == 500
    assert {row["site"] for row in rows} == {"north", "south"}
    assert {-5 <= row["minutes"] <= 120 and type(row["minutes"]) is int for row in rows} == {True}
    assert {0 <= row["cost"] <= 10 and type(row["cost"]) is Decimal for row in rows} == {True}
    assert {0 <= row["share"] <= 1 and type(row["share"]) is float for row in rows} == {True}
    assert {row["day"].month for row in rows} == {1}
    assert {type(row["at"]) for row in rows} == {type(row["free"]) for row in rows} == {datetime.datetime}
    assert {row["open"] for row in rows} == {True, False}
    assert 1 < len({row["patient"] for row in rows}) <= 125


def test_mock_rows_repeat_with_their_seed() -> None:
    tables = [Table.from_document(TABLE)]
    assert mock_tables(tables, 20, seed=4) == mock_tables(tables, 20, seed=4)
    assert mock_tables(tables, 20, seed=4) != mock_tables(tables, 20, seed=5)
    assert mock_tables(tables, 0, seed=4) == {"visits": []}
    with pytest.raises(ValueError, match="negative"):
        mock_tables(tables, -1, seed=None)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_only() -> None:
    for stream, shown in ((_Terminal(), True), (io.StringIO(), False)):
        with meter("auto", "visits.csv", 2048, stream=stream) as bar:
            bar.update(1024)
            bar.update(2048)
        assert ("100% 2.0 KiB" in stream.getvalue()) is shown
        assert stream.getvalue().endswith("\n") is shown


def test_progress_can_be_told_to_a_function() -> None:
    told: list[tuple[str, int, int]] = []
    with meter(lambda *step: told.append(step), "a", 4) as bar:
        bar.update(4)
    assert told == [("a", 4, 4)]
