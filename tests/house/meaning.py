"""Rules about code: docstrings, numbers, time, errors, tests. Each yields findings as ``path:line: text``."""

from __future__ import annotations

import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.house.shape import MIGRATIONS, Function
from tests.house.sources import Source

INTEGER_NAME = re.compile(r"(^|_)(minor|nano|pico)$")
FLOAT_COLUMNS = {"Float", "Double", "REAL", "Numeric", "DOUBLE", "DOUBLE_PRECISION"}
CLAIM = re.compile(r"raises|warns|fail|assert|check|expect")
ANNOTATED = ast.AnnAssign | Function
CODE = re.compile(r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")

# What reads the world's state. Deadlines of processes and servers need a monotonic clock; nothing else does.
CLOCKS = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.strftime"),
}
STOPWATCHES = {
    *("time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns"),
    *("time.process_time", "time.sleep"),
}
CHANCE = {"uuid", "secrets", "random", "os.urandom"}
CHANCE_ALLOWED = "privacy/sampling.py"
STOPWATCH_ALLOWED = re.compile(r"^(privacy/sandbox|catalog/(ingest|buckets))(\.py$|/)")


def missing_docstrings(sources: Iterable[Source]) -> Iterator[str]:
    """What is public says what it means."""
    for source in sources:
        if source.in_packages and not source.path.startswith(MIGRATIONS):
            if source.syntax.body and not ast.get_docstring(source.syntax):
                yield source.at(1, "module has no docstring")
            for node in source.syntax.body:
                public = isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_")
                if public and not ast.get_docstring(node):  # type: ignore[arg-type]
                    yield source.at(node, f"{node.name} has no docstring")  # type: ignore[attr-defined]


def float_amounts(sources: Iterable[Source]) -> Iterator[str]:
    """Money and privacy loss are integers: a float under such a name loses cents or budget."""
    for source in sources:
        if source.in_packages:
            for node in ast.walk(source.syntax):
                for name, kind in _typed_names(node):
                    if INTEGER_NAME.search(name) and re.search(r"\b(float|Decimal|double)\b", kind):
                        yield source.at(node, f"{name} is {kind}, not an integer")
                if isinstance(node, ast.Call) and _is_float_column(node):
                    yield source.at(node, "a column of money or privacy loss that is not an integer")


def clocks(sources: Iterable[Source]) -> Iterator[str]:
    """The domains are pure: time and new ids come from the caller. Noise has one source."""
    for source in sources:
        if source.in_domains:
            for node, name in _references(source.syntax):
                if name in CLOCKS:
                    yield source.at(node, f"reads the clock: {name}")
                elif name in STOPWATCHES and not STOPWATCH_ALLOWED.match(source.path):
                    yield source.at(node, f"measures time outside a deadline: {name}")
                elif source.path != CHANCE_ALLOWED and (name in CHANCE or name.split(".")[0] in CHANCE):
                    yield source.at(node, f"draws at random: {name}")


def error_codes(sources: Iterable[Source]) -> Iterator[str]:
    """Every error of a package has a code of its own: people's programs stand on it.

    The SDK is left out: its exceptions repeat the codes that the server sends.
    """
    classes = list(_classes(sources))
    errors = _error_names(node for _, node in classes)
    seen: dict[tuple[str, str], str] = {}
    for source, node in classes:
        if node.name in errors and not node.name.startswith("_"):
            code = _own_code(node)
            if code is None or not CODE.match(code):
                yield source.at(node, f"{node.name} has no snake_case `code` of its own")
            elif (other := seen.setdefault((source.room, code), node.name)) != node.name:
                yield source.at(node, f"{node.name} has the code of {other}: {code}")


def annotations_at_runtime(sources: Iterable[Source]) -> Iterator[str]:
    """Annotations are read by tools, not evaluated: one meaning on every Python version."""
    for source in sources:
        if source.in_packages and any(isinstance(node, ANNOTATED) for node in ast.walk(source.syntax)):
            imports = (node for node in source.syntax.body if isinstance(node, ast.ImportFrom))
            if not any(node.module == "__future__" for node in imports):
                yield source.at(1, "lacks `from __future__ import annotations`")


