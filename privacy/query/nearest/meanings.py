"""Changes that need to know what columns and tables are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.query.aggregates import has_aggregate
from privacy.query.nearest.parts import closest, counting, element_of, select_of, with_columns

if TYPE_CHECKING:
    from privacy.policy import Column, Policy, Table


class Known:
    """Changes that need to know what columns and tables are."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def _tables(self, select: exp.Expr) -> list[tuple[str, Table]]:
        """The tables that a SELECT names in FROM and JOIN, with what it calls them."""
        items = [select.args.get("from_"), *(select.args.get("joins") or [])]
        named = [item.this for item in items if item is not None and isinstance(item.this, exp.Table)]
        found = [(node.alias or node.name, self.policy.table(node.name)) for node in named]
        return [(alias, table) for alias, table in found if table is not None]

    def _column(self, select: exp.Expr, node: exp.Expr) -> tuple[Table, Column] | None:
        for alias, table in self._tables(select):
            if node.name and (not node.text("table") or node.text("table").lower() == alias.lower()):
                column = table.column(node.name)
                if column is not None:
                    return table, column
        return None

    def _is_unit(self, select: exp.Expr, node: exp.Expr) -> bool:
        inner = node.unalias()
        found = self._column(select, inner) if isinstance(inner, exp.Column) else None
        return found is not None and (found[0].unit or "").lower() == inner.name.lower()

    def distinct_units(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """SELECT DISTINCT unit -> count(DISTINCT unit)."""
        select = select_of(place)
        if select is None or not all(self._is_unit(select, item) for item in select.expressions):
            return None
        unit = select.expressions[0].unalias()
        counting = exp.Count(this=exp.Distinct(expressions=[unit.copy()]))
        return with_columns(tree, select, [exp.alias_(counting, "n")])

    def grouped(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """A column beside aggregates -> a grouping column; a column of categories alone -> counted by it."""
        select = select_of(place)
        if select is None or any(isinstance(item.unalias(), exp.Star) for item in select.expressions):
            return None
        if not any(has_aggregate(item) for item in select.expressions):
            return self._counted_by(tree, select)
        item = element_of(place, select, "expressions")
        if item is None:
            return None
        key = item.unalias() if not has_aggregate(item) else place
        group = select.args.get("group") or exp.Group(expressions=[])
        group.append("expressions", key.copy())
        select.set("group", group)
        return tree

    def _counted_by(self, tree: exp.Expr, select: exp.Expr) -> exp.Expr | None:
        """The columns without bounds, with how many rows have each of their values."""
        kept = []
        for item in select.expressions:
            found = self._column(select, item.unalias())
            if found is None or not found[1].selectable or self._is_unit(select, item):
                continue
            if found[1].low is None:
                kept.append(item)
        if not kept:
            return None
        keys = [item.unalias().copy() for item in kept]
        made = with_columns(tree, select, [*(item.copy() for item in kept), counting()])
        select.set("group", exp.Group(expressions=keys))
        return made

    def aggregated(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """Columns with bounds -> their averages."""
        select = select_of(place)
        if select is None:
            return None
        items: list[exp.Expr] = [counting()]
        for item in select.expressions:
            found = self._column(select, item.unalias())
            if found is not None and found[1].low is not None and found[1].selectable:
                items.append(exp.alias_(exp.Avg(this=item.unalias().copy()), item.alias_or_name))
        return with_columns(tree, select, items) if len(items) > 1 else None

    def without_unit(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """The unit beside other keys -> the other keys alone."""
        select = select_of(place)
        group = None if select is None else select.args.get("group")
        if select is None or group is None or len(group.expressions) < 2:
            return None
        rest = [key for key in group.expressions if not self._is_unit(select, key)]
        group.set("expressions", rest)
        select.set("expressions", [one for one in select.expressions if not self._is_unit(select, one)])
        return tree if rest and select.expressions else None

    def per_unit(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """Groups of single units -> features of each unit, averaged over the units."""
        select = select_of(place)
        if select is None or select is not tree:
            return None
        for name in ("order", "limit", "offset", "distinct", "qualify"):
            select.set(name, None)
        features = []
        for number, item in enumerate(list(select.expressions)):
            if not has_aggregate(item):
                continue
            name = item.alias or f"x{number + 1}"
            if not item.alias:
                item.replace(exp.alias_(item.copy(), name))
            features.append(exp.alias_(exp.Avg(this=exp.column(name)), name))
        inner = exp.Subquery(this=select.copy(), alias=exp.TableAlias(this=exp.to_identifier("each")))
        with_ = inner.this.args.pop("with_", None)
        made = exp.select(*(features or [counting()])).from_(inner)
        if with_ is not None:
            made.set("with_", with_)
        return made

    def joined_on_unit(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """Two private tables -> joined on the privacy unit."""
        join, select = place.find_ancestor(exp.Join), select_of(place)
        if join is None or select is None or not isinstance(join.this, exp.Table):
            return None
        private = [(alias, table) for alias, table in self._tables(select) if table.unit is not None]
        joined = join.this.alias or join.this.name
        own = next((table for alias, table in private if alias == joined), None)
        other = next(((alias, table) for alias, table in private if alias != joined), None)
        if own is None or other is None or own.unit is None or other[1].unit is None:
            return None
        sides = exp.column(other[1].unit, table=other[0]), exp.column(own.unit, table=joined)
        join.set("on", exp.EQ(this=sides[0], expression=sides[1]))
        for name in ("using", "method", "kind"):
            join.set(name, None)
        return tree

    def joined_on_common(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """A join without an equality -> on the columns that both sides have."""
        join, select = place.find_ancestor(exp.Join), select_of(place)
        join = place if isinstance(place, exp.Join) else join
        if join is None or select is None or not isinstance(join.this, exp.Table):
            return None
        joined = join.this.alias or join.this.name
        own = [set(table.columns) for alias, table in self._tables(select) if alias == joined]
        rest = [set(table.columns) for alias, table in self._tables(select) if alias != joined]
        common = sorted(own[0] & set().union(*rest)) if own else []
        if not common:
            return None
        for name in ("side", "method", "kind", "on"):
            join.set(name, None)
        join.set("using", [exp.to_identifier(name) for name in common])
        return tree

    def table_meant(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """A misspelt table, or the file of one -> the table."""
        table = place if isinstance(place, exp.Table) else place.find_ancestor(exp.Table)
        if table is None:
            return None
        names = {one.name.lower(): one.name for one in self.policy.tables.values()}
        words = [part.name for part in table.find_all(exp.Identifier, exp.Literal)]
        words += [part.name for part in table.find_all(exp.Anonymous, exp.Func)]
        meant = [name for word in words for key, name in names.items() if key in word.lower()]
        close = [names[one] for word in words for one in closest(word, names)]
        if not meant and not close:
            return None
        alias = table.args.get("alias")
        made = exp.to_table((meant or close)[0])
        made.set("alias", alias)
        if table is tree:
            return None
        table.replace(made)
        return tree

    def column_meant(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """A misspelt column -> the column."""
        select = select_of(place)
        if select is None or not isinstance(place, exp.Column):
            return None
        names = {
            column.name.lower(): column.name
            for _, one in self._tables(select)
            for column in one.columns.values()
        }
        close = closest(place.name, names)
        if not close:
            return None
        place.set("this", exp.to_identifier(names[close[0]]))
        return tree

    def window_of_unit(self, tree: exp.Expr, place: exp.Expr) -> exp.Expr | None:
        """A window over several units -> within each unit."""
        window = place if isinstance(place, exp.Window) else place.find_ancestor(exp.Window)
        select = select_of(place)
        if window is None or select is None:
            return None
        found = [(alias, table.unit) for alias, table in self._tables(select) if table.unit is not None]
        if not found:
            return None
        unit = exp.column(found[0][1], table=found[0][0] if len(self._tables(select)) > 1 else None)
        window.set("partition_by", [unit, *(window.args.get("partition_by") or [])])
        return tree
