"""The main road through the doors that people use, on both databases: list, buy, ask, prove."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import httpx
import pyarrow as pa

from exchange.audit import merkle
from exchange.audit.note import VerifierKey
from exchange.audit.receipts import verify_receipt
from exchange.audit.tiles import Folder
from tests.market import sample
from tests.market.stand import Stand, problem

ARROW = "application/vnd.apache.arrow.stream"


def test_the_road_end_to_end(stand: Stand) -> None:
    quoted = stand.quote(sql=sample.BY_ZONE, rho="0.02")
    assert quoted.status_code == 201, quoted.text
    quote = quoted.json()
    assert quote["price"] == {"amount": "0.45", "currency": "USD", "amount_minor": 45}
    assert (quote["rho"], quote["rho_nano"]) == ("0.02", 20_000_000)
    assert [column["kind"] for column in quote["columns"]] == ["key", "count"]
    assert quote["columns"][1]["half_width"] > 0

    ran = stand.post("buyer", "/v1/queries", {"quote": quote["quote"]}, key="road")
    assert ran.status_code == 200, ran.text
    answer = ran.json()
    assert answer["state"] == "succeeded"
    assert (answer["charged"], answer["rho_nano"]) == (quote["price"], quote["rho_nano"])
    assert [row[0] for row in answer["rows"]] == ["east", "north", "south"]
    exact = sample.RIDES * 0.975 / 3
    for (_, n), (low, high) in zip(answer["rows"], answer["intervals"]["n"], strict=True):
        assert low <= n <= high
        assert abs(n - exact) < 6 * quote["columns"][1]["sigma"], "six sigma: 2e-9 a row"

    _fetch_everywhere(stand, answer)
    _look_at_the_bill(stand, answer)
    _prove(stand, answer)
    assert stand.broken_laws() == []


def _fetch_everywhere(stand: Stand, answer: dict[str, Any]) -> None:
    """Arrow, CSV and JSON of the same stored answer; Arrow's bytes have the digest that the receipt fixes."""
    where = f"/v1/queries/{answer['query']}/result"
    arrow = stand.get("buyer", where)
    assert arrow.headers["Content-Type"] == ARROW
    assert hashlib.sha256(arrow.content).hexdigest() == answer["result_sha256"]
    with pa.ipc.open_stream(arrow.content) as reader:
        table = reader.read_all()
    assert [list(row.values()) for row in table.to_pylist()] == answer["rows"]
    as_csv = stand.get("buyer", where, headers={"Accept": "text/csv"})
    rows = list(csv.reader(io.StringIO(as_csv.text)))
    assert rows == [["zone", "n"], *([zone, str(n)] for zone, n in answer["rows"])]
    as_json = stand.get("buyer", where, headers={"Accept": "application/json"}).json()
    assert as_json["rows"] == answer["rows"]
    shown = stand.get("buyer", f"/v1/queries/{answer['query']}").json()
    assert (shown["state"], shown["result_sha256"]) == ("succeeded", answer["result_sha256"])


def _look_at_the_bill(stand: Stand, answer: dict[str, Any]) -> None:
    price = answer["charged"]["amount_minor"]
    wallet = stand.get("buyer", "/v1/wallet").json()["balances"]
    assert wallet == [
        {"currency": "USD", "available": "99.55", "available_minor": 10_000 - price, "reserved": "0.00"}
    ]
    for who in ("buyer", "provider"):
        usage = stand.get(who, "/v1/usage").json()
        assert [item["query"] for item in usage["items"]] == [answer["query"]]
        assert (usage["totals"], usage["rho_nano"]) == ([answer["charged"]], answer["rho_nano"])
    assert stand.get("other", "/v1/usage").json()["items"] == []
    assert stand.get("rival", "/v1/usage").json()["items"] == []
    assert stand.get("buyer", "/v1/queries").json()["items"][0]["query"] == answer["query"]
    budget = stand.get("other", f"/v1/datasets/{sample.SLUG}").json()["budget"]
    assert budget["rho_nano_spent"] == answer["rho_nano"]
    assert budget["rho_nano_remaining"] == sample.RHO_NANO - answer["rho_nano"]
    assert budget["epsilon_spent"] > 0
    assert stand.allowance() == 1_000_000_000 - answer["rho_nano"]


