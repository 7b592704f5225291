"""A layout: what is kept beside a version's files so that questions are answered sooner.

It holds synopses: what each unit contributes to each group of a declared key, before anything is bounded.
Exact sums of a synopsis are bit for bit those of the plain files, whatever the strategy. The plain files
remain the truth, and answer where a layout has nothing, is of other files, or was made for another policy or
by another release of this package.
"""

from privacy.layout.building import LIMITS, is_complete, layout, left_out
from privacy.layout.documents import Layout, LayoutInvalid, Part, Stored

__all__ = [
    "LIMITS",
    "Layout",
    "LayoutInvalid",
    "Part",
    "Stored",
    "is_complete",
    "layout",
    "left_out",
]
