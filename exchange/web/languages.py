"""The languages of the pages: which one a visitor reads, and how times, money and privacy are written in it.

Texts are written in English where they are shown, marked with gettext's ``_``; the other languages are
``translations/<locale>/LC_MESSAGES/messages.po`` beside this file (GNU gettext), read as they are when the
application is made, so that no compiled copy can be older than its source. What a language lacks is shown in
English.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import flask_babel
from babel import Locale, dates, numbers
from babel.messages import mofile, pofile
from babel.support import NullTranslations, Translations
from flask import request

from settlement.money import exponent_of

if TYPE_CHECKING:
    from flask import Flask

LANGUAGES = {"en": "English", "zh_Hans": "简体中文", "ko": "한국어"}
"""By locale, each in its own words."""
COOKIE = "language"
_SOURCE = "en"
_FOLDER = Path(__file__).with_name("translations")
_TAGS = {
    "en": "en",
    "zh-hans": "zh_Hans",
    "zh-cn": "zh_Hans",
    "zh-sg": "zh_Hans",
    "zh": "zh_Hans",
    "ko": "ko",
}
"""Language tags (BCP 47) that browsers send, and the language their reader gets. No ``zh-TW``: simplified
characters are not those that its readers asked for, and the next of their languages may be one of ours."""
_SORTABLE = "yyyy-MM-dd HH:mm:ss"


def install(app: Flask) -> None:
    """Give an application its languages; raises where a file of translations cannot be read."""
    app.jinja_env.policies["ext.i18n.trimmed"] = (
        True  # a text is the same however a template breaks its lines
    )
    babel = flask_babel.Babel(app, locale_selector=chosen)
    babel.domain_instance = _Catalogues()
    for language in LANGUAGES:
        _translations(language)


def chosen() -> str:
    """The locale of this request: what was chosen on a page, else what the browser asks for, else English."""
    kept = request.cookies.get(COOKIE, "")
    if kept in LANGUAGES:
        return kept
    for tag, _ in request.accept_languages:
        parts = tag.lower().split("-")
        for known in (tag.lower(), "-".join(parts[:2]), parts[0] if parts[:2] not in _OTHERS else ""):
            if known in _TAGS:
                return _TAGS[known]
    return _SOURCE


_OTHERS = (["zh", "hant"], ["zh", "tw"], ["zh", "hk"], ["zh", "mo"])


def html_tag() -> str:
    """The language of the page as HTML names it (BCP 47)."""
    return chosen().replace("_", "-")


def moment(text: str | None) -> str:
    """A time of ours (RFC 3339, UTC) to the second; English has it so that it sorts."""
    if not text:
        return "-"
    when = datetime.fromisoformat(text[:19])
    locale = _locale()
    pattern = _SORTABLE if locale.language == _SOURCE else "medium"
    return f"{dates.format_datetime(when, pattern, locale=locale)} UTC"


def money(minor: int | str | None, currency: str) -> str:
    """Minor units as an amount with the currency's decimals and its code (ISO 4217): a sign such as $ is that
    of many currencies."""
    if minor is None:
        return "-"
    decimals = exponent_of(currency)
    amount = Decimal(int(minor)).scaleb(-decimals)
    pattern = "#,##0" + ("." + "0" * decimals if decimals else "")
    return f"{numbers.format_decimal(amount, pattern, locale=_locale())} {currency}"


def number(value: int | float | None) -> str:
    """A number with its thousands apart."""
    return "-" if value is None else numbers.format_decimal(value, locale=_locale())


def territory(code: str) -> str:
    """A territory of a licence by name (ISO 3166, CLDR), with the code of a part of one."""
    name = _locale().territories.get(code.partition("-")[0])
    return code if name is None else f"{name} ({code})" if "-" in code else str(name)


def _locale() -> Locale:
    return flask_babel.get_locale() or Locale.parse(_SOURCE)


class _Catalogues(flask_babel.Domain):  # type: ignore[misc]
    """Translations straight from their sources."""

    def get_translations(self) -> NullTranslations:
        """Those of the request's language."""
        return _translations(str(_locale()))


@cache
def _translations(language: str) -> NullTranslations:
    source = _FOLDER / language / "LC_MESSAGES" / "messages.po"
    if language == _SOURCE or not source.exists():
        return NullTranslations()
    with source.open("rb") as file:
        catalogue = pofile.read_po(file, locale=language)
    compiled = BytesIO()
    mofile.write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)
