"""Bring a database's schema up or down.  Only this makes a database."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from storage.database import Database, stamp


def upgrade(db: Database, to: str = "head", *, rehearsal: bool = False) -> str | None:
    """Make the database if there is none, and bring its schema up; returns the revision it is at.

    A new database is stamped once for rehearsal or for real use; an old stamp stays.
    """
    if db.file is not None:
        db.file.parent.mkdir(parents=True, exist_ok=True)
    with db.transaction() as tx:
        command.upgrade(_config(tx.connection), to)
    if to == "head":
        with db.transaction() as tx:
            stamp(tx, rehearsal=rehearsal)
    return db.revision()


def downgrade(db: Database, to: str) -> str | None:
    """Take the schema back to an older revision (`base` empties the database); returns the revision it is at."""
    with db.transaction() as tx:
        command.downgrade(_config(tx.connection), to)
    return db.revision()


def _config(connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
