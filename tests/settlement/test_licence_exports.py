"""Licences for other systems: ODRL by its vocabulary, and Dataspace Protocol offers and agreements."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft201909Validator

from settlement import licences
from settlement.licences import Acceptance, Licence, LicenceTerms, dataspace
from tests.settlement import dataspace_rules
from tests.settlement.test_licence_policies import TERMS, UID

#: Terms of the ODRL 2.2 vocabulary (W3C Recommendation, 15 February 2018) that our policies may use.
ODRL_ACTIONS = {"attribute", "delete", "distribute"}
ODRL_OPERANDS = {"count", "dateTime", "elapsedTime", "industry", "purpose", "recipient", "spatial"}
ODRL_OPERATORS = {"eq", "gt", "gteq", "hasPart", "isA", "isAllOf", "isAnyOf", "isNoneOf", "isPartOf", "lt"}
ODRL_OPERATORS |= {"lteq", "neq"}
CASES = {
    "every term": TERMS,
    "nothing limited": {"purposes": ["*"], "territories": ["*"]},
    "publication forbidden": {**TERMS, "publication": "forbidden"},
    **{name: template.terms for name, template in licences.templates().items()},
}


def licence(terms: dict[str, Any]) -> Licence:
    read = LicenceTerms.from_document(terms)
    return Licence("lic_1", "org_p", "T", 1, "Ask.", "", read, "", "", "", None, None, None)


def accepted() -> Acceptance:
    moment = datetime(2026, 11, 22, 9, 0, 0, 123, tzinfo=UTC).isoformat(timespec="microseconds")
    return Acceptance("acc_1", "lic_1", "org_b", "a", "buyer", ("research",), "US", "", moment, "")


def offer(terms: dict[str, Any]) -> dict[str, Any]:
    return dataspace.offer(licence(terms), target="https://x.test/v1/datasets/ds_1", assigner="urn:p")


def agreement(terms: dict[str, Any]) -> dict[str, Any]:
    return dataspace.agreement(
        licence(terms),
        accepted(),
        target="https://x.test/v1/datasets/ds_1",
        assigner="urn:p",
        assignee="urn:b",
    )


@pytest.mark.parametrize("name", CASES)
def test_offers_and_agreements_keep_the_protocol_s_constraints(name: str) -> None:
    for made, rules in (
        (offer(CASES[name]), dataspace_rules.OFFER),
        (agreement(CASES[name]), dataspace_rules.AGREEMENT),
    ):
        assert [error.message for error in Draft201909Validator(rules).iter_errors(made)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"@type": "Set"},
        {"@context": "https://w3id.org/dspace/2025/1/context.jsonld"},
        {"@context": ["https://w3id.org/dspace/2024/1/context.json"]},
        {"target": None},
        {"permission": []},
        {"permission": [{"action": "use", "target": "urn:x"}]},
        {"permission": [{"action": {"@id": "use"}}]},
        {
            "permission": [
                {
                    "action": "use",
                    "constraint": [{"leftOperand": "a", "operator": "is", "rightOperand": "b"}],
                }
            ]
        },
        {
            "permission": [
                {
                    "action": "use",
                    "constraint": [{"leftOperand": "a", "operator": "eq", "rightOperand": 5}],
                }
            ]
        },
        {"timestamp": "22.11.2026"},
    ],
)
def test_the_constraints_are_ones_that_can_be_broken(change: dict[str, Any]) -> None:
    rules = Draft201909Validator(dataspace_rules.AGREEMENT)
    assert rules.is_valid(agreement(TERMS))
    assert not rules.is_valid({**agreement(TERMS), **change})


def test_an_offer_says_every_term() -> None:
    made = offer(TERMS)
    said = {one["leftOperand"]: one["rightOperand"] for one in made["permission"][0]["constraint"]}
    ours = "urn:private-data-exchange:odrl:1:"
    assert said[f"{ours}rhoTotal"] == "1.5"
    assert said[f"{ours}column"] == ["flights.origin", "airlines.*"]
    assert said["count"] == "3"
    assert len(made["permission"][0]["constraint"]) == 12
    assert made["permission"][1]["action"] == f"{ours}distributeAnswers"
    assert made["permission"][0]["duty"][0]["constraint"][0]["rightOperand"] == "Bureau of Flights"
    assert made["obligation"][0]["constraint"][0]["rightOperand"] == "P365D"


def test_an_agreement_says_what_was_declared_in_place_of_what_could_be() -> None:
    made = agreement(TERMS)
    said = {one["leftOperand"]: one for one in made["permission"][0]["constraint"]}
    assert (said["purpose"]["operator"], said["purpose"]["rightOperand"]) == ("isAnyOf", ["research"])
    assert (said["spatial"]["operator"], said["spatial"]["rightOperand"]) == ("eq", "US")
    assert (made["assigner"], made["assignee"]) == ("urn:p", "urn:b")
    assert made["timestamp"] == accepted().accepted_at


@pytest.mark.parametrize("name", CASES)
def test_a_policy_uses_the_vocabulary_of_odrl_and_its_own_profile_alone(name: str) -> None:
    policy = licences.to_odrl(LicenceTerms.from_document(CASES[name]), UID)
    assert policy["@context"][0] == "http://www.w3.org/ns/odrl.jsonld"
    rules = [one for kind in ("permission", "prohibition", "obligation") for one in policy.get(kind, [])]
    rules += [duty for rule in rules for duty in rule.get("duty", [])]
    own = [one for rule in rules for one in rule.get("constraint", [])]
    for rule in rules:
        assert rule["action"] in ODRL_ACTIONS or rule["action"].startswith("pdx:")
    for constraint in own:
        assert constraint["leftOperand"] in ODRL_OPERANDS or constraint["leftOperand"].startswith("pdx:")
        assert constraint["operator"] in ODRL_OPERATORS
        assert set(constraint) == {"leftOperand", "operator", "rightOperand"}
