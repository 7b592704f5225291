"""Queries that were asked: list them, wait for one, cancel one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import client, connected, json_option
from exchange.cli.output import facts, show, table
from exchange.cli.questions import give

if TYPE_CHECKING:
    from exchange.client import Exchange, Job


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(jobs)


@click.group(invoke_without_command=True)
@click.option("--url", help="Address of the exchange; else EXCHANGE_URL or the configuration.")
@click.option("--profile", help="Profile of the configuration files; else EXCHANGE_PROFILE.")
@json_option
@click.pass_context
def jobs(ctx: click.Context, url: str | None, profile: str | None, as_json: bool) -> None:
    """List this organisation's latest queries; or wait for one, look at it, cancel it."""
    if ctx.invoked_subcommand is not None:
        return
    with client(url, profile) as x:
        found = x.jobs()
    rows = [
        (j.id, j.dataset, j.state, j.asked_at, j.charge.text if j.charge else "", j.rho, j.sql) for j in found
    ]
    header = ("query", "dataset", "state", "asked at", "charge", "rho", "sql")
    show(as_json, [_document(job) for job in found], lambda: table(header, rows))


@jobs.command("show")
@click.argument("query")
@json_option
@connected
def show_job(x: Exchange, query: str, as_json: bool) -> None:
    """Show one query: its state, and for how long it may still run."""
    _show(x.job(query), as_json)


@jobs.command("cancel")
@click.argument("query")
@json_option
@connected
def cancel_job(x: Exchange, query: str, as_json: bool) -> None:
    """Cancel a query: nothing is charged, but the privacy budget of data that was read already."""
    _show(x.job(query).cancel(), as_json)


@jobs.command("wait")
@click.argument("query")
@click.option(
    "--format", "kind", type=click.Choice(["table", "csv", "arrow"]), default="table", show_default=True
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write csv or arrow to this file."
)
@json_option
@connected
def wait_for_job(x: Exchange, query: str, kind: str, out: Path | None, as_json: bool) -> None:
    """Wait for a query, and print its answer."""
    give(x.job(query).wait(), kind, out, None, as_json=as_json)


def _show(job: Job, as_json: bool) -> None:
    limit = "" if job.progress.limit_s is None else f" of at most {job.progress.limit_s}"
    pairs = [
        ("query", job.id),
        ("dataset", job.dataset),
        ("state", job.state),
        ("asked at", job.asked_at),
        ("seconds", f"{job.progress.elapsed_s}{limit}"),
        ("charge", job.charge.text if job.charge else ""),
        ("rho", job.rho),
        ("kept until", job.kept_until or ""),
        ("sql", job.sql),
    ]
    show(as_json, _document(job), lambda: facts(pairs))


def _document(job: Job) -> dict[str, Any]:
    return {
        "query": job.id,
        "dataset": job.dataset,
        "state": job.state,
        "asked_at": job.asked_at,
        "ended_at": job.ended_at,
        "kept_until": job.kept_until,
        "elapsed_s": job.progress.elapsed_s,
        "limit_s": job.progress.limit_s,
        "failure": job.failure,
        "sql": job.sql,
        "rho_nano": job.rho_nano,
        "charge": job.charge.as_document() if job.charge else None,
    }
