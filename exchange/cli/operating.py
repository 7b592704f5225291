"""The operator's commands, on the home of this machine. Each imports the server's packages when it runs."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.access import show_wallet
from exchange.cli.commands import json_option
from exchange.cli.output import facts, show, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.market import Market

ROLES = click.Choice(["provider", "buyer", "officer", "operator"])


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    for command in (init, serve, worker, migrate, config, check, seed, org, token, wallet):
        main.add_command(command)


@click.command()
def init() -> None:
    """Create the home (EXCHANGE_HOME) with fresh keys and an up-to-date database; harmless if it stands."""
    from exchange import bootstrap

    home = Path(os.environ.get("EXCHANGE_HOME", ".exchange")).expanduser().absolute()
    created = bootstrap.create(home, dict(os.environ))
    click.echo(
        f"{home}: {'created' if created else 'stood already, nothing changed but a pending migration'}"
    )


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--worker/--no-worker", default=True, show_default=True, help="Publish the log from a child process."
)
def serve(host: str, port: int, worker: bool) -> None:
    """Serve the API, the portal and the published log."""
    from exchange.config import Settings
    from exchange.serving import serve as run
    from exchange.telemetry import logs

    settings = Settings.from_env()
    logs.configure(settings.log_format)
    logging.getLogger("exchange.web").info("serving http://%s:%d (stop with Ctrl-C)", host, port)
    run(settings, host=host, port=port, worker=worker)


@click.command()
@click.option("--once", is_flag=True, help="Sweep, publish and build layouts once, then end.")
def worker(once: bool) -> None:
    """Sweep what dead processes left, publish the log, build layouts; alone reads the log key."""
    from exchange import worker as work
    from exchange.config import Settings
    from exchange.telemetry import logs

    settings = Settings.from_env(worker=True)
    logs.configure(settings.log_format)
    if once:
        work.run_once(settings)
    else:
        work.run_forever(settings)


@click.command()
def migrate() -> None:
    """Bring the database to the newest revision; running it again changes nothing."""
    from exchange import migrate as migrations
    from exchange.config import Settings

    revision = migrations.upgrade(
        Settings.from_env().database_url, tell=lambda text: click.echo(text, err=True)
    )
    click.echo(f"database at revision {revision}")


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Print every setting with its value; secrets are masked."""
    from exchange.config import Settings

    rows = Settings.from_env().shown()
    document = [{"variable": variable, "value": value, "meaning": text} for variable, value, text in rows]
    show(as_json, document, lambda: table(("variable", "value", "meaning"), rows))


@click.command()
@json_option
def check(as_json: bool) -> None:
    """Check the laws that the books, the budgets and the log must obey. Exit code 1 if one is broken."""
    from exchange import checks
    from exchange.cli.failures import BROKEN_LAW

    with opened() as market:
        laws = checks.run(market)
    rows = [(law.id, "holds" if law.holds else "BROKEN", law.text, "\n".join(law.findings)) for law in laws]
    document = [
        {"id": law.id, "holds": law.holds, "text": law.text, "findings": list(law.findings)} for law in laws
    ]
    show(as_json, document, lambda: table(("law", "state", "says", "findings"), rows))
    if not all(law.holds for law in laws):
        click.get_current_context().exit(BROKEN_LAW)


@click.command()
@click.argument("name")
def seed(name: str) -> None:
    """Publish an example (NAME = flights) through the doors that providers use; needs a source checkout."""
    from exchange.cli.seeding import seed as publish

    made = publish(name)
    state = "stood already, unchanged" if made.unchanged else "published"
    click.echo(f"{made.slug} version {made.version_number}: {state}")


@click.group()
def org() -> None:
    """Organisations."""


@org.command("create")
@click.argument("name")
@click.option("--role", type=ROLES, required=True)
@json_option
def create_org(name: str, role: str, as_json: bool) -> None:
    """Create an organisation; creating the same again returns it."""
    from exchange.identity import Role
    from exchange.operations import administering

    with opened() as market:
        made = administering.create_organisation(market, name=name, role=Role(role))
    show(as_json, made, lambda: facts(made.items()))


@org.command("identify")
@click.argument("name")
@click.option("--legal-name", required=True, help="As the register has it.")
@click.option("--country", required=True, help="Of ISO 3166-1, as CN.")
@click.option("--registration", required=True, help="Its number in that country's register.")
@click.option("--evidence", required=True, help="What you verified it by, as a register's extract of a day.")
@json_option
def identify_org(name: str, as_json: bool, **said: str) -> None:
    """Record who an organisation is, as you have verified it; an earlier record stays in the books."""
    from exchange.operations import administering

    with opened() as market:
        made = administering.identify(market, org=name, said=said)
    show(as_json, made, lambda: facts(made.items()))


@click.group()
def token() -> None:
    """Tokens."""


@token.command("create")
@click.option("--org", "name", required=True, metavar="NAME")
@click.option("--role", type=ROLES, required=True)
@click.option("--expires", help="Date or time of ISO 8601, UTC unless it names a zone.")
@json_option
def create_token(name: str, role: str, expires: str | None, as_json: bool) -> None:
    """Create a token and print it: it is shown once."""
    from exchange.identity import Role
    from exchange.operations import administering
    from exchange.operations.terms import moment

    until = moment("--expires", expires) if expires else None
    with opened() as market:
        made = administering.create_token(market, org=name, role=Role(role), expires=until)
    show(as_json, made, lambda: click.echo(made["token"]))


@token.command("revoke")
@click.argument("token_id", metavar="TOKEN_ID")
@json_option
def revoke_token(token_id: str, as_json: bool) -> None:
    """End a token at once, by its id: the part before the dot."""
    from exchange.operations import administering

    with opened() as market:
        ended = administering.revoke_token(market, token=token_id.partition(".")[0])
    show(as_json, ended, lambda: click.echo(f"{ended['token_id']} is revoked"))


@click.group()
def wallet() -> None:
    """Wallets: credit one (operator), show one's own (buyer)."""


@wallet.command("credit")
@click.option("--org", "name", required=True, metavar="NAME")
@click.option("--amount", required=True, help="In major units, such as 100.00.")
@click.option("--currency", required=True, help="ISO 4217 code.")
@click.option("--reference", required=True, help="The bank's reference: the same transfer is credited once.")
@json_option
def credit(name: str, amount: str, currency: str, reference: str, as_json: bool) -> None:
    """Credit a wallet for a bank transfer that has arrived."""
    from exchange.operations import administering

    with opened() as market:
        made = administering.credit_wallet(
            market, org=name, amount=amount, currency=currency, reference=reference
        )
    balance = made["balance"]
    state = "credited before, nothing changed" if made["replayed"] else "credited"
    pairs = [
        ("reference", reference),
        ("state", state),
        ("balance", f"{balance['amount']} {balance['currency']}"),
    ]
    show(as_json, made, lambda: facts(pairs))


wallet.add_command(show_wallet)


@contextlib.contextmanager
def opened() -> Iterator[Market]:
    """The market of this machine's home."""
    from exchange.bootstrap import open_market
    from exchange.config import Settings

    market = open_market(Settings.from_env())
    try:
        yield market
    finally:
        market.close()
