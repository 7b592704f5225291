"""The first tables, the views that auditors read, and the triggers that keep history as it was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# Frozen here, like everything in a migration: later changes are later revisions.
VIEWS = (
    """\
CREATE VIEW v_journal AS
SELECT t.journal AS journal, t.unit AS unit, t.debit AS account, -t.amount AS signed_amount,
       j.business_key AS business_key, j.recorded_at AS recorded_at
FROM transfer t JOIN journal j ON j.id = t.journal WHERE t.phase IN ('single', 'post')
UNION ALL
SELECT t.journal, t.unit, t.credit, t.amount, j.business_key, j.recorded_at
FROM transfer t JOIN journal j ON j.id = t.journal WHERE t.phase IN ('single', 'post')""",
    """\
CREATE VIEW v_privacy AS
SELECT domain, CAST(SUM(granted) AS BIGINT) AS granted_nano, CAST(SUM(spent) AS BIGINT) AS spent_nano,
       CAST(SUM(reserved) AS BIGINT) AS reserved_nano
FROM (
    SELECT a.owner AS domain,
           CASE WHEN a.kind = 'domain_granted' THEN a.debits_posted - a.credits_posted ELSE 0 END AS granted,
           CASE WHEN a.kind = 'domain_spent' THEN a.credits_posted - a.debits_posted ELSE 0 END AS spent,
           CASE WHEN a.kind = 'domain_available' THEN a.debits_pending ELSE 0 END AS reserved
    FROM account a JOIN unit u ON u.code = a.unit
    WHERE u.kind = 'rho' AND a.kind IN ('domain_granted', 'domain_available', 'domain_spent')
) budget
GROUP BY domain""",
    """\
CREATE VIEW v_query AS
SELECT q.id AS query_id, q.org AS org, q.slug AS dataset, q.state AS state, q.rho_nano AS rho_nano,
       q.charge_minor AS charge_minor, q.currency AS currency, q.acceptance_id AS acceptance_id,
       q.settle_journal AS settle_journal, e.seq AS leaf_seq
FROM query q LEFT JOIN audit_entry e ON e.id = q.entry_id""",
    """\
