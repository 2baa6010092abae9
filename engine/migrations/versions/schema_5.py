"""Effects: what a program makes of each tensor of the campaign's models."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """From schema 4. Effects stay empty: `mergewright archive show RUN ID --effect` takes them."""
    op.create_table(
        "effects",
        sa.Column("program_id", sa.String(32), primary_key=True),
        sa.Column("tensors", sa.JSON, nullable=False),
    )
