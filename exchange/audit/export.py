"""The log as files for other programs: CSV, Parquet, JSON lines, OCSF and CEF, one record for each entry.

Texts of strangers are in leaves as they came. Here none of them can begin a line, a cell or a formula of its
own: every record of the text formats is one line, whatever it holds, and is read back as it was. Standard
library alone, but for Parquet, which needs pyarrow.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from exchange.audit import ocsf
from exchange.audit.leaf import AMOUNT, COUNT, DIGEST, TEXT
from exchange.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

EVIDENCE, EVIDENCE_SUFFIX = "evidence", "zip"
"""The format that is no stream of entries: :mod:`exchange.audit.evidence`."""
JSON_LINES = "exchange-evidence/v1"
"""What the first line of JSON lines says that they are."""
TIME = "time"
ROWS_OF_GROUP = 10_000
"""Rows of one row group of Parquet: what is held in memory at a time."""

COLUMNS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("seq", ("seq",), COUNT),
    ("id", ("id",), TEXT),
    ("time", ("time",), TIME),
    ("kind", ("kind",), TEXT),
    ("outcome", ("outcome",), TEXT),
    ("code", ("code",), TEXT),
    ("actor_ref", ("actor", "ref"), TEXT),
    ("org", ("actor", "org"), TEXT),
    ("role", ("actor", "role"), TEXT),
    ("auth", ("actor", "auth"), TEXT),
    ("ip_truncated", ("source", "ip_truncated"), TEXT),
    ("request_id", ("source", "request_id"), TEXT),
    ("object_type", ("object", "type"), TEXT),
    ("object_id", ("object", "id"), TEXT),
    ("object_version", ("object", "version"), TEXT),
    ("dataset", ("object", "dataset"), TEXT),
    ("acceptance_id", ("licence", "acceptance_id"), TEXT),
    ("odrl_sha256", ("licence", "odrl_sha256"), DIGEST),
    ("purpose", ("licence", "purpose"), TEXT),
    ("query_id", ("query", "id"), TEXT),
    ("plan_sha256", ("query", "plan_sha256"), DIGEST),
    ("sql_sha256", ("query", "sql_sha256"), DIGEST),
    ("domain", ("privacy", "domain"), TEXT),
    ("mechanism", ("privacy", "mechanism"), TEXT),
    ("rho_nano", ("privacy", "rho_nano"), AMOUNT),
    ("delta_pico", ("privacy", "delta_pico"), AMOUNT),
    ("spent_after", ("privacy", "spent_after"), AMOUNT),
    ("remaining_after", ("privacy", "remaining_after"), AMOUNT),
    ("currency", ("money", "currency"), TEXT),
    ("amount_minor", ("money", "amount_minor"), AMOUNT),
    ("journal", ("money", "journal"), TEXT),
    ("journal_sha256", ("money", "journal_sha256"), DIGEST),
    ("result_sha256", ("result", "sha256"), DIGEST),
    ("result_bytes", ("result", "bytes"), COUNT),
    ("org_seq", ("org_seq",), COUNT),
    ("prev_org_leaf", ("prev_org_leaf",), DIGEST),
    ("pii_commitment", ("pii_commitment",), DIGEST),
)
"""Column -> member of the leaf and what it is, in the order of CSV and Parquet. `leaf_hash` and `org_name`
stand behind them, and in Parquet the `leaf` itself."""

# What a terminal, an editor or a spreadsheet would act on: control characters, line and paragraph separators,
# marks that change the direction of text or take no room, and half of a surrogate pair.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# A spreadsheet takes these for a formula, in the wide forms too, also behind spaces and quotes.
_FORMULA = re.compile("[\\s\"'`\u00a0]*[=+\\-@\uff1d\uff0b\uff0d\uff20\u2212]|'")


@dataclass(frozen=True, slots=True)
class Exported:
    """An entry on its way out: the leaf, its document and hash, its organisation's name, and the inclusion
    proof where there is one.
    """

    leaf: bytes
    document: Mapping[str, Any]
    leaf_hash: str
    org_name: str | None
    proof: Sequence[bytes] | None = None


@dataclass(frozen=True)
class Head:
    """What is known of an export before its first entry: the log, how many entries follow, what was asked."""

    origin: str
    log_key: str
    checkpoint: str | None
    exported_at: str
    size: int
    entries: int
    filters: Mapping[str, str]
    exchange: str


@dataclass(frozen=True)
class Format:
    """A format: the ending of its files, its media type, whether it holds proofs, and how it is written."""

    suffix: str
    media_type: str
    write: Callable[[Head, Iterable[Exported]], Iterator[bytes]]
    proofs: bool = False


def csv_lines(head: Head, entries: Iterable[Exported]) -> Iterator[bytes]:
    """RFC 4180 in UTF-8: a line of names, then a line for each entry; texts and digests in quotes, numbers
    bare, nothing at all for null.

    Within texts, a backslash is doubled and what cannot be seen is written as in JSON (`\\n`, `\\u202e`): a
    record is one line. A text that a spreadsheet could take for a formula has an apostrophe in front, as has
    a text that begins with one, so that taking one away gives the text back.
    """
    del head
    yield _csv_line([f'"{name}"' for name in (*(name for name, _, _ in COLUMNS), "leaf_hash", "org_name")])
    for entry in entries:
        cells = [_cell(kind, _member(entry.document, path)) for _, path, kind in COLUMNS]
        yield _csv_line([*cells, _cell(DIGEST, entry.leaf_hash), _cell(TEXT, entry.org_name)])


def cell_text(text: str) -> str:
    """A text as a cell of CSV holds it, before it is put into quotes."""
    escaped = escape(text)
    return f"'{escaped}" if _FORMULA.match(escaped) else escaped


def escape(text: str) -> str:
    """The text on one line, with nothing in it that cannot be seen, in the escapes of JSON."""
    return _UNSEEN.sub(_escaped, text.replace("\\", "\\\\"))


def json_lines(head: Head, entries: Iterable[Exported]) -> Iterator[bytes]:
    """A line with the head, then one for each entry: what its leaf says, and its inclusion proof to the
    checkpoint of the head; null where the entry is younger.
    """
    yield _json_line({"format": JSON_LINES, **vars(head)})
    for entry in entries:
        proof = None
        if entry.proof is not None:
            proof = {
                "index": entry.document["seq"],
                "leaf": entry.leaf.decode("utf-8"),
                "leaf_hash": entry.leaf_hash,
                "proof": [one.hex() for one in entry.proof],
            }
        told = {**entry.document, "org_name": entry.org_name, "leaf_hash": entry.leaf_hash}
        yield _json_line({"entry": told, "proof": proof})


def ocsf_lines(head: Head, entries: Iterable[Exported]) -> Iterator[bytes]:
    """An OCSF event of class 6005 for each entry, one on a line."""
    for entry in entries:
        event = ocsf.event(
            entry.document, entry.leaf, leaf_hash=entry.leaf_hash, org_name=entry.org_name, origin=head.origin
        )
        yield _json_line(event)


def cef_lines(head: Head, entries: Iterable[Exported]) -> Iterator[bytes]:
    """A record of ArcSight's Common Event Format (version 0) for each entry, one on a line, without the
    header of syslog.
    """
    del head
    start = "|".join(("CEF:0", "private-data-exchange", "exchange", __version__))
    for entry in entries:
        document = entry.document
        severity = "2" if document["outcome"] == "done" else "5"
        named = "|".join(map(_cef_header, (document["kind"], f"{document['kind']} {document['outcome']}")))
        fields = _cef_fields(entry)
        extension = " ".join(f"{key}={_cef_value(str(value))}" for key, value in fields if value is not None)
        yield f"{start}|{named}|{severity}|{extension}\n".encode()


def _cef_fields(entry: Exported) -> list[tuple[str, Any]]:
    """The keys of CEF's dictionary that say the same; what it has none for is under keys of our own."""
    document = entry.document
    at = datetime.fromisoformat(document["time"])
    fields: list[tuple[str, Any]] = [
        ("rt", int(at.timestamp() * 1000)),
        ("externalId", document["id"]),
        ("cat", "audit"),
        ("act", document["kind"]),
        ("outcome", document["outcome"]),
        ("reason", document["code"]),
        ("suid", _member(document, ("actor", "ref"))),
        ("spriv", _member(document, ("actor", "role"))),
        ("fileType", _member(document, ("object", "type"))),
        ("fileId", _member(document, ("object", "id"))),
    ]
    labelled: tuple[tuple[str, str, Any], ...] = (
        ("cs1", "organisation", _member(document, ("actor", "org"))),
        ("cs2", "dataset", _member(document, ("object", "dataset"))),
        ("cs3", "purpose", _member(document, ("licence", "purpose"))),
        ("cs4", "privacyDomain", _member(document, ("privacy", "domain"))),
        ("cs5", "query", _member(document, ("query", "id"))),
        ("cs6", "leafHash", entry.leaf_hash),
        ("cn1", "seq", document["seq"]),
        ("cn2", "rhoNano", _member(document, ("privacy", "rho_nano"))),
        ("cn3", "amountMinor", _member(document, ("money", "amount_minor"))),
        ("flexString1", "network", _member(document, ("source", "ip_truncated"))),
        ("flexString2", "journal", _member(document, ("money", "journal"))),
    )
    for key, label, value in labelled:
        if value is not None:
            fields += [(key, value), (f"{key}Label", label)]
    own = ("currency", "request_id", "acceptance_id", "object_version", "auth", "org_seq", "result_sha256")
    paths = {name: path for name, path, _ in COLUMNS}
    fields += [(f"exchange{_camel(name)}", _member(document, paths[name])) for name in own]
    return [*fields, ("exchangeOrgName", entry.org_name)]


