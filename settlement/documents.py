"""JSON documents of plans, licences and acceptances: canonical text, hashes, decimal rho, near names."""

from __future__ import annotations

import difflib
import hashlib
import re
from typing import TYPE_CHECKING, Any

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RHO = re.compile(r"(0|[1-9][0-9]{0,8})(?:\.([0-9]{1,9}))?", re.ASCII)


def canonical(document: Mapping[str, Any] | list[Any]) -> str:
    """The document as canonical JSON text (RFC 8785). ValueError for what JSON cannot say exactly."""
    return rfc8785.dumps(document).decode("utf-8")


def sha256_hex(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, as lower-case hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_rho_nano(value: object) -> int:
    """A positive rho as nano-rho, read exactly from decimal text or from a number's shortest decimal form.

    ValueError for anything else and for more than nine decimals: a limit is never rounded in silence.
    """
    text = repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    match = _RHO.fullmatch(text) if isinstance(text, str) else None
    rho_nano = int(match[1] + (match[2] or "").ljust(9, "0")) if match else 0
    if rho_nano == 0:
        raise ValueError("rho is a positive decimal with at most nine decimals, such as 0.5")
    return rho_nano


def format_rho(rho_nano: int) -> str:
    """Nano-rho as the shortest decimal text: 5_000_000 -> "0.005"."""
    whole, fraction = divmod(rho_nano, 10**9)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")


def unknown_name(name: object, known: Iterable[str]) -> str:
    """Say that a name is unknown and which known one is nearest."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"unknown; did you mean {near[0]}?" if near else f"unknown; known are {', '.join(names)}"
