"""Plans of late. Planning is pure: equal questions under equal policies and profiles have one plan."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import privacy

_Key = tuple[object, ...]


class Plans:
    """A bounded memory of plans, the last used kept longest. Thread-safe; a plan itself is never changed.

    Args:
        plans: how many are kept, at most.
        length: characters of all their statements together, at most: a plan's size follows its statement's.
    """

    def __init__(self, *, plans: int = 512, length: int = 2**21) -> None:
        self._plans, self._length = plans, length
        self._kept: OrderedDict[_Key, tuple[int, privacy.Plan]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def planned(
        self, documents: tuple[str | None, ...], sql: str, asked: _Key, make: Callable[[], privacy.Plan]
    ) -> privacy.Plan:
        """The plan of a statement; made where it is not kept, and not kept where planning refuses.

        Args:
            documents: policy and profile, whole: with the statement and what is asked all that a plan hangs
                on. They are kept as their SHA-256.
            asked: budget and options.
        """
        digests = (None if text is None else hashlib.sha256(text.encode()).digest() for text in documents)
        key = (*digests, sql, asked)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        plan = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = len(sql), plan
                self._held += len(sql)
            while len(self._kept) > self._plans or self._held > self._length:
                self._held -= self._kept.popitem(last=False)[1][0]
        return plan
