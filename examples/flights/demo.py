"""The main job on real data: a provider lists, a buyer pays for private answers, an officer proves it.

    python examples/flights/demo.py            # what `make demo` runs
    python examples/flights/demo.py --serve    # what `make serve` runs: the same, then keep serving

Every step goes through the doors that users have: the command line, the SDK over HTTP, a server process
with its worker. Only the exact answers, shown beside the private ones, come from the provider's own files:
the demo owns the data, a buyer would never see them. Running it again doubles nothing: what stands is found
again, and repeated questions return the stored answers for nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.table import Table

from exchange import Exchange
from exchange.cli import main as command_line
from privacy.sandbox import Limits, Sandbox, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.client import Answer, Quote, Receipt

HERE = Path(__file__).parent
HOME = Path(os.environ.get("EXCHANGE_HOME") or Path.cwd() / ".demo").absolute()
PROVIDER, BUYER, OFFICER, OPERATOR = "demo-provider", "demo-buyer", "demo-officer", "demo-operator"
ROLES = {PROVIDER: "provider", BUYER: "buyer", OFFICER: "officer", OPERATOR: "operator"}
TABLES = ("flights", "airlines", "airports", "weather", "planes")

# Each question with what the buyer fixes (rho, epsilon or the error) and the bounds that suit it.
QUESTIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "How many flights left each airport?",
        "SELECT origin, count(*) AS flights FROM flights GROUP BY origin",
        {"rho": 0.05, "max_rows_per_group": 400},
    ),
    (
        "How many left more than an hour late? (to within 400)",
        "SELECT count(*) AS late FROM flights WHERE dep_delay > 60",
        {"error": {"late": 400}, "max_rows": 60},
    ),
    (
        "Which airlines arrive late?",
        "SELECT a.name AS airline, avg(f.arr_delay) AS delay FROM flights f JOIN airlines a "
        "ON f.carrier = a.carrier WHERE f.carrier IN ('UA', 'B6', 'EV', 'DL', 'AA') "
        "GROUP BY a.name ORDER BY delay DESC",
        {"rho": 0.2, "max_groups": 2, "max_rows_per_group": 60},
    ),
    (
        "Where do most aircraft fly? (destinations are private keys)",
        "SELECT dest, count(DISTINCT tailnum) AS aircraft FROM flights GROUP BY dest "
        "ORDER BY aircraft DESC LIMIT 5",
        {"epsilon": 1.0, "max_groups": 60},
    ),
    (
        "How far is a mean flight, by airport?",
        "SELECT origin, avg(distance) AS miles FROM flights GROUP BY origin",
        {"rho": 0.1},
    ),
)

# Who is named on documents: legal name, address, country.
PARTIES = {
    OPERATOR: ("Demo exchange", "Example street 1\n10115 Berlin", "DE"),
    BUYER: ("デモ購入者 (demo buyer)", "見本町1番地\n100-0000", "JP"),
    PROVIDER: ("Demo provider", "1 Example street\nNew York", "US"),
}

console = Console(highlight=False)


def run(*, serve_port: int | None) -> int:
    """The whole demo; returns the exit code of the officer's verification."""
    began = time.monotonic()
    os.environ["EXCHANGE_HOME"] = str(HOME)
    # The demo's officer and operator look around with a token. Never set this where data is real.
    os.environ["EXCHANGE_SECOND_FACTOR"] = "0"
    with step("Operator: a home with keys and database, four organisations, one token each"):
        tokens = prepare()
    with serving(serve_port or free_port()) as url:
        with step("Provider: publish 336,776 flights with policy, licence and price plan"):
            publish(url, tokens[PROVIDER])
        with step("Operator: confirm the buyer's bank transfer"):
            credit = cli("wallet", "credit", "--org", BUYER, "--amount", "100.00", "--currency", "USD",
                         "--reference", "DEMO-TRANSFER-1", "--json")  # fmt: skip
            said = "was confirmed before" if credit["replayed"] else f"is in the wallet of {BUYER}"
            say(f"{credit['credited']['amount']} USD: the transfer {said}")
        with Exchange(url, token=tokens[BUYER]) as x:
            with step("Buyer: search, read the licence, request access for research"):
                access(x)
            receipts = [ask(x, *question) for question in QUESTIONS]
            with step("Buyer: the bill, and a receipt checked offline"):
                bill(x)
                keep_receipt(receipts[-1])
        with step("Buyer and provider: the invoice and the month's statement, as PDF"):
            documents(url, tokens)
        with step("Officer: read the log, verify it with the books behind it"):
            code = audit(url, tokens[OFFICER])
        with step("Operator: the layout that the worker builds beside the files; the laws of the books"):
            laid_out()
            laws()
        console.print(f"\nAll of it in {time.monotonic() - began:.1f} s. Everything lies in {HOME.name}/.")
        if serve_port is not None and code == 0:
            keep_serving(url, tokens)
    return code


