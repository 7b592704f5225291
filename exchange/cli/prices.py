"""Prices before publishing: check them, and try what questions cost and earn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from exchange.client import Exchange, Simulation


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(price)


@click.group()
def price() -> None:
    """Prices of a listing before it is published: check, simulate."""


@price.command("check")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False))
@json_option
@connected
def check_prices(x: Exchange, manifest: str, as_json: bool) -> None:
    """Check the price plans of a listing.toml; refused with purchases that beat them."""
    offers = x.check_prices(manifest)
    rows = [(one.name, one.kind, one.in_words, one.organisation or "everybody") for one in offers]
    document = [{**vars(one), "up_front": one.up_front.as_document()} for one in offers]
    show(as_json, document, lambda: table(("plan", "kind", "costs", "for"), rows, title="Nothing beats them"))


@price.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False))
@click.option("--plan", help="Only this plan.")
@click.option("--sql", help="A question to try instead of those that the policy suggests.")
@click.option("--rho", help="Privacy of that question, as rho.")
@click.option("--epsilon", help="Privacy of that question, as epsilon.")
@click.option("--error", metavar="COLUMN=WIDTH", help="95% half-width wanted of a column.")
@click.option("--times", type=click.IntRange(1, 10_000), default=1, help="How often it is asked.")
@json_option
@connected
def simulate(
    x: Exchange,
    manifest: str,
    plan: str | None,
    sql: str | None,
    times: int,
    as_json: bool,
    **asked: str | None,
) -> None:
    """Show rho, epsilon, error and price of questions under each plan, and what they earn together."""
    questions = [_question(sql, times, asked)] if sql else None
    tried = x.simulate_prices(manifest, questions=questions, plan=plan)
    show(as_json, tried.document, lambda: _draw(tried))


def _question(sql: str, times: int, asked: dict[str, str | None]) -> dict[str, Any]:
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if "error" in given:
        column, equals, width = given["error"].partition("=")
        if not equals:
            raise click.UsageError("--error is COLUMN=WIDTH, such as n=25")
        given["error"] = {column: width}
    return {"about": "question", "sql": sql, "times": times, **given}


def _draw(tried: Simulation) -> None:
    header = ("question", "times", "rho", "epsilon", "error", "price", "all")
    for plan in tried:
        rows = []
        for one in plan.questions:
            widths = ", ".join(f"{name} +-{width:g}" for name, width in one.error.items())
            epsilon = "" if one.epsilon is None else f"{one.epsilon:.3g}"
            price = one.price.text if one.price is not None else one.refused
            every = one.all.text if one.all is not None else ""
            rows.append((one.about, one.times, one.rho, epsilon, widths, price, every))
        table(header, rows, title=f"{plan.offer.name}: {plan.offer.in_words}")
        facts(
            [
                ("together", f"{plan.times} questions cost one buyer {plan.cost.text}"),
                ("earned", f"{plan.earned.text}; the exchange keeps {plan.platform.text}"),
                ("budget", f"rho {plan.rho_spent} spent, {plan.rho_left} of {tried.rho} left"),
                *([] if plan.fits else [("but", "so much is not sold: budget or max_rho end before")]),
            ]
        )
