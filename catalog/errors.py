"""What can go wrong, as one tree.

    CatalogError
    ├── InvalidUpload     a file that is not taken in (code, table, row, column, broken_rows)
    ├── InvalidManifest   a listing.toml that cannot be read (path into the document)
    ├── PolicyMismatch    policy and files disagree about tables or columns (path into the policy)
    ├── InvalidSlug       a dataset name that is not of the form provider/dataset
    ├── InvalidPage       a page token that did not come from the search before
    ├── NotFound          nothing of that name is visible to the reader
    ├── SlugTaken         a dataset name that is already in use
    ├── ListingState      a step that the listing's state does not allow
    ├── ObjectsUnavailable  the object store does not answer, or takes nothing, at the moment
    └── ObjectDamaged     a stored file whose bytes no longer match its name

Messages name tables, columns, line numbers and limits; none holds a cell of anybody's data.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Every code of InvalidUpload with what the provider does next; the codes are stable, the hints are prose.
UPLOAD_HINTS = {
    "unsupported_format": "Send Parquet or CSV (UTF-8, optionally gzip or zstd); other formats are not read.",
    "not_parquet": "Export the table again as Parquet, or send it as CSV.",
    "truncated_file": "The file ends too early: send it again and compare its size with the original.",
    "damaged_file": "The file's contents do not match its own structure: export it again.",
    "encrypted_file": "Send the file without encryption: nobody here has its key.",
    "empty_file": "Send a file with a header and at least one row.",
    "broken_rows": "Correct the rows named in the message, or quote their text as RFC 4180 asks.",
    "not_utf8": "Save the file as UTF-8 and send it again.",
    "column_missing": "Add the column to the file, or name an existing one.",
    "unit_missing": "Name the column that identifies the privacy unit as it is spelt in the file's header.",
    "unit_empty": "No row names its privacy unit: check that the unit column is the right one.",
    "key_not_unique": "A path of the policy leads to this column: each row needs a value there of its own.",
    "duplicate_column": "Give every column a name of its own; letter case does not tell names apart.",
    "bad_column_name": "Use 1 to 128 printable characters without quotes, backslashes or outer spaces.",
    "bad_table_name": "Use a letter followed by up to 62 letters, digits or underscores.",
    "unsupported_type": "Use numbers, text, true/false, dates or timestamps, one value per cell.",
    "value_out_of_range": "Keep whole numbers within 64 bits and dates within the years 1 to 9999.",
    "too_many_columns": "Leave out columns that buyers will not ask about, or split the table.",
    "too_many_rows": "Split the table, or ask the operator to raise the limit.",
    "file_too_large": "Split the table, or ask the operator to raise the limit.",
    "cell_too_large": "Shorten the longest texts, or leave their column out.",
    "expands_too_much": "The file unpacks to far more than its size: send it less compressed, or split it.",
    "took_too_long": "Split the table into smaller files, or ask the operator to raise the time limit.",
    "unreadable_file": "The file could not be read: export it again with a current program.",
}


class BrokenRow(NamedTuple):
    """A row that could not be read: the line of the file it starts on (the header is line 1), and why."""

    line: int
    reason: str


class CatalogError(Exception):
    """Base of every error of this package.

    Attributes:
        code: stable snake_case name of what happened.
        hint: what to do next, as a sentence.
    """

    code: str = "catalog_error"
    hint: str = "See the message."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class InvalidUpload(CatalogError):
    """A file that is refused as a whole: nothing of it is kept.

    Attributes:
        table: name of the table that the file was to become.
        row: line of the first broken row, where one is to blame.
        column: name of the column, where one is to blame.
        broken_rows: the first broken rows, at most 20.
        broken_count: how many rows are broken in all.
    """

    code = "invalid_upload"
    hint = "Correct the file and send it again."

    def __init__(
        self,
        code: str,
        message: str,
        *,
        table: str,
        row: int | None = None,
        column: str | None = None,
        broken_rows: Sequence[BrokenRow] = (),
        broken_count: int = 0,
    ) -> None:
        super().__init__(message, hint=UPLOAD_HINTS[code])
        self.code = code
        self.table = table
        self.row = row
        self.column = column
        self.broken_rows = tuple(broken_rows)
        self.broken_count = broken_count


class _AtPath(CatalogError):
    """An error at one place of a document; ``path`` is dotted: ``tables.flights.columns.origin``."""

    def __init__(self, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message, hint=hint)
        self.path = path


class InvalidManifest(_AtPath):
    """A manifest that is not well formed, names an unknown field, or points outside its folder."""

    code = "manifest_invalid"
    hint = "Correct the manifest at the named field."


class PolicyMismatch(_AtPath):
    """The policy and the files name different things. Publishing fails closed.

    ``code`` is ``policy_unknown_column`` or ``policy_unknown_table`` where the policy names what no file has,
    ``policy_undeclared_column`` or ``policy_undeclared_table`` where a file has what the policy does not
    know.
    """

    code = "policy_mismatch"
    hint = "Make the policy name exactly the tables and columns of the files."

    def __init__(self, code: str, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(path, message, hint=hint)
        self.code = code


class InvalidSlug(CatalogError):
    """A dataset name that is not two lower-case words joined by a slash."""

    code = "slug_invalid"
    hint = "Use lower-case letters, digits and hyphens: `provider/dataset`, such as `nyc/flights`."


class InvalidPage(CatalogError):
    """A page token that is damaged or belongs to another search."""

    code = "page_token_invalid"
    hint = "Start again without a page token; use the token of the page before, with the same search."


class NotFound(CatalogError):
    """Nothing of that name is visible to the reader; withdrawn, foreign and unknown ones look alike."""

    code = "dataset_not_found"
    hint = "Check the name; search lists what is published."


class SlugTaken(CatalogError):
    """A dataset of this name exists already."""

    code = "slug_taken"
    hint = "Choose another name."


class ListingState(CatalogError):
    """The listing's state does not allow this step; ``code`` names the state that stands in the way."""

    code = "listing_state"
    hint = "Look at the listing's state first."

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class ObjectsUnavailable(CatalogError):
    """The object store does not answer, or takes nothing, at the moment."""

    code = "objects_unavailable"
    hint = "Repeat the request with the same key in a few seconds: what was done already is not done twice."
    retry_after_s = 5


class ObjectDamaged(CatalogError):
    """A stored file no longer has the bytes that its name promises: a defect of the disk, or a forgery."""

    code = "object_damaged"
    hint = "Restore the object store from a backup; the operator is needed."


def nearest(name: object, known: Iterable[str]) -> str:
    """A clause that points to the known name nearest to ``name``, or lists the known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), [each.lower() for each in names], n=1, cutoff=0.5)
    if near:
        return f"did you mean `{next(each for each in names if each.lower() == near[0])}`?"
    return f"known are: {', '.join(names[:20])}" if names else "none are known"
