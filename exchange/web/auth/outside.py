"""Asking an identity provider: forms out, JSON in, through :mod:`exchange.outside`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from exchange import outside
from exchange.outside import NotAsked
from exchange.web.auth.signing import object_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.addresses import Network

__all__ = ["NotAsked", "ask"]


def ask(
    text: str,
    *,
    inside: Sequence[Network],
    form: Mapping[str, str] | None = None,
    login: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """The JSON object at an address, or in the reply to a form that is sent there.

    Args:
        text: the address, https, or http at this machine.
        inside: networks that are asked although they are not public.
        form: what is posted; nothing: it is a GET.
        login: with which the request proves itself (RFC 7617).

    Raises:
        NotAsked: the address is none, or of a machine that is not asked; or its answer is not as it must be.
    """
    headers = {"Accept": "application/json"}
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if login is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"
    body = None if form is None else urlencode(dict(form)).encode()
    status, data = outside.ask(text, inside=inside, headers=headers, body=body)
    if status != 200:
        raise NotAsked(f"the answer has the status {status}")
    try:
        return object_of(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotAsked("the answer is no JSON object") from error
