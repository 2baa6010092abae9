"""The first release. Its tables are made by the models themselves; archives of before cannot be brought up to date."""

revision = "3"
down_revision = None


def upgrade() -> None:
    """Nothing: the step from which the others go on."""
