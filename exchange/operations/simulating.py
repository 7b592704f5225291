"""What questions will cost under a plan, and what they will earn: worked out from policy and plan alone, so
that a provider can try prices before anything is published.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import privacy
from exchange.errors import RequestInvalid
from exchange.identity import Role
from exchange.operations import listing, pricing
from exchange.operations.quoting import question
from exchange.operations.terms import NANO, budget, decimal_text, money
from privacy.values import arrow_type_name
from settlement.money import allocate
from settlement.prices import PricePlan, Standing, charge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market

_MOST_QUESTIONS, _MOST_TIMES = 50, 10_000
_TRIED = ("0.001", "0.01", "0.1")
_ERROR = 10.0
_MOST_GAUGED, _SHARED_BY = 5, (100, 400, 1_600)
_USUAL = 400


@dataclass(frozen=True)
class _Asked:
    """A question of the simulation, asked so many times."""

    about: str
    sql: str
    ask: tuple[str, str]
    times: int


def simulate(market: Market, actor: Actor, given: Mapping[str, Any]) -> dict[str, Any]:
    """Rho, epsilon, error and price of questions under each plan, and what all of them earn together.

    ``given`` has ``plans`` and ``policy`` of a listing that need not exist yet, or names an own ``dataset``;
    ``questions`` are those to try, else each kind of question that the policy suggests. Raises what
    publishing the plans and the policy would raise.
    """
    actor.require(Role.PROVIDER)
    documents, policy, left = _subject(market, actor, given)
    plans = pricing.check_plans(documents)
    wanted = given.get("plan") or ""
    if wanted and wanted not in {plan.name for plan in plans}:
        raise RequestInvalid(f"there is no plan {wanted!r}", hint=f"Plans: {_names(plans)}.")
    asked = _questions(given, policy)
    planned = [(one, _planned(policy, one)) for one in asked]
    share = market.settings.platform_share_percent
    return {
        "domain": policy.domain,
        "rho": decimal_text(policy.rho_nano, NANO),
        "rho_left": decimal_text(left, NANO),
        "plans": [_under(plan, planned, left, share) for plan in plans if wanted in ("", plan.name)],
    }


def gauge(policy: privacy.Policy, left_nano: int) -> list[dict[str, Any]]:
    """What ``left_nano`` of a policy's budget gives: for each kind of question that it suggests, how far off
    an answer is at 95% where the budget is shared by so many of them.

    From the policy alone, by the planner that quotes come from. Where little is left, by as many as it can be
    shared by; nothing where it is too little for one. ``first`` marks the row to show before the others.
    """
    least = policy.min_rho_per_query_nano
    shared = [times for times in _SHARED_BY if left_nano // times >= least] or [left_nano // least]
    if left_nano < least:
        return []
    made, asked = [], list(itertools.islice(_kinds(policy), _MOST_GAUGED))
    for about, sql in asked:
        for times in shared:
            rho = min(left_nano // times, policy.max_rho_per_query_nano)
            plan = _planned(policy, _Asked(about, sql, ("rho_nano", str(rho)), times))
            widths = [] if isinstance(plan, privacy.PrivacyError) else [c.half_width for c in plan.columns]
            found = [width for width in widths if width is not None]
            told = str(plan) if isinstance(plan, privacy.PrivacyError) else None
            made.append(
                {
                    "about": about,
                    "shared_by": times,
                    "first": times == (_USUAL if _USUAL in shared else shared[-1]),
                    "times": left_nano // rho,
                    "rho": decimal_text(rho, NANO),
                    "error": math.ceil(max(found)) if found else None,
                    "refused": told,
                }
            )
    return made


def _subject(
    market: Market, actor: Actor, given: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], privacy.Policy, int]:
    """Plans, policy, and what is left of the budget."""
    if given.get("dataset"):
        return market.store.read(lambda session: _listed(session, actor, given))
    if not given.get("plans") or not given.get("policy"):
        raise RequestInvalid("give a dataset of your own, or plans and policy of a listing")
    policy = privacy.Policy.from_document(given["policy"], _schemas(given))
    return pricing.tables(given["plans"]), policy, policy.rho_nano


def _listed(
    session: Session, actor: Actor, given: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], privacy.Policy, int]:
    view = listing.newest(session, actor, given["dataset"])
    policy = listing.policy_of(view)
    granted = listing.is_charged(session, policy.domain)
    left = budget(session, policy.domain)["rho_nano_remaining"] if granted else policy.rho_nano
    return pricing.tables(given.get("plans") or list(view.plans)), policy, left


def _questions(given: Mapping[str, Any], policy: privacy.Policy) -> list[_Asked]:
    listed = given.get("questions")
    if not listed:
        return _suggested(policy)
    if len(listed) > _MOST_QUESTIONS:
        raise RequestInvalid(f"at most {_MOST_QUESTIONS} questions are tried at once")
    asked = [_asked(one) for one in listed]
    if sum(one.times for one in asked) > _MOST_TIMES:  # each time is charged one after the other
        raise RequestInvalid(
            f"the times of all questions together are at most {_MOST_TIMES}",
            hint="Try fewer questions at once, or each of them fewer times.",
        )
    return asked


def _asked(given: Any) -> _Asked:
    if not isinstance(given, Mapping) or not isinstance(given.get("sql"), str):
        raise RequestInvalid('a question has sql, one of rho, epsilon and error, and "times"')
    times = given.get("times", 1)
    if not isinstance(times, int) or isinstance(times, bool) or not 0 < times <= _MOST_TIMES:
        raise RequestInvalid(f"times is how often the question is asked, 1 to {_MOST_TIMES}")
    read = question({**{k: v for k, v in given.items() if k != "times"}, "dataset": "simulated"})
    return _Asked(str(given.get("about") or "question"), read.sql, read.ask, times)


def _suggested(policy: privacy.Policy) -> list[_Asked]:
    """A count of each private table, by each of its declared keys, at +-10 and at a few amounts of rho."""
    asked = []
    for about, sql in _kinds(policy):
        asked.append(_Asked(about, sql, ("error:n", repr(_ERROR)), 1))
        asked += [_Asked(about, sql, ("rho_nano", str(_nano(rho))), 1) for rho in _TRIED]
    return asked[:_MOST_QUESTIONS]


def _kinds(policy: privacy.Policy) -> Iterator[tuple[str, str]]:
    """What a policy suggests to count, and the statement: each private table, and by each declared key."""
    for name, table in policy.document["tables"].items():
        if table.get("public"):
            continue
        columns = table.get("columns") or {}
        keys = [column for column, told in columns.items() if isinstance(told.get("keys"), list)]
        yield from _counts(name, keys)


def _counts(table: str, keys: list[str]) -> list[tuple[str, str]]:
    """What is counted, and the statement that counts it: input to the compiler, like a buyer's."""
    name = _quoted(table)
    found = [(f"count of {table}", f"SELECT count(*) AS n FROM {name}")]  # noqa: S608
    for key in map(_quoted, keys):
        statement = f"SELECT {key}, count(*) AS n FROM {name} GROUP BY {key}"  # noqa: S608
        found.append((f"count of {table} by {key[1:-1]}", statement))
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _planned(policy: privacy.Policy, asked: _Asked) -> privacy.Plan | privacy.PrivacyError:
    name, value = asked.ask
    try:
        if name == "rho_nano":
            return privacy.plan(asked.sql, policy, rho_nano=int(value))
        if name == "epsilon":
            return privacy.plan(asked.sql, policy, epsilon=float(value))
        return privacy.plan(asked.sql, policy, error={name.removeprefix("error:"): float(value)})
    except privacy.PrivacyError as refused:
        return refused


