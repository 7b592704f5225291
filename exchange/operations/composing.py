"""A listing written step by step: what is typed is kept as it is typed, files are sent and looked into.

What it comes to, and publishing it, is :mod:`exchange.operations.completing`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import InvalidUpload
from catalog.ingest import ingest_table
from catalog.schema import TABLE_NAME, Column, TableSchema
from exchange import listing_drafts, quarantine, scratch, sealing
from exchange.errors import RequestInvalid
from exchange.identity import Role, new_id
from exchange.operations import drafting, typed_listings, uploading
from privacy import confinement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.listing_drafts import Draft, SentFile, Summary
    from exchange.market import Market
    from exchange.operations.typed_listings import Faults

STEPS = ("files", "columns", "privacy", "about", "licence", "price", "preview")
MOST_DRAFTS, MOST_FILES, LARGEST = 50, 100, 1 << 20
"""Drafts of an organisation that are not published, files of a draft, and bytes of all that is typed."""

LARGEST_PLAIN = 256 << 20
"""Bytes of a file that is sent whole by a form: what is larger goes in pieces."""

_SHOWN = 200
_START = {
    "privacy": {"rho": "5", "delta": "0.000001", "max_rho_per_query": "0.5"},
    "about": {"classification": "general"},
    "price": {
        "plans": "1",
        "0.name": "pay-as-you-go",
        "0.kind": "pay-per-query",
        "0.currency": "USD",
        "0.approval": "provider",
        "0.fee": "0.05",
        "0.per_rho": "20.00",
        "0.max_rho": "1.0",
    },
}
"""What stands in the fields of a new draft: to be looked at, not read off anybody's data."""


@dataclass(frozen=True)
class Sent:
    """A file of a draft as it is now: ``arrived`` of its bytes are here; None where they were removed."""

    file: SentFile
    table: str
    arrived: int | None

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self.arrived == self.file.length


def drafts(market: Market, actor: Actor) -> list[Summary]:
    """The organisation's drafts, the one that was saved last first."""
    actor.require(Role.PROVIDER)
    return market.store.read(lambda s: listing_drafts.of_organisation(s, actor.org, limit=_SHOWN))


