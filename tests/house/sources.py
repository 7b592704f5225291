"""The project's own files, as the rules of the house read them."""

from __future__ import annotations

import ast
import fnmatch
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("catalog", "exchange", "privacy", "settlement")
DOMAINS = ("catalog", "privacy", "settlement")


@dataclass(frozen=True)
class Source:
    """One text file: its path from the root, with slashes, and its text."""

    path: str
    text: str

    @property
    def room(self) -> str:
        """The first folder of the path, or the file's own name at the root."""
        return self.path.split("/")[0]

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py")

    @property
    def in_packages(self) -> bool:
        return self.is_python and self.room in PACKAGES

    @property
    def in_domains(self) -> bool:
        return self.is_python and self.room in DOMAINS

    @property
    def in_tests(self) -> bool:
        return self.room == "tests"

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @cached_property
    def syntax(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """Each node's parent in :attr:`syntax`."""
        return {child: node for node in ast.walk(self.syntax) for child in ast.iter_child_nodes(node)}

    def at(self, node: ast.AST | int, finding: str) -> str:
        """A finding with its place, as ``path:line: finding``."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {finding}"


def read(root: Path) -> list[Source]:
    """Every text file under ``root`` that is or would be tracked; binary files are left out.

    Asks git where ``root`` is a checkout, so that a rule bites before the commit, and else (an exported tree)
    walks the folders without what ``.gitignore`` names.
    """
    paths = sorted(_from_git(root) or _from_walk(root))
    return [Source(path, text) for path in paths if (text := _text(root / path)) is not None]


def _from_git(root: Path) -> list[str]:
    if not (root / ".git").exists():
        return []
    command = ["git", "-C", str(root), "-c", f"safe.directory={root}", "ls-files"]
    listed = subprocess.run(
        [*command, "--cached", "--others", "--exclude-standard", "-z"], capture_output=True, check=False
    )
    return listed.stdout.decode().split("\0")[:-1] if listed.returncode == 0 else []


def _from_walk(root: Path) -> Iterator[str]:
    ignore_file = root / ".gitignore"
    ignored = ignore_file.read_text().split() if ignore_file.exists() else []
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if name != ".git" and not _is_ignored(here / name, ignored)]
        for name in files:
            if not _is_ignored(here / name, ignored):
                yield (here / name).as_posix()


def _is_ignored(path: Path, patterns: list[str]) -> bool:
    """The part of gitignore's language that this project uses: names and paths from the root, with ``*``."""
    bare = [pattern.rstrip("/") for pattern in patterns]
    return any(fnmatch.fnmatch(path.as_posix() if "/" in p else path.name, p) for p in bare)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return None