def _under(
    plan: PricePlan,
    planned: list[tuple[_Asked, privacy.Plan | privacy.PrivacyError]],
    left_nano: int,
    share_percent: int,
) -> dict[str, Any]:
    """One plan: a row for each question, and the earnings of all of them by one buyer in one period."""
    rows = [_row(plan, asked, made) for asked, made in planned]
    cost, rho = _in_turn(plan, planned)
    earned, kept = allocate(cost, [100 - share_percent, share_percent])
    return {
        **pricing.summary(plan),
        "questions": rows,
        "times": sum(asked.times for asked, made in planned if isinstance(made, privacy.Plan)),
        "cost": money(cost, plan.currency),
        "earned": money(earned, plan.currency),
        "platform": money(kept, plan.currency),
        "rho_spent": decimal_text(rho, NANO),
        "rho_left": decimal_text(max(0, left_nano - rho), NANO),
        "fits": rho <= min(left_nano, plan.allowance_rho_nano or left_nano),
    }


def _row(plan: PricePlan, asked: _Asked, made: privacy.Plan | privacy.PrivacyError) -> dict[str, Any]:
    told: dict[str, Any] = {"about": asked.about, "sql": asked.sql, "times": asked.times}
    if isinstance(made, privacy.PrivacyError):
        return {**told, "refused": str(made)}
    cost = made.cost
    return {
        **told,
        "rho": decimal_text(cost.rho_nano, NANO),
        "rho_nano": cost.rho_nano,
        "epsilon": made.epsilon if math.isfinite(made.epsilon) else None,
        "error": {c.name: c.half_width for c in made.columns if c.half_width is not None},
        "price": money(charge(plan, Standing(), cost.rho_nano).worth_minor, plan.currency),
        "all": money(_in_turn(plan, [(asked, made)])[0], plan.currency),
    }


