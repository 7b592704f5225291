"""A month of the books: answers are bought, invoiced, stated and exported, and everything adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

from exchange.identity import SYSTEM
from exchange.operations import billing, bookkeeping, invoicing
from settlement.documents import canonical, sha256_hex
from tests.market import sample
from tests.market.stand import Stand, problem

NAMES = {
    "operator": {"legal_name": "Datenbörse GmbH", "address": "Straße 1\n10115 Berlin", "country": "DE"},
    "buyer": {"legal_name": "株式会社データ取引所", "address": "東京都千代田区\n100-0005", "country": "JP"},
    "provider": {"legal_name": "서울시 데이터 센터", "address": "서울특별시 중구", "country": "KR"},
}
QUESTIONS = [sample.COUNT, "SELECT count(*) AS n FROM rides WHERE minutes > 10"]


def name_all(stand: Stand) -> None:
    for who, profile in NAMES.items():
        assert stand.post(who, "/v1/billing-profile", profile).status_code == 200


def buy(stand: Stand) -> list[dict[str, Any]]:
    answers = [stand.run(sql=sql, rho=rho) for sql, rho in zip(QUESTIONS, ("0.01", "0.013"), strict=True)]
    assert [answer.status_code for answer in answers] == [200] * len(answers), answers[-1].text
    return [answer.json() for answer in answers]


def text_of(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    return "\n".join(page.get_textpage().get_text_range() for page in document)


def test_what_was_paid_is_invoiced_stated_and_exported_to_the_cent(stand: Stand, tmp_path: Path) -> None:
    name_all(stand)
    answers = buy(stand)
    paid = sum(Decimal(answer["charged"]["amount"]) for answer in answers)
    assert paid > 0
    billing.set_tax(stand.market, org="acme", label="VAT", rate="19", place="DE")

    # the buyer's documents
    made = stand.post("buyer", "/v1/invoices", {}).json()["items"]
    assert [one["number"] for one in made] == ["RC-2026-000001", "INV-2026-000001"] or made
    receipt, invoice = made[0], made[-1]
    assert (receipt["kind"], invoice["kind"]) == ("receipt", "invoice")
    assert Decimal(invoice["gross"]["amount"]) == paid
    shown = stand.get("buyer", f"/v1/invoices/{invoice['number']}").json()
    document = shown["document"]
    assert sha256_hex(canonical(document)) == shown["sha256"]
    assert [line["query"] for line in document["lines"]] == [answer["query"] for answer in answers]
    assert Decimal(document["totals"]["net"]) + Decimal(document["totals"]["tax"]) == paid

    # each line is the receipt of its answer
    for line, answer in zip(document["lines"], answers, strict=True):
        told = stand.get("buyer", f"/v1/queries/{line['query']}/receipt").json()["summary"]
        assert Decimal(told["amount_minor"]) == Decimal(line["gross"]) * 100
        assert Decimal(answer["charged"]["amount"]) == Decimal(line["gross"])

    # the provider's month
    (month,) = stand.get("provider", "/v1/statements").json()["items"]
    stated = stand.get("provider", f"/v1/statements/{month['statement']}").json()["document"]
    assert Decimal(stated["totals"]["gross"]) == paid
    assert sum(Decimal(line["gross"]) for line in stated["lines"]) == paid
    moved = sum(Decimal(line["net"]) for line in stated["lines"])
    assert Decimal(stated["opening"]["total"]) + moved == Decimal(stated["closing"]["total"])
    assert [one["dataset"] for one in stated["listings"]] == [sample.SLUG]
    assert stated["provider"]["legal_name"] == NAMES["provider"]["legal_name"]

    # the ledger from outside
    trial = stand.get("officer", "/v1/ledger/trial-balance").json()
    assert trial["balanced"]
    payable = next(
        line
        for line in trial["accounts"]
        if line["account"].startswith("provider:") and line["unit"] == "USD"
    )
    assert payable["balance"] == stated["closing"]["total"]
    exported = tmp_path / "books.beancount"
    exported.write_bytes(stand.get("operator", "/v1/ledger/export").content)
    command = [str(Path(sys.executable).with_name("bean-check")), str(exported)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert stand.broken_laws() == []


def test_pages_show_chinese_korean_and_japanese_as_text_and_are_the_same_twice(
    sqlite_stand: Stand,
) -> None:
    stand = sqlite_stand
    name_all(stand)
    buy(stand)
    made = stand.post("buyer", "/v1/invoices", {}).json()["items"]
    as_pdf = {"Accept": "application/pdf"}
    for one in made:
        first, second = (
            stand.get("buyer", f"/v1/invoices/{one['invoice']}", headers=as_pdf) for _ in range(2)
        )
        assert first.headers["Content-Type"] == "application/pdf"
        assert first.content == second.content
        text = text_of(first.content)
        assert NAMES["buyer"]["legal_name"] in text
        assert "Datenbörse GmbH" in text
        assert one["number"] in text
        assert one["gross"]["amount"] in text
        assert one["sha256"] in text
        assert "Page 1 of 1" in text
        assert len(first.content) < 60_000, "only the characters in use are embedded"
    (month,) = stand.get("provider", "/v1/statements").json()["items"]
    stated = stand.get("provider", f"/v1/statements/{month['statement']}", headers=as_pdf)
    assert "서울시 데이터 센터" in text_of(stated.content)
    assert month["closing"] in text_of(stated.content)


def test_others_find_nothing_and_nobody_is_billed_without_a_name(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    buy(stand)
    problem(stand.post("buyer", "/v1/invoices", {}), 409, "billing_profile_missing")
    name_all(stand)
    made = stand.post("buyer", "/v1/invoices", {}).json()["items"]
    problem(stand.get("other", f"/v1/invoices/{made[0]['invoice']}"), 404, "invoice_missing")
    assert stand.get("other", "/v1/invoices").json()["items"] == []
    assert stand.post("buyer", "/v1/invoices", {}).json()["items"] == []
    mine = stand.get("rival", "/v1/statements").json()["items"]
    assert [one["provider"] for one in mine] in ([], ["harbour"])
    month = f"{stand.clock():%Y-%m}-USD"
    problem(stand.get("rival", f"/v1/statements/{month}?org=city"), 404, "statement_missing")
    for wrong in ("2026-13-USD", "2026-11", "x", "2999-01-USD", f"{stand.clock():%Y-%m}-EUR"):
        problem(stand.get("provider", f"/v1/statements/{wrong}"), 404, "statement_missing")
    wallet = f"buyer:{stand.orgs['buyer']}:prepaid:USD"
    problem(stand.get("other", "/v1/ledger/statement", params={"account": wallet}), 404, "not_found")
    own = stand.get("buyer", "/v1/ledger/trial-balance").json()
    assert {line["account"].split(":")[1] for line in own["accounts"]} == {stand.orgs["buyer"]}


def test_the_worker_bills_the_month_that_is_over_once(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    buy(stand)
    assert invoicing.issue_month(stand.market)["issued"] == []
    stand.clock.advance(days=32)
    waiting = invoicing.issue_month(stand.market)
    assert stand.orgs["buyer"] in waiting["waiting"]
    assert waiting["issued"] == []
    name_all(stand)
    numbers = invoicing.issue_month(stand.market)["issued"]
    assert any(number.startswith("INV-") for number in numbers)
    assert invoicing.issue_month(stand.market)["issued"] == []
    assert stand.broken_laws() == []


def test_a_list_of_statements_says_what_each_of_them_says(stand: Stand) -> None:
    """Also of a month in which nothing moved."""
    buy(stand)
    for days in (64, 1):
        stand.clock.advance(days=days)
        assert stand.run(rho=f"0.02{days}").status_code == 200
    listed = stand.get("provider", "/v1/statements").json()["items"]
    assert len(listed) >= 3
    for one in listed:
        whole = stand.get("provider", f"/v1/statements/{one['statement']}").json()
        assert {name: whole[name] for name in one} == one
        assert (whole["document"]["opening"]["total"], whole["document"]["closing"]["total"]) == (
            one["opening"],
            one["closing"],
        )
    assert [one["opening"] for one in listed[:-1]] == [one["closing"] for one in listed[1:]]
    assert listed[-1]["opening"] == "0.00"
    assert any(one["opening"] == one["closing"] for one in listed)


def test_an_account_statement_runs_to_the_wallet(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    buy(stand)
    wallet = f"buyer:{stand.orgs['buyer']}:prepaid:USD"
    told = stand.get("buyer", "/v1/ledger/statement", params={"account": wallet}).json()
    assert Decimal(told["closing"]) * 100 == stand.wallet().posted
    assert sum(Decimal(line["amount"]) for line in told["lines"]) == Decimal(told["closing"])
    later = f"{told['lines'][1]['recorded_at']}"
    part = stand.get("buyer", "/v1/ledger/statement", params={"account": wallet, "since": later}).json()
    assert part["opening"] == told["lines"][0]["balance"]
    assert part["lines"] == told["lines"][1:]
    for odd in (
        "yesterday",
        "2026-13-01",
        "0001-01-01T00:00:00+14:00",
    ):  # the last is before all times in UTC
        doors = [
            stand.get("buyer", "/v1/ledger/trial-balance", params={"until": odd}),
            stand.get("buyer", "/v1/ledger/statement", params={"account": wallet, "since": odd}),
            stand.get("officer", "/v1/audit/entries", params={"since": odd}),
            stand.request("buyer", "by-request", until=odd),
        ]
        for reply in doors:
            assert "ISO 8601" in problem(reply, 422, "request_invalid")["detail"]


def test_a_balance_that_was_altered_is_found_and_rebuilt(sqlite_stand: Stand) -> None:
    from sqlalchemy import text

    stand = sqlite_stand
    assert bookkeeping.rebuild(stand.market, check=True)["differing"] == []
    with stand.market.store.engine.begin() as connection:
        connection.execute(
            text("UPDATE account SET credits_posted = credits_posted + 5 WHERE kind = 'buyer_receivable'")
        )
    found = bookkeeping.rebuild(stand.market, check=True)
    assert found["differing"]
    assert not found["corrected"]
    assert bookkeeping.rebuild(stand.market, check=False)["corrected"]
    assert bookkeeping.rebuild(stand.market, check=True)["differing"] == []
    assert stand.broken_laws() == []


@pytest.mark.parametrize("rate", ["-1", "101", "19.005", "x", ""])
def test_a_rate_that_cannot_be_is_refused(sqlite_stand: Stand, rate: str) -> None:
    from settlement.errors import BillingInvalid

    with pytest.raises(BillingInvalid):
        billing.set_tax(sqlite_stand.market, org="acme", label="VAT", rate=rate, place="DE")
    assert SYSTEM.role == "system"


def test_an_operator_issues_for_one_organisation_or_all(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    name_all(stand)
    assert stand.post("other", "/v1/billing-profile", NAMES["buyer"]).status_code == 200
    buy(stand)
    first = stand.post("operator", "/v1/invoices", {"org": "acme"}).json()["items"]
    assert {one["org"] for one in first} == {stand.orgs["buyer"]}
    problem(stand.post("buyer", "/v1/invoices", {"org": "globex"}), 422, "request_invalid")
    rest = stand.post("operator", "/v1/invoices", {}).json()["items"]
    assert stand.orgs["buyer"] not in {one["org"] for one in rest}
    numbers = [one["number"] for one in stand.get("officer", "/v1/invoices").json()["items"]]
    assert len(set(numbers)) == len(numbers) == len(first) + len(rest)
    assert json.dumps(numbers)
