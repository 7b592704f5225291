"""Freezes: what an officer stops is stopped at once, cites the freeze, and two persons start it again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from catalog import listings
from exchange.operations import profiling, restraining, running, settling
from tests.journeys.crashes import Died
from tests.journeys.running import ended, endless, gated
from tests.market import sample
from tests.market.browser import Browser
from tests.market.officers import lift, officer, set_restraint
from tests.market.stand import Stand, problem

PURPOSES = "research", "journalism"
RHO, PRICE = 10_000_000, 25
ASYNC = {"Prefer": "respond-async"}
REASON = "subject 4711 was recognised"


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    """An officer, as a person."""
    with closing(officer(stand)) as browser:
        yield browser


def totals(stand: Stand) -> tuple[int, int, int, int]:
    """What was paid and spent, and what is held, in minor units and nano-rho."""
    wallet, budget = stand.wallet(), stand.budget()
    return 10_000 - wallet.posted, budget["rho_nano_spent"], wallet.pending_out, budget["rho_nano_reserved"]


def licence_of(stand: Stand) -> str:
    return str(stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()["id"])


def subjects(stand: Stand) -> dict[str, dict[str, str]]:
    """What can be frozen of the sample market."""
    return {
        "dataset": {"dataset": sample.SLUG},
        "organisation": {"organisation": "acme"},
        "licence": {"licence": licence_of(stand)},
    }


def submit(stand: Stand, key: str = "job", sql: str = sample.COUNT) -> httpx.Response:
    return stand.post("buyer", "/v1/queries", stand.question(sql), key=key, headers=ASYNC)


@pytest.mark.parametrize("subject", ["dataset", "organisation", "licence"])
def test_every_use_is_refused_and_cites_the_freeze(stand: Stand, ada: Browser, subject: str) -> None:
    answer = stand.run(key="before").json()
    quote = stand.quote(sql=sample.BY_ZONE).json()["quote"]
    asked = stand.request(plan="by-request", purpose="journalism").json()["request"]
    made = set_restraint(stand, reason=REASON, **subjects(stand)[subject])
    assert (made["state"], made["subject"]["type"], made["queries_ended"]) == ("in force", subject, 0)
    before = stand.books()
    uses = {
        "request": lambda: stand.request(purpose="journalism"),
        "decide": lambda: stand.post("provider", f"/v1/requests/{asked}/approve", {}),
        "quote": lambda: stand.quote(sql=sample.BY_ZONE),
        "run of a quote": lambda: stand.post("buyer", "/v1/queries", {"quote": quote}),
        "run": lambda: stand.run(sql=sample.MINUTES),
        "repeat": lambda: stand.run(key="again"),
        "replay": lambda: stand.run(key="before"),
        "fetch": lambda: stand.get("buyer", f"/v1/queries/{answer['query']}/result"),
    }
    for name, use in uses.items():
        told = problem(use(), 403, "frozen")
        assert told["freeze"] == made["freeze"], name
        assert REASON not in str(told), name
        assert stand.entries()[-1].document["code"] == "frozen", name
    shown = stand.get("buyer", f"/v1/queries/{answer['query']}").json()
    assert not {"columns", "intervals"} & set(shown)
    assert stand.get("buyer", f"/v1/queries/{answer['query']}/receipt").status_code == 200
    assert stand.books() == before

    lifted = lift(stand, ada, made)
    assert lifted["approval"].startswith("apr_")
    assert stand.run(key="before").json() == answer
    assert stand.run(key="after", sql=sample.BY_ZONE).status_code == 200
    assert stand.broken_laws() == []
    stand.publish_log()
    assert stand.verify().exit_code == 0


def test_what_is_paid_follows_the_licence_version_that_is_used(stand: Stand) -> None:
    """A grant and a request of the first version, and an acceptance of the second: that is what is used."""
    bundle = sample.plan("bundle", kind="credits", bundle="5.00", per_rho="15.00", max_rho="1.5")
    club = sample.plan("club", approval="provider", per_rho="15.00", max_rho="1.5")
    offered = {"plans": [sample.plan(max_rho="1.5"), bundle, club]}
    stand.publish(manifest=sample.manifest(**offered))
    grant = stand.request(plan="bundle").json()["grant"]["grant"]
    asked = [stand.request(plan="club", purpose=purpose).json()["request"] for purpose in PURPOSES]
    first = licence_of(stand)
    stand.publish(manifest=sample.manifest(**offered, licence=sample.licence(text="Name no person.")))
    shown = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()
    body = {"purposes": ["research"], "territory": "EU", "licence_sha256": shown["text_sha256"]}
    assert stand.post("buyer", f"/v1/datasets/{sample.SLUG}/licence/accept", body).status_code == 201

    set_restraint(stand, licence=first)
    assert stand.run(plan="bundle").status_code == 200
    assert stand.post("buyer", f"/v1/grants/{grant}/top-up").status_code == 200
    assert stand.post("provider", f"/v1/requests/{asked[0]}/approve").status_code == 200
    problem(stand.post("provider", f"/v1/requests/{asked[1]}/approve"), 403, "frozen")

    set_restraint(stand, licence=shown["id"])
    before = stand.books()
    problem(stand.run(sql=sample.BY_ZONE, plan="bundle"), 403, "frozen")
    problem(stand.post("buyer", f"/v1/grants/{grant}/top-up"), 403, "frozen")
    problem(stand.post("buyer", f"/v1/grants/{grant}/renew", {"accept_licence": True}), 403, "frozen")
    assert stand.books() == before
    assert stand.broken_laws() == []


def test_answers_under_a_frozen_licence_are_built_on_and_not_repeated(sqlite_stand: Stand) -> None:
    """One version of the dataset, first asked under the licence before it, which allows the same."""
    stand = sqlite_stand
    stand.publish(manifest=sample.manifest(licence=sample.licence(title="Rides, second edition")))
    old = stand.run().json()
    shown = stand.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()
    body = {"purposes": ["research"], "territory": "EU", "licence_sha256": shown["text_sha256"]}
    assert stand.post("buyer", f"/v1/datasets/{sample.SLUG}/licence/accept", body).status_code == 201
    frozen_one = licence_under(stand, old["query"])
    assert frozen_one != shown["id"]
    set_restraint(stand, licence=frozen_one)
    problem(stand.run(), 403, "frozen")
    problem(stand.get("buyer", f"/v1/queries/{old['query']}/result"), 403, "frozen")
    finer = stand.run(rho="0.02")
    assert finer.status_code == 200, finer.text
    assert finer.json()["rho_nano"] == RHO, "the difference: what was drawn before counts"
    assert stand.broken_laws() == []


def licence_under(stand: Stand, query_id: str) -> str:
    """The licence version that a query was asked under."""
    found = text(
        "SELECT a.licence_id FROM query q JOIN acceptance a ON a.id = q.acceptance_id WHERE q.id = :id"
    )
    return stand.market.store.read(lambda session: str(session.execute(found, {"id": query_id}).scalar_one()))


def test_others_go_on(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.request("other").status_code in (200, 201)
    set_restraint(stand, organisation="acme")
    assert stand.run("other").status_code == 200
    problem(stand.run(), 403, "frozen")


def test_what_runs_is_killed_and_what_waits_is_returned(
    stand: Stand, ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        begun = endless(patch)
        running_, waiting = submit(stand, "first"), submit(stand, "second", sample.BY_ZONE)
        assert begun.wait(30)
        made = set_restraint(stand, dataset=sample.SLUG)
        assert made["queries_ended"] == 2
        assert stand.market.engine.turns.settled(10), "its worker is free long before the time limit"
    assert stand.states() == ["FORFEITED", "VOIDED"]
    assert totals(stand) == (0, RHO, 0, 0), "as when a buyer cancels: money back, privacy kept where it began"
    for where, rho in ((running_, RHO), (waiting, 0)):
        job = ended(stand, where.headers["Location"])
        assert (job["state"], job["failure"], job["rho_nano"]) == ("cancelled", "frozen", rho)
        told = problem(stand.get("buyer", f"{where.headers['Location']}/result"), 403, "frozen")
        assert told["freeze"] == made["freeze"]
    codes = [entry.document["code"] for entry in stand.entries() if entry.document["code"] == "frozen"]
    assert len(codes) >= 2
    assert stand.broken_laws() == []
    lift(stand, ada, made)
    problem(stand.get("buyer", f"{running_.headers['Location']}/result"), 409, "query_cancelled")
    assert stand.run(key="fresh").status_code == 200
    assert stand.broken_laws() == []


def test_who_waits_for_the_answer_is_told_of_the_freeze(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        begun = endless(patch)
        waiting = pool.submit(stand.run, key="job")
        assert begun.wait(30)
        made = set_restraint(stand, dataset=sample.SLUG)
        told = problem(waiting.result(timeout=20), 403, "frozen")
    assert told["freeze"] == made["freeze"]


class Between:
    """Sets a freeze at one moment in the life of a query, and ends nothing itself: the officer's process died
    just then.
    """

    def __init__(self, stand: Stand, patch: pytest.MonkeyPatch, step: str) -> None:
        self._stand, self._patch, self.made = stand, patch, dict[str, Any]()
        before = getattr(settling, step)

        def frozen_first(*given: Any, **named: Any) -> Any:
            patch.setattr(settling, step, before)
            self._freeze()
            return before(*given, **named)

        patch.setattr(settling, step, frozen_first)

    def _freeze(self) -> None:
        with self._patch.context() as patch:
            patch.setattr(restraining, "end_frozen", lambda *_: {"voided": 0, "forfeited": 0})
            self.made = set_restraint(self._stand, dataset=sample.SLUG)


@pytest.mark.parametrize(
    ("step", "state", "spent"),
    [("start", "VOIDED", 0), ("keep", "FORFEITED", RHO), ("settle", "FORFEITED", RHO)],
)
def test_a_run_that_meets_a_freeze_releases_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, step: str, state: str, spent: int
) -> None:
    with monkeypatch.context() as patch:
        between = Between(stand, patch, step)
        told = problem(stand.run(key="job"), 403, "frozen")
    assert told["freeze"] == between.made["freeze"]
    assert stand.states() == [state]
    assert totals(stand) == (0, spent, 0, 0)
    assert not stand.entries(kind="query.settled")
    assert stand.broken_laws() == []
    assert stand.sweep() == {"voided": 0, "forfeited": 0, "settled": 0}


def test_an_answer_that_is_settled_does_not_leave_after_the_freeze(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exchange.operations import querying

    stand, deliver = sqlite_stand, querying._deliver

    def frozen_first(*given: Any, **named: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:  # another request, at the same time
            pool.submit(set_restraint, stand, dataset=sample.SLUG).result()
        return deliver(*given, **named)

    monkeypatch.setattr(querying, "_deliver", frozen_first)
    problem(stand.run(), 403, "frozen")
    assert stand.states() == ["SETTLED"]
    assert stand.broken_laws() == []


def test_a_freeze_that_was_lifted_ends_nothing_when_its_key_comes_again(
    stand: Stand, ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"dataset": sample.SLUG, "reason": REASON}
    made = stand.post("officer", "/v1/officer/freezes", body, key="freeze").json()
    lift(stand, ada, made)
    with gated(monkeypatch) as gate:
        where = submit(stand).headers["Location"]
        gate.await_arrival()
        again = stand.post("officer", "/v1/officer/freezes", body, key="freeze").json()
        assert (again["freeze"], again["state"], again["queries_ended"]) == (made["freeze"], "lifted", 0)
        gate.open()
        assert ended(stand, where)["state"] == "succeeded"
    assert stand.states() == ["SETTLED"]
    assert stand.broken_laws() == []


@pytest.mark.parametrize("by", ["officer", "sweeper"])
def test_a_freeze_that_is_lifted_before_it_ends_a_query_does_not_end_it(
    sqlite_stand: Stand, ada_: Browser, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Its queries were listed just before."""
    stand, end = sqlite_stand, restraining.end_frozen
    with gated(monkeypatch) as gate, monkeypatch.context() as patch:
        where = submit(stand).headers["Location"]
        gate.await_arrival()

        def lifted_first(market: Any, actor: Any, rows: Any) -> dict[str, int]:
            patch.undo()
            assert len(rows) == 1
            frozen = stand.get("officer", "/v1/officer/freezes").json()["items"][0]
            lift(stand, ada_, frozen)
            return end(market, actor, rows)

        if by == "officer":
            patch.setattr(restraining, "end_frozen", lifted_first)
            set_restraint(stand, dataset=sample.SLUG)
        else:
            patch.setattr(restraining, "end_frozen", lambda *_: {"voided": 0, "forfeited": 0})
            set_restraint(stand, dataset=sample.SLUG)
            patch.setattr(restraining, "end_frozen", lifted_first)
            stand.sweep()
        gate.open()
        assert ended(stand, where)["state"] == "succeeded"
    assert stand.states() == ["SETTLED"]
    assert stand.broken_laws() == []


