"""Running other programs and installing them: it ends in time and well, or it is told why not."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from services.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence


_INSTALL_TIMEOUT_S = 600


def run(what: str, command: Sequence[str], *, timeout_s: float, **options: Any) -> None:
    """Run a program to its end.

    Args:
        what: what a person calls it, in an error.
        options: further ones of :func:`subprocess.run`.

    Raises:
        ServiceError: it is not there, took too long or failed; with its last words.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own programs and arguments
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **options,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{what} took over {timeout_s:.0f} s") from error
    except OSError as error:
        raise ServiceError(f"{what} did not run: {error}") from error
    if done.returncode:
        raise ServiceError(f"{what} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def install(what: str, *packages: str) -> None:
    """Install packages of Debian.

    Args:
        what: what a person calls them, in an error.

    Raises:
        ServiceError: only root with apt-get can do that, or it failed.
    """
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise ServiceError(
            f"{what} is not installed and only root with apt-get can install it from here: install it"
        )
    print(f"services: installing {what}", flush=True)  # noqa: T201 - it takes a while
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        run(
            f"apt-get {arguments[0]}",
            [apt, "-qq", *arguments],
            timeout_s=_INSTALL_TIMEOUT_S,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )
