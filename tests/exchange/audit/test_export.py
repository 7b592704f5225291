"""Every format of an export: a record for each entry, read back as it was, whatever strangers put into it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest

from exchange.audit import export, merkle, ocsf
from exchange.audit import leaf as leaves
from exchange.audit.export import COLUMNS, FORMATS, Exported, Head
from tests.exchange.audit import samples

HEAD = Head(
    origin=samples.ORIGIN,
    log_key=samples.KEYS[0],
    checkpoint=None,
    exported_at="2026-11-23T10:00:00+00:00",
    size=9,
    entries=9,
    filters={"kind": "query.settled"},
    exchange="http://exchange.test",
)
#: What log injection is tried with, and what else breaks lines, cells, terminals and parsers.
CORPUS = [
    "\r\n2026-01-01 forged entry",
    "a\nb\r\nc\rd",
    "\x1b[2J\x1b[31mred\x1b[0m",
    "=cmd|'/C calc'!A0",
    '=HYPERLINK("http://evil","x")',
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "  =1+1",
    '"=1+1',
    "'=1+1",
    "'quoted",
    "\uff1d1+1",
    "\u22121",
    ";=1+1",
    '",=1+1,"',
    'a,b"c"d',
    "\u202etxt.exe\u2066",
    "zero\u200bwidth\ufeff",
    "nul\x00byte",
    "line\u2028para\u2029next\u0085",
    "\x7f\x9b31m",
    "CEF:0|a|b|c|d|e|9|act=forged cs1=x\\",
    "end\\",
    "\\n is not a line",
    "|pipe=equals\\both",
    '{"json":"inside"}',
    "\U000e0041tag \U0001f600",
    "é" * 512,
    "\\u0041",
]


def _exported(text: str, number: int = 0) -> Exported:
    """An entry with the text in every member that takes any."""
    groups: dict[str, Any] = {
        group: {
            member: text if kind == leaves.TEXT else f"{number:064x}" if kind == leaves.DIGEST else None
            for member, kind in members.items()
        }
        for group, members in leaves.GROUPS.items()
    }
    groups["privacy"] |= {"rho_nano": str(2**63 - 1), "spent_after": "-5"}
    groups["result"]["bytes"] = 2**53 - 1
    document = {
        "v": 1,
        "seq": number,
        "id": text,
        "time": "2026-11-22T09:30:00.123456+00:00",
        "kind": "query.settled",
        "outcome": "done",
        "code": None,
        "org_seq": 0,
        "prev_org_leaf": None,
        "pii_commitment": None,
        **groups,
    }
    leaf = leaves.encode(document)
    return Exported(leaf, leaves.decode(leaf), merkle.leaf_hash(leaf).hex(), text, [bytes(32)])


def _entries() -> list[Exported]:
    hostile = [_exported(text, number) for number, text in enumerate(CORPUS)]
    usual = [
        Exported(record.leaf, record.document, record.leaf_hash.hex(), None) for record in samples.records(40)
    ]
    return hostile + usual


def _written(name: str, entries: list[Exported]) -> bytes:
    return b"".join(FORMATS[name].write(HEAD, iter(entries)))


def _flat(entry: Exported) -> dict[str, Any]:
    """The entry as a row, by the leaf's own words."""
    row: dict[str, Any] = {}
    for name, path, _ in COLUMNS:
        value: Any = entry.document
        for part in path:
            value = None if value is None else value[part]
        row[name] = value
    return {**row, "leaf_hash": entry.leaf_hash, "org_name": entry.org_name}


def test_every_member_of_a_leaf_has_a_column() -> None:
    single = set(leaves.decode(samples.records(1)[0].leaf)) - set(leaves.GROUPS) - {"v"}
    grouped = {(group, member) for group, members in leaves.GROUPS.items() for member in members}
    assert {path for _, path, _ in COLUMNS} == {(name,) for name in single} | grouped
    assert len({name for name, _, _ in COLUMNS}) == len(COLUMNS)


def _unescaped(text: str) -> str:
    """The reading that the documentation gives, written apart from what writes it."""
    text = text[1:] if text.startswith("'") else text
    read = re.sub(
        r"\\(u[0-9a-f]{4}|.)",
        lambda found: (
            {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}.get(found[1]) or chr(int(found[1][1:], 16))
        ),
        text,
    )
    return read.encode("utf-16", "surrogatepass").decode("utf-16")


def test_csv_is_a_line_for_each_entry_and_reads_back() -> None:
    entries = _entries()
    data = _written("csv", entries).decode("utf-8")
    assert data.count("\n") == data.count("\r\n") == len(entries) + 1
    assert len(data.splitlines()) == len(entries) + 1, "nothing else that Python takes for the end of a line"
    rows = list(csv.DictReader(io.StringIO(data, newline="")))
    assert len(rows) == len(entries)
    for row, entry in zip(rows, entries, strict=True):
        for name, value in _flat(entry).items():
            cell = row[name]
            assert _unescaped(cell) == ("" if value is None else str(value)), name
            assert cell.isprintable()
            number = name in {name for name, _, kind in COLUMNS if kind in (leaves.AMOUNT, leaves.COUNT)}
            assert number or re.match('[\\s"]*[=+\\-@\uff1d\uff0b\uff0d\uff20\u2212]', cell) is None, cell


