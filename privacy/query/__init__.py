"""SQL text -> typed algebra, or Refused(code, position, hint). The only place that knows sqlglot.

Buyer text goes no further than this package: what leaves it are the policy's own names, typed literals and
the closed operations of `privacy.algebra`.
"""

from privacy.query.statement import compile_query

__all__ = ["compile_query"]
