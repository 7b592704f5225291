"""Storage that is written once, and what a split view or a rewind looks like in it."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.audit.errors import Malformed
from exchange.audit.heads import Growth
from exchange.audit.note import SigningKey
from exchange.audit.tiles import Folder
from exchange.version import __version__
from exchange.witness import configuration, following
from exchange.witness.archive import (
    Archive,
    ArchiveUnavailable,
    FolderArchive,
    S3Archive,
    open_archive,
    require_write_once,
    signature_v4,
)
from exchange.witness.commands import main
from tests.conftest import service_address
from tests.exchange.audit.samples import ORIGIN, SIGNER, publish, records
from tests.exchange.witness.logs import HASHES, OTHERS, growth, made, signed, witness


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    if request.param == "folder":
        return FolderArchive(tmp_path / "archive")
    url = request.getfixturevalue("s3_url")
    return S3Archive(url, credentials())


def credentials() -> dict[str, str]:
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    return {f"AWS_{name}": service_address(f"EXCHANGE_TEST_S3_{name}") for name in names}


def test_a_name_is_written_once(archive: Archive) -> None:
    assert archive.get("a/1") is None
    assert archive.put_new("a/1", b"one")
    assert not archive.put_new("a/1", b"two")
    assert archive.get("a/1") == b"one"
    assert archive.put_new("a/2", b"")
    require_write_once(archive)


def test_a_file_of_a_folder_is_read_only_and_no_draft_stays(tmp_path: Path) -> None:
    archive = FolderArchive(tmp_path)
    archive.put_new("a/1", b"one")
    archive.put_new("a/1", b"two")
    (only,) = (tmp_path / "a").iterdir()
    assert only.stat().st_mode & 0o222 == 0


def test_a_folder_may_be_append_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    archive = FolderArchive(tmp_path)
    for name in ("unlink", "rename", "replace"):
        monkeypatch.setattr(Path, name, refused)
        monkeypatch.setattr(f"os.{name}", refused)
    require_write_once(archive)
    assert archive.put_new("a/1", b"one")
    assert not archive.put_new("a/1", b"two")
    assert archive.get("a/1") == b"one"


@contextlib.contextmanager
def store(*statuses: int) -> Iterator[str]:
    """A store that answers as it is told, without heed of what was asked."""
    left = list(statuses)

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(left.pop(0) if left else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"s3://bucket/logs?endpoint=http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_a_store_that_writes_twice_is_not_taken(tmp_path: Path) -> None:
    with store(404, 200, 200) as url, pytest.raises(ArchiveUnavailable, match="once"):
        open_archive(url, tmp_path, KEYS)


def test_a_store_that_does_not_tell_what_it_lacks_is_not_taken(tmp_path: Path) -> None:
    """S3 answers 403 for a key that is not there to whoever may not list the bucket."""
    with store(403, 200, 412, 200) as url, pytest.raises(ArchiveUnavailable, match="s3:ListBucket"):
        open_archive(url, tmp_path, KEYS)


@pytest.mark.parametrize("status", [403, 409, 500, 301])
def test_a_store_that_refuses_is_away(status: int) -> None:
    with store(status, status) as url:
        archive = S3Archive(url, KEYS)
        with pytest.raises(ArchiveUnavailable):
            archive.put_new("a", b"")
        with pytest.raises(ArchiveUnavailable):
            archive.get("a")
    with pytest.raises(ArchiveUnavailable, match="does not answer"):
        archive.get("a")


def test_a_witness_whose_archive_is_away_signs_nothing(tmp_path: Path) -> None:
    with store() as url:
        one = witness(made(tmp_path / "w"))
        one._archive = S3Archive(url, KEYS)
        answer = one.add_checkpoint(growth(0, 20))
        assert (answer.status, signed(answer)) == (503, False)
    assert one._heads.newest(ORIGIN) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://bucket/a",
        "s3://B",
        "s3://bucket/a b",
        "s3://bucket/a?region=x y",
        "s3://bucket/a?other=1",
        "s3://bucket?endpoint=ftp://x",
        "s3://bucket?endpoint=http://x/path",
    ],
)
def test_an_address_that_cannot_be_read_is_refused(url: str) -> None:
    with pytest.raises(Malformed):
        S3Archive(url, KEYS)
    with pytest.raises(Malformed, match="AWS_ACCESS_KEY_ID"):
        S3Archive("s3://bucket/a", {})


def test_requests_are_signed_as_amazon_shows() -> None:
    """The example `PUT Object` of "Signature Calculations for the Authorization Header" (AWS)."""
    headers = {
        "date": "Fri, 24 May 2013 00:00:00 GMT",
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
    }
    made = signature_v4(
        "PUT",
        "/test%24file.text",
        headers,
        region="us-east-1",
        key_id="AKIAIOSFODNN7EXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    assert made["authorization"].endswith(f"Signature={signature}")


# split views


def split(tmp_path: Path) -> tuple[Path, Path]:
    """Two witnesses that were shown two histories of one log, with a common beginning."""
    folders = tmp_path / "w1", tmp_path / "w2"
    for number, (folder, hashes) in enumerate(zip(folders, (HASHES, OTHERS), strict=True), 1):
        one = witness(made(folder, number))
        for start, end in ((0, 20), (20, 40), (40, 60)):
            assert signed(one.add_checkpoint(growth(start, end, hashes)))
    return folders


def test_a_split_view_shows_in_two_archives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = split(tmp_path)
    assert main(["compare", str(first)]) == 0
    assert main(["compare", str(first), str(second / "archive")]) == 12
    told = capsys.readouterr().out
    assert "another tree of 40 entries" in told
    assert "another tree of 20 entries" not in told


def test_a_log_is_held_against_what_was_cosigned(tmp_path: Path) -> None:
    first, _ = split(tmp_path)
    leaves = [record.leaf for record in records(60)]
    served = Folder(tmp_path / "served")
    for path, data in publish(leaves).items():
        served.replace(path, data)
    keys = [SIGNER.verifier]
    mine = following.seen_in([("a", publish(leaves[:20])["checkpoint"])], {ORIGIN: keys})
    assert following.compare(mine, served, keys) == []
    forked = following.seen_in(
        [(path.name, path.read_bytes()) for path in (first / "archive").rglob("0*") if path.is_file()],
        {ORIGIN: keys},
    )
    assert {one.exit_code for one in following.compare(forked, served, keys)} == {12}
    for path, data in publish(leaves[:30]).items():
        served.replace(path, data)
    more = following.seen_in([("b", publish(leaves)["checkpoint"])], {ORIGIN: keys})
    assert [one.exit_code for one in following.compare(more, served, keys)] == [10]


def test_what_no_log_of_ours_signed_is_left_out() -> None:
    files = [("a", b""), ("b", b"\xff"), ("c", publish([])["checkpoint"].replace(b"\n0\n", b"\n1\n"))]
    assert following.seen_in(files, {ORIGIN: [SIGNER.verifier]}) == []


@contextlib.contextmanager
def published(root: Path) -> Iterator[str]:
    """The files of a folder over HTTP, beneath /audit."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return str(root / path.removeprefix("/audit/"))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/audit"
        finally:
            server.shutdown()
            thread.join()


