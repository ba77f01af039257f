"""Bring a database's schema up or down, and on PostgreSQL that of the jobs with it.  Only this makes a database."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import OperationalError

from storage import schema
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
    before = db.revision()  # which says so where the tables are another program's
    if before not in (None, schema.REVISION):
        _refuse_without_room(db)
    try:
        with db.transaction() as tx:
            _run(command.upgrade, db, tx, to)
            if to == "head":
                renumbering.renew(tx)
    except OperationalError as fault:
        if not _is_of_the_disk(fault):
            raise
        raise Misconfigured(
            [f"there is no room for the upgrade where {db.shown} is; nothing was changed: make room and do it again"]
        ) from None
    if to == "head":
        with db.transaction() as tx:
            stamp(tx, rehearsal=rehearsal)
            procrastinate_schema.make(tx)
    db.close()  # a file that is ours only now is opened anew, as such
    return db.revision()


def needs_backup(db: Database) -> str | None:
    """Why a backup should be made before an upgrade, as a sentence; None for a new database, one of this release and a fresh backup."""
    if db.file is not None and not db.file.exists():
        return None
    before = db.revision()
    if before in (None, schema.REVISION):
        return None
    with db.reading() as tx:
        kept = {column["name"] for column in inspect(tx.connection).get_columns("programme")}
        last = tx.scalar(select(schema.programme.c.last_backup_at)) if "last_backup_at" in kept else None
        newest = tx.scalar(select(func.max(schema.audit.c.at)))
    if newest is None or (last is not None and last >= newest):
        return None
    when = "none was ever made" if last is None else f"the last one is of {last:%Y-%m-%d %H:%M} UTC"
    return f"{db.shown} goes from {before} to {schema.REVISION}, and something was done since its last backup ({when})"


ROOM = 1.5
"""How many times its own size an upgrade of a SQLite file may need beside it, until it is committed and checkpointed."""


def _refuse_without_room(db: Database) -> None:
    if db.file is None or not db.file.exists():
        return
    needed, free = int(ROOM * db.file.stat().st_size), shutil.disk_usage(db.file.parent).free
    if free < needed:
        raise Misconfigured(
            [
                f"the upgrade of {db.shown} may need {_mb(needed)} beside it and there are {_mb(free)}: make room, or move"
                " the database to a larger disk"
            ]
        )


def _mb(size: int) -> str:
    return f"{max(1, size // 2**20):,} MB"


def _is_of_the_disk(fault: OperationalError) -> bool:
    """SQLite says so in words, PostgreSQL by its class of errors."""
    return "disk is full" in str(fault.orig) or getattr(fault.orig, "sqlstate", None) == "53100"


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
