"""Sources, and prompts with what was written, in tables of their own: what is counted and sorted is a twentieth of what is read with it."""

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"

COLUMNS = {"sources": ("source",), "writings": ("prompt", "text")}


def upgrade() -> None:
    """From schema 6."""
    candidates = sa.table("candidates", *(sa.column(name) for name in ("number", "source", "prompt", "text")))
    for table, columns in COLUMNS.items():
        op.create_table(
            table,
            sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
            *(sa.Column(name, sa.Text, nullable=False) for name in columns),
        )
        names = ["number", *columns]
        moved = sa.select(*(candidates.c[name] for name in names))
        op.execute(sa.insert(sa.table(table, *map(sa.column, names))).from_select(names, moved))
        for name in columns:
            op.drop_column("candidates", name)
