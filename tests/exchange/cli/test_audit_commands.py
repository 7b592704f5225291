"""What the officer's commands leave in files: the verifier, and proofs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from click.testing import CliRunner

from exchange.audit import single_file
from exchange.cli import main


def test_the_verifier_is_written_to_a_file_or_printed(tmp_path: Path) -> None:
    file = tmp_path / "verify.py"
    done = CliRunner().invoke(main, ["audit", "verifier", str(file), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() == single_file.sha256()
    assert told["version"] in CliRunner().invoke(main, ["audit", "verifier", str(file)]).stdout
    printed = CliRunner().invoke(main, ["audit", "verifier", "-"])
    assert printed.stdout_bytes == file.read_bytes()
