"""Descriptors; of a score, what is searched and sorted by, in columns of its own."""

import json

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"

NUMBERS = (
    "scale", "balance", "variation", "rest", "size", "sparsity", "agreement", "scaling", "order", "entries", "depth", "name", "base", "randomness", "nodes",
)  # fmt: skip
CANDIDATES = sa.table(
    "candidates",
    *map(sa.column, ("number", "score", "low", "high", "asked", "problems")),
)


def upgrade() -> None:
    """From schema 3. Descriptors stay empty: `mergewright archive describe` takes them."""
    for name, kind in (("low", sa.Float), ("high", sa.Float), ("asked", sa.Integer), ("problems", sa.Integer)):
        op.add_column("candidates", sa.Column(name, kind))
    op.create_table(
        "descriptors",
        sa.Column("program_id", sa.String(32), primary_key=True),
        *(sa.Column(name, sa.Double, nullable=False) for name in NUMBERS),
        sa.Column("weights", sa.JSON, nullable=False),
        sa.Column("operations", sa.Text, nullable=False),
        sa.Column("sketch", sa.JSON, nullable=False),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(CANDIDATES.c.number, CANDIDATES.c.score)).all()
    for number, text in rows:
        score = json.loads(text) if isinstance(text, str) else text
        if score:
            values = {"low": score["low"], "high": score["high"], "asked": score["n"], "problems": score["of"]}
            connection.execute(sa.update(CANDIDATES).where(CANDIDATES.c.number == number).values(values))
