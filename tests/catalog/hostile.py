"""Three hundred files that nobody wants to open, made from a seed: what each is, and what may become of it.

Each is a name, bytes, and the codes it may be refused with; a file that may also be taken says so. Sizes stay
below 5 MB; what they claim to hold does not.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FILES = 300
CANARY = "SECRETCELL"
"""Stands in cells; no refusal may show it."""


@dataclass(frozen=True)
class File:
    """A hostile file: its family, its name and bytes, codes of refusal, and whether it may be taken."""

    family: str
    name: str
    content: bytes
    codes: frozenset[str]
    may_pass: bool = False


Made = tuple[str, bytes, frozenset[str], bool]


def files(seed: int, count: int = FILES) -> Iterator[File]:
    """So many files, each family in turn; the same seed gives the same files."""
    for number in range(count):
        family, make = list(FAMILIES.items())[number % len(FAMILIES)]
        chance = random.Random(f"{seed}:{number}")
        yield File(f"{family}-{number}", *make(chance))


def _parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _table(chance: random.Random, rows: int = 2_000) -> pa.Table:
    return pa.table(
        {
            "who": [chance.randrange(500) for _ in range(rows)],
            "text": [f"{CANARY}{chance.randrange(97)}" for _ in range(rows)],
            "number": [chance.gauss(0, 1e6) for _ in range(rows)],
        }
    )


def _written(chance: random.Random) -> bytes:
    options = {
        "compression": chance.choice(["none", "snappy", "zstd", "gzip", "lz4"]),
        "use_dictionary": chance.random() < 0.5,
        "data_page_version": chance.choice(["1.0", "2.0"]),
        "row_group_size": chance.choice([100, 700, 5_000]),
        "write_page_checksum": chance.random() < 0.5,
    }
    return _parquet(_table(chance), **options)


def _codes(*names: str) -> frozenset[str]:
    return frozenset(names)


_BROKEN = _codes(
    *(
        "truncated_file",
        "damaged_file",
        "unreadable_file",
        "expands_too_much",
        "encrypted_file",
        "empty_file",
    ),
    *(
        "unsupported_type",
        "value_out_of_range",
        "not_utf8",
        "broken_rows",
        "bad_column_name",
        "cell_too_large",
    ),
    *("duplicate_column", "too_many_rows", "took_too_long", "not_parquet", "too_many_columns"),
)


def _truncated(chance: random.Random) -> Made:
    whole = _written(chance)
    kept = whole[: chance.randrange(8, len(whole) - 1)]
    return "data.parquet", kept, _codes("truncated_file", "damaged_file"), False


def _flipped(chance: random.Random) -> Made:
    whole = bytearray(_written(chance))
    for _ in range(chance.choice([1, 1, 3, 40])):
        whole[chance.randrange(4, len(whole) - 4)] ^= 1 << chance.randrange(8)
    return "data.parquet", bytes(whole), _BROKEN, True


def _lying_footer(chance: random.Random) -> Made:
    """Bytes of the footer, which says how long everything is, replaced by the ends of what they can say."""
    whole = bytearray(_written(chance))
    footer = int.from_bytes(whole[-8:-4], "little")
    for _ in range(chance.randrange(1, 12)):
        place = len(whole) - 8 - chance.randrange(1, footer)
        whole[place] = chance.choice([0x00, 0x7F, 0x80, 0xFE, 0xFF])
    if chance.random() < 0.3:
        whole[-8:-4] = chance.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(whole)]).to_bytes(4, "little")
    return "data.parquet", bytes(whole), _BROKEN, True


def _bomb(chance: random.Random) -> Made:
    size = chance.choice([300, 500, 900]) << 20
    kind = chance.randrange(5)
    if kind == 0:  # a billion equal numbers in a few kilobytes
        return (
            "n.parquet",
            _parquet(pa.table({"a": pa.repeat(chance.randrange(9), size // 32)})),
            _FULL,
            False,
        )
    if kind == 1:
        words = pa.table({"a": ["x" * (size // 8)]})
        return "w.parquet", _parquet(words, compression="zstd", use_dictionary=False), _FULL, False
    if kind == 2:  # one word in a dictionary, and every row means it
        meant = pa.DictionaryArray.from_arrays(pa.repeat(0, size // 50_000), ["x" * 50_000])
        return "d.parquet", _parquet(pa.table({"a": meant}), compression="zstd"), _FULL, False
    block = b"1,2\n" * (1 << 18)
    if kind == 3:
        stream = io.BytesIO()
        with gzip.open(stream, "wb", 9) as packed:
            packed.write(b"a,b\n")
            for _ in range(size >> 20):
                packed.write(block)
        return "c.csv.gz", stream.getvalue(), _FULL, False
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(b"a,b\n")
        for _ in range(size >> 20):
            packed.write(block)
    return "c.csv.zst", sink.getvalue().to_pybytes(), _FULL, False


_FULL = _codes("expands_too_much", "cell_too_large", "took_too_long", "too_many_rows")


class _Touch:
    """Whoever unpickles it makes a file."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("unpickled", "w")


