"""What was typed in the steps of a draft, as the documents that publishing takes, and what is wrong with it,
each fault at its field.

Nothing is judged here: the functions that publishing uses judge, one document at a time. Where one of them
names a field, the fault is noted, the field is put right for the moment, and the document is judged again, so
that all faults of a page are told at once.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import privacy
from catalog.errors import CatalogError, InvalidManifest, InvalidSlug
from catalog.schema import TableSchema, check_declared
from exchange.errors import RequestInvalid
from exchange.operations import drafting, pricing
from settlement import licences
from settlement.errors import LicenceInvalid, PriceInvalid
from settlement.prices import PricePlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

Faults = dict[str, str]
"""Field -> what is wrong with it and what to do; ``""`` is the step as a whole."""

ABOUT = ("slug", "title", "description", "keywords", "source", "jurisdiction", "classification", "minors")
ASSESSMENT = ("assessment_date", "assessment_sha256")
REGISTRATION = ("registration_number", "registration_authority")
LISTS = ("purposes", "territories", "fields_of_use", "assignees", "roles", "columns")
COUNTS = ("query_count", "retention_days")
TERMS = (*LISTS, *COUNTS, "valid_from", "valid_until", "max_rho_per_query", "max_rho_total")
LICENCE = ("template", "title", "text", *TERMS, "joins", "publication", "attribution")
CURVE = ("fee", "per_rho", "tiers", "cap", "max_rho")
PLAN_FIELDS = {
    "pay-per-query": CURVE,
    "credits": (*CURVE, "bundle"),
    "subscription": (*CURVE, "period", "period_fee", "included_rho"),
    "monthly-cap": (*CURVE, "monthly_cap"),
    "buy-out": ("price",),
}
OF_ANY_PLAN = ("name", "kind", "currency", "approval", "description", "organisation", "offered_until")
PLAN = tuple(dict.fromkeys((*OF_ANY_PLAN, *(one for some in PLAN_FIELDS.values() for one in some))))
BUDGET = (
    *("domain", "rho", "delta", "max_rho_per_query"),
    *("profile_rho", "min_rho_per_query", "max_delta_per_query"),
)
CAPS = ("max_rows", "max_groups", "max_rows_per_group")
OF_COLUMN = ("use", "low", "high", "decimals", "keys")
USES = ("filter", "group", "keys", "range")
"""What a column of a private table is for: to filter alone, to group by where enough units share a value, to
group by exactly these values, to add up between two bounds. What nobody chose for is for filters alone."""
MOST_PLANS = 8

_MOST_ROUNDS = 200
_GOOD_TERMS = {"purposes": ["*"], "territories": ["*"]}
_GOOD_PLAN = {
    "name": "plan",
    "kind": "pay-per-query",
    "currency": "USD",
    "approval": "provider",
    **dict.fromkeys(("fee", "per_rho", "cap", "bundle", "period_fee", "monthly_cap", "price"), "1000000"),
    "max_rho": "1",
    "included_rho": "1",
    "period": "month",
    "offered_until": "2100-01-01",
}
_GOOD: dict[str, Any] = {
    "slug": "a/b",
    "title": "-",
    "description": "-",
    "keywords": [],
    "tables": {"t": "t"},
    "licence": {"template": "permissive-data"},
    "plans": [
        {**{k: _GOOD_PLAN[k] for k in ("name", "kind", "currency", "approval", "max_rho")}, "per_rho": "0"}
    ],
    "policy": {"domain": "-", "rho": 1.0, "delta": 1e-6, "tables": {"t": {"public": True}}},
}


# --- what it is, and where it comes from


def about_document(typed: Mapping[str, str]) -> dict[str, Any]:
    """Name, texts and declarations as a manifest has them; what is empty is left out."""
    declared: dict[str, Any] = {
        name: typed[name].strip()
        for name in ("source", "jurisdiction", "classification")
        if typed.get(name, "").strip()
    }
    if typed.get("minors"):
        declared["minors"] = True
    for section, fields in (("impact_assessment", ASSESSMENT), ("registration", REGISTRATION)):
        said = {name.partition("_")[2]: typed.get(name, "").strip() for name in fields}
        if any(said.values()):
            declared[section] = said
    return {
        **{name: typed.get(name, "").strip() for name in ("slug", "title", "description")},
        "keywords": listed(typed.get("keywords", "")),
        **({"declarations": declared} if declared else {}),
    }


def about_faults(
    document: Mapping[str, Any], terms: Mapping[str, Any], today: date, *, private: bool
) -> Faults:
    """What is wrong with name, texts and declarations, which the law may hold against the licence's terms."""
    trial = {**_GOOD, **document, "licence": {"title": "-", "text": "-", **terms}}
    if private:
        trial["policy"] = {**_GOOD["policy"], "tables": {"t": {"unit": "u", "columns": {}}}}
    faults: Faults = {}
    for _ in range(len(ABOUT) + 4):
        try:
            drafting.checked(trial, today)
        except InvalidSlug as refused:
            _note(faults, "slug", refused)
            trial["slug"] = _GOOD["slug"]
        except InvalidManifest as refused:
            if not _note(faults, _about_field(refused.path), refused):
                break
            _mend_about(trial, refused.path)
        else:
            break
    return faults


