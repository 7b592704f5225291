"""Terms as ODRL and back: what is written is read, and nothing else is."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from settlement import licences
from settlement.documents import sha256_hex
from settlement.errors import LicenceInvalid, LicenceRefused
from settlement.licences import LicenceTerms

Sessions = Callable[[], AbstractContextManager[Session]]
TERMS: dict[str, Any] = {
    "purposes": ["research", "public-statistics"],
    "territories": ["US", "DE-BE"],
    "fields_of_use": ["public-health"],
    "assignees": ["acme", "globex"],
    "roles": ["data-steward"],
    "valid_from": "2026-01-01",
    "valid_until": "2027-01-01",
    "query_count": 3,
    "max_rho_per_query": "0.5",
    "max_rho_total": "1.5",
    "columns": ["flights.origin", "airlines.*"],
    "joins": "public",
    "publication": "permitted",
    "retention_days": 365,
    "attribution": "Bureau of Flights",
}
UID = "urn:example:licence:1"

_NAME = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
_NAMES = st.one_of(st.just(["*"]), st.lists(_NAME, min_size=1, max_size=4))
_RHO = st.integers(1, 10**12).map(lambda nano: f"{nano / 10**9:.9f}".rstrip("0").rstrip("."))
_MORE = {
    "fields_of_use": _NAMES,
    "assignees": _NAMES,
    "roles": _NAMES,
    "valid_from": st.dates(date(2020, 1, 1), date(2029, 1, 1)).map(date.isoformat),
    "valid_until": st.dates(date(2030, 1, 1), date(2040, 1, 1)).map(date.isoformat),
    "query_count": st.integers(1, 2**31 - 1),
    "max_rho_total": _RHO,
    "columns": st.lists(st.sampled_from(["a.b", "a.*", "T1.Zürich", "x.a b"]), min_size=1, max_size=4),
    "joins": st.sampled_from(["none", "public", "any"]),
    "publication": st.sampled_from(["permitted", "forbidden"]),
    "retention_days": st.integers(1, 2**31 - 1),
    "attribution": st.sampled_from(["Say whom you asked.", "感谢", '"quoted" \\ {}']),
}
documents = st.fixed_dictionaries(
    {"purposes": _NAMES, "territories": st.sampled_from([["*"], ["US"], ["DE-BE", "KR"]])}, optional=_MORE
)


@given(documents)
def test_what_is_written_as_odrl_is_read_back_whole(document: dict[str, Any]) -> None:
    terms = LicenceTerms.from_document(document)
    assert licences.from_odrl(json.loads(json.dumps(licences.to_odrl(terms, UID)))) == terms
    assert LicenceTerms.from_document(terms.document) == terms


def policy() -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(licences.to_odrl(LicenceTerms.from_document(TERMS), UID))
    return made


def constraint(policy: dict[str, Any], left: str) -> dict[str, Any]:
    found = [one for one in policy["permission"][0]["constraint"] if one["leftOperand"] == left]
    return dict_of(found[0])


def dict_of(value: Any) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    made = policy()
    change(made)
    return made


REFUSED: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("another profile", lambda p: p.update(profile="http://example.org/p"), "odrl.profile"),
    ("no profile", lambda p: p.pop("profile"), "odrl.profile"),
    ("another type", lambda p: p.update({"@type": "Agreement"}), "odrl.@type"),
    ("another context", lambda p: p.update({"@context": "http://example.org/c"}), "odrl.@context"),
    ("an unknown member", lambda p: p.update(inheritFrom="urn:x"), "odrl.inheritFrom"),
    ("a conflict strategy", lambda p: p.update(conflict="perm"), "odrl.conflict"),
    ("no permission", lambda p: p.update(permission=[]), "odrl.permission"),
    (
        "two permissions",
        lambda p: p["permission"].append(copy.deepcopy(p["permission"][0])),
        "odrl.permission[2]",
    ),
    ("an unknown action", lambda p: p["permission"][0].update(action="use"), "odrl.permission[0].action"),
    (
        "an assignee beside the constraints",
        lambda p: p["permission"][0].update(assignee="urn:x"),
        "odrl.permission[0].assignee",
    ),
    (
        "an unknown left operand",
        lambda p: constraint(p, "purpose").update(leftOperand="language"),
        "odrl.permission[0].constraint[0].leftOperand",
    ),
    (
        "a left operand that is no text",
        lambda p: constraint(p, "purpose").update(leftOperand=["purpose"]),
        "odrl.permission[0].constraint[0].leftOperand",
    ),
    (
        "an unknown operator",
        lambda p: constraint(p, "purpose").update(operator="isNoneOf"),
        "odrl.permission[0].constraint[0].operator",
    ),
    (
        "a right operand of another type",
        lambda p: dict_of(constraint(p, "count")["rightOperand"]).update({"@type": "xsd:string"}),
        "odrl.permission[0].constraint[7].rightOperand",
    ),
    (
        "a right operand that is a number",
        lambda p: constraint(p, "count").update(rightOperand=3),
        "odrl.permission[0].constraint[7].rightOperand",
    ),
    (
        "a count that is no number",
        lambda p: dict_of(constraint(p, "count")["rightOperand"]).update({"@value": "٣"}),
        "odrl.permission[0].constraint[7].rightOperand.@value",
    ),
    (
        "a reference in place of an operand",
        lambda p: constraint(p, "purpose").update(rightOperandReference="urn:x"),
        "odrl.permission[0].constraint[0].rightOperandReference",
    ),
    (
        "a logical constraint",
        lambda p: p["permission"][0].update(constraint=[{"or": p["permission"][0]["constraint"]}]),
        "odrl.permission[0].constraint[0].or",
    ),
    (
        "one operand twice",
        lambda p: p["permission"][0]["constraint"].append(constraint(p, "purpose")),
        "odrl.permission[0].constraint[12]",
    ),
    (
        "an unknown duty",
        lambda p: p["permission"][0].update(duty=[{"action": "compensate", "pdx:attribution": "x"}]),
        "odrl.permission[0].duty[0].action",
    ),
    (
        "permission and prohibition of the same",
        lambda p: p.update(prohibition=[{"action": "distribute"}]),
        "odrl.prohibition[0]",
    ),
    (
        "an unknown prohibition",
        lambda p: p.update(prohibition=[{"action": "sell"}]),
        "odrl.prohibition[0].action",
    ),
    (
        "a remedy",
        lambda p: p.update(prohibition=[{"action": "distribute", "remedy": []}]),
        "odrl.prohibition[0].remedy",
    ),
    (
        "another time to delete",
        lambda p: p["obligation"][0]["constraint"][0]["rightOperand"].update({"@value": "P1Y"}),
        "odrl.obligation[0].constraint",
    ),
    (
        "a value that is no purpose",
        lambda p: constraint(p, "purpose").update(rightOperand=["Research!"]),
        "terms.purposes[0]",
    ),
]


@pytest.mark.parametrize(("change", "path"), [case[1:] for case in REFUSED], ids=[one[0] for one in REFUSED])
def test_what_the_profile_does_not_have_is_refused(change: Callable[[Any], object], path: str) -> None:
    assert licences.from_odrl(policy()) == LicenceTerms.from_document(TERMS)
    with pytest.raises(LicenceInvalid) as refused:
        licences.from_odrl(changed(change))
    assert refused.value.path == path


@pytest.mark.parametrize("broken", [{}, {"@type": 1}, {"permission": 5}, {"profile": []}])
def test_a_document_that_is_no_policy_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(LicenceInvalid):
        licences.from_odrl(broken)


@pytest.mark.parametrize(
    ("change", "path"),
    [(case[1], case[2]) for case in REFUSED[-8:]],
    ids=[one[0] for one in REFUSED[-8:]],
)
def test_a_stored_policy_that_cannot_be_read_denies(
    sessions: Sessions, engine: Engine, now: datetime, change: Callable[[Any], object], path: str
) -> None:
    denied_when_stored(sessions, engine, now, json.dumps(changed(change)), path)


def test_a_stored_policy_that_says_something_else_denies(
    sessions: Sessions, engine: Engine, now: datetime
) -> None:
    other = LicenceTerms.from_document({**TERMS, "query_count": 4})
    denied_when_stored(sessions, engine, now, json.dumps(licences.to_odrl(other, UID)), "odrl")


def denied_when_stored(sessions: Sessions, engine: Engine, now: datetime, odrl: str, clause: str) -> None:
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("DROP TRIGGER licence_append_only ON licence"))
        else:
            connection.execute(text("DROP TRIGGER licence_append_only_update"))
    with sessions() as session:
        licences.publish_licence(
            session, id="lic_1", org="org_p", title="T", text="Ask.", terms=TERMS, now=now, editor="a"
        )
        licences.accept_licence(
            session,
            id="acc_1",
            licence_id="lic_1",
            org="org_b",
            org_name="acme",
            actor="act_1",
            role="data-steward",
            purposes=["research"],
            territory="US",
            shown_sha256=sha256_hex("Ask."),
            now=now,
        )
        use: dict[str, Any] = {"org": "org_b", "purpose": "research", "territory": "US", "now": now}
        assert licences.permit(session, acceptance_id="acc_1", **use)
        session.execute(text("UPDATE licence SET odrl = :odrl"), {"odrl": odrl})
        with pytest.raises(LicenceRefused) as refused:
            licences.permit(session, acceptance_id="acc_1", **use)
        assert (refused.value.code, refused.value.clause) == ("licence_refused", clause)
        assert refused.value.licence_id == "lic_1"


def test_a_policy_can_be_published_in_place_of_terms() -> None:
    title, words, terms = licences.written_out("T", "Ask.", {"odrl": policy()})
    assert (title, words) == ("T", "Ask.")
    assert LicenceTerms.from_document(terms) == LicenceTerms.from_document(TERMS)
    for given_terms in ({"odrl": policy(), "purposes": ["research"]}, {"odrl": "policy.json"}):
        with pytest.raises(LicenceInvalid):
            licences.written_out("T", "Ask.", given_terms)


def test_a_template_stands_where_nothing_is_written() -> None:
    title, words, terms = licences.written_out("", "", {"template": "research", "query_count": 10})
    template = licences.find_template("research")
    assert (title, words) == (template.title, template.text)
    assert terms == LicenceTerms.from_document({**template.terms, "query_count": 10}).document
    assert licences.written_out("Mine", "My words.", {"template": "research"})[:2] == ("Mine", "My words.")
    with pytest.raises(LicenceInvalid, match="did you mean research"):
        licences.written_out("", "", {"template": "reserch"})
    with pytest.raises(LicenceInvalid, match="text"):
        licences.written_out("T", " ", {"purposes": ["*"], "territories": ["*"]})


def test_there_is_a_template_for_each_usual_case_and_each_can_be_published() -> None:
    assert set(licences.templates()) == {
        "research",
        "commercial-internal",
        "public-statistics",
        "permissive-data",
        "computational-use",
    }
    for template in licences.templates().values():
        terms = LicenceTerms.from_document(template.terms)
        assert licences.from_odrl(licences.to_odrl(terms, UID)) == terms
        assert len(template.text) > 400
        assert template.about
