"""The directions between rooms: import-linter's contracts hold, and each catches a planted import."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.sources import PACKAGES, ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
ROOMS = [
    *("catalog/__init__.py", "catalog/ingest.py", "catalog/listings.py", "catalog/manifest.py"),
    *("privacy/__init__.py", "privacy/query.py", "privacy/plan.py", "privacy/expressions.py"),
    *("privacy/mechanisms.py", "privacy/accounting.py", "privacy/sandbox.py", "privacy/release.py"),
    *("privacy/engines/__init__.py", "privacy/engines/duckdb.py"),
    *("settlement/__init__.py", "settlement/stripe.py", "settlement/ledger/__init__.py"),
    *(
        "exchange/__init__.py",
        "exchange/cli.py",
        "exchange/serving.py",
        "exchange/worker.py",
        "exchange/bootstrap.py",
    ),
    *("exchange/web/__init__.py", "exchange/web/auth/__init__.py", "exchange/web/api.py"),
    *("exchange/operations/__init__.py", "exchange/operations/buying.py"),
    *(
        "exchange/market.py",
        "exchange/store.py",
        "exchange/identity.py",
        "exchange/config.py",
        "exchange/errors.py",
    ),
    *("exchange/queries.py", "exchange/version.py"),
    *("exchange/persons/__init__.py", "exchange/persons/passwords.py", "exchange/persons/codes.py"),
    *("exchange/persons/passkeys.py", "exchange/persons/sessions.py"),
    *("exchange/client/__init__.py", "exchange/client/transport.py", "exchange/client/publishing.py"),
    *(
        "exchange/audit/__init__.py",
        "exchange/audit/log.py",
        "exchange/audit/merkle.py",
        "exchange/audit/verify.py",
    ),
    *("exchange/signer/__init__.py", "exchange/telemetry/__init__.py", "exchange/witness/__init__.py"),
]
LAWFUL = {
    "catalog/ingest.py": "import duckdb, sqlalchemy",
    "privacy/query.py": "import sqlglot",
    "privacy/plan.py": "import sqlglot.expressions, privacy.query",
    "privacy/expressions.py": "import sqlglot",
    "privacy/mechanisms.py": "import opendp.prelude",
    "privacy/accounting.py": "import opendp",
    "privacy/engines/duckdb.py": "import duckdb, sqlglot",
    "privacy/sandbox.py": "def f():\n    import duckdb",
    "settlement/stripe.py": "import stripe",
    "settlement/ledger/__init__.py": "import sqlalchemy",
    "exchange/__init__.py": "def f():\n    import exchange.client",
    "exchange/cli.py": "import click, exchange.web, exchange.worker, exchange.client, exchange.serving",
    "exchange/serving.py": "import exchange.bootstrap, exchange.client",
    "exchange/worker.py": "import exchange.bootstrap, exchange.operations",
    "exchange/bootstrap.py": "import exchange.store, privacy.sandbox, catalog",
    "exchange/web/__init__.py": "import flask, exchange.operations, exchange.market",
    "exchange/web/auth/__init__.py": "import authlib.oauth2",
    "exchange/operations/buying.py": "import catalog, privacy, settlement, exchange.market, exchange.store",
    "exchange/persons/passwords.py": "import argon2",
    "exchange/persons/codes.py": "import pyotp",
    "exchange/persons/passkeys.py": "import webauthn",
    "exchange/persons/sessions.py": "import sqlalchemy, exchange.identity",
    "exchange/store.py": "import sqlalchemy, exchange.audit.log, exchange.identity",
    "exchange/audit/log.py": "import sqlalchemy",
    "exchange/client/__init__.py": "import exchange.client.transport, exchange.audit.verify",
    "exchange/client/publishing.py": "import catalog.manifest",
    "exchange/witness/__init__.py": "import exchange.audit.verify, exchange.version",
    "exchange/client/transport.py": "import httpx, exchange.version\ndef f():\n    import pyarrow, pandas",
}
# (contract, where, what is imported there)
PLANTED = [
    ("layers", "exchange/store.py", "exchange.operations.buying"),
    ("layers", "exchange/operations/buying.py", "exchange.web.api"),
    ("layers", "exchange/operations/buying.py", "exchange.bootstrap"),
    ("layers", "exchange/web/api.py", "exchange.worker"),
    ("layers", "exchange/bootstrap.py", "exchange.web"),
    ("layers", "exchange/worker.py", "exchange.cli"),
    ("layers", "exchange/audit/log.py", "exchange.store"),
    ("layers", "exchange/client/transport.py", "exchange.identity"),
    ("layers", "exchange/drawer.py", "os"),
    ("server-without-sdk", "exchange/operations/buying.py", "exchange.client"),
    ("server-without-sdk", "exchange/web/api.py", "exchange"),
    ("sdk", "exchange/client/transport.py", "sqlalchemy"),
    ("sdk", "exchange/client/transport.py", "flask"),
    ("sdk", "exchange/client/transport.py", "exchange.audit.log"),
    ("sdk", "exchange/client/transport.py", "catalog.ingest"),
    ("sdk-rooms", "exchange/client/transport.py", "privacy.release"),
    ("sdk-rooms", "exchange/client/transport.py", "catalog.manifest"),
    ("domains", "privacy/release.py", "catalog.listings"),
    ("domains", "catalog/listings.py", "settlement.ledger"),
    ("domains", "settlement/ledger/__init__.py", "privacy.release"),
    ("below", "privacy/release.py", "exchange"),
    ("below", "catalog/listings.py", "exchange.version"),
    ("below", "settlement/ledger/__init__.py", "flask"),
    ("pure-privacy", "privacy/release.py", "sqlalchemy.orm"),
    ("witness", "exchange/witness/__init__.py", "httpx"),
    ("witness", "exchange/witness/__init__.py", "exchange.signer"),
    ("tests-outside", "exchange/web/api.py", "tests.house.sources"),
    ("tests-outside", "exchange/store.py", "services.postgres"),
    ("stripe", "exchange/web/api.py", "stripe"),
    ("stripe", "settlement/ledger/__init__.py", "stripe.error"),
    ("fpdf", "exchange/web/api.py", "fpdf"),
    ("fpdf", "settlement/ledger/__init__.py", "fontTools.ttLib"),
    ("opendp", "privacy/release.py", "opendp.prelude"),
    ("sqlglot", "privacy/release.py", "sqlglot"),
    ("sqlglot", "exchange/operations/buying.py", "sqlglot"),
    ("duckdb", "exchange/operations/buying.py", "duckdb"),
    ("duckdb", "privacy/plan.py", "duckdb"),
    ("authlib", "exchange/web/api.py", "authlib"),
    ("botocore", "catalog/listings.py", "botocore.session"),
    ("joserfc", "exchange/web/api.py", "joserfc.jwt"),
    ("argon2", "exchange/persons/sessions.py", "argon2"),
    ("pyotp", "exchange/operations/buying.py", "pyotp"),
    ("webauthn", "exchange/web/api.py", "webauthn"),
    ("prometheus", "exchange/web/api.py", "prometheus_client"),
    ("opentelemetry", "exchange/store.py", "opentelemetry.trace"),
    ("acyclic", "privacy/query.py", "privacy.plan"),
    ("acyclic", "exchange/identity.py", "exchange.store"),
]


def test_project_keeps_its_contracts() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout


def test_lawful_house_is_let_be(tmp_path: Path) -> None:
    done = _lint(_house(tmp_path))
    assert done.returncode == 0, done.stdout


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract["id"] for contract in CONTRACTS} == {identifier for identifier, _, _ in PLANTED}


@pytest.mark.parametrize(("contract", "path", "imported"), PLANTED)
def test_planted_import_is_caught(contract: str, path: str, imported: str, tmp_path: Path) -> None:
    house = _house(tmp_path)
    with (house / path).open("a") as file:
        file.write(f"\nimport {imported}\n")
    done = _lint(house, contract)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
    assert f".{Path(path.removesuffix('/__init__.py')).stem}" in done.stdout


def _house(root: Path) -> Path:
    """A small house with the rooms that the contracts name, every import in it lawful."""
    for path in ROOMS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(LAWFUL.get(path, ""))
    (root / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return root


def _lint(root: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """import-linter in ``root``, on the packages there and not on the installed ones."""
    chosen = [part for contract in contracts for part in ("--contract", contract)]
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-P", "-c", program, "--no-cache", "--no-logo", *chosen]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert all((root / package).is_dir() for package in PACKAGES)
    return done
