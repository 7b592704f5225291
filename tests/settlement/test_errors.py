from __future__ import annotations

import re
from collections.abc import Iterator

from settlement import errors


def every_error(
    base: type[errors.SettlementError] = errors.SettlementError,
) -> Iterator[type[errors.SettlementError]]:
    yield base
    for leaf in base.__subclasses__():
        yield from every_error(leaf)


def test_every_error_has_a_code_of_its_own_and_a_hint() -> None:
    found = list(every_error())
    assert len({error.code for error in found}) == len(found) > 25
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+|overdrawn", error.code) for error in found)
    assert all(error.hint.endswith(".") for error in found)


def test_the_tree_at_the_top_of_the_module_is_the_tree() -> None:
    drawn = dict(re.findall(r"-- (\w+)\s+(\w+)", errors.__doc__ or ""))
    assert drawn == {
        error.__name__: error.code for error in every_error() if error is not errors.SettlementError
    }