def test_numbers_of_csv_are_numbers() -> None:
    line = _written("csv", [_exported("x")]).decode().splitlines()[1]
    assert f",{2**63 - 1}," in line
    assert ",-5," in line
    assert line.startswith('0,"x","2026')


def test_json_lines_hold_leaf_and_proof() -> None:
    entries = _entries()
    lines = _written("jsonl", entries).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(entries) + 1
    assert json.loads(lines[0]) == {"format": "exchange-evidence/v1", **vars(HEAD)}
    for line, entry in zip(lines[1:], entries, strict=True):
        assert line.isascii()
        told = json.loads(line)
        assert told["entry"] == {
            **entry.document,
            "org_name": entry.org_name,
            "leaf_hash": entry.leaf_hash,
        }
        if entry.proof is None:
            assert told["proof"] is None
        else:
            assert told["proof"]["leaf"].encode() == entry.leaf
            assert told["proof"]["proof"] == [bytes(32).hex()]


def test_parquet_is_typed_and_reads_back(tmp_path: Path) -> None:
    entries = _entries()
    path = tmp_path / "log.parquet"
    path.write_bytes(_written("parquet", entries))
    table = pq.read_table(path)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert {kinds[name] for name, _, kind in COLUMNS if kind in (leaves.AMOUNT, leaves.COUNT)} == {"int64"}
    assert kinds["time"] == "timestamp[us, tz=UTC]"
    assert table.schema.metadata == {b"origin": samples.ORIGIN.encode(), b"size": b"9"}
    for row, entry in zip(table.to_pylist(), entries, strict=True):
        flat = _flat(entry)
        for name, _, kind in COLUMNS:
            if kind == leaves.AMOUNT and flat[name] is not None:
                flat[name] = int(flat[name])
        flat["time"] = datetime.fromisoformat(flat["time"])
        assert row.pop("leaf") == entry.leaf
        assert row == flat


def test_parquet_gives_what_it_has_written_row_group_by_row_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(export, "ROWS_OF_GROUP", 10)
    taken = 0

    def counted() -> Iterator[Exported]:
        nonlocal taken
        for entry in _entries()[:35]:
            taken += 1
            yield entry

    chunks = FORMATS["parquet"].write(HEAD, counted())
    first = next(chunks)
    assert taken <= 11
    path = tmp_path / "log.parquet"
    path.write_bytes(first + b"".join(chunks))
    assert pq.ParquetFile(path).metadata.num_row_groups == 4
    assert pq.read_table(path).num_rows == 35


def test_nothing_to_export_is_a_file_of_its_format(tmp_path: Path) -> None:
    for name in FORMATS:
        data = _written(name, [])
        if name == "parquet":
            assert pq.read_table(io.BytesIO(data)).num_rows == 0
        else:
            assert data.count(b"\n") == (1 if name in ("csv", "jsonl") else 0), name


TEXT, ID = {"type": "string", "minLength": 1}, {"type": "integer"}
#: What OCSF 1.6.0 asks of class 6005 without profiles: https://schema.ocsf.io/1.6.0/classes/datastore_activity
_ENTITY = {"anyOf": [{"required": ["name"]}, {"required": ["uid"]}]}
OCSF_6005: dict[str, Any] = {
    "type": "object",
    "required": [
        "activity_id",
        "category_uid",
        "class_uid",
        "type_uid",
        "time",
        "severity_id",
        "metadata",
        "actor",
        "src_endpoint",
        "database",
    ],
    "additionalProperties": False,
    "properties": {
        "activity_id": {"enum": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99]},
        "activity_name": TEXT,
        "category_uid": {"const": 6},
        "category_name": {"const": "Application Activity"},
        "class_uid": {"const": 6005},
        "class_name": {"const": "Datastore Activity"},
        "type_uid": {"enum": [600500 + activity for activity in (*range(11), 99)]},
        "time": {"type": "integer", "minimum": 10**12},
        "timezone_offset": ID,
        "severity_id": {"enum": [0, 1, 2, 3, 4, 5, 6, 99]},
        "status_id": {"enum": [0, 1, 2, 99]},
        "status": TEXT,
        "status_code": TEXT,
        "message": TEXT,
        "type_id": {"enum": [0, 1, 2, 3, 99]},
        "raw_data": TEXT,
        "unmapped": {"type": "object"},
        "actor": {
            "type": "object",
            "required": ["user"],
            "additionalProperties": False,
            "properties": {
                "user": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["uid"],
                    "properties": {
                        "uid": TEXT,
                        "type": TEXT,
                        "type_id": {"enum": [0, 1, 2, 3, 4, 99]},
                        "org": {**_ENTITY, "properties": {"uid": TEXT, "name": TEXT}},
                    },
                }
            },
        },
        "src_endpoint": {"type": "object", "required": ["name"], "properties": {"name": TEXT}},
        "database": {
            **_ENTITY,
            "required": ["type_id"],
            "properties": {"type_id": {"enum": [0, 1, 2, 3, 4, 5, 6, 99]}, "name": TEXT, "uid": TEXT},
        },
        "query_info": {
            **_ENTITY,
            "required": ["query_string"],
            "properties": {"query_string": TEXT, "uid": TEXT, "bytes": ID},
        },
        "metadata": {
            "type": "object",
            "required": ["version", "product"],
            "properties": {
                "version": {"const": "1.6.0"},
                "product": {**_ENTITY, "properties": {"name": TEXT, "vendor_name": TEXT, "version": TEXT}},
                "sequence": ID,
                **dict.fromkeys(("uid", "event_code", "log_name", "original_time", "correlation_uid"), TEXT),
            },
            "additionalProperties": False,
        },
    },
}


