"""A licence's versions on the market: who accepts anew, what runs on, who approves, and how fast it ends."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from exchange import queries
from exchange.identity import Role
from exchange.operations import administering, querying
from settlement import ledger
from tests.market import sample
from tests.market.stand import Stand, problem

BY_KIND = "select kind, count(*) as n from rides group by kind"
RACERS = 50


def licensed(stand: Stand, **terms: Any) -> dict[str, Any]:
    stand.publish(manifest=sample.manifest(licence=sample.licence(**terms)))
    return dict(stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json())


def accept(stand: Stand, who: str = "buyer", **more: Any) -> Any:
    current = stand.get(who, f"/v1/datasets/{sample.SLUG}/licence").json()
    body = {"purposes": ["research"], "territory": "EU", "licence_sha256": current["text_sha256"], **more}
    return stand.post(who, f"/v1/datasets/{sample.SLUG}/licence/accept", body)


def acceptance_of(stand: Stand, query: str) -> str:
    found = select(queries.query.c.acceptance_id).where(queries.query.c.id == query)
    return stand.market.store.read(lambda session: str(session.execute(found).scalar_one()))


def test_a_change_that_gives_more_asks_nobody_to_accept_anew(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    before = stand.run().json()["query"]
    licensed(stand, purposes=["research", "journalism", "teaching"], territories=["*"])
    after = stand.run(sql=BY_KIND)
    assert after.status_code == 200
    assert acceptance_of(stand, after.json()["query"]) == acceptance_of(stand, before)
    told = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence/diff").json()
    assert told["material"] is False
    assert [one["says"] for one in told["changes"]] == [
        "Purposes: now also teaching.",
        "Territories: was US, EU, now any.",
    ]
    assert stand.broken_laws() == []


def test_a_change_that_takes_asks_to_accept_anew_and_then_the_same_grant_goes_on(stand: Stand) -> None:
    first = acceptance_of(stand, stand.run().json()["query"])
    quoted = stand.quote(sql=BY_KIND).json()["quote"]
    licensed(stand, purposes=["research"], text="Publish nothing.", publication="forbidden")
    told = problem(stand.run(sql=BY_KIND), 403, "licence_not_accepted")
    assert "no longer journalism" in told["detail"]
    assert "Text: the words differ" in told["detail"]
    problem(stand.quote(), 403, "licence_not_accepted")
    problem(stand.post("buyer", "/v1/queries", {"quote": quoted}), 403, "licence_not_accepted")
    grants = stand.get("buyer", "/v1/grants").json()["items"]
    accepted = accept(stand)
    assert accepted.status_code == 201
    answered = stand.run(sql=BY_KIND)
    assert answered.status_code == 200
    assert acceptance_of(stand, answered.json()["query"]) == accepted.json()["acceptance"] != first
    assert [one["grant"] for one in stand.get("buyer", "/v1/grants").json()["items"]] == [
        one["grant"] for one in grants
    ]
    assert stand.broken_laws() == []


def test_an_acceptance_for_another_use_does_not_carry_a_grant(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    licensed(stand, text="Other words.")
    assert accept(stand, purposes=["journalism"]).status_code == 201
    assert accept(stand, territory="US").status_code == 201
    problem(stand.run(), 403, "licence_not_accepted")
    assert accept(stand, "other").status_code == 201
    problem(stand.run(), 403, "licence_not_accepted")
    assert accept(stand, purposes=["journalism", "research"]).status_code == 201
    assert stand.run().status_code == 200


def test_only_the_text_in_force_can_be_accepted(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    old = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()["text_sha256"]
    licensed(stand, text="Other words.")
    problem(accept(stand, licence_sha256=old), 403, "licence_not_accepted")
    problem(accept(stand, "provider"), 403, "role_missing")
    problem(accept(stand, purposes=[]), 403, "purpose_not_allowed")
    problem(accept(stand, purposes=[5]), 422, "request_invalid")
    problem(accept(stand, role="Boss of all"), 403, "assignee_not_allowed")
    assert stand.entries(kind="licence.accepted") == []


def test_a_running_query_ends_under_the_version_it_began_with(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The licence is replaced and withdrawn while the engine works: the query settles under the old one."""
    stand = sqlite_stand
    first = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()["id"]
    real = querying.privacy.answer

    def replace() -> int:
        licensed(stand, text="Other words.")
        return stand.post("provider", f"/v1/licences/{first}/withdraw", {"reason": "gone"}).status_code

    def answer(*args: Any, **named: Any) -> Any:
        with ThreadPoolExecutor(1) as other:  # another request, in another thread
            assert other.submit(replace).result() == 200
        return real(*args, **named)

    monkeypatch.setattr(querying.privacy, "answer", answer)
    answered = stand.run(key="k")
    assert answered.status_code == 200
    monkeypatch.undo()
    summary = answered.json()["receipt"]["summary"]
    assert summary["acceptance_id"] == acceptance_of(stand, answered.json()["query"])
    entry = stand.entries(kind="query.settled")[-1].document
    policy = stand.get("provider", f"/v1/licences/{first}", headers={"Accept": "application/ld+json"}).json()
    assert policy["uid"].endswith(first)
    assert entry["licence"]["odrl_sha256"] == summary["odrl_sha256"]
    problem(stand.run(key="k"), 403, "licence_withdrawn")
    assert stand.broken_laws() == []


