"""A random walk over the market beside a small model: every law of the books holds after every step."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from exchange.operations import administering
from privacy.sandbox import Sandbox
from settlement.prices import PricePlan
from tests.journeys.crashes import (
    BY_NAME,
    CRASHES,
    LEASE_S,
    PROFILE_CRASHES,
    PROFILE_LEASE_S,
    Died,
    ProfileCrash,
    plant,
    plant_in_publishing,
)
from tests.market import sample
from tests.market.prepared import Postgres, Prepared, copied
from tests.market.stand import Stand

BUYERS = ("buyer", "other", "poor")
NAMES = {"buyer": "acme", "other": "globex", "poor": "initech"}
QUESTIONS = (sample.COUNT, sample.BY_ZONE, sample.MINUTES, "select count(*) as n from rides where paid")
#: Named, so that a question refines what was spent on it before at whatever rho: planners may choose another.
STRATEGY = {"options": {"strategy": "clip"}}
RHO = (10_000_000, 150_000_000, 600_000_000)
ALLOWANCE = 1_000_000_000
PROFILE = 3_000_000
UNSPENT = 4
PROFILED = sample.manifest(policy=sample.policy(profile_rho="0.003"))
PRICE = PricePlan.from_document(sample.plan())

Prepare = Callable[[str], tuple[Prepared, Postgres | None]]


class Walk(RuleBasedStateMachine):
    """People do what people do; the model keeps money, budgets and allowances as plain numbers."""

    stands: Callable[[], contextlib.AbstractContextManager[Stand]]
    done: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.open = contextlib.ExitStack()
        self.keys = itertools.count()
        self.money = {"buyer": 10_000, "other": 10_000, "poor": 0}
        self.allowance = dict.fromkeys(BUYERS, ALLOWANCE)
        self.spent = 0
        self.version = 1
        self.bought: dict[tuple[str, int, str, int], Any] = {}
        self.best: dict[tuple[str, int, str], int] = {}
        self.replies: list[tuple[str, str, int, str, Any]] = []
        self.held: list[tuple[str, int, str, int, str, tuple[int, int]]] = []
        self.dying: ProfileCrash | None = None

    @initialize(sql=st.sampled_from(QUESTIONS), rho=st.sampled_from(RHO))
    def begin(self, sql: str, rho: int) -> None:
        """Whatever a walk does, something was asked before."""
        self.stand = self.open.enter_context(type(self).stands())
        for who in BUYERS:
            self.ask(who, sql, rho)

    def teardown(self) -> None:
        with self.open:
            if (stand := getattr(self, "stand", None)) is not None:
                type(self).done.update(stand.states())
                type(self).done["programs"] += 1
                self.publish_the_log()

    # what people do

    @rule(who=st.sampled_from(BUYERS), cents=st.integers(1, 3_000))
    def credit(self, who: str, cents: int) -> None:
        administering.credit_wallet(
            self.stand.market,
            org=NAMES[who],
            amount=f"{cents // 100}.{cents % 100:02d}",
            currency="USD",
            reference=f"walk-{next(self.keys)}",
        )
        self.money[who] += cents

    @rule(who=st.sampled_from(BUYERS), sql=st.sampled_from(QUESTIONS), rho=st.sampled_from(RHO))
    def ask(self, who: str, sql: str, rho: int) -> None:
        key = f"ask-{next(self.keys)}"
        reply = self.stand.run(who, sql, f"{rho / 1e9:.9f}", key=key, **STRATEGY)
        expected = self.expected(who, sql, rho)
        assert (reply.status_code, reply.json().get("code", "")) == expected, reply.text
        if reply.status_code == 200:
            self.answered(who, sql, rho, key, reply.json())

    @rule(who=st.sampled_from(BUYERS), sql=st.sampled_from(QUESTIONS), rho=st.sampled_from(RHO))
    def quote_and_run(self, who: str, sql: str, rho: int) -> None:
        quoted = self.quoted(who, sql, rho)
        key = f"quoted-{next(self.keys)}"
        expected = self.expected(who, sql, rho)
        reply = self.stand.post(who, "/v1/queries", {"quote": quoted["quote"]}, key=key)
        assert (reply.status_code, reply.json().get("code", "")) == expected, reply.text
        if reply.status_code == 200:
            self.answered(who, sql, rho, "", reply.json())

    @rule(number=st.integers(0, 1_000))
    def repeat_a_call(self, number: int) -> None:
        """The same key again: word for word the same, whatever happened since."""
        if self.replies:
            who, sql, rho, key, body = self.replies[number % len(self.replies)]
            again = self.stand.run(who, sql, f"{rho / 1e9:.9f}", key=key, **STRATEGY)
            assert again.status_code == 200, again.text
            assert {**again.json(), "receipt": None} == {**body, "receipt": None}

    @rule(
        who=st.sampled_from(BUYERS),
        sql=st.sampled_from(QUESTIONS),
        rho=st.sampled_from(RHO),
        crash=st.sampled_from([crash.name for crash in CRASHES]),
    )
    def die(self, who: str, sql: str, rho: int, crash: str) -> None:
        """The process dies at a boundary; what it held stays held until the sweep."""
        same = (who, self.version, sql, rho)
        if self.expected(who, sql, rho) != (200, "") or same in self.bought:
            return
        key = f"died-{next(self.keys)}"
        quoted = self.quoted(who, sql, rho)
        with pytest.MonkeyPatch.context() as patch:
            plant(patch, crash, _die)
            with pytest.raises(Died):
                self.stand.run(who, sql, f"{rho / 1e9:.9f}", key=key, **STRATEGY)
        cost = quoted["price"]["amount_minor"], quoted["rho_nano"]
        self.charge(who, cost)
        if crash == "before the reply":
            self.keep(same, None, cost[1])
        else:
            self.held.append((*same, crash, cost))

    @rule()
    def sweep(self) -> None:
        self.stand.clock.advance(seconds=max(LEASE_S, PROFILE_LEASE_S))
        done = self.stand.sweep()
        publishing = self.dying is not None and self.dying.swept != ""
        assert sum(done.values()) == len(self.held) + publishing
        for who, version, sql, rho, name, (price, spent) in self.held:
            crash = BY_NAME[name]
            if not crash.pays:
                self.money[who] += price
            if not crash.spends:
                self.allowance[who] += spent
                self.spent -= spent
            if crash.pays:
                self.keep((who, version, sql, rho), None, spent)
        self.held.clear()
        if self.dying is not None and self.dying.ends == "VOIDED":
            self.spent -= PROFILE
            self.dying = PROFILE_CRASHES[0]
        elif publishing:
            self.dying = PROFILE_CRASHES[-2]
        assert not any(self.stand.sweep().values())

    @rule(again=st.booleans(), crash=st.none() | st.sampled_from(PROFILE_CRASHES))
    def publish(self, again: bool, crash: ProfileCrash | None) -> None:
        """The same files are no new version; other files are, under the budget that is left.

        Where the process dies on the way, the next publication or the sweep makes the best of it.
        """
        again = again and self.dying is None
        if not again and sample.RHO_NANO - self.spent < PROFILE:
            return
        version = self.draft(new=not again)
        if crash is not None and not again and self.dying is None:
            self.die_publishing(version, crash)
            return
        reply = self.offer(version)
        if self.dying is not None and self.dying.swept:
            assert (reply.status_code, reply.json()["code"]) == (409, "in_progress")
            return
        assert reply.status_code == 200, reply.text
        assert reply.json()["version_number"] == self.version + (not again)
        self.spent += PROFILE * (not again and self.dying in (None, PROFILE_CRASHES[0]))
        self.version += not again
        self.dying = None

    @rule()
    def publish_the_log(self) -> None:
        self.stand.publish_log()
        assert self.stand.verify().exit_code == 0

    # the model

    def draft(self, *, new: bool) -> str:
        """A draft of the version on offer, or of the next one; both may be there already."""
        number = self.version + new
        files = sample.files(seed=7 if number == 1 else 99 + number)
        made = self.stand.draft(manifest=sample.manifest() if number == 1 else PROFILED, files=files).json()
        assert (made["version_number"], made["unchanged"]) == (number, not new or self.dying is not None)
        return str(made["version"])

    def die_publishing(self, version: str, crash: ProfileCrash) -> None:
        with pytest.MonkeyPatch.context() as patch:
            plant_in_publishing(patch, crash.name, _die)
            with pytest.raises(Died):
                self.offer(version)
        self.spent += PROFILE * (crash.state != "")
        offered = crash.name == "before the reply"
        self.version += offered
        self.dying = None if offered else crash

    def offer(self, version: str) -> Any:
        return self.stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": version})

    def cost(self, who: str, sql: str, rho: int) -> tuple[int, int]:
        """Price and rho: the difference to the most that the buyer has spent on the question."""
        before = min(self.best.get((who, self.version, sql), 0), rho)
        return PRICE.price(rho) - PRICE.price(before), rho - before

    def quoted(self, who: str, sql: str, rho: int) -> Any:
        quote = self.stand.quote(who, sql, f"{rho / 1e9:.9f}", **STRATEGY).json()
        told, modelled = (quote["price"]["amount_minor"], quote["rho_nano"]), self.cost(who, sql, rho)
        assert self.agree(told, modelled), (told, modelled)
        return quote

    def agree(self, told: tuple[int, int], modelled: tuple[int, int]) -> bool:
        """Noise comes in whole steps, so that the last billionths of a rho may be left unspent."""
        return told[0] == modelled[0] and modelled[1] - UNSPENT <= told[1] <= modelled[1]

    def expected(self, who: str, sql: str, rho: int) -> tuple[int, str]:
        if (who, self.version, sql, rho) in self.bought:
            return 200, ""
        if any(held[:3] == (who, self.version, sql) for held in self.held):
            return 409, "in_progress"
        price, spends = self.cost(who, sql, rho)
        if spends > self.allowance[who] or spends > sample.RHO_NANO - self.spent:
            # What is short is told by the first account in id order: budgets stand behind wallets.
            return (402, "payment_required") if price > self.money[who] else (409, "budget_exhausted")
        return (402, "payment_required") if price > self.money[who] else (200, "")

    def charge(self, who: str, cost: tuple[int, int]) -> None:
        self.money[who] -= cost[0]
        self.allowance[who] -= cost[1]
        self.spent += cost[1]

    def keep(self, same: tuple[str, int, str, int], result: Any, spent: int = 0) -> None:
        """The result, and what the question has cost in all: each step costs what is still to be spent."""
        self.bought[same] = result
        self.best[same[:3]] = self.best.get(same[:3], 0) + spent

    def answered(self, who: str, sql: str, rho: int, key: str, body: dict[str, Any]) -> None:
        same = (who, self.version, sql, rho)
        assert body["repeated"] is (same in self.bought)
        if same not in self.bought:
            charged = body["charged"]["amount_minor"], body["rho_nano"]
            modelled = self.cost(who, sql, rho)
            assert self.agree(charged, modelled), (charged, modelled)
            assert (body["refines"] is not None) is (0 < modelled[1] < rho)
            self.charge(who, charged)
            self.keep(same, body["result_sha256"], charged[1])
        elif self.bought[same] is not None:
            assert body["result_sha256"] == self.bought[same]
        else:
            self.keep(same, body["result_sha256"])
        if key:
            self.replies.append((who, sql, rho, key, body))

    @invariant()
    def books_agree_with_the_model(self) -> None:
        stand: Stand | None = getattr(self, "stand", None)
        if stand is None:
            return
        type(self).done["steps"] += 1
        assert stand.broken_laws() == []
        assert {who: stand.wallet(who).available for who in BUYERS} == self.money
        budget = stand.budget()
        assert budget["rho_nano_remaining"] == sample.RHO_NANO - self.spent
        assert {who: stand.allowance(who) for who in BUYERS} == self.allowance


def _die() -> None:
    raise Died


def walk(
    stands: Callable[[], contextlib.AbstractContextManager[Stand]],
    *,
    examples: int,
    steps: int,
    chosen: int | None = None,
) -> Counter[str]:
    """So many programs of so many steps; what was done in them, by name.

    Args:
        chosen: names the programs; the same ones each time where it is left out.
    """
    done: Counter[str] = Counter()
    here = type("WalkHere", (Walk,), {"stands": staticmethod(stands), "done": done})
    if chosen is not None:
        here = seed(chosen)(here)
    settled = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=chosen is None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(here, settings=settled)
    return done


@pytest.mark.parametrize(
    ("kind", "examples", "steps"),
    [("sqlite", 8, 20), pytest.param("postgres", 3, 16, marks=pytest.mark.postgres)],
)
def test_a_random_walk_breaks_no_law(
    prepared_markets: Prepare,
    lent_sandbox: Callable[[], Sandbox],
    tmp_path: Path,
    kind: str,
    examples: int,
    steps: int,
) -> None:
    number = itertools.count()

    @contextlib.contextmanager
    def stands() -> Iterator[Stand]:
        prepared, server = prepared_markets(kind)
        with copied(prepared, tmp_path / f"walk{next(number)}", lent_sandbox, server) as made:
            yield made

    done = walk(stands, examples=examples, steps=steps)
    assert done["programs"] >= examples
    assert done["SETTLED"] >= 2 * examples, "a walk that asks nothing shows nothing"
