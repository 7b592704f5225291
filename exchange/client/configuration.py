"""Where the SDK finds its exchange: argument, environment, ``./exchange.toml``, user configuration.

A configuration file holds ``url`` and ``token`` at its top level, or in ``[profiles.NAME]`` tables, and may
name the profile to use with ``profile = "NAME"``. A token of the user configuration is sent only to the
address it was stored for, so that an ``exchange.toml`` in somebody else's folder cannot lure it away.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from exchange.client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT_FILE = "exchange.toml"
_DEFAULT_PROFILE = "default"
_SECRETS = frozenset({"token", "refresh_token", "access_token", "access_expires_at"})


class Token(str):
    """A token that does not show itself in a ``repr`` or a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class Keys:
    """An exchange's public keys as C2SP verifier keys (``name+id+base64``): the log's and the receipts'.

    ``log_statements`` is what the exchange publishes at ``/audit/keys``: with it, a pinned key that was
    replaced leads to the one that followed it. Without it no other key than the pinned one is believed.
    """

    log_key: str
    receipt_key: str
    log_statements: str = field(default="", repr=False)

    @property
    def origin(self) -> str:
        """The log's name, which is the name of its key (https://c2sp.org/tlog-checkpoint)."""
        return self.log_key.partition("+")[0]


@dataclass(frozen=True)
class SignedIn:
    """Where the tokens of a sign-in are kept: a profile of a user configuration."""

    path: Path
    profile: str


@dataclass(frozen=True)
class Address:
    """An exchange's address, the token to use there (empty: none), and its keys where they are pinned.

    ``signed_in`` says where access tokens are kept that a person signed in for.
    """

    url: str
    token: Token
    keys: Keys | None = None
    signed_in: SignedIn | None = None


