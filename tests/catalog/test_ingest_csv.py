"""CSV from strangers: what is taken, as which types, and what is refused with which line named."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import InvalidUpload
from catalog.ingest import Limits, TableReport
from tests.catalog.conftest import Ingest, Refuse


def _rows(report: TableReport) -> list[dict[str, object]]:
    return pa.concat_tables([pq.read_table(part.path) for part in report.parts]).to_pylist()


def _types(report: TableReport) -> dict[str, str]:
    return report.schema.types


BROKEN = {
    "too few cells": (b"a,b\n1,2\n3\n5,6\n", 3, "has 1 cell where the header has 2"),
    "too many cells": (b"a,b\n1,2\n3,4,5\n", 3, "has 3 cells where the header has 2"),
    "text after a quote": (b'a,b\n"x"y,4\n5,6\n', 2, "text after a closing quote"),
    "quote never closed": (b'a,b\n1,2\n"x,4\n5,6\n7,8\n', 3, "never closed"),
    "NUL": (b"a,b\n1,2\n\x00,4\n", 3, "NUL"),
    "NUL in quotes": (b'a,b\n1,2\n"\x00",4\n', 3, "NUL"),
    "blank line": (b"a,b\n1,2\n\n3,4\n", 3, "is blank"),
    "blank line of one column": (b"a\n1\n\n3\n", 3, "is blank"),
    "lone carriage return": (b"a,b\n1,2\r3,4\n", 2, "carriage return"),
    "short row after a quoted line feed": (b'a,b\n"1\n2",2\n3\n', 4, "has 1 cell"),
    "long cell": (b"a,b\n1," + b"x" * 70_000 + b"\n", 2, "more than 65,536 bytes"),
    "long quoted cell": (b'a,b\n1,"' + b"x" * 70_000 + b'"\n', 2, "more than 65,536 characters"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_refuses_the_file_and_is_named_by_its_line(case: str, refuse: Refuse) -> None:
    content, line, reason = BROKEN[case]
    refusal = refuse(content)
    assert refusal.code == "broken_rows"
    assert refusal.row == line
    assert reason in refusal.broken_rows[0].reason
    assert f"line {line}: " in str(refusal)


def test_broken_rows_are_shown_up_to_twenty_and_counted_all(refuse: Refuse) -> None:
    refusal = refuse(b"a,b\n" + b"1,2\n7\n" * 500 + b"\n" * 30)
    assert refusal.broken_count == 500
    assert [row.line for row in refusal.broken_rows] == list(range(3, 43, 2))
    assert "500 rows are broken" in str(refusal)
    assert "480 more" in str(refusal)


def test_many_blank_lines_count_as_soon_as_a_row_follows(refuse: Refuse, ingest: Ingest) -> None:
    assert refuse(b"a,b\n1,2\n" + b"\r\n" * 3_000_000 + b"1,2\n").broken_count == 3_000_000
    assert ingest(b"a,b\n1,2\n" + b"\r\n" * 3_000_000).rows == 1


def test_a_refusal_never_shows_a_cell(refuse: Refuse) -> None:
    refusal = refuse(b'name,b\nSECRET,1,2\n"SECRET"x,2\nSECRET\n')
    assert "SECRET" not in str(refusal) + refusal.hint + repr(refusal.broken_rows)


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (b"a,b\n1,2\n\xff\xfe,4\n", 3),
        (b'a,b\n1,2\n"\xc3",4\n5,6\n', 3),
        (b"caf\xe9,b\n1,2\n", 1),
        ("a,b\n1,2\n".encode("utf-16"), None),
    ],
)
def test_text_that_is_not_utf8_is_refused_as_that(content: bytes, row: int | None, refuse: Refuse) -> None:
    refusal = refuse(content)
    assert (refusal.code, refusal.row) == ("not_utf8", row)
    assert "UTF-8" in str(refusal)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"a,b\n", "empty_file"),
        (b"a,b\n\n\n", "empty_file"),
        (b"\n\n\n1,2\n", "bad_column_name"),
        (b"a,,b\n1,2,3\n", "bad_column_name"),
        (b"a,a\x07b\n1,2\n", "bad_column_name"),
        (b'a,"b""; DROP TABLE x"\n1,2\n', "bad_column_name"),
        (b"a," + b"b" * 129 + b"\n1,2\n", "bad_column_name"),
        (b"a,A\n1,2\n", "duplicate_column"),
        (b'a,"b\n1,2\n', "broken_rows"),
        (b",".join(b"c%d" % i for i in range(10_000)) + b"\n", "too_many_columns"),
        (b"a\x00b,c\n1,2\n", "unsupported_format"),
    ],
)
def test_a_header_that_is_none_is_refused(content: bytes, code: str, refuse: Refuse) -> None:
    assert refuse(content).code == code


@pytest.mark.parametrize(
    "table", ["../../etc/passwd", "a/b", "", "1st", "t.parquet", "x" * 64, "a\0b", "ta ble"]
)
def test_a_table_name_that_could_be_a_path_is_refused(table: str, ingest: Ingest) -> None:
    with pytest.raises(InvalidUpload) as caught:
        ingest(b"a\n1\n", table=table)
    assert caught.value.code == "bad_table_name"


def test_a_column_named_as_a_path_or_a_formula_is_only_a_name(ingest: Ingest) -> None:
    report = ingest(b"../../x,=1+1\n1,2\n")
    assert list(_types(report)) == ["../../x", "=1+1"]
    assert _rows(report) == [{"../../x": 1, "=1+1": 2}]


def test_formula_cells_stay_text(ingest: Ingest) -> None:
    report = ingest(b'a,b\n"=HYPERLINK(""http://x"")",@SUM(A1)\n+1,-2+3\n')
    assert _types(report) == {"a": "text", "b": "text"}
    assert _rows(report)[0] == {"a": '=HYPERLINK("http://x")', "b": "@SUM(A1)"}


TYPES = {
    "integer": (["1", "-20", "0", "999999999999999999"], "integer"),
    "integer with NULLs": (["1", "NA", "", "3"], "integer"),
    "leading zeros are a code": (["00501", "10001"], "text"),
    "plus sign is a phone number": (["+4930", "+4940"], "text"),
    "too long for a number": (["12345678901234567890", "1"], "text"),
    "float": (["1", "2.5", "-1e-3", ".5"], "float"),
    "boolean": (["true", "False", "NA"], "boolean"),
    "zero and one are numbers": (["0", "1"], "integer"),
    "date": (["2013-01-01", "1956-12-31"], "date"),
    "no such date": (["2013-01-01", "2013-02-30"], "text"),
    "date then time": (["2013-01-01", "2013-01-01 10:30:00"], "timestamp"),
    "timestamp": (["2013-01-01T10:00", "2013-01-01 10:00:00.123456"], "timestamp"),
    "timestamp with zone": (["2013-01-01T10:00:00Z", "2013-01-01 10:00:00+09:00"], "timestamp"),
    "zone only here and there": (["2013-01-01T10:00:00Z", "2013-01-01T10:00:00"], "text"),
    "number then date": (["1", "2013-01-01"], "text"),
    "only NULL": (["NA", "", "NA"], "text"),
    "text": (["a", "1"], "text"),
}


def test_a_columns_type_is_what_fits_all_of_its_values(ingest: Ingest) -> None:
    longest = max(len(values) for values, _ in TYPES.values())
    columns = [values + ["NA"] * (longest - len(values)) for values, _ in TYPES.values()]
    lines = [",".join(TYPES), *(",".join(row) for row in zip(*columns, strict=True))]
    report = ingest("\n".join(lines).encode())
    assert _types(report) == {name: kind for name, (_, kind) in TYPES.items()}


def test_the_last_of_many_rows_still_decides_the_type(ingest: Ingest) -> None:
    report = ingest(b"a,b\n" + b"1,2013-01-01\n" * 1_500_000 + b"x,2013-01-01\n")
    assert _types(report) == {"a": "text", "b": "date"}
    assert report.rows == 1_500_001


def test_zones_become_utc(ingest: Ingest) -> None:
    report = ingest(b"t\n2013-01-01T10:00:00+09:00\n")
    assert str(_rows(report)[0]["t"]) == "2013-01-01 01:00:00"


def test_empty_is_null_and_so_is_na_unless_quoted(ingest: Ingest) -> None:
    report = ingest(b'a,b\nNA,1\n"NA",2\n,3\n"",4\n')
    assert [row["a"] for row in _rows(report)] == [None, "NA", None, None]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y\r\n",
        b"a,b\n1,x\r\n2,y",
        b'"a","b"\n"1","x"\n"2","y"\n\n\n',
        b"a;b\n1;x\n2;y\n",
        b"a\tb\n1\tx\n2\ty\n",
    ],
)
def test_spellings_of_one_table_give_the_same_bytes(content: bytes, ingest: Ingest) -> None:
    plain = ingest(b"a,b\n1,x\n2,y\n")
    assert [part.sha256 for part in ingest(content).parts] == [part.sha256 for part in plain.parts]


def test_line_feeds_delimiters_and_quotes_survive_in_quotes(ingest: Ingest) -> None:
    report = ingest(b'a,b\n"1\n2, ""3""",x\r\n"\r",y\n')
    assert [row["a"] for row in _rows(report)] == ['1\n2, "3"', "\r"]


