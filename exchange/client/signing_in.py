"""Access tokens for a client: asked for, renewed before they end, kept in the user configuration (0600).

Two ways: a client's own secret (RFC 6749, section 4.4), and the device flow (RFC 8628), by which a person
lets the command line in. A refresh token works once: processes of one user take turns at its file.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from exchange.client import configuration, errors
from exchange.client.configuration import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from exchange.client.configuration import SignedIn

    Asking = Generator[httpx.Request, httpx.Response, "Tokens"]

CLI = "exchange-cli"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_EARLY_S = 30.0
"""A token is renewed so long before its end: the exchange's clock may be ahead."""
_LONGEST_WAIT_S = 60.0
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


@dataclass(frozen=True)
class DeviceCode:
    """What a person is shown: open ``verification_uri`` and type ``user_code`` there."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int
    device_code: Token


@dataclass(frozen=True)
class Tokens:
    """What the exchange gave: an access token until ``expires_at`` (Unix time), perhaps a refresh token."""

    access: Token
    refresh: Token
    expires_at: float


class Bearer(httpx.Auth):
    """Sends an access token with each request, and a fresh one where it was refused or is about to end.

    ``renew`` gives tokens that are not the refused one; it yields the requests that this takes.
    """

    requires_response_body = True

    def __init__(self, renew: Callable[[Token | None], Asking]) -> None:
        self._renew = renew
        self._held: Tokens | None = None
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Ask for a token first where there is none, and once more where it is refused."""
        used = yield from self._token(None)
        request.headers["Authorization"] = f"Bearer {used!s}"
        reply = yield request
        if reply.status_code == 401 and isinstance(request.stream, httpx.ByteStream):
            fresh = yield from self._token(used)
            if fresh != used:
                request.headers["Authorization"] = f"Bearer {fresh!s}"
                yield request

    def _token(self, refused: Token | None) -> Generator[httpx.Request, httpx.Response, Token]:
        with self._lock:
            held = self._held
            if held is None or not _good(held, refused):
                held = self._held = yield from self._renew(refused)
            return held.access


def by_secret(url: str, client_id: str, client_secret: str, scope: str | None = None) -> Bearer:
    """A confidential client's tokens, for what it may do by itself."""
    secret = Token(client_secret)
    form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}

    def renew(refused: Token | None) -> Asking:
        del refused
        return (yield from _asked(url, form, (client_id, str(secret))))

    return Bearer(renew)


def by_sign_in(url: str, kept: SignedIn) -> Bearer:
    """The tokens of a profile: read from the user configuration, renewed and written back to it."""

    def renew(refused: Token | None) -> Asking:
        with _turn(kept):
            held = tokens_of(kept)
            if held is None:
                raise _ended()
            if _good(held, refused):
                return held
            form = {"grant_type": "refresh_token", "refresh_token": str(held.refresh), "client_id": CLI}
            try:
                fresh = yield from _asked(url, form)
            except errors.AuthError:
                raise _ended() from None
            keep(kept, fresh)
            return fresh

    return Bearer(renew)


def _asked(url: str, form: dict[str, str], auth: tuple[str, str] | None = None) -> Asking:
    """Ask the token endpoint. Raises ``AuthError`` where it refuses, ``ServerError`` where it cannot."""
    asked = httpx.Request("POST", f"{url}/oauth/token", data=form)
    if auth is not None:
        asked = next(httpx.BasicAuth(*auth).auth_flow(asked))
    asked.headers["Accept"] = "application/json"
    asked.extensions = {"timeout": _TIMEOUT.as_dict()}
    return read_tokens((yield asked))


def start(url: str, *, scope: str = "", transport: httpx.BaseTransport | None = None) -> DeviceCode:
    """Ask for the codes of the device flow. Raises ``ExchangeError`` where the exchange refuses."""
    form = {"client_id": CLI, **({"scope": scope} if scope else {})}
    with httpx.Client(transport=transport, timeout=_TIMEOUT) as client:
        given = _document(_posted(client, f"{url}/oauth/device", form))
    try:
        return DeviceCode(
            user_code=str(given["user_code"]),
            verification_uri=str(given["verification_uri"]),
            verification_uri_complete=str(given["verification_uri_complete"]),
            expires_in=int(given["expires_in"]),
            interval=max(1, int(given.get("interval", 5))),
            device_code=Token(given["device_code"]),
        )
    except (KeyError, TypeError, ValueError):
        raise _strange() from None


