"""Serving: gunicorn with threads, and the worker beside it as a process of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker
from sqlalchemy.exc import SQLAlchemyError

from exchange.bootstrap import open_market
from exchange.config import Settings
from exchange.connections import PromptSocket
from exchange.operations import laying
from exchange.telemetry import metrics, traces
from exchange.web import create_app
from exchange.worker import run_forever

if TYPE_CHECKING:
    from exchange.market import Market

_DATABASE_WAIT_S, _LOOK_EVERY_S = 60.0, 1.0
_PAUSES_S = (1.0, 60.0)  # before another worker starts: the first, the longest
_LOG, _WORKER_LOG = logging.getLogger("exchange.web"), logging.getLogger("exchange.worker")


class _Logger(Logger):  # type: ignore[misc]
    """Gunicorn's lines in the form of all others: they hold addresses and their parameters, ours do not."""

    def setup(self, cfg: Any) -> None:
        """Leave handlers to the root; requests are logged by the application."""
        del cfg
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)
        self.access_log.disabled = True


class _Worker(ThreadWorker):  # type: ignore[misc]
    """A web process that refuses connections once it is told to stop, instead of leaving them to wait, and
    cuts off clients that hold a thread by sending too slowly.
    """

    sockets: list[Any]
    app: _Server

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or cease to accept connections."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()
            self.sockets = []

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection that has something to say to a thread."""
        if not isinstance(conn.sock, PromptSocket):
            conn.sock = PromptSocket(conn.sock, self.app.settings.client_patience_s)
        conn.sock.begin()
        super().enqueue_req(conn)


class _Server(BaseApplication):  # type: ignore[misc]
    """Gunicorn, configured from Settings instead of a file. Each web process opens its own market."""

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self.settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        traces.configure(self.settings.traces, process="web")
        market = _opened(self.settings)
        missing = market.engine.sandbox().missing
        if missing:
            _LOG.warning("query workers are confined without %s: this kernel lacks it", ", ".join(missing))
        laying.warm(market)
        return create_app(market)


def _close(_server: Any, worker: Any) -> None:
    """End what a web process still answers after its last request, before it ends itself."""
    app = getattr(worker, "wsgi", None)
    if app is not None:
        app.extensions["market"].close()


def _opened(settings: Settings) -> Market:
    """The market, once its database answers: a process that starts while it restarts waits for it."""
    until = time.monotonic() + _DATABASE_WAIT_S
    while True:
        try:
            return open_market(settings)
        except SQLAlchemyError as error:
            if time.monotonic() >= until:
                raise
            _LOG.error("a web process waits for the database: %s", type(error).__name__)
            time.sleep(_LOOK_EVERY_S)


def serve(settings: Settings, *, host: str, port: int, worker: bool = True) -> None:
    """Serve until SIGTERM or SIGINT; with ``worker`` a child process keeps one running."""
    child = _start_worker(settings) if worker else None
    # Read by prometheus_client when it is first imported: in the web processes, which are forked later.
    shared = tempfile.TemporaryDirectory(prefix="exchange-metrics-")
    os.environ[metrics.FOLDER] = shared.name
    options = {
        "bind": f"{host}:{port}",
        "worker_class": _Worker,
        "threads": settings.web_threads,
        "workers": settings.web_workers,
        "timeout": settings.query_timeout_s + settings.ingest_timeout_s,
        "graceful_timeout": settings.stop_grace_s,
        "logger_class": _Logger,
        "child_exit": lambda _server, ended: metrics.forget(ended.pid),
        "control_socket_disable": True,
        "worker_exit": _close,
    }
    owner = os.getpid()
    try:
        _Server(settings, options).run()
    finally:
        # Gunicorn forks its own workers out of run(): only the process that forked ours may end it.
        if os.getpid() == owner:
            shared.cleanup()
            if child is not None:
                _end(child)


def _start_worker(settings: Settings) -> int:
    """Fork a process that keeps a worker running, while this one has one thread."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        _keep_running(settings, parent)
    finally:
        os._exit(0)


def _keep_running(settings: Settings, parent: int) -> None:
    """Start a worker whenever there is none, after a pause that grows, until SIGTERM, SIGINT or the end of
    the process ``parent``; the worker ends with us.
    """
    told, pause_s = threading.Event(), _PAUSES_S[0]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    while True:
        worker, began = _fork_worker(settings), time.monotonic()
        while worker is not None and os.waitpid(worker, os.WNOHANG) == (0, 0):
            if told.wait(_LOOK_EVERY_S / 4) or os.getppid() != parent:
                _end(worker)
                return
        if time.monotonic() - began > _PAUSES_S[1]:
            pause_s = _PAUSES_S[0]
        _WORKER_LOG.error("the worker is gone; another one starts in %.0f s", pause_s)
        if told.wait(pause_s) or os.getppid() != parent:
            return
        pause_s = min(2 * pause_s, _PAUSES_S[1])


def _fork_worker(settings: Settings) -> int | None:
    """A process that runs a worker; None where the machine has no room for one now. Only the child reads the
    key of the log.
    """
    environ, parent = {**os.environ, "EXCHANGE_HOME": str(settings.home)}, os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        _WORKER_LOG.error("no worker can be started: %s", error.strerror)
        return None
    if child:
        return child
    code = 1
    try:
        run_forever(Settings.from_env(environ, worker=True), parent=parent)
        code = 0
    except Exception as error:
        _WORKER_LOG.critical("the worker ended: %s", error)
    finally:
        os._exit(code)


def _end(child: int) -> None:
    """Stop the worker; gunicorn may have noticed its end before us."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
