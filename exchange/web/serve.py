"""Serving: gunicorn with threads, and the worker beside it as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

from exchange.bootstrap import open_market
from exchange.web import create_app

if TYPE_CHECKING:
    from exchange.config import Settings

_GRACE_S = 20


class _Server(BaseApplication):  # type: ignore[misc]
    """Gunicorn, configured from Settings instead of a file. Each web process opens its own market."""

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        market = open_market(self._settings)
        market.engine.sandbox()
        return create_app(market)


def serve(settings: Settings, *, host: str, port: int, worker: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; with ``worker`` the log is published by a child process."""
    child = _start_worker(settings) if worker else None
    options = {
        "bind": f"{host}:{port}",
        "worker_class": "gthread",
        "threads": settings.web_threads,
        "workers": settings.web_workers,
        "timeout": settings.query_timeout_s + settings.ingest_timeout_s,
        "graceful_timeout": _GRACE_S,
        "loglevel": "warning",
        "control_socket_disable": True,
    }
    try:
        _Server(settings, options).run()
    finally:
        if child is not None:
            child.terminate()
            child.wait(timeout=_GRACE_S)


def _start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "exchange.cli", "worker"]
    return subprocess.Popen(command, env={**os.environ, "EXCHANGE_HOME": str(settings.home)})  # noqa: S603
