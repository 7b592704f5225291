"""Requests and retries: one idempotency key per call, kept across retries: a retry never spends twice.

Retried are failures of the connection, 409 ``in_progress``, 429, 502, 503 and 504 - and nothing else: a 504
that says ``query_timeout`` is the query's own end. ``Retry-After`` is honoured (RFC 9110, section 10.2.3);
the waits of one call never add up to more than a minute.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from exchange.client import errors
from exchange.client.configuration import Address, Keys
from exchange.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_FETCHED_WITHIN_S = 300.0
_MAX_ERROR_BYTES = 1 << 20
_RETRIED = frozenset({429, 502, 503, 504})
_FINAL_CODES = frozenset({"query_timeout"})
_HTML_HINT = (
    "A proxy or another server answered. Check the address, and the proxy settings of the environment."
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Retry:
    """How often a call is repeated: at most ``times`` (an answer in progress does not count), at most
    ``elapsed_s`` seconds after it began; waits grow from ``base_s`` with full jitter."""

    times: int = 5
    elapsed_s: float = 60.0
    base_s: float = 0.2
    longest_s: float = 10.0


@dataclass(frozen=True)
class _Failure:
    """What went wrong, and in how many seconds a retry makes sense (None: never)."""

    error: errors.ExchangeError
    wait_s: float | None


def new_key() -> str:
    """A fresh idempotency key: 122 random bits."""
    return str(uuid.uuid4())


class Connection:
    """One exchange over HTTP, with the token, timeouts and retries. Safe to share between threads."""

    def __init__(
        self,
        address: Address,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout: httpx.Timeout | float | None = None,
        retry: Retry | None = None,
        sleep: Callable[[float], None] = time.sleep,
        auth: httpx.Auth | None = None,
    ) -> None:
        self.url = address.url
        self._keys = address.keys
        self._retry = retry or Retry()
        self._sleep = sleep
        headers = {"Accept": "application/json", "User-Agent": f"private-data-exchange/{__version__}"}
        if address.token:
            headers["Authorization"] = f"Bearer {address.token!s}"
        self._client = httpx.Client(
            base_url=address.url, headers=headers, timeout=timeout or TIMEOUT, transport=transport, auth=auth
        )

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._client.close()

    def keys(self) -> Keys:
        """The exchange's public keys: those of the profile, else what it publishes, fetched once."""
        if self._keys is None:
            self._keys = self.published_keys()
        return self._keys

    def published_keys(self) -> Keys:
        """The public keys that the exchange publishes now. ``NotFound`` before its first checkpoint."""
        log_key, receipt_key = (self._text(f"/audit/{name}") for name in ("key", "receipt-key"))
        return Keys(log_key, receipt_key)

    def _text(self, path: str) -> str:
        reply = self.send("GET", path, headers={"Accept": "text/plain"})
        if "html" in _media(reply) or reply.text.count("+") < 2:
            raise _unexpected(reply, "the answer is not a public key")
        return reply.text.strip()

    def get(self, path: str, **params: object) -> Any:
        """The JSON document at ``path``; parameters that are None are left out, of lists each is given."""
        given = {
            name: [str(one) for one in value] if isinstance(value, list) else str(value)
            for name, value in params.items()
            if value is not None
        }
        return _document(self.send("GET", path, params=given))

    def delete(self, path: str) -> Any:
        """Delete what is at ``path``; returns the reply's document."""
        return _document(self.send("DELETE", path))

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        read_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Post a JSON document under an idempotency key, fresh unless given; returns the reply's document.

        ``read_s`` waits longer for the reply than other calls do.
        """
        sent = {"Idempotency-Key": key or new_key(), **(headers or {})}
        more: dict[str, Any] = {}
        if read_s is not None:
            usual = self._client.timeout
            more["timeout"] = httpx.Timeout(
                connect=usual.connect, write=usual.write, pool=usual.pool, read=read_s
            )
        return _document(self.send("POST", path, json=dict(body), headers=sent, **more))

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        retry: bool = True,
        stream: bool = False,
        **rest: Any,
    ) -> httpx.Response:
        """A reply of status 2xx, fully read; with ``stream`` its head alone, and whoever asked closes it.

        Raises :class:`~exchange.client.errors.ExchangeError`.
        """
        if self._client.is_closed:
            raise errors.ConfigurationError(
                "the client is closed",
                code="client_closed",
                hint="Use it inside its `with` block; to verify receipts later, keep the keys: `x.keys()`.",
            )
        sent = dict(headers or {})
        began, failures = time.monotonic(), 0
        while True:
            outcome = self._attempt(method, path, sent, rest, failures, stream=stream)
            if isinstance(outcome, httpx.Response):
                return outcome
            failures += outcome.error.code != "in_progress"
            wait = outcome.wait_s if retry and failures <= self._retry.times else None
            if wait is None or time.monotonic() - began + wait > self._retry.elapsed_s:
                raise outcome.error
            self._sleep(wait)

    def download(
        self, path: str, body: Mapping[str, Any], target: Path, tell: Callable[[int, int], None]
    ) -> httpx.Headers:
        """Post a JSON document and write the reply's bytes to ``target``; returns the reply's headers.

        ``tell`` hears how far it is: bytes so far, bytes in all (0 where that is not known). The file is
        there when all of it has arrived, and not before. Raises ``ConnectionFailed`` where the reply ends
        early.
        """
        draft = target.with_name(f"{target.name}.part")
        reply = self.send("POST", path, json=dict(body), headers={"Accept": "*/*"}, stream=True)
        try:
            with contextlib.closing(reply), draft.open("wb") as file:
                total, done = int(reply.headers.get("Content-Length", 0)), 0
                for part in reply.iter_bytes():
                    file.write(part)
                    done += len(part)
                    tell(done, total)
            draft.replace(target)
        except httpx.HTTPError as error:
            raise self._unreached(error, {}) from error
        finally:
            draft.unlink(missing_ok=True)
        return reply.headers

    def fetch(self, path: str, most: int) -> bytes:
        """The bytes under a public path: ``most`` of them, and one where there are more, because a server
        that is not trusted may send without an end. However it drips, five minutes are enough in all.
        Raises :class:`~exchange.client.errors.ExchangeError`.
        """
        failures, ends = 0, time.monotonic() + _FETCHED_WITHIN_S
        while True:
            reply = self.send("GET", path, headers={"Accept": "*/*"}, stream=True)
            try:
                with contextlib.closing(reply):
                    return _beginning(reply, most + 1, ends)
            except httpx.HTTPError as error:
                failures += 1
                late = time.monotonic() >= ends
                if late or failures > self._retry.times or not _may_pass(error):
                    raise self._unreached(error, {}) from error
                self._sleep(self._backoff(failures))

    def pause(self, failure: errors.ExchangeError, times: int) -> None:
        """Wait before something that failed ``times`` times is tried in another way."""
        asked = getattr(failure, "retry_after", None)
        self._sleep(self._backoff(times) if asked is None else min(asked, self._retry.elapsed_s))

    def _attempt(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        rest: dict[str, Any],
        failures: int,
        *,
        stream: bool,
    ) -> httpx.Response | _Failure:
        try:
            asked = self._client.build_request(method, path, headers=headers, **rest)
            reply = self._client.send(asked, stream=stream)
            if stream and not reply.is_success:
                reply = _read_error(reply)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _Failure(
                self._unreached(error, headers), self._backoff(failures) if _may_pass(error) else None
            )
        except errors.ServerError as error:  # no access token could be had: that may pass, too
            return _Failure(error, self._backoff(failures))
        if reply.is_success:
            return reply
        reply.close()
        error_found = error_of(reply)
        retried = reply.status_code in _RETRIED or error_found.code == "in_progress"
        if not retried or error_found.code in _FINAL_CODES:
            return _Failure(error_found, None)
        wait_s = retry_after(reply)
        if isinstance(error_found, errors.RateLimited):
            error_found.retry_after = wait_s
        return _Failure(error_found, self._backoff(failures) if wait_s is None else wait_s)

    def _backoff(self, failures: int) -> float:
        longest = min(self._retry.longest_s, self._retry.base_s * 2**failures)
        return random.uniform(longest / 4, longest)  # noqa: S311 - spreads retries, guards nothing

    def _unreached(self, error: Exception, headers: Mapping[str, str]) -> errors.ExchangeError:
        if isinstance(error, httpx.TransportError):
            what = (
                "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
            )
            failed = errors.ConnectionFailed(f"the exchange at {self.url} {what} ({type(error).__name__})")
            failed.idempotency_key = headers.get("Idempotency-Key")
            return failed
        return errors.ServerError(
            f"the reply of {self.url} cannot be read ({type(error).__name__})", code="unexpected_reply"
        )


def _beginning(reply: httpx.Response, most: int, ends: float) -> bytes:
    """Raises ReadTimeout where it has not come when the monotonic clock says `ends`."""
    held = bytearray()
    for part in reply.iter_bytes():
        held += part
        if len(held) >= most:
            break
        if time.monotonic() >= ends:
            raise httpx.ReadTimeout("it takes too long", request=reply.request)
    return bytes(held[:most])


def _read_error(reply: httpx.Response) -> httpx.Response:
    """A streamed reply that is no success, with the beginning of what it says in plain bytes."""
    with contextlib.closing(reply):
        content = _beginning(reply, _MAX_ERROR_BYTES, time.monotonic() + _FETCHED_WITHIN_S)
    packed = ("content-encoding", "content-length", "transfer-encoding")
    headers = [one for one in reply.headers.multi_items() if one[0].lower() not in packed]
    return httpx.Response(reply.status_code, headers=headers, content=content, request=reply.request)


def error_of(reply: httpx.Response) -> errors.ExchangeError:
    """The exception that a reply of another status than 2xx stands for."""
    problem = _json(reply)
    request_id = reply.headers.get("X-Request-Id", "")
    if isinstance(problem, dict) and (problem.get("code") or "json" in _media(reply)):
        found = errors.from_problem(problem, status=reply.status_code)
        found.request_id = found.request_id or request_id
        return found
    if not reply.content and reply.request.method == "HEAD":
        # A reply to HEAD carries no document, so that only the status can speak.
        return errors.from_problem({"request_id": request_id}, status=reply.status_code)
    if reply.is_redirect:
        return errors.ServerError(
            "the address answers with a redirect, which is not followed: it would take the token along",
            code="unexpected_reply",
            status=reply.status_code,
            hint="Use the address that it points to.",
        )
    return _unexpected(reply, "the answer did not come from an exchange")


def retry_after(reply: httpx.Response) -> float | None:
    """Seconds that ``Retry-After`` asks for: a number, or a date measured against the server's own clock."""
    text = reply.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
        now = email.utils.parsedate_to_datetime(reply.headers["Date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def read(build: Callable[..., _T], document: Any, *rest: Any) -> _T:
    """``build(document, *rest)``, where a document of another shape is a :class:`ServerError`."""
    try:
        return build(document, *rest)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise errors.ServerError(
            f"the exchange's reply has an unknown shape ({type(error).__name__}: {error})",
            code="unexpected_reply",
            hint=f"Client and exchange may be of different versions; this client is {__version__}.",
        ) from error


def _may_pass(error: Exception) -> bool:
    permanent = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
    return isinstance(error, httpx.TransportError) and not isinstance(error, permanent)


def _document(reply: httpx.Response) -> Any:
    document = _json(reply)
    if document is None:
        raise _unexpected(reply, "the answer is not JSON")
    return document


def _json(reply: httpx.Response) -> Any:
    if "html" in _media(reply):
        return None
    try:
        return reply.json()
    except (RecursionError, ValueError):
        return None


def _media(reply: httpx.Response) -> str:
    return str(reply.headers.get("Content-Type", "")).split(";")[0].strip().lower()


def _unexpected(reply: httpx.Response, what: str) -> errors.ServerError:
    kind = _media(reply) or "no content type"
    return errors.ServerError(
        f"{what} (status {reply.status_code}, {kind})",
        code="unexpected_reply",
        status=reply.status_code,
        request_id=reply.headers.get("X-Request-Id", ""),
        hint=_HTML_HINT,
    )
