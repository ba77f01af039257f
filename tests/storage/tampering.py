"""What another program does to the database, and what forgetting does to a change."""

import contextlib
import sqlite3

from alembic.script import ScriptDirectory

from storage.upkeep import migrate

BEFORE_DIGESTS = ScriptDirectory.from_config(migrate._config(None)).get_revision("0011").down_revision
"""The revision before each change had a digest."""

PUT_IN = "INSERT INTO audit_changes (entry_id, position, subject, subject_id, before, after, salt, digest) VALUES"

FORGET = "UPDATE audit_changes SET before = NULL, after = NULL, salt = NULL WHERE"
"""How the values of changes are forgotten; a condition follows."""


class Tamperer:
    """What another program does to the database, with question marks on either engine."""

    def __init__(self, connection, mark):
        self.connection, self.mark = connection, mark

    def execute(self, statement, values=()):
        return self.connection.execute(statement.replace("?", self.mark), values)


@contextlib.contextmanager
def tampering(db):
    """Another program has the database open and is under none of our rules."""
    db.close()
    if db.is_sqlite:
        other, mark = sqlite3.connect(db.file), "?"
    else:
        import psycopg

        other, mark = psycopg.connect(db.url.set(drivername="postgresql").render_as_string(hide_password=False)), "%s"
        other.execute("SET session_replication_role = replica")  # no foreign keys
    with contextlib.closing(other):
        yield Tamperer(other, mark)
        other.commit()