def parquet_chunks(head: Head, entries: Iterable[Exported]) -> Iterator[bytes]:
    """A Parquet file, typed: counts and amounts as 64-bit integers, times in microseconds of UTC, the leaf as
    bytes. Ten thousand rows are held at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {COUNT: pa.int64(), AMOUNT: pa.int64(), TIME: pa.timestamp("us", tz="UTC")}
    fields = [(name, kinds.get(kind, pa.string())) for name, _, kind in COLUMNS]
    schema = pa.schema(
        [*fields, ("leaf_hash", pa.string()), ("org_name", pa.string()), ("leaf", pa.binary())],
        metadata={"origin": head.origin, "size": str(head.size)},
    )
    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        for rows in _batches(entries, ROWS_OF_GROUP):
            writer.write_batch(pa.RecordBatch.from_arrays(list(_arrays(pa, schema, rows)), schema=schema))
            yield sink.taken()
    yield sink.taken()


class _Sink:
    """A file that gives away what was written to it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Everything is where it can be taken from already."""

    def close(self) -> None:
        """What was written can still be taken."""

    def taken(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _arrays(pa: Any, schema: Any, rows: list[Exported]) -> Iterator[Any]:
    for index, (_, path, kind) in enumerate(COLUMNS):
        values = [_typed(kind, _member(row.document, path)) for row in rows]
        yield pa.array(values, schema.field(index).type)
    yield pa.array([row.leaf_hash for row in rows], pa.string())
    yield pa.array([row.org_name for row in rows], pa.string())
    yield pa.array([row.leaf for row in rows], pa.binary())


def _typed(kind: str, value: Any) -> Any:
    if value is None or kind in (TEXT, DIGEST):
        return value
    return datetime.fromisoformat(value) if kind == TIME else int(value)


def _batches(entries: Iterable[Exported], size: int) -> Iterator[list[Exported]]:
    batch: list[Exported] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _member(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value = document[path[0]]
    return value if len(path) == 1 or value is None else value[path[1]]


def _cell(kind: str, value: Any) -> str:
    if value is None:
        return ""
    if kind in (COUNT, AMOUNT):
        return str(value)
    text = cell_text(value) if kind == TEXT else str(value)
    return '"' + text.replace('"', '""') + '"'


def _csv_line(cells: Iterable[str]) -> bytes:
    return (",".join(cells) + "\r\n").encode()


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _SHORT:
        return _SHORT[character]
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def _cef_header(text: str) -> str:
    return escape(text).replace("|", "\\|")


def _cef_value(text: str) -> str:
    """The escapes of CEF: a backslash, an equals sign, the ends of lines; other controls as in JSON."""
    return escape(text).replace("=", "\\=")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _json_line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode() + b"\n"


FORMATS: dict[str, Format] = {
    "csv": Format("csv", "text/csv; charset=utf-8", csv_lines),
    "parquet": Format("parquet", "application/vnd.apache.parquet", parquet_chunks),
    "jsonl": Format("jsonl", "application/jsonl", json_lines, proofs=True),
    "ocsf": Format("ocsf.jsonl", "application/jsonl", ocsf_lines),
    "cef": Format("cef", "text/plain; charset=utf-8", cef_lines),
}
