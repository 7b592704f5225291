"""The officer's commands: search the log, verify it, export evidence."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.commands import client, connected, json_option
from exchange.cli.output import safe, show, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.audit.verify import LogReport
    from exchange.client import Exchange
    from exchange.client.spending import SpendingReport

_SHOWN_FINDINGS = 50
_PUBLISHED = "the published ones"
_NOT_OF_EVIDENCE = (
    "--checkpoint, --save-checkpoint, --local and --no-books are of the whole log: a file of evidence does "
    "not prove that its checkpoint continues another"
)


def add_to(main: click.Group) -> None:
    """Add this room's commands."""
    main.add_command(audit)


@click.group()
def audit() -> None:
    """The audit log: search, prove, verify, add up, export."""


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for name in ("org", "dataset", "domain", "purpose", "kind", "outcome"):
        command = click.option(f"--{name}")(command)
    command = click.option("--since", help="Date or time of ISO 8601.")(command)
    command = click.option("--until", help="Date or time of ISO 8601.")(command)
    return click.option("--q", help="Words to look for.")(command)


@dataclass(frozen=True)
class _Trusted:
    """Whose signatures are believed, as the options say."""

    log_key: str | None
    follow_keys: str | None
    witnesses: tuple[str, ...]
    required: int

    def statements(self) -> str:
        """The statements of the file that was named; nothing where none was."""
        return "" if self.follow_keys in (None, _PUBLISHED) else _statements(Path(self.follow_keys))

    def by(self, x: Exchange) -> dict[str, Any]:
        """The arguments of the SDK that say the same; no keys where the profile has them, or nobody."""
        from exchange.client import Keys

        keys = None if self.log_key is None else Keys(self.log_key.strip(), "")
        if statements := self.statements():
            keys = replace(keys or x.keys(), log_statements=statements)
        return {
            "keys": keys,
            "witnesses": self.witnesses,
            "witnesses_required": self.required,
            "follow_keys": self.follow_keys == _PUBLISHED,
        }


