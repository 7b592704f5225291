"""Rules that compare what is written with what is there: commands, settings, links, the lock."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.sources import Source

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
SETTING = re.compile(r"\bEXCHANGE_[A-Z0-9_]*[A-Z0-9]\b")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)
SHELL = {"sh", "bash", "shell", "console"}


@dataclass(frozen=True)
class Block:
    """A fenced block: the language after the fence, the line its text starts on, the text."""

    language: str
    line: int
    text: str


def blocks(text: str) -> list[Block]:
    """The fenced code blocks of a Markdown text, in order."""
    return [Block(m[1], text.count("\n", 0, m.start()) + 2, m[2]) for m in FENCE.finditer(text)]


def shell_commands(source: Source) -> Iterator[tuple[int, list[str]]]:
    """Commands of the shell blocks, as (line, words), without comments, prompts or assignments."""
    for block in blocks(source.text):
        if block.language in SHELL:
            for offset, line in enumerate(block.text.splitlines()):
                words = line.partition(" #")[0].removeprefix("$ ").split()
                while words and re.match(r"^[A-Z_]+=", words[0]):
                    words.pop(0)
                if words and not words[0].startswith("#"):
                    yield block.line + offset, words


def unknown_targets(sources: Iterable[Source], targets: Collection[str]) -> Iterator[str]:
    """Every ``make X`` in a document is a target of the Makefile."""
    for source in _documents(sources):
        for number, words in shell_commands(source):
            asked = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            for target in asked if words[0] == "make" else []:
                if target not in targets:
                    yield source.at(number, f"there is no `make {target}`")
        for found in re.finditer(r"`make ([a-z-]+)`", source.text):
            if found[1] not in targets:
                yield source.at(
                    source.text.count("\n", 0, found.start()) + 1, f"there is no `make {found[1]}`"
                )


def unknown_commands(sources: Iterable[Source], commands: Collection[str]) -> Iterator[str]:
    """Every ``exchange X`` in a shell block is one of ``commands`` ("publish", "org create" and so on)."""
    groups = {command.split()[0] for command in commands if " " in command}
    for source in _documents(sources):
        for number, words in shell_commands(source):
            if PurePosixPath(words[0]).name == "exchange" and len(words) > 1 and not words[1].startswith("-"):
                asked = " ".join(words[1:3] if words[1] in groups else words[1:2])
                if asked not in commands:
                    yield source.at(number, f"there is no `exchange {asked}`")


def broken_links(sources: Iterable[Source], pictures: Collection[str] = ()) -> Iterator[str]:
    """A link inside the project leads to a file or folder of it; ``pictures`` are its files without text."""
    files = list(sources)
    there = {source.path for source in files} | set(pictures)
    there |= {str(parent) for path in there for parent in PurePosixPath(path).parents}
    for source in _documents(files):
        for found in LINK.finditer(FENCE.sub("", source.text)):
            if "://" not in found[1] and not found[1].startswith("mailto:"):
                target = _resolve(PurePosixPath(source.path).parent, found[1])
                if target not in there:
                    yield source.at(1, f"leads nowhere: {found[1]}")


def settings_in(sources: Iterable[Source]) -> set[str]:
    """The ``EXCHANGE_*`` variables named in the files."""
    return {name for source in sources for name in SETTING.findall(source.text)}


def differing_settings(documented: Collection[str], read: Collection[str]) -> list[str]:
    """Settings that the documents name and the code does not read, and the other way round."""
    unread = [f"{name} is documented and never read" for name in sorted(set(documented) - set(read))]
    return unread + [f"{name} is read and not documented" for name in sorted(set(read) - set(documented))]


def setting_rows(settings: type[DataclassInstance], prefix: str = "EXCHANGE_") -> Iterator[str]:
    """A Markdown table row for each setting: variable, default, meaning; ``shown()`` tells the secrets."""
    shown = settings().shown()  # type: ignore[attr-defined]
    secret = {variable for variable, value, _ in shown if value == "(not read)"}
    for item in fields(settings):
        variable = prefix + item.name.upper()
        default = "none" if variable in secret else f"`{item.default}`" if str(item.default) else ""
        yield f"| `{variable}` | {default} | {item.metadata['text']} |"


def loose_pins(lock: str) -> Iterator[str]:
    """Every requirement of the lock has one version and at least one SHA-256."""
    for entry in re.split(r"\n(?=[A-Za-z0-9])", lock.strip()):
        if not PIN.match(entry) or not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry):
            yield f"not pinned with a hash: {entry.splitlines()[0]}"


def unlocked(pyproject: str, lock: str) -> Iterator[str]:
    """Every dependency, extras and build included, is in the lock in a version that the project allows."""
    project = tomllib.loads(pyproject)
    extras = project["project"].get("optional-dependencies", {})
    wanted = [*project["build-system"]["requires"], *project["project"].get("dependencies", [])]
    wanted += [requirement for extra in extras.values() for requirement in extra]
    pinned: dict[str, set[str]] = {}
    for name, version in PIN.findall(lock):
        pinned.setdefault(canonicalize_name(name), set()).add(version)
    for requirement in map(Requirement, wanted):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        if not versions or not all(requirement.specifier.contains(version) for version in versions):
            yield f"{requirement} is not met by the lock: {', '.join(sorted(versions)) or 'missing'}"


def targets(makefile: str) -> set[str]:
    """The targets of a Makefile that people call by name."""
    return set(TARGET.findall(makefile))


def _documents(sources: Iterable[Source]) -> Iterator[Source]:
    return (source for source in sources if source.path.endswith(".md"))


def _resolve(folder: PurePosixPath, link: str) -> str:
    parts = list(folder.parts)
    for part in PurePosixPath(link).parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return str(PurePosixPath(*parts))


def run_python(source: Source, replaced: dict[str, str]) -> int:
    """Run the ``python`` blocks of a document in order, in one namespace; returns how many there were.

    ``replaced`` maps texts of the document to those of the running example, such as its address and token. An
    error's traceback shows the document's path and line. An ``output`` block is what the block before it
    prints.

    Raises:
        AssertionError: a block prints something else than the document says.
    """
    names: dict[str, object] = {"__name__": source.path}
    found = [block for block in blocks(source.text) if block.language in ("python", "output")]
    printed = ""
    for block in found:
        if block.language == "output":
            assert printed.rstrip() == block.text.rstrip(), f"{source.path}:{block.line}: prints\n{printed}"
            continue
        text = "\n" * (block.line - 1) + block.text
        for old, new in replaced.items():
            text = text.replace(old, new)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, source.path, "exec"), names)
        printed = out.getvalue()
    return sum(block.language == "python" for block in found)
