"""The log of the verifier's benchmark is one that the verifier finds good, and each proof of it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import audit
from exchange.audit import single_file
from exchange.audit.checkpoint import parse_checkpoint


def test_the_log_is_made_in_steps_verified_alone_and_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_STEP", 200)
    (tmp_path / "verify.py").write_text(single_file.source())
    assert audit.make(tmp_path / "log", 530) > 0
    assert parse_checkpoint((tmp_path / "log" / "checkpoint").read_bytes()).size == 530
    saved = tmp_path / "saved"
    saved.write_bytes(audit._head(tmp_path / "log", 265, 530))
    packed = audit.pack(tmp_path / "log", tmp_path / "log.zip")
    for log in (tmp_path / "log", packed):
        found = audit.verify(tmp_path, "it", log, 530, "--checkpoint", saved)
        assert (found.leaves, found.seconds > 0, 10 < found.peak_mib < 100) == (530, True, True)
    assert len(audit.prove(tmp_path / "log", 530, 3)) == 3


def test_a_log_that_is_not_good_is_no_measurement(tmp_path: Path) -> None:
    (tmp_path / "verify.py").write_text(single_file.source())
    audit.make(tmp_path / "log", 20)
    (tmp_path / "log" / "tile" / "0" / "000.p" / "20").write_bytes(bytes(640))
    with pytest.raises(AssertionError):
        audit.verify(tmp_path, "it", tmp_path / "log", 20)