def _prove(stand: Stand, answer: dict[str, Any]) -> None:
    """A receipt promises, then proves; the officer finds the query, and finding it is logged too."""
    receipt_key = VerifierKey.parse(stand.get(None, "/audit/receipt-key").text)
    where = f"/v1/queries/{answer['query']}"
    keys: dict[str, Any] = {"receipt_keys": [receipt_key], "origin": stand.settings.log_origin}
    promised = stand.get("buyer", f"{where}/receipt").json()
    assert promised == answer["receipt"]
    assert "inclusion" not in promised
    now = stand.clock()
    assert verify_receipt(promised, log_keys=[], now=now, **keys).state == "promised"
    assert verify_receipt(promised, log_keys=[], now=now + timedelta(days=2), **keys).state == "overdue"
    stand.publish_log()
    proved = stand.get("buyer", f"{where}/receipt").json()
    assert {k: v for k, v in proved.items() if k != "inclusion"} == promised
    log_key = VerifierKey.parse(stand.get(None, "/audit/key").text.strip())
    result = stand.get("buyer", f"{where}/result").content
    report = verify_receipt(proved, log_keys=[log_key], now=now, result=result, **keys)
    assert (report.state, report.exit_code, report.findings) == ("included", 0, ())
    assert verify_receipt(proved, log_keys=[log_key], now=now, result=result + b"x", **keys).exit_code == 11

    searched = stand.get("officer", "/v1/audit/entries?kind=query.settled").json()["items"]
    assert [item["query"]["id"] for item in searched] == [answer["query"]]
    entry = searched[0]
    assert (entry["org_name"], entry["money"]["amount_minor"]) == ("acme", "45")
    dossier = stand.get("officer", f"/v1/audit/entries/{entry['id']}").json()["dossier"]
    assert (dossier["sql"], dossier["purpose"], dossier["state"]) == (sample.BY_ZONE, "research", "SETTLED")
    assert dossier["clause"] == "purpose: research"
    proof = stand.get("officer", f"/v1/audit/entries/{entry['id']}/proof").json()
    checkpoint = stand.get(None, "/audit/checkpoint").text
    assert proof["checkpoint"] == checkpoint
    size, root = int(checkpoint.split("\n")[1]), base64.b64decode(checkpoint.split("\n")[2])
    leaf = merkle.leaf_hash(proof["leaf"].encode())
    path = [bytes.fromhex(one) for one in proof["proof"]]
    assert merkle.verify_inclusion(leaf, proof["index"], size, path, root)
    read = [r.document["object"]["type"] for r in stand.entries(kind="log.read")]
    assert read == ["log", "entry", "proof"]
    verified = stand.verify()
    assert (verified.exit_code, verified.findings) == (0, ())


def test_publishing_again_is_no_version_and_a_change_keeps_what_was_spent(stand: Stand) -> None:
    first = stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()
    assert stand.run(rho="0.5").status_code == 200
    spent = stand.budget()["rho_nano_spent"]
    before = stand.books()

    again = stand.draft()
    assert (again.status_code, again.json()["unchanged"]) == (200, True)
    assert (again.json()["version"], again.json()["state"]) == (first["version"], "published")
    published = stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": first["version"]})
    assert published.json()["changed"] is False
    assert stand.books() == before

    changed = stand.publish(files=sample.files(seed=8))
    assert (changed["version_number"], changed["unchanged"]) == (2, False)
    assert changed["dataset"] == first["id"]
    assert stand.budget()["rho_nano_spent"] == spent == 500_000_000
    assert stand.books() == before
    report = {table["table"]: table for table in changed["report"]["tables"]}
    assert report["rides"]["rows"] + report["rides"]["rows_without_unit"] == sample.RIDES
    assert report["rides"]["rows_without_unit"] > 0
    assert "no privacy unit" in report["rides"]["warnings"][0]
    assert report["zones"]["warnings"] == []

    anew = stand.run(rho="0.5").json()
    assert anew["repeated"] is False, "another version is another question"
    assert stand.budget()["rho_nano_spent"] == 2 * spent
    assert stand.broken_laws() == []


