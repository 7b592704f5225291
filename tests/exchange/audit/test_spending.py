"""Adding up each domain's rho from leaves: what was taken out, or moved without saying so, is named."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from exchange.audit.report import ALTERED, GAP
from exchange.audit.spending import KINDS, Spending


def lines(count: int = 12, domain: str = "people:town") -> list[dict[str, Any]]:
    """Documents as leaves give them: reservations between, which spend nothing yet."""
    made, spent = [], 0
    for number in range(count):
        rho = 10 + secrets.randbelow(90)
        made.append(line(len(made), "query.reserved", rho, spent, domain))
        spent += rho
        made.append(line(len(made), KINDS[number % len(KINDS)], rho, spent, domain))
        made.append({"seq": len(made), "id": f"ent_{len(made)}", "kind": "log.read", "privacy": None})
    return made


def line(seq: int, kind: str, rho: int, after: int, domain: str) -> dict[str, Any]:
    said = {"domain": domain, "rho_nano": str(rho), "spent_after": str(after)}
    return {"seq": seq, "id": f"ent_{seq}", "kind": kind, "privacy": said}


def found(documents: list[dict[str, Any]]) -> tuple[Spending, list[int]]:
    followed = Spending()
    return followed, [one.exit_code for document in documents for one in followed.add(document)]


def test_a_domain_is_the_sum_of_its_entries() -> None:
    documents = lines()
    followed, codes = found(documents)
    (town,) = followed.domains()
    spending = [one for one in documents if one["kind"] in KINDS]
    assert codes == []
    assert town.rho_nano == sum(int(one["privacy"]["rho_nano"]) for one in spending)
    assert (town.entries, town.last_seq) == (len(spending), spending[-1]["seq"])
    assert followed.of("people:nowhere").rho_nano == 0


def test_domains_are_accounts_of_their_own() -> None:
    one, other = lines(domain="people:one"), lines(domain="people:other")
    followed, codes = found([document for pair in zip(one, other, strict=True) for document in pair])
    assert codes == []
    assert [spent.domain for spent in followed.domains()] == ["people:one", "people:other"]


@pytest.mark.parametrize("taken", range(11))
def test_a_line_that_was_taken_out_is_missed(taken: int) -> None:
    documents = lines()
    spends = [place for place, one in enumerate(documents) if one["kind"] in KINDS]
    del documents[spends[taken]]
    assert found(documents)[1] == [GAP]


def test_the_last_line_is_missed_by_the_one_that_follows() -> None:
    documents = lines()
    cut = [one for one in documents if one["seq"] != documents[-2]["seq"]]
    assert found(cut)[1] == [], "what nothing follows is for the tree to miss"


@pytest.mark.parametrize("place", range(1, 30, 3))
@pytest.mark.parametrize("member", ["rho_nano", "spent_after"])
def test_a_line_that_says_another_number_does_not_add_up(place: int, member: str) -> None:
    documents = lines()
    said = documents[place]["privacy"]
    documents[place]["privacy"] = {**said, member: str(int(said[member]) + 1)}
    assert found(documents)[1], (place, member)


def test_what_does_not_spend_moves_no_account() -> None:
    documents = lines()
    documents[3]["privacy"]["spent_after"] = str(int(documents[3]["privacy"]["spent_after"]) - 1)
    assert ALTERED in found(documents)[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("member", ["domain", "rho_nano", "spent_after", None])
def test_what_spends_says_of_what_how_much_and_how_far(kind: str, member: str | None) -> None:
    """Else it would be left out of the sum, and an entry after it would begin anew."""
    silent = line(0, kind, 10**9, 10**9, "people:town")
    silent["privacy"] = {**silent["privacy"], member: None} if member else None
    assert found([silent])[1] == [ALTERED]


@pytest.mark.parametrize(("rho", "after"), [(-(10**9), 0), (-(10**9) - 7, -7), (0, 10**9 - 1)])
def test_nothing_that_was_spent_comes_back(rho: int, after: int) -> None:
    spent = line(0, "query.settled", 10**9, 10**9, "people:town")
    assert found([spent, line(1, "query.settled", rho, after, "people:town")])[1] == [ALTERED]


def test_an_account_only_grows_over_entries_that_cannot_be_read() -> None:
    followed = Spending()
    assert not followed.add(line(0, "query.settled", 9, 9, "people:town"))
    followed.skip()
    assert not followed.add(line(2, "query.settled", 3, 20, "people:town")), "8 were spent between them"
    followed.skip()
    (wrong,) = followed.add(line(4, "query.settled", 1, 15, "people:town"))
    assert wrong.exit_code == ALTERED
