from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import rfc8785
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from settlement import licences
from settlement.documents import sha256_hex
from settlement.errors import (
    LicenceExpired,
    LicenceInvalid,
    LicenceMissing,
    LicenceNotAccepted,
    LicenceRefused,
    LicenceWithdrawn,
    PurposeNotAllowed,
    QuotaExceeded,
    RhoNotAllowed,
    TerritoryNotAllowed,
)
from settlement.licences import Acceptance, LicenceTerms

Sessions = Callable[[], AbstractContextManager[Session]]
TERMS: dict[str, Any] = {
    "purposes": ["research", "public-statistics"],
    "territories": ["US", "DE-BE"],
    "valid_from": "2026-01-01",
    "valid_until": "2027-01-01",
    "query_count": 3,
    "max_rho_per_query": "0.5",
    "publication": "permitted",
    "retention_days": 365,
    "attribution": "Bureau of Flights",
}
TEXT = "You may ask, and say whom you asked.\n"


def publish(session: Session, now: datetime, **changes: Any) -> licences.Licence:
    facts: dict[str, Any] = {"id": "lic_1", "org": "org_p", "title": "Research", "text": TEXT, "terms": TERMS}
    return licences.publish_licence(session, **{**facts, **changes}, now=now)


def accept(session: Session, now: datetime, **changes: Any) -> Acceptance:
    facts: dict[str, Any] = {
        "id": "acc_1",
        "licence_id": "lic_1",
        "org": "org_b",
        "actor": "act_1",
        "role": "buyer",
        "purposes": ["research"],
        "territory": "US",
        "shown_sha256": sha256_hex(TEXT),
    }
    return licences.accept_licence(session, **{**facts, **changes}, now=now)


def permit(session: Session, now: datetime, **changes: Any) -> str:
    facts: dict[str, Any] = {
        "acceptance_id": "acc_1",
        "org": "org_b",
        "purpose": "research",
        "territory": "US",
    }
    return licences.permit(session, **{**facts, **changes}, now=now)


def test_an_accepted_licence_names_the_clause_that_allows_a_use(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        publish(session, now)
        accept(session, now)
        assert permit(session, now, queries_so_far=2, rho_nano=5 * 10**8) == "purpose: research"


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (PurposeNotAllowed, {"purpose": "advertising"}),
        (PurposeNotAllowed, {"purpose": "public-statistics"}),  # licensed, but not accepted
        (TerritoryNotAllowed, {"territory": "CN"}),
        (TerritoryNotAllowed, {"territory": "DE-BE"}),  # licensed, but not accepted
        (QuotaExceeded, {"queries_so_far": 3}),
        (RhoNotAllowed, {"rho_nano": 5 * 10**8 + 1}),
        (LicenceNotAccepted, {"acceptance_id": "acc_2"}),
        (LicenceNotAccepted, {"org": "org_other"}),
    ],
)
def test_each_cause_of_refusal_has_its_own_code(
    sessions: Sessions, now: datetime, error: type[LicenceRefused], changes: dict[str, Any]
) -> None:
    with sessions() as session:
        publish(session, now)
        accept(session, now)
        with pytest.raises(error) as refused:
            permit(session, now, **changes)
        assert type(refused.value) is error
        assert refused.value.clause


@pytest.mark.parametrize(("moment", "allowed"), [("2026-01-01", True), ("2026-12-31T23:59:59.999999", True)])
def test_the_term_includes_its_first_moment_and_excludes_its_end(moment: str, allowed: bool) -> None:
    terms = LicenceTerms.from_document(TERMS)
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    step = timedelta(microseconds=1)
    accepted = Acceptance("a", "l", "o", "x", "buyer", ("research",), "US", "", "", "")
    use: dict[str, Any] = {"purpose": "research", "territory": "US"}
    assert licences.evaluate(terms, accepted, now=at, **use)
    outside = at - step if moment == "2026-01-01" else at + step
    with pytest.raises(LicenceExpired):
        licences.evaluate(terms, accepted, now=outside, **use)


def test_a_use_without_acceptance_is_refused(now: datetime) -> None:
    with pytest.raises(LicenceNotAccepted):
        licences.evaluate(
            LicenceTerms.from_document(TERMS), None, purpose="research", territory="US", now=now
        )


