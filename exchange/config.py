"""Settings: every ``EXCHANGE_*`` variable, read once into a frozen object.

No secret has a default. ``exchange init`` draws the secrets of a new home and writes them to files that
only their owner can read: ``keys.env`` for web and worker processes, ``log.env`` for the worker alone, so
that a web process never holds the key which signs the log. The environment wins over the files.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.buckets import Address
from exchange import addresses
from exchange.audit.errors import Malformed
from exchange.audit.note import COSIGNATURE, VerifierKey

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "EXCHANGE_"
_KEY_FILE = "keys.env"
_LOG_FILE = "log.env"
_GIB = 1 << 30
_MIB = 1 << 20
_LONGEST_ACCESS_S = 900
_LONGEST_AUTHORIZATION_DAYS = 365
_LEAST_SECRET_BYTES = 32
_MOST_WITNESSES = 16
_LEAST = {
    "objects_cache_bytes": 64 << 20,
    "query_threads": 1,
    "query_workers": 1,
    "query_workers_of_one": 0,
    "query_wait_s": 0,
    "query_patience_s": 1,
    "query_queue": 0,
    "query_queue_of_one": 0,
    "answer_days": 1,
    "approval_hours": 1,
    "grant_approval_rho": 0,
    "idempotency_days": 30,
    "layout_percent": 0,
    "platform_share_percent": 0,
    "holdback_percent": 0,
    "password_hashes": 1,
    "web_threads": 1,
    "web_workers": 1,
}
_LONGEST_KEPT_DAYS = 3653
_MOST = {
    "platform_share_percent": 100,
    "holdback_percent": 100,
    "answer_days": _LONGEST_KEPT_DAYS,
    "idempotency_days": _LONGEST_KEPT_DAYS,
}


class SettingsError(Exception):
    """A setting is missing or cannot be read; ``str()`` names the variable and the mend."""

    code = "settings_invalid"


class Secret(str):
    """A string that never shows itself in a ``repr``, a log line or ``exchange config``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured; :meth:`from_env` builds it, ``metadata['text']`` says what for."""

    home: Path = _setting(Path(".exchange"), "Folder of the database, objects, results and the published log")
    database_url: str = _setting("", "SQLAlchemy URL; empty means SQLite in the home folder")
    objects_url: str = _setting(
        "",
        "Object store of its own: `file:PATH` or `s3://BUCKET/PREFIX?region=REGION&endpoint=URL`, with "
        "credentials in the variables or files of AWS; empty means `objects` in the home folder",
    )
    objects_cache_path: str = _setting(
        "",
        "Folder of local copies of objects in S3, on a disk of the machine; empty means `cache` in the home",
    )
    objects_cache_bytes: int = _setting(
        20 * _GIB, "Bytes that these copies take: at least what all queries that run at a time read"
    )
    master_keys: str = _setting(
        "",
        "File of the master keys that data is encrypted under; empty means `master.keys` in the home",
    )
    engine_url: str = _setting("duckdb:", "Engine that computes exact aggregates")
    base_url: str = _setting("http://127.0.0.1:8000", "Address under which people reach this exchange")
    secret_key: Secret = _setting(
        Secret(""), "Secret, 32 bytes or more: cookies, receipt key, bounding salts"
    )
    log_key: Secret = _setting(
        Secret(""),
        "Secret: the Ed25519 key that signs checkpoints, of several the newest last; worker only, or signer",
    )
    signer: str = _setting(
        "", "Socket of the process that signs the log (`exchange signer serve`); empty: the worker signs"
    )
    log_origin: str = _setting("exchange.local/log", "Name of the log, the first line of every checkpoint")
    witnesses: str = _setting(
        "", "Witnesses of the log: each its public key, a blank and its address, separated by commas"
    )
    witness_networks: str = _setting(
        "", "Networks within, as `10.1.2.0/24`, in which witnesses may be, separated by commas"
    )
    max_upload_bytes: int = _setting(2 * _GIB, "Largest file that a provider may upload")
    max_request_bytes: int = _setting(_MIB, "Largest body of any other request")
    max_result_bytes: int = _setting(64 * _MIB, "Largest result of one query")
    query_timeout_s: int = _setting(30, "Seconds that a query may run before its worker is killed")
    query_memory_bytes: int = _setting(2 * _GIB, "Address space of one query worker")
    query_threads: int = _setting(2, "Threads of one query worker")
    query_workers: int = _setting(2, "Query workers kept warm")
    query_workers_of_one: int = _setting(
        0, "Queries of one organisation that run at a time in a web process; 0: all workers but one"
    )
    query_wait_s: int = _setting(10, "Seconds that a request waits for its answer before it is told of a job")
    query_patience_s: int = _setting(
        300, "Seconds that a query waits for a worker before it is given up, uncharged"
    )
    query_queue: int = _setting(64, "Queries that may wait for a worker of a web process; above, 503")
    query_queue_of_one: int = _setting(16, "Of these, queries of one organisation; above, 429")
    answer_days: int = _setting(90, "Days that an answer is kept; its receipt stays")
    idempotency_days: int = _setting(30, "Days that an Idempotency-Key is remembered, at least 30")
    ingest_timeout_s: int = _setting(600, "Seconds that one table may take to ingest")
    ingest_memory_bytes: int = _setting(
        4 * _GIB, "Address space of one ingest worker, and of one that builds a layout"
    )
    layout_percent: int = _setting(
        300, "Largest layout of a version, in percent of its private files; 0 builds none"
    )
    reply_grid_ms: int = _setting(250, "Answers leave on a grid of this many milliseconds; 0 sends at once")
    platform_share_percent: int = _setting(10, "Share of a charge that the platform keeps, in percent")
    licence_approval: int = _setting(
        0, "1: a licence version is offered once somebody other than its editor has approved it; 0: at once"
    )
    font_path: str = _setting(
        "", "Font file that PDF documents ask first; empty means the Noto fonts installed"
    )
    stripe_key: Secret = _setting(
        Secret(""), "Secret key of Stripe; empty: wallets are topped up by bank transfer"
    )
    stripe_api_base: str = _setting("", "Address of Stripe's API; empty means Stripe's own")
    stripe_webhook_secret: Secret = _setting(
        Secret(""), "Secrets that Stripe signs webhooks with, separated by commas"
    )
    credit_limit: int = _setting(
        10_000, "Largest bank transfer, in major units, that one operator credits alone; above, two do"
    )
    holdback_percent: int = _setting(10, "Share of a payout that is held back against disputes, in percent")
    holdback_days: int = _setting(120, "Days until a holdback is paid out")
    registration_approval: int = _setting(
        0, "1: buyers and providers are registered once a compliance officer has approved them; 0: at once"
    )
    loosening_approval: int = _setting(
        1, "1: a version that tells more than the one on offer takes an officer's approval; 0: it does not"
    )
    grant_approval_rho: int = _setting(
        100, "Largest rho of a grant without the approval of a compliance officer; 0: no limit"
    )
    approval_hours: int = _setting(
        72, "Hours in which an approval is to be given, and in which what it allows is to be done"
    )
    request_days: int = _setting(45, "Days that a provider has to decide on a request for access")
    metrics_token: Secret = _setting(
        Secret(""), "Secret: token that a monitoring system reads /metrics and the parts of /readyz with"
    )
    log_format: str = _setting("text", "Form of log lines on standard error: text, or json")
    traces: str = _setting("", "Where traces go: `console`, or `file:PATH`; empty writes none")
    stop_grace_s: int = _setting(
        40, "Seconds that running requests have to end after SIGTERM; longer than a query may run"
    )
    access_token_s: int = _setting(600, "Seconds that an access token is valid; at most 900")
    authorization_days: int = _setting(
        30, "Days until somebody who let a program act is asked again; refresh tokens end with them"
    )
    oidc_issuer: str = _setting("", "Issuer of an OpenID provider that persons sign in by; empty: none")
    oidc_client_id: str = _setting("", "This exchange's client id at the provider")
    oidc_client_secret: Secret = _setting(Secret(""), "Secret: this exchange's client secret at the provider")
    oidc_networks: str = _setting(
        "", "Networks within, as `10.1.2.0/24`, in which the OpenID provider may be, separated by commas"
    )
    second_factor: int = _setting(
        1, "1: officers and operators come into the portal with a second factor alone; 0, for a demo: without"
    )
    session_idle_s: int = _setting(3600, "Seconds after which a session of the portal ends if it is not used")
    session_lasts_s: int = _setting(43_200, "Seconds after which a session of the portal ends in any case")
    rate_of_caller: int = _setting(
        100, "Requests a second from one token or person, with bursts of ten seconds' worth; 0: no limit"
    )
    rate_of_network: int = _setting(1000, "The same from one network (a /24 or /48), whoever asks")
    proxies: int = _setting(0, "Reverse proxies in front, whose X-Forwarded-For and -Proto are believed")
    password_hashes: int = _setting(2, "Passwords that one web process checks at a time, with 64 MiB each")
    client_patience_s: int = _setting(
        10, "Seconds in all that a client may keep a thread waiting while it sends a request slowly"
    )
    web_threads: int = _setting(16, "Threads of one web process")
    web_workers: int = _setting(1, "Web processes")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, worker: bool = False) -> Settings:
        """Read the environment, then the key files of the home; a missing secret refuses to start.

        Raises :class:`SettingsError` naming the variable. With ``worker`` the log key is required and read,
        unless a signer holds it; without it the key is not even opened.
        """
        given = dict(os.environ if environ is None else environ)
        home = Path(given.get(_PREFIX + "HOME", ".exchange")).expanduser().absolute()
        stored = _read_env(home / _KEY_FILE) | (_read_env(home / _LOG_FILE) if worker else {})
        values: dict[str, Any] = {name: _parse(name, text) for name, text in (stored | _known(given)).items()}
        if not worker or values.get("signer"):
            values.pop("log_key", None)
        settings = cls(**{**values, "home": home})
        settings._require("secret_key")
        settings._check_secret()
        settings._check_bounds()
        settings._check_networks()
        settings._check_witnesses()
        if worker and not settings.signer:
            settings._require("log_key")
        settings._check_objects()
        if not 0 < settings.access_token_s <= _LONGEST_ACCESS_S:
            raise SettingsError(f"{_PREFIX}ACCESS_TOKEN_S must be between 1 and {_LONGEST_ACCESS_S}")
        if not 0 < settings.authorization_days <= _LONGEST_AUTHORIZATION_DAYS:
            raise SettingsError(
                f"{_PREFIX}AUTHORIZATION_DAYS must be between 1 and {_LONGEST_AUTHORIZATION_DAYS}"
            )
        return settings._with_homes()

    def _require(self, name: str) -> None:
        if not getattr(self, name):
            raise SettingsError(
                f"{_PREFIX}{name.upper()} is not set: run `exchange init`, or set the variable"
            )

    def _check_secret(self) -> None:
        if len(self.secret_key.encode()) < _LEAST_SECRET_BYTES:
            raise SettingsError(
                f"{_PREFIX}SECRET_KEY has fewer than {_LEAST_SECRET_BYTES} bytes: let `exchange init` draw "
                "one in a new home, or set what `openssl rand -hex 32` prints"
            )

    def _check_bounds(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{_PREFIX}{name.upper()} must be at least {least}")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise SettingsError(f"{_PREFIX}{name.upper()} must be at most {most}")

    def _check_networks(self) -> None:
        try:
            addresses.networks(self.oidc_networks)
        except ValueError as error:
            raise SettingsError(f"{_PREFIX}OIDC_NETWORKS cannot be read: {error}") from error
        try:
            addresses.networks(self.witness_networks)
        except ValueError as error:
            raise SettingsError(f"{_PREFIX}WITNESS_NETWORKS cannot be read: {error}") from error

    def _check_witnesses(self) -> None:
        try:
            asked = self.witnesses_asked
        except (ValueError, Malformed) as error:
            raise SettingsError(f"{_PREFIX}WITNESSES: `KEY URL, KEY URL`: {error}") from None
        if len(asked) > _MOST_WITNESSES or len({key.name for key, _ in asked}) != len(asked):
            raise SettingsError(f"{_PREFIX}WITNESSES: at most {_MOST_WITNESSES}, each with its own name")
        if any(key.algorithm != COSIGNATURE for key, _ in asked):
            raise SettingsError(f"{_PREFIX}WITNESSES: a key is that of a log, not of a witness")

    def _check_objects(self) -> None:
        if not self.objects_url.startswith("file:") and self.objects_url:
            try:
                Address.parse(self.objects_url)
            except ValueError as error:
                raise SettingsError(f"{_PREFIX}OBJECTS_URL: {error}") from None

    def _with_homes(self) -> Settings:
        changes: dict[str, Any] = {}
        if not self.database_url:
            changes["database_url"] = f"sqlite:///{self.home / 'exchange.db'}"
        if not self.objects_url:
            changes["objects_url"] = f"file:{self.home / 'objects'}"
        if not self.objects_cache_path:
            changes["objects_cache_path"] = str(self.home / "cache")
        if not self.master_keys:
            changes["master_keys"] = str(self.home / "master.keys")
        return Settings(**{f.name: changes.get(f.name, getattr(self, f.name)) for f in fields(self)})

    @property
    def objects_path(self) -> Path | None:
        """The folder of the local object store; None where objects are in a bucket."""
        scheme, _, path = self.objects_url.partition(":")
        return Path(path) if scheme == "file" else None

    @property
    def oidc_inside(self) -> tuple[addresses.Network, ...]:
        """The networks in which the OpenID provider is asked although they are not public."""
        return addresses.networks(self.oidc_networks)

    @property
    def witnesses_asked(self) -> tuple[tuple[VerifierKey, str], ...]:
        """The witnesses, each with its key and address. Raises ValueError, Malformed."""
        found = []
        for one in self.witnesses.split(","):
            if one.strip():
                key, _, url = one.strip().partition(" ")
                found.append((VerifierKey.parse(key), addresses.parse(url.strip()).text.rstrip("/")))
        return tuple(found)

    @property
    def witnesses_inside(self) -> tuple[addresses.Network, ...]:
        """The networks in which witnesses are asked although they are not public."""
        return addresses.networks(self.witness_networks)

    @property
    def oauth_path(self) -> Path:
        """The folder of the keys that sign access tokens."""
        return self.home / "oauth"

    @property
    def log_path(self) -> Path:
        """The folder of the published log: checkpoint and tiles, served as static files."""
        return self.home / "log"

    @property
    def scratch_path(self) -> Path:
        """The folder of what is worked on at this moment."""
        return self.home / "scratch"

    def shown(self) -> list[tuple[str, str, str]]:
        """Every setting as (variable, value with secrets masked, meaning)."""
        rows = []
        for item in fields(self):
            value = getattr(self, item.name)
            text = ("***" if value else "(not read)") if isinstance(value, Secret) else _masked(str(value))
            rows.append((_PREFIX + item.name.upper(), text, item.metadata["text"]))
        return rows


def create_home(home: Path, *, log_key: str) -> bool:
    """Create ``home`` with fresh secrets; returns False and changes nothing where it has them already."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys, log = home / _KEY_FILE, home / _LOG_FILE
    if keys.exists() and log.exists():
        return False
    _write_private(keys, f"{_PREFIX}SECRET_KEY={secrets.token_hex(32)}\n")
    _write_private(log, f"{_PREFIX}LOG_KEY={log_key}\n")
    return True


