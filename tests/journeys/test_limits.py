"""What ends when it is said to end: allowances, licences, grants, budgets; and what never enters the log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from exchange.errors import NotFound
from exchange.operations import administering
from settlement import licences, orders
from tests.market import sample
from tests.market.stand import Stand, problem


def write(stand: Stand, change: Callable[[Session], Any]) -> None:
    """What a provider's door will do one day: a change of the books without any door."""
    with Session(stand.market.store.engine) as session, session.begin():
        change(session)


def grant_of(stand: Stand) -> dict[str, Any]:
    """The buyer's newest grant."""
    found: dict[str, Any] = stand.get("buyer", "/v1/grants").json()["items"][0]
    return found


def test_another_purpose_is_another_grant_and_no_other_allowance(stand: Stand) -> None:
    assert stand.run(rho="0.7").status_code == 200
    made = stand.request(purpose="journalism", territory="EU-DE").json()["grant"]
    assert made["rho_nano_remaining"] == 300_000_000
    told = problem(stand.run(sql=sample.BY_ZONE, rho="0.4"), 409, "budget_exhausted")
    assert told["remaining"] == 300_000_000
    assert stand.run(sql=sample.BY_ZONE, rho="0.3").status_code == 200
    assert stand.broken_laws() == []


@pytest.mark.parametrize("move", [orders.suspend_grant, orders.withdraw_grant])
def test_a_stopped_grant_is_not_started_by_asking_again(sqlite_stand: Stand, move: Any) -> None:
    stand, grant = sqlite_stand, grant_of(sqlite_stand)["grant"]
    provider, now = stand.orgs["provider"], stand.market.store.clock()
    write(stand, lambda session: move(session, grant, org=provider, reason="review", now=now))
    code = "grant_suspended" if move is orders.suspend_grant else "grant_withdrawn"
    problem(stand.request(), 403, code)
    problem(stand.request(purpose="journalism"), 403, code)
    assert problem(stand.run(), 403, code)["hint"]


