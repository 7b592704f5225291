"""Versions of a licence: what changed, whether it matters, who approves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.orm import Session

from settlement import licences
from settlement.errors import LicenceEditedByApprover, LicenceMissing, LicenceNotApproved
from settlement.licences import LicenceTerms
from tests.settlement.test_licence_policies import TERMS

Sessions = Callable[[], AbstractContextManager[Session]]
ABSENT = object()


def changed(**changes: Any) -> LicenceTerms:
    return LicenceTerms.from_document({k: v for k, v in {**TERMS, **changes}.items() if v is not ABSENT})


@pytest.mark.parametrize(
    ("changes", "material", "says"),
    [
        ({"purposes": ["research"]}, True, "Purposes: no longer public-statistics."),
        (
            {"purposes": ["research", "public-statistics", "teaching"]},
            False,
            "Purposes: now also teaching.",
        ),
        ({"purposes": ["*"]}, False, "Purposes: was research, public-statistics, now any."),
        (
            {"purposes": ["teaching", "research"]},
            True,
            "Purposes: no longer public-statistics; now also teaching.",
        ),
        ({"purposes": ["public-statistics", "research"]}, False, "Purposes: in another order."),
        ({"territories": ["US", "DE"]}, False, "Territories: no longer DE-BE; now also DE."),
        ({"territories": ["US-NY", "DE-BE"]}, True, "Territories: no longer US; now also US-NY."),
        ({"fields_of_use": ABSENT}, False, "now not limited."),
        ({"assignees": ["acme"]}, True, "no longer globex."),
        ({"roles": ["data-steward", "statistician"]}, False, "now also statistician."),
        ({"valid_from": "2025-01-01"}, False, "Begins:"),
        ({"valid_from": "2026-02-01"}, True, "Begins:"),
        ({"valid_until": "2026-12-31"}, True, "Ends:"),
        ({"valid_until": ABSENT}, False, "now not before it is withdrawn."),
        ({"query_count": 2}, True, "was 3, now 2."),
        ({"query_count": 4}, False, "was 3, now 4."),
        ({"max_rho_per_query": "0.4"}, True, "was 0.5, now 0.4."),
        ({"max_rho_total": ABSENT}, False, "was 1.5, now not limited."),
        ({"columns": ["flights.*", "airlines.*"]}, False, "Columns"),
        ({"columns": ["flights.origin"]}, True, "no longer airlines.*."),
        ({"columns": ["flights.origin", "airlines.name"]}, True, "Columns"),
        ({"joins": "none"}, True, "Joins: was public, now none."),
        ({"joins": ABSENT}, False, "Joins: was public, now all that can be answered."),
        ({"publication": "forbidden"}, True, "was permitted, now forbidden."),
        ({"publication": ABSENT}, True, "was permitted, now not said."),
        ({"retention_days": 30}, True, "was 365 days, now 30 days."),
        ({"retention_days": 400}, False, "was 365 days, now 400 days."),
        ({"attribution": "Somebody else"}, True, "Attribution"),
        ({"attribution": ABSENT}, False, "now none asked."),
    ],
)
def test_a_change_is_said_in_words_and_matters_where_it_takes_or_asks(
    changes: dict[str, Any], material: bool, says: str
) -> None:
    (found,) = licences.compare_terms(changed(), changed(**changes))
    assert found.material is material
    assert says in found.says
    (back,) = licences.compare_terms(changed(**changes), changed())
    assert back.material is not material or says.startswith("Purposes: ") or "Attribution" in says


@pytest.mark.parametrize("term", [name for name in TERMS if name not in ("purposes", "territories")])
def test_a_limit_that_was_not_there_is_material_and_its_end_is_not(term: str) -> None:
    (added,) = licences.compare_terms(changed(**{term: ABSENT}), changed())
    (dropped,) = licences.compare_terms(changed(), changed(**{term: ABSENT}))
    gives = term == "publication"  # to permit says more than to say nothing
    assert (added.material, dropped.material) == ((False, True) if gives else (True, False))


def test_terms_are_said_in_words_one_sentence_each() -> None:
    said = licences.in_words(changed())
    assert len(said) == len(TERMS)
    assert "Rho of all queries of one organisation, at most: 1.5." in said
    cited = licences.in_words(changed(attribution="Cite us with every answer."))
    assert [one for one in cited if one.endswith("..")] == [], "one full stop is enough"
    assert "Cite us with every answer." in " ".join(cited)
    (change,) = licences.compare_terms(changed(), changed(attribution="Cite us with every answer."))
    assert not change.says.endswith("..")
    bare = licences.in_words(LicenceTerms.from_document({"purposes": ["*"], "territories": ["*"]}))
    assert "Purposes: any." in bare
    assert "Queries of one organisation: not limited." in bare


def publish(session: Session, now: datetime, **changes: Any) -> licences.Licence:
    facts: dict[str, Any] = {"id": "lic_1", "org": "org_p", "title": "T", "text": "Ask.\n", "terms": TERMS}
    return licences.publish_licence(session, **{**facts, "editor": "tok_a", **changes}, now=now)


def test_a_text_matters_by_its_words(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        first = publish(session, now)
        spaced = publish(session, now, id="lic_2", text="Ask.  \n\n")
        reworded = publish(session, now, id="lic_3", text="Ask less.")
        renamed = publish(session, now, id="lic_4", title="Another")
        kept = [licences.find_licence(session, one.id) for one in (first, spaced, reworded, renamed)]
    assert [(one.title, one.version) for one in kept] == [("T", 1), ("T", 2), ("T", 3), ("Another", 1)]
    assert not licences.is_material(first, first)
    assert not licences.is_material(first, spaced)
    assert licences.is_material(first, reworded)
    assert not licences.is_material(first, renamed)
    assert [change.term for change in licences.compare(reworded, renamed)] == ["text", "title"]


def test_who_wrote_a_version_does_not_approve_it(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        publish(session, now)
        with pytest.raises(LicenceNotApproved):
            licences.require_approved(session, "lic_1")
        with pytest.raises(LicenceEditedByApprover):
            licences.approve_licence(session, "lic_1", org="org_p", actor="tok_a", now=now)
        with pytest.raises(LicenceMissing):
            licences.approve_licence(session, "lic_1", org="org_q", actor="tok_c", now=now)
        assert licences.approve_licence(session, "lic_1", org="org_p", actor="tok_b", now=now)
        assert not licences.approve_licence(session, "lic_1", org=None, actor="tok_o", now=now)
        licences.require_approved(session, "lic_1")


def test_an_approval_is_of_one_version_and_its_giver_may_not_edit_on(
    sessions: Sessions, now: datetime
) -> None:
    with sessions() as session:
        publish(session, now)
        licences.approve_licence(session, "lic_1", org="org_p", actor="tok_b", now=now)
        publish(session, now, id="lic_2", text="Ask more.", editor="tok_b")
        with pytest.raises(LicenceNotApproved):
            licences.require_approved(session, "lic_2")
        with pytest.raises(LicenceEditedByApprover) as refused:
            licences.approve_licence(session, "lic_2", org="org_p", actor="tok_b", now=now)
        assert refused.value.licence_id == "lic_2"
        publish(session, now, id="lic_3", text="Ask least.", editor=None)
        with pytest.raises(LicenceEditedByApprover):  # nobody knows who wrote it
            licences.approve_licence(session, "lic_3", org="org_p", actor="tok_b", now=now)
