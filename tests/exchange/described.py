"""The API tried against its own description: what it says it takes, in every role, and what it never said."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, seed, settings

from exchange.web.errors import STATUS
from tests.market.stand import Stand

CASES = 50_000
_PROBLEM = {"type", "title", "status", "detail", "code", "hint", "request_id"}
_ROLES = ("provider", "buyer", "officer", "operator", "stranger")
# Refusals of a field that the description promised to take: the two have drifted apart.
_DRIFTED = ("unknown field", "must be str", "must be bool", "must be int", "must be list", "must be dict")


@dataclass
class Tried:
    """Replies by status, and what was wrong with whom."""

    replies: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def try_all(stand: Stand, app: Flask, *, cases: int, chosen: int) -> Tried:
    """Send so many requests, spread over all operations: as described, in every role and in none."""
    described = schemathesis.openapi.from_wsgi("/openapi.json", app)
    every = [found.ok() for found in described.get_all_operations()]
    operations = [one for one in every if one.path != "/readyz"]  # its 503 is no fault but an answer
    tried = Tried()
    for number, operation in enumerate(operations):
        _try_operation(stand, operation, -(-cases // len(operations)), chosen + number, tried)
    return tried


def _try_operation(stand: Stand, operation: Any, cases: int, chosen: int, tried: Tried) -> None:
    chance = random.Random(chosen)
    raw = operation.definition.raw
    public = {} in raw.get("security", [{}])

    @seed(chosen)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def one(case: Any) -> None:
        role = chance.choice((*_ROLES, ""))
        signs_in = "OAuthError" in str(raw) or "text/html" in str(raw)
        token = {"Authorization": f"Bearer {stand.tokens[role]}"} if role else {"Authorization": ""}
        reply = case.call(headers={} if signs_in else token)
        tried.replies[reply.status_code] += 1
        known = role or public
        faults = _faults_of_sign_in(reply, raw) if signs_in else _faults(reply, known=bool(known))
        for text in faults:
            tried.wrong.append(f"{operation.method.upper()} {operation.path} as {role or 'nobody'}: {text}")

    one()


def _faults(reply: Any, *, known: bool) -> list[str]:
    status, faults = reply.status_code, []
    if not known and status != 401:
        faults.append(f"opened without a token: {status}")
    if status < 400 or reply.request.method == "HEAD":
        return faults
    try:
        problem = reply.json()
    except ValueError:
        return [*faults, f"{status} without a problem document"]
    if set(problem) < _PROBLEM or problem["status"] != status:
        faults.append(f"{status} with another document: {sorted(problem)}")
    if status >= 500 or problem.get("code") not in STATUS:
        faults.append(f"{status} {problem.get('code')}: {problem.get('detail')}")
    if any(text in str(problem.get("detail")) for text in _DRIFTED):
        faults.append(f"refused what is described: {problem.get('detail')}")
    return faults


def _faults_of_sign_in(reply: Any, raw: Any) -> list[str]:
    """The endpoints of RFC 6749 answer in their own form, and never but as they are described."""
    status, faults = reply.status_code, []
    told = raw["responses"].get(str(status), raw["responses"]["default"])
    kind = reply.headers.get("content-type", [""])[0].partition(";")[0]
    if kind not in told["content"]:
        faults.append(f"{status} as {kind}, not {sorted(told['content'])}")
    if status >= 500:
        faults.append(f"{status}: {reply.text[:200]}")
    if status in (400, 401) and kind == "application/json" and not isinstance(reply.json().get("error"), str):
        faults.append(f"{status} without an error of RFC 6749")
    return faults


def main(stand: Stand, app: Flask, chosen: int, cases: int = CASES) -> int:
    """Print the replies by status; 1 where one was wrong."""
    tried = try_all(stand, app, cases=cases, chosen=chosen)
    print(f"described: {sum(tried.replies.values()):,} requests, seed {chosen}")
    for status, count in sorted(tried.replies.items()):
        print(f"  {status:<16}{count:>10,}")
    for text, count in Counter(tried.wrong).most_common(50):
        print(f"{count} times: {text}", file=sys.stderr)
    return 1 if tried.wrong else 0
