"""The SDK needs httpx alone, and says what is missing where more is needed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

# What httpx brings along stays; everything else outside the standard library is hidden.
BLOCKER = """
import sys
ALLOWED = {"httpx", "httpcore", "h11", "anyio", "sniffio", "certifi", "idna", "typing_extensions"}
ALLOWED |= {"exchange", "catalog"}

class Hidden:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def _run(program: str) -> str:
    code = BLOCKER + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_needs_httpx_alone() -> None:
    program = """
        import exchange
        exchange.Exchange, exchange.ExchangeError
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(loaded & {"pyarrow", "pandas", "cryptography", "sqlalchemy", "flask", "click"}))
    """
    assert _run(program) == "[]"


def test_blocker_blocks() -> None:
    program = """
        try:
            import pyarrow
        except ModuleNotFoundError:
            print("hidden")
    """
    assert _run(program) == "hidden"


def test_importing_the_package_imports_no_client() -> None:
    assert _run("import exchange; print('httpx' in sys.modules)") == "False"


def test_an_answer_is_used_without_more() -> None:
    program = """
        import httpx
        from exchange import Exchange
        charged = {"amount": "0.10", "currency": "USD", "amount_minor": 10}
        body = {"query": "qry_1", "repeated": False, "charged": charged, "rho_nano": 1,
                "columns": [{"name": "n", "type": "int64"}], "rows": [[3]], "intervals": {"n": [[1, 5]]},
                "result_sha256": "0" * 64, "receipt": {}}
        door = httpx.MockTransport(lambda request: httpx.Response(200, json=body))
        with Exchange("http://exchange.test", transport=door) as x:
            answer = x.run("quo_1")
            print(answer.rows, answer.intervals)
            for call in (answer.to_arrow, answer.to_pandas, answer.to_polars):
                try:
                    call()
                except ImportError as error:
                    print(type(error).__name__, error.hint)
        from exchange.client.publishing import load
    """
    lines = _run(program).splitlines()
    assert lines[0] == "[(3,)] {'n': [(1, 5)]}"
    assert len(lines) == 4
    assert all(line.startswith("MissingDependency Install it: `pip install p") for line in lines[1:])


def test_help_needs_click_alone() -> None:
    program = """
        ALLOWED.add("click")
        from exchange.cli import main
        main(["--help"], standalone_mode=False)
        print("httpx" in sys.modules)
    """
    assert _run(program).endswith("False")
