"""Do what the worker does, and be killed in the middle of a layout: after the part that argument 1 names."""

from __future__ import annotations

import os
import signal
import sys

from exchange import worker
from exchange.config import Settings
from exchange.layouts import Layouts, State

_note = Layouts.note


def main(done: str) -> None:
    """Never come back."""

    def noting(self: Layouts, name: str, state: State) -> None:
        _note(self, name, state)
        if state.done > float(done):
            os.kill(os.getpid(), signal.SIGKILL)

    Layouts.note = noting  # type: ignore[method-assign]
    worker.run_once(Settings.from_env(worker=True))
    sys.exit("still alive")


if __name__ == "__main__":
    main(*sys.argv[1:])