def test_a_single_column_may_hold_quoted_empty_cells(ingest: Ingest) -> None:
    assert _rows(ingest(b'a\nx\n""\ny\n')) == [{"a": "x"}, {"a": None}, {"a": "y"}]


def test_gzip_and_zstd_are_unpacked(ingest: Ingest) -> None:
    text = b"a,b\n" + b"1,x\n" * 100_000
    plain = ingest(text).parts[0].sha256
    assert ingest(gzip.compress(text), name="a.csv").parts[0].sha256 == plain
    assert ingest(pa.compress(text, codec="zstd", asbytes=True)).parts[0].sha256 == plain


def test_a_packed_file_that_ends_early_is_truncated(refuse: Refuse) -> None:
    text = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(200_000))
    packed = gzip.compress(text)
    assert refuse(packed[: len(packed) // 2]).code == "truncated_file"
    assert refuse(packed[:-4]).code == "truncated_file"
    for packed in (pa.compress(text, codec="zstd", asbytes=True), gzip.compress(text)):
        assert refuse(packed[:-1]).code == "truncated_file"


def test_a_gzip_bomb_is_stopped(refuse: Refuse) -> None:
    bomb = gzip.compress(b"a,b\n" + b"1,2\n" * 20_000_000, compresslevel=9)
    assert len(bomb) < 500_000
    assert refuse(bomb).code == "expands_too_much"


def test_a_line_without_end_is_stopped(refuse: Refuse) -> None:
    refusal = refuse(b"a,b\n1," + b"x" * 6_000_000)
    assert (refusal.code, refusal.row) == ("cell_too_large", 2)


def test_the_number_of_rows_is_limited(refuse: Refuse) -> None:
    assert refuse(b"a\n" + b"1\n" * 11, limits=Limits(rows=10)).code == "too_many_rows"


def test_rows_without_unit_are_dropped_and_counted(ingest: Ingest) -> None:
    report = ingest(b'who,x\nA,1\nNA,2\n,3\n"",4\nB,5\nB,6\n', unit="WHO")
    assert (report.rows, report.rows_without_unit) == (3, 3)
    assert [row["x"] for row in _rows(report)] == [1, 5, 6]
    assert report.profile["unit"]["column"] == "who"
    assert report.profile["unit"]["units"] == 2
    assert report.profile["unit"]["rows_per_unit"]["max"] == 2


def test_a_unit_that_nobody_has_or_no_column_carries_is_refused(refuse: Refuse) -> None:
    assert refuse(b"who,x\nNA,1\n,2\n", unit="who").code == "unit_empty"
    refusal = refuse(b"tailnum,x\n1,2\n", unit="tailnmu")
    assert (refusal.code, refusal.column) == ("unit_missing", "tailnmu")
    assert "`tailnum`" in str(refusal)


KEYED = b"id,name,who\n1,a,x\n2,b,x\n3,b,\n"


@pytest.mark.parametrize(
    ("content", "column"),
    [(KEYED, "name"), (KEYED, "who"), (b"id,name\n1,a\n1,b\n", "id"), (b"id,name\n1,a\n,b\n", "id")],
)
def test_a_key_that_is_missing_or_repeated_is_refused_by_its_column(
    content: bytes, column: str, refuse: Refuse
) -> None:
    told = refuse(content, keys=(column.upper(),))
    assert (told.code, told.column) == ("key_not_unique", column)
    assert f"`{column}` of `t`" in str(told)


def test_keys_are_keys_among_the_rows_that_are_kept(ingest: Ingest) -> None:
    assert ingest(KEYED, keys=("id", "nowhere")).rows == 3
    assert ingest(b"id,who\n1,x\n2,y\n1,\n", unit="who", keys=("id",)).rows == 2


def test_the_profile_counts_what_the_provider_wants_to_know(ingest: Ingest) -> None:
    report = ingest(b"a,b\n" + b"1,x\n" * 3 + b"2,y\nNA,NA\n")
    a, b = report.profile["columns"]
    assert (a["nulls"], a["distinct"], a["min"], a["max"]) == (1, 2, "1", "2")
    assert b["common"] == [{"value": "x", "rows": 3}, {"value": "y", "rows": 1}]
    assert report.profile["rows"] == 5
    assert report.profile["unit"] is None
