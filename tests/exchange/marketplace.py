"""A small market in a folder of its own: provider, buyer, officer and one dataset, served over HTTP."""

from __future__ import annotations

import csv
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from flask import Flask
from werkzeug.serving import make_server

from exchange import Exchange, bootstrap, worker
from exchange.client import Dataset, Retry
from exchange.config import Settings
from exchange.identity import Role
from exchange.market import Market
from exchange.operations import administering
from exchange.web import create_app

SLUG = "clinic/visits"
PLAN = "pay"
COUNT = "select site, count(*) as n from visits group by site"
MANIFEST = f"""
slug = "{SLUG}"
title = "Visits <b>of</b> patients"
description = "Invented visits."
keywords = ["health"]

[tables]
visits = "visits.csv"
sites = "sites.csv"

[licence]
title = "Visits licence"
text = "LICENCE.txt"
purposes = ["research"]
territories = ["US", "EU"]

[[plans]]
name = "{PLAN}"
kind = "pay-per-query"
currency = "USD"
fee = "0.05"
per_rho = "20.00"
approval = "instant"
max_rho = "50.0"

[[plans]]
name = "asked"
kind = "pay-per-query"
currency = "USD"
fee = "0.05"
per_rho = "20.00"
approval = "provider"
max_rho = "1.0"

[policy]
domain = "person:clinic"
rho = 100.0
delta = 1e-6
max_rho_per_query = 2.0

[policy.tables.visits]
unit = "patient"
max_rows = 5
max_groups = 3
max_rows_per_group = 5

[policy.tables.visits.columns]
site = {{ keys = ["north", "south", "west"] }}
minutes = {{ bounds = [0, 120] }}

[policy.tables.sites]
public = true
"""


def write_listing(folder: Path, *, rows: int = 600) -> Path:
    """A manifest with its files."""
    dice = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "visits.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("patient", "site", "minutes"))
        for _ in range(rows):
            site = dice.choice(("north", "south", "west"))
            writer.writerow((f"p{dice.randrange(200)}", site, dice.randrange(121)))
    (folder / "sites.csv").write_text("site,town\nnorth,Ada\nsouth,Bly\nwest,Coe\n", encoding="utf-8")
    (folder / "LICENCE.txt").write_text("Do no harm.\n", encoding="utf-8")
    manifest = folder / "listing.toml"
    manifest.write_text(MANIFEST, encoding="utf-8")
    return manifest


@dataclass
class Marketplace:
    """The market, its application, its address, a token for each role, and the published manifest."""

    settings: Settings
    market: Market
    app: Flask
    url: str
    manifest: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def client(self, name: str, transport: httpx.BaseTransport | None = None) -> Exchange:
        """A client in the name of an organisation, without a network unless a transport is given."""
        door = transport or httpx.WSGITransport(app=self.app)
        quick = Retry(base_s=0.001)
        return Exchange("http://exchange.test", token=self.tokens[name], transport=door, retry=quick)

    def admit(self, name: str, role: Role, *, amount: str | None = None) -> str:
        """Admit an organisation and return a token; a buyer with a wallet of ``amount`` USD."""
        if name not in self.tokens:
            administering.create_organisation(self.market, name=name, role=role)
            self.tokens[name] = administering.create_token(self.market, org=name, role=role)["token"]
            if amount is not None:
                administering.credit_wallet(
                    self.market, org=name, amount=amount, currency="USD", reference=f"transfer {name}"
                )
        return self.tokens[name]

    def publish_log(self) -> None:
        """What the worker does every two seconds."""
        worker.run_once(self.worker_settings)

    @property
    def worker_settings(self) -> Settings:
        """The settings that hold the log's key."""
        return Settings.from_env({"EXCHANGE_HOME": str(self.settings.home)}, worker=True)


@pytest.fixture(scope="session")
def marketplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marketplace]:
    """A running market with ``clinic/visits`` published by the SDK."""
    folder = tmp_path_factory.mktemp("market")
    environ = {"EXCHANGE_HOME": str(folder / "home"), "EXCHANGE_QUERY_WORKERS": "1"}
    bootstrap.create(folder / "home", environ)
    settings = Settings.from_env(environ)
    market = bootstrap.open_market(settings)
    app = create_app(market)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.port}"
    place = Marketplace(settings, market, app, url, write_listing(folder / "listing"))
    try:
        place.admit("clinic", Role.PROVIDER)
        place.admit("lab", Role.BUYER, amount="1000.00")
        place.admit("guard", Role.OFFICER)
        with place.client("clinic") as x:
            x.publish(place.manifest)
        place.publish_log()
        yield place
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        market.close()


@pytest.fixture
def visits(marketplace: Marketplace) -> Iterator[Dataset]:
    """The dataset in the hands of a buyer who may ask."""
    with marketplace.client("lab") as x:
        dataset = x.dataset(SLUG)
        dataset.request(plan=PLAN, purpose="research", territory="US", accept_licence=True)
        yield dataset


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration, cache or variable of this machine's user is seen; the working folder is empty."""
    for name in ("URL", "TOKEN", "PROFILE", "HOME"):
        monkeypatch.delenv(f"EXCHANGE_{name}", raising=False)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
