"""Plans mutated SQL, and looks for anything but a plan or a refusal.

    python -m tests.privacy.fuzz --count 100000 --processes 2

For each mutant: nothing but `Refused` is raised; no file, socket, process or log is touched while it is
planned; a refusal lies within the text, its words are our own, the policy's or identifiers of the statement,
never those of a literal, and the nearest statement that it offers is planned; a plan is the same when it is
made again, and its SQL has no name that is not the policy's or our own. Afterwards the SQL of all plans runs
on empty tables.
"""

from __future__ import annotations

import argparse
import ast
import logging
import re
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import privacy
from privacy.query.text import Source
from tests.privacy.mutants import SENTINEL, Mutator, World, identifiers, worlds

SEED = 20130101
TOUCHING = ("open", "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "ctypes.")
OWN_NAME = re.compile(r"_salt|_released\d+|([a-z]+\d+\.)?([a-z]|[a-z]+_)+\d*(_low|_high)?|grid|exact")
QUOTED = re.compile(r"'(?:[^']|'')*'|\"((?:[^\"]|\"\")*)\"")
BEFORE_NAMES = frozenset({"ALIAS", "VAR", "R_PAREN", "FROM", "JOIN", "DOT"})
"""What stands before a quoted text that is a name: AS 'x', FROM 'x', t.'x'."""
WORD = re.compile(r"[A-Za-z_]\w*")

_touched: list[str] = []
_watching = False


class Listening(logging.Handler):
    """Planning writes to no log: what it read is a buyer's text."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note who wrote."""
        if _watching:
            _touched.append(f"log {record.name}")


def _watch(event: str, _arguments: tuple[Any, ...]) -> None:
    if _watching and event.startswith(TOUCHING):
        _touched.append(event)


@dataclass
class Figures:
    """What came of some mutants."""

    mutants: int = 0
    planned: int = 0
    offered: int = 0
    ran: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    codes: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Count another part in."""
        self.mutants += other.mutants
        self.planned += other.planned
        self.offered += other.offered
        self.ran += other.ran
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest
        self.codes += other.codes
        self.defects += other.defects

    def told(self) -> str:
        """The figures as text."""
        codes = ", ".join(f"{code} {count}" for code, count in self.codes.most_common())
        lines = [
            f"{self.mutants} mutants: {self.planned} planned, {self.codes.total()} refused",
            f"{self.offered} refusals offer a nearest statement, each of which is planned",
            f"{self.ran} plans ran on empty tables",
            f"slowest {self.slowest_s * 1000:.0f} ms of processor time: {self.slowest[:200]!r}",
            f"refused as {codes}",
            f"defects: {len(self.defects)}",
            *self.defects[:20],
        ]
        return "\n".join(lines)


class Fuzzer:
    """Plans mutants of one seed, and checks what comes of each."""

    def __init__(self, seed: int) -> None:
        self.mutator = Mutator(seed, worlds())
        self.figures = Figures()
        self.plans: dict[str, tuple[World, privacy.Plan, str]] = {}
        for world in self.mutator.worlds:  # modules that are loaded late are loaded now
            for sql in world.statements:
                self._planned(world, sql)

    def run(self, numbers: range) -> Figures:
        """Check the mutants of these numbers, then run the plans."""
        for number in numbers:
            world, sql = self.mutator.mutant(number)
            self.figures.mutants += 1
            for defect in self._defects(world, sql):
                self.figures.defects.append(f"{defect}: mutant {number} of {world.name}: {sql!r}")
        self._run_plans()
        return self.figures

    def _planned(self, world: World, sql: str) -> privacy.Plan | privacy.Refused | str:
        """What planning comes to; the text of a defect where it is neither."""
        global _watching
        _watching = True
        try:
            plan = privacy.plan(sql, world.policy, rho=0.01)
            assert plan.sql
            assert plan.public_sql
        except privacy.Refused as refused:
            return refused
        except Exception as defect:
            where = traceback.extract_tb(defect.__traceback__)[-1]
            return f"{type(defect).__name__} in {Path(where.filename).name}:{where.lineno}"
        finally:
            _watching = False
        return plan

    def _defects(self, world: World, sql: str) -> list[str]:
        _touched.clear()
        started = time.process_time()
        outcome = self._planned(world, sql)
        taken = time.process_time() - started
        if taken > self.figures.slowest_s:
            self.figures.slowest_s, self.figures.slowest = taken, sql
        found = [f"planning did {event}" for event in _touched]
        if isinstance(outcome, str):
            return [*found, outcome]
        if isinstance(outcome, privacy.Refused):
            self.figures.codes[outcome.code] += 1
            return found + self._refusal_defects(world, sql, outcome)
        self.figures.planned += 1
        return found + self._plan_defects(world, sql, outcome)

    # Refusals

    def _refusal_defects(self, world: World, sql: str, refused: privacy.Refused) -> list[str]:
        found = []
        lines = sql.split("\n")
        if not 1 <= refused.line <= len(lines) or not 1 <= refused.column <= len(lines[refused.line - 1]) + 1:
            found.append(f"{refused.line}:{refused.column} is not in the text")
        told = f"{refused} {refused.hint}"
        strange = self._literal_words(sql) & set(WORD.findall(told)) - self._own_words - _names(world)
        if strange or (SENTINEL in told and SENTINEL in self._literal_words(sql)):
            found.append(f"{refused.code} repeats a literal ({', '.join(strange)})")
        if not refused.hint.endswith(".") or not str(refused).endswith("."):
            found.append(f"{refused.code} does not end its sentence")
        if refused.nearest is not None:
            self.figures.offered += 1
            near = self._planned(world, refused.nearest)
            dear = isinstance(near, privacy.Refused) and near.code in ("budget_invalid", "rho_too_small")
            if not isinstance(near, privacy.Plan) and not dear:
                found.append(f"nearest is not planned ({refused.nearest!r})")
        return found

    def _literal_words(self, sql: str) -> set[str]:
        """Words that stand in the statement's literals alone."""
        try:
            tokens = Source(sql).tokens
        except privacy.Refused:
            return {SENTINEL}
        quoted: list[str] = []
        plain: list[str] = []
        for before, token in zip([None, *tokens], tokens, strict=False):
            named = before is not None and before.token_type.name in BEFORE_NAMES
            literal = token.token_type.name.endswith("STRING") and not named
            (quoted if literal else plain).append(token.text)
        named_so = set(WORD.findall(" ".join(identifiers(sql))))
        return set(WORD.findall(" ".join(quoted))) - set(WORD.findall(" ".join(plain))) - named_so

    @cached_property
    def _own_words(self) -> set[str]:
        """Every word of the package's own texts."""
        words: set[str] = set()
        for path in Path(privacy.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words.update(WORD.findall(node.value))
        return words

    # Plans

    def _plan_defects(self, world: World, sql: str, plan: privacy.Plan) -> list[str]:
        again = self._planned(world, sql)
        if not isinstance(again, privacy.Plan) or (again.digest, again.cost) != (plan.digest, plan.cost):
            return ["planned twice, it differs"]
        known = _names(world)
        found = []
        for name in {match for match in QUOTED.findall(f"{plan.sql} {plan.public_sql}") if match}:
            own = OWN_NAME.fullmatch(name)
            if not own and name not in known and name.partition(".")[2] not in known:
                found.append(f"generated SQL names {name!r}")
        self.plans.setdefault(plan.digest, (world, plan, sql))
        return found

    def _run_plans(self) -> None:
        """Run what was planned on empty tables: it binds, and no constant in it fails."""
        from tests.privacy.empty import Empty

        engines = {world.name: Empty(world) for world in self.mutator.worlds}
        for world, plan, sql in self.plans.values():
            self.figures.ran += 1
            defect = engines[world.name].defect(plan)
            if defect is not None:
                self.figures.defects.append(f"{defect}: {world.name}: {sql!r}")


def _names(world: World) -> set[str]:
    """Every name of the policy."""
    tables = world.policy.tables.values()
    named = {table.name for table in tables}
    return named | {column.name for table in tables for column in table.columns.values()}


def fuzz(seed: int, start: int, stop: int) -> Figures:
    """The figures of the mutants from ``start`` up to ``stop``."""
    sys.addaudithook(_watch)
    logging.getLogger().addHandler(Listening())
    return Fuzzer(seed).run(range(start, stop))


def main() -> int:
    """Fuzz as the command line says; 1 where there is a defect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    share = -(-asked.count // asked.processes)
    ends = [asked.first + min(number * share, asked.count) for number in range(asked.processes + 1)]
    whole, started = Figures(), time.perf_counter()
    with ProcessPoolExecutor(asked.processes, get_context("spawn")) as pool:
        for part in pool.map(fuzz, [asked.seed] * asked.processes, ends[:-1], ends[1:]):
            whole.add(part)
    print(f"{whole.told()}\n{time.perf_counter() - started:.0f} s")
    return 1 if whole.defects else 0


if __name__ == "__main__":
    sys.exit(main())