def log_file(home: Path) -> Path:
    """The file that holds the log's key in the home of a worker or a signer."""
    return home / _LOG_FILE


def log_key_of(home: Path, environ: Mapping[str, str]) -> str:
    """The log's key as the environment, or else the file of a home, has it; empty where neither does."""
    return environ.get(_PREFIX + "LOG_KEY") or _read_env(log_file(home)).get("log_key", "")


def write_log_key(home: Path, log_key: str) -> None:
    """Replace the log's key in the file of a home, durably and for its owner alone."""
    draft = log_file(home).with_suffix(".new")
    draft.unlink(missing_ok=True)
    _write_private(draft, f"{_PREFIX}LOG_KEY={log_key}\n")
    draft.replace(log_file(home))
    folder = os.open(home, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_private(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)


def _read_env(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return _known({name: value for name, _, value in lines})


def _known(given: Mapping[str, str]) -> dict[str, str]:
    names = {_PREFIX + item.name.upper(): item.name for item in fields(Settings)}
    return {names[variable]: text for variable, text in given.items() if variable in names and text}


def _parse(name: str, text: str) -> object:
    default = getattr(Settings, name)
    if isinstance(default, Secret):
        return Secret(text)
    if isinstance(default, Path):
        return Path(text)
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"{_PREFIX}{name.upper()} must be a whole number") from None
    return text


def _masked(text: str) -> str:
    """An address without its password, and without the values of its parameters, which may be one."""
    start, question, parameters = text.partition("?")
    if "://" in start and question:
        names = [one.partition("=")[0] for one in parameters.split("&")]
        text = start + question + "&".join(f"{name}=***" for name in names)
    before, at, after = text.rpartition("@")
    scheme, slashes, login = before.partition("://")
    return f"{scheme}{slashes}{login.split(':')[0]}:***@{after}" if at and ":" in login else text