def test_a_log_is_followed_by_its_public_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaves, served = [record.leaf for record in records(400)], Folder(tmp_path / "served")

    def show(given: list[bytes]) -> None:
        for path, data in publish(given).items():
            served.replace(path, data)

    folder = str(tmp_path / "w")
    key = str(SIGNER.verifier)
    assert (
        main(["init", folder, "--name", "compliance.example/w", "--log-key", key, "--archive", "kept"]) == 0
    )
    assert capsys.readouterr().out.startswith("compliance.example/w+")
    with published(served.root) as url:
        assert main(["follow", folder, url, "--once"]) == 6, "there is no checkpoint yet"
        for size in (100, 100, 300):
            show(leaves[:size])
            assert main(["follow", folder, url, "--once"]) == 0
        show(leaves[:200])
        assert main(["follow", folder, url, "--once"]) == 12, "it is shorter now"
        assert main(["compare", folder, "--log", url]) == 10
        show([*leaves[:250], *leaves[251:400]])
        assert main(["follow", folder, url, "--once"]) == 12, "it has another past"
        assert main(["compare", folder, "--log", url]) == 12
        show(leaves)
        assert main(["follow", folder, url, "--once"]) == 0
    assert main(["follow", folder, url, "--once"]) == 6
    assert main(["follow", folder, "ftp://x", "--once"]) == 15
    assert main(["init", folder, "--name", "x", "--log-key", key]) == 15
    with pytest.raises(SystemExit):
        main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_a_follower_goes_on_when_its_archive_or_disk_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told, served = made(tmp_path / "w"), Folder(tmp_path / "served")
    leaves = [record.leaf for record in records(60)]
    failures: list[Exception | None] = [ArchiveUnavailable("away"), OSError(5, "Input/output error"), None]
    looks, get = iter(failures), FolderArchive.get

    def sleep(_: float) -> None:
        """Between two looks: the log grows, and the archive is as the next failure says."""
        try:
            failure = next(looks)
        except StopIteration:
            raise SystemExit from None
        show(60 if failure is None else 40)

        def getting(archive: FolderArchive, name: str) -> bytes | None:
            if failure is not None:
                raise failure
            return get(archive, name)

        monkeypatch.setattr(FolderArchive, "get", getting)

    def show(size: int) -> None:
        for path, data in publish(leaves[:size]).items():
            served.replace(path, data)

    monkeypatch.setattr("exchange.witness.commands.time.sleep", sleep)
    show(20)
    with published(served.root) as url, pytest.raises(SystemExit):
        main(["follow", str(told.folder), url])
    assert "away" in caplog.text
    assert "Input/output error" in caplog.text
    assert witness(told).newest(ORIGIN).size == 60


def test_a_log_is_held_against_its_own_checkpoints_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A witness of two logs, of which one is shown."""
    leaves, other = [record.leaf for record in records(60)], "other.example/audit"
    key = SigningKey.generate(other)
    told = configuration.create(
        tmp_path / "w",
        name="compliance.example/w",
        log_keys=[str(SIGNER.verifier), str(key.verifier)],
        archive="archive",
        listen="127.0.0.1:0",
    )
    one, served = witness(told), Folder(tmp_path / "served")
    for files in (publish(leaves[:30]), publish(leaves, key, other)):
        assert signed(one.add_checkpoint(Growth(0, (), files["checkpoint"]).encoded()))
    with published(served.root) as url:
        for path, data in publish(leaves[:30]).items():
            served.replace(path, data)
        assert main(["compare", str(told.folder), "--log", url]) == 0, capsys.readouterr().out
        for path, data in publish(leaves[:20], key, other).items():
            served.replace(path, data)
        assert main(["compare", str(told.folder), "--log", url]) == 10
        stranger = SigningKey.generate("third.example/audit")
        served.replace("checkpoint", publish([], stranger, stranger.name)["checkpoint"])
        assert main(["compare", str(told.folder), "--log", url]) == 15
