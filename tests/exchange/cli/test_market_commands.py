"""The command line of providers, buyers and officers against a served market: output, JSON and exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from exchange.client import Retry, connection, signing_in
from exchange.client.configuration import user_file
from exchange.identity import Role
from tests.exchange.marketplace import COUNT, PLAN, SLUG, Marketplace, write_listing
from tests.exchange.oauth.program import confirm

Run = Callable[..., Result]
RHO = iter(range(1, 1000))


def _rho() -> str:
    return f"0.06{next(RHO):03d}"


@pytest.fixture
def run(marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as an organisation of the market."""

    def command(*words: str, who: str = "lab", stdin: str | None = None) -> Result:
        monkeypatch.setenv("EXCHANGE_URL", marketplace.url)
        monkeypatch.setenv("EXCHANGE_TOKEN", marketplace.tokens[who])
        return CliRunner().invoke(main, list(words), input=stdin, catch_exceptions=False)

    return command


@pytest.fixture
def allowed(run: Run) -> None:
    """The buyer may ask."""
    terms = ("--plan", PLAN, "--purpose", "research", "--territory", "US", "--accept-licence")
    assert run("request", SLUG, *terms).exit_code == 0


def test_login_keeps_the_token_to_its_owner(marketplace: Marketplace) -> None:
    done = CliRunner().invoke(
        main, ["login", "--token", "--url", marketplace.url], input=marketplace.tokens["lab"] + "\n"
    )
    assert done.exit_code == 0, done.output
    assert marketplace.tokens["lab"] not in done.output
    assert stat.S_IMODE(user_file().stat().st_mode) == 0o600
    who = json.loads(CliRunner().invoke(main, ["whoami", "--json"]).stdout)
    assert (who["name"], who["role"], who["url"]) == ("lab", "buyer", marketplace.url)
    verified = CliRunner().invoke(main, ["audit", "verify", "--no-books"])
    assert (verified.exit_code, "good" in verified.stdout) == (0, True)


def test_login_with_a_wrong_token_keeps_nothing(marketplace: Marketplace) -> None:
    done = CliRunner().invoke(main, ["login", "--token", "--url", marketplace.url], input="tok_wrong\n")
    assert done.exit_code == 3
    assert not user_file().exists()


