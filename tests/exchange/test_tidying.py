"""What has ended goes, in batches and with an entry, and what is in force stays: records, and uploads."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select

from exchange import data_keys, schema
from exchange.errors import UploadOffset
from exchange.operations import tidying
from exchange.operations.keeping import round_once
from tests.exchange.oauth.program import CLI, REDIRECT, Program, confirm
from tests.market import sample
from tests.market.browser import Browser, invited, member
from tests.market.stand import TUS, Stand, problem

#: Tables that tell when something ends and keep it for ever: facts of the market, and who might do what.
FOREVER = {"approval", "oauth_authorization", "profile_release", "query", "quote", "token"}


def tables(stand: Stand) -> set[str]:
    return {key.table.name for one in tidying.KEEPERS for key, _ in one.over(stand.clock())}


def counts(stand: Stand) -> dict[str, int]:
    """How many records each table has; of the keys of what is sealed, most are of what stays."""
    ending = {key.table for one in tidying.KEEPERS for key, _ in one.over(stand.clock())}
    found = ending - {data_keys.data_key}

    def look(session: object) -> dict[str, int]:
        return {
            table.name: session.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[attr-defined]
            for table in found
        }

    return stand.market.store.read(look)


def leave_records(stand: Stand) -> None:
    """Something in every table, through the doors."""
    with closing(member(stand, "provider", "dee@city.example")) as dee:
        draft = dee.post("/provide").url.path.split("/")[2]
        dee.http.post(
            f"/provide/{draft}/send", data={"csrf": dee.csrf()}, files={"files": ("a.csv", b"a\n1\n")}
        )
    program = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    with closing(member(stand, admin=True)) as ada:
        given = program.redeem(program.code(ada.http)).json()
        assert program.send("/oauth/revoke", token=given["access_token"]).status_code == 200
        started = Program(stand, CLI).device()
        confirm(ada.http, started["user_code"])
        ada.post_json("/account/passkeys/options")
    invited(stand, "other", "bo@globex.example")
    with closing(Browser(stand)) as stranger:
        for login in ("eve@acme.example", "ada@acme.example"):
            stranger.sign_in(login, "not the password")


def test_records_that_ended_go_and_younger_ones_stay(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "_RECORDS", 2)
    leave_records(stand)
    held = counts(stand)
    assert min(held.values()) > 0, held
    assert round_once(stand.market)["records"] == 0
    assert counts(stand) == held
    stand.clock.advance(minutes=11)
    gone = round_once(stand.market)["records"]
    assert gone == held["challenge"], "good for five minutes"
    stand.clock.advance(days=2)
    round_once(stand.market)
    left = counts(stand)
    assert (left["attempt"], left["oauth_code"], left["oauth_device"], left["oauth_revoked"]) == (0, 0, 0, 0)
    assert (left["oauth_refresh"], left["portal_session"]) == (held["oauth_refresh"], held["portal_session"])
    stand.clock.advance(days=60)
    round_once(stand.market)
    news = counts(stand).pop("notification")
    assert news == held["notification"] > 0
    stand.clock.advance(days=305)
    round_once(stand.market)
    assert set(counts(stand).values()) == {0}
    batches = stand.entries(kind="records.forgotten")
    assert {one.document["object"]["id"] for one in batches} == tables(stand)
    assert len(batches) > len(tables(stand)), "no batch is larger than it may be"
    assert stand.broken_laws() == []


def test_a_session_in_use_and_an_open_link_outlive_a_round(sqlite_stand: Stand) -> None:
    with closing(member(sqlite_stand)) as ada, closing(Browser(sqlite_stand)) as bo:
        link = invited(sqlite_stand, "other", "bo@globex.example")
        sqlite_stand.clock.advance(minutes=50)
        round_once(sqlite_stand.market)
        assert ada.is_signed_in()
        assert bo.join(link).url.path == "/account"


def test_every_table_of_what_ends_is_tidied_or_kept_on_purpose(shared_sqlite_stand: Stand) -> None:
    ending = {
        table.name
        for part in schema.metadatas
        for table in part.tables.values()
        if {"expires_at", "ended_at", "open_at"} & {column.name for column in table.columns}
    }
    assert ending - tables(shared_sqlite_stand) == FOREVER, "a new one is tidied, or kept on purpose"


@pytest.fixture
def quarantine(sqlite_stand: Stand) -> Path:
    return sqlite_stand.home / "quarantine"


def begun(stand: Stand, data: bytes = b"abc", length: int = 6) -> str:
    """An upload of which a part has arrived."""
    made = stand.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": str(length)})
    where: str = made.headers["Location"]
    if data:
        sent = {"Upload-Offset": "0", "Content-Type": TUS}
        assert stand.call("provider", "PATCH", where, content=data, headers=sent).status_code == 204
    return where.rpartition("/")[2]


def grow_old(path: Path, hours: float = 25) -> None:
    before = path.stat().st_mtime - 3600 * hours
    os.utime(path, (before, before))


def test_uploads_that_nobody_goes_on_with_are_purged_after_a_day(
    sqlite_stand: Stand, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    monkeypatch.setattr(tidying, "_UPLOADS", 2)
    before = len(list(quarantine.iterdir()))
    left = [begun(stand) for _ in range(3)] + [begun(stand, b"abcdef"), begun(stand, b"")]
    slow = begun(stand)
    stand.clock.advance(hours=23)
    for one in left:
        grow_old(quarantine / one)
    assert round_once(stand.market)["uploads"] == 0, "they began less than a day ago"
    stand.clock.advance(hours=2)
    purged = round_once(stand.market)["uploads"]
    assert purged >= len(left)
    assert {path.name for path in quarantine.iterdir()} == {slow}
    assert before == 0
    for one in left:
        problem(stand.get("provider", f"/v1/uploads/{one}"), 405, "method_not_allowed")
        assert stand.call("provider", "HEAD", f"/v1/uploads/{one}").status_code == 404
    assert stand.call("provider", "HEAD", f"/v1/uploads/{slow}").headers["Upload-Offset"] == "3"
    assert len(stand.entries(kind="uploads.purged")) >= 3, "no batch is larger than it may be"
    assert round_once(stand.market)["uploads"] == 0


def test_bytes_of_uploads_that_nobody_knows_are_removed(sqlite_stand: Stand, quarantine: Path) -> None:
    """What a process leaves that dies between forgetting an upload and removing its bytes."""
    quarantine.mkdir(exist_ok=True)
    orphan, young, other = (quarantine / name for name in ("upl_" + "1" * 24, "upl_" + "2" * 24, "notes.txt"))
    for path in (orphan, young, other):
        path.write_bytes(b"abc")
    for path in (orphan, other):
        grow_old(path)
    round_once(sqlite_stand.market)
    assert [path.exists() for path in (orphan, young, other)] == [False, True, True]


def test_a_file_that_is_being_taken_in_is_not_purged(
    sqlite_stand: Stand, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    taken: list[bool] = []
    uploaded = begun(stand, b"abcdef")
    grow_old(quarantine / uploaded)
    stand.clock.advance(hours=25)

    def take_in(source: Path, **_: object) -> object:
        round_once(stand.market)
        taken.append(source.exists())
        raise UploadOffset("this is all that the test needs", offset=0)

    monkeypatch.setattr("exchange.operations.drafting.ingest_table", take_in)
    body = {"manifest": sample.manifest(), "files": {"rides": uploaded, "zones": uploaded}}
    stand.post("provider", "/v1/datasets", body)
    assert taken == [True]


def test_a_quarantine_that_the_worker_may_not_read_stops_nothing_else(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stand = sqlite_stand
    leave_records(stand)
    stand.clock.advance(days=60)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("exchange.quarantine.files", refuse)
    assert round_once(stand.market)["records"] > 0
    assert "abandoned uploads are not purged: PermissionError" in caplog.text
