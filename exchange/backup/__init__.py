"""Backup and restore: database, log, objects and, where asked for, keys, with a manifest of what belongs.

The log is copied first and the database after it: a leaf is published only once it is in the database, so
that the copy of the database holds every leaf under the copied checkpoint. Objects come last: each is written
before a row names it, and never changes.
"""

from __future__ import annotations

from exchange.backup.making import Made, make
from exchange.backup.restoring import Restored, restore

__all__ = ["Made", "Restored", "make", "restore"]
