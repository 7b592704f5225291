"""Runs `verify.py` where only the standard library and cryptography can be imported, and no socket opened."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("cryptography", "cffi", "_cffi_backend", "pycparser")
_START = """
import runpy, sys
folder, file, *arguments = sys.argv[1:]
sys.path.append(folder)
assert all("-packages" not in place for place in sys.path), sys.path
def refuse(event, _):
    if event.split(".")[0] in ("socket", "sqlite3", "urllib", "ftplib", "smtplib", "subprocess"):
        sys.stderr.write(f"refused: {event}\\n")
        sys.exit(99)
sys.addaudithook(refuse)
sys.argv = [file, *arguments]
runpy.run_path(file, run_name="__main__")
"""


def packages(folder: Path, names: Sequence[str] = PACKAGES) -> Path:
    """A folder of links to the packages that may be imported."""
    folder.mkdir(exist_ok=True)
    for name in names:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            place = origin.parent if origin.name == "__init__.py" else origin
            (folder / place.name).symlink_to(place)
    return folder


def run(folder: Path, file: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the file with these arguments; -I -S: no environment, no site-packages, no code of ours."""
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", _START, str(folder), str(file)]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=folder.parent
    )
