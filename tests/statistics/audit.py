"""The long audit, as ``make audit`` runs it: every attack at 99.9%, and every planted fault.

    python -m tests.statistics.audit [--runs N] [part of a name ...]

Prints a line for each, and ends with 1 if a claim was refuted, what must be equal was not, or a planted fault
was not caught. Each refutation of a sound claim has a chance of at most 0.1%, all together of 0.1% a line.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from privacy.auditor import Verdict
from tests.statistics.attacks import Attack
from tests.statistics.cases import BY_NAME
from tests.statistics.certain import CERTAIN
from tests.statistics.laboratory import Laboratory, laboratory
from tests.statistics.laws import LAWS
from tests.statistics.plants import PLANTS
from tests.statistics.shapes import SHAPED

CONFIDENCE = 0.999
RUNS = 40_000
PROCESSES = 2
PLANTED = "planted: "
HEADINGS = ("attack", "runs", "claimed", "shown with 99.9%", "verdict")
WIDTHS = (57, 9, 16, 30, 0)


@dataclass(frozen=True)
class Line:
    """One line of the table, and whether it is as it must be."""

    attack: str
    runs: int
    claimed: str
    shown: str
    verdict: str
    good: bool

    def __str__(self) -> str:
        return _row(self.attack, f"{self.runs}", self.claimed, self.shown, self.verdict)


def names() -> list[str]:
    """What is audited, the slowest first, so that two processes end together."""
    return [*LAWS, *SHAPED, *reversed(BY_NAME), *CERTAIN, *(PLANTED + plant.name for plant in PLANTS)]


def line(name: str, runs: int, where: Laboratory) -> Line:
    """Audit one of the names."""
    if name in CERTAIN:
        found = CERTAIN[name](where)
        verdict = "equal" if not found.differing else f"DIFFERS: {'; '.join(found.differing[:3])}"
        return Line(name, found.comparisons, "equal", "-", verdict, not found.differing)
    if name.startswith(PLANTED):
        plant = next(plant for plant in PLANTS if PLANTED + plant.name == name)
        attack = plant.build(where)
        with plant.planted():
            seen = attack.audit(min(runs, plant.runs), CONFIDENCE)
        return _line(name, seen, "caught" if seen.refuted else "NOT CAUGHT", seen.refuted)
    seen = attack_of(name, where).audit(runs, CONFIDENCE)
    return _line(name, seen, "REFUTED" if seen.refuted else "not refuted", not seen.refuted)


def attack_of(name: str, where: Laboratory) -> Attack:
    """The attack of that name, on a sound engine."""
    if name in SHAPED:
        return SHAPED[name].attack(where)
    return BY_NAME[name].attack(where.engine) if name in BY_NAME else LAWS[name](where)


def _line(name: str, seen: Verdict, verdict: str, good: bool) -> Line:
    shown = f"epsilon >= {seen.epsilon_shown:.3f}, P >= {seen.likely:.2g}"
    return Line(name, seen.runs, f"{seen.epsilon:.3f}, {seen.delta:.3g}", shown, verdict, good)


def _row(*cells: str) -> str:
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _lines(chosen: Sequence[str], runs: int) -> Iterator[Line]:
    if len(chosen) == 1:
        yield _audited(chosen[0], runs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context) as pool:
        yield from pool.map(_audited, chosen, [runs] * len(chosen))


def _audited(name: str, runs: int) -> Line:
    with laboratory() as where:
        return line(name, runs, where)


def summary(lines: Sequence[Line]) -> str:
    """How many of what, and what chance alone would have done."""
    attacks = [one for one in lines if not one.attack.startswith(PLANTED)]
    plants = [one for one in lines if one.attack.startswith(PLANTED)]
    audited = sum(1 for one in attacks if one.claimed != "equal")
    chance = 1 - CONFIDENCE**audited
    return (
        f"{len(attacks)} attacks, {sum(one.good for one in attacks)} withstood; "
        f"{len(plants)} planted faults, {sum(one.good for one in plants)} caught. Were all claims true and "
        f"as tight as can be, one of {audited} would be refuted in at most {chance:.1%} of such audits."
    )


def main(arguments: Sequence[str] | None = None, show: Callable[[str], None] = print) -> int:
    """Audit, print, and say whether all is well: 0 or 1."""
    parser = argparse.ArgumentParser(description="Try to refute what the engine promises.")
    parser.add_argument("parts", nargs="*", help="audit only what has one of these in its name")
    parser.add_argument("--runs", type=int, default=RUNS, help="outcomes of each of the neighbours")
    asked = parser.parse_args(arguments)
    chosen = [name for name in names() if not asked.parts or any(part in name for part in asked.parts)]
    started = time.monotonic()
    show(_row(*HEADINGS))
    lines = []
    for one in _lines(chosen, asked.runs):
        lines.append(one)
        show(str(one))
    show(f"{summary(lines)} {time.monotonic() - started:.0f} s.")
    return 0 if lines and all(one.good for one in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
