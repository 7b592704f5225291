"""Traces: the one door to OpenTelemetry. Off unless configured, and then nothing of it is even imported.

A caller's `traceparent` (W3C Trace Context) becomes a link and never the parent: a stranger neither chooses
our trace ids nor decides what is sampled. A span holds ids and states; of an error its type alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_P = ParamSpec("_P")
_R = TypeVar("_R")
_OFF: AbstractContextManager[None] = contextlib.nullcontext()
_output: Any = None
_provider: Any = None
_tracer: Any = None


def configure(target: str, *, process: str) -> None:
    """Switch traces on: ``console`` (standard error) or ``file:PATH``, one JSON object a line; empty is off.

    Call it after a fork: spans are written by a thread. Raises ValueError for another target, OSError.
    """
    global _tracer, _provider, _output
    close()
    if not target:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    _output = _opened(target)
    exporter = ConsoleSpanExporter(out=_output, formatter=lambda span: span.to_json(indent=None) + "\n")
    _provider = TracerProvider(resource=Resource({"service.name": "exchange", "process": process}))
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("exchange")


def _opened(target: str) -> Any:
    if target == "console":
        return sys.stderr
    scheme, _, path = target.partition(":")
    if scheme != "file" or not path:
        raise ValueError("EXCHANGE_TRACES is `console`, `file:PATH` or empty")
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8")


def span(name: str, *, traceparent: str = "", **attributes: str) -> AbstractContextManager[None]:
    """A span around a block; nothing at all while traces are off. Attributes are ids of ours and states."""
    return _OFF if _tracer is None else _span(name, traceparent, attributes)


def traced(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Put a span around a function."""

    def decorate(work: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(work)
        def run(*args: _P.args, **options: _P.kwargs) -> _R:
            if _tracer is None:
                return work(*args, **options)
            with _span(name, "", {}):
                return work(*args, **options)

        return run

    return decorate


def carried(work: Callable[_P, _R]) -> Callable[_P, _R]:
    """Work for another thread, whose spans belong to the span of this moment."""
    if _tracer is None:
        return work
    from opentelemetry import context

    here = context.get_current()

    @functools.wraps(work)
    def run(*args: _P.args, **options: _P.kwargs) -> _R:
        token = context.attach(here)
        try:
            return work(*args, **options)
        finally:
            context.detach(token)

    return run


@contextlib.contextmanager
def _span(name: str, traceparent: str, attributes: dict[str, str]) -> Iterator[None]:
    started = _tracer.start_as_current_span(
        name,
        attributes=attributes,
        links=_links(traceparent),
        record_exception=False,  # a message may hold data
        set_status_on_exception=False,
    )
    with started as current:
        try:
            yield
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            raise


def _links(traceparent: str) -> list[Any]:
    if not traceparent:
        return []
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    context = trace.get_current_span(found).get_span_context()
    return [trace.Link(context)] if context.is_valid else []


def flush() -> None:
    """Write what was not written yet."""
    if _provider is not None:
        _provider.force_flush()


def close() -> None:
    """Write what was not written yet, and switch traces off. What finds no room is lost: it is no fact."""
    global _tracer, _provider, _output
    if _provider is not None:
        _provider.shutdown()
    if _output not in (None, sys.stderr):
        with contextlib.suppress(OSError):
            _output.close()
    _tracer = _provider = _output = None
