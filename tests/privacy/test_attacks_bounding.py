"""Whatever profile was released and whatever is asked of it, one unit moves no more than is charged for.

`tests/privacy/test_sensitivity.py` does the same for the policy's caps and two profiles; here the planner's
choice is driven by profiles at random, and units have more groups than any cap.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.answering import metadata
from privacy.bounding import STRATEGIES
from privacy.profile import Histogram, KeyProfile, NumberProfile, Profile, TableProfile
from tests.privacy.profiles import histogram, visits
from tests.privacy.test_sensitivity import POLICY, STATEMENTS, TYPES, VISITS, WARDS, _check, _sums

PROFILES = 12
KEYS = ("ward", "code", "day", "note")


class Drawn:
    """Policies, profiles, questions and databases: the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def plan(self) -> privacy.Plan | None:
        """A question as it is bounded; None where there is a reason not to."""
        draw = self.random
        strategy = draw.choice([None, None, None, *STRATEGIES])
        groups, rows = (draw.choice([None, None, 1, 3]) for _ in range(2))
        options = privacy.Options(groups, max_rows=rows, strategy=strategy) if draw.random() < 0.3 else None
        rho = draw.choice([1e-4, 1e-3, 0.01, 0.1, 1.0])
        try:
            return privacy.plan(
                draw.choice(STATEMENTS), self.policy(), rho=rho, profile=self.profile(), options=options
            )
        except privacy.Refused:
            return None

    def policy(self) -> privacy.Policy:
        document = copy.deepcopy(POLICY)
        visits: dict[str, Any] = document["tables"]["visits"]  # type: ignore[index]
        visits["max_groups"] = self.random.choice([1, 2, 3, 8])
        visits["max_rows_per_group"] = self.random.choice([1, 3, 50])
        visits["max_rows"] = self.random.choice([1, 4, 400])
        return privacy.Policy.from_document(document, TYPES)

    def profile(self) -> Profile:
        keys = {name: KeyProfile(self._sizes(3), self._sizes(4)) for name in KEYS}
        numbers = {
            "cost": NumberProfile(self.random.randint(-10, 25), self._sizes(8), self._sizes(8)),
            "score": NumberProfile(self.random.randint(-150, 225), self._sizes(12), self._sizes(12)),
        }
        return Profile(1000, {"visits": TableProfile(self._sizes(6), keys, numbers)})

    def _sizes(self, most: int) -> Histogram:
        """Units of a few sizes, and noise."""
        counts = [self.random.randint(-3, 3) for _ in range(40)]
        first = self.random.randint(1, most)
        for place in range(first, first + self.random.randint(1, 4)):
            counts[place] += int(10 ** self.random.uniform(0, 4.5))
        return Histogram(tuple(counts), self.random.choice([0.1, 1.0, 30.0]))

    def rows(self) -> list[dict[str, Any]]:
        """One unit has far more rows, and groups of private keys, than any other."""
        sizes = {"heavy": 300, "middling": 20, **dict.fromkeys(("light", "", "v1:x"), 2)}
        return [self._row(person) for person, size in sizes.items() for _ in range(size)]

    def _row(self, person: str) -> dict[str, Any]:
        draw = self.random
        return {
            "person": person,
            "ward": draw.choice(["a", "b", "c", "d", None]),
            "code": f"c{draw.randrange(200)}",
            "day": draw.choice([1, 2, 3, 4, 5, 6, None]),
            "cost": draw.choice([None, 0, 1, 25, -10, 25, 25, 2**63 - 1]),
            "score": draw.choice([None, float("nan"), float("inf"), -0.0, 2.25, 2.25, -1.5, draw.random()]),
            "note": draw.choice([None, "", *map(str, range(200))]),
            "big": draw.choice([None, -(2**63), draw.randrange(-300, 300)]),
        }


@pytest.mark.parametrize("seed", range(PROFILES))
def test_no_profile_makes_the_planner_charge_too_little(seed: int, exact: Any) -> None:
    drawn = Drawn(seed)
    plans = [plan for _ in range(8) if (plan := drawn.plan()) is not None]
    rows = drawn.rows()
    wards = pa.Table.from_pylist([{"ward": "a", "city": "N"}, {"ward": "b", "city": None}], WARDS)
    moved = 0
    for plan in plans:
        whole = _sums(plan, exact, rows, wards)
        for person in ("heavy", "middling", "light"):
            without = _sums(plan, exact, [row for row in rows if row["person"] != person], wards)
            moved += _check(plan, whole, without)
    assert moved > 0


