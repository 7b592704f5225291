"""Rules about files: size, name and what may not be in them. Each yields findings as ``path:line: text``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from tests.house.sources import Source

Function = ast.FunctionDef | ast.AsyncFunctionDef

MOST_FILE_LINES = 600
MOST_FUNCTION_LINES = 70
LONGEST_ASSET_LINE = 2000
MIGRATIONS = "exchange/migrations/versions/"
VAGUE = re.compile(r"^(utils?|helpers?|common|core|managers?|misc)$")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b|#\s*(?i:stub)\b")
CONFLICT = re.compile(r"^(<{7}|>{7}|[|]{7}) ")
MACHINE_PATH = re.compile(r"/(work|root|tmp|farm)/|(?<![\w./-])/(home|Users)/\w")
INDEX_ADDRESS = re.compile(
    r"https?://[^\s\"']*(/simple\b|registry|pythonhosted)|--(extra-)?index-url|--find-links"
)
BUNDLE_NAME = re.compile(r"\.min\.(js|css)$|\.(js|css)\.map$")
BUNDLE_FOLDERS = {"vendor", "third_party", "node_modules", "bower_components"}
BUNDLE_BANNER = re.compile(r"/\*!|@license\b|//# sourceMappingURL=")


def long_files(sources: Iterable[Source]) -> Iterator[str]:
    """A file that nobody reads in one sitting holds two rooms."""
    for source in sources:
        lines = len(source.text.splitlines())
        if source.is_python and lines >= MOST_FILE_LINES:
            yield source.at(1, f"has {lines} lines, under {MOST_FILE_LINES} are allowed")


def long_functions(sources: Iterable[Source]) -> Iterator[str]:
    """A function fits on a screen; a migration is a list of tables, written once and never changed."""
    for source, node in _functions(sources):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines >= MOST_FUNCTION_LINES and not source.path.startswith(MIGRATIONS):
            yield source.at(node, f"{node.name} has {lines} lines, under {MOST_FUNCTION_LINES} are allowed")


def vague_modules(sources: Iterable[Source]) -> Iterator[str]:
    """A module is named after what it holds; drawers for everything fill up."""
    for source in sources:
        if source.is_python:
            for part in PurePosixPath(source.path).with_suffix("").parts:
                if VAGUE.match(part):
                    yield source.at(1, f"'{part}' says nothing: give its contents a home")


def unfinished(sources: Iterable[Source]) -> Iterator[str]:
    """What is there works: no note to oneself, no function without a body."""
    for source in sources:
        if not source.in_tests and source.path.endswith((".py", ".html", ".css", ".js", ".md", ".toml")):
            for number, line in enumerate(source.text.splitlines(), 1):
                if found := UNFINISHED.search(line):
                    yield source.at(number, f"unfinished: {found.group()}")
    for source, node in _functions(sources):
        if _is_hollow(source, node) and not _is_declaration(source, node):
            yield source.at(node, f"{node.name} has no body")


def conflict_markers(sources: Iterable[Source]) -> Iterator[str]:
    """Two versions of one text were both kept by a merge that nobody finished."""
    yield from _lines(sources, CONFLICT, "the mark of an unfinished merge", skip_tests=False)


def machine_paths(sources: Iterable[Source]) -> Iterator[str]:
    """Nothing depends on the machine that it was written on."""
    yield from _lines(sources, MACHINE_PATH, "a path of one machine", skip_tests=True)


def index_addresses(sources: Iterable[Source]) -> Iterator[str]:
    """Where packages come from is the installer's setting, not the project's."""
    yield from _lines(sources, INDEX_ADDRESS, "the address of a package index", skip_tests=True)


def third_party_assets(sources: Iterable[Source]) -> Iterator[str]:
    """Others' code comes from packages at install time, never as a copy in the tree."""
    for source in sources:
        parts = PurePosixPath(source.path)
        asset = parts.suffix in {".js", ".css", ".map"}
        if BUNDLE_NAME.search(source.path) or BUNDLE_FOLDERS & set(parts.parts):
            yield source.at(1, "looks like others' code")
        elif asset and BUNDLE_BANNER.search(source.text):
            yield source.at(1, "carries the banner of others' code")
        elif asset and max(map(len, source.text.splitlines()), default=0) > LONGEST_ASSET_LINE:
            yield source.at(1, "is minified")


def _lines(
    sources: Iterable[Source], pattern: re.Pattern[str], what: str, *, skip_tests: bool
) -> Iterator[str]:
    for source in sources:
        if source.in_tests and skip_tests:
            continue
        for number, line in enumerate(source.text.splitlines(), 1):
            if found := pattern.search(line):
                yield source.at(number, f"{what}: {found.group()}")


def _functions(sources: Iterable[Source]) -> Iterator[tuple[Source, Function]]:
    for source in sources:
        if source.is_python:
            for node in ast.walk(source.syntax):
                if isinstance(node, Function):
                    yield source, node


def _is_hollow(source: Source, node: Function) -> bool:
    """Only a docstring, ``pass`` or ``...``; a method may say in its docstring why it has nothing to do."""
    if ast.get_docstring(node) and isinstance(source.parents.get(node), ast.ClassDef):
        return False
    return all(
        isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in node.body
    )


def _is_declaration(source: Source, node: Function) -> bool:
    """A protocol's or abstract method, an overload, or a decorated function that works by being there."""
    if node.decorator_list or source.in_tests:
        return True
    parent = source.parents.get(node)
    return isinstance(parent, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in parent.bases)