def test_login_by_a_code_that_a_person_confirms(
    marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = signing_in.wait
    with httpx.Client(base_url=marketplace.url, follow_redirects=True) as browser:
        browser.post("/sign-in", data={"token": marketplace.tokens["lab"], "next": "/"})

        def wait(url: str, shown: signing_in.DeviceCode) -> signing_in.Tokens:
            return waiting(url, shown, sleep=lambda _: confirm(browser, shown.user_code).raise_for_status())

        monkeypatch.setattr(signing_in, "wait", wait)
        done = CliRunner().invoke(main, ["login", "--url", marketplace.url, "--scope", "ask rho:1"])
    assert done.exit_code == 0, done.output
    assert "/device" in done.stderr
    assert stat.S_IMODE(user_file().stat().st_mode) == 0o600
    who = json.loads(CliRunner().invoke(main, ["whoami", "--json"]).stdout)
    assert (who["name"], who["auth"], who["scope"]) == ("lab", "oauth", "ask rho:1")
    assert who["token"].startswith("aut_")
    refused = CliRunner().invoke(main, ["wallet", "show", "--json"])
    assert (refused.exit_code, json.loads(refused.stderr)["code"]) == (3, "scope_missing")
    out = CliRunner().invoke(main, ["logout"])
    assert (out.exit_code, "has ended" in out.stdout) == (0, True)
    assert CliRunner().invoke(main, ["whoami"]).exit_code == 3
    assert "Nothing was signed in" in CliRunner().invoke(main, ["logout"]).stdout


def test_clients_and_authorizations(run: Run, marketplace: Marketplace) -> None:
    made = json.loads(run("client", "create", "Report", "--scope", "rho:1", "--json").stdout)
    assert made["client_secret"]
    listed = json.loads(run("client", "list", "--json").stdout)
    assert made["client_id"] in [one["client_id"] for one in listed]
    assert made["client_secret"] not in json.dumps(listed)
    form, login = {"grant_type": "client_credentials"}, (made["client_id"], made["client_secret"])
    given = httpx.post(f"{marketplace.url}/oauth/token", data=form, auth=login).json()
    bearer = {"Authorization": f"Bearer {given['access_token']}"}
    assert httpx.get(f"{marketplace.url}/v1/whoami", headers=bearer).status_code == 200
    held = json.loads(run("authorization", "list", "--json").stdout)
    (mine,) = [one["id"] for one in held if one["client_id"] == made["client_id"]]
    assert run("authorization", "revoke", mine).exit_code == 0
    assert httpx.get(f"{marketplace.url}/v1/whoami", headers=bearer).status_code == 401
    assert run("client", "revoke", made["client_id"]).exit_code == 0
    assert httpx.post(f"{marketplace.url}/oauth/token", data=form, auth=login).status_code == 401
    assert run("client", "revoke", "cli_none").exit_code != 0


def test_search_and_show(run: Run) -> None:
    assert [hit["slug"] for hit in json.loads(run("search", "visits", "--json").stdout)] == [SLUG]
    shown = run("show", SLUG).stdout
    assert "Do no harm." in shown
    assert "0 to 120" in shown
    assert json.loads(run("show", SLUG, "--json").stdout)["slug"] == SLUG
    assert json.loads(run("search", "zzz", "--json").stdout) == []


def test_licence_is_shown_before_it_is_accepted(run: Run, marketplace: Marketplace) -> None:
    marketplace.admit("careful", Role.BUYER)
    terms = ("--plan", PLAN, "--purpose", "research", "--territory", "US")
    done = run("request", SLUG, *terms, who="careful")
    assert (done.exit_code, "Do no harm." in done.stderr) == (3, True)
    assert "--accept-licence" in done.stderr
    refused = run("request", SLUG, *terms[:3], "war", *terms[4:], "--accept-licence", "--json", who="careful")
    assert refused.exit_code == 3
    error = json.loads(refused.stderr)
    assert (error["error"], error["code"]) == ("PurposeNotAllowed", "purpose_not_allowed")
    assert error["request_id"]
    shown = re.search(r"--plan-sha256 ([0-9a-f]{64})", done.stderr.replace("\n", " "))
    assert shown is not None, done.stderr
    accepts = (*terms, "--accept-licence", "--json", "--plan-sha256")
    changed = run("request", SLUG, *accepts, "0" * 64, who="careful")
    assert json.loads(changed.stderr)["code"] == "request_invalid"
    assert json.loads(run("request", SLUG, *accepts, shown[1], who="careful").stdout)["state"] == "active"
    assert error["hint"]


@pytest.mark.usefixtures("allowed")
def test_quote_then_run_it(run: Run, alone: Path, marketplace: Marketplace) -> None:
    quoted = run("quote", SLUG, "-", "--rho", _rho(), "--json", stdin=COUNT)
    quote = json.loads(quoted.stdout)
    assert quote["sql"] == COUNT
    done = run("query", "--quote", quote["quote"], "--json", "--receipt", "r.json")
    answer = json.loads(done.stdout)
    assert (answer["charged"], answer["rho_nano"]) == (quote["price"], quote["rho_nano"])
    assert [row[0] for row in answer["rows"]] == ["north", "south", "west"]
    jobs = json.loads(run("jobs", "--json").stdout)
    assert jobs[0]["query"] == answer["query"]
    assert json.loads(run("usage", "--json").stdout)["items"]
    assert json.loads(run("wallet", "show", "--json").stdout)[0]["currency"] == "USD"
    good = run("receipt", "verify", "r.json", "--json")
    assert (good.exit_code, json.loads(good.stdout)["state"]) == (0, "promised")
    marketplace.publish_log()
    assert "in the log" in run("receipt", "save", answer["query"], "r.json").stdout
    assert "is in the log" in run("receipt", "verify", "r.json").stdout
    receipt = json.loads((alone / "r.json").read_text())
    receipt["summary"]["purpose"] = "advertising"
    (alone / "r.json").write_text(json.dumps(receipt))
    assert run("receipt", "verify", "r.json").exit_code == 13
    (alone / "r.json").write_text("not json")
    assert run("receipt", "verify", "r.json").exit_code == 15


def test_a_dataset_is_shown_with_its_profile(run: Run) -> None:
    shown = run("show", SLUG)
    assert "what one unit contributes" in shown.stdout
    assert "Of the patient values in visits, " in " ".join(shown.stdout.split())
    document = json.loads(run("show", SLUG, "--json").stdout)["profile"]
    assert document["rho"] == "0.1"


@pytest.mark.usefixtures("allowed")
def test_the_strategy_can_be_named(run: Run) -> None:
    asked = ("quote", SLUG, COUNT, "--rho", "0.05", "--json", "--strategy")
    plans = {json.loads(run(*asked, name).stdout)["plan_sha256"] for name in ("caps", "clip")}
    assert len(plans) == 2
    assert run(*asked, "luck").exit_code == 3


@pytest.mark.usefixtures("allowed")
def test_a_refinement_is_named(run: Run) -> None:
    counted = "select count(*) as n from visits where minutes < 90"
    first = json.loads(run("query", SLUG, counted, "--rho", "0.08", "--json").stdout)
    quoted = run("quote", SLUG, counted, "--rho", "0.09")
    assert f"{first['query']}, rho 0.08" in " ".join(quoted.stdout.split())
    assert "expected bias" in quoted.stdout
    more = json.loads(run("query", SLUG, counted, "--rho", "0.09", "--json").stdout)
    assert (more["refines"], more["rho_nano"]) == (first["query"], 10_000_000)


@pytest.mark.usefixtures("allowed")
def test_an_answer_in_every_format(run: Run, alone: Path) -> None:
    asked = ("query", SLUG, COUNT, "--rho", _rho())
    first = run(*asked)
    assert "charged" in first.stderr
    assert "[" in first.stdout
    text = run(*asked, "--format", "csv")
    assert "repeated, nothing charged" in text.stderr
    rows = list(csv.reader(io.StringIO(text.stdout)))
    assert rows[0] == ["site", "n"]
    run(*asked, "--format", "arrow", "--out", "a.arrow")
    table = pa.ipc.open_stream((alone / "a.arrow").read_bytes()).read_all()
    assert [[str(value) for value in row.values()] for row in table.to_pylist()] == rows[1:]
    run(*asked, "--format", "csv", "--out", "a.csv")
    assert list(csv.reader(io.StringIO((alone / "a.csv").read_bytes().decode()))) == rows


@pytest.mark.usefixtures("allowed")
def test_exit_codes(run: Run, marketplace: Marketplace) -> None:
    marketplace.admit("broke", Role.BUYER)
    terms = ("--plan", PLAN, "--purpose", "research", "--territory", "US", "--accept-licence")
    assert run("request", SLUG, *terms, who="broke").exit_code == 0
    never_asked = "select count(*) as n from visits where minutes < 80"
    cases = [
        (0, "query", (SLUG, COUNT, "--epsilon", "0.5", "--max-price", "9.00"), "lab"),
        (2, "query", (SLUG, COUNT), "lab"),
        (2, "query", (SLUG,), "lab"),
        (2, "quote", (SLUG, COUNT, "--rho", "minus one"), "lab"),
        (2, "quote", (SLUG, COUNT, "--error", "n"), "lab"),
        (2, "show", ("nobody/nothing",), "lab"),
        (3, "quote", (SLUG, "select * from visits", "--rho", "0.1"), "lab"),
        (3, "jobs", (), "guard"),
        (4, "query", (SLUG, never_asked, "--rho", _rho(), "--max-rho", "0.001"), "lab"),
        (5, "query", (SLUG, never_asked, "--rho", _rho(), "--max-price", "0.01"), "lab"),
        (5, "query", (SLUG, COUNT, "--rho", _rho()), "broke"),
    ]
    for code, command, words, who in cases:
        done = run(command, *words, who=who)
        assert (done.exit_code, command, words) == (code, command, words), done.stderr
        assert "Traceback" not in done.output


def test_refused_sql_is_explained(run: Run, allowed: None) -> None:
    done = run("quote", SLUG, "select patient from visits", "--rho", "0.1")
    assert done.exit_code == 3
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert "[raw_rows, line 1, column" in lines[0]
    assert lines[1].startswith("hint: ")
    assert lines[2].startswith("nearest: SELECT count(DISTINCT patient)")
    assert lines[3].startswith("request: req_")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "Retry", partial(Retry, times=0))
    done = CliRunner().invoke(main, ["whoami", "--url", "http://127.0.0.1:9", "--json"])
    assert done.exit_code == 6
    assert json.loads(done.stderr)["code"] == "connection_failed"


