"""What lies on the disk: encrypted, under keys that are rotated while queries run; of no use without them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from exchange import bootstrap, data_keys
from exchange.cli import main
from exchange.config import Settings, SettingsError
from exchange.errors import MasterKeyMissing
from exchange.keyring import KeyRing
from exchange.operations import rekeying
from exchange.store import assert_outside_transaction
from privacy.sandbox import Sandbox
from tests.journeys.test_tampering import flip, unguarded
from tests.market import layouts, sample
from tests.market.prepared import Postgres, Prepared, copied
from tests.market.stand import Stand, problem

Prepare = Callable[[str], tuple[Prepared, Postgres | None]]

MANY = [f"select count(*) + {i} as n{i} from rides" for i in range(40)]


def command(stand: Stand, *arguments: object) -> Result:
    """`exchange ...` as an operator types it."""
    typed = [str(one) for one in arguments]
    return CliRunner().invoke(main, typed, env=stand.environ, catch_exceptions=False)


def told(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def of_state(stand: Stand, state: str) -> list[dict[str, Any]]:
    return [
        one for one in told(command(stand, "master-keys", "list", "--json"))["keys"] if one["state"] == state
    ]


def result(stand: Stand, answer: dict[str, Any]) -> bytes:
    reply = stand.get("buyer", f"/v1/queries/{answer['query']}/result")
    assert reply.status_code == 200, reply.text
    return reply.content


@pytest.fixture
def bare(prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path: Path) -> Iterator[Stand]:
    """A market whose master keys were lost: only its opened processes still have them."""
    prepared, _ = prepared_markets("sqlite")
    with copied(prepared, tmp_path / "market", lent_sandbox, None) as stand:
        yield stand


def test_no_file_shows_what_it_holds(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    layouts.lay_out(stand)
    assert layouts.taken(stand) is not None
    answer = stand.run(sql=sample.MINUTES).json()
    files = [
        path for root in ("objects", "layouts") for path in (stand.home / root).rglob("*") if path.is_file()
    ]
    assert len([path for path in files if path.suffix == ".parquet"]) >= 1
    known = [b"scooter", b"r0001", b"North Shore", b"east", b"rider", b"minutes", b"PAR1", b"ARROW1"]
    known += [b"exchange.columns", b"privacy", result(stand, answer)[-64:]]
    stored = {path: path.read_bytes() for path in files if path.name not in ("layout.json", "state.json")}
    shown = {(path.name, what) for path, data in stored.items() for what in known if what in data}
    assert not shown
    assert len([1 for data in stored.values() if data.endswith(b"PARE")]) >= 3, "listing and layout"
    assert not list((stand.home / "quarantine").iterdir()), "originals are deleted once they are rewritten"
    assert not list((stand.home / "scratch").iterdir())
    names = {path.name for path in (stand.home / "objects").glob("??/??/*")}
    assert answer["result_sha256"] not in names, "a name confirms no guess"


def test_what_was_refused_waits_for_its_provider_and_no_longer(sqlite_stand: Stand) -> None:
    """The file is sent once: a corrected manifest finds it, and then it goes."""
    stand, quarantine = sqlite_stand, sqlite_stand.home / "quarantine"
    sent = {table: stand.upload("provider", data) for table, data in sample.files(seed=8).items()}
    body = {"manifest": sample.manifest(slug="city/again"), "files": sent, "manifest_sha256": "0" * 64}
    wrong = {**body, "manifest": {**body["manifest"], "policy": sample.policy(tables={})}}
    assert stand.post("provider", "/v1/datasets", wrong).status_code == 422
    assert {path.name for path in quarantine.iterdir()} == set(sent.values())
    assert {path.stat().st_mode & 0o077 for path in quarantine.iterdir()} == {0}
    body["manifest"]["policy"] = sample.policy(domain="riders:again")
    assert stand.post("provider", "/v1/datasets", body).status_code in (200, 201)
    assert not list(quarantine.iterdir())


def test_the_same_files_are_the_same_objects(sqlite_stand: Stand) -> None:
    """Encrypting draws at random, and still a file that is sent again is recognized, and kept once."""
    stand = sqlite_stand
    objects = set((stand.home / "objects").glob("??/??/*"))
    assert stand.draft().json()["unchanged"] is True
    assert set((stand.home / "objects").glob("??/??/*")) == objects
    again = stand.draft(manifest=sample.manifest(plans=[sample.plan("dear")])).json()
    assert again["unchanged"] is False
    assert set((stand.home / "objects").glob("??/??/*")) == objects


def test_keys_rotate_while_queries_run(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "AT_ONCE", 1)
    first = stand.run(key="first").json()
    before = result(stand, first)
    (old,) = of_state(stand, "current")
    failed: list[str] = []
    done = threading.Event()

    def ask() -> None:
        for sql in MANY:
            reply = stand.run("other", sql=sql, rho="0.001")
            if reply.status_code != 200:
                failed.append(reply.text)
            if done.is_set():
                return

    asking = threading.Thread(target=ask)
    asking.start()
    rotated = told(command(stand, "master-keys", "rotate", "--json"))
    done.set()
    asking.join()
    assert failed == []
    assert rotated["rewrapped"] >= 3
    assert rotated["resumed"] is False
    assert result(stand, first) == before
    late = stand.run(sql=sample.BY_ZONE).json()
    assert [one["id"] for one in of_state(stand, "current")] == [rotated["current"]]
    assert [(one["id"], one["objects"]) for one in of_state(stand, "old")] == [(old["id"], 0)]
    told(command(stand, "master-keys", "retire", old["id"], "--json"))
    assert old["id"] not in (stand.home / "master.keys").read_text()
    assert result(stand, late)
    assert result(stand, first) == before
    assert stand.run(sql=sample.MINUTES).status_code == 200
    logged = [entry.document["kind"] for entry in stand.entries() if "keys." in entry.document["kind"]]
    assert logged == ["keys.rotated", "keys.retired"]
    stand.publish_log()
    assert stand.verify().exit_code == 0
    assert stand.broken_laws() == []


def test_a_rotation_that_was_interrupted_goes_on(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    monkeypatch.setattr(rekeying, "AT_ONCE", 1)
    first = stand.run().json()
    (old,) = of_state(stand, "current")

    def cut(done: int, _: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt):
        rekeying.rotate(stand.market, tell=cut)
    (new,) = of_state(stand, "current")
    assert new["objects"] == 1
    refused = command(stand, "master-keys", "retire", old["id"])
    assert refused.exit_code == 3
    assert "still under" in refused.stderr
    assert command(stand, "master-keys", "retire", new["id"]).exit_code == 3
    assert command(stand, "master-keys", "retire", "mk_000000000000").exit_code == 2
    assert result(stand, first), "both keys are good"
    again = told(command(stand, "master-keys", "rotate", "--json"))
    assert (again["resumed"], again["current"], again["rewrapped"]) == (True, new["id"], old["objects"] - 1)
    assert result(stand, first)


def test_what_was_written_under_the_old_key_meanwhile_is_found(sqlite_stand: Stand) -> None:
    """In a transaction nobody looks for a newer master key, so a row may come to be under the one before."""
    market = sqlite_stand.market
    before = told(command(sqlite_stand, "master-keys", "list", "--json"))["keys"][0]["id"]
    (made,) = market.vault.seal(b"an answer")
    after = told(command(sqlite_stand, "master-keys", "rotate", "--json"))["current"]
    market.store.jot(lambda session, _: data_keys.record(session, market.vault.ring, [made]))
    assert {one["id"]: one["objects"] for one in of_state(sqlite_stand, "old")} == {before: 1}
    assert command(sqlite_stand, "master-keys", "retire", before).exit_code != 0
    done = told(command(sqlite_stand, "master-keys", "rotate", "--json"))
    assert (done["current"], done["resumed"], done["rewrapped"]) == (after, True, 1)
    assert market.vault.read(made.plain_sha256 or "") == b"an answer"


def test_keys_that_are_added_at_once_are_all_there(sqlite_stand: Stand) -> None:
    path = sqlite_stand.market.vault.ring.path
    (before,) = KeyRing(path).ids()
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda _: KeyRing(path).add(), range(16)))
    assert set(KeyRing(path).ids()) == {before, *added}


def test_no_data_key_is_put_under_a_master_key_that_is_in_no_file(sqlite_stand: Stand) -> None:
    """Somebody puts an older file of keys back while a rotation runs."""
    ring = sqlite_stand.market.vault.ring
    old = ring.path.read_bytes()

    def put_back(*_: object) -> None:
        ring.path.write_bytes(old)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rekeying, "AT_ONCE", 1)
        with pytest.raises(MasterKeyMissing):
            rekeying.rotate(sqlite_stand.market, tell=put_back)
    under = {row.id: row.objects for row in sqlite_stand.market.store.read(data_keys.masters)}
    assert sorted(under) != sorted(ring.ids()), "the new one is known, and in no file"
    assert [count for key, count in under.items() if key not in ring.ids()] == [1]


def test_a_key_that_somebody_added_is_taken(sqlite_stand: Stand, tmp_path: Path) -> None:
    """Where the file is given to the exchange read-only, its owner adds the line."""
    stand, other = sqlite_stand, tmp_path / "other.keys"
    ring = type(stand.market.vault.ring)(other)
    ring.create()
    (added,) = ring.ids()
    with (stand.home / "master.keys").open("a") as file:
        file.write(other.read_text().splitlines()[-1] + "\n")
    assert told(command(stand, "master-keys", "rotate", "--json"))["current"] == added


def test_processes_that_start_at_once_make_one_file(bare: Stand) -> None:
    path = bare.home / "first" / "master.keys"
    path.parent.mkdir()
    rings = [type(bare.market.vault.ring)(path) for _ in range(8)]
    seen: list[tuple[str, ...]] = []

    def start(ring: Any) -> None:
        ring.create()
        seen.append(ring.ids())

    threads = [threading.Thread(target=start, args=(ring,)) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert len(seen[0]) == 1
    assert [one.name for one in path.parent.iterdir()] == ["master.keys"]


def test_two_users_of_one_group_share_the_file(bare: Stand) -> None:
    """Web and worker processes may be of two users; the home of one user alone opens it to nobody else."""
    path, ring = bare.home / "master.keys", bare.market.vault.ring
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        bootstrap.open_market(bare.settings)
    bare.home.chmod(0o770)
    bootstrap.open_market(bare.settings).close()
    told(command(bare, "master-keys", "rotate", "--json"))
    assert path.stat().st_mode & 0o777 == 0o640, "as it was"
    other = type(ring)(bare.home / "other.keys")
    other.create()
    assert other.path.stat().st_mode & 0o777 == 0o640
    assert len(other.ids()) == 1


def test_a_first_start_reads_its_keys_before_the_transaction_and_needs_one(
    bare: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, vault = bare.home / "master.keys", bare.market.vault
    with bare.market.store.engine.begin() as connection:
        for table in ("data_key", "master_key"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    for written in ("", "# to be filled in\n"):
        path.write_text(written)
        with pytest.raises(SettingsError, match="holds no master key: remove the file"):
            vault.begin()
    path.unlink()
    for name in ("ids", "proof_of"):
        real = getattr(type(vault.ring), name)
        outside = lambda *given, real=real: (assert_outside_transaction(), real(*given))[1]  # noqa: E731
        monkeypatch.setattr(type(vault.ring), name, outside)
    vault.begin()
    assert len(vault.ring.ids()) == 1


def test_a_link_to_the_keys_stays_a_link(bare: Stand, tmp_path: Path) -> None:
    """The file may lie on a disk of its own: a new key is written there, and is there for all who read it."""
    path, place = bare.home / "master.keys", tmp_path / "vault" / "keys"
    place.parent.mkdir(mode=0o700)
    path.rename(place)
    path.symlink_to(place)
    told(command(bare, "master-keys", "rotate", "--json"))
    assert path.is_symlink()
    assert len(type(bare.market.vault.ring)(place).ids()) == 2
    assert {one.name for one in place.parent.iterdir()} == {"keys", ".keys.lock"}, "no draft stays"


@pytest.mark.parametrize("lost", ["missing", "another", "of the same id", "readable to all", "damaged"])
def test_without_its_master_keys_nothing_starts(bare: Stand, tmp_path: Path, lost: str) -> None:
    path = bare.home / "master.keys"
    kept = path.read_text()
    if lost == "missing":
        path.unlink()
    elif lost == "another":
        path.unlink()
        type(bare.market.vault.ring)(path).create()
    elif lost == "of the same id":
        line = kept.splitlines()[-1]
        path.write_text(f"{line[:16]} {'A' * 43}=\n")
    elif lost == "readable to all":
        path.chmod(0o644)
    else:
        path.write_text(kept + "nonsense\n")
    with pytest.raises(SettingsError, match=r"master\.keys") as refused:
        bootstrap.open_market(bare.settings)
    assert kept.split()[-1] not in str(refused.value)
    shown = command(bare, "check")
    assert shown.exit_code == 2
    assert "master.keys" in shown.stderr
    assert bare.get(None, "/readyz").status_code == 503
    assert told_parts(bare)["keys"] == "missing"
    if lost == "missing":
        assert not path.exists(), "a key is made for a database that knows none, and for no other"


def told_parts(stand: Stand) -> dict[str, str]:
    reply = stand.get("operator", "/readyz")
    parts: dict[str, str] = reply.json()["parts"]
    return parts


def test_an_altered_file_answers_nobody(sqlite_stand: Stand) -> None:
    """Whoever changes a stored file has changed a tag: the query ends without an answer, for no money."""
    stand, before = sqlite_stand, sqlite_stand.wallet()
    (path,) = layouts.plain_files(stand)
    flip(path, 300)
    problem(stand.run(), 500, "query_failed")
    assert stand.wallet() == before
    assert stand.states() == ["FORFEITED"]
    assert stand.broken_laws() == []


def test_an_altered_data_key_opens_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    answer = stand.run().json()
    swap = (
        "UPDATE data_key SET wrapped = (SELECT wrapped FROM data_key WHERE object <> :one LIMIT 1) "
        "WHERE object = :one"
    )
    stored = stand.stored(answer["result_sha256"])
    stand.market.store.jot(lambda session, _: session.execute(text(swap), {"one": stored}) and None)
    where = f"/v1/queries/{answer['query']}/result"
    refused = problem(stand.get("buyer", where), 503, "master_key_wrong")
    assert "docs/security.md" in refused["hint"]


def test_what_an_older_release_stored_in_plain_is_read(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    answer = stand.run(key="old").json()
    arrow = result(stand, answer)
    kept = stand.market.objects.put_bytes(arrow)
    assert kept == (answer["result_sha256"],)
    stand.market.store.jot(lambda session, _: data_keys.forget(session, answer["result_sha256"]))
    public = next(table for table in layouts.view(stand).tables if table.name == "zones")
    with stand.market.store.engine.begin() as connection, unguarded(connection, "version_part"):
        connection.execute(text("UPDATE version_part SET stored_sha256 = NULL WHERE table_name = 'zones'"))
    plain = plain_copy(stand, public.stored[0])
    assert stand.market.objects.put(plain) == public.objects[0], "ingest makes the same file in plain"
    assert result(stand, answer) == arrow
    assert stand.run(key="old").json()["result_sha256"] == answer["result_sha256"]
    assert stand.run(sql=sample.PUBLIC).status_code == 200
    listed = command(stand, "master-keys", "list", "--json")
    assert told(listed)["plain_objects"] == 2
    assert "2 objects" in listed.stderr


def plain_copy(stand: Stand, object_: str | None) -> Path:
    """What ingest writes of the zones without a key."""
    from catalog.ingest import ingest_table

    assert object_ is not None
    source, out = stand.home / "zones.csv", stand.home / "zones"
    source.write_bytes(sample.zones())
    (part,) = ingest_table(source, table="zones", unit=None, out=out).parts
    return part.path


def test_a_backup_needs_its_master_keys(sqlite_stand: Stand, tmp_path: Path) -> None:
    stand = sqlite_stand
    answer = stand.run(sql=sample.BY_ZONE).json()
    before = result(stand, answer)
    made = command(stand, "backup", tmp_path / "backup", "--with-keys")
    assert made.exit_code == 0, made.output
    assert "master.keys" in made.stderr
    line = (stand.home / "master.keys").read_text().split()[-1].encode()
    assert not any(line in path.read_bytes() for path in (tmp_path / "backup").rglob("*") if path.is_file())
    home, keys = tmp_path / "anew", tmp_path / "keys"
    arguments = ["restore", tmp_path / "backup", "--into", home, "--none-newer"]
    moved = {**stand.environ, "EXCHANGE_HOME": str(home)}

    def restored(*more: object) -> Result:
        typed = [str(one) for one in (*arguments, *more)]
        return CliRunner().invoke(main, typed, env=moved, catch_exceptions=False)

    refused = restored()
    assert refused.exit_code == 3
    assert "--keys" in refused.stderr
    assert not home.exists()
    keys.mkdir()
    shutil.copy(stand.home / "master.keys", keys)
    done = restored("--keys", keys)
    assert done.exit_code == 0, done.output
    assert (home / "master.keys").stat().st_mode & 0o777 == 0o600
    with_answer = bootstrap.open_market(Settings.from_env(moved))
    try:
        assert with_answer.vault.read(answer["result_sha256"]) == before
    finally:
        with_answer.close()
