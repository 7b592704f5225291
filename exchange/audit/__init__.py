"""The audit log: what happened, provable by people who do not trust the exchange.

A fact's leaf is written in the fact's own transaction (`log`), gathered into an RFC 6962 tree that is
published as static files (`integrate`, `tiles`) under a signed checkpoint (`checkpoint`, `note`), promised
to its owner by a receipt (`receipts`) and checked offline (`verify`). Only `log` needs a database; only
making and checking signatures needs `cryptography`; the rest, this module included, needs the standard
library alone.
"""

from __future__ import annotations

from exchange.audit.errors import AuditError

__all__ = ["AuditError"]
