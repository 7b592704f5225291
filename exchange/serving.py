"""Serving: gunicorn with threads, and the worker beside it as a process of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from typing import Any

from gunicorn.app.base import BaseApplication

from exchange.bootstrap import open_market
from exchange.config import Settings
from exchange.operations import laying
from exchange.web import create_app
from exchange.worker import run_forever

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
        laying.warm(market)
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
    owner = os.getpid()
    try:
        _Server(settings, options).run()
    finally:
        # Gunicorn forks its own workers out of run(): only the process that forked ours may end it.
        if child is not None and os.getpid() == owner:
            _end(child)


def _start_worker(settings: Settings) -> int:
    """Fork the worker while this process has one thread: the child reads the log key, we never do."""
    environ, parent = {**os.environ, "EXCHANGE_HOME": str(settings.home)}, os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        run_forever(Settings.from_env(environ, worker=True), parent=parent)
        code = 0
    except Exception as error:
        logging.getLogger("exchange.worker").critical("the worker ended: %s", error)
    finally:
        os._exit(code)


def _end(child: int) -> None:
    """Stop the worker; gunicorn may have noticed its end before us."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
