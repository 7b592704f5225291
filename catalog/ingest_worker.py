"""The child process of :mod:`catalog.ingest`: it alone opens a stranger's file.

It takes its limits before it imports a parser, and is confined before it opens the file; it reads one task
from its standard input, writes Parquet parts, and answers with one JSON document. Whatever goes wrong leaves
as a code and a sentence without data.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalog.errors import InvalidUpload
    from catalog.ingest import Confinement, Limits

_OPEN_FILES = 256
# Where engines look for how much memory and how many processors they may use; without it DuckDB aborts.
_ASKED_BY_ENGINES = ("/proc/self", "/proc/meminfo", "/sys/fs/cgroup")


def main() -> None:
    """Run one task. The exit code is 0 whenever a report was written, also for a refusal."""
    task = json.load(sys.stdin)
    _limit(task["limits"])
    _load()
    confine(task["confinement"], source=task["source"], out=task["out"], parent=task["parent"])
    # A library that prints must not speak into the report's pipe.
    report_pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    reply = _reply(task)
    with report_pipe:
        json.dump(reply, report_pipe)
    sys.stdout.flush()
    os._exit(0)  # without waiting for the engines' threads


def _limit(limits: dict[str, int]) -> None:
    seconds = limits["seconds"] + 1
    for what, amount in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits["expanded_bytes"]),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        cap = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(what, (cap, cap))


def _load() -> None:
    """Import all that the task needs: no file of the interpreter can be read any more once it is confined."""
    import encodings.utf_8_sig
    import zoneinfo

    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.dataset
    import pyarrow.parquet
    import pyarrow.parquet.encryption

    import catalog.errors
    import catalog.ingest
    import catalog.profile
    import catalog.rewrite
    import catalog.sources

    _ = (encodings, zoneinfo, catalog, pyarrow)


def confine(module: str, *, source: str, out: str, parent: int) -> None:
    """Have the kernel forbid everything but reading ``source`` and writing below ``out``, and end this
    process with ``parent``.

    A user namespace and Landlock need a single thread; limits hold whatever the kernel offers besides.
    """
    if not module:
        return
    found: Confinement = importlib.import_module(module)
    found.leave_network()
    found.drop_privileges()
    found.die_with_parent(parent)  # now: a change of privileges makes the kernel forget it
    found.forbid_network_and_programs()
    found.forbid_processes_and_signals()
    found.confine_files([source, *(path for path in _ASKED_BY_ENGINES if Path(path).exists())], out)


def _reply(task: dict[str, Any]) -> dict[str, Any]:
    from catalog.errors import InvalidUpload
    from catalog.ingest import Limits

    table = task["table"]
    try:
        return _ingest(task, Limits(**task["limits"]))
    except InvalidUpload as refusal:
        return _error(refusal)
    except MemoryError:
        return _error(
            InvalidUpload("expands_too_much", "The file needs more memory than is allowed.", table=table)
        )
    except Exception as error:  # its message may hold data, so only its kind is told
        return _error(
            InvalidUpload(
                "unreadable_file", f"Reading the file failed ({type(error).__name__}).", table=table
            )
        )


def _ingest(task: dict[str, Any], limits: Limits) -> dict[str, Any]:
    import pyarrow as pa

    from catalog.profile import check_keys, profile_table
    from catalog.rewrite import Rewriter
    from catalog.sources import open_source

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    key = bytes.fromhex(task["key"]) or None
    source = open_source(Path(task["source"]), table=task["table"], unit=task["unit"], limits=limits)
    with Rewriter(Path(task["out"]), source.schema, table=task["table"], unit=source.unit, key=key) as out:
        for batch in source.batches():
            out.write(batch)
        counts = out.finish()
    reading: dict[str, Any] = {"scratch": Path(task["scratch"]), "memory": limits.memory_bytes, "key": key}
    check_keys(out.parts, source.columns, table=task["table"], keys=task["keys"], **reading)
    reading["histograms"] = task["histograms"]
    profile = profile_table(out.parts, source.columns, unit=source.unit, **reading)
    profile["rows"] = counts.rows
    profile["rows_without_unit"] = counts.rows_without_unit
    profile["not_finite"] = counts.not_finite
    return {
        "columns": [[column.name, column.type] for column in source.columns],
        "digests": out.digests,
        "rows": counts.rows,
        "rows_without_unit": counts.rows_without_unit,
        "profile": profile,
    }


def _error(refusal: InvalidUpload) -> dict[str, Any]:
    return {
        "error": {
            "code": refusal.code,
            "message": str(refusal),
            "row": refusal.row,
            "column": refusal.column,
            "broken_rows": [list(each) for each in refusal.broken_rows],
            "broken_count": refusal.broken_count,
        }
    }
