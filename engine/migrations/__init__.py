"""Steps from one schema of the archive to the next, by alembic. An archive of an older schema is brought up to date when it is opened.

alembic keeps the revision in force in a table of its own; archives of before schema 4 say it among their facts. A change of `engine/schema.py` comes with a file
in `versions/`; a test holds what they come to against the models.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.sql import column, table

if TYPE_CHECKING:
    from alembic.config import Config

FIRST = 3
"""The schema of the first release, and the oldest that can be brought up to date."""

FOREIGN = 0
"""In the place of a schema's number, where a database says of itself what none of our archives says: it is another program's."""

_NUMBER = re.compile(r"[0-9]{1,9}")

_UPGRADING = 0x6D77
"""Half of the number of a lock on PostgreSQL; the schema makes the other half."""

_REVISIONS = table("alembic_version", column("version_num"))
_FACTS = table("meta", column("key"), column("value"))


def schema_of(connection: Connection) -> int | None:
    """The schema of an archive, by its number; `FOREIGN` where another program has numbered it, None where nobody has."""
    tables = inspect(connection).get_table_names()
    if _REVISIONS.name in tables:
        found = connection.scalar(select(_REVISIONS.c.version_num))
    else:
        found = _noted(connection) if _FACTS.name in tables else None
    if found is None:
        return None
    return int(found) if _NUMBER.fullmatch(str(found)) else FOREIGN


def _noted(connection: Connection) -> Any:
    """The version that an archive of before schema 4 notes among its facts, whatever it is; None where it has no such fact."""
    fact = connection.scalar(select(_FACTS.c.value).where(_FACTS.c.key == "schema"))
    if fact is None:
        return None
    try:
        facts = json.loads(fact) if isinstance(fact, str) else fact  # PostgreSQL's driver has read it already
    except ValueError:
        return FOREIGN
    return facts.get("version", FOREIGN) if isinstance(facts, dict) else FOREIGN


def mark(connection: Connection, schema: int) -> None:
    """Say that an archive is of this schema."""
    from alembic import command

    command.stamp(_config(connection), str(schema))


def upgrade(connection: Connection) -> None:
    """Bring an archive to the newest schema, whole or not at all. The connection is in a transaction that writes, which on SQLite nobody else is in."""
    from alembic import command

    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_UPGRADING, func.hashtext(func.current_schema()))))
    found = schema_of(connection)  # another process may have been first
    config = _config(connection)
    if _REVISIONS.name not in inspect(connection).get_table_names():
        command.stamp(config, str(found))
    command.upgrade(config, "head")


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
