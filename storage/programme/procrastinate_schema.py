"""Procrastinate's tables on PostgreSQL: made, brought up and dropped with ours, in a schema of their own.

Its jobs carry wake-ups only, so nothing in these tables is worth keeping: an older version is dropped and made anew, and
so no migration of theirs is ever run.  Which version it is stands in the schema's comment.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from storage.database import Transaction
from storage.errors import Misconfigured

SCHEMA: Final = "procrastinate"

State = Literal["ready", "missing", "older", "newer", "not ours", "not installed"]

_OURS: Final = re.compile(r"[0-9][0-9.]*_[0-9]+")
"""What stands in the comment of a schema that we made."""


def make(tx: Transaction) -> None:
    """See that the tables are those of the Procrastinate that is installed.

    Those of a newer one, and those of another program in this database, are left alone.
    """
    if tx.is_sqlite or state(tx) in ("ready", "newer", "not ours", "not installed"):
        return
    drop(tx)
    try:
        tx.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    except ProgrammingError as fault:
        raise Misconfigured(
            [f"the schema {SCHEMA} cannot be made: let the user of DATABASE_URL CREATE in this database"]
        ) from fault
    tx.execute(text(f"SET LOCAL search_path = {SCHEMA}"))
    folder = _installed()
    assert folder is not None
    # By the driver itself: these are many statements, and a per cent sign in them means itself.
    driver: Any = tx.connection.connection.dbapi_connection
    driver.execute((folder / "schema.sql").read_text("utf-8"))
    tx.execute(text(f"COMMENT ON SCHEMA {SCHEMA} IS '{_version(folder)}'"))
    tx.execute(text("SET LOCAL search_path TO DEFAULT"))


def drop(tx: Transaction) -> None:
    """Take the tables away: a release that does not know them must not meet them."""
    if not tx.is_sqlite and _OURS.fullmatch(_found(tx) or ""):
        tx.execute(text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))


def state(tx: Transaction) -> State:
    """Whether the installed Procrastinate can use the tables that are here, and if not, why."""
    folder = _installed()
    if folder is None:
        return "not installed"
    found = _found(tx)
    if found is None:
        return "missing"
    if not _OURS.fullmatch(found):
        return "not ours"
    needed = _version(folder)
    return "ready" if found == needed else "older" if found < needed else "newer"


def shown(found: State) -> str:
    """The state in a sentence that says what to do."""
    return {
        "ready": "Procrastinate shares the periodic work out, once for all workers",
        "missing": f"the tables of Procrastinate are missing, {_ALONE}: run 'jumbe db upgrade'",
        "older": f"the tables of Procrastinate are older than what is installed, {_ALONE}: run 'jumbe db upgrade'",
        "newer": f"the tables of Procrastinate are newer than what is installed here, {_ALONE}: install that one here too",
        "not ours": f"the schema {SCHEMA} here is another program's, {_ALONE}: give Jumbe a database of its own",
        "not installed": f"Procrastinate is not installed, {_ALONE}: pip install 'jumbe[postgres]', then 'jumbe db upgrade'",
    }[found]


_ALONE = "so each worker does the periodic work by itself"


def _found(tx: Transaction) -> str | None:
    """The version in the schema's comment; None where there is no schema."""
    query = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = :name"
    found: str | None = tx.scalar(text(query), {"name": SCHEMA})
    return found


def _installed() -> Path | None:
    """The folder of its SQL, without importing it."""
    found = importlib.util.find_spec("procrastinate")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "sql"


def _version(folder: Path) -> str:
    """The last of its migrations: `03.04.00_50`; later ones compare as greater."""
    last = max(file.name for file in (folder / "migrations").glob("*.sql"))
    return "_".join(last.split("_")[:2])
