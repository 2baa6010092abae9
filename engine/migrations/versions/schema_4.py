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
    *map(sa.column, ("number", "score", "low", "high", "asked", "problems", "standing")),
)
SCORES = sa.table("scores", sa.column("number"), sa.column("score", sa.JSON))


def upgrade() -> None:
    """From schema 3. Descriptors stay empty: `mergewright archive describe` takes them."""
    kinds = {"low": sa.Float, "high": sa.Float, "asked": sa.Integer, "problems": sa.Integer, "standing": sa.Float}
    for name, kind in kinds.items():
        op.add_column("candidates", sa.Column(name, kind))
    op.create_index("ix_candidates_standing", "candidates", ["standing"])
    op.create_table(
        "scores",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("score", sa.JSON, nullable=False),
    )
    op.create_table(
        "descriptors",
        sa.Column("program_id", sa.String(32), primary_key=True),
        *(sa.Column(name, sa.Double, nullable=False) for name in NUMBERS),
        sa.Column("weights", sa.JSON, nullable=False),
        sa.Column("operations", sa.Text, nullable=False),
    )
    op.create_table(
        "sketches",
        sa.Column("program_id", sa.String(32), primary_key=True),
        sa.Column("sketch", sa.JSON, nullable=False),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(CANDIDATES.c.number, CANDIDATES.c.score)).all()
    for number, text in rows:
        score = json.loads(text) if isinstance(text, str) else text
        if score:
            connection.execute(sa.insert(SCORES).values(number=number, score=score))
            complete = score["n"] == score["of"]
            values = {"low": score["low"], "high": score["high"], "asked": score["n"], "problems": score["of"]}
            values["standing"] = score["value"] if complete else score["value"] - 1
            connection.execute(sa.update(CANDIDATES).where(CANDIDATES.c.number == number).values(values))
    op.drop_column("candidates", "score")
