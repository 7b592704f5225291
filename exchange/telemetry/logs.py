"""Log lines on standard error, as text or as one JSON object a line.

A line of our own is written by us and holds no data. Of a line of somebody else's library only the text that
its author wrote is kept, never what was filled in; of an exception the type and the places, never the
message: messages of engines and drivers carry values of cells and pieces of statements.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OURS = ("exchange", "catalog", "privacy", "settlement", "services")
FIELDS = ("event", "request_id", "actor", "method", "route", "status", "ms")
"""What a line may carry beside its text."""
FORMATS = ("text", "json")
_MOST_PLACES = 12


def configure(form: str) -> None:
    """Have every line of this process written in this form: `text` or `json`."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(as_json=form == "json"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in ("alembic", "botocore", "httpx", "httpcore", "stripe", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Formatter(logging.Formatter):
    """Writes a record as one line, whatever is in it."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        told = document(record)
        if self._as_json:
            return json.dumps(told, ensure_ascii=True)
        head = f"{told.pop('time')} {told.pop('level')} {told.pop('logger')}: {_plain(told.pop('message'))}"
        return " ".join([head, *(f"{name}={_plain(value)}" for name, value in told.items())])


def document(record: logging.LogRecord) -> dict[str, Any]:
    """What is told of a record."""
    own = record.name.partition(".")[0] in OURS
    told: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage() if own else _template(record),
    }
    fields = {name: getattr(record, name, None) for name in FIELDS} if own else {}
    told |= {name: value for name, value in fields.items() if value is not None}
    if record.exc_info and record.exc_info[1] is not None:
        told |= {"error": type(record.exc_info[1]).__name__, "places": _places(record.exc_info[1])}
    return told


def _template(record: logging.LogRecord) -> str:
    """The text that the author of a library wrote; nothing where the text itself was made up at run time."""
    if record.args and isinstance(record.msg, str):
        return record.msg
    return f"a message of {Path(record.pathname).stem}:{record.lineno}"


def _places(error: BaseException) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_PLACES:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def _plain(value: object) -> str:
    """A value on one line: control characters are escaped, so that no line can be forged."""
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )
