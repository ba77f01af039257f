"""Each change under a line of the audit log gets a salted digest, so that it can be forgotten and the log still holds.

Up: every line stays as it is, with its hash and its digest, so that each head that somebody noted is still there.  Each
change that stands under a line gets a salt and a digest, and one line at the end, `audit.redigested`, holds a digest over
all of them.  A line whose changes did not fit its digest before gets neither: what was broken stays broken.

Down: an older release knows only the digest over the values.  A line of before the upgrade has it still and stays as it is.
The lines since then get it, each only where it holds, and because a line's hash is over its digest, the chain is rewritten
from there on; the line `audit.redigested` goes.  One line at the end, `audit.rewritten`, holds the head that the log had.
So an older release finds the log whole, and each head that was noted before the upgrade; a head that was noted since the
upgrade it does not find.  What was broken stays broken here too.  What was forgotten becomes `{}`: under a line of since
the upgrade that is whole to an older release, and of an older line it says that the changes under it were edited.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from itertools import groupby

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SLICE = 5000
FIRST = "0" * 64
SALTED = "salted:"
REDIGESTED, REWRITTEN = "audit.redigested", "audit.rewritten"
VALUES = ("before", "after")
OLD = "sha256 over the rows in audit_changes"
NEW = "sha256 over the digests in audit_changes; before 0011 over their values"
FORGOTTEN = "blank: forgotten"

_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)

_lines = sa.table(
    "audit",
    sa.column("id", sa.Integer), sa.column("at", sa.DateTime(timezone=True)), sa.column("person_id", sa.Integer),
    sa.column("door", sa.Text), sa.column("source", sa.Text), sa.column("verb", sa.Text), sa.column("subject", sa.Text),
    sa.column("subject_id", sa.Integer), sa.column("facts", sa.JSON), sa.column("changes_digest", sa.Text),
    sa.column("previous", sa.Text), sa.column("hash", sa.Text),
)  # fmt: skip
_under = sa.table(
    "audit_changes",
    sa.column("entry_id", sa.Integer), sa.column("position", sa.Integer), sa.column("subject", sa.Text),
    sa.column("subject_id", sa.Integer), sa.column("before", sa.Text), sa.column("after", sa.Text),
    sa.column("salt", sa.Text), sa.column("digest", sa.Text),
)  # fmt: skip


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column(
        "audit_changes",
        sa.Column("salt", sa.Text(), nullable=True, comment="16 random bytes in hex; blank: forgotten"),
    )
    op.add_column(
        "audit_changes",
        sa.Column("digest", sa.Text(), nullable=True, comment="sha256 over the salt and the change; it stays"),
    )
    with _AsWritten(connection):
        count, total = _redigest(connection)
        # Under no line, or at no place that a release wrote: a digest of nothing fits nothing.
        connection.exec_driver_sql("UPDATE audit_changes SET digest = '' WHERE digest IS NULL")
        last = connection.execute(sa.select(_lines.c.id, _lines.c.hash).order_by(_lines.c.id.desc()).limit(1)).first()
        if count and last is not None:
            facts = {"through": last.id, "head": _readable(last.hash), "changes": count, "digest": total}
            _append(connection, REDIGESTED, facts)
    with _altering(connection) as batch:
        for name in VALUES:
            batch.alter_column(name, existing_type=sa.JSON(), nullable=True)
        batch.alter_column("digest", existing_type=sa.Text(), nullable=False)
    _comment(NEW, FORGOTTEN)


def downgrade() -> None:
    connection = op.get_bind()
    with _AsWritten(connection):
        head = connection.execute(sa.select(_lines.c.hash).order_by(_lines.c.id.desc()).limit(1)).scalar()
        began = _rewrite(connection)
        for column in (_under.c.before, _under.c.after):
            nothing = sa.literal_column("'{}'")
            connection.execute(_under.update().where(column.is_(None)).values({column: nothing}))
        if began is not None:
            _append(connection, REWRITTEN, {"from": began, "head": _readable(head)})
    _comment(OLD, None)
    with _altering(connection) as batch:
        for name in VALUES:
            batch.alter_column(name, existing_type=sa.JSON(), nullable=False)
        for name in ("digest", "salt"):
            batch.drop_column(name)


# -- up ----------------------------------------------------------------------------------------------------------------


def _redigest(connection):
    """Give each change that stands under a line a salt and a digest; returns how many, and one digest over all of them.

    Of a line that holds, that is: the changes of another keep neither.
    """
    count, total = 0, hashlib.sha256()
    for line, rows in groupby(_changes(connection, _lines.c.changes_digest), lambda row: row.entry_id):
        plain, salted, kept, given = hashlib.sha256(), hashlib.sha256(), None, []
        is_readable = True
        for row in rows:
            kept, count = row.changes_digest, count + 1
            salt = os.urandom(16).hex()
            try:
                own = _canonical(_own(row))
                plain.update(own + b"\n")
                digest = hashlib.sha256(salt.encode() + own).hexdigest()
                salted.update(_place(row, digest))
            except (TypeError, ValueError, RecursionError):
                is_readable = False
            else:
                given.append({"line": line, "position": row.position, "salt": salt, "digest": digest})
            if len(given) == SLICE:
                _give(connection, given)
                given = []
        _give(connection, given)
        if is_readable and plain.hexdigest() == kept:
            total.update((SALTED + salted.hexdigest()).encode())
        else:
            connection.execute(
                sa.text("UPDATE audit_changes SET salt = NULL, digest = '' WHERE entry_id = :line"), {"line": line}
            )
    return count, total.hexdigest()


ON_SQLITE = sa.text(
    "UPDATE audit_changes SET salt = :salt, digest = :digest WHERE entry_id = :line AND position = :position"
)
ON_POSTGRESQL = sa.text(
    "UPDATE audit_changes AS c SET salt = g.salt, digest = g.digest FROM unnest(CAST(:line AS integer[]),"
    " CAST(:position AS integer[]), CAST(:salt AS text[]), CAST(:digest AS text[])) AS g (line, position, salt, digest)"
    " WHERE c.entry_id = g.line AND c.position = g.position"
)


def _give(connection, given):
    """Write salts and digests, many at once."""
    if not given:
        return
    if _is_sqlite(connection):
        connection.execute(ON_SQLITE, given)
    else:
        connection.execute(ON_POSTGRESQL, {name: [one[name] for one in given] for name in given[0]})


# -- down --------------------------------------------------------------------------------------------------------------


def _rewrite(connection):
    """Give each line of since the upgrade that holds the digest of an older release; returns the first that changed.

    At a line that was edited, or before which one is missing, it ends: what follows stays as it is, and does not fit.
    """
    previous, written, began = FIRST, FIRST, None
    for lines in _slices(connection):
        beneath = _beneath(connection, lines[0].id, lines[-1].id)
        changed = []
        for line in lines:
            entry = _entry(line)
            if _hash_of(entry) != line.hash or line.previous != previous:
                _change(connection, changed)
                return began
            previous = line.hash
            if line.verb == REDIGESTED:
                began = began or line.id
                connection.execute(_lines.delete().where(_lines.c.id == line.id))
                continue
            salted, plain = beneath.get(line.id, (None, None))
            if (line.changes_digest or "").startswith(SALTED) and line.changes_digest == salted:
                entry["changes_digest"] = plain
            entry["previous"] = written
            written = _hash_of(entry)
            if written != line.hash:
                began = began or line.id
                changed.append(
                    {"line": line.id, "d": entry["changes_digest"], "p": entry["previous"], "h": written}
                )  # fmt: skip
        _change(connection, changed)
    return began


CHANGE = sa.text("UPDATE audit SET changes_digest = :d, previous = :p, hash = :h WHERE id = :line")


def _change(connection, changed):
    if changed:
        connection.execute(CHANGE, changed)


def _beneath(connection, first, last):
    """Of each line that has changes, which all fit: the digest that it has, and the one of an older release."""
    c, found = _under.c, {}
    more = (c.salt, c.digest, sa.and_(c.before.is_(None), c.after.is_(None)).label("is_forgotten"))
    for line, rows in groupby(_changes(connection, *more, between=(first, last)), lambda row: row.entry_id):
        plain, salted, is_intact = hashlib.sha256(), hashlib.sha256(), True
        for row in rows:
            try:
                if row.is_forgotten:
                    is_intact = is_intact and row.salt is None
                    plain.update(_canonical(_own(row) | {"before": {}, "after": {}}) + b"\n")
                else:
                    own = _canonical(_own(row))
                    fits = hashlib.sha256((row.salt or "").encode() + own).hexdigest() == row.digest
                    is_intact = is_intact and len(row.salt or "") == 32 and fits
                    plain.update(own + b"\n")
                salted.update(_place(row, row.digest))
            except (TypeError, ValueError, RecursionError):
                is_intact = False
        if is_intact:
            found[line] = (SALTED + salted.hexdigest(), plain.hexdigest())
    return found


def _slices(connection):
    """The lines in order, some at once, with the time and the facts as they are stored."""
    raw = [sa.type_coerce(_lines.c.at, sa.Text).label("at"), sa.type_coerce(_lines.c.facts, sa.Text).label("facts")]
    query = sa.select(*raw, *(c for c in _lines.c if c.name not in ("at", "facts"))).order_by(_lines.c.id).limit(1000)
    after = None
    while rows := connection.execute(query if after is None else query.where(_lines.c.id > after)).all():
        yield rows
        after = rows[-1].id


def _entry(line):
    """A line's columns as its hash is over them; what cannot be read has no hash."""
    entry = {name: value for name, value in line._mapping.items() if name not in ("id", "hash")}
    try:
        facts, at = entry["facts"], entry["at"]
        entry["facts"] = json.loads(facts) if isinstance(facts, str | bytes) else facts
        at = datetime.fromisoformat(at) if isinstance(at, str) else at
        entry["at"] = (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)).isoformat()
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return entry


