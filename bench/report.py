"""What every benchmark shares: percentiles, a table on the screen, a JSON file that names the machine."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("duckdb", "opendp", "pyarrow", "sqlalchemy", "sqlglot")


def p50(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The smallest value that at least 95% of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)]


def p99(values: Sequence[float]) -> float:
    """The smallest value that at least 99% of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-99 * len(ordered) // 100) - 1)]


def milliseconds(seconds: float) -> str:
    """For a table."""
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.{1 if seconds < 0.1 else 0}f}"


def multiple(ratio: float) -> str:
    """For a table."""
    return "-" if math.isnan(ratio) else f"{ratio:.{2 if ratio < 10 else 1}f}x"


def show(name: str, headings: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> None:
    """Print a table: for a terminal, or as it stands in a document."""
    if markdown:
        lines = [headings, ["---"] * len(headings), *rows]
        print(f"{name}\n", *("| " + " | ".join(line) + " |" for line in lines), "", sep="\n")
        return
    table = Table(title=name, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def save(name: str, figures: Any) -> None:
    """Write the figures with the machine and the versions that they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()},
        "packages": {package: version(package) for package in PACKAGES},
        "figures": figures,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
