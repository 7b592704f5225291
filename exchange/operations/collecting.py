"""Objects that nothing names: of a query that was cancelled, or whose process died, before its row named its
result; of an expiry, or a listing, that did not come to its end.

An object is put before a row names it, and put again whenever it is about to be named again. So one that was
not touched for a day, and that no row names, is named by nobody any more.
"""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING

from catalog import listings
from catalog.tables import version_part
from exchange import data_keys, queries
from exchange.operations import keeping

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

    from exchange.market import Market

NAMES_OBJECTS = (
    version_part.c.sha256,
    version_part.c.stored_sha256,
    queries.query.c.result_sha256,
    queries.query.c.released_sha256,
    data_keys.data_key.c.object,
)
"""Every column that names an object: files of versions, results, the released numbers behind these, and what
has a key. A new one belongs here and into :func:`_named`, else what it names is removed.
"""

_AT_ONCE = 200
_DAY_S = 86_400.0

_LOG = logging.getLogger("exchange.worker")


def collect(market: Market) -> int:
    """Remove objects that nothing names and that nobody touched for a day; returns how many.

    Halves of objects go too, whose process died a day ago.
    """
    market.objects.tidy(_DAY_S)
    if not keeping.noted(market):
        _LOG.warning("no object is collected: what some answers stand on is not known")
        return 0
    gone, found = 0, market.objects.untouched(_DAY_S)
    while some := set(itertools.islice(found, _AT_ONCE)):
        unnamed = some - market.store.read(partial(_named, digests=some))
        gone += sum(market.objects.discard(sha256, untouched_s=_DAY_S) for sha256 in unnamed)
    return gone


def _named(session: Session, digests: Collection[str]) -> set[str]:
    return (
        listings.named_objects(session, digests)
        | queries.named(session, digests)
        | data_keys.named(session, digests)
    )
