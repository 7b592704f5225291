"""The texts of the pages and their translations.

``python -m tests.house.translations`` (`make translations`) takes new texts over into the files of the
languages, where they wait to be translated.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po, write_po

from exchange.web.languages import LANGUAGES
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WEB = ROOT / "exchange" / "web"
TRANSLATED = [language for language in LANGUAGES if language != "en"]
KEYWORDS = {**DEFAULT_KEYWORDS, "lazy_gettext": None, "lazy_ngettext": (1, 2)}
_HEADER = """msgid ""
msgstr ""
"Language: {language}\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plural}\\n"

"""


def extracted() -> Catalog:
    """Every text that is marked in the web's templates and modules."""
    with (WEB / "translations" / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    found = Catalog(charset="utf-8")
    for _, _, text, comments, context in extract_from_dir(str(WEB), methods, options, KEYWORDS):
        found.add(text, None, auto_comments=comments, context=context)
    return found


def path_of(language: str) -> Path:
    """The file of a language."""
    return WEB / "translations" / language / "LC_MESSAGES" / "messages.po"


def kept(language: str) -> Catalog:
    """The translations of a language; nothing where it has none yet."""
    place = path_of(language)
    text = place.read_bytes() if place.exists() else b""
    return read_po(BytesIO(text), locale=language, charset="utf-8")


def updated(language: str) -> str:
    """A language's file with the texts of today: new ones empty, those that are gone left out.

    Neither dates nor places are in it, and texts stand in the order of the alphabet, so that a change of it
    is as large as the change of the texts.
    """
    catalogue = kept(language)
    catalogue.update(extracted(), no_fuzzy_matching=True)
    written = BytesIO()
    write_po(
        written,
        catalogue,
        width=0,
        no_location=True,
        omit_header=True,
        sort_output=True,
        ignore_obsolete=True,
    )
    head = _HEADER.format(language=language, plural=catalogue.plural_forms)
    return head + written.getvalue().decode().strip() + "\n"


def placeholders(text: str) -> set[str]:
    """What is filled into a text, and the markup that it holds."""
    return set(re.findall(r"%\(\w+\)[a-z]|<[^>]+>", text))


def faults(source: Message, translated: Message | None) -> list[str]:
    """What is wrong with the translation of a text."""
    if translated is None or not all(strings(translated)):
        return ["not translated"]
    wanted, found = strings_of_id(source), strings(translated)
    wrong = ["fuzzy"] if translated.fuzzy else []
    for text in found:
        if placeholders(text) != placeholders(wanted[-1]):
            wrong.append(f"{sorted(placeholders(text) ^ placeholders(wanted[-1]))} in one of both alone")
        if text.replace("%%", "").count("%") != len(re.findall(r"%\(\w+\)[a-z]", text)):
            wrong.append("a single % that fills nothing in")
    return wrong


def strings(message: Message) -> list[str]:
    """The forms of a translation."""
    return [message.string] if isinstance(message.string, str) else list(message.string or ("",))


def strings_of_id(message: Message) -> list[str]:
    """The forms of a text: one, or one and many."""
    return [message.id] if isinstance(message.id, str) else list(message.id)


def main() -> None:
    """Write every language's file anew."""
    for language in TRANSLATED:
        text = updated(language)
        path_of(language).parent.mkdir(parents=True, exist_ok=True)
        path_of(language).write_text(text, encoding="utf-8")
        waiting = sum(1 for one in kept(language) if one.id and not all(strings(one)))
        print(f"{language}: {len(kept(language))} texts, {waiting} to be translated")


if __name__ == "__main__":
    main()
