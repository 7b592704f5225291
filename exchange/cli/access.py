"""Look around, publish, ask for access, decide on requests, look at the wallet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import connected, json_option
from exchange.cli.output import facts, safe, show, table

if TYPE_CHECKING:
    from exchange.client import AccessRequest, Dataset, Exchange, Publication
    from exchange.client.listings import Listing, Listings


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    for command in (search, show_dataset, publish, deprecate, request, requests, usage):
        main.add_command(command)


@click.command()
@click.argument("words", nargs=-1)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--subject", multiple=True, help="Of this subject; repeat it for one of several.")
@click.option("--unit", multiple=True, help="Protecting whom this column names, such as patient.")
@click.option("--territory", multiple=True, help="Licensed there, such as EU; `*` is anywhere.")
@click.option("--price", multiple=True, help="First answer for at most so many minor units: USD:100.")
@click.option("--accuracy", multiple=True, help="Counts of units within so many at best, such as 5.")
@click.option("--sort", type=click.Choice(["best", "newest", "name"]), default="best", show_default=True)
@json_option
@connected
def search(  # one argument for each option of the command
    x: Exchange, words: tuple[str, ...], limit: int, sort: Any, as_json: bool, **chosen: tuple[str, ...]
) -> None:
    """Search published datasets."""
    hits = x.search(" ".join(words), limit=limit, sort=sort, **chosen)
    show(as_json, [_hit(hit) for hit in hits], lambda: _draw_hits(hits))


@click.command("show")
@click.argument("dataset")
@json_option
@connected
def show_dataset(x: Exchange, dataset: str, as_json: bool) -> None:
    """Show a dataset: columns with their domains, licence, plans, privacy budget."""
    found = x.dataset(dataset)
    show(as_json, found.document, lambda: _draw_dataset(found))


@click.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False))
@json_option
@connected
def publish(x: Exchange, manifest: str, as_json: bool) -> None:
    """Publish what a listing.toml describes; the same again changes nothing."""
    made = x.publish(manifest, progress=False if as_json else "auto")
    document = {**vars(made), "report": list(made.report)}
    show(as_json, document, lambda: _draw_publication(made))


@click.command()
@click.argument("dataset")
@click.option("--reason", required=True, help="What those who have access read.")
@json_option
@connected
def deprecate(x: Exchange, dataset: str, reason: str, as_json: bool) -> None:
    """Take no new buyers of a dataset; publishing its version again undoes it."""
    state = x.deprecate(dataset, reason=reason)
    show(
        as_json, {"dataset": dataset, "state": state}, lambda: facts([("dataset", dataset), ("state", state)])
    )


@click.command()
@click.argument("dataset")
@click.option("--plan", required=True, help="Name of a price plan of the dataset.")
@click.option("--purpose", required=True, help="Purpose that the licence allows.")
@click.option("--territory", required=True, help="Where the answers are used, such as US.")
@click.option("--role", default="", help="Role in which the licence is accepted, where it names roles.")
@click.option("--publishes", is_flag=True, help="Answers are to be published.")
@click.option("--accept-licence", is_flag=True, help="Accept the licence as `exchange show` prints it.")
@click.option("--until", help="Day at which access shall end, such as 2027-12-31.")
@click.option("--plan-sha256", help="Hash of the plan that was shown; one that was changed since is refused.")
@click.option("--wait", "wait_s", type=float, metavar="SECONDS", help="Wait for the provider's decision.")
@json_option
@connected
def request(
    x: Exchange, dataset: str, wait_s: float | None, accept_licence: bool, as_json: bool, **terms: Any
) -> None:
    """Ask for access to a dataset.

    Without --accept-licence the licence and the hash of the plan are printed, and nothing is asked.
    """
    found = x.dataset(dataset)
    if not accept_licence:
        from exchange.client import LicenceNotAccepted

        click.echo(safe(found.licence.text), err=True)
        plan = found.plan_sha256(terms["plan"])
        as_shown = f", and --plan-sha256 {plan} for the plan at this price" if plan else ""
        raise LicenceNotAccepted(
            "the licence was not accepted", hint=f"Repeat with --accept-licence to accept it{as_shown}."
        )
    grant = found.request(accept_licence=True, **terms)
    grant = grant.wait(timeout_s=wait_s) if wait_s is not None else grant
    names = ("id", "state", "dataset", "plan", "purpose", "territory", "rho_remaining", "until")
    document = {name: getattr(grant, name) for name in names}
    document["request"] = grant.request.id if grant.request else None
    show(as_json, document, lambda: facts(document.items(), title="Grant"))


@click.group()
def requests() -> None:
    """Requests for access: list, approve, decline, cancel."""


@requests.command("list")
@click.option("--state", type=click.Choice(["open", "approved", "declined"]))
@json_option
@connected
def list_requests(x: Exchange, state: str | None, as_json: bool) -> None:
    """List requests: a buyer's own, or those for a provider's datasets."""
    found = x.requests(state=state)
    names = ("id", "outcome", "buyer", "dataset", "plan", "purpose", "territory", "requested_at", "decide_by")
    rows = [[getattr(one, name) for name in names] for one in found]
    show(as_json, [one.document for one in found], lambda: table(names, rows))


@requests.command()
@click.argument("request_id")
@click.option("--max-rho", help="Rho that the grant may spend, where it is less than the plan's.")
@click.option("--until", help="Day at which the grant ends, at the latest.")
@click.option("--reason", default="", help="What the buyer reads.")
@json_option
@connected
def approve(x: Exchange, request_id: str, as_json: bool, **limits: Any) -> None:
    """Approve a request: its grant is issued."""
    _decided(x.request(request_id).approve(**limits), as_json)


@requests.command()
@click.argument("request_id")
@json_option
@connected
def cancel(x: Exchange, request_id: str, as_json: bool) -> None:
    """Take an own open request back."""
    _decided(x.request(request_id).cancel(), as_json)


@requests.command()
@click.argument("request_id")
@click.option("--reason", required=True, help="What the buyer reads.")
@json_option
@connected
def decline(x: Exchange, request_id: str, reason: str, as_json: bool) -> None:
    """Decline a request."""
    _decided(x.request(request_id).decline(reason=reason), as_json)


@click.command()
@json_option
@connected
def usage(x: Exchange, as_json: bool) -> None:
    """Show what was asked and what it cost, or, for a provider, what was earned."""
    used = x.usage()
    totals = [{"currency": currency, "amount": amount} for currency, amount in used.totals.items()]
    document = {"items": list(used.items), "totals": totals, "rho_nano": used.rho_nano}
    pairs: list[tuple[str, Any]] = [("queries", len(used.items)), ("rho", used.rho)]
    pairs += [(f"total {total['currency']}", total["amount"]) for total in totals]
    show(as_json, document, lambda: facts(pairs, title="Usage"))


@click.command("show")
@json_option
@connected
def show_wallet(x: Exchange, as_json: bool) -> None:
    """Show prepaid balances."""
    wallet = x.wallet()
    rows = [(b.currency, b.available, b.reserved) for b in wallet]
    document = [{"currency": c, "available": a, "reserved": r} for c, a, r in rows]
    show(as_json, document, lambda: table(("currency", "available", "reserved"), rows, title="Wallet"))


def _decided(request: AccessRequest, as_json: bool) -> None:
    pairs = [("request", request.id), ("state", request.state), ("grant", (request.grant or {}).get("grant"))]
    show(as_json, request.document, lambda: facts(pairs))


def _hit(hit: Listing) -> dict[str, Any]:
    lists = {name: list(getattr(hit, name)) for name in ("keywords", "tables", "units", "territories")}
    prices = {currency: str(amount) for currency, amount in hit.price_from.items()}
    return {**vars(hit), **lists, "price_from": prices}


def _draw_hits(hits: Listings) -> None:
    rows = [(hit.slug, hit.title, hit.provider, ", ".join(hit.tables)) for hit in hits]
    table(("dataset", "title", "provider", "tables"), rows)
    if hits.total > len(hits):
        click.echo(f"{len(hits)} of {hits.total}: give more words, a facet, or a larger --limit.")


def _draw_dataset(found: Dataset) -> None:
    about = [
        ("dataset", found.slug),
        ("provider", found.listing.provider),
        ("about", found.listing.description),
    ]
    facts([*about, ("version", found.listing.version_number)], title=found.title)
    rows = [
        (t.name if t.public else f"{t.name} (unit {t.unit})", c.name, c.type, c.domain)
        for t in found.tables
        for c in t.columns
    ]
    table(("table", "column", "type", "domain"), rows)
    plans = [
        (plan.get("name"), ", ".join(f"{k} {v}" for k, v in plan.items() if k != "name"))
        for plan in found.plans
    ]
    table(("plan", "terms"), plans)
    if found.declarations is not None:
        facts([(name.replace("_", " "), _plain(told)) for name, told in found.declarations.items()])
    if found.profile is not None:
        table(("what one unit contributes",), [(sentence,) for sentence in found.profile.in_words])
    if found.layout is not None:
        facts([("layout", found.layout["state"]), ("", found.layout["in_words"])])
    budget = found.budget
    left = f"rho {budget.rho_remaining} of {budget.rho_granted} left, over all buyers"
    facts([("domain", budget.domain), ("budget", left), ("licence", found.licence.title)])
    click.echo(safe(found.licence.text))


def _plain(told: object) -> str:
    return (
        ", ".join(f"{name} {value}" for name, value in told.items()) if isinstance(told, dict) else str(told)
    )


def _draw_publication(made: Publication) -> None:
    state = "unchanged, nothing to do" if made.unchanged else made.state
    facts([("dataset", made.slug), ("version", made.version_number), ("state", state)])
    if made.profile is not None:
        facts([("contribution profile", made.profile["state"]), ("rho", made.profile["rho"])])
    if made.report:
        rows = [(t.get("table"), t.get("rows"), t.get("rows_without_unit")) for t in made.report]
        table(("table", "rows", "rows without unit (dropped)"), rows)
    for one in made.report:
        for warning in one.get("warnings", ()):
            click.echo(f"warning: {safe(one.get('table'))}: {safe(warning)}", err=True)