# -- both --------------------------------------------------------------------------------------------------------------


def _changes(connection, *more, between=None):
    """The changes that stand under a line, in order, never more than a slice in memory; `more` are further columns.

    On SQLite a column may hold anything, and what no release can have written is passed over.
    """
    c, is_sqlite = _under.c, _is_sqlite(connection)
    values = [c[name] if is_sqlite else sa.cast(c[name], sa.Text).label(name) for name in VALUES]
    query = sa.select(c.entry_id, c.position, c.subject, c.subject_id, *values, *more)
    query = query.join(_lines, _lines.c.id == c.entry_id).order_by(c.entry_id, c.position).limit(SLICE)
    if is_sqlite:
        query = query.where(sa.func.typeof(c.position) == "integer")
    if between is not None:
        query = query.where(c.entry_id.between(*between))
    rows = connection.execute(query).all()
    while rows:
        yield from rows
        last = sa.tuple_(sa.literal(rows[-1].entry_id), sa.literal(rows[-1].position))
        rows = connection.execute(query.where(sa.tuple_(c.entry_id, c.position) > last)).all()


def _own(row):
    """A change as its digest is over it."""
    own = {"position": row.position, "subject": row.subject, "subject_id": row.subject_id}
    return own | {name: json.loads(getattr(row, name)) for name in VALUES if getattr(row, name) is not None}