def _another_format(chance: random.Random) -> Made:
    ipc, archive = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_file(ipc, pa.schema([("a", pa.string())])) as writer:
        writer.write_batch(pa.record_batch({"a": [CANARY]}))
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../etc/data.csv", f"a\n{CANARY}\n")
    contents = [
        pickle.dumps(_Touch(), protocol=chance.choice([2, 4, 5])),
        ipc.getvalue(),
        archive.getvalue(),
        json.dumps([{"a": CANARY}]).encode(),
        f"<html>{CANARY}</html>".encode(),
        b"SQLite format 3\x00" + bytes(100),
        b"\x7fELF" + chance.randbytes(200),
        gzip.compress(pickle.dumps(_Touch(), protocol=4)),
    ]
    name = chance.choice(["data.parquet", "data.csv", "data.pkl", "data"])
    return name, chance.choice(contents), _codes("unsupported_format", "not_parquet"), False


def _odd_type(chance: random.Random) -> Made:
    odd = [
        pa.array([[1], [2]]),
        pa.array([{"x": CANARY}, {"x": "2"}]),
        pa.array([b"a", b"\xff"]),
        pa.array([b"0" * 16, None], pa.uuid()),
        pa.array(["{}", None], pa.json_(pa.string())),
        pa.array([None, None], pa.duration("ns")),
        pa.array([[[1]], None]),
    ]
    columns = {"fine": pa.array([1, 2]), "odd": chance.choice(odd)}
    return "x.parquet", _parquet(pa.table(columns)), _codes("unsupported_type"), False


def _wide(chance: random.Random) -> Made:
    if chance.random() < 0.3:
        table = pa.table({f"c{number}": [1] for number in range(5_000)})
        return "wide.parquet", _parquet(table), _codes("too_many_columns"), False
    header = ",".join(f"c{number}" for number in range(100_000))
    row = ",".join(["1"] * 100_000)
    return "wide.csv", f"{header}\n{row}\n".encode(), _codes("too_many_columns"), False


def _odd_name(chance: random.Random) -> Made:
    name = chance.choice(
        [
            "../../../etc/passwd",
            "a\x00b",
            "-rf",
            "=cmd|' /C calc'!A0",
            '"; DROP TABLE t; --',
            "\u202egnp.exe",
            "x" * 5_000,
            " ",
            "a\\b",
            "\ud7ff\u0301" * 70,
            "rowid",
            "select",
        ]
    )
    table = pa.table({name: [CANARY], "b": [1]})
    codes = _codes("bad_column_name", "duplicate_column", "broken_rows", "not_utf8", "cell_too_large")
    if chance.random() < 0.5:
        if "\x00" in name:
            codes |= _codes("unsupported_format")  # no CSV's first line holds one
        quoted = name.replace('"', '""')
        return f"{chance.randrange(9)}.csv", f'"{quoted}",b\n{CANARY},1\n'.encode(), codes, True
    return "named.parquet", _parquet(table), codes, True


def _encodings(chance: random.Random) -> Made:
    text = f"name,b\n{CANARY}é漢,1\nplain,2\n"
    contents = [
        text.encode("utf-16"),
        text.encode("utf-16-le"),
        text.encode("utf-32"),
        text.replace("漢", "").encode("latin-1"),
        text.encode("gb18030"),
        text.encode().replace("é".encode(), b"\xc0\xaf"),
        text.encode().replace("é".encode(), b"\xed\xa0\x80"),
        text.encode() + "é".encode("latin-1") + b",3\n",
        text.encode().replace(b"plain", b"pl\x00ain"),
    ]
    codes = _codes("not_utf8", "broken_rows", "bad_column_name", "unsupported_format", "damaged_file")
    return "text.csv", chance.choice(contents), codes, False


def _formulas(chance: random.Random) -> Made:
    start = chance.choice(["=", "+", "-", "@", "\t=", "=1+1;", '=HYPERLINK("http://x")'])
    cell = f"{start}{CANARY}".replace('"', '""')
    return "sheet.csv", f'a,b\n"{cell}",1\n"{cell}",2\n'.encode(), _codes("broken_rows"), True


def _shapeless(chance: random.Random) -> Made:
    contents = [
        b'a,b\n"' + CANARY.encode() * 200_000,
        b"a" * 4_000_000,
        b"a,b\n" + b"1,2\n" * 1_000 + b"1\n" * 50_000,
        b"a\n" + b"\n" * 1_000_000 + b"1,2\n",
        b"," * 900 + b"\n" + b"," * 901 + b"\n",
        b'a,b\n"x"y,1\n',
        b"a,b\r1,2\r3,4\r",
        chance.randbytes(50_000),
        b"",
        b"\n\n\n",
        b'"a""' * 30_000,
    ]
    return "rows.csv", chance.choice(contents), _BROKEN | {"unsupported_format"}, False


FAMILIES: dict[str, Callable[[random.Random], Made]] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "lying footer": _lying_footer,
    "bomb": _bomb,
    "another format": _another_format,
    "odd type": _odd_type,
    "wide": _wide,
    "odd name": _odd_name,
    "encodings": _encodings,
    "formulas": _formulas,
    "shapeless": _shapeless,
}
