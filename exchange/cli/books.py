"""Invoices and statements, and the ledger from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.operating import opened
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from exchange.client import Exchange, Invoice, Statement

_PDF = click.Path(dir_okay=False, writable=True)


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    for command in (invoices, invoice, statements, statement, billing, tax, ledger):
        main.add_command(command)


@click.command()
@json_option
@connected
def invoices(x: Exchange, as_json: bool) -> None:
    """List invoices, credit notes and payment receipts, newest first."""
    _draw_invoices(x.invoices(), as_json)


@click.group()
def invoice() -> None:
    """One invoice: show it, issue what is due."""


@invoice.command("show")
@click.argument("number")
@click.option("--pdf", type=_PDF, metavar="FILE", help="Write it as PDF too.")
@json_option
@connected
def show_invoice(x: Exchange, number: str, pdf: str | None, as_json: bool) -> None:
    """Show an invoice, credit note or receipt by its number or id."""
    found = x.invoice(number)
    document = found.document()
    if pdf:
        found.pdf(pdf)
    pairs = [("number", found.number), ("kind", found.kind), ("issued", found.issued_at)]
    pairs += [(name, getattr(found, name).text) for name in ("net", "tax", "gross")]
    rows = [(line["recorded_at"][:10], line["description"], line["gross"]) for line in document["lines"]]

    def draw() -> None:
        facts(pairs)
        table(("date", "description", "amount"), rows)

    show(as_json, document, draw)


@invoice.command("issue")
@click.option("--org", metavar="NAME", help="Of this organisation alone.")
@click.option("--month", is_flag=True, help="Only what was recorded before this month, as the worker does.")
@json_option
def issue(org: str | None, month: bool, as_json: bool) -> None:
    """Issue what is due, of all organisations or one (operator, on this machine's home)."""
    from exchange.identity import SYSTEM
    from exchange.operations import invoicing

    if month and org:
        raise click.UsageError("--month issues for all organisations: leave out --org")
    with opened() as market:
        if month:
            done: dict[str, Any] = dict(invoicing.issue_month(market))
            pairs = [("issued", ", ".join(done["issued"])), ("no profile", ", ".join(done["waiting"]))]
            show(as_json, done, lambda: facts(pairs))
            return
        made = invoicing.issue(market, SYSTEM, org=org)
    rows = [
        (one["number"], one["kind"], one["gross"]["amount"], one["gross"]["currency"])
        for one in made["items"]
    ]
    show(as_json, made, lambda: table(("number", "kind", "amount", "currency"), rows))


@click.command()
@click.option("--org", metavar="NAME", help="The provider, for operators and officers.")
@json_option
@connected
def statements(x: Exchange, org: str | None, as_json: bool) -> None:
    """List a provider's monthly statements, newest first."""
    found = x.statements(org=org)
    names = ("id", "provider", "opening", "closing", "currency", "provisional")
    rows = [[getattr(one, name) for name in names] for one in found]
    show(as_json, [_statement(one) for one in found], lambda: table(names, rows))


@click.group()
def statement() -> None:
    """One monthly statement of a provider."""


@statement.command("show")
@click.argument("statement_id", metavar="ID")
@click.option("--org", metavar="NAME", help="The provider, for operators and officers.")
@click.option("--pdf", type=_PDF, metavar="FILE", help="Write it as PDF too.")
@json_option
@connected
def show_statement(x: Exchange, statement_id: str, org: str | None, pdf: str | None, as_json: bool) -> None:
    """Show a statement by its id, such as 2026-11-USD."""
    found = x.statement(statement_id, org=org)
    document = found.document()
    if pdf:
        found.pdf(pdf)
    totals = list(document["totals"].items())
    pairs = [("opening", document["opening"]["total"]), *totals, ("closing", document["closing"]["total"])]
    show(as_json, document, lambda: facts(pairs, title=f"Statement {found.id}"))


@click.group()
def billing() -> None:
    """Who is named on invoices."""


@billing.command("show")
@json_option
@connected
def show_billing(x: Exchange, as_json: bool) -> None:
    """Show the organisation's billing profile; an operator sees that of the exchange."""
    found = x.billing_profile()
    show(as_json, found, lambda: facts(found.items()))


@billing.command("set")
@click.option("--legal-name", required=True)
@click.option("--address", required=True, help="Lines separated by \\n or by line ends.")
@click.option("--country", required=True, help="Two letters of ISO 3166-1, such as DE.")
@click.option("--tax-id", default="", help="VAT or tax number.")
@click.option("--email", default="", help="Where questions about invoices go.")
@json_option
@connected
def set_billing(x: Exchange, address: str, as_json: bool, **fields: str) -> None:
    """Set the billing profile for invoices from now on; an operator sets that of the exchange."""
    found = x.set_billing_profile(address=address.replace("\\n", "\n"), **fields)
    show(as_json, found, lambda: facts(found.items()))


@click.group()
def tax() -> None:
    """The tax of buyers' invoices (operator)."""


@tax.command("set")
@click.option("--org", required=True, metavar="NAME")
@click.option("--label", required=True, help="Name of the tax, such as VAT.")
@click.option("--rate", required=True, help="Percent of the net amount, such as 20; prices contain it.")
@click.option("--place", required=True, help="Place of supply: a country or its part, such as DE or US-CA.")
@click.option("--note", default="", help="Words to print, such as those of a reverse charge.")
@json_option
def set_tax(org: str, label: str, rate: str, place: str, note: str, as_json: bool) -> None:
    """Enter a buyer's tax for invoices from now on."""
    from exchange.operations import billing as operations

    with opened() as market:
        made = operations.set_tax(market, org=org, label=label, rate=rate, place=place, note=note)
    show(as_json, made, lambda: facts(made.items()))


@click.group()
def ledger() -> None:
    """The ledger from outside: add it up, follow an account, take it away, rebuild balances."""


@ledger.command("trial-balance")
@click.option("--until", help="Date or time of ISO 8601: as the books were then.")
@json_option
@connected
def trial_balance(x: Exchange, until: str | None, as_json: bool) -> None:
    """Add up every account; a buyer or provider sees its own."""
    found = x.ledger.trial_balance(until=until)
    names = ("account", "unit", "debits", "credits", "balance")
    rows = [[line[name] for name in names] for line in found["accounts"]]
    rows += [["total", one["unit"], one["debits"], one["credits"], ""] for one in found["totals"]]
    show(as_json, found, lambda: table(names, rows))


@ledger.command("statement")
@click.argument("account")
@click.option("--since", help="Date or time of ISO 8601.")
@click.option("--until", help="Date or time of ISO 8601.")
@json_option
@connected
def account_statement(x: Exchange, account: str, since: str | None, until: str | None, as_json: bool) -> None:
    """Show an account's postings with the running balance."""
    found = x.ledger.statement(account, since=since, until=until)
    names = ("recorded_at", "kind", "business_key", "counterpart", "amount", "balance")
    rows = [[line[name] for name in names] for line in found["lines"]]
    show(as_json, found, lambda: table(names, rows, title=f"{account} in {found['unit']}"))


@ledger.command("export")
@click.argument("file", type=_PDF)
@connected
def export(x: Exchange, file: str) -> None:
    """Write the whole ledger as Beancount text: check it with `bean-check FILE`."""
    click.echo(f"written: {x.ledger.export(file)}")


@ledger.command("rebuild")
@click.option("--check", is_flag=True, help="Compare only; exit code 1 where a balance differs.")
@json_option
def rebuild(check: bool, as_json: bool) -> None:
    """Compare cached balances with their transfers and correct them (operator, on this machine's home)."""
    from exchange.cli.failures import BROKEN_LAW
    from exchange.operations import bookkeeping

    with opened() as market:
        found = bookkeeping.rebuild(market, check=check)
    names = ("account", "counter", "cached", "folded")
    rows = [[one[name] for name in names] for one in found["differing"]]

    def draw() -> None:
        if not rows:
            click.echo("every balance equals the fold of its transfers")
            return
        table(names, rows, title="corrected" if found["corrected"] else "differing")

    show(as_json, found, draw)
    if check and rows:
        click.get_current_context().exit(BROKEN_LAW)


def _draw_invoices(found: list[Invoice], as_json: bool) -> None:
    rows = [(one.number, one.kind, one.issued_at[:10], one.gross.text) for one in found]
    names = ("id", "kind", "number", "issued_at", "net", "tax", "gross", "sha256")
    document = [{name: getattr(one, name) for name in names} for one in found]
    show(as_json, document, lambda: table(("number", "kind", "issued", "amount"), rows))


def _statement(one: Statement) -> dict[str, Any]:
    names = ("id", "provider", "currency", "opening", "closing", "provisional")
    return {name: getattr(one, name) for name in names}