def _place(row, digest):
    return _canonical([row.position, row.subject, row.subject_id, digest]) + b"\n"


def _append(connection, verb, facts):
    """Write a line at the end of the log, as the system's own user.

    Its id is after every one that is in use, so that changes which stand under no line do not come to stand under it.
    """
    number = 1 + connection.execute(
        sa.text("SELECT max(n) FROM (SELECT max(id) AS n FROM audit UNION ALL SELECT max(entry_id) FROM audit_changes"
                " WHERE entry_id < 2147483647) x")
    ).scalar_one()  # fmt: skip
    if not _is_sqlite(connection):
        number = connection.execute(
            sa.text("SELECT setval(s, greatest(:number, nextval(s))) FROM pg_get_serial_sequence('audit', 'id') s"),
            {"number": number},
        ).scalar_one()
    previous = connection.execute(sa.select(_lines.c.hash).order_by(_lines.c.id.desc()).limit(1)).scalar()
    at = datetime.now(UTC)
    entry = {
        "person_id": None, "door": "cli", "source": "db upgrade" if verb == REDIGESTED else "db downgrade", "verb": verb,
        "subject": "audit", "subject_id": None, "facts": facts, "changes_digest": None, "previous": _readable(previous or FIRST),
    }  # fmt: skip
    line = {"id": number, "at": at, **entry, "hash": _hash_of({"at": at.isoformat(), **entry})}
    connection.execute(_lines.insert(), line)


def _altering(connection):
    """Alter the table; SQLite copies it, also what stands under no line."""
    if _is_sqlite(connection):
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    return op.batch_alter_table("audit_changes")


def _comment(of_digest, of_values):
    if not _is_sqlite(op.get_bind()):
        op.execute(f"COMMENT ON COLUMN audit.changes_digest IS '{of_digest}'")
        for name in VALUES:
            op.execute(f"COMMENT ON COLUMN audit_changes.{name} IS {f'{of_values!r}' if of_values else 'NULL'}")


def _is_sqlite(connection):
    return connection.dialect.name == "sqlite"


def _canonical(value):
    return _json.encode(value).encode()


def _hash_of(entry):
    try:
        return hashlib.sha256(_canonical(entry)).hexdigest() if entry is not None else None
    except (TypeError, ValueError, RecursionError):
        return None


def _readable(stored):
    """A hash that somebody edited may be no text at all; what is made of it fits nothing, as before."""
    return stored.encode("utf-8", "replace").decode() if isinstance(stored, str) else repr(stored)


class _AsWritten:
    """Read every text as it stands, also one that is no UTF-8: SQLite holds what an editor put there."""

    def __init__(self, connection):
        self.driver = connection.connection.dbapi_connection if _is_sqlite(connection) else None

    def __enter__(self):
        if self.driver is not None:
            self.driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")

    def __exit__(self, *_):
        if self.driver is not None:
            self.driver.text_factory = str
