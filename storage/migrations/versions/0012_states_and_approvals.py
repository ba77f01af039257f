"""Where a broadcast is stands in its state, who said ok stands in a table, and operations may have many numbers.

Nothing has to be inferred from dates any more, nor read out of the audit log.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BEFORE = ("previewed", "expanding", "sending", "done", "halted", "dropped")
SINCE = ("previewed", "held", "scheduled", "expanding", "sending", "paused", "done", "halted", "dropped", "expired")
CHECKS = {
    "broadcast_paused_from": "paused_from IN ('held', 'scheduled', 'expanding', 'sending')",
    "paused_knows_from_where": "(state = 'paused') = (paused_from IS NOT NULL)",
}

UP = (
    # As the older release saw it: the recipients of one with an hour are frozen when that has come.
    """
    UPDATE broadcasts SET state = 'scheduled' WHERE state = 'expanding' AND send_at IS NOT NULL AND expanded_at IS NULL
        AND NOT EXISTS (
            SELECT 1 FROM broadcast_audience WHERE broadcast_audience.broadcast_id = broadcasts.id
            AND broadcast_audience.frozen_at >= broadcasts.hold_until
        )
    """,
    "UPDATE broadcasts SET state = 'held' WHERE state IN ('expanding', 'sending') AND hold_until > :now",
    """
    UPDATE broadcasts SET state = 'paused', paused_from = state
    WHERE paused_at IS NOT NULL AND state IN ('held', 'scheduled', 'expanding', 'sending')
    """,
    """
    UPDATE broadcasts SET state = 'expired' WHERE state = 'dropped'
        AND EXISTS (SELECT 1 FROM operations WHERE operations.id = broadcasts.id AND operations.state = 'expired')
    """,
)

DOWN = (
    # To the older release a hold is a date, and what is written to its end is being sent.
    """
    UPDATE broadcasts SET paused_from = NULL, state = CASE
        WHEN paused_from = 'sending' OR (paused_from = 'held' AND expanded_at IS NOT NULL) THEN 'sending' ELSE 'expanding' END
    WHERE state = 'paused'
    """,
    """
    UPDATE broadcasts SET state = CASE WHEN expanded_at IS NULL THEN 'expanding' ELSE 'sending' END WHERE state = 'held'
    """,
    "UPDATE broadcasts SET state = 'expanding' WHERE state = 'scheduled'",
    "UPDATE broadcasts SET state = 'dropped' WHERE state = 'expired'",
)


def upgrade() -> None:
    if _is_sqlite():
        _make_broadcasts_again(SINCE, sa.Column("paused_from", sa.Text(), nullable=True), **CHECKS)
    else:
        comment = "paused: the state that it goes back to"
        op.add_column("broadcasts", sa.Column("paused_from", sa.Text(), nullable=True, comment=comment))
        _let_states_be(SINCE)
    # With `now` as it is told here: whatever hold is over meanwhile ends by the worker's first look.
    now = sa.bindparam(
        "now", datetime.now(UTC).replace(tzinfo=None if _is_sqlite() else UTC), sa.DateTime(timezone=True)
    )
    for statement in UP:
        text = sa.text(statement)
        op.execute(text.bindparams(now) if ":now" in statement else text)
    if not _is_sqlite():
        for name, condition in CHECKS.items():
            op.create_check_constraint(name, "broadcasts", condition)
    _count_with(sa.BigInteger(), "bigint")
    _make_approvals()
    _fill_approvals()
    _make_replies()


def downgrade() -> None:
    # The older release knows replies as operations: those of before the upgrade, which it answers still.
    op.drop_table("replies")
    op.drop_column("programme", "replies_through")
    op.drop_table("approvals")
    _count_with(sa.Integer(), "integer")
    for statement in DOWN:
        op.execute(statement)
    if _is_sqlite():
        _make_broadcasts_again(BEFORE)
    else:
        for name in CHECKS:
            op.drop_constraint(name, "broadcasts", type_="check")
        _let_states_be(BEFORE)
        op.drop_column("broadcasts", "paused_from")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _let_states_be(states: tuple[str, ...]) -> None:
    op.drop_constraint("broadcast_state", "broadcasts", type_="check")
    op.create_check_constraint("broadcast_state", "broadcasts", f"state IN {states}")


NUMBERS = {
    "operations": ("id",),
    "codes": ("operation_id",),
    "broadcasts": ("id",),
    "broadcast_audience": ("broadcast_id",),
    "broadcast_texts": ("broadcast_id",),
    "messages": ("broadcast_id",),
    "questions": ("operation_id",),
    "audit": ("subject_id",),
    "audit_changes": ("subject_id",),
}
"""Where a number of an operation stands."""


def _count_with(kind: sa.types.TypeEngine[int], name: str) -> None:
    """Operations skip the numbers of ten digits, which are codes; SQLite's integers are large enough as they are."""
    if _is_sqlite():
        return
    for table, columns in NUMBERS.items():
        for column in columns:
            op.alter_column(table, column, type_=kind)
    op.execute(f"ALTER SEQUENCE operations_id_seq AS {name}")