def hollow_tests(sources: Iterable[Source]) -> Iterator[str]:
    """A test can fail: it is not skipped for ever, claims something, and does not sleep for luck."""
    for source in sources:
        if source.in_tests and source.is_python:
            for node in ast.walk(source.syntax):
                text = ast.unparse(node) if isinstance(node, ast.Call | ast.Attribute) else ""
                if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and node.test.value:
                    yield source.at(node, "asserts nothing")
                if text == "pytest.mark.skip":
                    yield source.at(node, "never runs")
                if text.startswith("time.sleep(") and not _in_loop(source, node):
                    yield source.at(node, "sleeps for luck: poll with a deadline")
                if isinstance(node, Function) and node.name.startswith("test_") and not _claims(source, node):
                    yield source.at(node, f"{node.name} claims nothing")


def _typed_names(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Names with what their annotation or assigned literal says that they are."""
    if isinstance(node, ast.arg) and node.annotation:
        yield node.arg, ast.unparse(node.annotation)
    elif isinstance(node, ast.AnnAssign):
        yield ast.unparse(node.target), ast.unparse(node.annotation)
    elif isinstance(node, Function) and node.returns:
        yield node.name, ast.unparse(node.returns)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            yield ast.unparse(target), _literal_kind(node.value)
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, _literal_kind(node.value)


def _literal_kind(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return type(value.value).__name__
    return "float" if isinstance(value, ast.Call) and ast.unparse(value.func) == "float" else ""


def _is_float_column(call: ast.Call) -> bool:
    if (
        not call.args
        or not isinstance(call.args[0], ast.Constant)
        or not ast.unparse(call.func).endswith("Column")
    ):
        return False
    words = {word for kind in call.args[1:] for word in re.findall(r"\w+", ast.unparse(kind))}
    return bool(INTEGER_NAME.search(str(call.args[0].value)) and words & FLOAT_COLUMNS)


def _references(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Dotted names in use, imports written out; ``datetime.datetime.now`` becomes ``datetime.now``."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name] = alias.name
                yield node, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            head, dot, rest = ast.unparse(node).partition(".")
            yield node, re.sub(r"^datetime\.(?=date)", "", f"{known.get(head, head)}{dot}{rest}")


def _classes(sources: Iterable[Source]) -> Iterator[tuple[Source, ast.ClassDef]]:
    for source in sources:
        if source.in_packages and not source.path.startswith("exchange/client"):
            for node in ast.walk(source.syntax):
                if isinstance(node, ast.ClassDef):
                    yield source, node


def _error_names(classes: Iterable[ast.ClassDef]) -> set[str]:
    """Names of the classes that derive from an exception, however far up."""
    bases: dict[str, set[str]] = defaultdict(set)
    for node in classes:
        bases[node.name] |= {ast.unparse(base).split(".")[-1] for base in node.bases}
    errors = {
        name
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    while found := {name for name, above in bases.items() if above & errors} - errors:
        errors |= found
    return errors


def _own_code(node: ast.ClassDef) -> str | None:
    for line in node.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
            value = getattr(line, "value", None)
            return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
    return None


def _in_loop(source: Source, node: ast.AST) -> bool:
    while (parent := source.parents.get(node)) is not None:
        if isinstance(parent, ast.While | ast.For):
            return True
        node = parent
    return False


def _claims(source: Source, node: Function, *, follow: bool = True) -> bool:
    """An assertion, an expected error, or a call named after checking or of a local that claims."""
    local = {each.name: each for each in source.syntax.body if follow and isinstance(each, Function)}
    for part in ast.walk(node):
        if isinstance(part, ast.Assert):
            return True
        if isinstance(part, ast.Call):
            called = ast.unparse(part.func)
            if CLAIM.search(called) or (called in local and _claims(source, local[called], follow=False)):
                return True
    return False