def resolve(
    url: str | None = None,
    token: str | None = None,
    profile: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Address:
    """Find the address and token. Raises :class:`ConfigurationError` where no address is named anywhere."""
    env = os.environ if environ is None else environ
    project = _read((folder or Path.cwd()) / PROJECT_FILE)
    wanted = profile or env.get("EXCHANGE_PROFILE") or _text(project, "profile")
    named = bool(profile or env.get("EXCHANGE_PROFILE"))
    here, user = _section(project, wanted), _user_section(env, wanted)
    if named and not here and not user:
        raise ConfigurationError(f"there is no profile {wanted!r}")
    found = url or env.get("EXCHANGE_URL") or _text(here, "url") or _text(user, "url")
    if not found:
        raise ConfigurationError("no exchange is named", code="address_missing")
    address = normal_url(found)
    stored = _for_address(address, user)
    secret = token if token is not None else env.get("EXCHANGE_TOKEN")
    signed_in = None
    if secret is None:
        secret = _text(here, "token") or _text(stored, "token")
        if not secret and _text(stored, "refresh_token"):
            signed_in = SignedIn(user_file(env), _user_profile(env, wanted))
    return Address(address, _usable(secret), _pinned(stored), signed_in)


def user_file(environ: Mapping[str, str] | None = None) -> Path:
    """The user configuration: ``$XDG_CONFIG_HOME/exchange/config.toml``, by default under ``~/.config``."""
    env = os.environ if environ is None else environ
    home = Path(env.get("HOME") or Path.home())
    return Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "exchange" / "config.toml"


def store(address: Address, *, profile: str | None = None, environ: Mapping[str, str] | None = None) -> Path:
    """Keep an address, token and keys in the user configuration, readable by its owner alone (0600).

    A token, or a sign-in, that the profile held before is forgotten.
    """
    path = user_file(environ)
    values = {"url": normal_url(address.url), "token": str(_usable(address.token))}
    if address.keys is not None:
        values |= {"log_key": address.keys.log_key, "receipt_key": address.keys.receipt_key}
    if address.signed_in is not None:
        values = {name: value for name, value in values.items() if name != "token"}
    _write(path, profile or _DEFAULT_PROFILE, values)
    return path


def sign_in_kept(profile: str | None = None, *, environ: Mapping[str, str] | None = None) -> SignedIn:
    """Where the tokens of a sign-in are to be kept."""
    return SignedIn(user_file(environ), profile or _DEFAULT_PROFILE)


def kept_values(kept: SignedIn) -> dict[str, str]:
    """What a profile holds."""
    table = _read(kept.path, private=True).get("profiles", {}).get(kept.profile, {})
    return {name: _text(table, name) for name in table} if isinstance(table, dict) else {}


def keep_tokens(kept: SignedIn, values: Mapping[str, str]) -> None:
    """Write tokens into a profile that has its address already."""
    _write(kept.path, kept.profile, {**kept_values(kept), **values})


def forget_tokens(kept: SignedIn) -> None:
    """Take every token out of a profile; address and keys stay."""
    held = kept_values(kept)
    if held:
        _write(kept.path, kept.profile, {name: held[name] for name in held if name not in _SECRETS})


def _write(path: Path, profile: str, values: Mapping[str, str]) -> None:
    document = _read(path, private=True)
    profiles = {**document.get("profiles", {}), profile: values}
    lines = [f"profile = {json.dumps(_text(document, 'profile') or profile)}\n"]
    for name, table in profiles.items():
        lines.append(f"\n[profiles.{json.dumps(name)}]\n")
        lines += [f"{key} = {json.dumps(str(value))}\n" for key, value in table.items()]
    _replace(path, "".join(lines))


def normal_url(url: str) -> str:
    """An exchange's address without a trailing slash. Raises :class:`ConfigurationError`."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("the address must start with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise ConfigurationError("the address must not hold a login", hint="Pass the token as token=.")
    if parts.query or parts.fragment:
        raise ConfigurationError("the address must not hold a query or a fragment")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _for_address(address: str, user: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the user's profile knows of this address, and nothing where it is about another."""
    stored = _text(user, "url")
    return user if stored and normal_url(stored) == address else {}


def _pinned(stored: Mapping[str, Any]) -> Keys | None:
    log_key, receipt_key = _text(stored, "log_key"), _text(stored, "receipt_key")
    return Keys(log_key, receipt_key) if log_key and receipt_key else None


def _usable(token: str) -> Token:
    text = token.strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigurationError("the token holds characters that no token has", hint="Copy the token again.")
    return Token(text)


def _user_profile(env: Mapping[str, str], profile: str) -> str:
    return profile or _text(_read(user_file(env), private=True), "profile") or _DEFAULT_PROFILE


def _user_section(env: Mapping[str, str], profile: str) -> Mapping[str, Any]:
    return _section(_read(user_file(env), private=True), _user_profile(env, profile))


def _section(document: Mapping[str, Any], profile: str) -> Mapping[str, Any]:
    """The profile's table; without a profile of that name, the values at the top."""
    table = document.get("profiles", {}).get(profile) if profile else None
    if isinstance(table, dict):
        return table
    top = {name: document[name] for name in ("url", "token", "log_key", "receipt_key") if name in document}
    return top if not profile or profile in (_DEFAULT_PROFILE, _text(document, "profile")) else {}


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name, "")
    if not isinstance(value, str):
        raise ConfigurationError(f"the setting {name!r} in a configuration file must be text")
    return value


def _read(path: Path, *, private: bool = False) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        shared = private and os.name == "posix" and path.stat().st_mode & 0o077
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if shared:
        raise ConfigurationError(f"{path} can be read by others", hint=f"Run `chmod 600 {path}`.")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{path} is not TOML: {error}", hint="Mend the file, or remove it."
        ) from None
    if not isinstance(document.get("profiles", {}), dict):
        raise ConfigurationError(f"{path}: `profiles` must be a table")
    return document


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
    draft.replace(path)
