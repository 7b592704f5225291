"""The quick audit: every attack, at so strict a confidence that all of them together alarm falsely at most
once in a million, and every planted fault, so that a pass means something. `make audit` runs far more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.statistics import audit
from tests.statistics.cases import BY_NAME, CASES
from tests.statistics.certain import CERTAIN, Finding
from tests.statistics.chance import FALSE_ALARM
from tests.statistics.laboratory import Laboratory, laboratory
from tests.statistics.laws import LAWS
from tests.statistics.plants import PLANTS, Plant
from tests.statistics.shapes import SHAPED

ATTACKS = [*BY_NAME, *LAWS, *SHAPED]
CONFIDENCE = 1 - FALSE_ALARM / len(ATTACKS)
RUNS = 2_500


@pytest.fixture(scope="module")
def where() -> Iterator[Laboratory]:
    with laboratory() as made:
        yield made


@pytest.mark.parametrize("name", ATTACKS)
def test_a_claim_withstands(name: str, where: Laboratory) -> None:
    """False alarm 1e-6 over all the names."""
    seen = audit.attack_of(name, where).audit(RUNS, CONFIDENCE)
    assert not seen.refuted, str(seen)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_fault_is_caught(plant: Plant, where: Laboratory) -> None:
    """At the same confidence; each is missed with probability far below 1e-6."""
    attack = plant.build(where)
    with plant.planted():
        seen = attack.audit(plant.runs, CONFIDENCE)
    assert seen.refuted, str(seen)


def test_what_a_fault_is_planted_in_withstands_without_it() -> None:
    """A fault is caught by the difference that it makes: the sound engine withstands its attack."""
    named = {plant.attack for plant in PLANTS if isinstance(plant.attack, str)}
    built = {plant.attack for plant in PLANTS if not isinstance(plant.attack, str)}
    assert named <= set(ATTACKS)
    assert built <= set(LAWS.values())


def test_there_are_attacks_enough() -> None:
    assert len(CASES) == len(BY_NAME)
    assert len(ATTACKS) >= 25
    assert len(PLANTS) >= 8


# The program of `make audit`


def test_the_program_ends_well_when_all_withstand() -> None:
    """Two processes, two lines, and what they come to."""
    told: list[str] = []
    assert audit.main(["count of units", "metadata", "--runs", "2000"], told.append) == 0
    assert "not refuted" in "\n".join(told)
    assert told[-1].startswith("2 attacks, 2 withstood; 0 planted faults")


def test_the_program_fails_when_a_planted_fault_is_missed() -> None:
    """Too few runs to catch anything: the program says so and ends with 1."""
    told: list[str] = []
    assert audit.main(["planted: half the noise, in an average", "--runs", "4"], told.append) == 1
    assert "NOT CAUGHT" in "\n".join(told)
    assert told[-1].startswith("0 attacks, 0 withstood; 1 planted faults, 0 caught")


def test_the_program_fails_when_a_claim_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = next(plant for plant in PLANTS if plant.name == "no clamp")
    monkeypatch.setattr(audit, "attack_of", lambda _name, where: plant.build(where))
    told: list[str] = []
    assert audit.main(["count of units", "--runs", "4000"], told.append) == 1
    assert "REFUTED" in "\n".join(told)
    assert told[-1].startswith("1 attacks, 0 withstood")


def test_the_program_fails_when_what_must_be_equal_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CERTAIN, "metadata", lambda _where: Finding(2, ("a count of rows",)))
    told: list[str] = []
    assert audit.main(["metadata"], told.append) == 1
    assert "DIFFERS: a count of rows" in "\n".join(told)


def test_the_program_needs_something_to_do() -> None:
    told: list[str] = []
    assert audit.main(["no such attack"], told.append) == 1