def test_withdrawal_stops_use_at_once_and_is_the_provider_s(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        publish(session, now)
        accept(session, now)
        with pytest.raises(LicenceMissing):
            licences.withdraw_licence(session, "lic_1", org="org_b", actor="a", reason="mine now", now=now)
        assert permit(session, now)
        for _ in range(2):
            licences.withdraw_licence(session, "lic_1", org="org_p", actor="a", reason="replaced", now=now)
        with pytest.raises(LicenceWithdrawn):
            permit(session, now)
        with pytest.raises(LicenceWithdrawn):
            accept(session, now, id="acc_2")
        assert licences.find_licence(session, "lic_1").withdrawn_at is not None


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (LicenceNotAccepted, {"shown_sha256": "0" * 64}),
        (PurposeNotAllowed, {"purposes": ["research", "advertising"]}),
        (PurposeNotAllowed, {"purposes": []}),
        (PurposeNotAllowed, {"purposes": ["*"]}),
        (TerritoryNotAllowed, {"territory": "CN"}),
        (TerritoryNotAllowed, {"territory": "*"}),
        (LicenceMissing, {"licence_id": "lic_9"}),
    ],
)
def test_only_what_the_licence_allows_can_be_accepted(
    sessions: Sessions, now: datetime, error: type[LicenceRefused], changes: dict[str, Any]
) -> None:
    with sessions() as session:
        publish(session, now)
        with pytest.raises(error):
            accept(session, now, **changes)
        assert licences.acceptances_of(session, org="org_b", licence_id="lic_1") == []


def test_any_means_any_that_is_named(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        publish(session, now, terms={"purposes": ["*"], "territories": ["*"]})
        accept(session, now, purposes=["teaching"], territory="KR-11")
        assert permit(session, now, purpose="teaching", territory="KR-11") == "purpose: teaching"


def test_a_country_covers_its_parts(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        publish(session, now)
        accept(session, now, territory="US-NY")
        assert permit(session, now, territory="US-NY")
        with pytest.raises(TerritoryNotAllowed):
            accept(session, now, id="acc_2", territory="DE")


def test_documents_are_hashed_over_their_stored_bytes(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        published = publish(session, now)
        accepted = accept(session, now)
        assert published.text_sha256 == sha256_hex(TEXT)
        assert published.odrl_sha256 == sha256_hex(published.odrl)
        assert rfc8785.dumps(json.loads(published.odrl)).decode() == published.odrl
        assert licences.find_acceptance(session, "acc_1", org="org_b") == accepted
        assert licences.acceptances_of(session, org="org_b", licence_id="lic_1") == [accepted]
        assert licences.check_documents(session) == []


def test_two_acceptances_that_differ_anywhere_have_different_digests(
    sessions: Sessions, now: datetime
) -> None:
    with sessions() as session:
        publish(session, now)
        digests = {
            accept(session, now).digest,
            accept(session, now, id="acc_2").digest,
            accept(session, now, id="acc_3", purposes=["public-statistics"]).digest,
            accept(session, now, id="acc_4", actor="act_2").digest,
        }
        assert len(digests) == 4


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE licence SET text = 'anything goes'",
        "DELETE FROM licence",
        "UPDATE acceptance SET territory = 'CN'",
        "DELETE FROM acceptance",
    ],
)
def test_what_was_agreed_cannot_change(
    sessions: Sessions, engine: Engine, now: datetime, change: str
) -> None:
    with sessions() as session:
        publish(session, now)
        accept(session, now)
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE licence SET text = 'anything goes'", "licence lic_1: its text was changed"),
        ("UPDATE licence SET odrl = '{}'", "licence lic_1: its odrl was changed"),
        ("UPDATE acceptance SET territory = 'CN'", "acceptance acc_1: it was changed"),
        ("UPDATE acceptance SET shown_sha256 = 'x'", "acceptance acc_1: what was shown"),
    ],
)
def test_an_insider_s_change_is_found(
    sessions: Sessions, engine: Engine, now: datetime, change: str, says: str
) -> None:
    without_triggers(engine)
    with sessions() as session:
        publish(session, now)
        accept(session, now)
        session.execute(text(change))
        assert any(finding.startswith(says) for finding in licences.check_documents(session))


def test_a_stored_term_that_cannot_be_read_denies(sessions: Sessions, engine: Engine, now: datetime) -> None:
    without_triggers(engine)
    with sessions() as session:
        publish(session, now)
        accept(session, now)
        newer = json.dumps({**TERMS, "joins": ["public"]})
        session.execute(text("UPDATE licence SET terms = :terms"), {"terms": newer})
        with pytest.raises(LicenceRefused) as refused:
            permit(session, now)
        assert refused.value.code == "licence_refused"


