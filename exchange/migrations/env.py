"""Alembic's environment: runs on the connection that :mod:`exchange.migrate` passes in."""

from __future__ import annotations

from alembic import context

from exchange.schema import metadatas

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadatas,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
