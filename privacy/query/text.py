"""From text to one syntax tree, within limits that are checked before the parser's stack is at risk.

Every refusal carries the position of the text it is about. Nothing is ever executed here.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType

from privacy.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT_BYTES = 64 * 1024
MAX_TOKENS = 5_000
MAX_NESTING = 100

STEPS_PER_TOKEN = 4
STACK_FRAMES = 6_000
"""Above what MAX_NESTING levels need (27 frames a level), and far from the end of a thread's stack."""

_turn = threading.RLock()

_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})
_STATEMENT_WORDS = (
    "ABORT ALTER ANALYZE ATTACH BEGIN CALL CHECKPOINT COMMENT COMMIT COPY CREATE DEALLOCATE DELETE DESC "
    "DESCRIBE DETACH DROP EXECUTE EXPLAIN EXPORT FORCE GRANT IMPORT INSERT INSTALL KILL LOAD MERGE PRAGMA "
    "PREPARE REFRESH REINDEX RENAME REPLACE RESET REVOKE ROLLBACK SAVEPOINT SET SHOW START SUMMARIZE "
    "TRUNCATE UPDATE UPSERT USE VACUUM"
)
_STATEMENTS = frozenset(_STATEMENT_WORDS.split())
_WRITE_A_QUERY = "Write one SELECT with aggregates, for example: SELECT count(*) AS n FROM the_table."


class Source:
    """A statement's text with its tokens: what positions in refusals are counted in."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens_of(text)
        self.blamed: exp.Expr | None = None

    def position(self, node: exp.Expr | None) -> tuple[int, int]:
        """1-based line and column of the first character of ``node``, or of what it stands in."""
        offset = None if node is None else _offset(node)
        while offset is None and node is not None and node.parent is not None:
            node = node.parent
            offset = _offset(node)
        if offset is None:
            return (1, 1)
        if isinstance(node, exp.Func) and "start" not in node.meta:
            offset = self._name_before(offset)
        return line_and_column(self.text, offset)

    def word(self, node: exp.Expr) -> str:
        """The word at the node's position, as written: the name of a function or clause."""
        own = _offset(node)
        if own is not None and isinstance(node, exp.Func) and "start" not in node.meta:
            own = self._name_before(own)
        place = next((index for index, one in enumerate(self.tokens) if one.start == own), None)
        if place is None or _quoted(self.tokens[place]):
            return "This"
        called = self.tokens[place + 1 : place + 2] and self.tokens[place + 1].token_type == TokenType.L_PAREN
        if not called and next(node.iter_expressions(), None) is not None:
            return "This"  # an operator: what stands there is its operand
        found = self.tokens[place].text
        return found if found.isidentifier() and len(found) <= 60 else "This"

    def _name_before(self, offset: int) -> int:
        """Where the function's name stands, whose first argument begins at ``offset``."""
        before = [token for token in self.tokens if token.start < offset]
        if len(before) > 1 and before[-1].token_type == TokenType.L_PAREN:
            return before[-2].start
        return offset

    def refuse(self, node: exp.Expr | None, code: str, message: str, hint: str) -> NoReturn:
        """Refuse the statement because of ``node``."""
        self.blamed = node
        line, column = self.position(node)
        raise Refused(code, message, line=line, column=column, hint=hint)


