"""`verify.py`: the verifier as one readable file, made of the very modules that the exchange itself uses.

Each module becomes one function whose body is the module's source, and whose local names are the module's: so
Python itself keeps apart what two modules call by one name, and no line of a module is written anew but its
imports of the others. The same source always gives the same bytes.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.resources
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from exchange.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY = "verifier"
"""The module whose `main` the file runs."""
_PACKAGE = "exchange.audit"
_HEADER = '''\
#!/usr/bin/env python3
"""Verifies an exchange's audit log, its receipts and its proofs: version {version}.

    python verify.py log FOLDER_OR_ZIP --origin NAME --key KEY [--checkpoint SAVED] [--witness KEY] [--json]
    python verify.py receipt FILE --key KEY --receipt-key KEY [--result FILE] [--licence FILE]
    python verify.py proof FILE.tlog-proof --key KEY [--leaf FILE] [--witness KEY]
    python verify.py evidence FILE.zip --key KEY --receipt-key KEY [--witness KEY]

With --follow-keys [FILE], each also believes the keys that the log's published statements lead to.

Needs Python 3.11 or later and the package `cryptography`; opens no network and no database. Exit code 0
is good, 10 truncated, 11 altered, inserted or reordered, 12 fork, 13 signature, 14 gap, 15 malformed, 16 too
few witnesses; 2 is wrong usage or a file that cannot be opened, 3 that `cryptography` is missing.

Made by `exchange audit verifier` of private-data-exchange {version}. Each function on the first level is one
module of its package exchange.audit, word for word but for the imports:
{modules}.

Who does not trust the copy at hand makes it again from the published source and compares: one version
always gives the same bytes, so these print the same hash:

    sha256sum verify.py
    exchange audit verifier - | sha256sum

Licence: Apache-2.0.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
'''
_SECTION = """

def _{name}() -> SimpleNamespace:
{body}

    return SimpleNamespace(**locals())


{name} = _{name}()
"""
_FOOTER = """

if __name__ == "__main__":
    sys.exit({entry}.main())
"""


@dataclass(frozen=True)
class _Import:
    """What a statement takes from other modules: these, and (there, here) for each name."""

    modules: set[str]
    names: list[tuple[str, str]]

    def assignment(self) -> str:
        """The import as an assignment; nothing for a module under its own name, which is there already."""
        there, here = zip(*[pair for pair in self.names if pair[0] != pair[1]] or [("", "")], strict=True)
        return f"{', '.join(here)} = {', '.join(there)}" if there != ("",) else ""


@cache
def source() -> str:
    """The text of `verify.py`."""
    trees = _modules(ENTRY)
    order = _in_order({name: _needs(tree) for name, (_, tree) in trees.items()})
    parts = [_HEADER.format(version=__version__, modules=_listed(order))]
    parts += [_section(name, *trees[name]) for name in order]
    return "".join(parts) + _FOOTER.format(entry=ENTRY)


def _listed(order: list[str]) -> str:
    return textwrap.fill(", ".join(order), 100)


def sha256() -> str:
    """The SHA-256 of the file's bytes, in hex."""
    return hashlib.sha256(source().encode()).hexdigest()


def _in_order(needs: dict[str, set[str]]) -> list[str]:
    """The modules, each behind those that it needs, and otherwise by name."""
    sorter, order = TopologicalSorter(needs), []
    sorter.prepare()
    while ready := sorted(sorter.get_ready()):
        order += ready
        sorter.done(*ready)
    return order


def _modules(first: str) -> dict[str, tuple[str, ast.Module]]:
    """Source and syntax tree of a module and of all that it needs, by name and in a fixed order."""
    found: dict[str, tuple[str, ast.Module]] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name not in found:
            text = (importlib.resources.files(_PACKAGE) / f"{name}.py").read_text(encoding="utf-8")
            found[name] = text, ast.parse(text)
            waiting += _needs(found[name][1])
    return dict(sorted(found.items()))


def _needs(tree: ast.Module) -> set[str]:
    found = [_imported(node) for node in _running(tree)]
    return {module for imported in found if imported for module in imported.modules}


def _running(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node of a module but those that only a type checker reads."""
    for statement in tree.body:
        if not _is_for_types(statement):
            yield from ast.walk(statement)


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imported(node: ast.AST) -> _Import | None:
    """What a statement imports from another module of the exchange."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("exchange"):
        return None
    pairs = [(alias.name, alias.asname or alias.name) for alias in node.names]
    if node.module == _PACKAGE:
        return _Import({name for name, _ in pairs}, pairs)
    package, _, module = (node.module or "").rpartition(".")
    assert package == _PACKAGE, f"the verifier must not need {node.module}"
    return _Import({module}, [(f"{module}.{there}", here) for there, here in pairs])


def _section(name: str, text: str, tree: ast.Module) -> str:
    """A module as a function: its lines indented, its imports of other modules as assignments."""
    lines: list[str | None] = list(text.splitlines())
    for node in _running(tree):
        if isinstance(node, ast.ImportFrom) and (_imported(node) or node.module == "__future__"):
            _replace(lines, node, _imported(node))
    for statement in tree.body:
        if _is_for_types(statement):
            _replace(lines, statement, None)
    fixed = _within_literals(tree)
    body = [
        line if number in fixed or not line else textwrap.indent(line, "    ")
        for number, line in enumerate(lines, 1)
        if line is not None
    ]
    squeezed = re.sub(r"\n{4,}", "\n\n\n", "\n".join(body).strip("\n"))
    return _SECTION.format(name=name, body=squeezed)


def _replace(lines: list[str | None], node: ast.stmt, imported: _Import | None) -> None:
    """Puts assignments in the place of a statement, or nothing."""
    first, last = node.lineno - 1, node.end_lineno or node.lineno
    lines[first:last] = [None] * (last - first)
    if imported and (written := imported.assignment()):
        lines[first] = " " * node.col_offset + written


def _within_literals(tree: ast.Module) -> set[int]:
    """Lines that begin within a text of several lines which is a value: indenting them would change it."""
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in described
        for line in range(node.lineno + 1, (node.end_lineno or 0) + 1)
    }