def _trusting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say whose signatures are believed; the command receives them as ``told``."""

    @click.option("--log-key", help="The log's public key from a source that you trust.")
    @click.option(
        "--follow-keys",
        is_flag=False,
        flag_value=_PUBLISHED,
        metavar="[FILE]",
        help="From a key that was replaced, follow statements to the newest: those of FILE, else of the log.",
    )
    @click.option("--witness", "witnesses", multiple=True, help="Public key of a witness; may be repeated.")
    @click.option(
        "--witnesses-required",
        type=click.IntRange(0),
        help="How many of these witnesses must have signed; else all of them.",
    )
    @functools.wraps(command)
    def run(
        *args: Any,
        log_key: str | None,
        follow_keys: str | None,
        witnesses: tuple[str, ...],
        witnesses_required: int | None,
        **rest: Any,
    ) -> Any:
        required = len(witnesses) if witnesses_required is None else witnesses_required
        return command(*args, told=_Trusted(log_key, follow_keys, witnesses, required), **rest)

    return run


@audit.command()
@_filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@json_option
@connected
def search(x: Exchange, limit: int, as_json: bool, **filters: str | None) -> None:
    """Search the log, newest first; searching is itself an entry."""
    found = list(x.audit.search(**filters, limit=limit))
    header = ("seq", "time", "kind", "outcome", "code", "organisation", "entry")
    rows = [(e.seq, e.time, e.kind, e.outcome, e.code, e.org_name, e.id) for e in found]
    show(as_json, [e.document for e in found], lambda: table(header, rows))


@audit.command()
@click.option(
    "--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Saved checkpoint."
)
@click.option(
    "--save-checkpoint", type=click.Path(dir_okay=False, path_type=Path), help="Save the checkpoint seen."
)
@_trusting
@click.option("--receipt-key", help="The receipts' public key from such a source; for --evidence.")
@click.option(
    "--evidence",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Verify a file of evidence instead; with both keys given, no exchange is asked. With the options of "
    "keys and witnesses alone.",
)
@click.option("--local", is_flag=True, help="Verify the home on this machine, database and books included.")
@click.option("--no-books", is_flag=True, help="Do not hold journals against the ledger (needs no officer).")
@click.option("--url", help="Address of the exchange; else EXCHANGE_URL or the configuration.")
@click.option("--profile", help="Profile of the configuration files.")
@json_option
def verify(
    checkpoint: Path | None,
    save_checkpoint: Path | None,
    receipt_key: str | None,
    evidence: Path | None,
    local: bool,
    no_books: bool,
    url: str | None,
    profile: str | None,
    as_json: bool,
    told: _Trusted,
) -> None:
    """Verify the whole log: over HTTP where an exchange is configured, else the home on this machine.

    Exit codes: 0 good, 10 truncated, 11 altered, inserted or reordered, 12 fork against the saved checkpoint,
    13 signature, 14 gap in a sequence, 15 malformed, 16 too few witnesses.
    """
    if evidence is not None:
        if checkpoint or save_checkpoint or local or no_books:
            raise click.UsageError(_NOT_OF_EVIDENCE)
        report = _verify_evidence(evidence, told, receipt_key, url, profile)
        show(as_json, report.as_document(), lambda: _draw(report))
        click.get_current_context().exit(report.exit_code)
    pinned = checkpoint.read_bytes() if checkpoint else None
    if local or not _is_configured(url, profile):
        report, seen = _verify_home(pinned, told, wanted=save_checkpoint is not None)
    else:
        with client(url, profile) as x:
            seen = x.audit.checkpoint() if save_checkpoint else ""
            verify_now = functools.partial(
                x.audit.verify,
                pinned=pinned,
                checkpoint=seen or None,
                **told.by(x),
            )
            report = verify_now(books=False) if no_books else _with_books(verify_now)
    if save_checkpoint is not None and report.good:
        save_checkpoint.write_bytes(seen.encode())
    show(as_json, report.as_document(), lambda: _draw_whole(report))
    click.get_current_context().exit(report.exit_code)


@audit.command()
@click.option(
    "--checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Saved checkpoint."
)
@_trusting
@json_option
@connected
def spending(x: Exchange, checkpoint: Path | None, told: _Trusted, as_json: bool) -> None:
    """Add up what each privacy domain has spent, from the public log alone; needs no token.

    The log is verified too, up to a checkpoint that covers what the exchange says, which may take a minute.
    Exit codes as for `verify`; 11 also where the exchange says something else than the log, or speaks of an
    earlier one; 10 where no checkpoint comes; 14 where an entry is missing between two others of a domain.
    """
    pinned = checkpoint.read_bytes() if checkpoint else None
    report = x.audit.spending(pinned=pinned, **told.by(x))
    found = [{**asdict(one), "agree": one.agree} for one in report.domains]
    show(as_json, {**report.log.as_document(), "domains": found}, lambda: _draw_spending(report))
    click.get_current_context().exit(report.log.exit_code)


def _draw_spending(report: SpendingReport) -> None:
    from exchange.client.spending import rho

    header = ("domain", "spent by the log", "as the exchange says", "entries", "agree")
    rows = [
        (d.domain, rho(d.log_rho_nano), rho(d.said_rho_nano), d.entries, "yes" if d.agree else "NO")
        for d in report.domains
    ]
    if rows:
        table(header, rows)
    _draw(report.log)


@audit.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format", "form", help="csv, parquet, jsonl, ocsf, cef, evidence; else by the ending of FILE."
)
@_filters
@json_option
@connected
def export(x: Exchange, file: Path, form: str | None, as_json: bool, **filters: str | None) -> None:
    """Write the matching entries to FILE.

    .csv for a spreadsheet, .parquet for tables, .jsonl with the inclusion proof of each entry, .ocsf.jsonl
    and .cef for a SIEM; .zip for evidence that others check without us: `exchange audit verify --evidence`.
    """
    count = x.audit.export(file, format=form, progress=False if as_json else "auto", **filters)
    told = {"file": str(file), "entries": count}
    show(as_json, told, lambda: click.echo(f"{count} entries written to {safe(file)}"))


@audit.command()
@click.argument("entry")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@json_option
@connected
def prove(x: Exchange, entry: str, file: Path | None, as_json: bool) -> None:
    """Write the proof that ENTRY is in the log to FILE (ENTRY.tlog-proof), and check it first."""
    found = x.audit.prove(entry)
    size = found.verify()
    saved = found.save(file or Path(f"{entry}.tlog-proof"))
    told = {"file": str(saved), "entry": entry, "seq": found.seq, "size": size, "leaf_hash": found.leaf_hash}
    show(
        as_json, told, lambda: click.echo(f"{safe(saved)}: entry {found.seq} is in the log of {size} entries")
    )


@audit.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True), default="verify.py")
@json_option
def verifier(file: Path, as_json: bool) -> None:
    """Write the verifier to FILE: one file that needs Python and cryptography, and no exchange."""
    from exchange.audit import single_file
    from exchange.version import __version__

    if str(file) == "-":
        click.echo(single_file.source(), nl=False)
        return
    file.write_bytes(single_file.source().encode())
    made = {"file": str(file), "version": __version__, "sha256": single_file.sha256()}
    show(as_json, made, lambda: click.echo(f"{file}: version {__version__}, SHA-256 {made['sha256']}"))


def _verify_evidence(
    file: Path, told: _Trusted, receipt_key: str | None, url: str | None, profile: str | None
) -> LogReport:
    from exchange.client import Keys
    from exchange.client.audit import verify_evidence

    counted: dict[str, Any] = {"witnesses": told.witnesses, "witnesses_required": told.required}
    saved = "" if told.follow_keys in (None, _PUBLISHED) else _statements(Path(told.follow_keys))
    if told.log_key and receipt_key and told.follow_keys != _PUBLISHED:
        return verify_evidence(file, Keys(told.log_key.strip(), receipt_key.strip(), saved), **counted)
    with client(url, profile) as x:
        known = x.keys()
        keys = Keys(
            (told.log_key or known.log_key).strip(), (receipt_key or known.receipt_key).strip(), saved
        )
        return x.audit.verify_evidence(file, keys=keys, follow_keys=told.follow_keys == _PUBLISHED, **counted)


def _is_configured(url: str | None, profile: str | None) -> bool:
    from exchange.client import ConfigurationError
    from exchange.client.configuration import resolve

    if url or profile:
        return True
    try:
        return bool(resolve().token)
    except ConfigurationError as error:
        if error.code == "address_missing":
            return False
        raise


def _with_books(verify_now: Callable[..., LogReport]) -> LogReport:
    """The whole verification; where the token may not read the books, that of the public log."""
    from exchange.client import AuthError, PermissionDenied

    try:
        return verify_now(books=True)
    except (AuthError, PermissionDenied):
        click.echo("the exchange refuses the books: they need a token of the role officer", err=True)
        return verify_now(books=False)


def _statements(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _verify_home(pinned: bytes | None, told: _Trusted, *, wanted: bool) -> tuple[LogReport, str]:
    from exchange.audit import succession
    from exchange.audit.errors import Malformed
    from exchange.bootstrap import open_market
    from exchange.config import Settings
    from exchange.operations import auditing

    settings = Settings.from_env()
    published = settings.log_path / "key"
    if told.log_key is None and not published.is_file():
        raise Malformed(
            "Nothing has been published yet.", hint="Run `exchange worker --once`, then verify again."
        )
    key = told.log_key or published.read_text(encoding="utf-8")
    if told.log_key is None or told.follow_keys == _PUBLISHED:
        of_home = settings.log_path / succession.PATH
        statements = _statements(of_home) if of_home.is_file() else ""
    else:
        statements = told.statements()
    market = open_market(settings)
    try:
        report = auditing.verify(
            market,
            log_key=key,
            pinned=pinned,
            statements=statements,
            witnesses=told.witnesses,
            required=told.required,
        )
    finally:
        market.close()
    return report, _checkpoint_of(settings.log_path / "checkpoint", report) if wanted else ""


def _checkpoint_of(path: Path, report: LogReport) -> str:
    """The checkpoint that was verified. Raises ``Conflict`` if the log has grown meanwhile."""
    from exchange.audit.checkpoint import parse_checkpoint
    from exchange.client import Conflict

    if not report.good:
        return ""
    text = path.read_bytes()
    head = parse_checkpoint(text)
    if (head.size, head.root) != (report.size, report.root):
        raise Conflict("the log grew while it was verified", hint="Verify again to save a checkpoint.")
    return text.decode("utf-8")


def _draw_whole(report: LogReport) -> None:
    _draw(report)
    if not report.books:
        click.echo("the books were not compared")


def _draw(report: LogReport) -> None:
    if report.good:
        click.echo(f"good: {safe(report)}")
        return
    for finding in report.findings[:_SHOWN_FINDINGS]:
        click.echo(safe(finding))
    rest = len(report.findings) - _SHOWN_FINDINGS + report.more_findings
    if rest > 0:
        click.echo(f"and {rest} more")
    click.echo(f"not good: exit code {report.exit_code}", err=True)