def test_versions_count_up_and_stay(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        assert publish(session, now).version == 1
        assert publish(session, now, id="lic_2", text="Another text.").version == 2
        assert publish(session, now, id="lic_3", title="Commercial").version == 1
        assert licences.find_licence(session, "lic_1").text == TEXT


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"purpose": ["research"]}, "terms.purpose", "did you mean purposes?"),
        ({"resale": False}, "terms.resale", "unknown"),
        ({"purposes": None}, "terms.purposes", "missing"),
        ({"territories": None}, "terms.territories", "missing"),
        ({"purposes": []}, "terms.purposes", "list"),
        ({"purposes": "research"}, "terms.purposes", "list"),
        ({"purposes": ["Research!"]}, "terms.purposes[0]", "research"),
        ({"territories": ["US", "usa"]}, "terms.territories[1]", "US"),
        ({"valid_until": "2025-12-31"}, "terms.valid_until", "before it begins"),
        ({"valid_until": "soon"}, "terms.valid_until", "ISO 8601"),
        ({"valid_from": 5}, "terms.valid_from", "ISO 8601"),
        ({"query_count": 0}, "terms.query_count", "whole"),
        ({"query_count": True}, "terms.query_count", "whole"),
        ({"query_count": 1.5}, "terms.query_count", "whole"),
        ({"max_rho_per_query": "-1"}, "terms.max_rho_per_query", "rho"),
        ({"max_rho_per_query": float("nan")}, "terms.max_rho_per_query", "rho"),
        ({"publication": "permited"}, "terms.publication", "did you mean permitted?"),
        ({"publication": ["permitted"]}, "terms.publication", "unknown"),
        ({"retention_days": -1}, "terms.retention_days", "whole"),
        ({"attribution": "a\nb"}, "terms.attribution", "line"),
    ],
)
def test_unknown_and_broken_terms_are_refused_at_publishing(
    changes: dict[str, Any], path: str, says: str
) -> None:
    document = {k: v for k, v in {**TERMS, **changes}.items() if v is not None}
    with pytest.raises(LicenceInvalid) as refused:
        LicenceTerms.from_document(document)
    assert refused.value.path == path
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "changes", [{"title": ""}, {"title": "a\nb"}, {"text": " "}, {"text": "a\0"}, {"text": "\ud800"}]
)
def test_a_licence_needs_a_readable_text_and_title(
    sessions: Sessions, now: datetime, changes: dict[str, Any]
) -> None:
    with sessions() as session, pytest.raises(LicenceInvalid):
        publish(session, now, **changes)


def test_terms_are_read_back_as_they_were_written() -> None:
    terms = LicenceTerms.from_document({**TERMS, "valid_until": date(2027, 6, 1), "max_rho_per_query": 0.25})
    assert terms.valid_until == datetime(2027, 6, 1, tzinfo=UTC)
    assert terms.max_rho_per_query_nano == 250_000_000
    assert LicenceTerms.from_document(json.loads(json.dumps(terms.document))) == terms


def test_the_odrl_form_says_every_term() -> None:
    policy = licences.to_odrl(LicenceTerms.from_document(TERMS), "urn:example:licence:1")
    query, publication = policy["permission"]
    assert {c["leftOperand"] for c in query["constraint"]} == {
        "purpose",
        "spatial",
        "dateTime",
        "count",
        "pdx:rhoPerQuery",
    }
    assert query["duty"][0]["action"] == "attribute"
    assert publication["action"] == "distribute"
    assert policy["obligation"][0]["constraint"][0]["rightOperand"]["@value"] == "P365D"
    forbidden = licences.to_odrl(LicenceTerms.from_document({**TERMS, "publication": "forbidden"}), "urn:x")
    assert forbidden["prohibition"][0]["action"] == "distribute"


def without_triggers(engine: Engine) -> None:
    """What an insider with the database's own key would do first."""
    with engine.begin() as connection:
        for table in ("licence", "acceptance"):
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"DROP TRIGGER {table}_append_only ON {table}"))
            else:
                connection.execute(text(f"DROP TRIGGER {table}_append_only_update"))


def test_an_acceptance_from_before_it_named_exact_versions_keeps_its_digest(
    sessions: Sessions, now: datetime
) -> None:
    old = {
        "id": "acc_old",
        "licence_id": "lic_1",
        "org": "org_b",
        "actor": "act_1",
        "role": "buyer",
        "purposes": ["research"],
        "territory": "US",
        "shown_sha256": sha256_hex(TEXT),
        "accepted_at": now.isoformat(timespec="microseconds"),
    }
    digest = sha256_hex(rfc8785.dumps(old).decode())
    with sessions() as session:
        publish(session, now)
        row = {**old, "purposes": '["research"]', "digest": digest}
        session.execute(licences.acceptance.insert().values(row))
        assert permit(session, now, acceptance_id="acc_old") == "purpose: research"
        assert licences.check_documents(session) == []


def test_a_refusal_says_which_licence_and_acceptance_were_judged(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        publish(session, now)
        accept(session, now)
        with pytest.raises(PurposeNotAllowed) as refused:
            permit(session, now, purpose="advertising")
        assert (refused.value.licence_id, refused.value.acceptance_id) == ("lic_1", "acc_1")
        digest, policy = licences.record_refusal(
            session, refused.value, entry_id="evt_1", org="org_b", now=now
        )
        assert policy == licences.find_licence(session, "lic_1").odrl_sha256
        kept = licences.refusal_of(session, "evt_1")
        assert kept is not None
        assert (kept["clause"], kept["digest"]) == ("purposes: research, public-statistics", digest)
        assert licences.refusal_of(session, "evt_2") is None
        assert licences.check_documents(session) == []