def test_the_sweeper_ends_what_a_dead_officers_process_left(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise Died

    with gated(monkeypatch) as gate:
        where = submit(stand).headers["Location"]
        gate.await_arrival()
        with monkeypatch.context() as patch:
            patch.setattr(restraining, "end_frozen", die)
            with pytest.raises(Died):
                set_restraint(stand, dataset=sample.SLUG)
        assert stand.sweep() == {"voided": 0, "forfeited": 1, "settled": 0}, "its lease still runs"
        gate.open()
        assert ended(stand, where)["failure"] == "frozen"
    assert stand.states() == ["FORFEITED"]
    assert totals(stand) == (0, RHO, 0, 0)
    assert stand.broken_laws() == []


def test_runs_race_a_freeze_and_none_slips_between(stand: Stand) -> None:
    """Whatever was settled was settled before the freeze, by the order of the log."""
    start = threading.Barrier(7)

    def ask(number: int) -> httpx.Response:
        start.wait()
        return stand.run(sql=f"select count(*) as n{number} from rides", key=f"k{number}")

    def freeze() -> dict[str, Any]:
        start.wait()
        return set_restraint(stand, dataset=sample.SLUG)

    with ThreadPoolExecutor(7) as pool:
        asked = [pool.submit(ask, number) for number in range(6)]
        made = pool.submit(freeze).result(timeout=60)
        replies = [one.result(timeout=60) for one in asked]
    told = {reply.status_code for reply in replies}
    assert told <= {200, 202, 403, 409, 429, 503}, told
    (entry,) = stand.entries(kind="freeze.set")
    assert all(one.seq < entry.seq for one in stand.entries(kind="query.settled"))
    assert not {"RESERVED", "EXECUTING", "RESULT_DURABLE"} & set(stand.states())
    problem(stand.run(sql=sample.BY_ZONE), 403, "frozen")
    assert stand.get("officer", f"/v1/officer/freezes/{made['freeze']}").json()["state"] == "in force"
    assert stand.broken_laws() == []


def test_the_law_finds_an_answer_that_slipped_through(sqlite_stand: Stand, monkeypatch: Any) -> None:
    stand = sqlite_stand
    set_restraint(stand, organisation="globex")
    for module in (settling.restraints,):
        monkeypatch.setattr(module, "require_free", lambda *_, **__: None)
        monkeypatch.setattr(module, "require_free_query", lambda *_: None)
        monkeypatch.setattr(module, "is_frozen", lambda *_: False)
    assert stand.request("other").status_code in (200, 201)
    assert stand.run("other").status_code == 200
    assert any(one.startswith("L17") and "although" in one for one in stand.broken_laws())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE restraint SET lifted_at = '2026', lifted_by = 'per_1'",
        "UPDATE restraint SET reason = 'another'",
        "UPDATE restraint SET subject = 'ds_0'",
        "DELETE FROM restraint",
    ],
)
def test_a_freeze_that_is_altered_behind_the_doors_is_found(sqlite_stand: Stand, statement: str) -> None:
    stand = sqlite_stand
    set_restraint(stand, dataset=sample.SLUG)
    assert stand.broken_laws() == []
    with stand.market.store.engine.begin() as connection:
        connection.execute(text(statement))
    assert any(one.startswith("L17") for one in stand.broken_laws())


