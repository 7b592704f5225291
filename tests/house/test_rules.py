"""The rules of the house: each holds here, catches planted violations and lets their lawful neighbours be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house import meaning, shape
from tests.house.sources import PACKAGES, ROOT, Source, read

CODE = "from __future__ import annotations\n"


@dataclass(frozen=True)
class Rule:
    """A rule with files that break it, one by one, and files that come close and do not."""

    check: Callable[[Iterable[Source]], Iterator[str]]
    broken: dict[str, str]
    lawful: dict[str, str]


RULES = [
    Rule(
        shape.long_files,
        broken={"catalog/long.py": "x = 1\n" * 600},
        lawful={"catalog/long.py": "x = 1\n" * 599, "docs/long.md": "word\n" * 700},
    ),
    Rule(
        shape.long_functions,
        broken={
            "privacy/a.py": "def f():\n" + "    x = 1\n" * 69,
            "privacy/b.py": "class A:\n    async def f(self):\n" + "        x = 1\n" * 69,
        },
        lawful={
            "privacy/a.py": "def f():\n" + "    x = 1\n" * 68,
            "exchange/migrations/versions/0001_tables.py": "def f():\n" + "    x = 1\n" * 69,
        },
    ),
    Rule(
        shape.vague_modules,
        broken={
            "exchange/utils.py": "",
            "privacy/helpers/noise.py": "",
            "tests/common.py": "",
            "catalog/core/__init__.py": "",
            "settlement/manager.py": "",
            "bench/misc.py": "",
        },
        lawful={"exchange/scores.py": "", "docs/common/questions.md": ""},
    ),
    Rule(
        shape.unfinished,
        broken={
            "privacy/a.py": "x = 1  # TODO: measure\n",
            "README.md": "FIXME\n",
            "exchange/web/templates/page.html": "<!-- XXX -->\n",
            "privacy/b.py": "def f():\n    raise NotImplementedError\n",
            "privacy/c.py": "def f():\n    return 1  # stub\n",
            "privacy/d.py": 'def f():\n    """Do it."""\n',
            "privacy/e.py": "class A:\n    def f(self): ...\n",
        },
        lawful={
            "privacy/a.py": "class Store(Protocol):\n    def f(self): ...\n",
            "privacy/b.py": "class E(Exception):\n    pass\n",
            "privacy/c.py": 'class A:\n    def flush(self):\n        """Nothing is held back."""\n',
            "tests/test_x.py": "x = 'TODO'\n",
            "README.md": "Nothing to do.\n",
        },
    ),
    Rule(
        shape.conflict_markers,
        broken={
            "CHANGELOG.md": f"{'<' * 7} HEAD\n- One.\n",
            "tests/test_x.py": f"x = 1\n{'>' * 7} 0a1b2c3 (their words)\n",
            "docs/a.md": f"{'|' * 7} base\n",
        },
        lawful={"docs/a.md": f"Title\n{'=' * 7}\n{'<' * 8} HEAD\n", "docs/b.md": f"a {'<' * 7} b\n"},
    ),
    Rule(
        shape.machine_paths,
        broken={
            "Makefile": "\tcd /work/main\n",
            "docs/a.md": "see /root/notes\n",
            "examples/b.py": "open('/home/ann/data.csv')\n",
            "services/c.py": "x = '/tmp/x'\n",
        },
        lawful={
            "docs/a.md": "https://example.org/home/page and work/out\n",
            "services/b.py": "x = '/usr/lib/pg'\n",
        },
    ),
    Rule(
        shape.index_addresses,
        broken={
            "requirements.lock": "--index-url https://index.example/simple\n",
            "pyproject.toml": 'url = "https://registry.example.org/x"\n',
            "Makefile": "\tpip install --find-links wheels x\n",
            "package.json": '{"resolved": "https://files.pythonhosted.org/x.whl"}\n',
        },
        lawful={
            "README.md": "https://example.org/simplest\n",
            "requirements.lock": "a==1 \\\n    --hash=sha256:00\n",
        },
    ),
    Rule(
        shape.third_party_assets,
        broken={
            "exchange/web/static/table.min.js": "x",
            "exchange/web/static/vendor/a.js": "x",
            "exchange/web/static/a.css": "/*! normalize */\n",
            "exchange/web/static/b.js": "let a;" * 500,
        },
        lawful={
            "exchange/web/static/portal.js": "let a;\n" * 500,
            "exchange/web/static/portal.css": "/* ours */\n",
        },
    ),
    Rule(
        meaning.missing_docstrings,
        broken={
            "catalog/a.py": CODE,
            "catalog/b.py": '"""B."""\ndef f():\n    return 1\n',
            "catalog/c.py": '"""C."""\nclass A:\n    x = 1\n',
        },
        lawful={
            "catalog/a.py": '"""A."""\ndef _f():\n    return 1\n',
            "catalog/b.py": '"""B."""\nclass A:\n    """A."""\n    def f(self):\n        return 1\n',
            "catalog/engines/__init__.py": "",
            "tests/test_x.py": "def f():\n    return 1\n",
        },
    ),
    Rule(
        meaning.float_amounts,
        broken={
            "settlement/a.py": "def f(amount_minor: float): ...\n",
            "settlement/b.py": "class A:\n    rho_nano: float | None = None\n",
            "settlement/c.py": "def price_minor() -> float: ...\n",
            "settlement/d.py": "delta_pico = 0.5\n",
            "settlement/e.py": "f(rho_nano=float(x))\n",
            "settlement/f.py": "Table('t', Column('amount_minor', Numeric(10, 2)))\n",
            "settlement/g.py": "def f(amount_minor: Decimal): ...\n",
        },
        lawful={
            "settlement/a.py": "def f(amount_minor: int, rho: float) -> float: ...\n",
            "settlement/b.py": "Table('t', Column('amount_minor', BigInteger), Column('share', Float))\n",
            "settlement/c.py": "def rho_to_nano(value: float | Decimal) -> int: ...\n",
            "settlement/d.py": "delta_pico = 5\n",
        },
    ),
    Rule(
        meaning.clocks,
        broken={
            "catalog/a.py": "from datetime import UTC, datetime\nnow = datetime.now(UTC)\n",
            "privacy/b.py": "import datetime as dt\nnow = dt.datetime.now()\n",
            "settlement/c.py": "from time import time as now\n",
            "settlement/d.py": "import time\nstart = time.perf_counter()\n",
            "catalog/e.py": "import uuid\n",
            "privacy/f.py": "import os\nsalt = os.urandom(8)\n",
            "privacy/g.py": "import datetime\nx = datetime.date.today()\n",
        },
        lawful={
            "catalog/a.py": "from datetime import datetime\nx = datetime.fromisoformat('2026-01-01')\n",
            "privacy/sandbox.py": "import time\nend = time.monotonic() + 5\n",
            "catalog/ingest/worker.py": "import time\nend = time.monotonic() + 5\n",
            "privacy/sampling.py": "import os\nbits = os.urandom(8)\n",
            "exchange/a.py": "from datetime import UTC, datetime\nnow = datetime.now(UTC)\n",
        },
    ),
    Rule(
        meaning.error_codes,
        broken={
            "privacy/a.py": "class PrivacyError(Exception):\n    pass\n",
            "privacy/b.py": "class Base(ValueError):\n    code = 'base'\nclass Leaf(Base):\n    pass\n",
            "privacy/c.py": "class A(Exception):\n    code = 'Not Snake'\n",
            "privacy/d.py": "class A(Exception):\n    code = 'one'\nclass B(A):\n    code: str = 'one'\n",
        },
        lawful={
            "privacy/a.py": "class A(Exception):\n    code = 'one'\nclass B(A):\n    code: str = 'two'\n",
            "catalog/a.py": "class A(Exception):\n    code = 'one'\nclass _B(Exception):\n    x = 1\n",
            "exchange/client/errors.py": "class ExchangeError(Exception):\n    pass\n",
        },
    ),
    Rule(
        meaning.annotations_at_runtime,
        broken={"catalog/a.py": '"""A."""\nimport os\ndef f(x: int): ...\n', "catalog/b.py": "x: int = 1\n"},
        lawful={
            "catalog/a.py": f'"""A."""\n{CODE}x: int = 1\n',
            "catalog/__init__.py": '"""A."""\n__version__ = "1"\n',
        },
    ),
    Rule(
        meaning.hollow_tests,
        broken={
            "tests/test_a.py": f"def test_a():\n    assert {True}\n",
            "tests/test_b.py": f"@pytest.mark.{'skip'}\ndef test_b():\n    assert f()\n",
            "tests/test_c.py": f"@pytest.mark.{'skip'}(reason='later')\ndef test_c():\n    assert f()\n",
            "tests/test_d.py": "def test_d():\n    time.sleep(1)\n    assert f()\n",
            "tests/test_e.py": "def f():\n    g()\ndef test_e():\n    f()\n",
        },
        lawful={
            "tests/test_a.py": "def test_a():\n    while f():\n        time.sleep(0.01)\n    assert g()\n",
            "tests/test_b.py": "def test_b():\n    with pytest.raises(ValueError):\n        f()\n",
            "tests/test_d.py": "def _same(a):\n    assert a\ndef test_d():\n    _same(f())\n",
            "tests/test_c.py": "@pytest.mark.skipif(a, reason='b')\ndef test_c():\n    assert_same(f())\n",
        },
    ),
]
PLANTED = [(rule, path) for rule in RULES for path in rule.broken]


def _named(rule: Rule) -> str:
    return rule.check.__name__


@pytest.fixture(scope="module")
def project() -> list[Source]:
    return read(ROOT)


def test_project_is_read_whole(project: list[Source]) -> None:
    paths = {source.path for source in project}
    assert {"pyproject.toml", "Makefile", ".ci/run", "tests/house/test_rules.py"} <= paths
    assert {source.room for source in project if source.in_packages} == set(PACKAGES)
    assert not any(path.startswith((".venv/", ".git/")) or "__pycache__" in path for path in paths)


@pytest.mark.parametrize("rule", RULES, ids=_named)
def test_project_keeps(rule: Rule, project: list[Source]) -> None:
    findings = list(rule.check(project))
    assert not findings, f"{rule.check.__doc__}\n" + "\n".join(findings)


@pytest.mark.parametrize(("rule", "path"), PLANTED, ids=[f"{_named(rule)}-{path}" for rule, path in PLANTED])
def test_planted_violation_is_caught(rule: Rule, path: str, tmp_path: Path) -> None:
    findings = list(rule.check(_plant(tmp_path, {path: rule.broken[path]})))
    assert findings
    assert all(finding.startswith(f"{path}:") for finding in findings)


@pytest.mark.parametrize("rule", RULES, ids=_named)
def test_lawful_neighbour_is_let_be(rule: Rule, tmp_path: Path) -> None:
    assert list(rule.check(_plant(tmp_path, rule.lawful))) == []


def test_ignored_files_are_not_read_in_an_exported_tree(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(".venv/\n*.egg-info/\nexamples/*/data/\n")
    planted = {
        ".venv/x.py": "",
        "a.egg-info/x.py": "",
        "examples/flights/data/x.csv": "",
        "examples/flights/x.py": "",
    }
    assert [source.path for source in _plant(tmp_path, planted)] == [".gitignore", "examples/flights/x.py"]


def _plant(root: Path, files: dict[str, str]) -> list[Source]:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return read(root)
