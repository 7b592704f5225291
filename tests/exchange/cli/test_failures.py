"""Every exception of the SDK, and every error of the server, ends with the exit code of its family."""

from __future__ import annotations

import pytest

from catalog.errors import InvalidManifest, InvalidUpload
from exchange import client
from exchange.audit.errors import LogDiverged, SignatureInvalid
from exchange.cli.failures import exit_code, translated
from exchange.config import SettingsError
from exchange.errors import RoleMissing
from settlement.errors import AmountInvalid

CODES = [
    (client.ConfigurationError, 2),
    (client.MissingDependency, 2),
    (client.InvalidRequest, 2),
    (client.NotFound, 2),
    (client.KeyReused, 2),
    (client.AuthError, 3),
    (client.PermissionDenied, 3),
    (client.LicenceError, 3),
    (client.GrantMissing, 3),
    (client.LicenceNotAccepted, 3),
    (client.PurposeNotAllowed, 3),
    (client.TerritoryNotAllowed, 3),
    (client.LicenceExpired, 3),
    (client.QuotaExceeded, 3),
    (client.QueryRefused, 3),
    (client.QuoteExpired, 3),
    (client.UploadRejected, 3),
    (client.Conflict, 3),
    (client.BudgetExceeded, 4),
    (client.PaymentRequired, 5),
    (client.LimitExceeded, 5),
    (client.InProgress, 6),
    (client.RateLimited, 6),
    (client.QueryFailed, 6),
    (client.QueryCancelled, 6),
    (client.AnswerExpired, 6),
    (client.ServerError, 6),
    (client.ConnectionFailed, 6),
    (client.StillOpen, 6),
    (client.StillRunning, 6),
    (client.StillUnpaid, 6),
    (client.VerificationFailed, 11),
]


@pytest.mark.parametrize(("kind", "code"), CODES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_family_decides(kind: type[client.ExchangeError], code: int) -> None:
    assert exit_code(kind("x")) == code


def test_every_public_exception_is_listed() -> None:
    public = {getattr(client, name) for name in client.__all__}
    errors = {kind for kind in public if isinstance(kind, type) and issubclass(kind, client.ExchangeError)}
    assert errors - {client.ExchangeError} == {kind for kind, _ in CODES}


def test_the_limit_that_was_hit_decides() -> None:
    assert exit_code(client.LimitExceeded("x", details={"rho_nano": 5})) == 4
    assert exit_code(client.LimitExceeded("x", details={"price": {}})) == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("EXCHANGE_SECRET_KEY is not set"), 2),
        (InvalidManifest("slug", "must be given"), 2),
        (AmountInvalid("1.001 USD has too many decimals"), 2),
        (InvalidUpload("not_parquet", "not Parquet", table="t"), 3),
        (RoleMissing("this needs the role buyer"), 3),
        (LogDiverged("the log differs"), 6),
        (SignatureInvalid("bad"), 13),
        (FileNotFoundError(2, "No such file", "a.toml"), 2),
    ],
)
def test_errors_of_the_server_packages_are_translated(error: Exception, code: int) -> None:
    found = translated(error)
    assert found is not None
    assert exit_code(found) == code
    assert found.hint


def test_a_defect_is_not_translated() -> None:
    assert translated(ZeroDivisionError("x")) is None
    assert translated(KeyError("x")) is None
