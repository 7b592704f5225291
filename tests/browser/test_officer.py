"""What a compliance officer does, in a real browser: read a case, stop what runs, take proof away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from exchange.audit import single_file
from exchange.operations import watching
from tests.browser.people import Person
from tests.browser.screens import Album
from tests.journeys.running import ended, endless
from tests.market import sample
from tests.market.stand import Stand, problem

pytestmark = pytest.mark.browser

Come = Callable[[str, str], Person]


def test_a_case_from_the_log_to_the_domain(stand: Stand, come: Come, album: Album) -> None:
    for day, sql in enumerate((sample.COUNT, sample.BY_ZONE, sample.MINUTES)):
        assert stand.run(sql=sql, key=f"question {day}").status_code == 200
        stand.clock.advance(days=day + 1)
    stand.publish_log()
    ada = come("officer", "ada@cnil.example")
    page = ada.page
    ada.follow("Audit log")
    album.take(page, "officer-log")
    page.get_by_label("Kind").fill("query.settled")
    page.get_by_label("Dataset").fill(sample.SLUG)
    page.get_by_role("button", name="Search").click()
    links = page.get_by_role("link", name="query.settled")
    expect(links).to_have_count(3)
    page.get_by_placeholder("Name of this search").fill("Answers on rides")
    page.get_by_role("button", name="Save this search").click()
    page.get_by_text("Saved searches (1)").click()
    expect(page.get_by_role("link", name="Answers on rides")).to_be_visible()
    links.first.click()
    album.take(page, "officer-entry")
    page.get_by_role("link", name="Everything about this query").click()

    asked = ada.told("What was asked, and why it was allowed")
    assert any("research" in text for text in asked.values()), asked
    assert ada.told("The grant")["For"].startswith("research, in EU")
    spent = ada.told("Privacy before and after")
    assert spent["Spent before"].startswith("rho 0.02 of")
    assert spent["By this query"].startswith("rho 0.01")
    assert spent["Spent after"].startswith("rho 0.03")
    expect(page.get_by_role("region", name="The books")).to_contain_text("USD")
    expect(page.get_by_role("region", name="Receipt and proof")).to_contain_text(
        "its receipt proves inclusion"
    )
    album.take(page, "officer-dossier")

    ada.follow("Audit log")
    page.get_by_role("link", name=sample.DOMAIN, exact=True).click()
    lifetime = ada.told("Lifetime budget over all buyers")
    assert lifetime["Rho spent"].startswith("0.03 of")
    expect(page.get_by_text("Rho 0.03 of what was spent is not in the days")).to_be_visible()
    watching.watch(stand.market)
    page.reload()
    lifetime = ada.told("Lifetime budget over all buyers")
    assert lifetime["Forecast"].startswith("It ends on"), lifetime
    days = page.get_by_role("img", name="Rho spent by day").locator("rect")
    expect(days).to_have_count(3)
    assert all(box and box["height"] > 0 for box in (one.bounding_box() for one in days.all()))
    expect(page.get_by_role("img", name="Rho spent by organisation").locator("rect")).to_have_count(1)
    expect(page.get_by_role("rowheader", name="acme")).to_be_visible()
    album.take(page, "officer-domain")
    assert ada.errors == []


def test_a_freeze_stops_a_running_job_and_two_persons_lift_it(
    stand: Stand, come: Come, album: Album, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bo = come("officer", "ada@cnil.example"), come("officer", "bo@cnil.example")
    page = ada.page
    ada.follow("Freezes")
    expect(page.get_by_text("Nothing was frozen so far.")).to_be_visible()
    with monkeypatch.context() as patch:
        begun = endless(patch)
        job = stand.post(
            "buyer", "/v1/queries", stand.question(), key="job", headers={"Prefer": "respond-async"}
        )
        assert begun.wait(30)
        page.get_by_label("Its name or id").fill(sample.SLUG)
        page.get_by_label("Reason", exact=True).fill("A person was recognised in an answer")
        page.get_by_role("button", name="Freeze").click()
        row = page.get_by_role("row").filter(has_text=sample.SLUG)
        assert row.get_by_role("cell").nth(4).inner_text() == "1", "queries ended"
        assert stand.market.engine.turns.settled(10), "its worker is free long before its time limit"
    done = ended(stand, job.headers["Location"])
    assert (done["state"], done["failure"]) == ("cancelled", "frozen")
    problem(stand.run(), 403, "frozen")
    album.take(page, "officer-freezes")

    row.get_by_label("Why it is to be lifted").fill("It was settled with the provider")
    row.get_by_role("button", name="Ask a second officer").click()
    expect(page.get_by_text("You asked for this: another person approves it.")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    album.take(page, "officer-approval-own")

    stand.clock.advance(minutes=6)
    bo.follow("Approvals")
    album.take(bo.page, "officer-approvals")
    bo.page.get_by_role("row").filter(has_text="open").get_by_role("link").click()
    expect(bo.page.get_by_role("region", name="What is approved, to the letter")).to_contain_text(
        "settled with"
    )
    lifted = bo.told("What is lifted")
    assert (lifted["On"], lifted["Because"]) == (
        f"dataset {sample.SLUG}",
        "A person was recognised in an answer",
    )
    album.take(bo.page, "officer-approval")
    bo.page.get_by_role("button", name="Approve").click()
    bo.confirm()
    bo.page.get_by_role("button", name="Approve").click()
    expect(bo.page.get_by_text("approved", exact=False).first).to_be_visible()
    ada.follow("Freezes")
    expect(row).to_contain_text("lifted")
    assert stand.run(key="after").status_code == 200
    assert stand.broken_laws() == []
    assert [*ada.errors, *bo.errors] == []


def test_evidence_is_taken_away_and_checked_elsewhere(
    stand: Stand, come: Come, album: Album, tmp_path: Path
) -> None:
    assert stand.run().status_code == 200
    stand.publish_log()
    ada = come("officer", "ada@cnil.example")
    page = ada.page
    ada.follow("Audit log")
    page.get_by_label("Kind").fill("query.settled")
    page.get_by_role("button", name="Search").click()
    verify_elsewhere(stand, export_evidence(page, tmp_path))
    assert ada.errors == []


def export_evidence(page: Page, folder: Path) -> Path:
    """Take away what was searched for, as a regulator is given it."""
    page.get_by_label("Export these entries as").select_option(label="Evidence (zip), for a regulator")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Export").click()
    evidence = folder / taken.value.suggested_filename
    taken.value.save_as(evidence)
    return evidence


def verify_elsewhere(stand: Stand, evidence: Path) -> None:
    """Check it by the single file alone, as somebody does who does not trust us."""
    verifier = evidence.with_name("verify.py")
    verifier.write_text(single_file.source())
    command: list[str | Path] = [sys.executable, "-I", verifier, "evidence", evidence]
    command += ["--key", (stand.settings.log_path / "key").read_text().strip()]
    command += ["--receipt-key", receipt_key(stand)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def receipt_key(stand: Stand) -> str:
    """The key of receipts as everybody is told it."""
    return stand.get(None, "/audit/receipt-key").text.strip()
