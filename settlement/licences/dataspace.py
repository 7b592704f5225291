"""Licences as offers and agreements of the Eclipse Dataspace Protocol 2025-1 (contract negotiation).

The protocol's policies are compact: one target at the top and none in the rules, actions and left operands
are plain text, and its context is one document. So terms of our profile are written by their whole IRIs, what
concerns answers by actions of our own, and values as text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from settlement.licences.odrl import ATTRIBUTE, DELETE, DISTRIBUTE, PROFILE, constraints_of, retention_of
from settlement.licences.register import uid_of

if TYPE_CHECKING:
    from settlement.licences.evaluation import Acceptance
    from settlement.licences.register import Licence
    from settlement.licences.terms import LicenceTerms

CONTEXT = "https://w3id.org/dspace/2025/1/context.jsonld"
_OURS = f"{PROFILE}:"


def offer(licence: Licence, *, target: str, assigner: str) -> dict[str, Any]:
    """An Offer: what anybody may accept. ``target`` is the dataset's IRI, ``assigner`` the provider's."""
    return {
        "@context": [CONTEXT],
        "@type": "Offer",
        "@id": uid_of(licence.id),
        "profile": PROFILE,
        "assigner": assigner,
        "target": target,
        **_rules(licence.terms),
    }


def agreement(
    licence: Licence, accepted: Acceptance, *, target: str, assigner: str, assignee: str
) -> dict[str, Any]:
    """An Agreement: what one organisation accepted, with the purposes and territory that it declared."""
    rules = _rules(licence.terms)
    query = rules["permission"][0]
    declared = [_constraint("purpose", "isAnyOf", list(accepted.purposes))]
    declared.append(_constraint("spatial", "eq", accepted.territory))
    held = [one for one in query["constraint"] if one["leftOperand"] not in ("purpose", "spatial")]
    query["constraint"] = declared + held
    return {
        "@context": [CONTEXT],
        "@type": "Agreement",
        "@id": f"urn:private-data-exchange:acceptance:{accepted.id}",
        "profile": PROFILE,
        "assigner": assigner,
        "assignee": assignee,
        "target": target,
        "timestamp": accepted.accepted_at,
        **rules,
    }


def _rules(terms: LicenceTerms) -> dict[str, Any]:
    query: dict[str, Any] = {
        "action": f"{_OURS}query",
        "constraint": [_compact(one) for one in constraints_of(terms)],
    }
    if terms.attribution is not None:
        duty = _constraint(f"{_OURS}attribution", "eq", terms.attribution)
        query["duty"] = [{"action": ATTRIBUTE, "constraint": [duty]}]
    rules: dict[str, Any] = {"permission": [query]}
    publish = {"action": f"{_OURS}{DISTRIBUTE}Answers"}
    if terms.publication == "permitted":
        rules["permission"].append(publish)
    if terms.publication == "forbidden":
        rules["prohibition"] = [publish]
    if terms.retention_days is not None:
        rules["obligation"] = [
            {
                "action": f"{_OURS}{DELETE}Answers",
                "constraint": [_compact(retention_of(terms.retention_days))],
            }
        ]
    return rules


def _compact(constraint: dict[str, Any]) -> dict[str, Any]:
    left, right = constraint["leftOperand"], constraint["rightOperand"]
    value = right["@value"] if isinstance(right, dict) else right
    return _constraint(left.replace("pdx:", _OURS, 1), constraint["operator"], value)


def _constraint(left: str, operator: str, right: str | list[str]) -> dict[str, Any]:
    return {"leftOperand": left, "operator": operator, "rightOperand": right}
