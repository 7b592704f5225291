"""One-time codes by time (RFC 6238) and recovery codes. The only door to pyotp; no database, no clock."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING

import pyotp
from pyotp.exceptions import OTPVerificationError

if TYPE_CHECKING:
    from datetime import datetime

ISSUER = "Private data exchange"
RECOVERY_CODES = 10
_DRIFT_STEPS = 1
_RECOVERY_BYTES = 10


def new_secret() -> str:
    """A fresh key for an authenticator app: 160 random bits in base 32."""
    return pyotp.random_base32()


def provisioning_uri(secret: str, login: str) -> str:
    """The ``otpauth:`` address that an authenticator app reads."""
    return pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name=ISSUER)


def step_of(secret: str, code: str, now: datetime, *, after: int) -> int | None:
    """The time step of a right code: of this step or a neighbour, and later than ``after``; else None.

    Whoever keeps the step and asks for later ones takes no code twice (RFC 6238, section 5.2).
    """
    typed = code.replace(" ", "")
    if not (typed.isascii() and typed.isdecimal() and len(typed) == 6):
        return None
    try:
        step = pyotp.TOTP(secret).verify_and_get_timecode(typed, for_time=now, valid_window=_DRIFT_STEPS)
    except OTPVerificationError:
        return None
    return step if step > after else None


def new_recovery_codes() -> tuple[str, ...]:
    """Fresh recovery codes, 80 random bits each, written in four groups."""
    return tuple(_grouped(secrets.token_bytes(_RECOVERY_BYTES)) for _ in range(RECOVERY_CODES))


def recovery_digest(code: str) -> str:
    """What is kept of a recovery code: SHA-256 over its letters and digits, which are 80 random bits."""
    plain = "".join(c for c in code.upper() if c.isalnum())
    return hashlib.sha256(f"recovery:{plain}".encode()).hexdigest()


def _grouped(raw: bytes) -> str:
    text = base64.b32encode(raw).decode()
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))
