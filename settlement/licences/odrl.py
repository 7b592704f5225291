"""Licence terms as an ODRL 2.2 policy (W3C Recommendation, 2018) under a small closed profile, and back.

Reading is strict: a term, operator, operand, action or member that the profile does not have is refused. So
every policy that is read says exactly what the terms say, and nothing beside them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from settlement.documents import unknown_name
from settlement.errors import LicenceInvalid
from settlement.licences.terms import LicenceTerms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Our ODRL profile: operands and actions that the ODRL 2.2 vocabulary does not have.
PROFILE = "urn:private-data-exchange:odrl:1"

QUERY, DISTRIBUTE, DELETE, ATTRIBUTE = "pdx:query", "distribute", "delete", "attribute"
_CONTEXT = ["http://www.w3.org/ns/odrl.jsonld", {"pdx": f"{PROFILE}:"}]
_POLICY = {"@context", "@type", "uid", "profile", "permission", "prohibition", "obligation"}
_DAYS = re.compile(r"P([1-9][0-9]{0,9})D", re.ASCII)
_DIGITS = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)

#: (left operand, operator) -> key of the terms' document and the XSD type of its value; None is a list.
_OPERANDS: dict[tuple[str, str], tuple[str, str | None]] = {
    ("purpose", "isAnyOf"): ("purposes", None),
    ("spatial", "isAnyOf"): ("territories", None),
    ("industry", "isAnyOf"): ("fields_of_use", None),
    ("recipient", "isAnyOf"): ("assignees", None),
    ("pdx:role", "isAnyOf"): ("roles", None),
    ("dateTime", "gteq"): ("valid_from", "xsd:dateTime"),
    ("dateTime", "lt"): ("valid_until", "xsd:dateTime"),
    ("count", "lteq"): ("query_count", "xsd:integer"),
    ("pdx:rhoPerQuery", "lteq"): ("max_rho_per_query", "xsd:decimal"),
    ("pdx:rhoTotal", "lteq"): ("max_rho_total", "xsd:decimal"),
    ("pdx:column", "isAnyOf"): ("columns", None),
    ("pdx:joins", "eq"): ("joins", "xsd:string"),
}


def to_odrl(terms: LicenceTerms, uid: str) -> dict[str, Any]:
    """The terms as an ODRL 2.2 Set in JSON-LD, under our small profile.

    ``uid`` is the licence version's IRI; the target is the collection of what is listed under it.
    """
    data, answers = (
        {"@type": "AssetCollection", "uid": f"{uid}#data"},
        {"@type": "Asset", "uid": f"{uid}#answers"},
    )
    query: dict[str, Any] = {"target": data, "action": QUERY, "constraint": constraints_of(terms)}
    if terms.attribution is not None:
        query["duty"] = [{"action": ATTRIBUTE, "pdx:attribution": terms.attribution}]
    policy: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "Set",
        "uid": uid,
        "profile": PROFILE,
        "permission": [query],
    }
    if terms.publication == "permitted":
        policy["permission"].append({"target": answers, "action": DISTRIBUTE})
    if terms.publication == "forbidden":
        policy["prohibition"] = [{"target": answers, "action": DISTRIBUTE}]
    if terms.retention_days is not None:
        policy["obligation"] = [
            {"target": answers, "action": DELETE, "constraint": [retention_of(terms.retention_days)]}
        ]
    return policy


def constraints_of(terms: LicenceTerms) -> list[dict[str, Any]]:
    """The terms that limit a query, each as one ODRL constraint."""
    document, found = terms.document, []
    for (left, operator), (key, datatype) in _OPERANDS.items():
        value = document.get(key)
        if value is None or (key == "territories" and "*" in value):
            continue
        right = value if datatype is None else {"@value": str(value), "@type": datatype}
        found.append({"leftOperand": left, "operator": operator, "rightOperand": right})
    return found


def retention_of(days: int) -> dict[str, Any]:
    """The constraint of the duty to delete answers after so many days."""
    operand = {"@value": f"P{days}D", "@type": "xsd:duration"}
    return {"leftOperand": "elapsedTime", "operator": "gteq", "rightOperand": operand}


def from_odrl(policy: Mapping[str, Any]) -> LicenceTerms:
    """The terms of a policy of this profile. LicenceInvalid names the place of whatever is not in it.

    Targets are read for their form alone: a licence applies to what is listed under it.
    """
    _members(policy, "odrl", _POLICY, required={"@type", "profile", "permission"})
    if policy["@type"] not in ("Set", "Offer"):
        raise LicenceInvalid("odrl.@type", 'write "Set" or "Offer"')
    if policy["profile"] != PROFILE:
        raise LicenceInvalid("odrl.profile", f"this exchange reads the profile {PROFILE} alone")
    if policy.get("@context", _CONTEXT) != _CONTEXT:
        raise LicenceInvalid("odrl.@context", f"write {_CONTEXT}")
    document: dict[str, Any] = {}
    for i, rule in enumerate(_list(policy["permission"], "odrl.permission")):
        _read_permission(rule, f"odrl.permission[{i}]", document)
    if "purposes" not in document:
        raise LicenceInvalid("odrl.permission", f"name one permission of {QUERY} with its purposes")
    document.setdefault("territories", ["*"])
    for i, rule in enumerate(_list(policy.get("prohibition", []), "odrl.prohibition")):
        _members(rule, f"odrl.prohibition[{i}]", {"target", "action"}, required={"action"})
        _action(rule, f"odrl.prohibition[{i}]", DISTRIBUTE)
        _put(document, "publication", "forbidden", f"odrl.prohibition[{i}]")
    for i, rule in enumerate(_list(policy.get("obligation", []), "odrl.obligation")):
        _read_obligation(rule, f"odrl.obligation[{i}]", document)
    return LicenceTerms.from_document(document)


def _read_permission(rule: Any, path: str, document: dict[str, Any]) -> None:
    _members(rule, path, {"target", "action", "constraint", "duty"}, required={"action"})
    _action(rule, path, QUERY, DISTRIBUTE)
    if rule["action"] == DISTRIBUTE:
        _members(rule, path, {"target", "action"}, required=set())
        return _put(document, "publication", "permitted", path)
    if "purposes" in document:
        raise LicenceInvalid(path, f"{QUERY} is permitted once")
    for i, constraint in enumerate(_list(rule.get("constraint", []), f"{path}.constraint")):
        key, value = _read_constraint(constraint, f"{path}.constraint[{i}]")
        _put(document, key, value, f"{path}.constraint[{i}]")
    for i, duty in enumerate(_list(rule.get("duty", []), f"{path}.duty")):
        _members(duty, f"{path}.duty[{i}]", {"action", "pdx:attribution"}, required={"pdx:attribution"})
        _action(duty, f"{path}.duty[{i}]", ATTRIBUTE)
        _put(document, "attribution", duty["pdx:attribution"], f"{path}.duty[{i}]")
    return None


def _read_obligation(rule: Any, path: str, document: dict[str, Any]) -> None:
    _members(rule, path, {"target", "action", "constraint"}, required={"action", "constraint"})
    _action(rule, path, DELETE)
    constraints = _list(rule["constraint"], f"{path}.constraint")
    match = None
    if len(constraints) == 1 and isinstance(constraints[0], dict):
        operand = constraints[0].get("rightOperand")
        days = operand.get("@value") if isinstance(operand, dict) else None
        match = _DAYS.fullmatch(days) if isinstance(days, str) else None
    if match is None or constraints[0] != retention_of(int(match[1])):
        raise LicenceInvalid(f"{path}.constraint", f"write {retention_of(365)}")
    _put(document, "retention_days", int(match[1]), path)


def _read_constraint(constraint: Any, path: str) -> tuple[str, Any]:
    _members(
        constraint,
        path,
        {"leftOperand", "operator", "rightOperand"},
        required={"leftOperand", "operator", "rightOperand"},
    )
    left, operator = constraint["leftOperand"], constraint["operator"]
    operators = [one for known, one in _OPERANDS if known == left]
    if not operators:
        raise LicenceInvalid(f"{path}.leftOperand", unknown_name(left, {known for known, _ in _OPERANDS}))
    if operator not in operators:
        raise LicenceInvalid(f"{path}.operator", f"of {left} write {' or '.join(operators)}")
    key, datatype = _OPERANDS[left, operator]
    read: Callable[[Any, str | None, str], Any] = _OPERAND_READERS.get(datatype, _typed)
    return key, read(constraint["rightOperand"], datatype, f"{path}.rightOperand")


def _typed(operand: Any, datatype: str | None, path: str) -> str:
    if not isinstance(operand, dict) or set(operand) != {"@value", "@type"} or operand["@type"] != datatype:
        raise LicenceInvalid(path, f'write {{"@value": "...", "@type": "{datatype}"}}')
    if not isinstance(operand["@value"], str):
        raise LicenceInvalid(f"{path}.@value", "write it as text")
    return operand["@value"]


def _whole(operand: Any, datatype: str | None, path: str) -> int:
    digits = _typed(operand, datatype, path)
    if not _DIGITS.fullmatch(digits):
        raise LicenceInvalid(f"{path}.@value", "write a positive whole number")
    return int(digits)


def _names(operand: Any, _: str | None, path: str) -> list[Any]:
    return _list(operand, path)


_OPERAND_READERS: dict[str | None, Callable[[Any, str | None, str], Any]] = {
    None: _names,
    "xsd:integer": _whole,
}


def _put(document: dict[str, Any], key: str, value: Any, path: str) -> None:
    if key in document:
        raise LicenceInvalid(path, f"says a second time what {key} are or is")
    document[key] = value


def _members(value: Any, path: str, known: set[str], *, required: set[str]) -> None:
    if not isinstance(value, dict):
        raise LicenceInvalid(path, "must be an object")
    for name in value:
        if name not in known:
            raise LicenceInvalid(f"{path}.{name}", unknown_name(name, known))
    for name in sorted(required - set(value)):
        raise LicenceInvalid(f"{path}.{name}", "is missing")
    target = value.get("target", "")
    if isinstance(target, dict) and set(target) == {"@type", "uid"}:
        target = target["uid"] if target["@type"] in ("Asset", "AssetCollection") else None
    if not isinstance(target, str):
        raise LicenceInvalid(f"{path}.target", "write an IRI, or an Asset with its uid")


def _action(rule: Mapping[str, Any], path: str, *known: str) -> None:
    if rule.get("action") not in known:
        raise LicenceInvalid(f"{path}.action", unknown_name(rule.get("action"), known))


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise LicenceInvalid(path, "must be a list")
    return value