def test_setting_it_again_changes_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    made = set_restraint(stand, dataset=sample.SLUG, reason=REASON)
    again = set_restraint(stand, dataset=sample.SLUG, reason="something else")
    assert (again["freeze"], again["reason"]) == (made["freeze"], REASON)
    body = {"organisation": "acme", "reason": REASON}
    first = stand.post("officer", "/v1/officer/freezes", body, key="k")
    assert stand.post("officer", "/v1/officer/freezes", body, key="k").json() == first.json()
    problem(stand.post("officer", "/v1/officer/freezes", {**body, "reason": "x"}, key="k"), 409, "key_reused")
    listed = stand.get("operator", "/v1/officer/freezes").json()["items"]
    assert {one["freeze"] for one in listed} == {made["freeze"], first.json()["freeze"]}
    kinds = [one.document["kind"] for one in stand.entries() if one.document["kind"].startswith("freeze.")]
    assert kinds == ["freeze.set", "freeze.confirmed", "freeze.set", "freeze.refused"]


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"reason": "x"}, 422, "request_invalid"),
        ({"reason": "x", "dataset": sample.SLUG, "organisation": "acme"}, 422, "request_invalid"),
        ({"reason": " ", "dataset": sample.SLUG}, 422, "request_invalid"),
        ({"reason": "x" * 1001, "dataset": sample.SLUG}, 422, "request_invalid"),
        ({"reason": "a\nb", "dataset": sample.SLUG}, 422, "request_invalid"),
        ({"reason": "x", "dataset": "city/nought"}, 404, "not_found"),
        ({"reason": "x", "organisation": "nobody"}, 404, "not_found"),
        ({"reason": "x", "organisation": "city"}, 422, "request_invalid"),
        ({"reason": "x", "licence": "lic_0"}, 404, "not_found"),
    ],
    ids=str,
)
def test_what_cannot_be_frozen(
    shared_sqlite_stand: Stand, given: dict[str, str], status: int, code: str
) -> None:
    problem(shared_sqlite_stand.post("officer", "/v1/officer/freezes", given), status, code)
    assert shared_sqlite_stand.get("officer", "/v1/officer/freezes").json()["items"] == []


