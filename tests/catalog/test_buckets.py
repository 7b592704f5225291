"""Addresses of buckets and their credentials: what is wrong is refused at the start, and not shown."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from catalog import ObjectsUnavailable
from catalog.buckets import Address, Bucket
from exchange import bootstrap
from exchange.cli import main
from exchange.config import Settings, SettingsError

SECRET = {"EXCHANGE_SECRET_KEY": "k" * 64}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://bucket?region=eu-central-1", Address("bucket", "", "eu-central-1", "")),
        ("s3://my.bucket/a/b/?region=us-east-2", Address("my.bucket", "a/b/", "us-east-2", "")),
        (
            "s3://bucket/a?endpoint=http://127.0.0.1:8333",
            Address("bucket", "a/", "us-east-1", "http://127.0.0.1:8333"),
        ),
        (
            "s3://bucket?endpoint=https://s3.example.org&region=garage",
            Address("bucket", "", "garage", "https://s3.example.org"),
        ),
        ("s3://bucket?endpoint=http://[::1]:9000", Address("bucket", "", "us-east-1", "http://[::1]:9000")),
    ],
)
def test_an_address_is_read(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("objects", "write `file:PATH` or `s3://"),
        ("http://bucket", "write `file:PATH` or `s3://"),
        ("s3://hunter2:hunter2@bucket?region=eu", "set AWS_ACCESS_KEY_ID"),
        ("s3://bucket:9000?region=eu", "endpoint=https://HOST:PORT"),
        ("s3://bucket?region=eu&secret_key=hunter2", "only `region=` and `endpoint=`"),
        ("s3://bucket?region=eu&region=us", "only `region=` and `endpoint=`"),
        ("s3://bucket?region=eu#hunter2", "only `region=` and `endpoint=`"),
        ("s3://bucket", "name the bucket's region"),
        ("s3://bucket?region=EU hunter2", "name the bucket's region"),
        ("s3://Bucket?region=eu", "the bucket's name is"),
        ("s3://?region=eu", "the bucket's name is"),
        ("s3://bucket/a/../b?region=eu", "the prefix is"),
        ("s3://bucket/hunter2 x?region=eu", "the prefix is"),
        ("s3://bucket?endpoint=ftp://hunter2", "the endpoint is"),
        ("s3://bucket?endpoint=https://key:hunter2@host", "the endpoint is"),
        ("s3://bucket?endpoint=https://host/hunter2", "the endpoint is"),
    ],
)
def test_a_wrong_address_is_refused_at_the_start_with_what_to_write(
    url: str, told: str, tmp_path: Path
) -> None:
    environ = {**SECRET, "EXCHANGE_HOME": str(tmp_path), "EXCHANGE_OBJECTS_URL": url}
    with pytest.raises(SettingsError, match="EXCHANGE_OBJECTS_URL: ") as refused:
        Settings.from_env(environ)
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_credentials_come_from_variables_and_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No program is run for them, and no address of the network is asked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    ran = tmp_path / "ran"
    config.write_text(f"[default]\ncredential_process = touch {ran}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    url = "s3://bucket?region=eu-central-1"
    settings = Settings.from_env({**SECRET, "EXCHANGE_HOME": str(tmp_path), "EXCHANGE_OBJECTS_URL": url})
    with pytest.raises(SettingsError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        bootstrap.open_objects(settings)
    assert not ran.exists()
    credentials.write_text("[default]\naws_access_key_id = hunter2\n")
    with pytest.raises(SettingsError, match="correct AWS_PROFILE") as refused:
        bootstrap.open_objects(settings)
    assert "hunter2" not in str(refused.value)
    credentials.write_text("[default]\naws_access_key_id = hunter2\naws_secret_access_key = hunter3\n")
    assert bootstrap.open_objects(settings)
    shown = CliRunner().invoke(
        main, ["config"], env={**SECRET, "EXCHANGE_HOME": str(tmp_path), "EXCHANGE_OBJECTS_URL": url}
    )
    assert "s3://bucket" in shown.output
    assert "hunter" not in shown.output


def test_the_copies_have_a_least_size(tmp_path: Path) -> None:
    environ = {**SECRET, "EXCHANGE_HOME": str(tmp_path), "EXCHANGE_OBJECTS_CACHE_BYTES": "1000"}
    with pytest.raises(SettingsError, match="EXCHANGE_OBJECTS_CACHE_BYTES must be at least"):
        Settings.from_env(environ)


@contextlib.contextmanager
def short_store(promised: int, sent: int) -> Iterator[str]:
    """A store that ends every connection in good order after some of the bytes it promised; its address."""

    class Short(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(b"x" * sent)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Short) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"s3://bucket?endpoint=http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("sent", [0, 1, 70_000])
def test_a_body_that_ends_early_is_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch, sent: int) -> None:
    """Not a damaged object: whoever asks again has it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with short_store(100_000, sent) as url, Bucket(Address.parse(url)).get("a") as (size, blocks):
        assert size == 100_000
        with pytest.raises(ObjectsUnavailable):
            list(blocks)
    with short_store(100_000, 100_000) as url, Bucket(Address.parse(url)).get("a") as (size, blocks):
        assert sum(map(len, blocks)) == size
