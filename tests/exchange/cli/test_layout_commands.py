"""The operator's commands for layouts, and what a provider reads of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from tests.exchange.marketplace import SLUG, Marketplace
from tests.market.layouts import flip

Run = Callable[..., Result]


@pytest.fixture
def run(marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the market's home, and as its provider."""
    monkeypatch.setenv("EXCHANGE_HOME", str(marketplace.settings.home))
    monkeypatch.setenv("EXCHANGE_QUERY_WORKERS", "1")
    monkeypatch.setenv("EXCHANGE_URL", marketplace.url)
    monkeypatch.setenv("EXCHANGE_TOKEN", marketplace.tokens["clinic"])
    return lambda *words: CliRunner().invoke(main, list(words), catch_exceptions=False)


def told(done: Result) -> dict[str, Any]:
    """The one layout of a reply."""
    assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)
    return dict(one)


def test_a_layout_is_dropped_and_built(run: Run, marketplace: Marketplace) -> None:
    dropped = told(run("layout", "drop", SLUG, "--json"))
    assert (dropped["dataset"], dropped["state"], dropped["reason"]) == (SLUG, "none", "dropped")
    assert run("worker", "--once").exit_code == 0
    assert told(run("layout", "show", "--json"))["reason"] == "dropped"
    built = run("layout", "build", SLUG)
    assert built.exit_code == 0
    assert "ready" in built.stdout
    assert f"{SLUG}: 100% done" in built.stderr
    ready = told(run("layout", "show", SLUG, "--json"))
    assert (ready["state"], ready["left_out"]) == ("ready", [])
    with marketplace.client("clinic") as x:
        assert x.dataset(SLUG).layout == {k: v for k, v in ready.items() if k not in ("dataset", "version")}
    with marketplace.client("lab") as x:
        assert x.dataset(SLUG).layout is None
    shown = run("show", SLUG)
    assert ready["in_words"] in " ".join(shown.stdout.split())


def test_an_altered_layout_is_a_broken_law_until_it_is_built_anew(run: Run, marketplace: Marketplace) -> None:
    assert told(run("layout", "build", "--json"))["state"] == "ready"
    part = next(marketplace.settings.home.glob("layouts/*/*.parquet"))
    flip(part)
    broken = run("check", "--json")
    assert broken.exit_code == 1
    (law,) = [law for law in json.loads(broken.stdout) if not law["holds"]]
    assert law["id"] == "L13"
    assert law["findings"] == [
        f"{SLUG}: A file of the layout was altered. Run `exchange layout build {SLUG}`."
    ]
    assert told(run("layout", "build", SLUG, "--json"))["state"] == "ready"
    assert run("check").exit_code == 0


def test_what_has_no_layout_is_said(run: Run) -> None:
    missing = run("layout", "build", "clinic/nothing")
    assert missing.exit_code == 2
    assert "no such dataset" in missing.stderr.lower()
    assert run("layout", "drop").exit_code == 2


def test_a_layout_that_fails_says_why(run: Run, marketplace: Marketplace) -> None:
    run("layout", "drop", SLUG)
    (folder,) = [path for path in marketplace.settings.home.glob("layouts/*") if path.is_dir()]
    (folder / "layout.json.unfinished").mkdir()
    failed = run("layout", "build", SLUG, "--json")
    (folder / "layout.json.unfinished").rmdir()
    assert failed.exit_code == 6
    (one,) = json.loads(failed.stdout)
    assert (one["state"], one["reason"]) == ("failed", "folder_unusable")
    assert "permissions" in one["in_words"]
    assert told(run("layout", "build", SLUG, "--json"))["state"] == "ready"