def test_versions_are_listed_and_compared(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    licensed(stand, query_count=10)
    licensed(stand, query_count=20, text="Other words.")
    where = f"/v1/datasets/{sample.SLUG}/licence"
    items = stand.get("buyer", f"{where}/versions").json()["items"]
    assert [one["version"] for one in items] == [1, 2, 3]
    assert [one["material"] for one in items] == [False, True, True]
    whole = stand.get("buyer", f"{where}/diff?from={items[0]['id']}&to={items[2]['id']}").json()
    assert {one["term"]: one["material"] for one in whole["changes"]} == {"query_count": True, "text": True}
    newest = stand.get("buyer", f"{where}/diff").json()
    assert newest["changes"][0] == {
        "term": "text",
        "material": True,
        "says": "Text: the words differ; read them again.",
    }
    assert newest["changes"][1]["says"] == "Queries of one organisation: was 10, now 20."
    problem(stand.get("buyer", f"{where}/diff?from=lic_0"), 404, "licence_missing")
    problem(stand.get("buyer", "/v1/datasets/no/such/licence/versions"), 404, "dataset_not_found")


def test_a_licence_is_seen_by_who_has_to_do_with_it(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    licence = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()
    where = f"/v1/licences/{licence['id']}"
    for who in ("provider", "buyer", "officer"):
        assert stand.get(who, where).json()["text_sha256"] == licence["text_sha256"]
    for who in ("rival", "stranger"):
        problem(stand.get(who, where), 404, "licence_missing")
    assert stand.get("buyer", where, headers={"Accept": "text/plain"}).text == licence["text"]


def test_a_version_that_needs_approval_is_offered_once_somebody_else_gave_it(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    strict = dataclasses.replace(stand.market.settings, licence_approval=1)
    object.__setattr__(stand.market, "settings", strict)
    second = administering.create_token(stand.market, org="city", role=Role.PROVIDER)["token"]
    drafted = stand.draft(manifest=sample.manifest(licence=sample.licence(text="Mine."))).json()
    publish = (f"/v1/datasets/{drafted['slug']}/publish", {"version": drafted["version"]})
    told = problem(stand.post("provider", *publish), 409, "licence_not_approved")
    assert told["clause"] == "approval"
    refused = stand.entries(outcome="refused", code="licence_not_approved")[-1]
    licence = stand.get("officer", f"/v1/audit/entries/{refused.id}").json()["refusal"]["licence_id"]
    where = f"/v1/licences/{licence}/approve"
    problem(stand.post("provider", where), 403, "licence_edited_by_approver")
    problem(stand.post("rival", where), 404, "licence_missing")
    problem(stand.post("buyer", where), 403, "role_missing")
    assert stand.post(second, where).json()["approved_at"] is not None
    assert stand.post("provider", *publish).status_code == 200
    # Who approved one version and edits the next does not approve that one.
    changed = sample.manifest(licence=sample.licence(text="Mine, and changed."))
    redrafted = stand.draft(second, manifest=changed).json()
    again = (f"/v1/datasets/{redrafted['slug']}/publish", {"version": redrafted["version"]})
    problem(stand.post(second, *again), 409, "licence_not_approved")
    newest = stand.entries(outcome="refused", code="licence_not_approved")[-1]
    licence = stand.get("officer", f"/v1/audit/entries/{newest.id}").json()["refusal"]["licence_id"]
    problem(stand.post(second, f"/v1/licences/{licence}/approve"), 403, "licence_edited_by_approver")
    assert stand.post("officer", f"/v1/licences/{licence}/approve").status_code == 200
    assert stand.post(second, *again).status_code == 200
    assert stand.broken_laws() == []


def test_nothing_is_spent_for_a_version_whose_licence_waits_for_approval(sqlite_stand: Stand) -> None:
    """Neither is the domain's budget granted, nor is rho spent on a profile."""
    stand = sqlite_stand
    strict = dataclasses.replace(stand.market.settings, licence_approval=1)
    object.__setattr__(stand.market, "settings", strict)
    policy = sample.policy(domain="riders:waiting", profile_rho=0.01)
    manifest = sample.manifest(slug="city/waiting", policy=policy, licence=sample.licence(text="Mine."))
    drafted = stand.draft(manifest=manifest, files=sample.files(seed=21)).json()
    reply = stand.post("provider", "/v1/datasets/city/waiting/publish", {"version": drafted["version"]})
    problem(reply, 409, "licence_not_approved")
    charted = select(ledger.account.c.id).where(ledger.account.c.owner == "riders:waiting")
    assert stand.market.store.read(lambda session: session.execute(charted).all()) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("what", "stopped"), [("licence", "licence_withdrawn"), ("listing", "dataset_not_found")]
)
def test_withdrawal_stops_fifty_concurrent_reservations_at_once(
    stand: Stand, what: str, stopped: str
) -> None:
    """Fifty buyers' questions are on their way when licence or listing ends: none is reserved a second later
    - in fact none after the commit -, what was reserved is answered and settled, and the rest is refused."""
    licence = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()["id"]
    door = f"/v1/licences/{licence}/withdraw" if what == "licence" else f"/v1/datasets/{sample.SLUG}/withdraw"
    start, some = threading.Barrier(RACERS + 1), threading.Event()

    def ask(number: int) -> tuple[int, str]:
        start.wait()
        reply = stand.run(rho=f"0.00{number + 10}")
        while reply.status_code in (429, 503):  # the queue is shorter than fifty
            time.sleep(0.05)
            reply = stand.run(rho=f"0.00{number + 10}")
        some.set()
        return reply.status_code, str(reply.json().get("code"))

    with ThreadPoolExecutor(RACERS) as pool:
        asked = [pool.submit(ask, number) for number in range(RACERS)]
        start.wait()
        assert some.wait(60)
        done = stand.post("provider", door, {"reason": "stop"} if what == "licence" else {})
        assert done.status_code == 200
        outcomes = [one.result() for one in asked]
    [entry] = stand.entries(kind=f"{what}.withdrawn")
    withdrawn = datetime.fromisoformat(entry.document["time"])
    found = select(queries.query.c.reserved_at, queries.query.c.state)
    rows = stand.market.store.read(lambda session: session.execute(found).all())
    assert all(datetime.fromisoformat(row.reserved_at) < withdrawn for row in rows)
    assert {row.state for row in rows} == {queries.SETTLED}
    answered = [status for status, _ in outcomes if status == 200]
    refused = [code for status, code in outcomes if code == stopped]
    # A question that is reserved may still be refused on delivery: fetching is a use, too.
    assert len(answered) <= len(rows) < RACERS
    assert refused
    assert {code for status, code in outcomes if status != 200} <= {stopped, "in_progress"}
    assert datetime.now(UTC) > withdrawn
    assert stand.broken_laws() == []


def test_a_manifest_may_name_a_template_or_hold_a_policy(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    template = {"template": "research", "territories": ["EU"]}
    stand.publish(manifest=sample.manifest(licence=template))
    licence = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()
    shown = stand.get("provider", "/v1/licences/templates/research").json()
    assert (licence["title"], licence["text"]) == (shown["title"], shown["text"])
    assert licence["terms"] == {**shown["terms"], "territories": ["EU"]}
    policy = {**licence["odrl"], "uid": "urn:mine"}
    held = {"title": "By policy", "text": "As the policy says.", "odrl": policy}
    stand.publish(manifest=sample.manifest(licence=held))
    assert stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()["terms"] == licence["terms"]
    policy = json.loads(json.dumps(policy))
    policy["permission"][0]["constraint"][0]["operator"] = "isNoneOf"
    told = problem(
        stand.draft(manifest=sample.manifest(licence={**held, "odrl": policy})), 422, "licence_invalid"
    )
    assert told["path"] == "odrl.permission[0].constraint[0].operator"
    columns = sample.licence(columns=["rides.zone", "rides.age"])
    told = problem(stand.draft(manifest=sample.manifest(licence=columns)), 422, "licence_invalid")
    assert told["path"] == "terms.columns[1]"


def test_a_licence_is_checked_before_anything_is_uploaded(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    made = stand.post("provider", "/v1/licences/check", {"terms": {"template": "commercial-internal"}}).json()
    assert "Publication of answers: forbidden." in made["in_words"]
    assert made["odrl"]["prohibition"][0]["action"] == "distribute"
    wrong = {"terms": {"template": "research", "purpose": ["x"]}}
    told = problem(stand.post("provider", "/v1/licences/check", wrong), 422, "licence_invalid")
    assert "did you mean purposes?" in told["detail"]
    problem(stand.post(None, "/v1/licences/check", wrong), 401, "token_unknown")
    problem(stand.get("provider", "/v1/licences/templates/none"), 404, "not_found")
    names = [one["name"] for one in stand.get("provider", "/v1/licences/templates").json()["items"]]
    assert names == sorted(names)
    assert len(names) == 5
