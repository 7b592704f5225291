"""An exchange whose objects are in a bucket: the whole way, and what happens while the store is away."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import privacy
from catalog import buckets
from exchange.cli import main
from exchange.operations import collecting, observing, running
from privacy.sandbox import Sandbox
from tests.market import layouts, sample
from tests.market.prepared import copied
from tests.market.private_s3 import PrivateS3
from tests.market.processes import until
from tests.market.proxy import Proxy
from tests.market.stand import Stand, problem

pytestmark = pytest.mark.s3
Prepared = Callable[[str], tuple[Any, None]]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is back is found soon."""
    for name, seconds in {"_AWAY_S": 0.3, "_FRESH_S": 0.3}.items():
        monkeypatch.setattr(buckets, name, seconds)
    monkeypatch.setattr(running, "_KEEP_PATIENCE_S", 1.0)


@pytest.fixture
def quick(soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same time-outs, shorter: but a live store on a busy machine is in time."""
    for name, seconds in {"CONNECT_TIMEOUT_S": 1.0, "READ_TIMEOUT_S": 2.0}.items():
        monkeypatch.setattr(buckets, name, seconds)


@pytest.fixture
def proxy(s3_url: str) -> Iterator[Proxy]:
    with contextlib.closing(Proxy(buckets.Address.parse(s3_url).endpoint)) as made:
        yield made


@pytest.fixture
def stand(
    quick: None,
    proxy: Proxy,
    s3_url: str,
    prepared_markets: Prepared,
    lent_sandbox: Callable[[], Sandbox],
    tmp_path: Path,
) -> Iterator[Stand]:
    """A market of the test's own whose objects are in the bucket, behind the proxy."""
    url = f"{s3_url.partition('?')[0]}?endpoint={proxy.url}"
    prepared, _ = prepared_markets("sqlite")
    with copied(prepared, tmp_path / "market", lent_sandbox, None, url) as made:
        yield made


def heal(stand: Stand, proxy: Proxy) -> None:
    """The store is back: the exchange finds out by itself."""
    proxy.mode = "open"
    until(lambda: ready(stand) == "ok", within_s=20)


def ready(stand: Stand) -> str:
    return observing.Readiness(stand.market).parts()["objects"]


def objects(stand: Stand) -> set[str]:
    return set(stand.market.objects.every())


def money_and_rho(stand: Stand) -> tuple[Any, int]:
    return stand.wallet(), stand.budget()["rho_nano_spent"]


def without_copies(stand: Stand) -> None:
    shutil.rmtree(stand.home / "cache")


def test_the_whole_way_with_a_bucket(stand: Stand, tmp_path: Path) -> None:
    """List, buy, ask, fetch; from copies, without them, from a layout, and from a backup."""
    stand.publish(manifest=sample.manifest(title="Again"), files=sample.files(seed=8))
    answer = stand.run(key="first").json()
    again = stand.run("other", sample.BY_ZONE)
    assert again.status_code == 200, again.text
    without_copies(stand)
    where = f"/v1/queries/{answer['query']}/result"
    fetched = stand.get("buyer", where)
    assert fetched.status_code == 200
    repeated = stand.run().json()
    assert (repeated["query"], repeated["result_sha256"]) == (answer["query"], answer["result_sha256"])
    without_copies(stand)
    layouts.lay_out(stand)
    assert layouts.taken(stand) is not None
    without_copies(stand)
    refined = stand.run(rho="0.02")
    assert refined.status_code == 200, refined.text
    assert collecting.collect(stand.market) == 0
    assert stand.stored(answer["result_sha256"]) in objects(stand)
    assert not (stand.home / "objects").exists()
    stand.publish_log()
    assert stand.verify().good
    assert stand.broken_laws() == []
    _restored(stand, tmp_path, answer, fetched.content)


def _restored(stand: Stand, tmp_path: Path, answer: dict[str, Any], bytes_: bytes) -> None:
    """Into another prefix of the bucket; into this one it does not go."""
    environ, backup = stand.environ, tmp_path / "backup.tar"
    command = ["restore", str(backup), "--into", str(tmp_path / "restored"), "--none-newer"]
    command += ["--keys", str(stand.home)]
    assert CliRunner().invoke(main, ["backup", str(backup)], env=environ).exit_code == 0
    refused = CliRunner().invoke(main, command, env=environ)
    assert refused.exit_code == 3, refused.output
    assert "not empty" in refused.output
    url = environ["EXCHANGE_OBJECTS_URL"].replace("?", "-restored?")
    other = {**environ, "EXCHANGE_OBJECTS_URL": url, "EXCHANGE_HOME": str(tmp_path / "restored")}
    done = CliRunner().invoke(main, command, env=other)
    assert done.exit_code == 0, done.output
    with contextlib.closing(
        Stand(other, lambda: stand.market.engine.sandbox(), stand.tokens, stand.orgs)
    ) as restored:
        assert objects(restored) == objects(stand)
        assert restored.get("buyer", f"/v1/queries/{answer['query']}/result").content == bytes_
        assert restored.broken_laws() == []


@pytest.mark.parametrize("mode", ["silent", "closed"])
def test_while_the_store_is_away_nothing_is_reserved(stand: Stand, proxy: Proxy, mode: str) -> None:
    answer = stand.run().json()
    where = f"/v1/queries/{answer['query']}/result"
    sent = {table: stand.upload("provider", data) for table, data in sample.files(seed=9).items()}
    listing = {"manifest": sample.manifest(title="New"), "files": sent, "manifest_sha256": "0" * 64}
    books, there = stand.books(), objects(stand)
    proxy.mode = mode
    until(lambda: ready(stand) == "does not answer", within_s=10)
    for ask in (
        lambda: stand.run(sql=sample.BY_ZONE, key="once"),
        lambda: stand.post("provider", "/v1/datasets", listing),
    ):
        began = time.monotonic()
        reply = ask()
        problem(reply, 503, "objects_unavailable")
        assert int(reply.headers["Retry-After"]) > 0
        assert time.monotonic() - began < 10
    assert stand.get("buyer", where).status_code == 200, "there is a copy of it"
    without_copies(stand)
    problem(stand.get("buyer", where), 503, "objects_unavailable")
    assert stand.books() == books
    heal(stand, proxy)
    came_through = objects(stand) - there  # of a put whose answer was lost: whole, and named by nothing
    assert mode == "silent" or not came_through
    assert all(stand.market.objects.read(one) for one in came_through), "nothing half-done"
    assert objects(stand) >= there
    assert stand.get("buyer", where).status_code == 200
    assert stand.post("provider", "/v1/datasets", listing).status_code == 201
    assert stand.run(sql=sample.BY_ZONE, key="once").status_code == 200
    assert stand.broken_laws() == []


def test_a_store_that_goes_away_before_the_start_costs_nothing(
    stand: Stand, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money and rho are reserved by then, and nothing was read."""
    await_turn, before = running._await_turn, money_and_rho(stand)

    def leaving(*given: Any) -> None:
        await_turn(*given)
        without_copies(stand)
        proxy.mode = "closed"

    with monkeypatch.context() as patch:
        patch.setattr(running, "_await_turn", leaving)
        problem(stand.run(key="once"), 503, "objects_unavailable")
    assert stand.states() == ["VOIDED"]
    assert money_and_rho(stand) == before
    (job,) = stand.get("buyer", "/v1/queries").json()["items"]
    assert job["failure"] == "objects_unavailable"
    heal(stand, proxy)
    assert stand.run().status_code == 200
    assert stand.broken_laws() == []


@pytest.mark.parametrize("back_in_time", [True, False])
def test_a_store_that_goes_away_while_a_query_runs(
    stand: Stand, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, back_in_time: bool
) -> None:
    """The answer is kept once the store is back; after a while it is forfeited: rho stays, money returns."""
    wallet, spent = money_and_rho(stand)
    answer = privacy.answer

    def leaving(*given: Any, **named: Any) -> Any:
        proxy.mode = "closed"
        if back_in_time:
            threading.Timer(0.4, lambda: setattr(proxy, "mode", "open")).start()
        return answer(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(running.privacy, "answer", leaving)
        reply = stand.run()
    if back_in_time:
        assert reply.status_code == 200, reply.text
        assert stand.states() == ["SETTLED"]
    else:
        problem(reply, 500, "query_failed")
        assert stand.states() == ["FORFEITED"]
        assert stand.wallet() == wallet
        assert stand.budget()["rho_nano_spent"] > spent
    heal(stand, proxy)
    assert stand.run(sql=sample.BY_ZONE).status_code == 200
    assert stand.broken_laws() == []


@pytest.mark.usefixtures("soon")
def test_a_server_that_was_killed_is_found_again(
    private_s3: PrivateS3, prepared_markets: Prepared, lent_sandbox: Callable[[], Sandbox], tmp_path: Path
) -> None:
    prepared, _ = prepared_markets("sqlite")
    with copied(prepared, tmp_path / "market", lent_sandbox, None, private_s3.url) as stand:
        first = stand.run().json()
        there = objects(stand)
        private_s3.kill()
        until(lambda: ready(stand) == "does not answer", within_s=10)
        problem(stand.run(sql=sample.BY_ZONE, key="once"), 503, "objects_unavailable")
        private_s3.start()
        until(lambda: ready(stand) == "ok", within_s=20)
        assert objects(stand) == there
        without_copies(stand)
        where = f"/v1/queries/{first['query']}/result"
        until(lambda: stand.get("buyer", where).status_code == 200, within_s=20)  # its parts start one by one
        assert stand.run(sql=sample.BY_ZONE, key="once").status_code == 200
        assert stand.broken_laws() == []
