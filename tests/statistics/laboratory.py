"""What attacks run on: an engine in this process, a sandbox for whole answers, a folder for their files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

import privacy
from tests.statistics.sampling import SALT, Engine

Files = Mapping[str, Path]
Made = TypeVar("Made")


class Laboratory:
    """See the module."""

    def __init__(self, sandbox: privacy.Sandbox, folder: Path) -> None:
        self.engine = Engine()
        self.sandbox = sandbox
        self.folder = folder
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What is made at the first time that it is asked for."""
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made

    def files(self, side: str, made: Mapping[str, pa.Table]) -> Files:
        """The tables as Parquet files."""
        paths = {name: self.folder / f"{side}-{name}.parquet" for name in made}
        for name, table in made.items():
            pq.write_table(table, paths[name])
        return paths

    def answer(self, plan: privacy.Plan, files: Files) -> privacy.Answer:
        """A whole answer: exact part and public part in the sandbox, noise between them."""
        return privacy.answer(plan, files, salt=SALT, sandbox=self.sandbox)


@contextmanager
def laboratory() -> Iterator[Laboratory]:
    """One for the time of an audit."""
    with privacy.Sandbox(privacy.Limits(), workers=1) as sandbox, tempfile.TemporaryDirectory() as folder:
        yield Laboratory(sandbox, Path(folder))