def test_caps_that_a_profile_speaks_for_keep_no_more_groups_than_are_charged(exact: Any) -> None:
    """What drops groups by rank keeps those of the cap, not as many as what scales them may show."""
    table = TableProfile(
        histogram((200, 6)), {"note": KeyProfile(histogram((200, 1)), histogram((200, 6)))}, {}
    )
    sql = "SELECT note, sum(abs(cost) + 1) AS s FROM visits GROUP BY note"
    policy = privacy.Policy.from_document(POLICY, TYPES)
    plan = privacy.plan(sql, policy, rho=0.001, profile=Profile(1000, {"visits": table}))
    assert plan.releases[0].lowered.aggregate.input.strategy == "caps"
    rows = [{"person": "p", "note": str(number), "cost": 25} for number in range(100)]
    wards = pa.Table.from_pylist([], WARDS)
    whole, without = _sums(plan, exact, rows, wards), _sums(plan, exact, [], wards)
    assert sum(row["c0"] > 0 for row in whole.values()) == 2
    assert _check(plan, whole, without) > 0


@pytest.mark.parametrize("sql", STATEMENTS)
def test_what_is_stated_of_an_answer_is_standard_json(sql: str) -> None:
    """Also where nothing is known: a slope's error has no bound in small cells."""
    plan = privacy.plan(sql, privacy.Policy.from_document(POLICY, TYPES), rho=0.001)
    assert json.dumps(metadata(plan), allow_nan=False)


