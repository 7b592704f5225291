"""`exchange-witness`: init, serve, follow, compare.

Exit codes: 0 good, 2 usage, 6 something does not answer, 10 a log is shorter than what it signed, 12 it
signed two logs, or is refused, 13 a signature, 15 malformed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.audit.errors import AuditError, HeadRefused, Malformed, SignatureInvalid
from exchange.audit.heads import MAX_REQUEST_BYTES
from exchange.audit.report import MALFORMED, SIGNATURE, exit_code_of
from exchange.version import __version__
from exchange.witness import configuration, following, server
from exchange.witness.archive import ArchiveUnavailable, open_archive
from exchange.witness.witness import GOOD, Witness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exchange.witness.configuration import Configuration

_AWAY, _REFUSED = 6, 12
_LOG = logging.getLogger("exchange.witness")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    told = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        code: int = told.run(told)
    except SignatureInvalid as error:
        code = _complain(error, error.hint, SIGNATURE)
    except AuditError as error:
        code = _complain(error, error.hint, MALFORMED)
    except (ArchiveUnavailable, following.LogUnavailable) as error:
        code = _complain(error, "Try again when it does.", _AWAY)
    except OSError as error:
        code = _complain(error.strerror or "a file cannot be read", str(error.filename or ""), _AWAY)
    return code


def _init(told: argparse.Namespace) -> int:
    made = configuration.create(
        told.folder, name=told.name, log_keys=told.log_key, archive=told.archive, listen=told.listen
    )
    _opened(made)
    print(made.key.verifier)  # noqa: T201
    return 0


def _serve(told: argparse.Namespace) -> int:
    config = configuration.read(told.folder)
    made = server.WitnessServer(config.host, config.port, _opened(config))
    _LOG.info("witnessing %d logs at http://%s:%d", len(config.logs), *made.server_address[:2])
    made.serve()
    return 0


def _follow(told: argparse.Namespace) -> int:
    config = configuration.read(told.folder)
    witness, log = _opened(config), following.PublishedLog(told.url)
    while True:
        try:
            answer = following.follow_once(log, witness)
        except (following.LogUnavailable, ArchiveUnavailable, AuditError, OSError) as error:
            if told.once:
                raise
            _LOG.error("%s", error)
        else:
            good = answer.status == GOOD
            _LOG.log(logging.INFO if good else logging.ERROR, "%d %s", answer.status, _one_line(answer.body))
            if told.once:
                return 0 if good else _REFUSED
        time.sleep(told.every)


def _compare(told: argparse.Namespace) -> int:
    config = configuration.read(told.folder)
    files = [*_own(config), *(one for place in told.place for one in _files(Path(place)))]
    log = following.PublishedLog(told.log) if told.log else None
    shown = following.newest(log).origin if log else None
    if shown is not None and shown not in config.logs:
        raise Malformed(
            "The witness was not told of the log at that address.", hint=f"Name it in {configuration.CONFIG}."
        )
    seen, codes = following.seen_in(files, config.logs), []
    for origin, keys in config.logs.items():
        of_log = [one for one in seen if one.checkpoint.origin == origin]
        for finding in following.compare(of_log, log if origin == shown else None, keys):
            codes.append(finding.exit_code)
            print(_one_line(str(finding)))  # noqa: T201
    print(f"{len(seen)} checkpoints compared, {len(codes)} findings")  # noqa: T201
    return exit_code_of(codes)


def _own(config: Configuration) -> Iterator[tuple[str, bytes]]:
    """What this witness cosigned, as its archive has it, and what it refused."""
    witness = _opened(config)
    for origin in config.logs:
        for number, data in enumerate(witness.archived(origin), 1):
            yield f"archive {number}", data
    for path, data in _files(config.folder / configuration.STATE / "refused"):
        yield path, data.partition(b"\n\n")[2]
    yield from _files(config.folder / configuration.STATE / "cosigned")


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a folder, or one file."""
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                yield str(path), file.read(MAX_REQUEST_BYTES)


def _opened(config: Configuration) -> Witness:
    archive = open_archive(config.archive, config.folder, os.environ, retain_days=config.retain_days)
    witness = Witness(config, archive)
    for origin in config.logs:
        try:
            witness.newest(origin)  # an archive that was turned on is given what was cosigned without it
        except HeadRefused as error:
            _LOG.error("nothing of %s is cosigned: %s", origin, error)
    return witness


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exchange-witness", description="A witness of an audit log.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("folder", type=Path, metavar="FOLDER", help="the witness's folder")
        made.set_defaults(run=run)
        return made

    init = command("init", _init, "Make a witness's folder with a new key, and print the public half.")
    init.add_argument("--name", required=True, help="such as compliance.example/witness")
    init.add_argument("--log-key", required=True, action="append", help="public key of the log")
    init.add_argument("--archive", default="", help="folder or s3://BUCKET/PREFIX?region=R&endpoint=URL")
    init.add_argument("--listen", default="127.0.0.1:8090", help="HOST:PORT")
    command("serve", _serve, "Answer POST /add-checkpoint until told to end.")
    follow = command("follow", _follow, "Look at a log's public files and cosign what continues.")
    follow.add_argument("url", metavar="URL", help="such as https://exchange.example/audit")
    follow.add_argument("--every", type=_seconds, default=60.0, help="seconds between looks")
    follow.add_argument("--once", action="store_true", help="look once; exit code 12 where it is refused")
    compare = command("compare", _compare, "Hold what was cosigned against other witnesses' and the log.")
    compare.add_argument("place", nargs="*", metavar="PLACE", help="files or folders of checkpoints")
    compare.add_argument("--log", help="address of the log's public files")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 86_400:
        raise argparse.ArgumentTypeError("from 1 to 86400 seconds")
    return value


def _complain(error: object, hint: str, code: int) -> int:
    print(f"error: {_one_line(str(error))}\nhint: {_one_line(hint)}", file=sys.stderr)  # noqa: T201
    return code


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()
