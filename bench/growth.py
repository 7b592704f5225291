"""How the cost of an answer grows: with rows, with users, with groups, the other two fixed.

    python -m bench.growth [--rounds 3] [--scale 1] [--markdown]

Counts by region (public keys) and by category (private keys) of the events, in plain DuckDB, on plain files
and laid out, in turn. The tables are on the screen, the chart in ``bench/results/growth.svg``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from bench import overhead, report, worlds
from bench.events import Size
from bench.watching import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.overhead import Measured

QUESTIONS = ("Q02", "Q03")
ROWS, USERS, GROUPS = "rows", "users", "groups"
AXES = {
    ROWS: "rows, of 10,000 users",
    USERS: "users of 2 million rows",
    GROUPS: "categories of 2 million rows",
}
WAYS = {
    "plain": ("plain DuckDB", "0.6"),
    "files": ("plain files", "tab:blue"),
    "layout": ("laid out", "tab:red"),
}

Sweeps = dict[str, list[tuple[int, list["Measured"]]]]
"""Axis -> (where on it, what was measured there)."""


def main(arguments: Sequence[str]) -> None:
    """Measure the three sweeps, print the tables, draw the chart, write the figures."""
    asked = _arguments(arguments)
    found: Sweeps = {}
    sandbox = Watched()
    with sandbox:
        for axis, sizes in sweeps(asked.scale).items():
            found[axis] = [(at, _measured(size, sandbox, asked.rounds)) for at, size in sizes.items()]
            report.show(
                f"Growth with {AXES[axis]}, medians of {asked.rounds} interleaved rounds",
                HEADINGS,
                [_row(at, one) for at, measured in found[axis] for one in measured],
                asked.markdown,
            )
    draw(found)
    figures = {
        axis: [{"at": at, "measured": [asdict(one) for one in measured]} for at, measured in points]
        for axis, points in found.items()
    }
    report.save("growth", figures)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of rows and users")
    parser.add_argument("--markdown", action="store_true", help="tables as they stand in documents")
    return parser.parse_args(arguments)


def sweeps(scale: float) -> dict[str, dict[int, Size]]:
    """Each axis with its sizes."""

    def of(count: int) -> int:
        return round(count * scale)

    rows, users = of(2_000_000), of(10_000)
    return {
        ROWS: {
            of(count): Size(of(count), users)
            for count in (500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000)
        },
        USERS: {of(count): Size(rows, of(count)) for count in (1_000, 3_000, 10_000, 30_000, 100_000)},
        GROUPS: {
            size.categories: size
            for size in (Size(rows, users, common) for common in (100, 500, 4_500, 49_500))
        },
    }


def _measured(size: Size, sandbox: Watched, rounds: int) -> list[Measured]:
    world = worlds.events_world(size)
    return [
        overhead.measure(world, one, sandbox, rounds, memory=False)
        for one in world.questions
        if one.id in QUESTIONS
    ]


HEADINGS = ("at", "question", "plain ms", "files ms", "ratio", "laid out ms", "ratio", "served by")


def _row(at: int, one: Measured) -> tuple[str, ...]:
    cells = [f"{at:,}", f"{one.id} {one.title}", report.milliseconds(one.median("plain"))]
    for way in overhead.PLACES:
        cells += [report.milliseconds(one.median(way)), report.multiple(one.ratio(way))]
    return (*cells, one.served)


def draw(found: Sweeps) -> None:
    """A panel for each axis and question: milliseconds over size, both on logarithmic scales."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 8})
    figure, panels = plt.subplots(len(QUESTIONS), len(found), figsize=(9, 5), sharey=True, squeeze=False)
    for column, (axis, points) in enumerate(found.items()):
        for line, _ in enumerate(QUESTIONS):
            panel = panels[line][column]
            for way, (shown, colour) in WAYS.items():
                heights = [measured[line].median(way) * 1000 for _, measured in points]
                panel.plot([at for at, _ in points], heights, marker=".", color=colour, label=shown)
            panel.set(xscale="log", yscale="log", title=points[0][1][line].title)
            panel.set_xlabel(AXES[axis])
            panel.grid(alpha=0.3)
    for line in range(len(QUESTIONS)):
        panels[line][0].set_ylabel("ms")
    panels[0][0].legend(frameon=False)
    figure.tight_layout()
    report.RESULTS.mkdir(exist_ok=True)
    path = report.RESULTS / "growth.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(f"chart: {path.name}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
