"""What a policy of the Dataspace Protocol 2025-1 must look like, in a JSON schema of our own words.

The Eclipse project's schemas (negotiation/contract-schema.json and its messages) come with no package that we
install, and their files are not ours to keep. These are the constraints which they put on offers and
agreements, written anew from reading them; where theirs are loose (any further member is allowed), ours name
every member that we write, so that a slip of ours is found.
"""

from __future__ import annotations

from typing import Any

CONTEXT = "https://w3id.org/dspace/2025/1/context.jsonld"
_TIME = (
    r"^-?([1-9][0-9]{3,}|0[0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?|24:00:00(\.0+)?)"
    r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))?$"
)
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_OPERATORS = ["eq", "gt", "gteq", "hasPart", "isA", "isAllOf", "isAnyOf", "isNoneOf", "isPartOf"]
_OPERATORS += ["lt", "lteq", "neq", "term-lteq"]


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
        "additionalProperties": False,
    }


def _some(kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": kind, "minItems": 1}


_CONSTRAINT = _object(
    {
        "leftOperand": _TEXT,
        "operator": {"enum": _OPERATORS},
        "rightOperand": {"oneOf": [{"type": "string"}, {"type": "object"}, {"type": "array"}]},
    }
)
_CONSTRAINTS = {"type": "array", "items": _CONSTRAINT}
_DUTY = _object({"action": _TEXT}, {"constraint": _CONSTRAINTS})
# No rule has a target of its own: the policy's one target is that of all rules.
_RULES = {
    "permission": _some(_object({"action": _TEXT}, {"constraint": _CONSTRAINTS, "duty": _some(_DUTY)})),
    "prohibition": _some(_object({"action": _TEXT}, {"constraint": _CONSTRAINTS})),
    "obligation": _some(_DUTY),
}
_CONTEXTS = {"type": "array", "items": {"type": "string"}, "contains": {"const": CONTEXT}}


def _policy(kind: str, required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    held = {"@context": _CONTEXTS, "@id": _TEXT, "@type": {"const": kind}, "target": _TEXT, **required}
    permitted_or_forbidden = [{"required": ["permission"]}, {"required": ["prohibition"]}]
    return {**_object(held, {"profile": _TEXT, **optional, **_RULES}), "anyOf": permitted_or_forbidden}


#: An offer as it stands in a message: with its target.
OFFER = _policy("Offer", {}, {"assigner": _TEXT})
AGREEMENT = _policy(
    "Agreement",
    {"assigner": _TEXT, "assignee": _TEXT},
    {"timestamp": {"type": "string", "pattern": _TIME}},
)
