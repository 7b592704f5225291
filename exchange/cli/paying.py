"""Money in and out: top up a wallet, see its history; payouts, refunds, disputes, reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exchange.client import Exchange


def add_to(main: click.Group) -> None:
    """Add this room's commands, and those of the wallet to the wallet's group."""
    for command in (payouts, refunds, disputes, reconcile):
        main.add_command(command)
    wallet = main.commands["wallet"]
    assert isinstance(wallet, click.Group)
    for command in (top_up, history, propose, confirm_credit, decline_credit, proposals):
        wallet.add_command(command)


@click.command("top-up")
@click.option("--amount", required=True, help="In major units, such as 100.00.")
@click.option("--currency", required=True, help="ISO 4217 code.")
@click.option("--saved", is_flag=True, help="Pay with the method that an earlier top-up saved.")
@click.option("--wait", "wait_s", type=float, metavar="SECONDS", help="Wait until the money has arrived.")
@json_option
@connected
def top_up(x: Exchange, amount: str, currency: str, saved: bool, wait_s: float | None, as_json: bool) -> None:
    """Top up the own wallet by card: prints the page to pay on."""
    made = x.top_up(amount, currency, saved=saved)
    if wait_s is not None:
        if made.url:
            click.echo(f"pay here: {made.url}", err=True)
        made = made.wait(timeout_s=wait_s)
    pairs = [("top-up", made.id), ("state", made.state), ("amount", made.amount), ("pay here", made.url)]
    show(as_json, made.document, lambda: facts(pair for pair in pairs if pair[1] is not None))


@click.command()
@json_option
@connected
def history(x: Exchange, as_json: bool) -> None:
    """Show what moved in the own wallets, with the balance after it."""
    lines = x.wallet_history()
    rows = [(one["at"], one["kind"], one["amount"], one["currency"], one["balance"]) for one in lines]
    show(as_json, lines, lambda: table(("at", "what", "amount", "currency", "balance"), rows))


@click.command()
@click.option("--org", required=True, metavar="NAME")
@click.option("--amount", required=True, help="In major units, such as 25000.00.")
@click.option("--currency", required=True, help="ISO 4217 code.")
@click.option("--reference", required=True, help="The bank's reference.")
@json_option
@connected
def propose(x: Exchange, as_json: bool, **transfer: str) -> None:
    """Propose to credit a wallet for a large bank transfer; another operator confirms it."""
    _shown(x.treasury.propose_credit(**transfer), as_json)


@click.command("confirm")
@click.argument("credit")
@json_option
@connected
def confirm_credit(x: Exchange, credit: str, as_json: bool) -> None:
    """Confirm a proposed credit, as another operator than the one who proposed it."""
    _shown(x.treasury.confirm_credit(credit), as_json)


@click.command("decline")
@click.argument("credit")
@json_option
@connected
def decline_credit(x: Exchange, credit: str, as_json: bool) -> None:
    """Decline a proposed credit, as another operator."""
    _shown(x.treasury.decline_credit(credit), as_json)


@click.command()
@json_option
@connected
def proposals(x: Exchange, as_json: bool) -> None:
    """List proposed credits."""
    _listed(x.treasury.credits(), ("credit", "state", "org", "amount", "reference"), as_json)


@click.group()
def payouts() -> None:
    """Payouts: list them, connect an account (provider); close, approve, confirm, recover (operator)."""


@payouts.command("list")
@json_option
@connected
def list_payouts(x: Exchange, as_json: bool) -> None:
    """List payouts: a provider's own, or all."""
    names = ("payout", "provider", "period", "state", "method", "gross", "holdback", "clawback", "amount")
    _listed(x.payouts(), names, as_json)


@payouts.command()
@json_option
@connected
def onboard(x: Exchange, as_json: bool) -> None:
    """Print the address at which a provider connects its account at Stripe."""
    url = x.onboarding()
    show(as_json, {"url": url}, lambda: click.echo(url))


