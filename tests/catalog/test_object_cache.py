"""The folder of local copies, as processes of two users of one group share it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from catalog.object_cache import Cache

SIZE = 100 << 10


def filled(cache: Cache, byte: bytes) -> str:
    """Keep a copy and let go of it; returns its name."""
    with cache.draft(SIZE) as draft:
        draft.write(byte * SIZE)
        sha256 = draft.finish()
        cache.keep(draft, sha256).close()
    return sha256


def test_a_draft_can_be_looked_at_by_the_group(tmp_path: Path) -> None:
    """Whoever makes room has to learn whether it is held."""
    with Cache(tmp_path, 1 << 20, clock_ns=time.time_ns).draft(SIZE) as draft:
        assert draft.path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("refused", [(os, "open"), (Path, "unlink")])
def test_what_another_user_keeps_from_us_stays_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[type, str]
) -> None:
    cache = Cache(tmp_path, 5 * SIZE, clock_ns=time.time_ns)
    filled(cache, b"a")
    theirs = filled(cache, b"b")
    owner, name = refused
    known = getattr(owner, name)

    def guarded(path: object, *given: object, **more: object) -> object:
        if str(path).endswith(theirs):
            raise PermissionError(13, "of another user", str(path))
        return known(path, *given, **more)

    monkeypatch.setattr(owner, name, guarded)
    with cache.draft(4 * SIZE - (4 << 10), needed=False) as draft:
        there = {path.name for path in tmp_path.glob("??/??/*")}
        assert there == {theirs}, "what could go went, without an error"
        assert draft.fits
    with cache.draft(4 * SIZE + (4 << 10), needed=False) as draft:
        assert not draft.fits, "what stays is counted"
