"""Changes of the syntax alone."""

from __future__ import annotations

from sqlglot import exp

from privacy.query.aggregates import has_aggregate
from privacy.query.nearest.parts import aggregate_of, counting, element_of, select_of, with_columns

_COMPARING = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.In, exp.Between)


def counted(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """Rows -> how many there are."""
    select = select_of(place)
    if isinstance(tree, exp.Table | exp.Subquery) or select is None:
        return None
    if element_of(place, select, "expressions") is None and any(map(has_aggregate, select.expressions)):
        return None
    return with_columns(tree, select, [counting()])


def counted_rows(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """An aggregate -> count(*)."""
    call = aggregate_of(place)
    if call is None or (isinstance(call, exp.Count) and isinstance(call.this, exp.Star)):
        return None
    call.replace(exp.Count(this=exp.Star()))
    return tree


def counted_argument(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """An aggregate that cannot be bounded -> how many values there are."""
    call = aggregate_of(place)
    if call is None or isinstance(call, exp.Count) or not isinstance(call.this, exp.Expr):
        return None
    inner: object = call.this
    while isinstance(inner, exp.Distinct | exp.Order | exp.AggFunc):
        inner = inner.expressions[0] if isinstance(inner, exp.Distinct) else inner.this
    if not isinstance(inner, exp.Expr):
        return None
    call.replace(exp.Count(this=inner.copy()))
    return tree


def plain_join(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """RIGHT, FULL and NATURAL joins -> JOIN, or the private table first."""
    join = place if isinstance(place, exp.Join) else place.find_ancestor(exp.Join)
    if join is None or not (join.side or join.method):
        return None
    for name in ("side", "method", "kind"):
        join.set(name, None)
    return tree


def semi_joined(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """SEMI and ANTI joins -> IN and NOT IN."""
    join, select = place.find_ancestor(exp.Join), select_of(place)
    if join is None or select is None or join.kind not in ("SEMI", "ANTI") or not join.args.get("using"):
        return None
    name = join.args["using"][0].name
    inner = exp.select(exp.column(name)).from_(join.this.copy())
    condition: exp.Expr = exp.In(this=exp.column(name), query=exp.Subquery(this=inner))
    if join.kind == "ANTI":
        condition = exp.Not(this=condition)
    select.set("joins", [one for one in select.args["joins"] if one is not join])
    where = select.args.get("where")
    both = condition if where is None else exp.And(this=where.this.copy(), expression=condition)
    select.set("where", exp.Where(this=both))
    return tree


def as_number(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """The sum or mean of a condition -> of 1 where it holds."""
    call = aggregate_of(place)
    if call is None or not isinstance(call.this, exp.Condition) or isinstance(call.this, exp.Column):
        return None
    ones = exp.If(this=call.this.copy(), true=exp.Literal.number(1))
    call.set("this", exp.Case(ifs=[ones], default=exp.Literal.number(0)))
    return tree


def each_of_quotient(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """The sum or mean of a quotient -> the quotient of sums or means."""
    call = aggregate_of(place)
    if call is None or not isinstance(call.this, exp.Div):
        return None
    sides = [type(call)(this=side.copy()) for side in (call.this.this, call.this.expression)]
    call.replace(exp.Div(this=sides[0], expression=sides[1]))
    return tree


def plain_aggregate(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """DISTINCT and ORDER BY in an aggregate -> without them."""
    call = aggregate_of(place)
    if call is None or not isinstance(call.this, exp.Distinct | exp.Order) or isinstance(call, exp.Count):
        return None
    inner = call.this.expressions[0] if isinstance(call.this, exp.Distinct) else call.this.this
    call.set("this", inner.copy())
    return tree


def as_text(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """Text compared with numbers -> with quoted ones; a number that is matched -> as text."""
    node = place if isinstance(place, (*_COMPARING, exp.Like, exp.ILike)) else place.parent
    if isinstance(node, exp.Like | exp.ILike):
        node.set("this", exp.cast(node.this.copy(), "VARCHAR"))
        return tree
    numbers = [one for one in node.find_all(exp.Literal) if not one.is_string] if node is not None else []
    if not isinstance(node, _COMPARING) or not numbers:
        return None
    for one in numbers:
        one.replace(exp.Literal.string(one.name))
    return tree


def present(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A column where a condition is needed -> whether it is there."""
    if not isinstance(place, exp.Column) or not isinstance(
        place.parent, exp.Where | exp.And | exp.Or | exp.Not
    ):
        return None
    place.replace(exp.Not(this=exp.Is(this=place.copy(), expression=exp.Null())))
    return tree


def listed(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """IN with other things than literals -> with the literals alone."""
    node = place if isinstance(place, exp.In) else place.find_ancestor(exp.In)
    literals = [] if node is None else [one for one in node.expressions if isinstance(one, exp.Literal)]
    if node is None or not literals or len(literals) == len(node.expressions):
        return None
    node.set("expressions", literals)
    return tree


def as_double(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A cast to another type of number -> to DOUBLE."""
    if not isinstance(place, exp.Cast) or place.to.args.get("nested"):
        return None
    place.set("to", exp.DataType.build("DOUBLE"))
    return tree


def parsed(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """strptime, which may fail -> try_strptime."""
    if not isinstance(place, exp.StrToTime):
        return None
    place.replace(
        exp.Anonymous(this="try_strptime", expressions=[place.this.copy(), place.args["format"].copy()])
    )
    return tree


def inside(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A function that is not answered -> what it is taken of."""
    if isinstance(place, exp.Binary | exp.Query) and not isinstance(place, exp.Collate):
        return None
    if not isinstance(place.this, exp.Expr) or aggregate_of(place) is not None:
        return None
    place.replace(place.this.copy())
    return tree


def literal_moment(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """The current moment -> a literal one."""
    if not isinstance(place.parent, _COMPARING):
        return None
    place.replace(exp.cast(exp.Literal.string("2026-01-01 00:00:00"), "TIMESTAMP"))
    return tree


def unqualified(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A column of a table that is not there -> of any that is."""
    if not isinstance(place, exp.Column) or place.args.get("table") is None:
        return None
    place.set("table", None)
    return tree


def having_instead(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """QUALIFY without a window -> HAVING, and HAVING without an aggregate -> WHERE."""
    select = select_of(place)
    if select is None:
        return None
    for name, other, kind in (("qualify", "having", exp.Having), ("having", "where", exp.Where)):
        clause = select.args.get(name)
        if clause is not None and select.args.get(other) is None:
            select.set(other, kind(this=clause.this.copy()))
            select.set(name, None)
            return tree
    return None


def plain_form(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A further word of an operation or alias -> without it."""
    for name in ("symmetric", "columns", "escape", "percent"):
        node = place if place.args.get(name) else place.parent
        if node is not None and node.args.get(name):
            node.set(name, None)
            return tree
    return None


def aggregated_instead(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A window over private rows -> the aggregate, by what the window was partitioned by."""
    window, select = (
        place if isinstance(place, exp.Window) else place.find_ancestor(exp.Window),
        select_of(place),
    )
    if window is None or select is None or not isinstance(window.this, exp.AggFunc):
        return None
    keys = [part.copy() for part in window.args.get("partition_by") or []]
    name = window.parent.alias if isinstance(window.parent, exp.Alias) else "n"
    made = with_columns(tree, select, [*keys, exp.alias_(window.this.copy(), name)])
    if keys:
        select.set("group", exp.Group(expressions=[key.copy() for key in keys]))
    return made


def released_inside(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A subquery over raw values -> over the groups that they form."""
    query = place if isinstance(place, exp.Query) else place.find(exp.Query)
    while isinstance(query, exp.Subquery):
        query = query.this
    if not isinstance(query, exp.Select) or query is tree or any(map(has_aggregate, query.expressions)):
        return None
    keys = [item.unalias().copy() for item in query.expressions]
    with_columns(tree, query, list(query.expressions))
    query.set("group", exp.Group(expressions=keys))
    return tree


def qualified(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A column that several tables have -> the first table's."""
    select = select_of(place)
    from_ = None if select is None else select.args.get("from_")
    if from_ is None or not isinstance(place, exp.Column):
        return None
    place.set("table", exp.to_identifier(from_.this.alias_or_name))
    return tree


def renamed(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """The second column of a name -> a name of its own."""
    if not isinstance(place, exp.Alias):
        return None
    place.set("alias", exp.to_identifier(f"{place.alias}_2"))
    return tree


def asked_apart(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """A subquery over private rows -> itself, as its own question."""
    query = place if isinstance(place, exp.Query) else place.find(exp.Query)
    while isinstance(query, exp.Subquery):
        query = query.this
    return query.copy() if isinstance(query, exp.Select) and query is not tree else None


def in_two_steps(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """sum(count(*)) -> the sum of released counts."""
    select = select_of(place)
    if select is None or select is not tree or len(select.expressions) != 1:
        return None
    inner = exp.alias_(place.copy(), "n")
    place.replace(exp.column("n"))
    group = select.args.get("group")
    keys = [key.copy() for key in group.expressions] if group is not None else []
    below = select.copy()
    below.set("expressions", [*keys, inner])
    source = exp.Subquery(this=below, alias=exp.TableAlias(this=exp.to_identifier("t")))
    return exp.select(select.expressions[0].copy()).from_(source)


def union_all(tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
    """UNION of private rows -> UNION ALL."""
    union = place if isinstance(place, exp.Union) else place.find_ancestor(exp.Union)
    if union is None or not union.args.get("distinct"):
        return None
    union.set("distinct", False)
    return tree
