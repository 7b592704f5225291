"""Nine causes for which a licence refuses, each at the doors where it is met, and logged with its clause."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest
from sqlalchemy import text

from tests.market import sample
from tests.market.stand import Stand, problem

JOINED = "select z.name, count(*) as n from rides r join zones z on r.zone = z.zone group by z.name"
SELF_JOINED = (
    "select count(*) as n from rides a where a.rider in (select b.rider from rides b where b.cents > 9)"
)
BY_KIND = "select kind, count(*) as n from rides group by kind"


def licensed(stand: Stand, **terms: Any) -> str:
    """Put the listing under a licence of these terms; returns its id."""
    stand.publish(manifest=sample.manifest(licence=sample.licence(**terms)))
    return str(stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["licence"]["id"])


def refused(stand: Stand, reply: httpx.Response, code: str, clause: str, kind: str) -> None:
    """The refusal is told with its clause, and logged once with cause, licence and the clause's digest."""
    told = problem(reply, 403, code)
    assert told["clause"] == clause
    assert told["category"] == "licence"
    logged = [r for r in stand.entries(outcome="refused", code=code) if r.document["kind"] == kind][-1]
    assert logged.document["source"]["request_id"] == told["request_id"]
    opened = stand.get("officer", f"/v1/audit/entries/{logged.id}").json()
    kept = opened["refusal"]
    assert (kept["code"], kept["clause"]) == (code, clause)
    assert kept["digest"] == logged.document["result"]["sha256"]
    policy = stand.get(
        "officer", f"/v1/licences/{kept['licence_id']}", headers={"Accept": "application/ld+json"}
    )
    assert hashlib.sha256(policy.content).hexdigest() == logged.document["licence"]["odrl_sha256"]
    assert stand.broken_laws() == []


@dataclass(frozen=True)
class Asked:
    """Terms that do not stand in the way of a request, and a question that they refuse."""

    cause: str
    terms: dict[str, Any]
    code: str
    clause: str
    sql: str = sample.COUNT
    rho: str = "0.01"

    def __str__(self) -> str:
        return self.cause


ASKED = [
    Asked(
        "a column",
        {"columns": ["rides.zone", "zones.*"]},
        "column_not_allowed",
        "columns: rides.zone, zones.*",
        BY_KIND,
    ),
    Asked(
        "a column in a condition",
        {"columns": ["rides.zone"]},
        "column_not_allowed",
        "columns: rides.zone",
        "select zone, count(*) as n from rides where cents > 100 group by zone",
    ),
    Asked("a table", {"columns": ["zones.*"]}, "column_not_allowed", "columns: zones.*", sample.COUNT),
    Asked("any join", {"joins": "none"}, "join_not_allowed", "joins: none", JOINED),
    Asked("a private join", {"joins": "public"}, "join_not_allowed", "joins: public", SELF_JOINED),
    Asked("rho of a query", {"max_rho_per_query": "0.005"}, "rho_not_allowed", "max_rho_per_query: 0.005"),
    Asked("rho of all", {"max_rho_total": "0.009"}, "rho_not_allowed", "max_rho_total: 0.009"),
]


@pytest.mark.parametrize("case", ASKED, ids=str)
def test_what_a_statement_reads_and_spends_is_refused_at_quote_and_run(
    sqlite_stand: Stand, case: Asked
) -> None:
    stand = sqlite_stand
    licensed(stand, **case.terms)
    assert stand.request().status_code == 201
    books = stand.books()
    refused(stand, stand.quote(sql=case.sql, rho=case.rho), case.code, case.clause, "quote.refused")
    refused(stand, stand.run(sql=case.sql, rho=case.rho), case.code, case.clause, "query.refused")
    assert stand.books() == books


def test_what_the_licence_names_is_answered(stand: Stand) -> None:
    licensed(
        stand,
        columns=["RIDES.zone", "zones.zone", "zones.name"],
        joins="public",
        max_rho_total="0.02",
        query_count=2,
        assignees=["acme"],
        roles=["buyer", "data-steward"],
        publication="permitted",
    )
    assert stand.request(role="data-steward", publishes=True).status_code == 201
    assert stand.run(sql=JOINED).status_code == 200
    assert stand.run(sql=sample.BY_ZONE).status_code == 200
    assert stand.broken_laws() == []


@pytest.mark.parametrize(
    ("terms", "asked", "code", "clause"),
    [
        ({}, {"purpose": "advertising"}, "purpose_not_allowed", "purposes: research, journalism"),
        ({}, {"territory": "CN"}, "territory_not_allowed", "territories: US, EU"),
        ({"assignees": ["globex"]}, {}, "assignee_not_allowed", "assignees: globex"),
        ({"roles": ["statistician"]}, {}, "assignee_not_allowed", "roles: statistician"),
        (
            {"publication": "forbidden"},
            {"publishes": True},
            "publication_not_allowed",
            "publication: forbidden",
        ),
        (
            {"valid_from": "2030-01-01"},
            {},
            "licence_expired",
            "valid_from: 2030-01-01T00:00:00+00:00",
        ),
    ],
)
def test_what_is_declared_is_refused_at_the_request(
    sqlite_stand: Stand, terms: dict[str, Any], asked: dict[str, Any], code: str, clause: str
) -> None:
    stand = sqlite_stand
    licensed(stand, **terms)
    refused(stand, stand.request(**asked), code, clause, "access.refused")
    digest = stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["licence"]["text_sha256"]
    body = {
        "purposes": [asked.get("purpose", "research")],
        "territory": asked.get("territory", "EU"),
        "licence_sha256": digest,
        "publishes": asked.get("publishes", False),
    }
    where = f"/v1/datasets/{sample.SLUG}/licence/accept"
    refused(stand, stand.post("buyer", where, body), code, clause, "licence.refused")