def test_without_configuration_the_way_is_shown() -> None:
    done = CliRunner().invoke(main, ["whoami"])
    assert done.exit_code == 2
    assert "exchange login" in done.stderr


def test_publish_again_and_refused(run: Run, tmp_path: Path) -> None:
    manifest = write_listing(tmp_path / "listing")
    first = json.loads(run("publish", str(manifest), "--json", who="clinic").stdout)
    again = run("publish", str(manifest), who="clinic")
    assert (first["slug"], again.exit_code, "unchanged" in again.stdout) == (SLUG, 0, True)
    manifest.write_text(manifest.read_text().replace("minutes = {", "seconds = {"))
    refused = run("publish", str(manifest), "--json", who="clinic")
    assert refused.exit_code == 3, refused.stderr
    assert json.loads(refused.stderr)["code"].startswith("policy_")
    manifest.write_text("slug = ")
    assert run("publish", str(manifest), who="clinic").exit_code == 2
    assert run("publish", str(tmp_path / "none.toml"), who="clinic").exit_code == 2


def test_a_provider_takes_no_new_buyers_and_takes_them_again(run: Run, tmp_path: Path) -> None:
    assert run("deprecate", SLUG, who="clinic").exit_code == 2, "why is asked for"
    done = run("deprecate", SLUG, "--reason", "A better one is to come.", "--json", who="clinic")
    assert json.loads(done.stdout) == {"dataset": SLUG, "state": "deprecated"}
    assert SLUG not in run("search").stdout
    assert run("publish", str(write_listing(tmp_path / "listing")), who="clinic").exit_code == 0
    assert SLUG in run("search").stdout


