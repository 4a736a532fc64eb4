"""Run by Alembic for each command; the connection and its transaction are the caller's."""

from alembic import context

from attune_executor.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The database may be shared with other programs that use Alembic.
    version_table="attune_executor_version",
    # SQLite can alter little in place; Alembic then copies the table.
    render_as_batch=True,
)
context.run_migrations()
