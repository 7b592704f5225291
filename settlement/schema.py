"""The database side of the books: one MetaData, append-only triggers, and the views auditors read.

Times are text of aware UTC datetimes with microseconds, so that they sort as text on every database.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import CursorResult, MetaData, Table, and_, case, or_
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Select, UpdateBase
    from sqlalchemy.orm import Session

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: Tables whose rows never change and never leave; corrections are new rows.
append_only = [
    "journal",
    "transfer",
    "licence",
    "licence_approval",
    "licence_withdrawal",
    "licence_refusal",
    "acceptance",
    "acceptance_signature",
    "billing_profile",
    "tax_treatment",
    "invoice",
    "invoice_line",
    "payment",
    "stripe_event",
    "reconciliation",
]

V_JOURNAL = """\
CREATE VIEW v_journal AS
SELECT t.journal AS journal, t.unit AS unit, t.debit AS account, -t.amount AS signed_amount,
       j.business_key AS business_key, j.recorded_at AS recorded_at
FROM transfer t JOIN journal j ON j.id = t.journal WHERE t.phase IN ('single', 'post')
UNION ALL
SELECT t.journal, t.unit, t.credit, t.amount, j.business_key, j.recorded_at
FROM transfer t JOIN journal j ON j.id = t.journal WHERE t.phase IN ('single', 'post')"""

V_PRIVACY = """\
CREATE VIEW v_privacy AS
SELECT domain, CAST(SUM(granted) AS BIGINT) AS granted_nano, CAST(SUM(spent) AS BIGINT) AS spent_nano,
       CAST(SUM(reserved) AS BIGINT) AS reserved_nano
FROM (
    SELECT a.owner AS domain,
           CASE WHEN a.kind = 'domain_granted' THEN a.debits_posted - a.credits_posted ELSE 0 END AS granted,
           CASE WHEN a.kind = 'domain_spent' THEN a.credits_posted - a.debits_posted ELSE 0 END AS spent,
           CASE WHEN a.kind IN ('domain_available', 'domain_set_aside') THEN a.debits_pending ELSE 0 END
               AS reserved
    FROM account a JOIN unit u ON u.code = a.unit
    WHERE u.kind = 'rho'
      AND a.kind IN ('domain_granted', 'domain_available', 'domain_set_aside', 'domain_spent')
) budget
GROUP BY domain"""

#: View name -> CREATE VIEW statement, the same on SQLite and PostgreSQL.
views = {"v_journal": V_JOURNAL, "v_privacy": V_PRIVACY}


def append_only_ddl(dialect: str, tables: list[str] | None = None) -> list[str]:
    """Statements that make tables append-only: UPDATE, DELETE (and TRUNCATE) of them fail from then on.

    ``dialect`` is SQLAlchemy's name of the database, "sqlite" or "postgresql"; ValueError for another. The
    statements hold neither ``%`` nor a colon, so that every way of running them leaves them alone.
    """
    names = append_only if tables is None else tables
    if dialect == "sqlite":
        return [_sqlite_trigger(table, event) for table in names for event in ("UPDATE", "DELETE")]
    if dialect == "postgresql":
        return [
            _POSTGRESQL_FUNCTION,
            *(statement for table in names for statement in _postgresql_triggers(table)),
        ]
    raise ValueError(f"no append-only triggers are written for {dialect}")


def waiting_first(
    query: Select[Any],
    waits: ColumnElement[bool],
    at: ColumnElement[str],
    last: ColumnElement[str],
    *,
    limit: int,
    after: tuple[int, str, str] | None,
) -> Select[Any]:
    """``limit`` rows, those that wait before the others and the newest of each first, behind the row that has
    this place: whether it waits no more, its time, its id.
    """
    done = case((waits, 0), else_=1)
    if after is not None:
        group, moment, row = after
        older = or_(at < moment, and_(at == moment, last > row))
        query = query.where(or_(done > group, and_(done == group, older)))
    return query.order_by(done, at.desc(), last).limit(limit)


def timestamp(now: datetime) -> str:
    """An aware datetime as the text kept in time columns. ValueError for a naive one."""
    if now.tzinfo is None:
        raise ValueError("times in the books carry their time zone")
    return now.astimezone(UTC).isoformat(timespec="microseconds")


def insert_once(session: Session, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that takes ON CONFLICT, for the session's database."""
    dialect = session.get_bind().dialect.name
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def rows_changed(
    session: Session, statement: UpdateBase, values: Sequence[Mapping[str, Any]] | None = None
) -> int:
    """Run an INSERT or UPDATE, once or for each set of values, and count the rows it wrote."""
    # Without this option an INSERT's rows are not counted, and a conflict passes unseen on PostgreSQL.
    result = session.execute(statement, values, execution_options={"preserve_rowcount": True})
    assert isinstance(result, CursorResult)
    return result.rowcount


_POSTGRESQL_FUNCTION = """\
CREATE OR REPLACE FUNCTION refuse_change_of_append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = TG_TABLE_NAME || ' is append-only';
END
$body$"""


def _postgresql_triggers(table: str) -> list[str]:
    return [
        f"CREATE OR REPLACE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_append_only()",
        f"CREATE OR REPLACE TRIGGER {table}_append_only_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_append_only()",
    ]


def _sqlite_trigger(table: str, event: str) -> str:
    return (
        f"CREATE TRIGGER IF NOT EXISTS {table}_append_only_{event.lower()} BEFORE {event} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
