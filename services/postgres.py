"""PostgreSQL on a free port of 127.0.0.1, with its data in a temporary directory.

PostgreSQL refuses to run as root, so root hands the data to another user and runs the server as that user.
``fsync`` stays on: the tests that kill the exchange rely on what a commit promises.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import tempfile
from pathlib import Path

from services import programs
from services.errors import ServiceError

ROLE = "exchange"
PROGRAMS = ("initdb", "pg_ctl", "postgres")
ELSEWHERE = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
COMMAND_TIMEOUT_S = 120
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = on
synchronous_commit = on
max_connections = 100
log_min_messages = warning
"""


def start(state: dict[str, str]) -> dict[str, str]:
    """Make sure that a server runs: the one in ``state``, that one's data again, or a new one."""
    if running(state):
        return state
    if not _has_data(state):
        state = _new_cluster(_programs())
    port = _free_port()
    data = Path(state["directory"]) / "data"
    # Read after postgresql.conf and replaced whole, so that a start with another port leaves nothing behind.
    (data / "postgresql.auto.conf").write_text(SETTINGS.format(port=port))
    log = Path(state["directory"]) / "server.log"
    try:
        _run(state, "pg_ctl", "start", "--wait", "--silent", f"--pgdata={data}", f"--log={log}")
    except ServiceError as error:
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise ServiceError(f"{error}\n{tail}") from error
    return state | {"port": str(port)}


def stop(state: dict[str, str]) -> None:
    """End the server and remove its data; nothing to do is fine."""
    if running(state):
        _run(
            state,
            "pg_ctl",
            "stop",
            "--wait",
            "--silent",
            "--mode=fast",
            f"--pgdata={state['directory']}/data",
        )
    if "directory" in state:
        shutil.rmtree(state["directory"], ignore_errors=True)


def restart(state: dict[str, str], *, mode: str = "immediate") -> None:
    """Stop the server and start it on its port; ``immediate`` is as if it had crashed."""
    data = f"{state['directory']}/data"
    log = f"{state['directory']}/server.log"
    _run(state, "pg_ctl", "stop", "--wait", "--silent", f"--mode={mode}", f"--pgdata={data}")
    _run(state, "pg_ctl", "start", "--wait", "--silent", f"--pgdata={data}", f"--log={log}")


def running(state: dict[str, str]) -> bool:
    """Whether the server in ``state`` is up and listens on its port."""
    if "port" not in state or not _has_data(state):
        return False
    try:
        _run(state, "pg_ctl", "status", f"--pgdata={state['directory']}/data")
        socket.create_connection(("127.0.0.1", int(state["port"])), timeout=5).close()
    except (ServiceError, OSError):
        return False
    return True


def environment(state: dict[str, str]) -> dict[str, str]:
    """Where the tests find the server; they create and drop databases of their own."""
    if "port" not in state:
        return {}
    url = f"postgresql+psycopg://{ROLE}:{state['password']}@127.0.0.1:{state['port']}/postgres"
    return {"EXCHANGE_TEST_POSTGRES_URL": url}


def _has_data(state: dict[str, str]) -> bool:
    return "directory" in state and (Path(state["directory"]) / "data" / "PG_VERSION").exists()


def _new_cluster(programs: Path) -> dict[str, str]:
    directory = Path(tempfile.mkdtemp(prefix="exchange-postgres-"))
    state = {"directory": str(directory), "programs": str(programs), "password": secrets.token_hex(16)}
    password_file = directory / "password"
    password_file.write_text(state["password"])
    owner = _server_user()
    if owner is not None:
        for path in (directory, password_file):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    _run(
        state,
        "initdb",
        f"--pgdata={directory}/data",
        f"--username={ROLE}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
    )
    password_file.unlink()
    return state


def _run(state: dict[str, str], program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs as the server's user; `ServiceError` with its words when it fails."""
    owner = _server_user()
    programs.run(
        f"PostgreSQL's {program}",
        [str(Path(state["programs"]) / program), *arguments],
        timeout_s=COMMAND_TIMEOUT_S,
        cwd=state["directory"],
        env={"PATH": os.defpath, "LC_ALL": "C"},
        user=owner.pw_uid if owner else None,
        group=owner.pw_gid if owner else None,
        extra_groups=[] if owner else None,
    )


def _server_user() -> pwd.struct_passwd | None:
    """The user for the server when we are root, else None: it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceError("PostgreSQL does not run as root and there is no user 'postgres' or 'nobody': add one")


def _programs() -> Path:
    """The folder with PostgreSQL's programs; installs them where we may."""
    found = _find_programs()
    if found is None:
        programs.install("PostgreSQL", "postgresql")
        found = _find_programs()
    if found is None:
        raise ServiceError("PostgreSQL is not installed: install it (initdb, pg_ctl, postgres) and repeat")
    return found


def _find_programs() -> Path | None:
    on_path = shutil.which("pg_ctl")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for pattern in ELSEWHERE:
        found = Path("/").glob(pattern.removeprefix("/"))
        folders += sorted(found, key=lambda folder: [int(part) for part in _digits(folder)], reverse=True)
    return next((f for f in folders if all((f / program).exists() for program in PROGRAMS)), None)


def _digits(folder: Path) -> list[str]:
    return "".join(letter if letter.isdigit() else " " for letter in str(folder)).split()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
