"""What statements have in common when their literals are left out; nothing is compiled for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlglot.tokenizer_core import TokenType

from privacy.query.text import tokens_of

_LITERALS = frozenset(
    {
        TokenType.NUMBER,
        TokenType.STRING,
        TokenType.NATIONAL_STRING,
        TokenType.RAW_STRING,
        TokenType.HEREDOC_STRING,
        TokenType.UNICODE_STRING,
        TokenType.BYTE_STRING,
        TokenType.BIT_STRING,
        TokenType.HEX_STRING,
        TokenType.TRUE,
        TokenType.FALSE,
    }
)


@dataclass(frozen=True)
class Skeleton:
    """A statement as a digest of its words, and the literals between them in their order.

    Attributes:
        digest: SHA-256 of the words; comments, white space and the case of what is not quoted do not count.
        literals: as they are written. They are data values: keep them where the statement is kept.
    """

    digest: str
    literals: tuple[str, ...]


def skeleton(text: str) -> Skeleton:
    """A statement without its literals. Raises Refused where it has no words that can be told apart."""
    words, literals = list[str](), list[str]()
    for token in tokens_of(text):
        if token.token_type == TokenType.SEMICOLON:
            continue
        if token.token_type in _LITERALS:
            literals.append(token.text)
            words.append("?")
        else:
            quoted = token.token_type == TokenType.IDENTIFIER
            words.append(f'"{token.text}"' if quoted else token.text.lower())
    return Skeleton(hashlib.sha256("\x1f".join(words).encode()).hexdigest(), tuple(literals))
