"""Neighbours get equal status, error text, cost, shape and quote, whatever a row makes an engine do.

`fixtures/data_dependent_errors.sql` is the list. One unit holds all that makes plain SQL fail: zeros,
extremes, texts that are no numbers and no dates, NaN, far times, a megabyte of text. Every statement is asked
with it and without; what is asked of a market is compared in `tests/journeys/test_errors_of_data.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.engines.duckdb import OPERATIONS
from tests.privacy.conftest import SALT
from tests.privacy.dreadful import POLICY, SCHEMAS, STATEMENTS, crowd, quote, tables, victim

Files = Mapping[str, Path]


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files]:
    """Files with the victim and without."""
    sides = []
    for name, rows in (("with", [*crowd(), *victim()]), ("without", crowd())):
        folder = tmp_path_factory.mktemp(name)
        for table, made in tables(rows).items():
            pq.write_table(made, folder / f"{table}.parquet")
        sides.append({table: folder / f"{table}.parquet" for table in SCHEMAS})
    return sides[0], sides[1]


def told(plan: privacy.Plan, files: Files, sandbox: privacy.Sandbox) -> dict[str, Any]:
    """All that an answer tells beside its numbers."""
    try:
        table = privacy.answer(plan, files, salt=SALT, sandbox=sandbox).table
    except privacy.EngineFailed as failed:
        shown = failed.for_buyer()
        return {"status": shown.code, "text": str(shown), "hint": shown.hint}
    except privacy.PrivacyError as error:
        return {"status": error.code, "text": str(error), "hint": error.hint}
    return {"status": "answered", "schema": table.schema, "metadata": table.schema.metadata}


def test_the_list_is_long_and_has_no_doubles() -> None:
    assert len(set(STATEMENTS)) == len(STATEMENTS) >= 60


@pytest.mark.parametrize("sql", STATEMENTS)
def test_neighbours_are_told_the_same(
    sql: str, neighbours: tuple[Files, Files], sandbox: privacy.Sandbox
) -> None:
    plan, quoted = quote(sql)
    if plan is None:
        assert quoted["hint"]
        assert "victim" not in quoted["text"]
        return
    one, other = (told(plan, files, sandbox) for files in neighbours)
    assert one == other
    assert one["status"] in {"answered", "join_multiplies"}
    assert quote(sql)[1] == quoted


def test_answers_of_declared_groups_have_as_many_rows(
    neighbours: tuple[Files, Files], sandbox: privacy.Sandbox
) -> None:
    """HAVING and LIMIT choose among released numbers; without them each declared group is there."""
    plan = privacy.plan("SELECT c, sum(i) / count(j) AS r FROM t WHERE 1 / j > 0 GROUP BY c", POLICY, rho=0.1)
    one, other = (
        privacy.answer(plan, files, salt=SALT, sandbox=sandbox).table.column("c").to_pylist()
        for files in neighbours
    )
    assert one == other == ["a", "b", "c"]


@contextmanager
def plain(made: Mapping[str, pa.Table]) -> Iterator[Callable[[str], bool]]:
    """Says whether plain SQL over these tables fails to answer within two seconds."""
    with duckdb.connect() as connection:
        connection.execute("SET enable_external_access = false; SET memory_limit = '200MB'")
        for name, table in made.items():
            connection.register(name, table)

        def fails(sql: str) -> bool:
            watch = threading.Timer(2.0, connection.interrupt)
            watch.start()
            try:
                connection.execute(sql).fetchall()
            except (duckdb.Error, ValueError, OverflowError):
                return True
            finally:
                watch.cancel()
            return False

        yield fails


@pytest.fixture(scope="module")
def plain_failures() -> list[str]:
    """The statements that plain SQL answers without the victim and not with it."""
    with plain(tables(crowd())) as without, plain(tables([*crowd(), *victim()])) as with_victim:
        return [sql for sql in STATEMENTS if not without(sql) and with_victim(sql)]


def test_in_plain_sql_the_victim_would_be_seen(plain_failures: list[str]) -> None:
    """The channels are real: each of these tells of the victim where buyers' SQL is run as it is."""
    assert len(plain_failures) >= 25


def test_statements_of_the_list_are_answered_as_well_as_refused(plain_failures: list[str]) -> None:
    """Refusing all of it would be easy: much that fails in plain SQL has an answer here."""
    answered = [sql for sql in STATEMENTS if quote(sql)[0] is not None]
    assert len(answered) >= 40
    assert len(set(answered) & set(plain_failures)) >= 10
    assert len(STATEMENTS) - len(answered) >= 20


def test_an_operation_that_raises_is_caught(
    neighbours: tuple[Files, Files], sandbox: privacy.Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison can fail: a cast that is no TRY_CAST tells of the victim."""
    plan = privacy.plan("SELECT count(*) AS n FROM t WHERE CAST(s AS integer) > 0", POLICY, rho=0.1)
    monkeypatch.setitem(OPERATIONS, "try_cast", lambda _call, parts: f"CAST({parts[0]} AS INTEGER)")
    one, other = (told(plan, files, sandbox) for files in neighbours)
    assert (one["status"], other["status"]) == ("query_failed", "answered")
