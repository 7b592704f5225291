"""The parts that commands share: options, the connection, and the group that turns errors into exit codes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exchange.cli.output import complain

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.client import Exchange

_F = TypeVar("_F", bound="Callable[..., Any]")


class Commands(click.Group):
    """A group whose errors end as a sentence, a hint and an exit code; ``--debug`` shows the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            ctx.exit(_report(error))


def _report(error: Exception) -> int:
    from exchange.cli import failures

    found = failures.translated(error)
    as_json = bool(_json_asked())
    if found is None:
        message = f"something went wrong in this program ({type(error).__name__})"
        complain(
            {"code": "defect", "message": message, "hint": "Repeat with `exchange --debug ...`."},
            as_json=as_json,
        )
        return failures.SERVER
    complain(found.as_document(), as_json=as_json)
    return failures.exit_code(found)


def _json_asked() -> bool:
    """Whether the command that failed was asked for JSON; its context is gone by now."""
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().meta.get("exchange.json"))


def json_option(command: _F) -> _F:
    """Add ``--json``; the command receives ``as_json``, and errors are JSON too."""

    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
        ctx.find_root().meta["exchange.json"] = value
        return value

    help_text = "Print JSON, errors too."
    return click.option("--json", "as_json", is_flag=True, callback=remember, help=help_text)(command)


def tlog_proof_option(command: _F) -> _F:
    """Add ``--tlog-proof``, for commands that save a receipt."""
    help_text = "Save the proof alone, as a file of c2sp.org/tlog-proof."
    return click.option("--tlog-proof", is_flag=True, help=help_text)(command)


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--url`` and ``--profile``; the command receives the open client as its first argument."""

    @click.option("--url", help="Address of the exchange; else EXCHANGE_URL or the configuration.")
    @click.option("--profile", help="Profile of the configuration files; else EXCHANGE_PROFILE.")
    @functools.wraps(command)
    def run(*args: Any, url: str | None, profile: str | None, **rest: Any) -> Any:
        with client(url, profile) as x:
            return command(x, *args, **rest)

    return run


def client(url: str | None, profile: str | None) -> Exchange:
    """A client of the exchange that options, environment and configuration name."""
    from exchange.client import Exchange

    return Exchange(url, profile=profile)