@payouts.command()
@click.option("--period", metavar="YYYY-MM", help="The month; the last one by default.")
@json_option
@connected
def close(x: Exchange, period: str | None, as_json: bool) -> None:
    """Close a month for every provider with something payable."""
    _listed(x.treasury.close(period), ("payout", "provider", "period", "method", "amount"), as_json)


@payouts.command()
@click.argument("payout")
@json_option
@connected
def approve(x: Exchange, payout: str, as_json: bool) -> None:
    """Let one transfer go although automatic payouts are held."""
    _shown(x.treasury.approve_payout(payout), as_json)


@payouts.command()
@click.argument("payout")
@click.option("--reference", required=True, help="The bank's reference.")
@json_option
@connected
def confirm(x: Exchange, payout: str, reference: str, as_json: bool) -> None:
    """Note that a payout was sent by bank."""
    _shown(x.treasury.confirm_payout(payout, reference=reference), as_json)


@payouts.command()
@click.argument("payout")
@click.option("--amount", required=True, help="In major units of the payout's currency.")
@json_option
@connected
def recover(x: Exchange, payout: str, amount: str, as_json: bool) -> None:
    """Ask some of a transfer back, towards what the provider owes after lost disputes."""
    _shown(x.treasury.recover(payout, amount), as_json)


@click.group()
def refunds() -> None:
    """Refunds of payments by card: list, create (operator)."""


@refunds.command("list")
@json_option
@connected
def list_refunds(x: Exchange, as_json: bool) -> None:
    """List refunds: a buyer's own, or all."""
    _listed(x.treasury.refunds(), ("refund", "state", "payment", "amount", "reason"), as_json)


@refunds.command()
@click.option("--payment", required=True, help="Stripe's id of the payment, pi_...")
@click.option("--amount", required=True, help="In major units.")
@click.option("--currency", required=True, help="ISO 4217 code.")
@click.option("--reason", required=True, help="Kept with the refund.")
@json_option
@connected
def create(x: Exchange, as_json: bool, **refund: str) -> None:
    """Give a payment back, in whole or in part; privacy that was spent stays spent."""
    _shown(x.treasury.refund(**refund), as_json)


@click.command()
@json_option
@connected
def disputes(x: Exchange, as_json: bool) -> None:
    """List disputes, and who bears them (operator)."""
    _listed(x.treasury.disputes(), ("dispute", "outcome", "org", "payment", "amount", "reason"), as_json)


@click.command()
@click.option("--last", is_flag=True, help="Show the last run instead of starting one.")
@json_option
@connected
def reconcile(x: Exchange, last: bool, as_json: bool) -> None:
    """Compare Stripe's list with the ledger; exit code 1 where something does not match (operator)."""
    run = x.treasury.reconciliation() if last else x.treasury.reconcile()
    if not run:
        show(as_json, run, lambda: click.echo("never reconciled"))
        return
    names = ("run", "ran_at", "transactions", "clean", "automatic_payouts")
    rows = [(one["kind"], one["about"], _cell(one["amount"])) for one in run["breaks"]]

    def draw() -> None:
        facts((name, run[name]) for name in names)
        if rows:
            table(("break", "about", "amount"), rows)

    show(as_json, run, draw)
    if not run["clean"]:
        from exchange.cli.failures import BROKEN_LAW

        click.get_current_context().exit(BROKEN_LAW)


def _shown(document: dict[str, Any], as_json: bool) -> None:
    pairs = [(name, _cell(value)) for name, value in document.items()]
    show(as_json, document, lambda: facts(pairs))


def _listed(items: Iterable[dict[str, Any]], names: Sequence[str], as_json: bool) -> None:
    rows = [[_cell(one[name]) for name in names] for one in items]
    show(as_json, list(items), lambda: table(names, rows))


def _cell(value: Any) -> Any:
    return f"{value['amount']} {value['currency']}" if isinstance(value, dict) else value
