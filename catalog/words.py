"""Texts as words to search by, the same on every database (pure).

Letters are compared without case, accents and width. Scripts that put no space between words - Chinese,
Japanese, Korean with its particles, Thai and its neighbours - are taken as overlapping pairs of characters:
a run of them in a question is found wherever it stands, as in a search for a part of the text.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import groupby, pairwise

MOST_TERMS = 8
"""So many words of a question count; what follows is left aside."""
_LONGEST_WORD = 64
_ACCENTS = re.compile("[\u0300-\u036f]")
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1100, 0x11FF),  # Hangul letters
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # kana
    (0x3130, 0x318F),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),  # Chinese characters
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),  # Hangul syllables
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True, slots=True)
class Term:
    """What must occur: words one after the other; with ``begins`` a single word that may go on."""

    words: tuple[str, ...]
    begins: bool


def fold(text: str) -> str:
    """The text without case, accents and differences of width (Unicode NFKC, case folding)."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", plain)


def words_of(text: str) -> list[str]:
    """The words that a text is found by, in its order."""
    found: list[str] = []
    for run, unspaced in _runs(text):
        # The last character stands alone too: so a single one is found wherever it stands.
        found += [*_pairs(run), run[-1]] if unspaced else [run[:_LONGEST_WORD]]
    return found


def terms_of(question: str) -> list[Term]:
    """What must occur in a text for the question; none where it has no letter and no digit."""
    terms = [
        Term(tuple(_pairs(run[:_LONGEST_WORD])), begins=False)
        if unspaced and len(run) > 1
        else Term((run[:_LONGEST_WORD],), begins=True)
        for run, unspaced in _runs(question)
    ]
    return list(dict.fromkeys(terms))[:MOST_TERMS]


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in pairwise(run)]


def _runs(text: str) -> list[tuple[str, bool]]:
    """Unbroken runs of letters and digits, each of scripts with spaces or of those without."""
    return [("".join(run), kind == 2) for kind, run in groupby(fold(text), key=_kind) if kind]


def _kind(character: str) -> int:
    """0: between words; 1: of a word; 2: of a script without spaces."""
    if not (character.isalnum() or unicodedata.category(character)[0] == "M"):
        return 0
    code = ord(character)
    return 2 if code >= 0x0E00 and any(low <= code <= high for low, high in _UNSPACED) else 1
