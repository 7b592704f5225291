"""A served exchange with the flights example: a real socket, and the worker publishing the log beside it."""

from __future__ import annotations

import contextlib
import runpy
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from werkzeug.serving import make_server

from exchange import bootstrap
from exchange.client import Exchange
from exchange.config import Settings
from exchange.identity import Role
from exchange.operations import administering
from exchange.web import create_app
from exchange.worker import publish
from tests.market.prepared import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from exchange.market import Market

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flights"
_PUBLISH_EVERY_S = 0.2


@dataclass(frozen=True)
class DemoExchange:
    """Where it is served, and the token of a buyer who has money and no grant yet."""

    url: str
    token: str
    officer: str
    market: Market


@contextlib.contextmanager
def served(folder: Path) -> Iterator[DemoExchange]:
    """Serve a fresh exchange on a free port of this machine until the block ends."""
    environ = {**environment(folder / "home"), "EXCHANGE_MAX_UPLOAD_BYTES": str(64 << 20)}
    bootstrap.create(folder / "home", environ)
    market = bootstrap.open_market(Settings.from_env(environ))
    with contextlib.closing(market), on_a_port(create_app(market)) as url, _published(market, environ):
        with Exchange(url, token=_token(market, "nyc", Role.PROVIDER)) as provider:
            provider.publish(flights(folder / "flights"))
        buyer, officer = _token(market, "acme", Role.BUYER), _token(market, "cnil", Role.OFFICER)
        administering.credit_wallet(market, org="acme", amount="100.00", currency="USD", reference="opening")
        yield DemoExchange(url, buyer, officer, market)


@contextlib.contextmanager
def _published(market: Market, environ: dict[str, str]) -> Iterator[None]:
    """The log is published, as the worker does it, until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=_work, args=(market, Settings.from_env(environ, worker=True), stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _work(market: Market, settings: Settings, stop: threading.Event) -> None:
    while not stop.wait(_PUBLISH_EVERY_S):
        publish(market, settings)


def _token(market: Market, org: str, role: Role) -> str:
    administering.create_organisation(market, name=org, role=role)
    return str(administering.create_token(market, org=org, role=role)["token"])


def flights(folder: Path) -> Path:
    """The flights example with its data, in a folder of its own."""
    folder.mkdir()
    for name in ("listing.toml", "policy.toml", "LICENCE.txt"):
        shutil.copyfile(EXAMPLE / name, folder / name)
    runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](folder / "data")
    return folder / "listing.toml"


@contextlib.contextmanager
def on_a_port(app: Flask) -> Iterator[str]:
    """The address of an app that is served on a free port of this machine until the block ends."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
