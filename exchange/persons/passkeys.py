"""Passkeys and security keys (WebAuthn, level 3). The only door to the library; no database, no clock.

The user must be verified by the device (a PIN, a finger), so that a passkey stands for two factors. No
attestation is asked for: it would tell which device somebody owns.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from exchange.errors import SecondFactorRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = "Private data exchange"
_ALGORITHMS = [COSEAlgorithmIdentifier.EDDSA, COSEAlgorithmIdentifier.ECDSA_SHA_256]
_TIMEOUT_MS = 60_000
# What the library raises over a reply that is not as it should be; it reads some of it without looking first.
_BROKEN = (WebAuthnException, ValueError, TypeError, LookupError, AttributeError)


@dataclass(frozen=True)
class Site:
    """Where passkeys are valid: the host, and the origin that a browser reports."""

    rp_id: str
    origin: str

    @classmethod
    def of(cls, base_url: str) -> Site:
        """The site of the exchange's address."""
        parts = urlsplit(base_url)
        return cls(parts.hostname or "", f"{parts.scheme}://{parts.netloc}")


@dataclass(frozen=True)
class NewKey:
    """A key that was registered: its id (base64url), its public key (COSE) and its count of signatures."""

    credential: str
    public_key: bytes
    sign_count: int


def registration(
    site: Site, *, person: str, login: str, name: str, challenge: bytes, known: Sequence[str]
) -> dict[str, Any]:
    """What a browser needs to register a key (PublicKeyCredentialCreationOptionsJSON)."""
    options = webauthn.generate_registration_options(
        rp_id=site.rp_id,
        rp_name=_NAME,
        user_id=person.encode(),
        user_name=login,
        user_display_name=name,
        challenge=challenge,
        timeout=_TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            user_verification=UserVerificationRequirement.REQUIRED,
            resident_key=ResidentKeyRequirement.PREFERRED,
        ),
        exclude_credentials=_described(known),
        supported_pub_key_algs=_ALGORITHMS,
    )
    return dict(json.loads(webauthn.options_to_json(options)))


def registered(site: Site, reply: dict[str, Any], challenge: bytes) -> NewKey:
    """The key that a browser's reply registers. Raises :class:`SecondFactorRefused`, whatever is wrong."""
    try:
        made = webauthn.verify_registration_response(
            credential=reply,
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_verification=True,
            supported_pub_key_algs=_ALGORITHMS,
        )
    except _BROKEN as error:
        raise SecondFactorRefused("the passkey was not registered") from error
    return NewKey(bytes_to_base64url(made.credential_id), made.credential_public_key, made.sign_count)


def assertion(site: Site, *, challenge: bytes, known: Sequence[str]) -> dict[str, Any]:
    """What a browser needs to sign with one of the known keys (PublicKeyCredentialRequestOptionsJSON)."""
    options = webauthn.generate_authentication_options(
        rp_id=site.rp_id,
        challenge=challenge,
        timeout=_TIMEOUT_MS,
        allow_credentials=_described(known),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return dict(json.loads(webauthn.options_to_json(options)))


def asserted(
    site: Site, reply: dict[str, Any], challenge: bytes, *, public_key: bytes, sign_count: int
) -> int:
    """The new count of signatures of a key that signed. Raises :class:`SecondFactorRefused`.

    A count that does not grow is refused: it is the sign of a copied key (WebAuthn, section 7.2, step 22).
    """
    try:
        done = webauthn.verify_authentication_response(
            credential=reply,
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=public_key,
            credential_current_sign_count=sign_count,
            require_user_verification=True,
        )
    except _BROKEN as error:
        raise SecondFactorRefused("the passkey was not accepted") from error
    return done.new_sign_count


def _described(known: Sequence[str]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in known]