def _about_field(path: str) -> str:
    section, _, name = path.partition(".")
    if section == "declarations":
        parts = name.split(".")
        if parts[0] == "impact_assessment":
            return f"assessment_{parts[1]}" if len(parts) > 1 else "assessment_date"
        if parts[0] == "registration":
            return f"registration_{parts[1]}" if len(parts) > 1 else "registration_number"
        return parts[0]
    return path if path in ABOUT else ""


def _mend_about(trial: dict[str, Any], path: str) -> None:
    section, _, name = path.partition(".")
    if section != "declarations":
        trial[section] = _GOOD.get(section, "")
        return
    declared = dict(trial.get("declarations", {}))
    good = {"source": "-", "jurisdiction": "AQ", "classification": "general"}
    field = name.partition(".")[0]
    declared.pop(field, None)
    if field in good:
        declared[field] = good[field]
    elif field == "registration":
        declared[field] = {"number": "-", "authority": "-"}
    elif field == "impact_assessment":
        declared[field] = {"date": "2000-01-01", "sha256": "0" * 64}
    trial["declarations"] = declared


# --- licence


def licence_document(typed: Mapping[str, str]) -> dict[str, Any]:
    """The licence as a manifest has it, every term written out; a template lends nothing here any more."""
    terms: dict[str, Any] = {}
    for name in LICENCE[3:]:
        text = typed.get(name, "").strip()
        if name in LISTS:
            if text:
                terms[name] = listed(text)
        elif text:
            terms[name] = whole(text) if name in COUNTS else text
    return {"title": typed.get("title", "").strip(), "text": typed.get("text", "").strip(), **terms}


def licence_faults(document: Mapping[str, Any]) -> Faults:
    """What is wrong with a licence."""
    faults: Faults = {}
    title, text = str(document["title"]), str(document["text"])
    terms = {name: value for name, value in document.items() if name not in ("title", "text")}
    if not title:
        faults["title"] = "Give the licence a name, or start from a template."
    if not text:
        faults["text"] = "Write what buyers accept, or start from a template."
    for _ in range(len(LICENCE)):
        try:
            licences.written_out(title or "-", text or "-", terms)
        except LicenceInvalid as refused:
            field = re.split(r"[\[.]", refused.path.removeprefix("terms."))[0]
            if not _note(faults, field if field in LICENCE else "", refused):
                break
            terms.pop(field, None)
            if field in _GOOD_TERMS:
                terms[field] = _GOOD_TERMS[field]
        else:
            break
    return faults


