"""A consistent copy of the database in one file, and a database from such a copy."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url

from exchange.errors import BackupInvalid, BackupRefused

if TYPE_CHECKING:
    from sqlalchemy import URL

SQLITE, POSTGRESQL = "sqlite", "postgresql"
COPIES = {SQLITE: "exchange.db", POSTGRESQL: "exchange.dump"}
_INSTALLED = "usr/lib/postgresql/*/bin"
_CLIENT = (
    "Install PostgreSQL's client programs, of the server's version or newer (Debian: postgresql-client)."
)


def kind_of(url: str) -> str:
    """`sqlite` or `postgresql`."""
    return SQLITE if url.startswith(SQLITE) else POSTGRESQL


def copy(url: str, target: Path) -> None:
    """Write a copy as of one moment; others go on reading and writing. Raises BackupRefused."""
    if kind_of(url) == POSTGRESQL:
        _run(url, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={target}")
        return
    place = make_url(url).database or ""
    with (
        contextlib.closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as source,
        contextlib.closing(sqlite3.connect(target)) as copied,
    ):
        source.backup(copied)


def require_empty(url: str) -> None:
    """Raise BackupRefused unless a restored database may be made under this address."""
    if kind_of(url) == SQLITE:
        if Path(make_url(url).database or "").exists():
            raise BackupRefused("the database exists already", hint="Name a home that does not exist.")
        return
    _program("pg_restore")
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            tables = inspect(connection).get_table_names()
    finally:
        engine.dispose()
    if tables:
        raise BackupRefused(
            "the database of EXCHANGE_DATABASE_URL is not empty",
            hint="Create an empty database, set EXCHANGE_DATABASE_URL to it and restore again.",
        )


def load(url: str, source: Path) -> None:
    """Make the database from its copy. Raises BackupInvalid where the copy cannot be read."""
    if kind_of(url) == SQLITE:
        shutil.move(source, make_url(url).database or "")
        return
    database = make_url(url).database or ""
    options = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
    try:
        _run(url, "pg_restore", *options, f"--dbname={database}", str(source))
    except BackupRefused as error:
        raise BackupInvalid(str(error)) from None


def _run(url: str, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database; its words may hold data and are not passed on."""
    place = _program(program)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **_login(make_url(url))}
    done = subprocess.run(  # noqa: S603 - a program of the system's on our own arguments
        [str(place), *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode:
        mismatch = b"server version mismatch" in done.stderr
        raise BackupRefused(
            f"{program} ended with the code {done.returncode}",
            hint=_CLIENT if mismatch else "Try its connection with psql, and look at the server's log.",
        )


def _login(url: URL) -> dict[str, str]:
    """The address for libpq, by variables: arguments are seen by every user of a machine."""
    given = {
        "PGHOST": url.host,
        "PGPORT": str(url.port) if url.port else None,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    options = {f"PG{name.upper()}": str(value) for name, value in url.query.items()}
    return {name: str(value) for name, value in given.items() if value} | options


def _program(name: str) -> Path:
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    installed = sorted(Path("/").glob(f"{_INSTALLED}/{name}"), key=lambda path: int(path.parts[-3]))
    if not installed:
        raise BackupRefused(f"the program {name} was not found", hint=_CLIENT)
    return installed[-1]