@pytest.mark.parametrize("who", ["provider", "buyer", "operator"])
def test_nobody_else_freezes(shared_sqlite_stand: Stand, who: str) -> None:
    stand = shared_sqlite_stand
    body = {"dataset": sample.SLUG, "reason": REASON}
    problem(stand.post(who, "/v1/officer/freezes", body), 403, "role_missing")
    last = stand.entries()[-1].document
    assert (last["kind"], last["code"]) == ("freeze.refused", "role_missing")
    assert REASON not in str(last)


def test_the_public_log_tells_no_reason(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    made = set_restraint(stand, organisation="acme", reason=REASON)
    (entry,) = stand.entries(kind="freeze.set")
    assert entry.document["object"] == {
        "type": "freeze",
        "id": made["freeze"],
        "version": stand.orgs["buyer"],
        "dataset": None,
    }
    assert entry.document["result"]["sha256"]
    assert all(REASON.encode() not in one.leaf and b"acme" not in one.leaf for one in stand.entries())


@pytest.mark.parametrize("subject", ["dataset", "licence"])
@pytest.mark.parametrize(
    ("step", "state", "spent"), [("start", "voided", 0), ("keep", "forfeited", 3_000_000)]
)
def test_a_profile_that_meets_a_freeze_is_not_released(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, subject: str, step: str, state: str, spent: int
) -> None:
    """Of the dataset, or of the licence version that nothing is on offer under yet; no row is read either."""
    stand, before, made = sqlite_stand, getattr(profiling, step), dict[str, Any]()
    terms = sample.licence(text="Publish nothing.")
    manifest = sample.manifest(policy=sample.policy(profile_rho="0.003"), licence=terms)
    version = stand.draft(manifest=manifest).json()["version"]
    view = stand.market.store.read(lambda session: listings.version_of(session, version))
    named = {"dataset": sample.SLUG} if subject == "dataset" else {"licence": view.licence_id}

    def frozen_first(*given: Any, **rest: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:  # another request, at the same time
            made.update(pool.submit(set_restraint, stand, **named).result())
        return before(*given, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(profiling, step, frozen_first)
        told = problem(
            stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": version}), 403, "frozen"
        )
    assert told["freeze"] == made["freeze"]
    (ended,) = stand.entries(kind=f"profile.{state}")
    assert ended.document["code"] == "frozen"
    assert not stand.entries(kind="profile.released")
    assert (stand.budget()["rho_nano_spent"], stand.budget()["rho_nano_reserved"]) == (spent, 0)
    assert stand.broken_laws() == []


def test_nothing_new_is_offered_of_a_frozen_dataset(sqlite_stand: Stand, ada_: Browser) -> None:
    stand = sqlite_stand
    made = set_restraint(stand, dataset=sample.SLUG)
    drafted = stand.draft(manifest=sample.manifest(title="Again", plans=[sample.plan(fee="0.10")])).json()
    path = f"/v1/datasets/{sample.SLUG}/publish"
    told = problem(stand.post("provider", path, {"version": drafted["version"]}), 403, "frozen")
    assert told["freeze"] == made["freeze"]
    lift(stand, ada_, made)
    assert stand.post("provider", path, {"version": drafted["version"]}).status_code == 200


@pytest.fixture
def ada_(sqlite_stand: Stand) -> Iterator[Browser]:
    with closing(officer(sqlite_stand)) as browser:
        yield browser


def test_a_query_of_another_process_is_ended(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, lent_sandbox: Any
) -> None:
    other = Stand(stand.environ, lent_sandbox, stand.tokens, stand.orgs)
    try:
        with monkeypatch.context() as patch:
            begun = endless(patch)
            where = submit(stand).headers["Location"]
            assert begun.wait(30)
            assert set_restraint(other, dataset=sample.SLUG)["queries_ended"] == 1
            assert stand.market.engine.turns.settled(10)
            assert ended(stand, where)["failure"] == "frozen"
    finally:
        other.close()
    assert totals(stand) == (0, RHO, 0, 0)
    assert (
        running.stop(stand.market, restraining.SYSTEM, where.rpartition("/")[2], org=None, code="x") is None
    )