def prepare() -> dict[str, str]:
    """Home, organisations and tokens; tokens are kept beside the keys so that a second run finds them."""
    cli("init")
    kept = HOME / "tokens.json"
    if kept.exists():
        stored: dict[str, str] = json.loads(kept.read_text(encoding="utf-8"))
        say("the home stands already: its tokens are used again")
        return stored
    for name, role in ROLES.items():
        cli("org", "create", name, "--role", role, "--json")
    tokens = {
        name: str(cli("token", "create", "--org", name, "--role", role, "--json")["token"])
        for name, role in ROLES.items()
    }
    with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(tokens, file)
    return tokens


def publish(url: str, token: str) -> None:
    """Write the example's files and list them; the same content again is a no-op."""
    files = HERE / "data"
    if not all(any(files.glob(f"{table}.*")) for table in TABLES):
        subprocess.run([sys.executable, str(HERE / "make_data.py")], check=True, stdout=subprocess.DEVNULL)
    with Exchange(url, token=token) as x:
        made = x.publish(HERE / "listing.toml", progress=False)
    if made.unchanged:
        say(f"{made.slug} version {made.version_number} stands as it is: nothing to do")
    for report in made.report:
        dropped = report.get("rows_without_unit", 0)
        more = f", {dropped:,} rows of nobody left out" if dropped else ""
        say(f"{report['table']}: {report['rows']:,} rows{more}")
    with Exchange(url, token=token) as x:
        profile = x.dataset(made.slug).profile
    if profile is not None:
        say(f"contribution profile, for rho {profile.rho}: {profile.in_words[0]}")


def access(x: Exchange) -> None:
    """Find the dataset, accept its licence, get a grant at once."""
    hit = next(iter(x.search("flights new york")))
    data = x.dataset(hit.slug)
    grant = data.request(plan="pay-as-you-go", purpose="research", territory="US", accept_licence=True)
    say(f"{hit.slug}: {data.licence.title}, text {data.licence.text_sha256[:16]}…")
    say(f"{grant.id}: {grant.plan}, purpose {grant.purpose}, territory {grant.territory}")


def ask(x: Exchange, title: str, sql: str, terms: dict[str, Any]) -> Receipt:
    """Quote, run, and show the private answer beside the exact one; returns the receipt."""
    with step(f"Buyer: {title}"):
        console.print(f"    [dim]{sql}[/dim]")
        data = x.dataset("nyc/flights")
        quote = data.quote(sql, **terms)
        bias = "".join(f", {c.name} expected to miss {c.bias}" for c in quote.columns if c.expected_bias)
        say(f"quote: {quote.price}, rho {quote.rho}, epsilon {quote.epsilon:.3f}{bias}")
        started = time.monotonic()
        answer = quote.run()
        took = time.monotonic() - started
        paid = "a repeat, free" if answer.repeated else f"charged {answer.charged}"
        say(f"answered in {took:.3f} s, {paid}")
        console.print(beside(quote, answer, exact(sql)))
        return answer.receipt


