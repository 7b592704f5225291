"""Passwords: what one may be, and how it is kept. The only door to Argon2.

Kept as Argon2id with the second recommended parameters of RFC 9106 (64 MiB, three passes, four lanes), which
are above what OWASP's cheat sheet on password storage asks. A hash takes 64 MiB while it is computed, so that
only a few are at a time: a flood of sign-ins waits, and is refused rather than served with all memory.
"""

from __future__ import annotations

import contextlib
import re
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from argon2 import PasswordHasher, profiles
from argon2.exceptions import InvalidHashError, VerificationError

from exchange.errors import Overloaded, PasswordWeak
from exchange.store import assert_outside_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from argon2 import Parameters

SHORTEST, LONGEST = 12, 128
_PATIENCE_S = 5.0

# The list of common passwords is not kept but recognised: written plainly, without digits and marks around
# it, a common one is made of a few words that everybody takes, of runs of a keyboard, or of a piece repeated.
_SUBSTITUTES = str.maketrans(
    {"@": "a", "4": "a", "0": "o", "1": "i", "!": "i", "3": "e", "$": "s", "5": "s", "7": "t", "8": "b"}
)
_RUNS = (
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "1234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qazwsxedcrfvtgbyhnujmikolp",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
)  # fmt: skip
_WORDS = frozenset(
    """
    password passwort passwd pass word admin administrator root user guest login logon welcome willkommen
    hello letmein let me in open sesame secret geheim master test testing demo changeme change this default
    temp temporary iloveyou love you my your the a is i we it super man woman girl boy baby angel princess
    sunshine monkey dragon tiger lion eagle football baseball soccer basketball hockey shadow michael jordan
    superman batman starwars star wars trustno one two three four five six seven eight nine ten monday
    tuesday wednesday thursday friday saturday sunday january february march april may june july august
    september october november december spring summer autumn fall winter new old computer internet access
    qwerty abc home house family money freedom whatever nothing forever always never happy lucky flower
    cookie cheese chocolate pepper ginger charlie thomas daniel andrew robert jessica jennifer ashley killer
    hunter ranger thunder phoenix matrix ninja exchange private data market portal
    """.split()  # noqa: SIM905
)


class Passwords:
    """Hashes and verifies, a bounded number at a time. Safe to share between threads."""

    def __init__(self, *, at_once: int = 2, parameters: Parameters = profiles.RFC_9106_LOW_MEMORY) -> None:
        self._hasher = PasswordHasher.from_parameters(parameters)
        self._turns = threading.BoundedSemaphore(at_once)

    def hash(self, password: str) -> str:
        """The encoded hash of a password. Raises :class:`Overloaded` where no turn comes."""
        with self._turn():
            return self._hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether this is the password; without a stored hash the same work is done, and it never is."""
        known = stored is not None and len(password) <= LONGEST
        with self._turn():
            try:
                self._hasher.verify(stored if known and stored else self._nobodys, password[:LONGEST])
            except (VerificationError, InvalidHashError):
                return False
        return known

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than those in force."""
        return self._hasher.check_needs_rehash(stored)

    @cached_property
    def _nobodys(self) -> str:
        """The hash of no password, with the parameters in force."""
        return self._hasher.hash("the password of nobody")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        assert_outside_transaction()
        if not self._turns.acquire(timeout=_PATIENCE_S):
            raise Overloaded("too many people are signing in at this moment")
        try:
            yield
        finally:
            self._turns.release()


def check_strength(password: str, *, about: tuple[str, ...] = ()) -> None:
    """Raise :class:`PasswordWeak` unless a password is long enough and not a common one.

    No kind of character is asked for and none is refused (NIST SP 800-63B-4, 3.1.1.2). ``about`` are the
    person's login and name, which whoever guesses knows.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise PasswordWeak(f"a password has {SHORTEST} to {LONGEST} characters")
    if not password.isprintable():
        raise PasswordWeak("a password is made of characters that can be typed")
    if is_common(password, about=about):
        raise PasswordWeak("this password is one of those that are tried first")


def is_common(password: str, *, about: tuple[str, ...] = ()) -> bool:
    """Whether a password is built by one of the rules by which common passwords are."""
    lowered = password.lower()
    if _repeats(lowered) or _runs(lowered):
        return True
    own = {part for text in about for part in re.split(r"[\W_]+", text.lower()) if len(part) > 2}
    plain = lowered.strip("0123456789 !?.,;:#*+-_/@$%&=()")
    return any(
        _worded(re.sub(r"[\W\d_]+", "", text), _WORDS | own)
        for text in (plain, plain.translate(_SUBSTITUTES), lowered.translate(_SUBSTITUTES))
    )


def _repeats(text: str) -> bool:
    """Fewer than five different characters, or a piece of at most six written again and again."""
    return len(set(text)) < 5 or any(
        text == (text[:size] * (len(text) // size + 1))[: len(text)] for size in range(1, 7)
    )


def _runs(text: str) -> bool:
    """All of it but three characters lies in runs of four or more keys or letters that stand side by side."""
    inside = [False] * len(text)
    lines = [line for run in _RUNS for line in (run, run[::-1])]
    for start in range(len(text) - 3):
        if any(text[start : start + 4] in line for line in lines):
            inside[start : start + 4] = [True] * 4
    return inside.count(False) <= 3


def _worded(text: str, words: frozenset[str] | set[str]) -> bool:
    """Whether a text is empty or written with nothing but these words, at most four of them."""
    reached = {0: 0}
    for end in range(1, len(text) + 1):
        counts = [
            reached[start] + 1
            for start in range(max(0, end - 40), end)
            if start in reached and text[start:end] in words
        ]
        if counts:
            reached[end] = min(counts)
    return reached.get(len(text), 99) <= 4
