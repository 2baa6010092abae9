"""What alembic runs to bring an archive to the newest schema; `engine/store.py` hands it an open connection."""

from alembic import context

from engine.schema import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