def everywhere(stand: Stand, query: str, code: str, clause: str) -> None:
    """A use is refused at request, quote, run and fetch; a repeat with its old key is a fetch, too."""
    refused(stand, stand.request("other"), code, clause, "access.refused")
    refused(stand, stand.quote(), code, clause, "quote.refused")
    refused(stand, stand.run(rho="0.02"), code, clause, "query.refused")
    refused(stand, stand.get("buyer", f"/v1/queries/{query}/result"), code, clause, "answer.refused")
    refused(stand, stand.run(key="first"), code, clause, "query.refused")


def test_a_licence_that_ended_refuses_everywhere(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    licensed(stand, valid_until=until.isoformat())
    assert stand.request().status_code == 201
    answered = stand.run(key="first").json()["query"]
    stand.clock.advance(days=4)
    everywhere(stand, answered, "licence_expired", f"valid_until: {until.isoformat()}")


def test_a_withdrawn_licence_refuses_everywhere(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    licence = licensed(stand)
    assert stand.request().status_code == 201
    answered = stand.run(key="first").json()["query"]
    where = f"/v1/licences/{licence}/withdraw"
    problem(stand.post("rival", where, {"reason": "mine"}), 404, "licence_missing")
    problem(stand.post("buyer", where, {"reason": "mine"}), 403, "role_missing")
    done = stand.post("provider", where, {"reason": "replaced"})
    assert done.json()["withdrawn_at"] is not None
    everywhere(stand, answered, "licence_withdrawn", "withdrawal")
    assert stand.entries(kind="licence.withdrawn")[-1].document["object"]["id"] == licence


def test_the_count_of_queries_is_refused_at_quote_and_run_and_repeats_are_free(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    licensed(stand, query_count=1)
    assert stand.request().status_code == 201
    assert stand.run().status_code == 200
    assert stand.run().json()["repeated"] is True
    assert stand.quote().status_code == 201
    for ask, kind in ((stand.quote, "quote.refused"), (stand.run, "query.refused")):
        refused(stand, ask(sql=BY_KIND), "quota_exceeded", "query_count: 1", kind)


def test_rho_of_all_queries_is_counted_over_grants_and_versions(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    licensed(stand, max_rho_total="0.03")
    assert stand.request().status_code == 201
    assert stand.run(sql=BY_KIND, rho="0.02").status_code == 200
    assert stand.request(purpose="journalism").status_code == 201
    refused(stand, stand.run(rho="0.011"), "rho_not_allowed", "max_rho_total: 0.03", "query.refused")
    licensed(stand, max_rho_total="0.03", text="Other words.")
    assert stand.request().status_code == 201
    refused(stand, stand.run(rho="0.011"), "rho_not_allowed", "max_rho_total: 0.03", "query.refused")
    assert stand.run(rho="0.01").status_code == 200


def test_a_suspended_grant_refuses_quote_run_and_fetch(sqlite_stand: Stand) -> None:
    from settlement import orders

    stand = sqlite_stand
    answered = stand.run().json()["query"]
    grant = stand.get("buyer", "/v1/grants").json()["items"][0]["grant"]
    stand.market.store.perform(
        _provider(stand),
        _Suspend(),
        lambda tx: {
            "grant": orders.suspend_grant(
                tx.session, grant, org=stand.orgs["provider"], reason="looked into", now=tx.now
            ).id
        },
    )
    for reply in (stand.quote(), stand.run(), stand.get("buyer", f"/v1/queries/{answered}/result")):
        problem(reply, 403, "grant_suspended")
    assert len(stand.entries(outcome="refused", code="grant_suspended")) == 3


@pytest.mark.parametrize(
    ("old", "new", "clause"),
    [
        ('"isAnyOf"', '"isNoneOf"', "odrl.permission[0].constraint[0].operator"),
        ('"purpose"', '"language"', "odrl.permission[0].constraint[0].leftOperand"),
        ('"journalism"', '"advertising"', "odrl"),
    ],
)
def test_a_policy_that_cannot_be_read_denies_at_every_door(
    sqlite_stand: Stand, old: str, new: str, clause: str
) -> None:
    """Somebody with the database's own key wrote into a stored policy: nothing is answered under it."""
    stand = sqlite_stand
    answered = stand.run().json()["query"]
    with stand.market.store.engine.connect() as connection:
        connection.execute(text("DROP TRIGGER licence_append_only_update"))
        changed = text("UPDATE licence SET odrl = replace(odrl, :old, :new)")
        connection.execute(changed, {"old": old, "new": new})
        connection.commit()
    for reply in (
        stand.request("stranger"),
        stand.quote(),
        stand.run(rho="0.02"),
        stand.get("buyer", f"/v1/queries/{answered}/result"),
    ):
        assert problem(reply, 403, "licence_refused")["clause"] == clause
    logged = stand.entries(outcome="refused", code="licence_refused")
    assert [r.document["kind"] for r in logged] == [
        "access.refused",
        "quote.refused",
        "query.refused",
        "answer.refused",
    ]
    refusals = [stand.get("officer", f"/v1/audit/entries/{r.id}").json()["refusal"] for r in logged]
    assert {one["clause"] for one in refusals} == {clause}
    assert any("its odrl was changed" in finding for finding in stand.broken_laws())


def _provider(stand: Stand) -> Any:
    from exchange.identity import Actor

    return Actor(ref="tok_x", org=stand.orgs["provider"], name="city", role="provider")


@dataclass(frozen=True)
class _Suspend:
    """A step of the books whose door is another journey's."""

    kind: ClassVar[str] = "grant.suspended"
    refused: ClassVar[str] = "grant.refused"

    def entry(self) -> Any:
        from exchange.audit.entry import Entry

        return Entry(kind=self.kind, outcome="done")
