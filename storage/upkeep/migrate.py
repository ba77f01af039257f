"""Bring a database's schema up or down, and on PostgreSQL that of the jobs with it.  Only this makes a database."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from storage.database import Database, Transaction, stamp
from storage.errors import Misconfigured
from storage.programme import procrastinate_schema
from storage.upkeep import renumbering


def upgrade(db: Database, to: str = "head", *, rehearsal: bool = False) -> str | None:
    """Make the database if there is none, and bring its schema up; returns the revision it is at.

    A new database is stamped once for rehearsal or for real use; an old stamp stays.
    """
    if db.file is not None and not db.file.parent.is_dir():
        raise Misconfigured([f"there is no folder {db.file.parent}: make it first, or correct DATABASE_URL"])
    db.revision()  # which says so where the tables are another program's
    with db.transaction() as tx:
        _run(command.upgrade, db, tx, to)
        if to == "head":
            renumbering.renew(tx)
    if to == "head":
        with db.transaction() as tx:
            stamp(tx, rehearsal=rehearsal)
            procrastinate_schema.make(tx)
    db.close()  # a file that is ours only now is opened anew, as such
    return db.revision()


def downgrade(db: Database, to: str) -> str | None:
    """Take the schema back to an older revision (`base` empties the database); returns the revision it is at."""
    db.revision()
    with db.transaction() as tx:
        _run(command.downgrade, db, tx, to)
        procrastinate_schema.drop(tx)
    return db.revision()


def _run(step: Callable[[Config, str], None], db: Database, tx: Transaction, to: str) -> None:
    if not re.fullmatch("[0-9]{4}|head|base", to):
        raise Misconfigured([f"{to[:20]!r} is no revision: say one such as 0004, or 'base' for none"])
    try:
        step(_config(tx.connection), to)
    except CommandError as error:
        raise Misconfigured(
            [f"the database {db.shown} cannot be brought to {to}: {error} (a newer release may have made it)"]
        ) from error


def _config(connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
