"""One virtual environment for each peer, made when it is first needed from its pinned requirements.

Environments live in the ignored folder ``.bench/peers`` and are made again when the requirements change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".bench"
REQUIREMENTS = Path(__file__).parent / "requirements"
INSTALL_TIMEOUT_S = 900


class NotInstalled(Exception):
    """A peer's environment cannot be made here; the text says why."""


def installed(peer: str) -> Path:
    """The Python of a peer's environment, installed if it is missing or its requirements changed.

    Raises:
        NotInstalled: with the last line of what the installer said.
    """
    wanted = (REQUIREMENTS / f"{peer}.txt").read_bytes()
    folder = FOLDER / "peers" / peer
    mark = folder / ".installed"
    digest = hashlib.sha256(wanted).hexdigest()
    if not mark.exists() or mark.read_text(encoding="utf-8") != digest:
        _install(peer, folder)
        mark.write_text(digest, encoding="utf-8")
    return folder / "bin" / "python"


def _install(peer: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing the peer {peer} into .bench/peers", file=sys.stderr, flush=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise NotInstalled("uv is not installed")
    python = str(folder / "bin" / "python")
    _run([uv, "venv", "--quiet", "--python", "3.11", str(folder)])
    _run([uv, "pip", "install", "--quiet", "--python", python, "-r", str(REQUIREMENTS / f"{peer}.txt")])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"the installer took longer than {INSTALL_TIMEOUT_S} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["the installer failed"]
        raise NotInstalled(said[-1].strip())
