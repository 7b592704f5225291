"""Released numbers as something to keep: the same question is answered from them again, or refined.

What is here is public: it left the release step. Kept beside an answer, it makes a repeat free however the
statement is written, any further arithmetic over the same numbers free too, and asking with more rho cost the
difference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from privacy.errors import PrivacyError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMAT = 1
_HEADER = b"privacy.released"


class ReleasedInvalid(PrivacyError):
    """Bytes that are not released numbers kept by this version of the engine."""

    code = "released_invalid"
    hint = "Ask without them: the question is then answered anew, at its full price."


@dataclass(frozen=True)
class ReleasedMeasure:
    """One column of a released table.

    Attributes:
        name: the column.
        sum: digest of the bounded sum that it is.
        rho_nano: what was paid for it, in all draws together.
        sigma: deviation of its noise.
    """

    name: str
    sum: str
    rho_nano: int
    sigma: float


@dataclass(frozen=True)
class ReleasedTable:
    """One noisy table and what was paid for it.

    Attributes:
        bound: digest of the bounded rows and their groups, without sums and noise.
        table: key columns, then one int64 column for each measure.
        threshold: the least noisy count of units that shows a key, or None where keys are public.
    """

    bound: str
    table: pa.Table
    measures: tuple[ReleasedMeasure, ...]
    threshold: int | None

    def find(self, digest: str) -> ReleasedMeasure | None:
        """The column of a sum, if it was released."""
        return next((one for one in self.measures if one.sum == digest), None)

    def document(self) -> dict[str, Any]:
        """All but the table."""
        measures = [[one.name, one.sum, one.rho_nano, one.sigma] for one in self.measures]
        return {"bound": self.bound, "measures": measures, "threshold": self.threshold}


@dataclass(frozen=True)
class Released:
    """The noisy tables behind one answer, in the order of the statement's questions."""

    tables: tuple[ReleasedTable, ...]

    def of(self, bound: str) -> tuple[ReleasedTable, ...]:
        """The released tables of the same bounded rows and groups, the dearest first."""
        same = [one for one in self.tables if one.bound == bound]
        return tuple(sorted(same, key=lambda one: -sum(paid.rho_nano for paid in one.measures)))

    def __add__(self, other: Released) -> Released:
        """Both together: what a buyer has of one version of a dataset."""
        return Released(self.tables + other.tables)

    def to_bytes(self) -> bytes:
        """Arrow streams, one after another, each with its document in the schema's metadata."""
        header = {"format": _FORMAT, "tables": len(self.tables)}
        return b"".join(_stream(one, header) for one in self.tables)

    @classmethod
    def from_bytes(cls, kept: bytes) -> Released:
        """What `to_bytes` wrote.

        Raises:
            ReleasedInvalid: they are something else, or of another version's format.
        """
        try:
            return cls(tuple(_read(pa.BufferReader(kept))))
        except (pa.ArrowException, ValueError, KeyError, TypeError, OSError):
            raise ReleasedInvalid("These are not released numbers.") from None


def _stream(one: ReleasedTable, header: dict[str, Any]) -> bytes:
    document = json.dumps({**header, **one.document()}, sort_keys=True)
    table = one.table.replace_schema_metadata({_HEADER: document.encode()}).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _read(source: pa.BufferReader) -> Sequence[ReleasedTable]:
    found: list[ReleasedTable] = []
    wanted = 1
    while len(found) < wanted:
        with pa.ipc.open_stream(source) as reader:
            table = reader.read_all()
        document = json.loads(table.schema.metadata[_HEADER])
        if document["format"] != _FORMAT:
            raise ValueError(document["format"])
        wanted = document["tables"]
        measures = tuple(ReleasedMeasure(*paid) for paid in document["measures"])
        plain = table.replace_schema_metadata(None)
        found.append(ReleasedTable(document["bound"], plain, measures, document["threshold"]))
    return found