CREATE VIEW v_audit AS SELECT seq, kind, leaf_hash FROM audit_entry""",
)

APPEND_ONLY = (
    "journal",
    "transfer",
    "licence",
    "licence_withdrawal",
    "acceptance",
    "dataset",
    "dataset_version",
    "version_table",
    "version_part",
    "publication",
    "audit_entry",
)

REFUSE = """\
CREATE OR REPLACE FUNCTION refuse_change_of_append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = TG_TABLE_NAME || ' is append-only';
END
$body$"""


def upgrade() -> None:
    """Create what this revision adds."""
    _create_tables()
    for view in VIEWS:
        op.execute(view)
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute(REFUSE)
    for table in APPEND_ONLY:
        for statement in _postgresql_triggers(table) if postgresql else _sqlite_triggers(table):
            op.execute(statement)


def _postgresql_triggers(table: str) -> list[str]:
    return [
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_append_only()",
        f"CREATE TRIGGER {table}_append_only_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_append_only()",
    ]


def _sqlite_triggers(table: str) -> list[str]:
    return [
        f"CREATE TRIGGER {table}_append_only_{event.lower()} BEFORE {event} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for event in ("UPDATE", "DELETE")
    ]


def _create_tables() -> None:
    op.create_table(
        "organisation",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=True),
        sa.Column("revoked_at", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["org"],
            ["organisation.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.create_index("token_by_org", ["org"], unique=False)

    op.create_table(
        "idempotency",
        sa.Column("actor_org", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.String(length=40), nullable=False),
        sa.Column("recorded_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("actor_org", "key"),
    )
    op.create_table(
        "query",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("dataset", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=200), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("grant_id", sa.String(length=40), nullable=False),
        sa.Column("acceptance_id", sa.String(length=40), nullable=False),
        sa.Column("purpose", sa.String(length=80), nullable=False),
        sa.Column("clause", sa.Text(), nullable=False),
        sa.Column("sql", sa.Text(), nullable=False),
        sa.Column("sql_sha256", sa.String(length=64), nullable=False),
        sa.Column("plan_sha256", sa.String(length=64), nullable=False),
        sa.Column("plan_ask", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("domain", sa.String(length=200), nullable=False),
        sa.Column("rho_nano", sa.BigInteger(), nullable=False),
        sa.Column("delta_pico", sa.BigInteger(), nullable=False),
        sa.Column("charge_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("price_plan_sha256", sa.String(length=64), nullable=False),
        sa.Column("reserve_journal", sa.String(length=40), nullable=True),
        sa.Column("settle_journal", sa.String(length=40), nullable=True),
        sa.Column("lease_until", sa.String(length=32), nullable=False),
        sa.Column("reserved_at", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.String(length=32), nullable=True),
        sa.Column("ended_at", sa.String(length=32), nullable=True),
        sa.Column("result_sha256", sa.String(length=64), nullable=True),
        sa.Column("result_bytes", sa.BigInteger(), nullable=True),
        sa.Column("entry_id", sa.String(length=40), nullable=True),
        sa.Column("failure", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("query", schema=None) as batch_op:
        batch_op.create_index("query_by_org", ["org", "reserved_at"], unique=False)
        batch_op.create_index("query_by_plan", ["org", "version", "plan_sha256"], unique=False)
        batch_op.create_index("query_by_state", ["state", "lease_until"], unique=False)

    op.create_table(
        "sent_manifest",
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "source",
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("table_name", sa.String(length=63), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("domain", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("version", "table_name"),
    )
    op.create_index("source_by_sha256", "source", ["sha256"], unique=False)

    op.create_table(
        "upload",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("org", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit_entry",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=512), nullable=False),
        sa.Column("time", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=512), nullable=False),
        sa.Column("outcome", sa.String(length=512), nullable=False),
        sa.Column("code", sa.String(length=512), nullable=True),
        sa.Column("org", sa.String(length=512), nullable=True),
        sa.Column("org_seq", sa.BigInteger(), nullable=True),
        sa.Column("actor_ref", sa.String(length=512), nullable=True),
        sa.Column("role", sa.String(length=512), nullable=True),
        sa.Column("request_id", sa.String(length=512), nullable=True),
        sa.Column("object_type", sa.String(length=512), nullable=True),
        sa.Column("object_id", sa.String(length=512), nullable=True),
        sa.Column("dataset", sa.String(length=512), nullable=True),
        sa.Column("query_id", sa.String(length=512), nullable=True),
        sa.Column("purpose", sa.String(length=512), nullable=True),
        sa.Column("domain", sa.String(length=512), nullable=True),
        sa.Column("rho_nano", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.String(length=512), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("journal", sa.String(length=512), nullable=True),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.String(length=64), nullable=False),
        sa.CheckConstraint("seq >= 0", name="audit_entry_seq"),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("org", "org_seq"),
    )
    with op.batch_alter_table("audit_entry", schema=None) as batch_op:
        batch_op.create_index("audit_entry_by_dataset", ["dataset", "seq"], unique=False)
        batch_op.create_index("audit_entry_by_domain", ["domain", "seq"], unique=False)
        batch_op.create_index("audit_entry_by_journal", ["journal"], unique=False)
        batch_op.create_index("audit_entry_by_kind", ["kind", "seq"], unique=False)
        batch_op.create_index("audit_entry_by_object", ["object_id"], unique=False)
        batch_op.create_index("audit_entry_by_purpose", ["purpose", "seq"], unique=False)
        batch_op.create_index("audit_entry_by_query", ["query_id"], unique=False)
        batch_op.create_index("audit_entry_by_time", ["time"], unique=False)

    op.create_table(
        "audit_org_chain",
        sa.Column("org", sa.String(length=512), nullable=False),
        sa.Column("org_seq", sa.BigInteger(), nullable=False),
        sa.Column("leaf_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("org"),
    )
    op.create_table(
        "audit_sequence",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name="audit_sequence_single"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "journal",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("business_key", sa.String(length=300), nullable=False),
        sa.Column("effective_at", sa.String(length=32), nullable=False),
        sa.Column("recorded_at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("reverses", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["reverses"], ["journal.id"], name=op.f("fk_journal_reverses")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_journal")),
        sa.UniqueConstraint("business_key", name=op.f("uq_journal_business_key")),
        sa.UniqueConstraint("id", name=op.f("uq_journal_id")),
        sa.UniqueConstraint("reverses", name=op.f("uq_journal_reverses")),
    )
    op.create_table(
        "licence",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_sha256", sa.String(length=64), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("terms_sha256", sa.String(length=64), nullable=False),
        sa.Column("odrl", sa.Text(), nullable=False),
        sa.Column("odrl_sha256", sa.String(length=64), nullable=False),
        sa.Column("published_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_licence")),
        sa.UniqueConstraint("org", "title", "version", name=op.f("uq_licence_org_title_version")),
    )
    op.create_table(
        "unit",
        sa.Column("code", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("exponent", sa.Integer(), nullable=False),
        sa.CheckConstraint("kind IN ('money', 'rho', 'delta')", name=op.f("ck_unit_kind")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_unit")),
    )
    op.create_table(
        "acceptance",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("licence_id", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("territory", sa.String(length=16), nullable=False),
        sa.Column("shown_sha256", sa.String(length=64), nullable=False),
        sa.Column("accepted_at", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["licence_id"], ["licence.id"], name=op.f("fk_acceptance_licence_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acceptance")),
    )
    with op.batch_alter_table("acceptance", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_acceptance_org_licence_id"), ["org", "licence_id"], unique=False)

    op.create_table(
        "account",
        sa.Column("id", sa.String(length=300), nullable=False),
        sa.Column("unit", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("floor", sa.Boolean(), nullable=False),
        sa.Column("debits_posted", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("credits_posted", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("debits_pending", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("credits_pending", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "NOT floor OR credits_posted - debits_posted - debits_pending >= 0", name=op.f("ck_account_floor")
        ),
        sa.CheckConstraint(
            "credits_pending >= 0 AND credits_pending < 4611686018427387904",
            name=op.f("ck_account_credits_pending"),
        ),
        sa.CheckConstraint(
            "credits_posted >= 0 AND credits_posted < 4611686018427387904",
            name=op.f("ck_account_credits_posted"),
        ),
        sa.CheckConstraint(
            "debits_pending >= 0 AND debits_pending < 4611686018427387904",
            name=op.f("ck_account_debits_pending"),
        ),
        sa.CheckConstraint(
            "debits_posted >= 0 AND debits_posted < 4611686018427387904",
            name=op.f("ck_account_debits_posted"),
        ),
        sa.ForeignKeyConstraint(["unit"], ["unit.code"], name=op.f("fk_account_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
    )
    with op.batch_alter_table("account", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_account_owner_kind"), ["owner", "kind"], unique=False)

    op.create_table(
        "licence_withdrawal",
        sa.Column("licence_id", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("withdrawn_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["licence_id"], ["licence.id"], name=op.f("fk_licence_withdrawal_licence_id")
        ),
        sa.PrimaryKeyConstraint("licence_id", name=op.f("pk_licence_withdrawal")),
    )
    op.create_table(
        "access_request",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("dataset", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("purpose", sa.String(length=60), nullable=False),
        sa.Column("territory", sa.String(length=16), nullable=False),
        sa.Column("plan_name", sa.String(length=100), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("plan_sha256", sa.String(length=64), nullable=False),
        sa.Column("acceptance_id", sa.String(length=64), nullable=False),
        sa.Column("valid_until", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("decided_by", sa.String(length=200), nullable=True),
        sa.Column("requested_at", sa.String(length=32), nullable=False),
        sa.Column("decided_at", sa.String(length=32), nullable=True),
        sa.CheckConstraint("state IN ('open', 'approved', 'declined')", name=op.f("ck_access_request_state")),
        sa.ForeignKeyConstraint(
            ["acceptance_id"], ["acceptance.id"], name=op.f("fk_access_request_acceptance_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_request")),
    )
    with op.batch_alter_table("access_request", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_request_org"), ["org"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_access_request_provider_state"), ["provider", "state"], unique=False
        )

    op.create_table(
        "transfer",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("journal", sa.String(length=64), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("unit", sa.String(length=200), nullable=False),
        sa.Column("debit", sa.String(length=300), nullable=False),
        sa.Column("credit", sa.String(length=300), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("phase", sa.String(length=8), nullable=False),
        sa.Column("pending_id", sa.String(length=80), nullable=True),
        sa.CheckConstraint(
            "(phase IN ('post', 'void')) = (pending_id IS NOT NULL)", name=op.f("ck_transfer_resolves")
        ),
        sa.CheckConstraint("phase IN ('single', 'pending', 'post', 'void')", name=op.f("ck_transfer_phase")),
        sa.CheckConstraint("amount > 0 AND amount < 4611686018427387904", name=op.f("ck_transfer_amount")),
        sa.CheckConstraint("debit <> credit", name=op.f("ck_transfer_sides")),
        sa.ForeignKeyConstraint(["credit"], ["account.id"], name=op.f("fk_transfer_credit")),
        sa.ForeignKeyConstraint(["debit"], ["account.id"], name=op.f("fk_transfer_debit")),
        sa.ForeignKeyConstraint(["journal"], ["journal.id"], name=op.f("fk_transfer_journal")),
        sa.ForeignKeyConstraint(["pending_id"], ["transfer.id"], name=op.f("fk_transfer_pending_id")),
        sa.ForeignKeyConstraint(["unit"], ["unit.code"], name=op.f("fk_transfer_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfer")),
        sa.UniqueConstraint("journal", "leg", name=op.f("uq_transfer_journal_leg")),
        sa.UniqueConstraint("pending_id", name=op.f("uq_transfer_pending_id")),
    )
    with op.batch_alter_table("transfer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_transfer_credit"), ["credit"], unique=False)
        batch_op.create_index(batch_op.f("ix_transfer_debit"), ["debit"], unique=False)

    op.create_table(
        "access_grant",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("dataset", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("acceptance_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=60), nullable=False),
        sa.Column("territory", sa.String(length=16), nullable=False),
        sa.Column("plan_name", sa.String(length=100), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("plan_sha256", sa.String(length=64), nullable=False),
        sa.Column("allowance_rho_nano", sa.BigInteger(), nullable=False),
        sa.Column("valid_until", sa.String(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("issued_at", sa.String(length=32), nullable=False),
        sa.Column("changed_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint(
            "state IN ('active', 'suspended', 'expired', 'withdrawn')", name=op.f("ck_access_grant_state")
        ),
        sa.CheckConstraint("allowance_rho_nano > 0", name=op.f("ck_access_grant_allowance")),
        sa.ForeignKeyConstraint(
            ["acceptance_id"], ["acceptance.id"], name=op.f("fk_access_grant_acceptance_id")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["access_request.id"], name=op.f("fk_access_grant_request_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_grant")),
        sa.UniqueConstraint("request_id", name=op.f("uq_access_grant_request_id")),
    )
    with op.batch_alter_table("access_grant", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_access_grant_org_dataset_state"), ["org", "dataset", "state"], unique=False
        )

    op.create_table(
        "quote",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("grant_id", sa.String(length=64), nullable=False),
        sa.Column("org", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("plan_digest", sa.String(length=64), nullable=False),
        sa.Column("price_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("rho_nano", sa.BigInteger(), nullable=False),
        sa.Column("delta_pico", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("quoted_at", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint(
            "price_minor >= 0 AND rho_nano >= 0 AND delta_pico >= 0", name=op.f("ck_quote_amounts")
        ),
        sa.ForeignKeyConstraint(["grant_id"], ["access_grant.id"], name=op.f("fk_quote_grant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quote")),
    )
    with op.batch_alter_table("quote", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_quote_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "dataset",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column(
            "slug",
            sa.String(length=128).with_variant(sa.String(length=128, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("org", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("slug"),
    )
    with op.batch_alter_table("dataset", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dataset_org"), ["org"], unique=False)

    op.create_table(
        "dataset_version",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("dataset", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("domain", sa.String(length=200), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("licence", sa.String(length=40), nullable=False),
        sa.Column("plans", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"],
            ["dataset.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("dataset", "number"),
    )
    op.create_table(
        "listing",
        sa.Column("dataset", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=40), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("keywords", sa.Text(), nullable=False),
        sa.Column("folded_title", sa.Text(), nullable=False),
        sa.Column("folded_description", sa.Text(), nullable=False),
        sa.Column("folded_keywords", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"],
            ["dataset.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version"],
            ["dataset_version.id"],
        ),
        sa.PrimaryKeyConstraint("dataset"),
    )
    with op.batch_alter_table("listing", schema=None) as batch_op:
        batch_op.create_index("listing_by_state", ["state", "updated_at"], unique=False)

    op.create_table(
        "publication",
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("published_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["dataset_version.id"],
        ),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "version_part",
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("table_name", sa.String(length=63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["dataset_version.id"],
        ),
        sa.PrimaryKeyConstraint("version", "table_name", "position"),
    )
    with op.batch_alter_table("version_part", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_version_part_sha256"), ["sha256"], unique=False)

    op.create_table(
        "version_table",
        sa.Column("version", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("public", sa.Integer(), nullable=False),
        sa.Column("unit", sa.String(length=128), nullable=True),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("rows_without_unit", sa.BigInteger(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["dataset_version.id"],
        ),
        sa.PrimaryKeyConstraint("version", "name"),
    )