def exact(sql: str) -> list[tuple[Any, ...]]:
    """The same statement over the provider's own files, without privacy, and of every group."""
    import pyarrow as pa
    import pyarrow.csv

    files, tables = {}, {}
    for table in TABLES:
        path = next((HERE / "data").glob(f"{table}.*"))
        if path.suffix == ".parquet":
            files[table] = (str(path),)
        else:
            options = pa.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
            tables[table] = pa.csv.read_csv(path, convert_options=options)
    rows = owner().run(Task(f"SELECT * FROM ({sql.partition(' ORDER BY ')[0]})", files, tables))
    return [tuple(row.values()) for row in rows.to_pylist()]


def beside(quote: Quote, answer: Answer, truth: list[tuple[Any, ...]]) -> Table:
    """Private rows with 95% intervals, and the exact rows of the same keys."""
    keys = [i for i, column in enumerate(quote.columns) if column.kind == "key"]
    by_key = {tuple(row[i] for i in keys): row for row in truth}
    shown = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in answer.columns:
        shown.add_column(
            column.name, justify="left" if column.name in {quote.columns[i].name for i in keys} else "right"
        )
    for heading in ("95% half-width", "exact"):
        shown.add_column(heading, justify="right")
    values = [i for i in range(len(quote.columns)) if i not in keys]
    for number, row in enumerate(answer.rows):
        true = by_key.get(tuple(row[i] for i in keys))
        widths = [half_width(answer, quote.columns[i].name, number) for i in values]
        truths = [figure(true[i]) if true else "-" for i in values]
        shown.add_row(*(figure(value) for value in row), "  ".join(widths), "  ".join(truths))
    return shown


def half_width(answer: Answer, column: str, row: int) -> str:
    """Half of the 95% interval of one value, or - where a derived value has none."""
    interval = (answer.intervals.get(column) or [None] * len(answer.rows))[row]
    return "-" if interval is None else f"±{figure((interval[1] - interval[0]) / 2)}"


def bill(x: Exchange) -> None:
    """What it cost, in money and in privacy."""
    usage, budget = x.usage(), x.dataset("nyc/flights").budget
    total = ", ".join(f"{amount} {currency}" for currency, amount in usage.totals.items())
    say(f"{len(usage.items)} answers, {total}, rho {usage.rho}")
    for balance in x.wallet():
        say(f"wallet: {balance.available}")
    say(f"privacy of {budget.domain}: rho {budget.rho_spent} spent, {budget.rho_remaining} remaining")


def documents(url: str, tokens: dict[str, str]) -> None:
    """Name the parties, issue what is due, and write the documents beside the home's other files."""
    for who, (name, address, country) in PARTIES.items():
        with Exchange(url, token=tokens[who]) as x:
            x.set_billing_profile(legal_name=name, address=address, country=country)
    with Exchange(url, token=tokens[BUYER]) as x:
        x.issue_invoices()
        invoice = next(one for one in x.invoices() if one.kind == "invoice")
        invoice.pdf(HOME / "invoice.pdf")
    say(f"{invoice.number} over {invoice.gross.text}: {HOME.name}/invoice.pdf")
    with Exchange(url, token=tokens[PROVIDER]) as x:
        statement = x.statements()[0]
        statement.pdf(HOME / "statement.pdf")
    closing = f"{statement.closing} {statement.currency}"
    say(f"statement {statement.id}, closing at {closing}: {HOME.name}/statement.pdf")


def keep_receipt(receipt: Receipt) -> None:
    """Save a receipt with its inclusion proof, and check it without asking the exchange anything."""
    receipt = proved(receipt)
    path = receipt.save(HOME / "receipt.json")
    say(f"{path.name}: {receipt.verify()}")