def typed_licence(template: licences.Template) -> dict[str, str]:
    """What a template would be if its words and terms were typed."""
    typed = {"template": template.name, "title": template.title, "text": template.text.strip()}
    for name, value in template.terms.items():
        typed[name] = ", ".join(value) if isinstance(value, list | tuple) else str(value)
    return typed


# --- prices


def plan_documents(typed: Mapping[str, str]) -> list[dict[str, Any]]:
    """The price plans, each with the fields of its kind that are not empty."""
    made = []
    for place in range(plans_of(typed)):
        given = {name: typed.get(f"{place}.{name}", "").strip() for name in PLAN}
        known = (*OF_ANY_PLAN, *PLAN_FIELDS.get(given["kind"], ()))
        plan: dict[str, Any] = {name: given[name] for name in known if given[name]}
        if "tiers" in plan:
            plan["tiers"] = _tiers(str(plan["tiers"]))
        made.append(plan)
    return made


def plans_of(typed: Mapping[str, str]) -> int:
    """How many plans the page has."""
    count = whole(typed.get("plans", "1"))
    return min(max(count, 1), MOST_PLANS) if isinstance(count, int) else 1


def plan_faults(documents: list[dict[str, Any]]) -> Faults:
    """What is wrong with each plan, and with all of them beside one another."""
    faults: Faults = {}
    for place, document in enumerate(documents):
        trial = dict(document)
        for _ in range(len(PLAN)):
            try:
                PricePlan.from_document(trial)
            except PriceInvalid as refused:
                field = re.split(r"[\[.]", refused.path)[0]
                if not _note(faults, f"{place}.{field}" if field in PLAN else "", refused):
                    break
                trial.pop(field, None)
                if field in _GOOD_PLAN:
                    trial[field] = _GOOD_PLAN[field]
            else:
                break
    if not faults:
        try:
            pricing.check_plans(documents)
        except (PriceInvalid, RequestInvalid) as refused:
            _note(faults, "", refused)
    return faults


def _tiers(text: str) -> list[dict[str, str]]:
    """Rates that fall, a line each: "0.1: 20.00" up to rho 0.1, and "15.00" for what is beyond."""
    rows = []
    for line in filter(None, map(str.strip, text.splitlines())):
        until, mark, rate = line.partition(":")
        rows.append({"up_to_rho": until.strip(), "per_rho": rate.strip()} if mark else {"per_rho": line})
    return rows


# --- privacy


def policy_document(
    typed: Mapping[str, str], tables: Mapping[str, TableSchema], *, default_domain: str = ""
) -> dict[str, Any]:
    """The policy: budget, and for each table its unit, caps and columns, or that it is public."""
    given = {name: typed.get(name, "").strip() for name in BUDGET}
    document: dict[str, Any] = {
        name: number(text) if name != "domain" else text for name, text in given.items() if text
    }
    document.setdefault("domain", default_domain)
    document["tables"] = {name: _table(typed, schema) for name, schema in tables.items()}
    return document


def is_private(typed: Mapping[str, str], table: str) -> bool:
    """Whether a table is about people: so is what nobody has said to be public."""
    return typed.get(f"{table}.public") != "yes"


def _table(typed: Mapping[str, str], schema: TableSchema) -> dict[str, Any]:
    name = schema.name
    if not is_private(typed, name):
        return {"public": True}
    unit = typed.get(f"{name}.unit", "").strip()
    caps = {cap: whole(typed[f"{name}.{cap}"]) for cap in CAPS if typed.get(f"{name}.{cap}", "").strip()}
    columns = {
        column.name: _column(typed, f"{name}.{column.name}", column.type)
        for column in schema.columns
        if column.name != unit
    }
    return {"unit": unit, **caps, "columns": columns}


