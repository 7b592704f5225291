"""A witness of a log, run by somebody else: `exchange-witness`, a program of its own.

It cosigns a checkpoint that continues the last one it cosigned, and nothing else (C2SP tlog-witness and
tlog-cosignature), and may keep each on storage that is written once. Of the exchange it uses `exchange.audit`
alone, and beside it the standard library and `cryptography`.
"""

from __future__ import annotations
