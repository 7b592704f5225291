"""Licences on the command line: templates, one's terms in words, checks, differences, acceptance, end."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import connected, json_option, tlog_proof_option
from exchange.cli.output import facts, safe, show, table
from exchange.cli.questions import keep_receipt

if TYPE_CHECKING:
    from exchange.client import Acceptance, Exchange, LicenceDiff


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(licence)


@click.group()
def licence() -> None:
    """Licences: start from a template, check, compare, accept, approve, withdraw."""


@licence.command()
@click.argument("name", required=False)
@json_option
@connected
def templates(x: Exchange, name: str | None, as_json: bool) -> None:
    """List the licences to start from, or print one as the [licence] section of a listing.toml."""
    if name is None:
        found = x.licences.templates()
        rows = [(one.name, one.title, one.about) for one in found]
        show(as_json, [vars(one) for one in found], lambda: table(("name", "title", "about"), rows))
        return
    one = x.licences.template(name)
    show(as_json, vars(one), lambda: click.echo(safe(_section(one.name, one.terms))))


@licence.command("show")
@click.argument("dataset")
@click.option("--odrl", "form", flag_value="odrl", help="Print the ODRL policy.")
@click.option("--text", "form", flag_value="text", help="Print the text alone, as it was hashed.")
@click.option("--dataspace", "form", flag_value="dataspace", help="Print an Offer of the Dataspace Protocol.")
@json_option
@connected
def show_licence(x: Exchange, dataset: str, form: str | None, as_json: bool) -> None:
    """Show a dataset's licence: its terms in words, then its text."""
    found = x.dataset(dataset)
    one = found.licence
    if form == "text":
        click.echo(one.text.encode(), nl=False)
        return
    if form is not None:
        document = one.odrl if form == "odrl" else found.offer()
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return

    def draw() -> None:
        facts([("licence", one.id), ("version", one.version), ("title", one.title)])
        for sentence in one.in_words:
            click.echo(safe(sentence))
        click.echo(f"\n{safe(one.text)}")

    show(as_json, vars(one), draw)


@licence.command()
@click.argument("dataset")
@click.option("--from", "old", help="Id of the older licence version; else the one before.")
@click.option("--to", "new", help="Id of the newer licence version; else the newest.")
@json_option
@connected
def diff(x: Exchange, dataset: str, old: str | None, new: str | None, as_json: bool) -> None:
    """Say in plain language what one licence version of a dataset changes, materially or not."""
    found = x.dataset(dataset).licence_diff(old, new)
    document = {**vars(found), "changes": [vars(one) for one in found.changes]}
    show(as_json, document, lambda: _draw_diff(found))


@licence.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@connected
def check(x: Exchange, file: Path, as_json: bool) -> None:
    """Check the licence of a listing.toml, or an ODRL policy in a .json file; nothing is stored."""
    if file.suffix == ".json":
        made = x.licences.check({"odrl": _json(file)})
    else:
        terms = {
            name: value for name, value in _licence_section(file).items() if name not in ("text", "title")
        }
        made = x.licences.check(terms)
    show(as_json, made, lambda: click.echo("\n".join(safe(sentence) for sentence in made["in_words"])))


@licence.command()
@click.argument("dataset")
@click.option("--purpose", "purposes", multiple=True, required=True, help="Purpose; may be given repeatedly.")
@click.option("--territory", required=True, help="Where the answers are used, such as US.")
@click.option("--role", default="", help="Role in which it is accepted, where the licence names roles.")
@click.option("--publishes", is_flag=True, help="Answers are to be published.")
@click.option("--receipt", type=click.Path(dir_okay=False, path_type=Path), help="Save the receipt.")
@json_option
@connected
def accept(
    x: Exchange,
    dataset: str,
    purposes: tuple[str, ...],
    receipt: Path | None,
    as_json: bool,
    **declared: Any,
) -> None:
    """Accept a dataset's licence as it stands; grants for the same use go on under it."""
    made = x.dataset(dataset).accept(purposes=purposes, **declared)
    if receipt is not None:
        made.receipt().save(receipt)
    show(as_json, made.document, lambda: _draw_acceptance(made))


@licence.command("receipt")
@click.argument("acceptance")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@tlog_proof_option
@connected
def save_receipt(x: Exchange, acceptance: str, file: Path, tlog_proof: bool) -> None:
    """Fetch the receipt of an acceptance, and save it for `exchange receipt verify`."""
    keep_receipt(x.licences.acceptance(acceptance).receipt(), file, tlog_proof)


@licence.command()
@click.argument("licence_id")
@json_option
@connected
def approve(x: Exchange, licence_id: str, as_json: bool) -> None:
    """Approve a licence version that somebody else wrote."""
    made = x.licences.approve(licence_id)
    show(as_json, vars(made), lambda: facts([("licence", made.id), ("approved at", made.approved_at)]))


@licence.command()
@click.argument("licence_id")
@click.option("--reason", required=True, help="What the log's officer reads.")
@json_option
@connected
def withdraw(x: Exchange, licence_id: str, reason: str, as_json: bool) -> None:
    """Stop every new use of a licence version at once."""
    made = x.licences.withdraw(licence_id, reason=reason)
    show(as_json, vars(made), lambda: facts([("licence", made.id), ("withdrawn at", made.withdrawn_at)]))


def _draw_diff(found: LicenceDiff) -> None:
    for change in found.changes:
        click.echo(safe(change))
    if not found.changes:
        click.echo("Nothing differs.")
    click.echo(
        "Buyers accept it before their next query." if found.material else "Buyers need not accept it anew."
    )


def _draw_acceptance(made: Acceptance) -> None:
    pairs = [("acceptance", made.id), ("licence", made.licence), ("role", made.role)]
    more = [("purposes", ", ".join(made.purposes)), ("territory", made.territory), ("digest", made.digest)]
    facts([*pairs, *more], title="Accepted")


def _section(name: str, terms: dict[str, Any]) -> str:
    lines = [f"{term} = {json.dumps(value, ensure_ascii=False)}" for term, value in terms.items()]
    changed = "# terms of the template; write those that are to differ"
    return "\n".join(["[licence]", f'template = "{name}"', changed, *(f"# {line}" for line in lines)])


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise click.UsageError(f"{file} is not JSON") from None


def _licence_section(file: Path) -> dict[str, Any]:
    try:
        section = tomllib.loads(file.read_text(encoding="utf-8")).get("licence")
    except ValueError as error:
        raise click.UsageError(f"{file} is not TOML: {error}") from None
    if not isinstance(section, dict):
        raise click.UsageError(f"{file} has no section [licence]")
    return {name: _plain(value) for name, value in section.items()}


def _plain(value: Any) -> Any:
    """TOML's dates and times as ISO 8601 text."""
    return value.isoformat() if hasattr(value, "isoformat") else value
