"""Numbers of an aggregate in fixed point, or a refusal at the column that has no bounds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Column
from privacy.arithmetic import Bounds, Fixed, NotFixed, fixed
from privacy.query.catalog import Facts
from privacy.query.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Scalar
    from privacy.query.catalog import Catalog
    from privacy.query.scalars import Scalars


@dataclass(frozen=True)
class Numbers:
    """The fixed point forms of expressions over rows for which ``conditions`` are true."""

    catalog: Catalog
    scalars: Scalars
    conditions: Sequence[Scalar]

    def fixed(self, node: exp.Expr, scalar: Scalar) -> Fixed:
        """The fixed point form of ``scalar``, which ``node`` says.

        Raises:
            Refused: ``missing_bounds``, ``overflow``, ``type_mismatch`` or ``unsupported_function``.
        """
        source = self.scalars.source
        try:
            number = self.known(scalar)
        except NotFixed as finding:
            source.refuse(self._place(node, finding.column), finding.code, str(finding), finding.hint)
        if number.null:
            source.refuse(node, "type_mismatch", "This is always NULL.", "Aggregate a number.")
        return number

    def known(self, scalar: Scalar) -> Fixed:
        """The fixed point form of ``scalar``.

        Raises:
            NotFixed: it has none.
        """
        ranges = Ranges(self.catalog, self.conditions)
        return ranges.narrowed(scalar, fixed(scalar, ranges.bounds_of))

    def facts(self, scalar: Scalar) -> Facts:
        """What is known of a value that ``scalar`` has on some of the rows, or of NULL."""
        own = self.catalog.facts(scalar) if isinstance(scalar, Column) else Facts()
        bounds = None
        with suppress(NotFixed):
            number = self.known(scalar)
            if not number.null:
                bounds = Bounds(number.low, number.high, number.decimals)
        return Facts(bounds, own.domain, self.catalog.selectable(scalar))

    def _place(self, node: exp.Expr, column: Column | None) -> exp.Expr:
        """The mention of ``column`` within ``node``, or the node itself."""
        for part in node.find_all(exp.Column):
            if column is not None and self.scalars.scope.find(part) == column:
                return part
        return node