def _column(typed: Mapping[str, str], prefix: str, kind: str) -> dict[str, Any]:
    use, given = (
        typed.get(f"{prefix}.use", ""),
        {k: typed.get(f"{prefix}.{k}", "").strip() for k in OF_COLUMN},
    )
    if use == "group":
        return {}
    if use == "keys":
        return {"keys": [_value(one, kind) for one in given["keys"].splitlines() if one.strip()]}
    if use == "range":
        is_time = kind in ("date", "timestamp")
        bounds = [given[end] if is_time else number(given[end]) for end in ("low", "high")]
        decimals = {"decimals": whole(given["decimals"])} if given["decimals"] and kind != "integer" else {}
        return {"bounds": bounds, **decimals}
    return {"selectable": False}


def policy_faults(document: Mapping[str, Any], tables: Mapping[str, TableSchema]) -> Faults:
    """What is wrong with a policy for these tables."""
    faults: Faults = {}
    trial = {**document, "tables": {name: dict(told) for name, told in document["tables"].items()}}
    for name, told in trial["tables"].items():
        if not told.get("public") and not told.get("unit"):
            faults[f"{name}.unit"] = (
                "Choose the column that names whom the rows are about, or say that the table is public."
            )
            trial["tables"][name] = {"public": True}
    types = {name: schema.types for name, schema in tables.items()}
    for _ in range(_MOST_ROUNDS):
        try:
            check_declared(trial, tables)
            privacy.Policy.from_document(trial, types)
        except (privacy.PolicyError, CatalogError) as refused:
            field = _mend_policy(trial, str(getattr(refused, "path", "")), tables)
            if not _note(faults, field, refused):
                break
        else:
            break
    return faults


_AT = {"bounds": "low", "keys": "keys", "decimals": "decimals"}


def _mend_policy(trial: dict[str, Any], path: str, tables: Mapping[str, TableSchema]) -> str:
    """Put right what a path leads to; returns the field that it was typed in."""
    good = {"domain": "-", "rho": 1.0, "delta": 1e-6}
    if path in BUDGET:
        trial.pop(path, None)
        if path in good:
            trial[path] = good[path]
        return path
    for name, schema in tables.items():
        rest = path.removeprefix(f"tables.{name}.")
        if rest == path:
            continue
        named = [one.name for one in schema.columns if f"{rest}.".startswith(f"columns.{one.name}.")]
        if named:
            column = max(named, key=len)
            trial["tables"][name]["columns"] = {
                **trial["tables"][name]["columns"],
                column: {"selectable": False},
            }
            return f"{name}.{column}.{_AT.get(rest.removeprefix(f'columns.{column}.'), 'use')}"
        if rest in CAPS:
            del trial["tables"][name][rest]
            return f"{name}.{rest}"
        trial["tables"][name] = {"public": True}
        return f"{name}.unit"
    return ""


# --- fields


def listed(text: str) -> list[str]:
    """Words that were typed with commas or line ends between them."""
    return [one for one in (part.strip() for part in re.split(r"[,\n]", text)) if one]


def whole(text: str) -> int | str:
    """A whole number; what is none stays as it was typed, to be refused at its field."""
    text = text.strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text


def number(text: str) -> int | float | str:
    """A number, or the text where it is none."""
    found = whole(text)
    if isinstance(found, int):
        return found
    try:
        exact = Decimal(found)
    except InvalidOperation:
        return found
    return float(exact) if exact.is_finite() and abs(exact.adjusted()) < 300 else found


def _value(text: str, kind: str) -> int | float | bool | str:
    """A key of a column's type; what is none stays text and is refused as such."""
    text = text.strip()
    if kind == "integer":
        return whole(text)
    if kind in ("float", "decimal"):
        return number(text)
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def _note(faults: Faults, field: str, refused: Exception) -> bool:
    """Note a fault; False where its field has one already, so that there is nothing more to put right."""
    path, hint = str(getattr(refused, "path", "")), str(getattr(refused, "hint", ""))
    if field in faults and field:
        return False
    said = str(refused).removeprefix(f"{path}: ") if path else str(refused)
    said = said[:1].upper() + said[1:]
    told = f"{said.rstrip('.')}. {hint}" if hint and hint not in said else said
    known = faults.get(field)
    faults[field] = f"{known} {told}" if known else told
    return bool(field)
