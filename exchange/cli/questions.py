"""Quote, ask, list past queries, check receipts."""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import client, connected, json_option, tlog_proof_option
from exchange.cli.output import facts, safe, show, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.client import Answer, Exchange, Keys, Quote, Receipt
    from exchange.client.licences import AcceptanceReceipt

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    for command in (quote, query, receipt):
        main.add_command(command)


def _question(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--rho", help="Privacy to spend, as rho."),
            click.option("--epsilon", help="Privacy to spend, as epsilon."),
            click.option("--error", metavar="COLUMN=WIDTH", help="95% half-width wanted of a column."),
            click.option("--max-groups", type=int, help="Groups that one unit may contribute to."),
            click.option("--max-rows-per-group", type=int, help="Rows of one unit in one group."),
            click.option("--max-rows", type=int, help="Rows of one unit in all."),
            click.option("--strategy", help="How one unit is bounded: caps, clip or weights."),
            click.option("--grant", help="Grant to ask under, where there are several."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("dataset")
@click.argument("sql")
@_question
@click.option("--explain", is_flag=True, help="Print how the answer would be made.")
@json_option
@connected
def quote(x: Exchange, dataset: str, sql: str, explain: bool, as_json: bool, **given: Any) -> None:
    """Ask what a statement would cost; free, and touches no data. SQL `-` reads standard input."""
    offer = x.dataset(dataset).quote(_sql(sql), **_asked(given))
    show(as_json, _quote_document(offer), lambda: _draw_quote(offer, explain))


@click.command()
@click.argument("dataset", required=False)
@click.argument("sql", required=False)
@_question
@click.option("--quote", "quote_id", help="Run this quote, instead of DATASET and SQL.")
@click.option("--max-price", help="Refuse if it costs more.")
@click.option("--max-rho", help="Refuse if it spends more privacy budget.")
@click.option(
    "--format", "kind", type=click.Choice(["table", "csv", "arrow"]), default="table", show_default=True
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write csv or arrow to this file."
)
@click.option(
    "--receipt", "receipt_path", type=click.Path(dir_okay=False, path_type=Path), help="Save the receipt."
)
@click.option("--wait/--no-wait", default=True, help="Wait for the answer, or print the job and end.")
@json_option
@connected
def query(
    x: Exchange,
    dataset: str | None,
    sql: str | None,
    quote_id: str | None,
    max_price: str | None,
    max_rho: str | None,
    kind: str,
    out: Path | None,
    receipt_path: Path | None,
    wait: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Buy an answer; the same question again is free. SQL `-` reads standard input."""
    if quote_id is not None:
        if dataset or sql:
            raise click.UsageError("give --quote, or DATASET and SQL, not both")
        ask: Callable[..., Any] = partial(x.run, quote_id)
    elif dataset is None or sql is None:
        raise click.UsageError("give DATASET and SQL, or --quote")
    else:
        limits = {"max_price": max_price, "max_rho": max_rho}
        ask = partial(x.dataset(dataset).query, _sql(sql), **_asked(given), **limits)
    if wait:
        give(ask(), kind, out, receipt_path, as_json=as_json)
    else:
        job = ask(wait=False)
        show(as_json, {"query": job.id, "state": job.state}, lambda: click.echo(f"{job.id}: {job.state}"))


def give(answer: Answer, kind: str, out: Path | None, receipt_path: Path | None, *, as_json: bool) -> None:
    """Save the receipt where that was asked for, and print or write the answer."""
    if receipt_path is not None:
        answer.receipt.save(receipt_path)
    if as_json:
        show(True, _answer_document(answer), lambda: None)
    else:
        _deliver(answer, kind, out)


def keep_receipt(found: Receipt | AcceptanceReceipt, file: Path, tlog_proof: bool) -> None:
    """Save a receipt, or the proof that it carries, and say what it is worth now."""
    if tlog_proof:
        file.write_bytes(found.tlog_proof())
    else:
        found.save(file)
    click.echo(f"{file}: {'in the log' if found.included else 'promised; save it again in a few seconds'}")


@click.group()
def receipt() -> None:
    """Receipts of answers: save, verify."""


@receipt.command("save")
@click.argument("query_id")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@tlog_proof_option
@connected
def save_receipt(x: Exchange, query_id: str, file: Path, tlog_proof: bool) -> None:
    """Fetch the newest receipt of a query, with its inclusion proof once there is one, and save it."""
    keep_receipt(x.receipt(query_id), file, tlog_proof)


@receipt.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--log-key", help="The log's public key, as the exchange publishes it at /audit/key.")
@click.option("--receipt-key", help="The receipts' public key, as published at /audit/receipt-key.")
@click.option(
    "--follow-keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Saved statements of /audit/keys, which lead from the log's key to those that followed it.",
)
@click.option(
    "--result", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The answer's Arrow bytes."
)
@click.option(
    "--licence",
    "licence_text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The text that was accepted.",
)
@click.option("--url", help="Address of the exchange whose keys are to be trusted.")
@click.option("--profile", help="Profile whose pinned keys are to be trusted.")
@json_option
def verify_receipt(
    file: Path,
    log_key: str | None,
    receipt_key: str | None,
    follow_keys: Path | None,
    result: Path | None,
    licence_text: Path | None,
    url: str | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Verify a saved receipt offline, of an answer or of a licence acceptance.

    The keys are given here or pinned by `exchange login`; without either they are fetched from the exchange.
    Exit code 10 to 16 where something is wrong.
    """
    from exchange.client import Receipt

    keys = _keys(log_key, receipt_key, url, profile)
    if follow_keys is not None:
        keys = replace(keys, log_statements=follow_keys.read_text(encoding="utf-8", errors="replace"))
    found = Receipt.load(file)
    if found.of_acceptance is None:
        report = found.verify(keys=keys, result=result.read_bytes() if result else None)
    else:
        text = licence_text.read_bytes().decode("utf-8", "replace") if licence_text else None
        report = found.of_acceptance.verify(keys=keys, licence_text=text)
    document = {**report.as_document(), "summary": dict(found.summary)}
    show(as_json, document, lambda: click.echo(f"good: {safe(report)}"))


def _keys(log_key: str | None, receipt_key: str | None, url: str | None, profile: str | None) -> Keys:
    from exchange.client import Keys

    if (log_key is None) != (receipt_key is None):
        raise click.UsageError("give --log-key and --receipt-key together")
    if log_key is not None and receipt_key is not None:
        return Keys(log_key.strip(), receipt_key.strip())
    with client(url, profile) as x:
        return x.keys()


def _sql(text: str) -> str:
    return sys.stdin.read() if text == "-" else text


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    error = given.pop("error", None)
    if error is not None:
        column, separator, width = error.rpartition("=")
        try:
            given["error"] = {column: float(width)}
        except ValueError:
            separator = ""
        if not separator or not column:
            raise click.UsageError("--error is COLUMN=WIDTH, such as n=25")
    if sum(given.get(name) is not None for name in ("rho", "epsilon", "error")) != 1:
        raise click.UsageError("give exactly one of --rho, --epsilon and --error")
    return given


def _quote_document(offer: Quote) -> dict[str, Any]:
    return {
        "quote": offer.id,
        "dataset": offer.dataset,
        "version": offer.version,
        "sql": offer.sql,
        "price": offer.price.as_document(),
        "rho": offer.rho,
        "rho_nano": offer.rho_nano,
        "delta_pico": offer.delta_pico,
        "epsilon": offer.epsilon,
        "refines": offer.refines.query if offer.refines else None,
        "releases": list(offer.releases),
        "columns": [vars(column) for column in offer.columns],
        "plan_sha256": offer.plan_sha256,
        "explain": offer.explain,
        "expires_at": offer.expires_at,
    }


def _draw_quote(offer: Quote, explain: bool) -> None:
    facts(
        [
            ("quote", offer.id),
            ("price", offer.price.text),
            ("rho", offer.rho),
            ("epsilon", f"{offer.epsilon:.4g}"),
            ("until", offer.expires_at),
            ("bounded by", ", ".join(offer.strategies)),
            *([("refines", f"{offer.refines.query}, rho {offer.refines.rho}")] if offer.refines else []),
        ]
    )
    rows = [(c.name, c.kind, c.error, c.bias) for c in offer.columns]
    table(("column", "kind", "95% half-width", "expected bias"), rows)
    for column in offer.columns:
        if column.note:
            click.echo(f"{safe(column.name)}: {safe(column.note)}")
    if explain:
        click.echo(safe(offer.explain))


def _answer_document(answer: Answer) -> dict[str, Any]:
    return {
        "query": answer.id,
        "repeated": answer.repeated,
        "charged": answer.charged.as_document(),
        "rho": answer.rho,
        "rho_nano": answer.rho_nano,
        "refines": answer.refines,
        "releases": list(answer.releases),
        "columns": [vars(column) for column in answer.columns],
        "rows": [list(row) for row in answer.rows],
        "intervals": answer.intervals,
        "result_sha256": answer.result_sha256,
        "receipt": answer.receipt.document,
    }


def _deliver(answer: Answer, kind: str, out: Path | None) -> None:
    if kind != "table":
        data = answer.arrow_bytes() if kind == "arrow" else _as_csv(answer).encode()
        if out is not None:
            out.write_bytes(data)
        else:
            click.echo(data, nl=False)
    else:
        table(answer.column_names, _with_intervals(answer))
    paid = (
        "repeated, nothing charged" if answer.repeated else f"charged {answer.charged.text}, rho {answer.rho}"
    )
    click.echo(f"{len(answer)} rows; {paid}; query {safe(answer.id)}", err=True)


def _as_csv(answer: Answer) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    for row in (answer.column_names, *answer.rows):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _with_intervals(answer: Answer) -> list[list[str]]:
    shown = []
    for number, row in enumerate(answer.rows):
        cells = []
        for column, value in zip(answer.columns, row, strict=True):
            intervals = answer.intervals.get(column.name)
            interval = intervals[number] if intervals else None
            cells.append(f"{value} [{interval[0]}, {interval[1]}]" if interval else safe(value))
        shown.append(cells)
    return shown


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