def test_ocsf_events_keep_to_the_schema_and_lose_nothing() -> None:
    entries = _entries()
    lines = _written("ocsf", entries).decode("ascii").splitlines()
    assert len(lines) == len(entries)
    check = jsonschema.Draft202012Validator(OCSF_6005)
    for line, entry in zip(lines, entries, strict=True):
        event = json.loads(line)
        assert [error.message for error in check.iter_errors(event)] == []
        assert event["type_uid"] == 600500 + event["activity_id"]
        assert bytes([leaves.VERSION]) + event["raw_data"].encode() == entry.leaf
        assert (
            datetime.fromtimestamp(event["time"] / 1000, UTC).isoformat()[:23] == entry.document["time"][:23]
        )
        assert event["metadata"]["uid"] == entry.document["id"]
        assert event["status_id"] == (1 if entry.document["outcome"] == "done" else 2)


@pytest.mark.parametrize("member", ["actor", "src_endpoint", "metadata", "time", "type_uid", "database"])
def test_the_schema_misses_what_is_required(member: str) -> None:
    event = json.loads(_written("ocsf", _entries()[:1]))
    del event[member]
    assert not jsonschema.Draft202012Validator(OCSF_6005).is_valid(event)


def test_every_kind_of_entry_is_mapped_on_purpose() -> None:
    """A kind that is new in the code is given an activity of OCSF here, or is Other by its own line there."""
    root = Path(export.__file__).parent.parent
    found: set[str] = set()
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(
            re.findall(r"\b(?:kind|refused|BOOKED)(?:: ClassVar\[str\])? ?= ?\"([a-z_]+\.[a-z_]+)\"", text)
        )
    assert len(found) > 100
    other = {kind for kind in found if ocsf.activity_of(kind) == ocsf.OTHER}
    assert other <= {"credential.reused"}, "exchange/audit/ocsf.py says what these are"
    assert ocsf.activity_of("query.settled") == ocsf.QUERY
    assert ocsf.activity_of("answer.fetched") == ocsf.READ
    assert ocsf.activity_of("none.such") == ocsf.OTHER


def _cef(line: str) -> tuple[list[str], dict[str, str]]:
    """A reader of CEF from its description: seven parts between bars, then keys before bare equals signs."""
    parts, current, position = [], "", 0
    while len(parts) < 7:
        character = line[position]
        if character == "\\":
            current, position = current + line[position : position + 2], position + 2
        elif character == "|":
            parts.append(current)
            current, position = "", position + 1
        else:
            current, position = current + character, position + 1
    extension, fields = line[position:], {}
    marks = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)(?<!\\)=", extension))
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        value = extension[mark.end() : following.start() if following else len(extension)]
        fields[mark[1]] = _unescaped("'" + value.replace("\\=", "="))
    return [part.replace("\\|", "|").replace("\\\\", "\\") for part in parts], fields


def test_cef_is_a_line_for_each_entry_and_reads_back() -> None:
    entries = _entries()
    lines = _written("cef", entries).decode().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(entries)
    assert len("\n".join(lines).splitlines()) == len(entries)
    for line, entry in zip(lines, entries, strict=True):
        assert line.isprintable()
        header, fields = _cef(line)
        document = entry.document
        assert header[:3] == ["CEF:0", "private-data-exchange", "exchange"]
        assert (
            header[4:] == [document["kind"], f"{document['kind']} {document['outcome']}", "2"]
            or header[6] == "5"
        )
        assert fields["externalId"] == document["id"]
        assert fields["cn1"] == str(document["seq"])
        assert fields["cs6"] == entry.leaf_hash
        for key, group, member in (
            ("cs1", "actor", "org"),
            ("cs2", "object", "dataset"),
            ("cs3", "licence", "purpose"),
            ("suid", "actor", "ref"),
            ("flexString1", "source", "ip_truncated"),
            ("exchangeRequestId", "source", "request_id"),
        ):
            assert fields.get(key) == (document[group] or {}).get(member), key


def test_a_text_is_one_line_whatever_it_holds() -> None:
    for code in [*range(0x3000), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0080)]:
        written = export.escape(f"a{chr(code)}b")
        assert len(written.splitlines()) == 1, hex(code)
        assert not any(0xD800 <= ord(one) <= 0xDFFF for one in written)
