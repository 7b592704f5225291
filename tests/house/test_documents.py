"""What is written agrees with what is there: commands, settings, links, the lock, the continuous checks."""

from __future__ import annotations

import os
import re
import runpy
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import click
import pytest

from tests.house import documents
from tests.house.sources import ROOT, Source, read

LOCK = (ROOT / "requirements.lock").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROMISED_TARGETS = {"demo", "test", "serve", "check", "bench", "services"}
PROMISED_SETTINGS = {
    *(
        "EXCHANGE_HOME",
        "EXCHANGE_DATABASE_URL",
        "EXCHANGE_OBJECTS_URL",
        "EXCHANGE_ENGINE_URL",
        "EXCHANGE_SECRET_KEY",
    ),
    *("EXCHANGE_LOG_KEY", "EXCHANGE_BASE_URL", "EXCHANGE_MAX_UPLOAD_BYTES", "EXCHANGE_QUERY_TIMEOUT_S"),
    *("EXCHANGE_QUERY_MEMORY_BYTES", "EXCHANGE_URL", "EXCHANGE_TOKEN", "EXCHANGE_PROFILE"),
}
DOCUMENT = """# Title

See [the plan](docs/plan.md), [us](https://example.org) and [there](#below). Run `make demo`.

```sh
make check PYTHON=python3.12
CI=true make test  # everything
$ .venv/bin/exchange publish listing.toml
exchange --version
exchange org create city
```

```python
a = 2
```

Then EXCHANGE_HOME is set.

```python
assert a == 2
print(a)
```

```output
2
```
"""


@pytest.fixture(scope="module")
def project() -> list[Source]:
    return read(ROOT)


def _document(text: str) -> list[Source]:
    return [Source("README.md", text), Source("docs/plan.md", "[back](../README.md)")]


def _settings_read(project: list[Source]) -> set[str]:
    from exchange.config import Settings

    named = documents.settings_in(source for source in project if source.in_packages)
    return named | {variable for variable, _, _ in Settings().shown()}


def _commands(group: click.Group, before: str = "") -> set[str]:
    found: set[str] = set()
    for name, command in group.commands.items():
        found |= _commands(command, f"{name} ") if isinstance(command, click.Group) else {f"{before}{name}"}
    return found


def test_targets_are_there_and_documented(project: list[Source]) -> None:
    targets = documents.targets(MAKEFILE)
    assert targets >= PROMISED_TARGETS
    assert list(documents.unknown_targets(project, targets)) == []


def test_unknown_target_is_caught() -> None:
    targets = {"demo", "check", "test"}
    assert list(documents.unknown_targets(_document(DOCUMENT), targets)) == []
    planted = DOCUMENT.replace("make check", "make chekc").replace("`make demo`", "`make dmeo`")
    findings = list(documents.unknown_targets(_document(planted), targets))
    assert findings == ["README.md:6: there is no `make chekc`", "README.md:3: there is no `make dmeo`"]


def test_commands_are_there(project: list[Source]) -> None:
    from exchange.cli import main

    assert list(documents.unknown_commands(project, _commands(main))) == []


def test_unknown_command_is_caught() -> None:
    commands = {"publish", "org create"}
    assert list(documents.unknown_commands(_document(DOCUMENT), commands)) == []
    planted = DOCUMENT.replace("exchange publish", "exchange pubish").replace("org create", "org make")
    findings = list(documents.unknown_commands(_document(planted), commands))
    assert findings == [
        "README.md:8: there is no `exchange pubish`",
        "README.md:10: there is no `exchange org make`",
    ]


def test_links_lead_somewhere(project: list[Source]) -> None:
    pictures = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.png")]
    assert list(documents.broken_links(project, pictures)) == []


def test_broken_link_is_caught() -> None:
    assert list(documents.broken_links(_document(DOCUMENT))) == []
    findings = list(documents.broken_links(_document(DOCUMENT.replace("docs/plan.md", "docs/plans.md"))))
    assert findings == ["README.md:1: leads nowhere: docs/plans.md"]


def test_settings_are_documented_and_read(project: list[Source]) -> None:
    documented = documents.settings_in(source for source in project if source.path == "docs/settings.md")
    read_by_code = _settings_read(project)
    assert documents.differing_settings(documented, read_by_code) == []
    assert read_by_code >= PROMISED_SETTINGS


