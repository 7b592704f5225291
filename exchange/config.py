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

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "EXCHANGE_"
_KEY_FILE = "keys.env"
_LOG_FILE = "log.env"
_GIB = 1 << 30
_MIB = 1 << 20


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
    objects_url: str = _setting("", "Object store, `file:PATH`; empty means `objects` in the home folder")
    engine_url: str = _setting("duckdb:", "Engine that computes exact aggregates")
    base_url: str = _setting("http://127.0.0.1:8000", "Address under which people reach this exchange")
    secret_key: Secret = _setting(
        Secret(""), "Secret, 32 bytes or more: cookies, receipt key, bounding salts"
    )
    log_key: Secret = _setting(Secret(""), "Secret: the Ed25519 key that signs checkpoints; worker only")
    log_origin: str = _setting("exchange.local/log", "Name of the log, the first line of every checkpoint")
    max_upload_bytes: int = _setting(2 * _GIB, "Largest file that a provider may upload")
    max_request_bytes: int = _setting(_MIB, "Largest body of any other request")
    max_result_bytes: int = _setting(64 * _MIB, "Largest result of one query")
    query_timeout_s: int = _setting(30, "Seconds that a query may run before its worker is killed")
    query_memory_bytes: int = _setting(2 * _GIB, "Address space of one query worker")
    query_threads: int = _setting(2, "Threads of one query worker")
    query_workers: int = _setting(2, "Query workers kept warm")
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
    request_days: int = _setting(45, "Days that a provider has to decide on a request for access")
    web_threads: int = _setting(16, "Threads of one web process")
    web_workers: int = _setting(1, "Web processes")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, worker: bool = False) -> Settings:
        """Read the environment, then the key files of the home; a missing secret refuses to start.

        Raises :class:`SettingsError` naming the variable. With ``worker`` the log key is required and read;
        without it the key is not even opened.
        """
        given = dict(os.environ if environ is None else environ)
        home = Path(given.get(_PREFIX + "HOME", ".exchange")).expanduser().absolute()
        stored = _read_env(home / _KEY_FILE) | (_read_env(home / _LOG_FILE) if worker else {})
        values: dict[str, Any] = {name: _parse(name, text) for name, text in (stored | _known(given)).items()}
        if not worker:
            values.pop("log_key", None)
        settings = cls(**{**values, "home": home})
        settings._require("secret_key")
        if worker:
            settings._require("log_key")
        return settings._with_homes()

    def _require(self, name: str) -> None:
        if not getattr(self, name):
            raise SettingsError(
                f"{_PREFIX}{name.upper()} is not set: run `exchange init`, or set the variable"
            )

    def _with_homes(self) -> Settings:
        changes: dict[str, Any] = {}
        if not self.database_url:
            changes["database_url"] = f"sqlite:///{self.home / 'exchange.db'}"
        if not self.objects_url:
            changes["objects_url"] = f"file:{self.home / 'objects'}"
        return Settings(**{f.name: changes.get(f.name, getattr(self, f.name)) for f in fields(self)})

    @property
    def objects_path(self) -> Path:
        """The folder of the local object store."""
        scheme, _, path = self.objects_url.partition(":")
        if scheme != "file":
            raise SettingsError("EXCHANGE_OBJECTS_URL: only `file:PATH` is known")
        return Path(path)

    @property
    def log_path(self) -> Path:
        """The folder of the published log: checkpoint and tiles, served as static files."""
        return self.home / "log"

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


def _write_private(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


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
    """A database URL without its password."""
    before, at, after = text.rpartition("@")
    scheme, slashes, login = before.partition("://")
    return f"{scheme}{slashes}{login.split(':')[0]}:***@{after}" if at and ":" in login else text
