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
    server = make_server("127.0.0.1", 0, create_app(market), threaded=True)
    url = f"http://127.0.0.1:{server.server_port}"
    stop = threading.Event()
    threads = [
        threading.Thread(target=server.serve_forever),
        threading.Thread(target=_work, args=(market, Settings.from_env(environ, worker=True), stop)),
    ]
    for thread in threads:
        thread.start()
    try:
        with Exchange(url, token=_token(market, "nyc", Role.PROVIDER)) as provider:
            provider.publish(flights(folder / "flights"))
        buyer, officer = _token(market, "acme", Role.BUYER), _token(market, "cnil", Role.OFFICER)
        administering.credit_wallet(market, org="acme", amount="100.00", currency="USD", reference="opening")
        yield DemoExchange(url, buyer, officer, market)
    finally:
        stop.set()
        server.shutdown()
        for thread in threads:
            thread.join()
        server.server_close()
        market.close()


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