def test_settings_are_documented_as_they_are(project: list[Source]) -> None:
    from exchange.config import Settings

    page = next(source.text for source in project if source.path == "docs/settings.md")
    stale = [row for row in documents.setting_rows(Settings) if row not in page.splitlines()]
    assert not stale, "docs/settings.md needs these rows:\n" + "\n".join(stale)


def test_stale_setting_is_caught() -> None:
    @dataclass(frozen=True)
    class Settings:
        home: str = field(default=".here", metadata={"text": "Where"})
        key: str = field(default="", metadata={"text": "What"})

        def shown(self) -> list[tuple[str, str, str]]:
            return [("EXCHANGE_HOME", ".here", "Where"), ("EXCHANGE_KEY", "(not read)", "What")]

    rows = list(documents.setting_rows(Settings))
    assert rows == ["| `EXCHANGE_HOME` | `.here` | Where |", "| `EXCHANGE_KEY` | none | What |"]


def test_no_document_names_an_unknown_setting(project: list[Source]) -> None:
    written = documents.settings_in(source for source in project if source.path.endswith(".md"))
    for_tests = {name for name in written if name.startswith("EXCHANGE_TEST_")}
    assert written - for_tests <= _settings_read(project)


def test_differing_setting_is_caught() -> None:
    documented = documents.settings_in(_document(DOCUMENT))
    assert documented == {"EXCHANGE_HOME"}
    assert documents.differing_settings(documented, {"EXCHANGE_HOME"}) == []
    assert documents.differing_settings(documented, {"EXCHANGE_URL"}) == [
        "EXCHANGE_HOME is documented and never read",
        "EXCHANGE_URL is read and not documented",
    ]


def test_lock_pins_everything_with_hashes() -> None:
    assert list(documents.loose_pins(LOCK)) == []
    assert list(documents.unlocked(PYPROJECT, LOCK)) == []


@pytest.mark.parametrize(
    ("pinned", "planted"),
    [
        ("httpx==0.28.1", "httpx>=0.28.1"),
        ("httpx==0.28.1", "httpx==0.27.0"),
        ("httpx==0.28.1", "httpy==0.28.1"),
        ("--hash=sha256:", "--hash=md5:"),
    ],
)
def test_loose_or_lacking_pin_is_caught(pinned: str, planted: str) -> None:
    lock = LOCK.replace(pinned, planted)
    assert lock != LOCK
    assert [*documents.loose_pins(lock), *documents.unlocked(PYPROJECT, lock)]


def test_continuous_checks_run_the_services_and_the_whole_suite() -> None:
    run = ROOT / ".ci" / "run"
    text = run.read_text()
    assert os.access(run, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert re.findall(r"^make (\S+)$", text, re.MULTILINE) == ["services", "test"]


DOCUMENTS = [
    "README.md",
    "docs/audit-of-the-engine.md",
    "docs/error-against-rho.md",
    "docs/how-an-answer-is-made.md",
    "docs/licences.md",
    "docs/prices.md",
    "docs/shapes.md",
    "docs/signing-in.md",
    "docs/transparency.md",
    "docs/verifying.md",
]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_python_of_a_document_runs(
    path: str, project: list[Source], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document's Python, in order, against a running exchange with the demo's data.

    Its address and ``token="..."`` stand for those of the exchange under test. Its shell blocks are compared
    with the Makefile and the command line above, since running them would run the tests again.
    """
    document = next(source for source in project if source.path == path)
    demo = request.getfixturevalue("demo_exchange")
    folder = request.getfixturevalue("tmp_path")
    _lay_out_flights(folder / "examples" / "flights")
    monkeypatch.chdir(folder)
    address = {"http://127.0.0.1:8000": demo.url, 'token="..."': f'token="{demo.token}"'}
    assert documents.run_python(document, address) > 0


def _lay_out_flights(folder: Path) -> None:
    """The example as it lies in a checkout whose demo has run, where documents look for it."""
    example = ROOT / "examples" / "flights"
    runpy.run_path(str(example / "make_data.py"))["write"](folder / "data")
    shutil.copy(example / "policy.toml", folder)


def test_failing_document_is_caught() -> None:
    readme = _document(DOCUMENT)[0]
    assert documents.run_python(readme, {}) == 2
    with pytest.raises(AssertionError) as caught:
        documents.run_python(readme, {"a = 2": "a = 3"})
    assert (PurePath(caught.traceback[-1].path).name, caught.traceback[-1].lineno + 1) == ("README.md", 20)
    with pytest.raises(AssertionError, match=r"README\.md:25: prints"):
        documents.run_python(readme, {"print(a)": "print(a + 1)"})
