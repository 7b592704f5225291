"""Settings -> Market: the only place that names adapters. Also: create a home, migrate its database."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from catalog.objects import LocalObjects
from exchange import config, migrate
from exchange.audit.note import SigningKey
from exchange.audit.receipts import ReceiptSigner
from exchange.config import Settings, SettingsError
from exchange.layouts import Layouts
from exchange.market import Market, OutsideEngine, OutsideObjects
from exchange.store import Store
from privacy.layout import LIMITS
from privacy.sandbox import Limits, Sandbox
from settlement.stripe import Till

if TYPE_CHECKING:
    from pathlib import Path

_SCRATCH_BYTES = 4 << 30


def create(home: Path, environ: dict[str, str]) -> bool:
    """Create a home with fresh secrets and an up-to-date database. Returns False where both stood already."""
    settings_before = Settings(home=home)
    origin = environ.get("EXCHANGE_LOG_ORIGIN") or settings_before.log_origin
    fresh = config.create_home(home, log_key=SigningKey.generate(origin).encoded())
    migrate.upgrade(Settings.from_env({**environ, "EXCHANGE_HOME": str(home)}).database_url)
    return fresh


def open_market(settings: Settings) -> Market:
    """The market of a web process or a command. Close it: its query workers are processes."""
    if settings.engine_url != "duckdb:":
        raise SettingsError("EXCHANGE_ENGINE_URL: only `duckdb:` is known")
    limits = Limits(
        memory_bytes=settings.query_memory_bytes,
        cpu_s=settings.query_timeout_s * settings.query_threads + 1,
        timeout_s=float(settings.query_timeout_s),
        file_bytes=_SCRATCH_BYTES,
        threads=settings.query_threads,
        result_bytes=settings.max_result_bytes,
    )
    migrate.require_current(settings.database_url)
    return Market(
        settings=settings,
        store=Store(settings.database_url),
        objects=OutsideObjects(LocalObjects(settings.objects_path)),
        engine=OutsideEngine(
            lambda: Sandbox(limits, workers=settings.query_workers), workers=settings.query_workers
        ),
        receipts=ReceiptSigner(receipt_key(settings), settings.log_origin),
        salt=lambda version: _derive(settings, f"bounding:{version}"),
        layouts=Layouts(settings.home / "layouts", lambda: Sandbox(_building(settings), workers=1)),
        till=Till(settings.stripe_key, api_base=settings.stripe_api_base) if settings.stripe_key else None,
    )


def _building(settings: Settings) -> Limits:
    """What a sandbox may use that builds layouts: as long as it takes, with no more memory than an ingest."""
    return replace(LIMITS, memory_bytes=settings.ingest_memory_bytes, threads=settings.query_threads)


def receipt_key(settings: Settings) -> SigningKey:
    """The key that signs receipts, derived from the secret key; the log's own key stays with the worker."""
    return SigningKey(f"{settings.log_origin.rpartition('/')[0]}/receipts", _derive(settings, "receipts"))


def _derive(settings: Settings, purpose: str) -> bytes:
    """A key for one purpose: HMAC-SHA-256 under the secret key (the PRF of RFC 5869's expand step)."""
    return hmac.new(settings.secret_key.encode(), purpose.encode(), hashlib.sha256).digest()
