"""Debian's Chromium, for tests in a real browser: installed where it is missing; tests start it."""

from __future__ import annotations

import os
import shutil

from services import programs
from services.errors import ServiceError

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-liberation")


def start(state: dict[str, str]) -> dict[str, str]:
    """Make sure that a browser is installed.

    Raises:
        ServiceError: there is none, and only root with apt-get can install it.
    """
    if running(state):
        return state
    found = _program()
    if found is None:
        programs.install("Chromium", *PACKAGES)
        found = _program()
    if found is None:
        raise ServiceError(f"Chromium was installed and none of {', '.join(PROGRAMS)} is on the path")
    return {"program": found}


def stop(state: dict[str, str]) -> None:
    """Forget where it is; nothing runs, and what is installed stays."""
    state.clear()


def running(state: dict[str, str]) -> bool:
    """Whether the program in ``state`` is there to be started."""
    return os.access(state.get("program", ""), os.X_OK)


def environment(state: dict[str, str]) -> dict[str, str]:
    """``EXCHANGE_TEST_CHROMIUM``, the program's path; empty without one."""
    return {"EXCHANGE_TEST_CHROMIUM": state["program"]} if "program" in state else {}


def _program() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)
