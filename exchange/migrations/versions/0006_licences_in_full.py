"""Licences in full: who wrote and approved a version, what was accepted for what, why a use was refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_APPEND_ONLY = ("licence_approval", "licence_refusal", "acceptance_signature")


def upgrade() -> None:
    """Create what this revision adds."""
    op.add_column("licence", sa.Column("editor", sa.String(length=200)))
    op.add_column("acceptance", sa.Column("org_name", sa.String(length=80)))
    op.add_column("acceptance", sa.Column("licence_version", sa.Integer()))
    op.add_column("acceptance", sa.Column("odrl_sha256", sa.String(length=64)))
    op.add_column("acceptance", sa.Column("dataset", sa.String(length=64)))
    op.add_column("acceptance", sa.Column("dataset_version", sa.String(length=64)))
    op.add_column("acceptance", sa.Column("publishes", sa.Boolean()))
    op.add_column("acceptance", sa.Column("entry_id", sa.String(length=64)))
    op.create_table(
        "licence_approval",
        sa.Column("licence_id", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("approved_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["licence_id"], ["licence.id"], name="fk_licence_approval_licence_id"),
        sa.PrimaryKeyConstraint("licence_id", name="pk_licence_approval"),
    )
    op.create_table(
        "acceptance_signature",
        sa.Column("acceptance_id", sa.String(length=64), nullable=False),
        sa.Column("algorithm", sa.String(length=16), nullable=False),
        sa.Column("public_key", sa.String(length=200), nullable=False),
        sa.Column("signature", sa.String(length=200), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("signed_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["acceptance_id"], ["acceptance.id"], name="fk_acceptance_signature_acceptance_id"
        ),
        sa.PrimaryKeyConstraint("acceptance_id", name="pk_acceptance_signature"),
    )
    op.create_table(
        "licence_refusal",
        sa.Column("entry_id", sa.String(length=64), nullable=False),
        sa.Column("licence_id", sa.String(length=64), nullable=False),
        sa.Column("acceptance_id", sa.String(length=64)),
        sa.Column("org", sa.String(length=64)),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("clause", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("refused_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_licence_refusal"),
    )
    op.create_index("ix_licence_refusal_licence_id_code", "licence_refusal", ["licence_id", "code"])
    for table in _APPEND_ONLY:
        for statement in _triggers(table):
            op.execute(statement)


def _triggers(table: str) -> list[str]:
    if op.get_bind().dialect.name == "sqlite":
        return [
            f"CREATE TRIGGER {table}_append_only_{event.lower()} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for event in ("UPDATE", "DELETE")
        ]
    return [
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_append_only()",
        f"CREATE TRIGGER {table}_append_only_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_append_only()",
    ]
