"""Settings -> Market: the only place that names adapters. Also: create a home, migrate its database."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from catalog.buckets import Address, Bucket
from catalog.object_cache import Cache
from catalog.objects import LocalObjects
from catalog.s3_objects import S3Objects
from exchange import config, migrate, queries, sealing
from exchange.audit.note import SigningKey
from exchange.audit.receipts import ReceiptSigner
from exchange.config import Settings, SettingsError
from exchange.keyring import KeyRing
from exchange.layouts import Layouts
from exchange.market import Market, OutsideEngine, OutsideObjects
from exchange.persons import adopting, commitments, subjects
from exchange.persons.passwords import Passwords
from exchange.persons.subjects import Subjects
from exchange.runs import Runs
from exchange.store import Store
from exchange.turns import Places, Shares
from exchange.vault import Vault
from privacy.layout import LIMITS
from privacy.sandbox import Limits, Sandbox
from settlement.stripe import Till

_SCRATCH_BYTES = 4 << 30


def create(home: Path, environ: dict[str, str]) -> bool:
    """Create a home with fresh secrets and an up-to-date database. Returns False where both stood already."""
    settings_before = Settings(home=home)
    origin = environ.get("EXCHANGE_LOG_ORIGIN") or settings_before.log_origin
    fresh = config.create_home(home, log_key=SigningKey.generate(origin).encoded())
    migrate.upgrade(Settings.from_env({**environ, "EXCHANGE_HOME": str(home)}).database_url)
    return fresh


def open_market(settings: Settings) -> Market:
    """The market of a web process or a command. Close it: its query workers are processes.

    Raises SettingsError where a master key is missing, or is another than that of the database; on the first
    start of a database without one it is made.
    """
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
    store, shares = Store(settings.database_url), _shares(settings)
    objects = open_objects(settings)
    vault = Vault(KeyRing(Path(settings.master_keys)), store, objects)
    store.info[subjects.INFO] = Subjects(vault.ring, sealing.derived(settings.secret_key, "subjects"))
    store.commits = commitments.committed
    try:
        vault.begin()
        _seal_persons(store)
    except BaseException:
        store.dispose()
        raise
    return Market(
        settings=settings,
        store=store,
        objects=objects,
        vault=vault,
        engine=OutsideEngine(lambda: Sandbox(limits, workers=settings.query_workers), shares=shares),
        receipts=ReceiptSigner(receipt_key(settings), settings.log_origin),
        salt=lambda version: _derive(settings, f"bounding:{version}"),
        layouts=Layouts(settings.home / "layouts", lambda: Sandbox(_building(settings), workers=1)),
        runs=Runs(
            threads=shares.at_once + shares.waiting,
            replies=max(1, settings.web_threads * 3 // 4),  # the other threads serve who asks how far it is
            ended=lambda ids: store.read(lambda session: queries.ended(session, ids)),
        ),
        ingests=Places(at_once=max(1, settings.web_threads // 8), of_one=1),
        exports=Places(at_once=max(1, settings.web_threads // 8), of_one=1),
        till=Till(settings.stripe_key, api_base=settings.stripe_api_base) if settings.stripe_key else None,
        passwords=Passwords(at_once=settings.password_hashes),
    )


def _seal_persons(store: Store) -> None:
    """Seal what an older release kept of persons as it was, and leave no copy of it."""
    found = False
    while store.read(adopting.is_plain):
        store.jot(lambda session, _: adopting.seal_some(session))
        found = True
    if found:
        store.scrub()


def open_objects(settings: Settings) -> OutsideObjects:
    """The object store; nothing is asked of it yet. Raises SettingsError where it has no credentials."""
    folder = settings.objects_path
    if folder is not None:
        return OutsideObjects(LocalObjects(folder))
    try:
        bucket = Bucket(Address.parse(settings.objects_url))
    except ValueError as error:
        raise SettingsError(f"EXCHANGE_OBJECTS_URL: {error}") from None
    folder = Path(settings.objects_cache_path)
    cache = Cache(folder, settings.objects_cache_bytes, clock_ns=time.time_ns)
    return OutsideObjects(S3Objects(bucket, cache, nonce=partial(secrets.token_hex, 8)))


def _shares(settings: Settings) -> Shares:
    return Shares.of(
        settings.query_workers,
        of_one=settings.query_workers_of_one,
        waiting=settings.query_queue,
        waiting_of_one=settings.query_queue_of_one,
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
