"""Every text of the pages is there in every language, whole and with what is filled in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Message

from tests.house import translations

TEMPLATES = sorted((translations.WEB / "templates").rglob("*.html"))
_BARE = re.compile(
    r"{#.*?#}|{%-?\s*trans\b.*?{%-?\s*endtrans\s*-?%}|{%.*?%}|{{.*?}}|<(pre|script|code)\b.*?</\1>|<[^>]*>",
    re.S,
)
#: Names and symbols that are the same in every language.
SAME = {
    "rho",
    "Rho",
    "epsilon",
    "delta",
    "SHA",
    "SQL",
    "API",
    "PDF",
    "JSON",
    "CSV",
    "UTC",
    "Stripe",
    "Python",
    "verify",
    "py",
}


@pytest.mark.parametrize("language", translations.TRANSLATED)
def test_every_text_is_translated(language: str) -> None:
    found = translations.extracted()
    kept = translations.kept(language)
    wrong = [
        f"{message.id}: {fault}"
        for message in found
        if message.id
        for fault in translations.faults(message, kept.get(message.id))
    ]
    assert not wrong, "run `make translations`, then translate\n" + "\n".join(wrong)
    assert translations.path_of(language).read_text(encoding="utf-8") == translations.updated(language)
    assert len(found) > 500


def test_a_fault_of_a_translation_is_found() -> None:
    def faults(source: str, translated: str, **more: bool) -> list[str]:
        message = Message(source, string=translated, flags=("fuzzy",) if more else ())
        return translations.faults(Message(source), message)

    assert faults("Spent %(rho)s of <b>all</b>", "<b>모두</b> %(rho)s") == []
    assert faults("Spent", "") == ["not translated"]
    assert faults("Spent", "썼음", fuzzy=True) == ["fuzzy"]
    assert faults("Spent %(rho)s", "썼음") == ["['%(rho)s'] in one of both alone"]
    assert faults("<b>Spent</b>", "<i>썼음</i>") == ["['</b>', '</i>', '<b>', '<i>'] in one of both alone"]
    assert faults("95%%", "95%") == ["a single % that fills nothing in"]
    assert translations.faults(Message("Spent"), None) == ["not translated"]
    many = Message(("%(num)s day", "%(num)s days"), string=("하루",))
    assert translations.faults(many, many) == ["['%(num)s'] in one of both alone"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_text_of_a_template_is_unmarked(path: Path) -> None:
    assert unmarked(path.read_text(encoding="utf-8")) == []


def test_an_unmarked_text_is_found() -> None:
    assert unmarked("<p>Fine</p>{{ _('Good') }}<pre>code</pre>{% trans %}Good{% endtrans %} rho") == ["Fine"]


def unmarked(template: str) -> list[str]:
    """Words of a template that stand outside of any marked text."""
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"&\w+;", " ", _BARE.sub(" ", template)))
    return [word for word in words if word not in SAME]