def _quoted(token: Token) -> bool:
    """Whether the token is a literal text, which is repeated nowhere."""
    return bool(token.token_type.name.endswith("STRING"))


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """1-based line and column of a character offset."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def parse(text: str) -> tuple[Source, exp.Expr]:
    """The syntax tree of one query. To be called with `room_for_nesting`.

    Raises:
        Refused: too long or deep, not SQL, several statements, or not a query.
    """
    source = Source(text)
    _check_statement(source)
    _check_nesting(source)
    try:
        trees = [tree for tree in _parsed(source) if tree is not None]
    except ParseError as error:
        raise _syntax(source, error) from None
    except (_TooMuchWork, RecursionError):
        raise Refused("too_complex", "The statement is too tangled to read.", hint=_WRITE_A_QUERY) from None
    except (SqlglotError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        raise Refused("syntax", "The statement is not SQL that can be read.", hint=_WRITE_A_QUERY) from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Expr):
        raise Refused("syntax", "There is no statement to answer.", hint=_WRITE_A_QUERY)
    return source, trees[0]


def tokens_of(text: str) -> list[Token]:
    """The words of a statement. Raises Refused for a text that is too long, or that does not end."""
    if len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise Refused("too_long", f"The statement is longer than {MAX_TEXT_BYTES} bytes.", hint="Shorten it.")
    stray = next(
        (place for place, one in enumerate(text) if one == "\x00" or "\ud800" <= one <= "\udfff"), None
    )
    if stray is not None:
        line, column = line_and_column(text, stray)
        raise Refused(
            "syntax", "The statement holds a stray byte.", line=line, column=column, hint="Remove it."
        )
    try:
        tokens = list(Dialect.get_or_raise("duckdb").tokenize(text))
    except (SqlglotError, ValueError, IndexError):
        raise Refused(
            "syntax",
            "The statement has an unfinished quote or comment.",
            hint="Close every quote and comment.",
        ) from None
    if len(tokens) > MAX_TOKENS:
        raise Refused("too_long", f"The statement has more than {MAX_TOKENS} words.", hint="Shorten it.")
    return tokens


def _check_statement(source: Source) -> None:
    tokens = source.tokens
    if not tokens:
        raise Refused("syntax", "There is no statement to answer.", hint=_WRITE_A_QUERY)
    ends = [index for index, token in enumerate(tokens) if token.token_type == TokenType.SEMICOLON]
    following = next((token for end in ends for token in tokens[end + 1 :] if token.text != ";"), None)
    if following is not None:
        _refuse_at(
            source, following, "multiple_statements", "Only one statement can be answered.", "Send one query."
        )
    first = tokens[0]
    word = first.text.split(maxsplit=1)[0].upper() if first.text.strip() else ""
    if word in _STATEMENTS:
        _refuse_at(source, first, "unsupported_statement", f"{word} is not a query.", _WRITE_A_QUERY)
    if word in ("PIVOT", "UNPIVOT"):
        hint = "Use GROUP BY, or aggregates with FILTER (WHERE ...)."
        _refuse_at(source, first, "unsupported_clause", f"{word} is not supported.", hint)


def _check_nesting(source: Source) -> None:
    """Brackets and CASE, and runs of prefix words (NOT NOT ..., - - ...), none deeper than MAX_NESTING."""
    depth = run = 0
    previous: TokenType | None = None
    for token in source.tokens:
        kind = token.token_type
        depth += (kind in _OPENING) - (kind in _CLOSING and depth > 0)
        run = run + 1 if kind == previous else 0
        previous = kind
        if depth > MAX_NESTING or run > MAX_NESTING:
            message = f"The statement is nested deeper than {MAX_NESTING}."
            _refuse_at(source, token, "too_deep", message, "Write it with fewer levels.")


def _refuse_at(source: Source, token: Token, code: str, message: str, hint: str) -> NoReturn:
    line, column = line_and_column(source.text, token.start)
    raise Refused(code, message, line=line, column=column, hint=hint)


@contextmanager
def room_for_nesting() -> Iterator[None]:
    """Stack for the deepest statement that the limits admit; Python's default ends at 30 levels."""
    with _turn:
        usual = sys.getrecursionlimit()
        sys.setrecursionlimit(max(usual, STACK_FRAMES))
        try:
            yield
        finally:
            sys.setrecursionlimit(usual)


class _TooMuchWork(Exception):
    pass


class _Parser(DuckDBParser):
    """A parser whose work is linear in its input: sqlglot backtracks, for some texts exponentially.

    Real statements take at most 1.6 steps for each token.
    """

    steps_left = 0

    def _advance(self, times: int = 1) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise _TooMuchWork
        super()._advance(times)

    def _warn_unsupported(self) -> None:
        """Nothing: the warning would write a buyer's text to a log, and the statement is refused anyway."""


def _parsed(source: Source) -> list[exp.Expr | None]:
    parser = _Parser(dialect=Dialect.get_or_raise("duckdb"))
    parser.steps_left = STEPS_PER_TOKEN * len(source.tokens) + 200
    return list(parser.parse(source.tokens, source.text))


def _syntax(source: Source, error: ParseError) -> Refused:
    detail = error.errors[0] if error.errors else {}
    place = (detail.get("line"), detail.get("col"))
    start = next((token.start for token in source.tokens if (token.line, token.col) == place), 0)
    line, column = line_and_column(source.text, start)
    return Refused(
        "syntax", "The statement is not SQL that can be read.", line=line, column=column, hint=_WRITE_A_QUERY
    )


def _offset(node: exp.Expr) -> int | None:
    own = node.meta.get("start")
    if own is not None:
        return int(own)
    starts = [part.meta["start"] for part in node.walk() if "start" in part.meta]
    return int(min(starts)) if starts else None