def test_a_tighter_policy_gives_budget_up_and_never_below_what_is_spent(stand: Stand) -> None:
    assert stand.run(rho="0.5").status_code == 200
    stand.publish(manifest=sample.manifest(policy=sample.policy(rho=1.0)))
    assert stand.budget()["rho_nano_granted"] == 1_000_000_000
    assert stand.budget()["rho_nano_remaining"] == 500_000_000
    drafted = stand.draft(
        manifest=sample.manifest(policy=sample.policy(rho=0.4, max_rho_per_query=0.4))
    ).json()
    before = stand.books()
    refused = stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": drafted["version"]})
    problem(refused, 409, "policy_below_spent")
    assert stand.books() == before
    assert stand.broken_laws() == []


def test_the_same_question_has_the_same_bytes_and_is_charged_once(stand: Stand) -> None:
    first = stand.run(key="one").json()
    books = stand.books()
    again = stand.run(key="two").json()
    spelled = stand.run(sql="SELECT   COUNT(*)   AS n FROM rides -- again", key="three").json()
    for repeat in (again, spelled):
        assert repeat["repeated"] is True
        assert (repeat["charged"]["amount_minor"], repeat["rho_nano"]) == (0, 0)
        assert repeat["result_sha256"] == first["result_sha256"]
        assert (repeat["rows"], repeat["receipt"]) == (first["rows"], first["receipt"])
    assert stand.books() == books
    other = stand.run("other").json()
    assert (other["repeated"], other["charged"]) == (False, first["charged"]), "another buyer pays"
    assert len(stand.entries(kind="query.repeated")) == 2
    assert stand.broken_laws() == []


def test_a_lost_reply_is_given_again_word_for_word_even_after_the_quote_expired(stand: Stand) -> None:
    quote = stand.quote().json()["quote"]
    first = stand.post("buyer", "/v1/queries", {"quote": quote}, key="lost")
    assert first.status_code == 200
    books, entries = stand.books(), len(stand.entries())
    stand.clock.advance(minutes=16)
    again = stand.post("buyer", "/v1/queries", {"quote": quote}, key="lost")
    assert again.json() == first.json()
    assert (stand.books(), len(stand.entries())) == (books, entries)
    problem(stand.post("buyer", "/v1/queries", {"quote": quote}, key="fresh"), 410, "quote_expired")
    assert stand.broken_laws() == []


def test_one_quote_under_two_keys_is_charged_once(stand: Stand) -> None:
    quote = stand.quote().json()["quote"]
    answers = [stand.post("buyer", "/v1/queries", {"quote": quote}, key=key).json() for key in "ab"]
    assert [answer["repeated"] for answer in answers] == [False, True]
    assert answers[0]["rows"] == answers[1]["rows"]
    assert stand.wallet().posted == 10_000 - answers[0]["charged"]["amount_minor"]


def _patiently(ask: Any) -> httpx.Response:
    """Repeat a call while its answer is being made, as the SDK does, for at most half a minute."""
    until = time.monotonic() + 30
    while True:
        reply: httpx.Response = ask()
        if reply.status_code != 409 or reply.json()["code"] != "in_progress" or time.monotonic() > until:
            return reply
        assert reply.headers["Retry-After"] == "1"
        time.sleep(0.02)


def test_many_calls_under_one_key_are_one_purchase(stand: Stand) -> None:
    start = Barrier(6)

    def ask(_: int) -> httpx.Response:
        start.wait()
        return _patiently(lambda: stand.run(key="parallel"))

    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(ask, range(6)))
    assert [reply.status_code for reply in replies] == [200] * 6
    bodies = {json.dumps(reply.json(), sort_keys=True) for reply in replies}
    assert len(bodies) == 1
    assert stand.wallet().posted == 10_000 - replies[0].json()["charged"]["amount_minor"]
    assert stand.states() == ["SETTLED"]
    assert stand.broken_laws() == []


def test_two_buyers_race_for_the_last_rho(stand: Stand) -> None:
    """The domain has rho for one more query: one answer, one refusal, nothing overspent."""
    stand.publish(manifest=sample.manifest(policy=sample.policy(rho=1.8)))
    assert stand.run(rho="0.8").status_code == 200
    assert stand.run("other", rho="0.8").status_code == 200
    start = Barrier(2)
    before = {who: stand.wallet(who).posted for who in ("buyer", "other")}

    def ask(who: str) -> httpx.Response:
        start.wait()
        return stand.run(who, sample.BY_ZONE, rho="0.2")

    with ThreadPoolExecutor(2) as pool:
        replies = dict(zip(before, pool.map(ask, before), strict=True))
    winner = next(who for who in before if replies[who].status_code == 200)
    loser = next(who for who in before if who != winner)
    told = problem(replies[loser], 409, "budget_exhausted")
    assert told["remaining"] == 0
    assert stand.budget()["rho_nano_remaining"] == 0
    assert stand.wallet(loser).posted == before[loser]
    assert stand.wallet(winner).posted == before[winner] - replies[winner].json()["charged"]["amount_minor"]
    assert stand.broken_laws() == []


