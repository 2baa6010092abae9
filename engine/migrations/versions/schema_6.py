"""Parents in rows of their own, indexes by program with the outcome and by whom a candidate duplicates: families are found without a look at everyone."""

import json

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"

CANDIDATES = sa.table("candidates", sa.column("number"), sa.column("parents"))
PARENTS = sa.table("parents", sa.column("number"), sa.column("place"), sa.column("parent"))


def upgrade() -> None:
    """From schema 5."""
    op.create_table(
        "parents",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("parent", sa.String(32), nullable=False),
    )
    op.create_index("ix_parents_parent", "parents", ["parent"])
    op.drop_index("ix_candidates_program_id", "candidates")
    op.create_index("ix_candidates_program_id", "candidates", ["program_id", "outcome"])
    op.create_index("ix_candidates_duplicate_of", "candidates", ["duplicate_of"])
    connection = op.get_bind()
    for number, text in connection.execute(sa.select(CANDIDATES.c.number, CANDIDATES.c.parents)).all():
        parents = json.loads(text) if isinstance(text, str) else text
        rows = [{"number": number, "place": place, "parent": parent} for place, parent in enumerate(parents)]
        if rows:
            connection.execute(sa.insert(PARENTS), rows)
