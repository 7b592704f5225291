"""axe-core (Deque, MPL-2.0), which looks for what keeps somebody from using a page: one script.

It comes from the npm registry in a version whose digest is pinned here, and is kept in ``.services``, which
`make clean` removes.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path

from services import programs
from services.errors import ServiceError

VERSION = "4.14.1"
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""SHA-512 of the package, as npm's registry writes it."""
FOLDER = Path(__file__).resolve().parent.parent / ".services" / "axe"
_SCRIPT = "package/axe.min.js"
_INSTALL_TIMEOUT_S = 120.0


def start(state: dict[str, str]) -> dict[str, str]:
    """Make sure that the script of the pinned version is here.

    Raises:
        ServiceError: it cannot be had, or is not what was pinned.
    """
    if running(state):
        return state
    script = FOLDER / f"axe-{VERSION}.js"
    print("services: installing axe-core", flush=True)  # noqa: T201 - it takes a while
    with tempfile.TemporaryDirectory() as folder:
        text = _script_of(_package(Path(folder)))
    FOLDER.mkdir(parents=True, exist_ok=True)
    script.write_bytes(text)
    return {"script": str(script), "sha256": hashlib.sha256(text).hexdigest()}


def stop(state: dict[str, str]) -> None:
    """Forget where it is; what is installed stays until `make clean`."""
    state.clear()


def running(state: dict[str, str]) -> bool:
    """Whether the script is here as it was unpacked, and of the version that is pinned now."""
    script = Path(state.get("script", "/nowhere"))
    if script != FOLDER / f"axe-{VERSION}.js" or not script.is_file():
        return False
    return hashlib.sha256(script.read_bytes()).hexdigest() == state["sha256"]


def environment(state: dict[str, str]) -> dict[str, str]:
    """Where the tests find the script."""
    return {"EXCHANGE_TEST_AXE": state["script"]} if "script" in state else {}


def checked(package: bytes) -> bytes:
    """A package whose digest is the pinned one.

    Raises:
        ServiceError: it is another.
    """
    found = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if found != INTEGRITY:
        raise ServiceError(f"axe-core {VERSION} has the SHA-512 {found}, and {INTEGRITY} is pinned")
    return package


def _package(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        programs.install("npm", "npm")
        npm = shutil.which("npm")
    command = (npm or "npm", "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(folder))
    programs.run("the download of axe-core", command, timeout_s=_INSTALL_TIMEOUT_S, cwd=folder)
    package = folder / f"axe-core-{VERSION}.tgz"
    if not package.is_file():
        raise ServiceError(f"npm left no {package.name}")
    checked(package.read_bytes())
    return package


def _script_of(package: Path) -> bytes:
    with tarfile.open(package) as archive:
        file = archive.extractfile(_SCRIPT)
        if file is None:
            raise ServiceError(f"axe-core {VERSION} holds no {_SCRIPT}")
        return file.read()