def _in_turn(
    plan: PricePlan, planned: list[tuple[_Asked, privacy.Plan | privacy.PrivacyError]]
) -> tuple[int, int]:
    """What all questions cost one buyer in one period, paid up front or one by one; and their rho."""
    included, room, spent, rho = plan.included_nano, plan.monthly_cap_minor, 0, 0
    for asked, made in planned:
        if isinstance(made, privacy.PrivacyError):
            continue
        for _ in range(asked.times):
            charged = charge(
                plan, Standing(included_left_nano=included, room_left_minor=room), made.cost.rho_nano
            )
            included -= 0 if plan.buys_out else charged.covered_nano
            room = None if room is None else room - charged.amount_minor
            spent, rho = spent + charged.amount_minor, rho + made.cost.rho_nano
    if plan.kind == "credits":
        bundles = max(1, -(-spent // plan.up_front_minor))
        return bundles * plan.up_front_minor, rho
    return plan.up_front_minor + spent, rho


def _schemas(given: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Column types of files that were not uploaded yet: as told, else as the policy lets guess."""
    told = given.get("schemas") or {}
    tables = given["policy"].get("tables")
    if not isinstance(told, Mapping) or not isinstance(tables, Mapping):
        raise RequestInvalid("schemas gives the type of each column of each table")
    return {name: _schema(_mapping(table), _mapping(told.get(name))) for name, table in tables.items()}


def _schema(table: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, str]:
    """Column -> type of one table: its declared columns, those of its file, and its unit."""
    declared = _mapping(table.get("columns"))
    unit = [table["unit"]] if isinstance(table.get("unit"), str) and not table.get("path") else []
    return {
        one: _type_of(known.get(one), declared.get(one)) for one in dict.fromkeys([*declared, *known, *unit])
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _type_of(told: Any, column: Any) -> str:
    """The policy's name of a type: of the Arrow type that the file has, or as keys and bounds look."""
    if isinstance(told, str):
        try:
            named = arrow_type_name(pa.type_for_alias(told))
        except (ValueError, KeyError):
            named = "decimal" if told.startswith("decimal") else None
        if named is not None:
            return named
    declared = column if isinstance(column, Mapping) else {}
    if isinstance(declared.get("type"), str):
        return str(declared["type"])
    for field in ("keys", "bounds"):
        values = declared.get(field)
        if isinstance(values, list) and values:
            return _kind_of(values[0])
    return "text"


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    text = str(value)
    if len(text) >= 10 and text[4:5] == text[7:8] == "-" and text[:4].isdigit():
        return "timestamp" if len(text) > 10 else "date"
    return "text"


def _nano(rho: str) -> int:
    return privacy.accounting.rho_to_nano(rho)


def _names(plans: list[PricePlan]) -> str:
    return ", ".join(plan.name for plan in plans)
