"""Publish an example of the source checkout through the HTTP API, in this process."""

from __future__ import annotations

import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.client import ConfigurationError, Exchange

if TYPE_CHECKING:
    from exchange.client import Publication

_TOKEN_LASTS = timedelta(hours=1)


def seed(name: str) -> Publication:
    """Make the example's files if they are not there, admit its provider, publish. Again changes nothing."""
    import httpx

    from exchange.bootstrap import open_market
    from exchange.config import Settings
    from exchange.identity import Role
    from exchange.operations import administering
    from exchange.web import create_app

    manifest = manifest_of(name)
    market = open_market(Settings.from_env())
    try:
        provider = _provider(manifest)
        administering.create_organisation(market, name=provider, role=Role.PROVIDER)
        until = datetime.now(UTC) + _TOKEN_LASTS
        made = administering.create_token(market, org=provider, role=Role.PROVIDER, expires=until)
        door = httpx.WSGITransport(app=create_app(market))
        with Exchange(market.settings.base_url, token=made["token"], transport=door) as x:
            return x.publish(manifest)
    finally:
        market.close()


def manifest_of(name: str) -> Path:
    """The manifest of an example, with its data files made. Raises ``ConfigurationError``."""
    examples = Path(__file__).resolve().parents[2] / "examples"
    known = sorted(path.parent.name for path in examples.glob("*/listing.toml"))
    if name not in known:
        raise ConfigurationError(
            f"there is no example {name!r}",
            hint=f"Known: {', '.join(known)}." if known else "Examples come with the source checkout only.",
        )
    folder = examples / name
    maker = folder / "make_data.py"
    if maker.is_file() and not any((folder / "data").glob("*")):
        runpy.run_path(str(maker))["write"](folder / "data")
    return folder / "listing.toml"


def _provider(manifest: Path) -> str:
    from exchange.client.publishing import load

    return load(manifest).slug.partition("/")[0]