def audit(url: str, token: str) -> int:
    """Who asked what under which licence; then checkpoint, tree, chains and journals."""
    with Exchange(url, token=token) as x:
        for entry in x.audit.search(kind="query.settled", limit=3):
            asked, licence = entry.document["object"], entry.document["licence"]
            say(f"entry {entry.seq}: {entry.org_name} asked {asked['dataset']} for {licence['purpose']}")
        verified = x.audit.verify()
    good = "good" if verified.exit_code == 0 else f"exit {verified.exit_code}"
    say(f"log of {verified.size} entries, root {verified.root.hex()[:16]}…: {good}")
    for finding in verified.findings:
        say(str(finding))
    return int(verified.exit_code)


def proved(receipt: Receipt) -> Receipt:
    """The receipt once the log has taken its leaf in: a few seconds at most."""
    deadline = time.monotonic() + 15
    while not receipt.included and time.monotonic() < deadline:
        time.sleep(0.2)
        receipt = receipt.refresh()
    return receipt


def laid_out() -> None:
    """Wait for the layout that was begun when the flights were published: later questions start from it."""
    (layout,) = cli("layout", "build", "nyc/flights", "--json")
    size = f", {layout['bytes'] / 1e6:.1f} MB" if layout["bytes"] else ""
    say(f"layout of {layout['dataset']}: {layout['state']}{size}. {layout['in_words']}")


def laws() -> None:
    """Every law of the books, checked on the demo's database."""
    found = cli("check", "--json")
    held = [law["id"] for law in found if law["holds"]]
    broken = [law["id"] for law in found if not law["holds"]]
    say(f"holding: {' '.join(held)}" + (f"; BROKEN: {' '.join(broken)}" if broken else ""))


def keep_serving(url: str, tokens: dict[str, str]) -> None:
    """Print one login for each role and serve until Ctrl-C."""
    console.print(f"\nThe exchange is at {url}. Sign in with one of these tokens:\n")
    for name, token in tokens.items():
        console.print(f"  {ROLES[name]:9} {token}", soft_wrap=True)
    console.print(
        "\nEXCHANGE_SECOND_FACTOR=0 lets officer and operator in without a second factor: for a demo alone."
    )
    console.print("Stop with Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


@contextlib.contextmanager
def serving(port: int) -> Iterator[str]:
    """`exchange serve` as a process of its own, with its worker; ends with the demo."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "exchange.cli", "serve", "--port", str(port)]
    with step("Operator: serve"), (HOME / "serve.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until_ready(url, process)
        except BaseException:
            process.terminate()
            raise
        say(url)
    try:
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the server answers and its worker has swept once."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended: see {HOME.name}/serve.log")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        time.sleep(0.05)
    raise SystemExit(f"the server did not become ready: see {HOME.name}/serve.log")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cli(*words: str) -> Any:
    """One command of the command line; its JSON if it was asked for any."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        command_line.main(args=list(words), prog_name="exchange", standalone_mode=False)
    return json.loads(out.getvalue()) if "--json" in words else out.getvalue()


_owner: list[Sandbox] = []


def owner() -> Sandbox:
    """The provider's own engine, for the exact answers."""
    if not _owner:
        _owner.append(Sandbox(Limits(), workers=1))
    return _owner[0]


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """One step with its time."""
    console.print(f"\n[bold]{title}[/bold]")
    started = time.monotonic()
    yield
    console.print(f"    [dim]{time.monotonic() - started:.2f} s[/dim]")


def say(text: str) -> None:
    """A line of a step."""
    console.print(f"    {text}", soft_wrap=True)


def figure(value: object) -> str:
    """A value for people."""
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--serve", action="store_true", help="keep serving at http://127.0.0.1:8000")
    try:
        return run(serve_port=8000 if parser.parse_args().serve else None)
    finally:
        for sandbox in _owner:
            sandbox.close()


if __name__ == "__main__":
    sys.exit(main())