def test_a_provider_decides(run: Run, marketplace: Marketplace) -> None:
    marketplace.admit("asker", Role.BUYER)
    terms = ("--plan", "asked", "--purpose", "research", "--territory", "EU", "--accept-licence", "--json")
    asked = json.loads(run("request", SLUG, *terms, who="asker").stdout)
    assert asked["state"] == "open"
    listed = json.loads(run("requests", "list", "--state", "open", "--json", who="clinic").stdout)
    assert [one["request"] for one in listed] == [asked["request"]]
    assert "approved" in run("requests", "approve", asked["request"], who="clinic").stdout
    declined = run("requests", "decline", asked["request"], "--reason", "late", "--json", who="clinic")
    assert declined.exit_code == 3
    assert json.loads(declined.stderr)["code"] == "request_not_open"


def test_officer_verifies_and_exports(run: Run, alone: Path, marketplace: Marketplace) -> None:
    marketplace.publish_log()
    good = run("audit", "verify", "--save-checkpoint", "cp", "--json", who="guard")
    assert (good.exit_code, json.loads(good.stdout)["good"]) == (0, True)
    assert (alone / "cp").read_text().startswith("exchange.local/log\n")
    assert (
        json.loads(run("audit", "search", "--limit", "1", "--json", who="guard").stdout)[0]["kind"]
        == "log.read"
    )
    marketplace.publish_log()
    assert run("audit", "verify", "--checkpoint", "cp", who="guard").exit_code == 0
    forged = (alone / "cp").read_text().split("\n")
    (alone / "cp").write_text("\n".join([forged[0], "1", *forged[2:]]))
    bad = run("audit", "verify", "--checkpoint", "cp", who="guard")
    assert (bad.exit_code, "[13]" in bad.stdout) == (13, True)
    (alone / "cp").write_bytes(b"\xff\xfe")
    for what in ("verify", "spending"):
        assert run("audit", what, "--checkpoint", "cp", who="guard").exit_code == 15
    assert run("audit", "export", "e.jsonl", "--kind", "listing.published", who="guard").exit_code == 0
    assert len((alone / "e.jsonl").read_text().splitlines()) >= 2
    told = run("audit", "export", "e.zip", "--kind", "listing.published", "--json", who="guard")
    assert json.loads(told.stdout)["entries"] == len((alone / "e.jsonl").read_text().splitlines()) - 1
    good = run("audit", "verify", "--evidence", "e.zip", "--json", who="guard")
    assert (good.exit_code, json.loads(good.stdout)["good"]) == (0, True)
    with marketplace.client("guard") as x:
        keys = x.keys()
        assert x.audit.verify_evidence(alone / "e.zip").good
    pinned = ("--log-key", keys.log_key, "--receipt-key", keys.receipt_key)
    assert run("audit", "verify", "--evidence", "e.zip", *pinned).exit_code == 0
    swapped = ("--log-key", keys.log_key, "--receipt-key", keys.log_key)
    assert run("audit", "verify", "--evidence", "e.zip", *swapped).exit_code == 13
    data = bytearray((alone / "e.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (alone / "e.zip").write_bytes(data)
    assert run("audit", "verify", "--evidence", "e.zip", *pinned).exit_code in (11, 15)
    assert run("audit", "export", "e.csv").exit_code != 0
    assert not (alone / "e.csv").exists()


def test_a_buyer_verifies_the_public_log(run: Run) -> None:
    done = run("audit", "verify")
    assert done.exit_code == 0
    assert "role officer" in done.stderr
