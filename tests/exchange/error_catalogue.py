"""The table of ``docs/errors.md``: ``python -m tests.exchange.error_catalogue`` writes it from the code."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import catalog
import exchange
import privacy
import settlement
from catalog.errors import UPLOAD_HINTS
from exchange.client.errors import from_problem
from exchange.store import REFUSALS
from exchange.web.errors import STATUS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "errors.md"
BEGIN, END = "<!-- made from the code: begin -->\n", "<!-- made from the code: end -->\n"

#: What the web framework refuses before a command is reached, and codes that a class gives its instances.
WITHOUT_CLASS = {
    "bad_request": ("The request is not one that HTTP knows, or a form is stale.", "Open the page again."),
    "method_not_allowed": (
        "There is no such method at this address.",
        "Compare the request with /openapi.json.",
    ),
    "unsupported_media_type": ("The body is of another type.", "Send Content-Type: application/json."),
    "server_error": (
        "A defect on the exchange's side.",
        "Try again with the same Idempotency-Key: nothing is charged twice. Report the request id.",
    ),
    "query_timeout": ("The query took longer than the operator allows.", "Ask for less at once."),
    "query_too_large": ("The result is larger than the operator allows.", "Ask for fewer groups."),
    "listing_deprecated": (
        "The dataset takes no new buyers.",
        "Look for another one; a grant that you hold goes on until it ends.",
    ),
    "listing_draft": ("The dataset was never published.", "Publish a version first."),
    "listing_published": ("The dataset is on offer already.", "Look at the listing's state first."),
    "listing_withdrawn": ("The dataset was withdrawn, for good.", "Publish under a new name."),
    "policy_unknown_table": (
        "The policy names a table without a file.",
        "Correct the name, or add the file.",
    ),
    "policy_unknown_column": ("The policy names a column that the file lacks.", "Correct the name."),
    "policy_undeclared_table": (
        "A file's table is not in the policy.",
        "Declare its unit, or that it is public.",
    ),
    "policy_undeclared_column": ("A file's column is not in the policy.", "Declare it, or leave it out."),
}


@dataclass(frozen=True)
class Told:
    """What is told of a code: its meaning and the next step."""

    code: str
    meaning: str
    hint: str

    def row(self) -> str:
        """A row of the table."""
        status = STATUS[self.code]
        kind = type(from_problem({"code": self.code}, status=status)).__name__
        cells = (f"`{self.code}`", str(status), f"`{kind}`", self.meaning, self.hint)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def error_classes() -> list[type[Exception]]:
    """Every error class of every package of the server, once its module is loaded."""
    for package in (catalog, exchange, privacy, settlement):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not re.search(r"__main__|\.cli|\.client|\.migrations|worker$|serving$|demo", module.name):
                importlib.import_module(module.name)
    return sorted(
        {kind for base in REFUSALS for kind in _tree(base)},
        key=lambda kind: (kind.__qualname__, kind.__module__),
    )


def sql_codes() -> set[str]:
    """The codes of the compiler's refusals, as they stand in its source."""
    place = {"Refused": 0, "refuse": 1, "_refuse_at": 2, "NotFixed": 0}
    found: set[str] = set()
    for path in sorted((ROOT / "privacy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                index = place.get(ast.unparse(node.func).rpartition(".")[2])
                if index is not None and len(node.args) > index:
                    found |= set(_constants(node.args[index]))
    return found


def catalogue() -> dict[str, Told]:
    """What is told of every code but the compiler's."""
    told = {code: Told(code, *texts) for code, texts in WITHOUT_CLASS.items()}
    for code, hint in UPLOAD_HINTS.items():
        told[code] = Told(code, f"The file is refused: {code.replace('_', ' ')}.", hint)
    for kind in error_classes():
        code = str(getattr(kind, "code", ""))
        if not kind.__name__.startswith("_") and kind not in (*REFUSALS, privacy.Refused):
            told.setdefault(code, Told(code, _first_sentence(kind), str(getattr(kind, "hint", ""))))
    return told


def table() -> str:
    """The table, by status and code."""
    rows = sorted(catalogue().values(), key=lambda told: (STATUS[told.code], told.code))
    head = "| code | status | in Python | what happened | what to do |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(f"{told.row()}\n" for told in rows)


def documented(page: str) -> str:
    """The part of the page that is made from the code."""
    return page.partition(BEGIN)[2].partition(END)[0]


def _tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def _constants(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def _first_sentence(kind: type[Exception]) -> str:
    text = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    return re.sub(r"``", "`", re.split(r"(?<=\.)\s", text)[0])


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}")
