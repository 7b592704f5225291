"""Whoever changes the log or the books behind the exchange's back is named by the verification."""

from __future__ import annotations

import base64
import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from exchange.audit.errors import HeadRefused, SignerUnavailable
from exchange.audit.note import SigningKey
from exchange.audit.verify import LogReport
from exchange.operations import auditing
from privacy.sandbox import Sandbox
from tests.market import sample
from tests.market.fixtures import BOTH
from tests.market.prepared import Postgres, Prepared, copied
from tests.market.stand import Stand, problem

Prepare = Callable[[str], tuple[Prepared, Postgres | None]]
Copies = Callable[[], contextlib.AbstractContextManager[Stand]]

#: Refused calls that make the log longer than one bundle of 256 entries.
CALLS = 250


def lived_in(stand: Stand) -> None:
    """A market in which something has happened, and whose log is published."""
    assert stand.run().status_code == 200
    assert stand.run("other", sample.BY_ZONE).status_code == 200
    for _ in range(CALLS):
        stand.get("nobody", "/v1/whoami")
    stand.publish_log()


@pytest.fixture(scope="module")
def sqlite_copies(
    prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Copies:
    """A function that opens a copy of a market with a published log, on SQLite."""
    prepared, _ = prepared_markets("sqlite")
    home, number = tmp_path_factory.mktemp("lived-in") / "market", itertools.count()
    with copied(prepared, home, lent_sandbox, None) as stand:
        lived_in(stand)
    lived = Prepared(home, "", prepared.tokens, prepared.orgs)
    return lambda: copied(lived, tmp_path_factory.mktemp("copy") / f"{next(number)}", lent_sandbox, None)


@pytest.fixture
def lived(sqlite_copies: Copies) -> Iterator[Stand]:
    """A market of the test's own with a published log of more than one bundle."""
    with sqlite_copies() as stand:
        yield stand


def alter(stand: Stand, table: str, *statements: str) -> None:
    """Change the database as its administrator could: the triggers are taken away and put back."""
    with stand.market.store.engine.begin() as connection, unguarded(connection, table):
        for statement in statements:
            assert connection.execute(text(statement)).rowcount > 0, statement


@contextlib.contextmanager
def unguarded(connection: Connection, table: str) -> Iterator[None]:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        yield
        connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
        return
    found = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table")
    triggers = connection.execute(found, {"table": table}).all()
    for trigger in triggers:
        connection.execute(text(f"DROP TRIGGER {trigger.name}"))
    yield
    for trigger in triggers:
        connection.exec_driver_sql(trigger.sql)


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def journal_of(stand: Stand, kind: str = "query_settled") -> str:
    statement = text("SELECT id FROM journal WHERE kind = :kind ORDER BY position LIMIT 1")
    return str(stand.market.store.read(lambda s: s.execute(statement, {"kind": kind}).scalar_one()))


def named(report: LogReport, **place: Any) -> bool:
    """Whether a finding names the place."""
    return any(all(getattr(f, k) == v for k, v in place.items()) for f in report.findings)


def test_an_honest_market_verifies(lived: Stand) -> None:
    report = lived.verify()
    assert (report.exit_code, report.findings) == (0, ())
    assert report.size is not None
    assert report.size > 256
    assert report.entries == report.size
    assert lived.run(sql=sample.MINUTES).status_code == 200
    report = lived.verify()
    assert (report.exit_code, report.unpublished) == (0, 4)


# the published files


def only(stand: Stand, pattern: str) -> Path:
    (found,) = stand.settings.log_path.glob(pattern)
    return found


TILES = ["tile/0/000", "tile/0/001.p/*", "tile/1/000.p/1"]
BUNDLES = ["tile/entries/000", "tile/entries/001.p/*"]


@pytest.mark.parametrize("pattern", TILES)
@pytest.mark.parametrize("offset", [0, 17, -1])
def test_one_bit_of_a_tile_is_named(lived: Stand, pattern: str, offset: int) -> None:
    path = only(lived, pattern)
    flip(path, offset)
    report = lived.verify()
    assert report.exit_code == 11
    assert named(report, path=path.relative_to(lived.settings.log_path).as_posix())


@pytest.mark.parametrize("pattern", BUNDLES)
@pytest.mark.parametrize("offset", [40, 3_000, -40])
def test_one_bit_of_an_entry_is_named(lived: Stand, pattern: str, offset: int) -> None:
    path = only(lived, pattern)
    flip(path, offset)
    report = lived.verify()
    assert report.exit_code == 11
    (seq,) = {finding.seq for finding in report.findings}
    assert seq is not None
    assert (seq < 256) is (pattern == BUNDLES[0])


@pytest.mark.parametrize("pattern", [*TILES, *BUNDLES])
def test_a_missing_file_is_named(lived: Stand, pattern: str) -> None:
    path = only(lived, pattern)
    path.unlink()
    report = lived.verify()
    assert report.exit_code == 10
    assert named(report, path=path.relative_to(lived.settings.log_path).as_posix())


def test_files_of_a_tree_that_is_not_signed_yet_are_no_finding(
    lived: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signer is away: the next tree's files are written, and lie ahead of the checkpoint for a while."""
    before = {path for path in lived.settings.log_path.glob("tile/**/*") if path.is_file()}
    assert lived.run(sql=sample.MINUTES).status_code == 200

    def away(*_: object) -> None:
        raise SignerUnavailable("The signer does not answer.")

    with monkeypatch.context() as without:
        without.setattr("exchange.audit.signing.LogSigner.sign_head", away)
        with pytest.raises(SignerUnavailable):
            lived.publish_log()
    ahead = {path for path in lived.settings.log_path.glob("tile/**/*") if path.is_file()} - before
    assert len(ahead) == 2, "a tile and a bundle"
    assert lived.verify().exit_code == 0
    for path in sorted(ahead):
        flip(path, 0)
        report = lived.verify()
        assert report.exit_code == 11
        assert named(report, path=path.relative_to(lived.settings.log_path).as_posix())
        flip(path, 0)
    lived.publish_log()
    assert lived.verify().exit_code == 0


def checkpoint_line(number: int, change: Callable[[str], str]) -> Callable[[str], str]:
    def changed(note: str) -> str:
        lines = note.split("\n")
        lines[number] = change(lines[number])
        return "\n".join(lines)

    return changed


def other_root(line: str) -> str:
    root = bytearray(base64.b64decode(line))
    root[0] ^= 1
    return base64.b64encode(root).decode()


CHECKPOINTS = {
    "size": (checkpoint_line(1, lambda line: str(int(line) - 1)), 13),
    "root": (checkpoint_line(2, other_root), 13),
    "signature": (
        checkpoint_line(4, lambda line: line[:-8] + ("A" if line[-8] != "A" else "B") + line[-7:]),
        13,
    ),
    "signer": (checkpoint_line(4, lambda line: line.replace("exchange.local", "exchange.other")), 13),
    "cut": (lambda note: note[: len(note) // 2], 15),
    "empty": (lambda note: "", 15),
}


@pytest.mark.parametrize("change", CHECKPOINTS)
def test_a_changed_checkpoint_is_named(lived: Stand, change: str) -> None:
    path = only(lived, "checkpoint")
    edit, exit_code = CHECKPOINTS[change]
    path.write_text(edit(path.read_text()))
    report = lived.verify()
    assert report.exit_code == exit_code
    assert len(report.findings) >= 1
    assert report.root is None, "nothing is held against a checkpoint that nobody signed"


def test_a_checkpoint_of_another_key_is_not_trusted(lived: Stand) -> None:
    mine = SigningKey.generate(lived.settings.log_origin)
    report = auditing.verify(lived.market, log_key=str(mine.verifier))
    assert report.exit_code == 13


def test_a_log_that_was_written_anew_is_a_fork(lived: Stand, sqlite_copies: Copies) -> None:
    """The signer refuses another past; whoever has its key and its memory can sign one, and who saved a
    checkpoint sees it.
    """
    saved = only(lived, "checkpoint").read_text()
    with sqlite_copies() as stand:
        alter(stand, "audit_entry", "DELETE FROM audit_entry WHERE seq >= 20")
        with stand.market.store.engine.begin() as connection:
            connection.execute(text("UPDATE audit_sequence SET next = 20"))
        for path in sorted((stand.settings.log_path).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        for _ in range(CALLS + 40):
            stand.get("nobody", "/v1/whoami")
        with pytest.raises(HeadRefused):
            stand.publish_log()
        assert not (stand.settings.log_path / "checkpoint").exists()
        shutil.rmtree(stand.home / "signer" / "heads")
        stand.publish_log()
        report = stand.verify(pinned=saved)
        assert report.exit_code == 12
        assert any("pinned checkpoint" in finding.message for finding in report.findings)


def test_a_shorter_log_than_the_saved_checkpoint_is_truncated(lived: Stand, sqlite_copies: Copies) -> None:
    assert lived.run(sql=sample.MINUTES).status_code == 200
    saved = lived.publish_log().encoded().decode()
    with sqlite_copies() as backup:
        assert backup.verify().exit_code == 0
        assert backup.verify(pinned=saved).exit_code == 10
    assert lived.verify(pinned=saved).exit_code == 0


# the database

MONEY = (
    "(SELECT t.id FROM transfer t JOIN journal j ON j.id = t.journal "
    "WHERE j.kind = 'query_settled' AND t.unit = 'USD' ORDER BY j.position, t.leg LIMIT 1)"
)
ELSEWHERE = "'external:bank:USD'"
SETTLED = "(SELECT MIN(position) FROM journal WHERE kind = 'query_settled')"
ALTERED = {
    "an amount": ("transfer", f"UPDATE transfer SET amount = amount + 1 WHERE id = {MONEY}"),
    "an account": ("transfer", f"UPDATE transfer SET credit = {ELSEWHERE} WHERE id = {MONEY}"),
    "a name": ("journal", f"UPDATE journal SET actor = 'somebody else' WHERE position = {SETTLED}"),
}


on_both = pytest.mark.parametrize("kind", BOTH)


@contextlib.contextmanager
def one_query(
    prepared_markets: Prepare, sandbox: Callable[[], Sandbox], folder: Path, kind: str
) -> Iterator[Stand]:
    """A market with one answered query under a checkpoint."""
    prepared, server = prepared_markets(kind)
    with copied(prepared, folder / "market", sandbox, server) as stand:
        assert stand.run().status_code == 200
        stand.publish_log()
        assert stand.verify().exit_code == 0
        yield stand


@pytest.mark.parametrize("what", ALTERED)
@on_both
def test_a_changed_journal_is_named(
    prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path: Path, kind: str, what: str
) -> None:
    table, statement = ALTERED[what]
    with one_query(prepared_markets, lent_sandbox, tmp_path, kind) as stand:
        journal = journal_of(stand)
        alter(stand, table, statement)
        report = stand.verify()
        assert report.exit_code == 11
        assert named(report, journal=journal)
        if table == "transfer":
            assert any(found.startswith("L3") for found in stand.broken_laws())


@on_both
def test_a_deleted_journal_is_named(
    prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path: Path, kind: str
) -> None:
    with one_query(prepared_markets, lent_sandbox, tmp_path, kind) as stand:
        journal = journal_of(stand)
        alter(stand, "transfer", f"DELETE FROM transfer WHERE journal = '{journal}'")
        alter(stand, "journal", f"DELETE FROM journal WHERE id = '{journal}'")
        report = stand.verify()
        assert report.exit_code == 11
        assert named(report, journal=journal)
        assert any(found.startswith("L5") for found in stand.broken_laws())


@on_both
def test_a_changed_leaf_is_named(
    prepared_markets: Prepare, lent_sandbox: Callable[[], Sandbox], tmp_path: Path, kind: str
) -> None:
    with one_query(prepared_markets, lent_sandbox, tmp_path, kind) as stand:
        record = stand.entries(kind="query.settled")[0]
        forged = record.leaf.replace(b'"amount_minor":"25"', b'"amount_minor":"24"')
        assert forged != record.leaf
        with stand.market.store.engine.begin() as connection, unguarded(connection, "audit_entry"):
            change = text("UPDATE audit_entry SET leaf = :leaf WHERE seq = :seq")
            connection.execute(change, {"leaf": forged, "seq": record.seq})
        report = stand.verify()
        assert report.exit_code == 11
        assert named(report, seq=record.seq)


def test_a_changed_search_column_is_named(lived: Stand) -> None:
    record = lived.entries(kind="query.settled")[0]
    alter(lived, "audit_entry", f"UPDATE audit_entry SET purpose = 'journalism' WHERE seq = {record.seq}")
    report = lived.verify()
    assert report.exit_code == 11
    assert named(report, seq=record.seq, id=record.id)


def test_a_deleted_entry_is_a_gap(lived: Stand) -> None:
    record = lived.entries(kind="query.settled")[0]
    alter(lived, "audit_entry", f"DELETE FROM audit_entry WHERE seq = {record.seq}")
    report = lived.verify()
    assert {finding.exit_code for finding in report.findings} >= {14}
    assert named(report, exit_code=14, seq=record.seq)


def test_a_database_that_ends_early_is_named(lived: Stand) -> None:
    size = len(lived.entries())
    alter(lived, "audit_entry", f"DELETE FROM audit_entry WHERE seq >= {size - 3}")
    report = lived.verify()
    assert named(report, exit_code=10, seq=size - 3)
    assert report.exit_code in (10, 11)
    told = problem(lived.run(sql=sample.MINUTES), 500, "audit_sequence_broken")
    assert "exchange audit verify" in told["hint"], "nothing is written on top of a broken log"


def test_a_journal_that_no_entry_names_is_found(lived: Stand) -> None:
    with lived.market.store.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO journal (id, kind, business_key, effective_at, recorded_at, actor) "
                "VALUES ('jnl_forged', 'wallet_credited', 'bank:forged', '2026', '2026', 'system')"
            )
        )
    report = lived.verify()
    assert report.exit_code == 11
    assert any("jnl_forged" in str(finding) for finding in report.findings)


def test_a_cached_balance_that_is_wrong_is_found(lived: Stand) -> None:
    with lived.market.store.engine.begin() as connection:
        changed = "UPDATE account SET credits_posted = credits_posted + 5000 WHERE id = :id"
        account = f"buyer:{lived.orgs['buyer']}:prepaid:USD"
        assert connection.execute(text(changed), {"id": account}).rowcount == 1
    assert any(found.startswith("L3") for found in lived.broken_laws())
    report = lived.verify()
    assert report.exit_code == 11
    assert any(account in str(finding) for finding in report.findings)


LAWS = {
    "L5": ("query", "UPDATE query SET acceptance_id = 'acc_none'"),
    "L6": ("query", "UPDATE query SET rho_nano = rho_nano + 1"),
    "L7": ("query", "UPDATE query SET state = 'VOIDED'"),
    "L9": ("query", "UPDATE query SET charge_minor = charge_minor - 1"),
    "L12": ("acceptance", "UPDATE acceptance SET territory = 'US'"),
}


@pytest.mark.parametrize("law", LAWS)
def test_each_law_can_be_broken(lived: Stand, law: str) -> None:
    table, statement = LAWS[law]
    assert lived.broken_laws() == []
    alter(lived, table, statement)
    assert law in {found.partition(":")[0] for found in lived.broken_laws()}


@pytest.mark.parametrize("table", ["transfer", "audit_entry", "acceptance"])
def test_a_lost_trigger_is_found(lived: Stand, table: str) -> None:
    with lived.market.store.engine.begin() as connection:
        connection.execute(text(f"DROP TRIGGER {table}_append_only_delete"))
    assert lived.broken_laws() == [f"L12: the table {table} has lost its append-only trigger"]


def test_a_damaged_result_is_not_delivered(lived: Stand) -> None:
    answer = lived.run().json()
    assert answer["repeated"] is True
    flip(lived.market.objects.path(lived.stored(answer["result_sha256"])), -20)
    problem(lived.get("buyer", f"/v1/queries/{answer['query']}/result"), 500, "object_damaged")
    problem(lived.run(key="again"), 500, "object_damaged")
    assert lived.broken_laws() == []
