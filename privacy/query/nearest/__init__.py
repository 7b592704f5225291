"""The nearest query that would be answered: a refused statement rewritten until it compiles.

What is offered is compiled before it is offered. Each step changes the statement where it was blamed: first
by what people mean who write that (a raw column is aggregated, a private window gets its unit, a sum without
bounds becomes a count), else by leaving out the smallest part around the blamed one.
"""

from privacy.query.nearest.search import Attempt, nearest

__all__ = ["Attempt", "nearest"]
