"""The ledger as Beancount text: a program that is not ours adds it up, and finds what was altered."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from beancount.core import data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from settlement import ledger
from settlement.ledger import Leg, beancount, chart, entries
from settlement.money import Money

STRANGE = 'dom/"quoted"\\ \n名前:x'


def write(session: Session) -> str:
    return "\n".join(beancount.export(session)) + "\n"


def errors(source: str) -> list[str]:
    _, found, _ = loader.load_string(source)
    return [str(error.message) for error in found]


def fill(session: Session, now: datetime) -> None:
    """Three currencies, a domain, reservations that ended in each way and an open one, a reversal."""
    for currency in ("USD", "JPY", "KWD"):
        chart.open_buyer(session, "org_b", currency)
        chart.open_provider(session, "org-p", currency)
        amount = entries.wallet_credited("org_b", Money(1_000_001, currency))
        post(session, f"top-{currency}", amount, now)
    chart.open_domain(session, "nyc/people")
    chart.open_domain_buyer(session, "nyc/people", "org_b")
    chart.open_grant(session, "grt", "nyc/people")
    post(session, "granted", entries.budget_granted("nyc/people", rho_nano=10**9, delta_pico=10**6), now)
    post(session, "issued", entries.allowance_issued("grt", "nyc/people", rho_nano=10**8), now)
    legs = entries.privacy_spent(
        buyer="org_b", domain="nyc/people", grant="grt", rho_nano=5_000_001, delta_pico=7
    ) + entries.charge(buyer="org_b", provider="org-p", price=Money(333, "USD"), fee_basis_points=1000)
    for name, phases in (("s", "post"), ("v", "void"), ("open", None), ("f", "forfeit")):
        reserve(session, name, legs, now + timedelta(days=1))
        if phases is None:
            continue
        resolved: Any = entries.forfeited(session, f"r-{name}") if phases == "forfeit" else phases
        ledger.resolve(
            session,
            pending_journal=f"r-{name}",
            journal=f"e-{name}",
            kind="query_ended",
            business_key=f"e:{name}",
            actor="t",
            now=now + timedelta(days=2),
            phases=resolved,
        )
    ledger.reverse(
        session,
        reverses="e-s",
        journal="back",
        kind="refund",
        business_key="back",
        actor='an "actor" \\ \n of ours',
        now=now + timedelta(days=3),
    )


def post(session: Session, name: str, legs: list[Leg], now: datetime) -> None:
    ledger.post(session, journal=name, kind="posted", business_key=name, actor="t", now=now, legs=legs)


def reserve(session: Session, name: str, legs: list[Leg], now: datetime) -> None:
    ledger.reserve(
        session, journal=f"r-{name}", kind="reserved", business_key=f"r:{name}", actor="t", now=now, legs=legs
    )


def test_an_independent_program_agrees_with_the_trial_balance(sessions: Any, now: datetime) -> None:
    with sessions() as session:
        fill(session, now)
        source, trial = write(session), ledger.trial_balance(session)
    found, problems, _ = loader.load_string(source)
    assert problems == []
    exponents = {"USD": 2, "JPY": 0, "KWD": 3}
    totals: dict[str, Decimal] = {}
    names = {e.account: e.meta["ledger-account"] for e in found if isinstance(e, data.Open)}
    for entry in found:
        for posting in entry.postings if isinstance(entry, data.Transaction) else ():
            if not posting.account.startswith("Equity:Held"):
                key = names[posting.account]
                totals[key] = totals.get(key, Decimal(0)) + posting.units.number
    for line in trial.lines:
        exponent = exponents.get(line.unit) or (9 if line.unit.startswith("rho:") else 12)
        exponent = 0 if line.unit == "JPY" else exponent
        assert totals[line.account] == Decimal(line.debits - line.credits).scaleb(-exponent), line
    assert {line.account for line in trial.lines} == set(totals)


def test_the_same_ledger_makes_the_same_bytes_and_reversals_are_linked(sessions: Any, now: datetime) -> None:
    with sessions() as session:
        fill(session, now)
        first, second = write(session), write(session)
    assert first == second
    assert re.search(r'\* "refund" \^back \^e-s$', first, re.MULTILINE)
    assert re.search(r'\* "query_ended" \^e-s \^r-s$', first, re.MULTILINE)
    assert re.search(r'! "query_ended" \^e-v \^r-v #nothing-posted$', first, re.MULTILINE)
    assert 'actor: "an \\"actor\\" \\\\   of ours"' in first


def test_bean_check_itself_passes_the_file(sessions: Any, now: datetime, tmp_path: Path) -> None:
    with sessions() as session:
        fill(session, now)
        path = tmp_path / "books.beancount"
        path.write_text(write(session), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("bean-check")), str(path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    path.write_text(path.read_text().replace("10000.01 USD", "10000.02 USD", 1), encoding="utf-8")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_every_altered_amount_of_the_text_is_found(sessions: Any, now: datetime) -> None:
    with sessions() as session:
        fill(session, now)
        lines = write(session).split("\n")
    posted = [n for n, line in enumerate(lines) if re.match(r"  \S+  -?[0-9.]+ \S+$", line)]
    assert len(posted) > 40
    for n in posted:
        changed = list(lines)
        digits = re.search(r"-?[0-9.]+(?= \S+$)", lines[n])
        assert digits is not None
        altered = digits[0][:-1] + str((int(digits[0][-1]) + 1) % 10)
        changed[n] = lines[n][: digits.start()] + altered + lines[n][digits.end() :]
        assert errors("\n".join(changed)), f"line {n} was altered and nobody saw it: {changed[n]}"


def test_an_entry_left_out_is_found(sessions: Any, now: datetime) -> None:
    with sessions() as session:
        fill(session, now)
        source = write(session)
    without = re.sub(r'\n\d{4}-\d\d-\d\d \* "refund".*?\n\n', "\n\n", source, count=1, flags=re.DOTALL)
    assert without != source
    assert errors(without)


def test_a_balance_altered_in_the_database_is_found(sessions: Any, now: datetime) -> None:
    with sessions() as session:
        fill(session, now)
        wallet = chart.buyer_prepaid("org_b", "USD")
        session.execute(
            text("UPDATE account SET debits_posted = debits_posted + 1 WHERE id = :id"), {"id": wallet}
        )
        assert any("Balance failed" in error for error in errors(write(session)))


@given(st.lists(st.text(min_size=1, max_size=30).filter(lambda s: "\x00" not in s), max_size=8, unique=True))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_of_any_text_stay_apart(names: list[str]) -> None:
    commodities = beancount._commodities([f"rho:{name}" for name in [*names, STRANGE, "a b", "a-b", "A b"]])
    assert len(set(commodities.values())) == len(commodities)
    for name in commodities.values():
        assert re.fullmatch(r"[A-Z][A-Z0-9'._-]{0,22}[A-Z0-9]", name), name


@pytest.mark.parametrize("domain", ["a b", "名前", "x" * 150, "-", "9", 'q"\\'])
def test_domains_of_any_name_load(sessions: Any, now: datetime, domain: str) -> None:
    with sessions() as session:
        for number, name in enumerate((domain, f"{domain}-", "a-b")):
            chart.open_domain(session, name)
            post(session, f"g{number}", entries.budget_granted(name, rho_nano=1, delta_pico=2), now)
        assert errors(write(session)) == []