def test_formulas_are_defused_in_csv_and_nowhere_else(stand: Stand) -> None:
    """A public table is answered exactly and free; its names look like formulas to a spreadsheet."""
    answer = stand.run(sql=sample.PUBLIC, rho="0.01").json()
    assert (answer["charged"]["amount_minor"], answer["rho_nano"]) == (0, 0)
    assert answer["rows"] == sorted([list(zone) for zone in sample.ZONES])
    where = f"/v1/queries/{answer['query']}/result"
    text = stand.get("buyer", where, headers={"Accept": "text/csv"})
    assert text.headers["Content-Type"] == "text/csv; charset=utf-8"
    names = [row[1] for row in csv.reader(io.StringIO(text.text))]
    assert names == ["name", "'+East, or so", "North Shore", "'=SUM(A1:A9)"]
    assert stand.get("buyer", where, headers={"Accept": "application/json"}).json()["rows"] == answer["rows"]
    assert stand.broken_laws() == []


def test_a_request_waits_for_its_provider(stand: Stand) -> None:
    asked = stand.request("stranger", "by-request", purpose="journalism", territory="US").json()
    assert (asked["state"], asked["grant"]) == ("open", None)
    problem(stand.quote("stranger"), 403, "grant_missing")
    inbox = stand.get("provider", "/v1/requests?state=open").json()["items"]
    assert [item["request"] for item in inbox] == [asked["request"]]
    approved = stand.post("provider", f"/v1/requests/{asked['request']}/approve").json()
    assert (approved["state"], approved["grant"]["state"]) == ("approved", "active")
    assert stand.get("stranger", f"/v1/requests/{asked['request']}").json()["grant"] == approved["grant"]
    assert stand.quote("stranger").status_code == 201
    problem(stand.post("provider", f"/v1/requests/{asked['request']}/approve"), 409, "request_not_open")

    second = stand.request("stranger", "by-request").json()
    declined = stand.post("provider", f"/v1/requests/{second['request']}/decline", {"reason": "Too broad."})
    assert (declined.json()["state"], declined.json()["reason"]) == ("declined", "Too broad.")
    kinds = [r.document["kind"] for r in stand.entries() if r.document["kind"].startswith("access.")][-4:]
    assert kinds == ["access.approved", "access.refused", "access.requested", "access.declined"]
    assert stand.broken_laws() == []


def test_asking_twice_for_access_is_one_grant(stand: Stand) -> None:
    first = stand.request("stranger").json()
    again = stand.request("stranger").json()
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert again["grant"]["grant"] == first["grant"]["grant"]
    assert len(stand.get("stranger", "/v1/grants").json()["items"]) == 1


def test_the_plan_that_is_named_is_the_plan_that_is_used(stand: Stand) -> None:
    assert stand.request(plan="taste").status_code == 201
    by_plan = {g["plan"]: g["grant"] for g in stand.get("buyer", "/v1/grants").json()["items"]}
    assert stand.quote(plan="pay").json()["grant"] == by_plan["pay"]
    assert stand.quote(plan="taste").json()["grant"] == by_plan["taste"]
    assert stand.quote(grant=by_plan["pay"]).json()["grant"] == by_plan["pay"]
    problem(stand.quote(plan="by-request"), 403, "grant_missing")


def test_the_published_log_is_served_as_it_lies_on_disk(stand: Stand) -> None:
    problem(stand.get(None, "/audit/checkpoint"), 404, "not_found")
    assert stand.run().status_code == 200
    stand.publish_log()
    folder = stand.settings.log_path
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for path in (path for path in paths if not path.startswith(".")):
        assert stand.get(None, f"/audit/{path}").content == (folder / path).read_bytes(), path
    assert Folder(folder).read("checkpoint") is not None
    problem(stand.get(None, "/audit/tile/../../keys.env"), 404, "not_found")
    problem(stand.get(None, "/audit/tile/%2e%2e/%2e%2e/keys.env"), 404, "not_found")
