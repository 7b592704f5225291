"""The query workbench: a statement, its quote - price, error and privacy together - and the purchase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import redirect, render_template, request, url_for

from exchange.errors import RequestInvalid
from exchange.identity import Actor, Role
from exchange.operations import buying, holding, jobs, listing, querying, quoting
from exchange.operations.terms import NANO, decimal_text
from exchange.store import REFUSALS
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.buyer.examples import examples_of
from exchange.web.portal.buyer.forms import balances, kept, key_of
from exchange.web.portal.pages import form, takes, visitor_page
from privacy import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASKS = ("rho", "error", "epsilon")
_FIRST = {"by": "rho", "rho": "0.01", "epsilon": "0.5", "column": "n", "error": "25"}
_MOST_OFFERED = 100
"""So many grants stand in the list, the newest; another one is come to from the page of access."""
_WAIT_S = 1.5
"""So long does a page wait for an answer before it shows how the query goes on."""
_LARGEST = 256 << 10
"""Bytes: the longest statement, in characters of which each is sent as nine."""
_ABOUT = 60
"""Characters of a line that are shown on both sides of what was refused."""


@portal.get("/workbench")
@visitor_page(Role.BUYER)
def workbench(visitor: Actor) -> str:
    """The editor: empty, with an example, with an earlier query, or with a quote and its price."""
    quote, typed = None, {**_FIRST, "sql": request.args.get("sql", "")}
    if request.args.get("again"):
        asked = jobs.question_of(market(), visitor, request.args["again"])
        typed |= {"sql": asked["sql"], "grant": asked["grant"], "slug": asked["slug"], **_asked(asked["ask"])}
    elif request.args.get("quote"):
        quote = quoting.show(market(), visitor, request.args["quote"])
        typed |= {"sql": quote["sql"], "grant": quote["grant"], **_asked(quote["ask"])}
    else:
        typed |= {name: request.args.get(name, "") for name in ("grant", "slug")}
    return render_template("buyer/workbench.html", **_values(visitor, typed, quote))


@portal.post("/workbench")
@takes(Role.BUYER, lambda: _LARGEST, kept=True)
@visitor_page(Role.BUYER)
def quote_it(visitor: Actor) -> Any:
    """Quote the statement; a refused one costs nothing, is pointed at, and stays in the editor."""
    typed = {name: form(name).strip() for name in ("grant", "by", *_FIRST)}
    typed["sql"] = request.form.get("sql", "").replace("\r\n", "\n")  # as forms send lines (RFC 1867)
    values = _values(visitor, typed, None)
    if form("show"):
        return render_template("buyer/workbench.html", **values)
    try:
        made = quoting.quote(market(), visitor, _question(typed, values["chosen"]), key=None)
    except REFUSALS as refusal:
        pointed = _pointed(typed["sql"], refusal)
        return kept(refusal, "buyer/workbench.html", pointed=pointed, **values)
    return redirect(url_for("portal.workbench", quote=made["quote"], _anchor="quote"))


@portal.post("/workbench/run")
@visitor_page(Role.BUYER)
def run_quote(visitor: Actor) -> Any:
    """Run a quote for at most the price that its form showed. The same form sent twice buys once."""
    quote_id, most = form("quote", 64), form("max_price", 40)
    found = quoting.show(market(), visitor, quote_id)
    try:
        if not most:
            raise RequestInvalid("the form names no highest price", hint="Open the quote again.")
        command = querying.run_request({"quote": quote_id, "max_price": most})
        done = querying.run(market(), visitor, command, key=key_of(command), wait_s=_WAIT_S)
    except REFUSALS as refusal:
        typed = {**_FIRST, "sql": found["sql"], "grant": found["grant"], **_asked(found["ask"])}
        return kept(refusal, "buyer/workbench.html", **_values(visitor, typed, found))
    query_id = done.row.id if isinstance(done, querying.Answered) else done.job["query"]
    again = isinstance(done, querying.Answered) and done.repeated
    return redirect(url_for("portal.own_query", query_id=query_id, repeated="1" if again else None))


def _values(visitor: Actor, typed: Mapping[str, str], quote: dict[str, Any] | None) -> dict[str, Any]:
    """What the page shows: what may be asked, the chosen dataset's dictionary, and the quote."""
    found = holding.grants(market(), visitor, state="active", limit=_MOST_OFFERED)
    usable, named, slug = found["items"], typed.get("grant", ""), typed.get("slug", "")
    if named and all(one["grant"] != named for one in usable):
        beyond = holding.usable(market(), visitor, named)
        usable = [*([] if beyond is None else [beyond]), *usable]
    chosen = _chosen(usable, named, slug)
    try:
        dataset = None if chosen is None else listing.show(market(), visitor, chosen["slug"])
    except REFUSALS:  # off the market since
        dataset = None
    return {
        "grants": usable,
        "more_grants": found["next_page_token"] is not None,
        "gone": bool(named or slug) and (chosen is None or named not in ("", chosen["grant"])),
        "chosen": chosen,
        "dataset": dataset,
        "examples": [] if dataset is None else examples_of(dataset["tables"]),
        "typed": typed,
        "quote": quote,
        "free": balances(buying.wallet(market(), visitor)),
    }


