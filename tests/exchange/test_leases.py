"""One worker at a time makes the rounds, and another takes over when it is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from exchange import leases, worker
from exchange.config import Settings
from tests.market.processes import Process, ending, until
from tests.market.stand import Stand

GONE_S = 15.0


def test_one_holds_it_until_it_lets_go(database_url: str, tmp_path: Path) -> None:
    first, second = leases.turn(database_url, tmp_path), leases.turn(database_url, tmp_path)
    try:
        assert (first.take(), second.take()) == (True, False)
        assert first.take(), "it is kept"
        assert (first.held(), second.held()) == (True, False)
        first.release()
        assert not first.held()
        assert second.take()
        assert not first.take()
    finally:
        first.release()
        second.release()


@pytest.mark.postgres
def test_a_turn_whose_session_ended_is_lost(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had it knows soon, and may take it again like everybody else."""
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.05)
    first, second = leases.turn(postgres_url, tmp_path), leases.turn(postgres_url, tmp_path)
    engine = create_engine(postgres_url)
    try:
        assert first.take()
        with engine.begin() as connection:
            ended = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'exchange worker' AND datname = current_database()"
            )
            assert connection.execute(text(ended)).all() == [(True,)]
        until(lambda: not first.held())
        assert second.take()
        assert not first.take()
    finally:
        first.release()
        second.release()
        engine.dispose()


@pytest.mark.postgres
def test_a_turn_of_which_nothing_is_heard_is_given_to_another(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a process that is frozen: the kernel keeps its line open, and nobody sends anything on it."""
    monkeypatch.setattr(leases, "HEARTBEAT_S", 3600.0)
    monkeypatch.setitem(leases._SERVER, "idle_session_timeout", "300ms")
    first, second = leases.turn(postgres_url, tmp_path), leases.turn(postgres_url, tmp_path)
    try:
        assert first.take()
        until(second.take, within_s=GONE_S)
        assert not first.take()
    finally:
        first.release()
        second.release()


def test_a_standby_takes_over_when_the_first_dies(stand: Stand) -> None:
    swept = stand.home / "swept"
    with ending() as running:
        first = Process(stand.environ, stand.home.parent, "first", "worker")
        running.append(first)
        until(swept.exists, first.told)
        second = Process(stand.environ, stand.home.parent, "second", "worker")
        running.append(second)
        size = len(stand.entries())
        assert worker.run_once(Settings.from_env(stand.environ, worker=True)).size >= size, (
            "the log is published"
        )
        first.kill()
        seen = swept.stat().st_mtime_ns
        took = until(lambda: swept.stat().st_mtime_ns > seen, second.told, within_s=30)
        print(f"taken over within {took:.1f} s")
        assert second.stop() == 0


def test_a_worker_without_the_turn_does_nothing(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    mine = leases.turn(sqlite_stand.settings.database_url, sqlite_stand.home)
    assert mine.take()
    take, taken = leases.FileTurn.take, list[bool]()

    def taking(self: leases.FileTurn) -> bool:
        taken.append(take(self))
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return taken[-1]

    monkeypatch.setattr(leases.FileTurn, "take", taking)
    monkeypatch.setattr(worker, "PUBLISH_EVERY_S", 0.01)
    worker.run_forever(Settings.from_env(sqlite_stand.environ, worker=True))
    assert taken == [False] * 3
    assert not (sqlite_stand.home / "swept").exists()
    assert not sqlite_stand.settings.log_path.exists()
    mine.release()


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers that the worker replaces."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