def begin(market: Market, actor: Actor, start: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Begin a draft, where one is given with what ``start`` has typed in its steps; returns its id.

    Raises RequestInvalid where the organisation has too many.
    """
    actor.require(Role.PROVIDER)

    def write(session: Session, now: datetime) -> str:
        _check_room(session, actor)
        made = new_id("drf")
        listing_drafts.create(session, id=made, org=actor.org, typed=start or _START, now=now)
        return made

    return market.store.jot(write)


def look(market: Market, actor: Actor, draft_id: str) -> Draft:
    """One draft with its files. Raises NotFound, also for another organisation's."""
    actor.require(Role.PROVIDER)
    return market.store.read(lambda session: listing_drafts.find(session, draft_id, org=actor.org))


def save(
    market: Market, actor: Actor, draft_id: str, step: str, typed: Mapping[str, str], *, number: int
) -> bool:
    """Keep what was typed in a step on a page that was opened when the step had its save ``number``.

    False where the step was saved in another window since, with other words: nothing is overwritten. Raises
    NotFound, and RequestInvalid for more than a megabyte.
    """

    def write(session: Session, now: datetime) -> bool:
        draft = open_draft(session, actor, draft_id)
        _check_no_version(draft)
        if draft.of(step) == typed and step in draft.saves:
            return True
        if draft.saves.get(step, 0) != number:
            return False
        if len(json.dumps({**draft.typed, step: dict(typed)})) > LARGEST:
            raise RequestInvalid(
                f"all that is typed in a draft is at most {LARGEST} characters",
                hint="List fewer values of a column, or shorten the texts.",
            )
        listing_drafts.save(session, draft, step, typed, now)
        return True

    return market.store.jot(write)


def set_deleted(market: Market, actor: Actor, draft_id: str, *, deleted: bool) -> None:
    """Put a draft away, or fetch it back: for thirty days it can be.

    Raises NotFound, and RequestInvalid where one is fetched back beyond what the organisation may have.
    """
    actor.require(Role.PROVIDER)

    def write(session: Session, now: datetime) -> None:
        draft = listing_drafts.find(session, draft_id, org=actor.org)
        if not draft.published:
            if draft.deleted and not deleted:
                _check_room(session, actor)
            stamp = now.isoformat(timespec="microseconds") if deleted else None
            listing_drafts.change(session, draft_id, deleted_at=stamp)
            if deleted:
                listing_drafts.forget_found(session, draft_id)

    market.store.jot(write)


def start_upload(market: Market, actor: Actor, draft_id: str, *, length: int, name: str) -> str:
    """Announce a file of the draft; returns the upload's id. Raises TooLarge, RequestInvalid."""
    draft = market.store.read(lambda session: open_draft(session, actor, draft_id))
    _check_no_version(draft)
    if sum(not one.removed for one in draft.files) >= MOST_FILES:
        raise RequestInvalid(f"a listing has at most {MOST_FILES} files", hint="Remove one first.")
    upload = uploading.start(market, actor, length=length, name=name)

    def write(session: Session, now: datetime) -> None:
        _check_no_version(open_draft(session, actor, draft_id))
        listing_drafts.add_file(session, draft_id, upload=upload, name=name or "file", length=length, now=now)

    market.store.jot(write)
    return upload


def set_removed(market: Market, actor: Actor, draft_id: str, upload: str, *, removed: bool) -> None:
    """Take a file out of the draft, or put it back."""

    def write(session: Session, now: datetime) -> None:
        draft = open_draft(session, actor, draft_id)
        _check_no_version(draft)
        listing_drafts.change(session, draft_id, number=draft.number + 1)
        stamp = now.isoformat(timespec="microseconds") if removed else None
        # What was found shows values of single rows: it goes with the file, and is looked for again.
        listing_drafts.change_file(session, draft_id, upload, removed_at=stamp, found=None)

    market.store.jot(write)


def sent(market: Market, draft: Draft) -> list[Sent]:
    """The files that are not removed: which table each becomes, and how much of it has arrived."""
    place, names = uploading.folder(market), table_names(draft)
    return [
        Sent(one, names[one.upload], _arrived(place, one.upload)) for one in draft.files if not one.removed
    ]


def table_names(draft: Draft) -> dict[str, str]:
    """The table that each file becomes: as it was typed, else after the file's name."""
    typed = draft.of("files")
    names: dict[str, str] = {}
    for one in draft.files:
        if one.removed:
            continue
        wanted = typed.get(f"{one.upload}.table", "").strip()
        names[one.upload] = wanted or _free(_table_name(one.name), set(names.values()))
    return names


def file_faults(market: Market, draft: Draft) -> Faults:
    """What is wrong with the files, each at ``UPLOAD.table``."""
    faults: Faults = {}
    taken: set[str] = set()
    found = sent(market, draft)
    if not found:
        faults[""] = "Send at least one file: CSV or Parquet."
    for one in found:
        at = f"{one.file.upload}.table"
        if not TABLE_NAME.fullmatch(one.table):
            faults[at] = "A table's name is a letter followed by up to 62 letters, digits or underscores."
        elif one.table.lower() in taken:
            faults[at] = "Another file has this name: letter case does not tell names apart."
        elif not one.complete and draft.version is None:
            faults[at] = (
                "The file waited too long and was removed: remove it here and send it again."
                if one.arrived is None
                else "Not all of it has arrived: choose the same file again, it goes on where it stopped."
            )
        elif one.file.found and "error" in one.file.found:
            error = one.file.found["error"]
            faults[at] = f"{error['message']} {error['hint']}"
        taken.add(one.table.lower())
    return faults


def inspect(market: Market, actor: Actor, draft_id: str) -> None:
    """Look into every file that nobody has looked into, or that is counted by another unit now.

    In the limited process that also takes files in at publishing; nothing of what it writes is kept but
    columns, counts and charts for the provider. A file that is refused has its fault kept in their place.
    """
    draft = look(market, actor, draft_id)
    for one in sent(market, draft):
        unit = unit_of(draft, one.table)
        if one.complete and (one.file.found is None or _counted_by(one.file.found) != unit):
            _keep_found(market, draft_id, one.file.upload, _looked_into(market, actor, one, unit))


def _keep_found(market: Market, draft_id: str, upload: str, found: Mapping[str, Any]) -> None:
    text = json.dumps(found)
    market.store.jot(lambda session, _: listing_drafts.change_file(session, draft_id, upload, found=text))


def _looked_into(market: Market, actor: Actor, one: Sent, unit: str | None) -> dict[str, Any]:
    source = drafting.arrived(market, actor, one.file.upload)
    known = one.file.found if one.file.found and "error" not in one.file.found else {}
    table = one.table if TABLE_NAME.fullmatch(one.table) else "t"
    with (
        market.ingests.place(actor.org, "another ingest"),
        scratch.working(market.settings.scratch_path) as folder,
    ):
        try:
            report = ingest_table(
                source,
                table=table,
                unit=unit,
                out=folder / "parts",
                limits=drafting.limits(market),
                confinement=confinement.__name__,
                key=sealing.new_key(),
                histograms=True,
            )
        except InvalidUpload as refused:
            if known:  # the file is in order, and this column is no unit of it
                return {**known, "unit": unit, "unit_error": _error(refused)}
            return {"unit": unit, "error": _error(refused)}
    return {
        "unit": unit,
        "columns": [[column.name, column.type] for column in report.schema.columns],
        "rows": report.rows,
        "rows_without_unit": report.rows_without_unit,
        "profile": report.profile,
    }


def _error(refused: InvalidUpload) -> dict[str, Any]:
    return {
        "code": refused.code,
        "message": str(refused),
        "hint": refused.hint,
        "row": refused.row,
        "column": refused.column,
        "broken_rows": [[row.line, row.reason] for row in refused.broken_rows],
        "broken_count": refused.broken_count,
    }


def _counted_by(found: Mapping[str, Any]) -> str | None:
    unit = found.get("unit")
    return unit if isinstance(unit, str) else None


def unit_of(draft: Draft, table: str) -> str | None:
    """The column that a table's rows are to be counted by, as it was typed; None for a public table."""
    typed = draft.of("privacy")
    return typed.get(f"{table}.unit") or None if typed_listings.is_private(typed, table) else None


def found_tables(draft: Draft) -> dict[str, dict[str, Any]]:
    """Table -> what was found in its file, for tables whose file is in order."""
    names = table_names(draft)
    return {
        names[one.upload]: one.found
        for one in draft.files
        if not one.removed and one.found and "error" not in one.found
    }


def schemas(draft: Draft) -> dict[str, TableSchema]:
    """The tables with their columns, of files that were looked into."""

    def read() -> dict[str, TableSchema]:
        return {
            name: TableSchema(name, tuple(Column(column, kind) for column, kind in found["columns"]))
            for name, found in found_tables(draft).items()
        }

    return draft.once("schemas", read)


def open_draft(session: Session, actor: Actor, draft_id: str) -> Draft:
    """A draft that may be changed. Raises NotFound, RequestInvalid."""
    actor.require(Role.PROVIDER)
    draft = listing_drafts.find(session, draft_id, org=actor.org)
    if draft.deleted:
        raise RequestInvalid("the draft was deleted", hint="Fetch it back from the list of drafts first.")
    if draft.published:
        raise RequestInvalid("the draft was published", hint="Change the listing by a new version.")
    return draft


def _check_room(session: Session, actor: Actor) -> None:
    if listing_drafts.count(session, actor.org) >= MOST_DRAFTS:
        raise RequestInvalid(
            f"your organisation has {MOST_DRAFTS} drafts", hint="Publish or delete one of them first."
        )


def _check_no_version(draft: Draft) -> None:
    if draft.version is not None:
        raise RequestInvalid("this draft became a version already", hint="Change the listing by a new one.")


def _table_name(name: str) -> str:
    stem = name.partition(".")[0]
    made = re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_").lower()[:50]
    return made if made[:1].isalpha() else f"table_{made}".rstrip("_")


def _free(name: str, taken: set[str]) -> str:
    made, count = name, 1
    while made in taken:
        count += 1
        made = f"{name}_{count}"
    return made


def _arrived(folder: Path, upload: str) -> int | None:
    path = quarantine.path_of(folder, upload)
    return path.stat().st_size if path.exists() else None