def test_an_answer_is_not_read_once_its_licence_or_grant_has_ended(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    bought = stand.run(key="first").json()
    where = f"/v1/queries/{bought['query']}"
    assert "intervals" in stand.get("buyer", where).json()
    accepted = stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["licence"]["id"]
    provider, now = stand.orgs["provider"], stand.market.store.clock()
    write(
        stand,
        lambda session: licences.withdraw_licence(
            session, accepted, org=provider, actor="test", reason="review", now=now
        ),
    )
    problem(stand.get("buyer", f"{where}/result"), 403, "licence_withdrawn")
    problem(stand.run(key="first"), 403, "licence_withdrawn")
    problem(stand.run(), 403, "licence_withdrawn")
    left = stand.get("buyer", where).json()
    assert left["state"] == "succeeded"
    assert not {"intervals", "columns", "rows"} & set(left)
    assert stand.get("buyer", f"{where}/receipt").status_code == 200, "what was bought stays provable"


def test_private_bytes_are_not_listed_as_public(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    open_policy = {
        **sample.policy(domain="riders:open"),
        "tables": {"rides": {"public": True}, "zones": {"public": True}},
    }
    again = {**sample.manifest(policy=open_policy), "slug": "city/open"}
    problem(stand.draft(manifest=again), 409, "data_listed_elsewhere")
    rival = {**sample.manifest(policy=open_policy), "slug": "harbour/open"}
    problem(stand.draft("rival", rival), 409, "data_listed_elsewhere")
    loosened = sample.manifest(policy={**open_policy, "domain": sample.DOMAIN})
    fresh = {"rides": sample.rides(seed=99), "zones": sample.zones()}
    problem(stand.draft(manifest=loosened, files=fresh), 409, "policy_loosened")
    moved = sample.manifest(policy=sample.policy(domain="riders:fresh"))
    problem(stand.draft(manifest=moved, files=fresh), 409, "policy_loosened")
    assert len(stand.get("buyer", "/v1/datasets").json()["items"]) == 1


def test_names_and_domains_belong_to_who_published_first(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    squat = {**sample.manifest(policy=sample.policy(domain="riders:squat")), "slug": "city/official"}
    files = {"rides": sample.rides(seed=5), "zones": sample.zones()}
    problem(stand.draft("rival", squat, files), 409, "slug_of_another")
    drafted = {**sample.manifest(policy=sample.policy(domain="riders:later")), "slug": "harbour/drafted"}
    assert stand.draft("rival", drafted, files).status_code == 201
    mine = {**sample.manifest(policy=sample.policy(domain="riders:later")), "slug": "city/later"}
    stand.publish(manifest=mine, files={"rides": sample.rides(seed=6), "zones": sample.zones()})


def test_no_text_of_a_callers_choice_enters_the_log(sqlite_stand: Stand) -> None:
    stand, secret = sqlite_stand, "john-smith-born-1970"
    stand.get(None, "/v1/whoami", headers={"X-Request-Id": secret})
    stand.request(purpose=secret)
    stand.request(slug=f"{secret}/{secret}")
    stand.quote(sql=f"select '{secret}' from rides")
    stand.post("buyer", "/v1/queries", {"quote": secret})
    stand.post("buyer", "/v1/queries", {"dataset": secret, "sql": "select 1", "rho": "0.1"})
    stand.post("provider", f"/v1/datasets/{secret}/publish", {"version": secret})
    stand.get("officer", f"/v1/audit/entries/{secret}")
    stand.get("officer", f"/v1/audit/entries?q={secret}")
    assert not [record.seq for record in stand.entries() if secret.encode() in record.leaf]


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ("UPDATE query SET sql = 'select 2'", "L5"),
        ("UPDATE query SET purpose = 'journalism'", "L5"),
        ("UPDATE query SET delta_pico = delta_pico + 1", "L5"),
        ("UPDATE access_grant SET plan = replace(plan, '20.00', '0.01')", "L9"),
        ("UPDATE account SET floor = floor, owner = owner", ""),
    ],
)
def test_a_row_that_disagrees_with_the_log_is_named(sqlite_stand: Stand, change: str, law: str) -> None:
    stand = sqlite_stand
    assert stand.run().status_code == 200
    stand.publish_log()
    write(stand, lambda session: session.execute(text(change)))
    broken = stand.broken_laws()
    assert {finding.partition(":")[0] for finding in broken} == ({law} if law else set())
    assert stand.verify().exit_code == (11 if law else 0)


def test_every_flipped_byte_of_earlier_tiles_is_named(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    stand.publish_log()
    assert stand.run().status_code == 200
    stand.publish_log()
    assert stand.verify().exit_code == 0
    files = [path for path in (stand.home / "log" / "tile").rglob("*") if path.is_file()]
    assert any(re.search(r"\.p/", path.as_posix()) for path in files)
    for path in files:
        kept = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert stand.verify().exit_code == 11, path.name
        path.write_bytes(kept)
    assert stand.verify().exit_code == 0


def test_a_revoked_token_opens_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    token = stand.tokens["buyer"].partition(".")[0]
    assert administering.revoke_token(stand.market, token=token)["token_id"] == token
    problem(stand.run(), 401, "token_unknown")
    with pytest.raises(NotFound):
        administering.revoke_token(stand.market, token="tok_" + "0" * 24)


@pytest.mark.parametrize("number", ["1" + "0" * 400, float("1e308") * 10, "nan", "-1", "٣", True])
def test_odd_numbers_are_refused(shared_stand: Stand, number: Any) -> None:
    asked = {"dataset": sample.SLUG, "sql": sample.COUNT}
    for body in ({"epsilon": number}, {"rho": number}, {"error": {"n": number}}):
        reply = shared_stand.call(
            "buyer",
            "POST",
            "/v1/quotes",
            content=json.dumps({**asked, **body}),
            headers={"Content-Type": "application/json"},
        )
        assert reply.status_code in (413, 422), (body, reply.text)