def test_no_profile_makes_a_question_unanswerable() -> None:
    """Heavy units of a number with wide bounds would need more noise than there is: then it is the caps."""
    document = copy.deepcopy(POLICY)
    document["tables"]["visits"]["columns"]["cost"] = {"bounds": [0, 10**15]}  # type: ignore[index]
    policy = privacy.Policy.from_document(document, TYPES)
    heavy = histogram((1000, 2**30), (1000, 2**36))
    sums = Histogram((*[0] * 80, 1000, 1000), 0.1)
    numbers = {"cost": NumberProfile(5, sums, sums)}
    table = TableProfile(heavy, {"ward": KeyProfile(histogram((2000, 3)), heavy)}, numbers)
    sql = "SELECT ward, sum(cost) AS s FROM visits GROUP BY ward"
    plain = privacy.plan(sql, policy, rho=1.0)
    profiled = privacy.plan(sql, policy, rho=1.0, profile=Profile(1000, {"visits": table}))
    assert profiled.release_digest == plain.release_digest


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whether_an_answer_comes_does_not_hang_on_the_keys_of_one_unit(
    strategy: str, tmp_path: Path, sandbox: privacy.Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exact table has a largest size; one unit brings about no more rows of it than it may show."""
    monkeypatch.setattr("privacy.answering.EXACT_BYTES", 200_000)
    sql = "SELECT note, count(*) AS n, sum(cost) AS s FROM visits GROUP BY note"
    options = privacy.Options(strategy=strategy)
    plan = privacy.plan(sql, privacy.Policy.from_document(POLICY, TYPES), rho=1.0, options=options)
    rows = [{"person": "p", "note": f"{number:0200}", "cost": 25} for number in range(2000)]
    rows += [{"person": f"q{number}", "note": "shared", "cost": 25} for number in range(300)]
    pq.write_table(pa.Table.from_pylist(rows, VISITS), tmp_path / "visits.parquet")
    files = {"visits": tmp_path / "visits.parquet"}
    table = privacy.answer(plan, files, salt=b"a salt of the tests", sandbox=sandbox).table
    assert table.column("note").to_pylist() == ["shared"]


@pytest.mark.parametrize("name", ["corr", "regr_r2"])
def test_two_spreads_that_came_out_as_none_make_no_correlation(name: str) -> None:
    """The product of two negative numbers is positive, and looked like one that is well known."""
    sql = f"SELECT {name}(cost, score) AS r FROM visits"
    plan = privacy.plan(sql, privacy.Policy.from_document(POLICY, TYPES), rho=1.0)
    (one,) = plan.releases
    noisy = {}
    for part in one.lowered.parts[0]:
        squares = part.argument is not None and part.argument.text.startswith("exact_mul") and part.middle
        noisy[part.name] = [-2000 * part.middle if squares else 1000]
    shown = one.shown(pa.table(noisy)).to_pylist()
    assert shown == [{"m0": None, "m0_low": None, "m0_high": None}]
    noisy = {name: [abs(number)] for name, (number,) in noisy.items()}
    assert one.shown(pa.table(noisy)).column("m0").null_count == 0


@pytest.mark.parametrize("epsilon", ["1e400", "1e308", "1e-400"])
def test_an_epsilon_out_of_range_is_refused(epsilon: str) -> None:
    policy = privacy.Policy.from_document(POLICY, TYPES)
    with pytest.raises(privacy.Refused) as refused:
        privacy.plan("SELECT count(*) AS n FROM visits", policy, epsilon=epsilon)  # type: ignore[arg-type]
    assert refused.value.code in ("budget_invalid", "rho_too_large", "rho_too_small")


@pytest.mark.parametrize("groups", ["", " GROUP BY ward"])
def test_no_bias_is_stated_that_a_profile_does_not_tell(groups: str) -> None:
    """It knows rows and groups of units, not how many of their values are different."""
    sql = f"SELECT count(DISTINCT code) AS c, count(*) AS n FROM visits{groups}"
    plan = privacy.plan(sql, privacy.Policy.from_document(POLICY, TYPES), rho=1.0, profile=visits(6))
    values, rows = plan.columns
    assert values.expected_bias is None
    assert rows.expected_bias is not None
    assert "different values of code" in plan.explain()


@pytest.mark.parametrize("sql", ["SELECT median(cost) AS m FROM visits", "SELECT max(cost) AS m FROM visits"])
def test_quantiles_of_numbers_that_doubles_do_not_tell_apart_are_answered(
    sql: str, tmp_path: Path, sandbox: privacy.Sandbox
) -> None:
    """What a statement's own filter leaves of wide bounds may be a few steps, far from zero."""
    document = copy.deepcopy(POLICY)
    document["tables"]["visits"]["columns"]["cost"] = {"bounds": [0, 10**17 + 8]}  # type: ignore[index]
    policy = privacy.Policy.from_document(document, TYPES)
    plan = privacy.plan(f"{sql} WHERE cost >= 100000000000000000", policy, rho=1.0)
    rows = [{"person": f"p{number}", "cost": 10**17 + 3} for number in range(500)]
    pq.write_table(pa.Table.from_pylist(rows, VISITS), tmp_path / "visits.parquet")
    files = {"visits": tmp_path / "visits.parquet"}
    answer = privacy.answer(plan, files, salt=b"a salt of the tests", sandbox=sandbox)
    (found,) = answer.table.column("m").to_pylist()
    ((low, high),) = answer.intervals["m"]  # type: ignore[misc]
    assert 1e17 <= low <= found <= high <= 1e17 + 8


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ("histogram(code)", "too_many_groups"),
        (", ".join(f"sum(cost + {number})" for number in range(100)), "too_many_groups"),
        (", ".join(f"histogram(code) FILTER (WHERE day > {number})" for number in range(3)), "too_complex"),
    ],
)
def test_more_numbers_than_can_be_drawn_are_refused(shown: str, code: str) -> None:
    """Noise is drawn in the market's own process: what is paid for must also come."""
    document = copy.deepcopy(POLICY)
    columns = document["tables"]["visits"]["columns"]  # type: ignore[index]
    columns["code"] = {"keys": [f"c{number}" for number in range(1000)]}
    columns["note"] = {"keys": [f"n{number}" for number in range(300)]}
    columns["ward"] = {"keys": [f"w{number}" for number in range(300)]}
    policy = privacy.Policy.from_document(document, TYPES)
    with pytest.raises(privacy.Refused) as refused:
        privacy.plan(f"SELECT ward, note, {shown} FROM visits GROUP BY ward, note", policy, rho=1.0)
    assert refused.value.code == code
    plan = privacy.plan(f"SELECT ward, {shown.partition(',')[0]} FROM visits GROUP BY ward", policy, rho=1.0)
    assert plan.releases


def test_many_questions_draw_no_more_than_one() -> None:
    """Each is small enough, all of them together are not."""
    document = copy.deepcopy(POLICY)
    columns = document["tables"]["visits"]["columns"]  # type: ignore[index]
    columns["note"] = {"keys": [f"n{number}" for number in range(300)]}
    columns["ward"] = {"keys": [f"w{number}" for number in range(300)]}
    policy = privacy.Policy.from_document(document, TYPES)

    def asked(branches: int) -> str:
        one = "SELECT ward, note, histogram(day) AS h FROM visits WHERE cost > {0} GROUP BY ward, note"
        return " UNION ALL ".join(one.format(number) for number in range(branches))

    assert len(privacy.plan(asked(3), policy, rho=1.0).releases) == 3
    with pytest.raises(privacy.Refused) as refused:
        privacy.plan(asked(12), policy, rho=1.0)
    assert refused.value.code == "too_many_groups"
