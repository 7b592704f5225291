"""Mutated SQL: statements of the fixtures with their words swapped, spliced, nested and made nasty.

Every mutant is a function of a seed and a number, so that one that breaks something can be made again.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

import privacy
from tests.privacy import tpch
from tests.privacy.policies import FLIGHTS_POLICY, FLIGHTS_TYPES, PEOPLE_POLICY, PEOPLE_TYPES

FIXTURES = Path(__file__).parent / "fixtures"
SENTINEL = "Zq7Sentinel"
"""A literal that stands for a data value: it may not come back in any message."""

WORDS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\w+|\S", re.DOTALL)
LITERALS = re.compile(r"'(?:[^']|'')*'|\d+(?:\.\d+)?")
NAME = re.compile(r"[a-z_]\w*")
NASTY = [
    *("NULL", "0", "-1", "1e308", "1e999", "1e-400", "9223372036854775807", "-9223372036854775808", "0x1F"),
    *("170141183460469231731687303715884105727", "1_000", ".5", "5.", "''", "'%'", "'\\'", "''''", "'nan'"),
    *("'2013-13-45'", "'infinity'", "DATE 'infinity'", "TIMESTAMP '-infinity'", "'\u202e'", "'\u0000x'"),
    *("INTERVAL '9999999999 years'", "INTERVAL 1 DAY", "E'\\n'", "x'00'", "$1", "?", "[1, 2]", "{'a': 1}"),
    *("(1, 2)", "TRUE", "'NaN'::double", "1::hugeint", "*", "b'1'", "'é\U0001f600'", "ARRAY[1]", "-0.0"),
    *(f"'{SENTINEL}'", f"'{SENTINEL}%'", f"DATE '{SENTINEL}'", "'a' 'b'", "$$x$$", "U&'\\0041'", "2", "'UA'"),
]
PIECES = [
    *("(", ")", ",", "'", '"', "*", ";", "--", "/*", "*/", ".", "::", "\\", "||", "->", "=>", "@", "#", "?"),
    *(":=", "NOT", "AND", "OR", "IN", "EXISTS", "SELECT", "FROM", "WHERE", "GROUP BY", "HAVING", "ORDER BY"),
    *("LIMIT 1", "OVER ()", "OVER (PARTITION BY", "UNION ALL", "UNION", "EXCEPT", "INTERSECT ALL", "JOIN"),
    *("LEFT JOIN", "LATERAL", "FILTER (WHERE", "DISTINCT", "QUALIFY", "WINDOW w AS (", "ROLLUP", "CUBE ("),
    *("GROUPING SETS ((", "WITH RECURSIVE", "CASE WHEN", "END", "CAST(", "AS", "INTERVAL", "TABLESAMPLE"),
    *("USING SAMPLE 1%", "ALL", "WITHIN GROUP (ORDER BY", "IGNORE NULLS", "NULLS FIRST", "COLLATE nocase"),
    *("AT TIME ZONE 'UTC'", "PIVOT", "USING", "ON", "IS NOT", "BETWEEN SYMMETRIC", "ESCAPE", "SIMILAR TO"),
    *(
        "GLOB",
        "ILIKE",
        "~",
        "**",
        "//",
        "%",
        "read_csv('/etc/passwd')",
        "getenv('HOME')",
        "query('SELECT 1')",
    ),
    *("current_setting('x')", "random()", "now()", "error('x')", "columns(*)", "unnest([1])", "range(10)"),
    *(
        "COPY",
        "ATTACH",
        "PRAGMA",
        "information_schema.tables",
        "count(*)",
        "sum(",
        "median(",
        "avg(",
        "list(",
    ),
    *("row_number() OVER (", "lag(", "min(", "string_agg("),
]
FUNCTIONS = [
    *("abs", "lower", "length", "round", "sum", "avg", "count", "min", "max", "median", "stddev", "list"),
    *("row_number", "lag", "coalesce", "greatest", "date_trunc", "try_cast", "strptime", "random", "error"),
    *("regexp_matches", "concat", "repeat", "grouping", "unnest", "date_diff", "sqrt", "ln", "nullif", "if"),
]
OPERATORS = ["+", "-", "*", "/", "%", "=", "<>", "<", ">=", "||", "//", "**", "AND", "OR", "IS", "IN", "LIKE"]
WRAPS = [
    *(
        ("(", ")"),
        ("abs(", ")"),
        ("NOT (", ")"),
        ("CASE WHEN", "THEN 1 END"),
        ("coalesce(", ", 0)"),
        ("- ", ""),
    ),
    *(("CAST(", "AS varchar)"), ("count(", ")"), ("sum(", ")"), ("(SELECT", ")"), ("lower(", ")")),
]
COMMENTS = ["/* x */", "/* /* */ */", "-- x\n", "--\n", "/**/", f"/* {SENTINEL} */", "/*+ hint */", "#!"]
LETTERS = "\u00a0\u200b\u202e\ufeff\u0301İıſßﬁ＇＂；٣\U0001f600\u2028\t\r\n\x0b\x00\ud800"


@dataclass(frozen=True)
class World:
    """A policy with statements that are written for it."""

    name: str
    policy: privacy.Policy
    types: dict[str, dict[str, str]]
    statements: tuple[str, ...]


def worlds() -> tuple[World, ...]:
    """The fixtures by the policies that they are written for."""
    flights = _lines("accepted.sql", "refused.sql", "later.sql")
    return (
        World("flights", privacy.Policy.from_document(FLIGHTS_POLICY, FLIGHTS_TYPES), FLIGHTS_TYPES, flights),
        World(
            "people",
            privacy.Policy.from_document(PEOPLE_POLICY, PEOPLE_TYPES),
            PEOPLE_TYPES,
            _lines("related.sql"),
        ),
        World("customers", tpch.policy(), tpch.types(), _lines("tpch.sql")),
    )


def _lines(*names: str) -> tuple[str, ...]:
    lines = [line for name in names for line in (FIXTURES / name).read_text(encoding="utf-8").splitlines()]
    return tuple(line.rstrip("; ") for line in lines if line.strip() and not line.startswith("--"))


class Mutator:
    """Makes mutants.

    Args:
        seed: with the number of a mutant it decides which one it is.
    """

    def __init__(self, seed: int, known: tuple[World, ...]) -> None:
        logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it is our own parsing that would warn
        self.seed = seed
        self.worlds = known
        self._all = [statement for world in known for statement in world.statements]

    def mutant(self, number: int) -> tuple[World, str]:
        """The mutant of that number, and the policy to plan it under."""
        random_ = random.Random(f"{self.seed}:{number}")
        world = random_.choices(self.worlds, [6, 2, 1])[0]
        sql = random_.choice(world.statements)
        for _ in range(random_.choice([1, 1, 1, 1, 2, 2, 3, 5])):
            sql = random_.choice(_MUTATIONS)(sql, random_, self)
        return world, sql[:20_000]

    def other(self, random_: random.Random, near: str) -> str:
        """Another statement, rather one of the same world."""
        own = next((world.statements for world in self.worlds if near in world.statements), None)
        return random_.choice(own if own and random_.random() < 0.8 else self._all)


Mutation = Callable[[str, random.Random, Mutator], str]


def _words(sql: str) -> list[str]:
    return WORDS.findall(sql) or [sql]


def _joined(words: list[str]) -> str:
    return " ".join(words)


def _deleted(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    words = _words(sql)
    start = random_.randrange(len(words))
    return _joined(words[:start] + words[start + random_.choice([1, 1, 1, 2, 4]) :])


def _doubled(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    words = _words(sql)
    start = random_.randrange(len(words))
    part = words[start : start + random_.choice([1, 1, 2, 4, 8])]
    return _joined(words[:start] + part * random_.choice([2, 2, 3, 9]) + words[start:])


def _swapped(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    words = _words(sql)
    one, other = random_.randrange(len(words)), random_.randrange(len(words))
    words[one], words[other] = words[other], words[one]
    return _joined(words)


def _replaced(sql: str, random_: random.Random, mutator: Mutator) -> str:
    words, others = _words(sql), _words(mutator.other(random_, sql))
    words[random_.randrange(len(words))] = random_.choice(others)
    return _joined(words)


def _spliced(sql: str, random_: random.Random, mutator: Mutator) -> str:
    words, others = _words(sql), _words(mutator.other(random_, sql))
    place, start = random_.randrange(len(words)), random_.randrange(len(others))
    words[place : place + random_.choice([0, 0, 1, 3])] = others[start : start + random_.randint(1, 8)]
    return _joined(words)


def _crossed(sql: str, random_: random.Random, mutator: Mutator) -> str:
    words, others = _words(sql), _words(mutator.other(random_, sql))
    return _joined(words[: random_.randrange(len(words)) + 1] + others[random_.randrange(len(others)) :])


def _nasty(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    found = list(LITERALS.finditer(sql))
    if not found:
        return f"{sql} {random_.choice(NASTY)}"
    chosen = random_.choice(found)
    return sql[: chosen.start()] + random_.choice(NASTY) + sql[chosen.end() :]


def _pieced(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    words = _words(sql)
    place = random_.randrange(len(words))
    words[place : place + random_.choice([0, 1])] = [random_.choice(PIECES)]
    return _joined(words)


def _nested(sql: str, random_: random.Random, mutator: Mutator) -> str:
    plain = sql.rstrip("; ")
    other = mutator.other(random_, sql).rstrip("; ")
    return random_.choice(
        [
            f"SELECT * FROM ({plain}) AS t",
            f"SELECT count(*) AS n FROM ({plain}) AS t",
            f"WITH t AS ({plain}) SELECT * FROM t ORDER BY 1 LIMIT 2",
            f"WITH t AS ({plain}), u AS ({other}) SELECT * FROM t, u",
            f"{plain} UNION ALL {other}",
            f"{plain} EXCEPT {plain}",
            f"SELECT x.* FROM ({plain}) AS x JOIN ({other}) AS y ON x.n = y.n",
            f"SELECT * FROM ({plain}) AS t WHERE n > (SELECT max(n) FROM ({plain}) AS u)",
            f"SELECT n, sum(n) OVER (ORDER BY n) AS s FROM ({plain}) AS t QUALIFY s > 1",
            f"SELECT EXISTS ({other}) AS e, t.* FROM ({plain}) AS t",
            f"(({plain}))",
            f"{plain}; {other}",
            f"EXPLAIN {plain}",
        ]
    )


def _wrapped(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    words = _words(sql)
    start = random_.randrange(len(words))
    end = start + random_.choice([1, 1, 3])
    before, after = random_.choice(WRAPS)
    times = random_.choice([1, 1, 1, 2, 30])
    return _joined([*words[:start], *[before] * times, *words[start:end], *[after] * times, *words[end:]])


def _lettered(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    place = random_.randrange(len(sql) + 1)
    letter = random_.choice(LETTERS) if random_.random() < 0.6 else chr(random_.randrange(1, 0x3000))
    return sql[:place] + letter + sql[place + random_.choice([0, 1]) :]


def _commented(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    words = _words(sql)
    words.insert(random_.randrange(len(words) + 1), random_.choice(COMMENTS))
    return _joined(words)


def _cased(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    return random_.choice([sql.upper(), sql.lower(), sql.swapcase(), sql.title(), "".join(sql.split(" "))])


def _cut(sql: str, random_: random.Random, _mutator: Mutator) -> str:
    return sql[: random_.randrange(len(sql) + 1)]


def _exchanged(sql: str, random_: random.Random, mutator: Mutator) -> str:
    """A word for another of its kind: names, functions, operators, literals."""
    words = _words(sql)
    place = random_.randrange(len(words))
    word, following = words[place], words[place + 1] if place + 1 < len(words) else ""
    if word.upper() in OPERATORS:
        words[place] = random_.choice(OPERATORS)
    elif NAME.fullmatch(word) and following == "(":
        words[place] = random_.choice(FUNCTIONS)
    elif NAME.fullmatch(word):
        names = [one for one in _words(mutator.other(random_, sql)) if NAME.fullmatch(one)]
        words[place] = random_.choice(names or [word])
    elif LITERALS.fullmatch(word):
        words[place] = random_.choice(NASTY)
    return _joined(words)


def _grafted(sql: str, random_: random.Random, mutator: Mutator) -> str:
    """A part of the syntax in place of another."""
    tree, other = _tree(sql), _tree(mutator.other(random_, sql))
    if tree is None or other is None:
        return _spliced(sql, random_, mutator)
    kind = random_.choice([exp.Condition, exp.Condition, exp.Condition, exp.Query, exp.Expr])
    places = [node for node in tree.walk() if isinstance(node, kind) and node.parent is not None]
    parts = [node for node in other.walk() if isinstance(node, kind)]
    if places and parts:
        random_.choice(places).replace(random_.choice(parts).copy())
    try:
        return tree.sql("duckdb")
    except (SqlglotError, ValueError, TypeError, AttributeError, KeyError):
        return _spliced(sql, random_, mutator)


def identifiers(sql: str) -> set[str]:
    """The names of a statement, quoted ones too; none where it cannot be read."""
    tree = _tree(sql)
    return set() if tree is None else {one.name for one in tree.find_all(exp.Identifier)}


def _tree(sql: str) -> exp.Expr | None:
    try:
        trees = sqlglot.parse(sql, read="duckdb", error_level=ErrorLevel.RAISE) if len(sql) < 4_000 else []
    except (SqlglotError, ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError):
        return None
    return trees[0] if trees and isinstance(trees[0], exp.Expr) else None


_MUTATIONS: list[Mutation] = [
    *[_grafted] * 10,
    *[_exchanged] * 10,
    *[_nasty] * 4,
    *[_replaced, _spliced, _crossed, _deleted, _doubled, _swapped, _pieced, _nested, _nested, _wrapped],
    *[_lettered, _commented, _cased, _cut],
]