def _chosen(usable: list[dict[str, Any]], grant: str, slug: str) -> dict[str, Any] | None:
    """The grant to ask under: the one named, else the newest on the dataset named.

    The newest of all where nothing is named; None where what is named cannot be used.
    """
    for wanted, name in ((grant, "grant"), (slug, "slug")):
        found = next((one for one in usable if wanted and one[name] == wanted), None)
        if found is not None:
            return found
    return usable[0] if usable and not (grant or slug) else None


def _question(typed: Mapping[str, str], chosen: dict[str, Any] | None) -> quoting.Question:
    if request.form.get("grant") == "":
        raise RequestInvalid("no access is chosen", hint="Choose the dataset to ask, and under which access.")
    if typed["grant"] and (chosen is None or typed["grant"] != chosen["grant"]):
        raise RequestInvalid("the access that was chosen cannot be used now", hint="Choose another one.")
    if chosen is None:
        raise RequestInvalid("there is no dataset that you may ask", hint="Ask for access to one first.")
    if not typed["sql"].strip():
        raise RequestInvalid("the statement is empty", hint="Start from one of the examples.")
    by = typed["by"] if typed["by"] in _ASKS else _ASKS[0]
    asked: Any = {typed["column"]: typed["error"]} if by == "error" else typed[by]
    if by != "error" and not asked:
        raise RequestInvalid(f"say how much {by} the answer may spend", hint=f"For example {_FIRST[by]}.")
    given = {"dataset": chosen["slug"], "sql": typed["sql"], "grant": chosen["grant"], by: asked}
    return quoting.question(given)


def _asked(ask: list[str]) -> dict[str, str]:
    """The accuracy of an earlier question as the form has it."""
    name, value = ask
    if name == "rho_nano":
        return {"by": "rho", "rho": decimal_text(int(value), NANO)}
    if name == "epsilon":
        return {"by": "epsilon", "epsilon": value}
    return {"by": "error", "column": name.removeprefix("error:"), "error": value}


def _pointed(sql: str, refusal: Exception) -> dict[str, Any] | None:
    """The line of the statement that was refused, cut in three around the character that is meant."""
    if not isinstance(refusal, Refused):
        return None
    lines = sql.split("\n")
    line = lines[refusal.line - 1] if 0 < refusal.line <= len(lines) else ""
    at = min(max(refusal.column - 1, 0), len(line))
    end = at + 1
    while end < len(line) and (line[end].isalnum() or line[end] == "_") and line[at].isalnum():
        end += 1
    return {
        "line": refusal.line,
        "column": refusal.column,
        "before": line[max(0, at - _ABOUT) : at],
        "at": line[at:end] or "\N{OPEN BOX}",
        "after": line[end : end + _ABOUT],
        "nearest": refusal.nearest,
    }
