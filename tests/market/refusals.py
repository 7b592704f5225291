"""What every refusal promises, checked in one place: problem document, one entry, nothing moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.market.stand import Stand, problem


@dataclass(frozen=True)
class Case:
    """Something that is refused: what is done, and the status and code that it is answered with."""

    name: str
    act: Callable[[Stand], httpx.Response]
    status: int
    code: str
    #: Members of the problem document beyond the usual ones.
    more: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.name


def check(stand: Stand, case: Case) -> dict[str, Any]:
    """Do it; the last reply is the refusal that the case names, it is logged once, and nothing has moved."""
    books, seen = stand.books(), len(stand.entries())
    told = problem(case.act(stand), case.status, case.code)
    for name, value in case.more:
        assert told[name] == value, told
    refused = [r.document for r in stand.entries()[seen:] if r.document["outcome"] == "refused"]
    assert [entry["code"] for entry in refused] == [case.code], refused
    assert refused[0]["source"]["request_id"] == told["request_id"]
    assert refused[0]["money"] is None
    assert stand.books() == books
    assert stand.broken_laws() == []
    return told
