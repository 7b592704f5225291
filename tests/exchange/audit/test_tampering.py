"""A slice of `make soak`: random logs are good to two verifiers and pymerkle, each tampering is found."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from exchange.audit import verify
from tests.exchange.audit import independent, tampering
from tests.exchange.audit.samples import KEYS, ORIGIN, WITNESSES, mth
from tests.exchange.audit.tampering import Missed, log_of, run


@pytest.mark.parametrize("seed", range(100, 160, 6))
def test_clean_logs_are_good_and_tampered_ones_never(seed: int) -> None:
    done = run(seed, logs=6, tamperings=8)
    assert done["clean logs"] == 6
    assert sum(count for name, count in done.items() if name.startswith("of ")) == 48
    assert all(done[kind.__name__.replace("_", " ")] == 6 for kind in tampering.KINDS)


def test_the_second_verifier_knows_nothing_of_the_first() -> None:
    nodes = ast.walk(ast.parse(Path(independent.__file__).read_text()))
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not {name for name in names if name.startswith(("exchange", "tests"))}


def test_a_blind_verifier_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is able to fail: without the comparison of roots it says so at once."""
    monkeypatch.setattr(verify.Scan, "_check_root", lambda scan: None)
    with pytest.raises(Missed, match=r"seed 1[01]\d"):
        run(100, logs=20, tamperings=8)


def test_an_alarm_about_a_clean_log_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(independent, "log_is_good", lambda *_: False)
    with pytest.raises(Missed, match="disagree"):
        run(100, logs=1, tamperings=0)


def test_the_second_verifier_judges_paths_as_the_rfc_does() -> None:
    rng = random.Random(5)
    log = log_of(rng)
    hashes = [row.leaf_hash for row in log.rows]
    assert independent.mth(hashes) == mth(hashes)
    assert independent.log_is_good(log.files.get, ORIGIN, KEYS[0])
    for key in (str(WITNESSES[0].verifier), KEYS[0].replace("+", "x+", 1)):
        assert not independent.log_is_good(log.files.get, ORIGIN, key)
