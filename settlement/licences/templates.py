"""Licences to start from, written by us: a text and terms each, as data files of this package.

None of them is legal advice, and each is to be read before it is used. They follow the manner of known
licences where they say so, in words of their own.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from settlement.documents import unknown_name
from settlement.errors import LicenceInvalid
from settlement.licences.odrl import from_odrl
from settlement.licences.terms import LicenceTerms

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER = "template_files"


@dataclass(frozen=True, slots=True)
class Template:
    """A licence to start from. ``about`` says for whom it is, ``terms`` is a document of terms."""

    name: str
    title: str
    about: str
    text: str
    terms: dict[str, Any] = field(hash=False)


@cache
def templates() -> dict[str, Template]:
    """All templates by name, in the order of their names."""
    folder = resources.files("settlement.licences").joinpath(_FOLDER)
    files = sorted((one for one in folder.iterdir() if one.name.endswith(".toml")), key=lambda one: one.name)
    found = {}
    for file in files:
        name = file.name.removesuffix(".toml").replace("_", "-")
        found[name] = Template(name=name, **tomllib.loads(file.read_text(encoding="utf-8")))
    return found


def find_template(name: object) -> Template:
    """A template by name. LicenceInvalid with the nearest known one."""
    found = templates().get(name) if isinstance(name, str) else None
    if found is None:
        raise LicenceInvalid("template", unknown_name(name, templates()))
    return found


def written_out(title: str, text: str, terms: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Title, text and terms of a licence as it is stored, from how a provider may write it.

    ``terms`` may name a ``template``, whose title, text and terms stand where none is written, or hold a
    policy as ``odrl`` in place of all terms. LicenceInvalid for what is unknown, broken, or missing.
    """
    given = dict(terms)
    if "template" in given:
        template = find_template(given.pop("template"))
        title, text = title or template.title, text or template.text
        given = given if "odrl" in given else {**template.terms, **given}
    if "odrl" in given:
        policy = given.pop("odrl")
        if given:
            raise LicenceInvalid(f"terms.{min(given)}", "stands in the policy where one is given as odrl")
        if not isinstance(policy, dict):
            raise LicenceInvalid("odrl", "must be an object")
        read = from_odrl(policy)
    else:
        read = LicenceTerms.from_document(given)
    for name, value in (("title", title), ("text", text)):
        if not value.strip():
            raise LicenceInvalid(name, "must be given, unless a template is named")
    return title, text, read.document
