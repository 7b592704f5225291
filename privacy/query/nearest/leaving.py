"""What a statement can do without."""

from __future__ import annotations

from sqlglot import exp

from privacy.query.nearest.parts import counting

_CLAUSES = (
    *(exp.Where, exp.Having, exp.Order, exp.Limit, exp.Offset, exp.Qualify, exp.TableSample),
    *(exp.Distinct, exp.Join, exp.Into, exp.Lock),
)


def left_out(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """The smallest part around the blamed one that a statement can do without -> nothing."""
    node = place
    while node.parent is not None:
        parent, key = node.parent, node.arg_key or ""
        if isinstance(node, _CLAUSES) and not isinstance(parent, exp.Count):
            return _without(tree, node, parent, key)
        if isinstance(parent, exp.And | exp.SetOperation) and key in ("this", "expression"):
            other = parent.args["expression" if key == "this" else "this"].copy()
            parent.replace(other)
            return tree if parent is not tree else other
        if isinstance(parent, exp.Where | exp.Having | exp.Qualify) and parent.parent is not None:
            return _without(tree, parent, parent.parent, parent.arg_key or "")
        if isinstance(parent, exp.Filter) and key == "expression":
            parent.replace(parent.this.copy())
            return tree
        if isinstance(parent, exp.Select) and key == "windows":
            return _without(tree, node, parent, key)
        if isinstance(parent, exp.Select) and key == "expressions":
            return _without_item(tree, parent, node)
        if isinstance(parent, exp.Group) and key == "expressions" and isinstance(parent.parent, exp.Select):
            return _without_key(tree, parent.parent, node)
        if isinstance(parent, exp.Order) and key == "expressions" and len(parent.expressions) > 1:
            parent.set("expressions", [one for one in parent.expressions if one is not node])
            return tree
        node = parent
    return None


def _without(tree: exp.Expr, node: exp.Expr, parent: exp.Expr, key: str) -> exp.Expr | None:
    value = parent.args.get(key)
    parent.set(key, [one for one in value if one is not node] if isinstance(value, list) else None)
    return tree


def _without_item(tree: exp.Expr, select: exp.Expr, item: exp.Expr) -> exp.Expr:
    left = [one for one in select.expressions if one is not item]
    select.set("expressions", left or [counting()])
    return tree


def _without_key(tree: exp.Expr, select: exp.Expr, key: exp.Expr) -> exp.Expr:
    """Without a key, and without the selected columns that show it."""
    keys = [one for one in select.args["group"].expressions if one is not key]
    select.set("group", exp.Group(expressions=keys) if keys else None)
    items = [one for one in select.expressions if one.unalias() != key and one.alias != key.name]
    select.set("expressions", items or [counting()])
    return tree
