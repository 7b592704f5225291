"""Metrics, logs and traces tell how the exchange is, and nothing that anybody sent or stored."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exchange.config import Settings
from exchange.telemetry import logs, traces
from exchange.web.observed import on_grid
from exchange.worker import run_once
from tests.market import sample
from tests.market.processes import Web, ending
from tests.market.stand import TUS, Stand, problem

CANARY = "canary4711"
TOKEN = "a-monitor-of-ours"


def numbers(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of an exposition: (name, labels) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_for_operators(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    problem(stand.get(None, "/metrics"), 401, "token_unknown")
    problem(stand.get("nonsense", "/metrics"), 401, "token_unknown")
    for who in ("buyer", "provider", "officer"):
        problem(stand.get(who, "/metrics"), 403, "role_missing")
    assert stand.get("operator", "/metrics").headers["Content-Type"].startswith("text/plain")


def test_metrics_count_what_happens_and_name_nobody(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    before = numbers(stand.get("operator", "/metrics").text)
    assert stand.run(key="counted").status_code == 200
    assert stand.get("buyer", f"/v1/datasets/{CANARY}/{CANARY}?q={CANARY}").status_code == 404
    assert stand.get(None, f"/{CANARY}").status_code == 404
    assert stand.call(None, "CANARY", "/healthz").status_code == 405
    run_once(Settings.from_env(stand.environ, worker=True))
    text = stand.get("operator", "/metrics").text
    after = numbers(text)

    def grew(name: str, **labels: str) -> float:
        at = (name, tuple(sorted(labels.items())))
        return after[at] - before.get(at, 0)

    assert grew("exchange_requests_total", method="POST", route="/v1/queries", status="200") == 1
    assert grew("exchange_request_seconds_count", route="/v1/queries") == 1
    assert grew("exchange_requests_total", method="GET", route="unmatched", status="404") == 1
    assert grew("exchange_queries_ended_total", state="SETTLED") == 1
    assert grew("exchange_commits_total") >= 4, "reserved, started, kept, settled"
    assert after["exchange_queries", (("state", "EXECUTING"),)] == 0
    assert after["exchange_requests_running", ()] == 1, "this one"
    assert after["exchange_database_connections_in_use", ()] == 0
    assert after["exchange_log_entries", ()] == len(stand.entries())
    assert after["exchange_log_unpublished", ()] == 0
    for of in ("sweep", "checkpoint"):
        assert 0 <= after["exchange_age_seconds", (("of", of),)] < 60
    told = text.lower()
    names = [CANARY, "city", "rides", "acme", *stand.orgs.values(), *stand.tokens.values()]
    assert [name for name in names if name.lower() in told] == []


def test_the_processes_of_a_server_are_told_as_one(sqlite_stand: Stand, tmp_path: Path) -> None:
    environ = {**sqlite_stand.environ, "EXCHANGE_WEB_WORKERS": "2", "EXCHANGE_METRICS_TOKEN": TOKEN}
    (sqlite_stand.home / "swept").touch()
    with ending() as running:
        web = Web(environ, tmp_path)
        running.append(web)
        web.until_ready()
        for _ in range(30):
            assert web.answers("/healthz") == 200
        headers = {"Authorization": f"Bearer {TOKEN}"}
        at = ("exchange_requests_total", (("method", "GET"), ("route", "/healthz"), ("status", "200")))
        for _ in range(4):  # whichever of the two answers
            assert numbers(httpx.get(f"{web.url}/metrics", headers=headers).text)[at] == 30
        assert httpx.get(f"{web.url}/metrics", headers={"Authorization": "Bearer x"}).status_code == 401
        assert web.stop() == 0


def sent_everywhere(web: Web, tokens: dict[str, str]) -> int:
    """A canary in path, query, body and headers of every door, for several roles; how many requests."""
    described = httpx.get(f"{web.url}/openapi.json").json()["paths"]
    count = 0
    with httpx.Client(base_url=web.url, timeout=30, cookies={"session": CANARY}) as http:
        for path, methods in described.items():
            for method in methods:
                for who in (tokens["buyer"], tokens["provider"], tokens["operator"], f"tok_x.{CANARY}"):
                    headers = {
                        "Authorization": f"Bearer {who}",
                        "Idempotency-Key": f"{CANARY}-{count}",
                        "User-Agent": f"{CANARY}\tx",
                        "X-Request-Id": CANARY,
                        "Upload-Metadata": "filename " + base64.b64encode(CANARY.encode()).decode(),
                    }
                    where = re.sub(r"{\w+}", CANARY, path)
                    body = {"dataset": "city/rides", "sql": f"select '{CANARY}' from rides", "name": CANARY}
                    http.request(method.upper(), f"{where}?q={CANARY}", json=body, headers=headers)
                    count += 1
        http.post("/sign-in", data={"token": CANARY, "csrf": CANARY})
        http.get(f"/{CANARY}?token={CANARY}")
    return count


def hostile_data(web: Web, tokens: dict[str, str]) -> None:
    """Cells that cannot be read, a file that is none, and questions that name values."""
    provider = {"Authorization": f"Bearer {tokens['provider']}"}
    rows = "\n".join(
        ["rider,zone,kind,minutes,cents,paid", f"r1,{CANARY},taxi,{CANARY},1,maybe", ""]
    ).encode()
    for data in (rows, CANARY.encode() * 50):
        length = {**provider, "Upload-Length": str(len(data))}
        made = httpx.post(f"{web.url}/v1/uploads", headers=length).headers["Location"]
        part = {**provider, "Content-Type": TUS, "Upload-Offset": "0"}
        where = f"{web.url}{made.removeprefix(web.url)}"
        assert httpx.patch(where, content=data, headers=part).status_code == 204
        files = dict.fromkeys(("rides", "zones"), made.rpartition("/")[2])
        body = {"manifest": sample.manifest(slug="city/broken"), "files": files}
        assert (
            httpx.post(f"{web.url}/v1/datasets", json=body, headers=provider, timeout=60).status_code >= 400
        )
    buyer = {"Authorization": f"Bearer {tokens['buyer']}", "Idempotency-Key": "values"}
    for number, sql in enumerate(
        (
            f"select count(*) as n from rides where zone = '{CANARY}'",
            f"select cast('{CANARY}' as integer) as n, count(*) as c from rides",
        )
    ):
        body = {"dataset": sample.SLUG, "sql": sql, "rho": "0.001"}
        headers = {**buyer, "Idempotency-Key": f"values-{number}"}
        httpx.post(f"{web.url}/v1/queries", json=body, headers=headers, timeout=60)


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_line_holds_what_was_sent(sqlite_stand: Stand, tmp_path: Path, form: str) -> None:
    target = tmp_path / "spans"
    environ = {
        **sqlite_stand.environ,
        "EXCHANGE_LOG_FORMAT": form,
        "EXCHANGE_REPLY_GRID_MS": "250",
        "EXCHANGE_TRACES": f"file:{target}",
        "EXCHANGE_METRICS_TOKEN": f"{CANARY}-secret",
    }
    with ending() as running:
        web = Web(environ, tmp_path, "web", "--worker")
        running.append(web)
        web.until_ready()
        count = sent_everywhere(web, sqlite_stand.tokens)
        hostile_data(web, sqlite_stand.tokens)
        assert web.stop() == 0
    told, spans = web.told(), target.read_text()
    assert count > 100
    for secret in (CANARY, *(text.partition(".")[2] for text in sqlite_stand.tokens.values())):
        assert secret.lower() not in told.lower()
        assert secret.lower() not in spans.lower()
    lines = told.splitlines()
    assert len(lines) > count
    if form == "json":
        documents = [json.loads(line) for line in lines]
        requests = [one for one in documents if one.get("event") == "request"]
        assert len(requests) > count
        assert all(set(one) <= {"time", "level", "logger", "message", *logs.FIELDS} for one in requests)
        assert all(re.fullmatch(r"req_[0-9a-f]{16}", one["request_id"]) for one in requests)
        assert {one["ms"] % 250 for one in requests} == {0}
        assert {one["status"] for one in requests} > {200, 401, 404}
        assert {one["route"] for one in requests} > {"/v1/queries", "/v1/queries/<query_id>", "unmatched"}
    names = {json.loads(line)["name"] for line in spans.splitlines()}
    assert names >= {"request", "query.reserve", "query.start", "query.run", "query.keep", "query.settle"}


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the root logger writes, as JSON lines."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.Formatter(as_json=True))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield out
    root.removeHandler(handler)
    root.setLevel(level)


def test_of_others_only_what_their_authors_wrote(written: io.StringIO) -> None:
    logging.getLogger("somebody.else").warning("cell %s of %s", CANARY, "x", extra={"actor": CANARY})
    logging.getLogger("somebody.else").warning(f"made up: {CANARY}")
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("exchange.x").exception("it failed")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert CANARY not in written.getvalue()
    assert lines[0]["message"] == "cell %s of %s"
    assert lines[2]["error"] == "ValueError"
    assert "test_of_others_only_what_their_authors_wrote" in lines[2]["places"][-1]


@pytest.mark.parametrize("nasty", ["a\r\nb", "a\x1b[31mb", "a\u2028b", "a\x00b", "a\u202eb"])
def test_no_line_is_forged(nasty: str) -> None:
    record = logging.LogRecord("exchange.x", logging.INFO, "f.py", 1, "saw %s", (nasty,), None)
    for as_json in (True, False):
        line = logs.Formatter(as_json=as_json).format(record)
        assert len(line.splitlines()) == 1
        assert nasty not in line
        assert line.isprintable()


@pytest.mark.parametrize(
    ("ms", "grid", "told"), [(0.1, 250, 250), (250.0, 250, 250), (250.1, 250, 500), (3.2, 0, 4), (0.0, 0, 0)]
)
def test_times_are_told_on_the_grid(ms: float, grid: int, told: int) -> None:
    assert on_grid(ms, grid) == told


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[Any]:
    """A function that gives the spans written so far."""
    traces.configure(f"file:{tmp_path / 'spans'}", process="test")

    def read() -> list[dict[str, Any]]:
        traces.flush()
        return [json.loads(line) for line in (tmp_path / "spans").read_text().splitlines()]

    yield read
    traces.close()


def test_a_query_is_traced_and_a_stranger_is_linked(sqlite_stand: Stand, spans: Any) -> None:
    theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{theirs}-00f067aa0ba902b7-01"}
    asked = sqlite_stand.question()
    reply = sqlite_stand.post("buyer", "/v1/queries", asked, key="traced", headers=headers)
    assert reply.status_code == 200
    found = {span["name"]: span for span in spans()}
    request = found["request"]
    assert request["parent_id"] is None
    assert theirs not in request["context"]["trace_id"]
    assert [link["context"]["trace_id"] for link in request["links"]] == [f"0x{theirs}"]
    for name in ("query.reserve", "query.start", "query.run", "query.keep", "query.settle"):
        assert found[name]["context"]["trace_id"] == request["context"]["trace_id"]
    assert found["query.run"]["attributes"] == {"query": reply.json()["query"]}
    for nonsense in ("", "00-zz", f"00-{'0' * 32}-{'0' * 16}-01", CANARY):
        sqlite_stand.get("buyer", "/v1/whoami", headers={"traceparent": nonsense})
    assert [span["links"] for span in spans() if span["attributes"].get("route") == "/v1/whoami"] == [[]] * 4


def test_a_trace_shows_run_time_on_the_grid_alone(sqlite_stand: Stand, spans: Any) -> None:
    """How long an engine takes over private rows tells of them."""
    object.__setattr__(sqlite_stand.market.settings, "reply_grid_ms", 3_000)
    assert sqlite_stand.run().status_code == 200
    (run,) = [span for span in spans() if span["name"] == "query.run"]
    began, ended = (datetime.fromisoformat(run[one]) for one in ("start_time", "end_time"))
    assert ended - began >= timedelta(seconds=3), "the step of the grid, not the time that it took"


def test_an_error_in_a_span_is_told_by_its_type(spans: Any) -> None:
    with pytest.raises(ValueError, match=CANARY), traces.span("query.run"):
        raise ValueError(CANARY)
    (span,) = spans()
    assert span["attributes"] == {"error.type": "ValueError"}
    assert span["events"] == []
    assert CANARY not in json.dumps(span)


def test_traces_are_off_and_cost_nothing(sqlite_stand: Stand) -> None:
    assert sqlite_stand.settings.traces == ""
    assert traces.span("a") is traces.span("b", query="x"), "the same nothing"


def test_an_unknown_target_is_refused() -> None:
    for target in ("http://collector", "file:", "syslog"):
        with pytest.raises(ValueError, match="EXCHANGE_TRACES"):
            traces.configure(target, process="test")
    assert "opentelemetry.exporter" not in sys.modules
