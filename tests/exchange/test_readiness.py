"""Ready is who can answer: swept, with database, objects and sandbox. Why not is told to operators."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from exchange.config import Settings
from exchange.operations.observing import Readiness
from exchange.worker import run_once
from privacy.errors import EngineFailed
from privacy.sandbox import Sandbox
from tests.market.stand import Stand, problem

PARTS = {"database": "ok", "objects": "ok", "keys": "ok", "sandbox": "ok", "sweeper": "ok"}
TOKEN = "a-monitor-of-ours"


@pytest.fixture
def ready(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """A stand that was swept, whose readiness is looked at anew each time."""
    monkeypatch.setattr(Readiness, "_KEPT_S", 0.0)
    (sqlite_stand.home / "swept").touch()
    return sqlite_stand


def away(*_: object, **__: object) -> None:
    raise OperationalError("SELECT secret FROM t", {}, psycopg.OperationalError("password=hunter2"))


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_nobody_is_ready_before_the_sweeper_ran(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    monkeypatch.setattr(Readiness, "_KEPT_S", 0.0)
    assert stand.get(None, "/healthz").json() == {"status": "ok"}
    reply = stand.get(None, "/readyz")
    assert (reply.status_code, reply.json()) == (503, {"status": "not ready"})
    told = stand.get("operator", "/readyz").json()
    assert told.pop("unconfined") == list(stand.market.engine.sandbox().missing)
    assert told.pop("log") == {"checkpoint_age_s": None, "size": 0, "witnesses": {}}
    assert told == {"status": "not ready", "parts": {**PARTS, "sweeper": "not seen yet"}}
    run_once(Settings.from_env(stand.environ, worker=True))
    reply = stand.get(None, "/readyz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ready"})


def test_operators_see_what_the_kernel_does_not_grant(ready: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "protections", ("seccomp", "resource_limits"))
    told = ready.get("operator", "/readyz").json()
    assert told["unconfined"] == ["network_namespace", "capabilities", "landlock"]
    assert told["status"] == "ready", "the others hold, and the engine's own list of files"
    assert ready.get(None, "/readyz").json() == {"status": "ready"}


def test_a_sweep_of_long_ago_is_none(ready: Stand) -> None:
    """A home that was swept last week, before everything was stopped, is not swept now."""
    long_ago = time.time() - 1000
    os.utime(ready.home / "swept", (long_ago, long_ago))
    assert ready.get(None, "/readyz").status_code == 503
    os.utime(ready.home / "swept")
    assert ready.get(None, "/readyz").status_code == 200
    os.utime(ready.home / "swept", (long_ago, long_ago))
    assert ready.get(None, "/readyz").status_code == 200, "a worker that is replaced stops no web process"


@pytest.mark.parametrize("part", ["database", "objects", "sandbox"])
def test_what_does_not_answer_is_told_to_operators_alone(
    ready: Stand, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if part == "database":
        monkeypatch.setattr(ready.market.store, "read", away)
    elif part == "objects":
        monkeypatch.setattr(
            type(ready.market.objects), "ensure_writable", failing(OSError(28, "/secret/path"))
        )
    else:
        monkeypatch.setattr(Sandbox, "ensure_started", failing(EngineFailed("query_failed")))
    for who in (None, "buyer", "officer", "nonsense"):
        reply = ready.get(who, "/readyz")
        assert (reply.status_code, reply.json()) == (503, {"status": "not ready"})
    with monkeypatch.context() as patch:
        patch.setitem(vars(ready.market.settings), "metrics_token", TOKEN)
        told = ready.get(TOKEN, "/readyz")
    assert told.status_code == 503
    reason = "is full" if part == "objects" else "does not answer"
    behind = {"keys": reason} if part == "database" else {}
    assert told.json()["parts"] == {**PARTS, part: reason, **behind}
    assert ready.get(None, "/healthz").status_code == 200, "it lives"


def test_an_empty_token_opens_nothing(ready: Stand) -> None:
    assert ready.market.settings.metrics_token == ""
    for header in ("Bearer ", "Bearer", "", "Basic x"):
        reply = ready.http.get("/readyz", headers={"Authorization": header})
        assert reply.json() == {"status": "ready"}


def test_a_database_that_is_away_is_a_reason_to_come_again(
    ready: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready.market.store, "read", away)
    for path in ("/v1/whoami", "/v1/datasets", "/v1/queries"):
        reply = ready.get("buyer", path)
        told = problem(reply, 503, "store_unavailable")
        assert reply.headers["Retry-After"] == "3"
        assert "hunter2" not in reply.text
        assert "secret" not in reply.text
        assert "same key" in told["hint"]


def test_a_refusal_that_cannot_be_logged_is_not_given(ready: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready.market.store, "refuse", away)
    reply = ready.get("buyer", "/v1/queries/qry_000000000000000000000000")
    assert problem(reply, 503, "store_unavailable")["hint"]


def test_another_failure_of_the_database_is_a_defect(ready: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OperationalError("SELECT", {}, ValueError("no such column"))
    monkeypatch.setattr(ready.market.store, "read", failing(error))
    assert problem(ready.get("buyer", "/v1/whoami"), 500, "server_error")["request_id"]