def wait(
    url: str,
    shown: DeviceCode,
    *,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Tokens:
    """Wait until the person has decided. Raises ``AuthError`` for a no, and where nobody came in time."""
    form = {"grant_type": DEVICE_GRANT, "device_code": str(shown.device_code), "client_id": CLI}
    interval, waited = float(shown.interval), 0.0
    with httpx.Client(transport=transport, timeout=_TIMEOUT) as client:
        while waited <= shown.expires_in:
            sleep(interval)
            waited += interval
            reply = _posted(client, f"{url}/oauth/token", form)
            if reply is None:
                continue
            told = _error(reply)
            if told == "slow_down":
                interval = min(interval + 5, _LONGEST_WAIT_S)
            if told not in ("slow_down", "authorization_pending"):
                return read_tokens(reply)
    raise errors.AuthError("nobody confirmed the code in time", code="expired_token")


def end(url: str, kept: SignedIn, *, transport: httpx.BaseTransport | None = None) -> bool:
    """End a profile's sign-in at the exchange, and forget it; False where there was none.

    It is forgotten here also where the exchange cannot be told; that is raised afterwards.
    """
    with _turn(kept):
        held = tokens_of(kept)
        configuration.forget_tokens(kept)
    if held is None or not held.refresh:
        return False
    with httpx.Client(transport=transport, timeout=_TIMEOUT) as client:
        reply = _posted(client, f"{url}/oauth/revoke", {"client_id": CLI, "token": str(held.refresh)})
    if reply is None or not reply.is_success:
        raise errors.ServerError(
            "the sign-in is forgotten here, but the exchange could not be told",
            code="not_revoked",
            hint="Revoke it on the portal, or with `exchange authorization revoke`.",
        )
    return True


def tokens_of(kept: SignedIn) -> Tokens | None:
    """What a profile holds, or None."""
    values = configuration.kept_values(kept)
    if not values.get("refresh_token"):
        return None
    try:
        until = float(values.get("access_expires_at", "0"))
    except ValueError:
        until = 0.0
    return Tokens(Token(values.get("access_token", "")), Token(values["refresh_token"]), until)


def keep(kept: SignedIn, tokens: Tokens) -> None:
    """Write tokens into a profile."""
    configuration.keep_tokens(
        kept,
        {
            "refresh_token": str(tokens.refresh),
            "access_token": str(tokens.access),
            "access_expires_at": f"{tokens.expires_at:.0f}",
        },
    )


def read_tokens(reply: httpx.Response) -> Tokens:
    """The tokens of a reply. Raises ``AuthError`` where the exchange refused, ``ServerError`` otherwise."""
    refused = _error(reply)
    if 400 <= reply.status_code < 500 and refused and reply.status_code != 429:
        raise errors.AuthError(
            f"the exchange gave no access token ({refused})",
            code=refused,
            status=reply.status_code,
            hint=_HINTS.get(refused),
        )
    given = _document(reply)
    try:
        ends = time.time() + float(given["expires_in"])
        return Tokens(Token(given["access_token"]), Token(given.get("refresh_token", "")), ends)
    except (KeyError, TypeError, ValueError):
        raise _strange() from None


_HINTS = {
    "invalid_client": "Check client_id and client_secret; the client may have been revoked.",
    "invalid_scope": "Ask for no more than the client may be given: `exchange client list` shows it.",
    "access_denied": "Somebody said no on the portal. Start again with `exchange login`.",
    "expired_token": "Start again with `exchange login`: a code is good for ten minutes.",
}


def _good(held: Tokens, refused: Token | None) -> bool:
    lasts = held.expires_at - _EARLY_S > time.time()
    return bool(held.access) and held.access != refused and lasts


def _posted(client: httpx.Client, url: str, form: dict[str, str]) -> httpx.Response | None:
    """The reply to a form, or None where none arrived: who waits asks again."""
    try:
        return client.post(url, data=form, headers={"Accept": "application/json"})
    except httpx.TransportError:
        return None


def _document(reply: httpx.Response | None) -> dict[str, Any]:
    if reply is None:
        raise errors.ConnectionFailed("the exchange cannot be reached")
    try:
        found = reply.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _strange(reply.status_code)
    if not reply.is_success:
        told = found.get("error") or found.get("code") or "refused"
        raise errors.from_problem(
            {"detail": f"the exchange refused to sign in ({told})", **found, "code": str(told)},
            status=reply.status_code,
        )
    return found


def _error(reply: httpx.Response) -> str:
    """The refusal of RFC 6749, section 5.2, by its name; empty where there is none."""
    try:
        found = reply.json()
    except ValueError:
        return ""
    told = found.get("error") if isinstance(found, dict) else None
    return told if isinstance(told, str) and told.isidentifier() else ""


def _strange(status: int | None = None) -> errors.ServerError:
    return errors.ServerError(
        "the answer to signing in did not come from an exchange", code="unexpected_reply", status=status
    )


def _ended() -> errors.AuthError:
    return errors.AuthError("the sign-in has ended", hint="Run `exchange login` again.")


@contextlib.contextmanager
def _turn(kept: SignedIn) -> Iterator[None]:
    """One process at a time changes a user's tokens, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # not on every system
        yield
        return
    kept.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with kept.path.with_name(f".{kept.path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
