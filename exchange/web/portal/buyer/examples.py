"""Statements to begin with, made of what a listing declares alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flask_babel import gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_TABLES = 3


def examples_of(tables: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Statements with a few words on each: a count, a count and a sum by key; private tables first."""
    made: list[dict[str, str]] = []
    for table in sorted(tables, key=lambda one: bool(one["public"]))[:_TABLES]:
        made += _of_public(table) if table["public"] else _of_private(table)
    return made


def _of_private(table: Mapping[str, Any]) -> list[dict[str, str]]:
    name, columns = _name(table["name"]), table["columns"]
    key = next((one["name"] for one in columns if isinstance(one.get("keys"), list)), None)
    number = next((one["name"] for one in columns if one.get("bounds") and _is_number(one)), None)
    made = [
        {
            "says": _("How many rows %(table)s has", table=table["name"]),
            "sql": f"select count(*) as n\nfrom {name}",
        }
    ]
    if key is not None:
        sql = f"select {_name(key)}, count(*) as n\nfrom {name}\ngroup by {_name(key)}"
        made.append({"says": _("How many by %(key)s", key=key), "sql": sql})
    if key is not None and number is not None:
        total = f"sum({_name(number)}) as total"
        sql = f"select {_name(key)}, {total}\nfrom {name}\ngroup by {_name(key)}"
        made.append({"says": _("The total of %(number)s by %(key)s", number=number, key=key), "sql": sql})
    return made


def _of_public(table: Mapping[str, Any]) -> list[dict[str, str]]:
    some = ", ".join(_name(one["name"]) for one in table["columns"][:4])
    sql = f"select {some}\nfrom {_name(table['name'])}"
    return [{"says": _("%(table)s, which is public and exact", table=table["name"]), "sql": sql}]


def _is_number(column: Mapping[str, Any]) -> bool:
    return not any(isinstance(end, str) for end in column["bounds"])


def _name(name: str) -> str:
    """A name as SQL writes it."""
    return name if _PLAIN.fullmatch(name) else '"{}"'.format(name.replace('"', '""'))
