"""Start, stop or show the services; write ``.services/env`` so that tests find them."""

# ruff: noqa: T201 - a program for the terminal

from __future__ import annotations

import fcntl
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services import axe, chromium, postgres, seaweedfs
from services.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOM = Path(__file__).resolve().parent.parent / ".services"
SERVICES: dict[str, ModuleType] = {
    "postgres": postgres,
    "seaweedfs": seaweedfs,
    "chromium": chromium,
    "axe": axe,
}


@contextmanager
def _locked() -> Iterator[None]:
    """One caller at a time: two starts at once would make two servers and remember one."""
    ROOM.mkdir(mode=0o700, exist_ok=True)
    with (ROOM / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _state(name: str) -> dict[str, str]:
    path = ROOM / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _remember(name: str, state: dict[str, str]) -> None:
    path = ROOM / f"{name}.json"
    if state:
        _write_private(path, json.dumps(state, indent=2, sort_keys=True) + "\n")
    else:
        path.unlink(missing_ok=True)


def _write_environment() -> None:
    lines = [
        f"{key}={value}"
        for name, service in SERVICES.items()
        for key, value in service.environment(_state(name)).items()
    ]
    _write_private(ROOM / "env", "".join(f"{line}\n" for line in lines))


def _write_private(path: Path, text: str) -> None:
    """The files hold passwords of local servers: readable by their owner alone, replaced whole."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def _start(names: list[str]) -> None:
    for name in names:
        _remember(name, SERVICES[name].start(_state(name)))
        _write_environment()
        told = ", ".join(SERVICES[name].environment(_state(name)))
        print(f"services: {name} runs ({told} in .services/env)")


def _stop(names: list[str]) -> None:
    for name in names:
        SERVICES[name].stop(_state(name))
        _remember(name, {})
        _write_environment()
        print(f"services: {name} is stopped and its data removed")


def _show(names: list[str]) -> None:
    for name in names:
        print(f"services: {name} {'runs' if SERVICES[name].running(_state(name)) else 'is stopped'}")


def main(arguments: list[str]) -> int:
    """``start|stop|status [NAME...]``; exit code 0 when done, 1 when a service failed, 2 for wrong usage."""
    verbs = {"start": _start, "stop": _stop, "status": _show}
    verb, names = (arguments or [""])[0], arguments[1:] or list(SERVICES)
    if verb not in verbs or not set(names) <= set(SERVICES):
        print(f"usage: python -m services {'|'.join(verbs)} [{'|'.join(SERVICES)}]", file=sys.stderr)
        return 2
    try:
        with _locked():
            verbs[verb](names)
    except ServiceError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