def _make_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operation_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=True, comment="blank: the system's own user"),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column(
            "place", sa.Integer(), nullable=False, comment="1: the first ok; 2: the second, where one is not enough"
        ),
        sa.Column("digest", sa.Text(), nullable=False, comment="what was approved: words and request, as of a code"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("place IN (1, 2)", name="first_or_second_approval"),
        sa.ForeignKeyConstraint(["operation_id"], ["operations.id"], name=op.f("fk_approvals_operation_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_approvals_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        comment="Who said ok to an operation, through which door.",
    )
    op.create_index("one_approval_per_place", "approvals", ["operation_id", "place"], unique=True)
    op.create_index("one_approval_per_person", "approvals", ["operation_id", "person_id"], unique=True)
    blank = sa.text("person_id IS NULL")
    op.create_index(
        "one_approval_of_the_system", "approvals", ["operation_id"], unique=True,
        sqlite_where=blank, postgresql_where=blank,
    )  # fmt: skip


BATCH = 10_000

CONFIRMED = """
    SELECT audit.id AS line, audit.at, audit.person_id, audit.door, operations.id, operations.kind, operations.words,
        operations.request, EXISTS (
            SELECT 1 FROM codes WHERE codes.operation_id = operations.id AND codes.person_id = audit.person_id
            AND codes.used_at IS NOT NULL
        ) AS by_code
    FROM audit JOIN operations ON operations.id = audit.subject_id
    WHERE audit.subject = 'operation' AND audit.verb IN ('operations.done', 'operations.seconding') AND audit.id > :last
    ORDER BY audit.id LIMIT :many
"""


def _fill_approvals() -> None:
    """Who confirmed what, as the audit log tells it: a worker says ok to nothing, and a text at once had no ok."""
    connection = op.get_bind()
    moment = sa.DateTime(timezone=True)
    columns = ("operation_id", "person_id", "door", "place", "digest")
    made = sa.table("approvals", *map(sa.column, columns), sa.column("at", moment))
    query = sa.text(CONFIRMED).columns(at=moment, request=sa.JSON())
    given: dict[int, list[int | None]] = {}
    last = 0
    while lines := connection.execute(query, {"last": last, "many": BATCH}).all():
        last = lines[-1].line
        rows: list[dict[str, Any]] = []
        for line in lines:
            before = given.setdefault(line.id, [])
            is_an_ok = line.door != "worker" and (line.door != "sms" or line.by_code)
            if is_an_ok and line.person_id not in before and len(before) < 2:
                before.append(line.person_id)
                what = f"{line.id}|{line.kind}|{line.words}|{line.request}"
                digest = hashlib.sha256(what.encode()).hexdigest()
                values = (line.id, line.person_id, line.door, len(before), digest)
                rows.append(dict(zip(columns, values, strict=True)) | {"at": line.at})
        if rows:
            connection.execute(made.insert(), rows)


def _make_replies() -> None:
    op.add_column(
        "programme",
        sa.Column(
            "replies_through",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            server_default="0",
            nullable=False,
            comment="the last number that was counted out to a reply",
        ),
    )
    op.create_table(
        "replies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            comment="what `re` takes; given again a month after the reply was closed",
        ),
        sa.Column("holds_number", sa.Boolean(), nullable=False, comment="false: another reply has its number by now"),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("told", sa.JSON(), nullable=False, comment="the people who were texted about it"),
        sa.Column("message_id", sa.Integer(), nullable=True, comment="the text it came by"),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True, comment="when an answer to it was let go"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_replies_case_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replies")),
        comment="What a case wrote that staff may answer by its number.",
    )
    for name, column, unique, where in (
        ("one_reply_per_number", "number", True, "holds_number"),
        ("replies_at_rest", "closed_at", False, "holds_number"),
        ("replies_by_message", "message_id", False, "message_id IS NOT NULL"),
    ):
        condition = sa.text(where)
        op.create_index(name, "replies", [column], unique=unique, sqlite_where=condition, postgresql_where=condition)
    _fill_replies()


def _fill_replies() -> None:
    """Those that are there keep the number of their operation, and count as open: nothing tells which was answered."""
    connection = op.get_bind()
    moment = sa.DateTime(timezone=True)
    old = sa.table(
        "operations", sa.column("id"), sa.column("kind"), sa.column("request", sa.JSON), sa.column("message_id"),
        sa.column("asked_at", moment),
    )  # fmt: skip
    known = sa.table("cases", sa.column("id"))
    made = sa.table(
        "replies", *map(sa.column, ("number", "case_id", "message_id")), sa.column("holds_number", sa.Boolean),
        sa.column("told", sa.JSON), sa.column("opened_at", moment),
    )  # fmt: skip
    last = 0
    query = sa.select(old).where(old.c.kind == "inbox", old.c.id > sa.bindparam("last")).order_by(old.c.id).limit(BATCH)
    while found := connection.execute(query, {"last": last}).all():
        last = found[-1].id
        cases = {row.request.get("case") for row in found} - {None}
        there = set(connection.execute(sa.select(known.c.id).where(known.c.id.in_(cases))).scalars())
        rows = [
            {
                "number": row.id,
                "case_id": row.request["case"],
                "message_id": row.message_id,
                "holds_number": True,
                "told": row.request.get("told", []),
                "opened_at": row.asked_at,
            }
            for row in found
            if row.request.get("case") in there
        ]
        if rows:
            connection.execute(made.insert(), rows)


COLUMNS = (
    "id", "state", "kind", "language", "recipients", "sendable", "launched_at", "hold_until", "expires_at",
    "expanded_through", "expanded_at", "finished_at", "send_at", "doubt_told_at", "paused_at",
)  # fmt: skip


def _make_broadcasts_again(states: tuple[str, ...], *more: sa.Column[str], **checks: str) -> None:
    """SQLite changes no constraint of a table: a new one takes its place, and the rows that refer to it find theirs there."""
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE broadcasts_before AS SELECT * FROM broadcasts")
    op.drop_table("broadcasts")
    op.create_table(
        "broadcasts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("sendable", sa.Integer(), nullable=False),
        sa.Column("launched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expanded_through", sa.Integer(), server_default="0", nullable=False),
        sa.Column("expanded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("send_at", sa.Text(), nullable=True),
        sa.Column("doubt_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        *more,
        sa.CheckConstraint(f"state IN {states}", name="broadcast_state"),
        *(sa.CheckConstraint(condition, name=name) for name, condition in checks.items()),
        sa.ForeignKeyConstraint(["id"], ["operations.id"], name=op.f("fk_broadcasts_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcasts")),
    )
    op.create_index("broadcasts_by_state", "broadcasts", ["state"])
    before, since = (sa.table(name, *map(sa.column, COLUMNS)) for name in ("broadcasts_before", "broadcasts"))
    op.execute(since.insert().from_select(COLUMNS, sa.select(*before.c)))
    op.drop_table("broadcasts_before")
