"""The whole language: questions to a phone, vain tries, times of sending, search by name, what may mean STOP."""

import sqlalchemy as sa
from alembic import op

from storage.rules.normalize import searched

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_cases = sa.table("cases", sa.column("id", sa.Integer), sa.column("name", sa.Text), sa.column("name_key", sa.Text))
_BATCH = 10_000


def upgrade() -> None:
    op.create_table(
        "questions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="invite, move: is this your phone?",
        ),
        sa.Column("case_id", sa.Integer(), nullable=True),
        sa.Column("operation_id", sa.Integer(), nullable=True, comment="the operation that asks"),
        sa.Column(
            "message_id", sa.Integer(), nullable=True, comment="the text that asks: only what comes after it can answer"
        ),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True, comment="yes, no, or blank where it ran out or was replaced"),
        sa.CheckConstraint("kind IN ('invite', 'move')", name="question_kind"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_questions_case_id")),
        sa.ForeignKeyConstraint(["operation_id"], ["operations.id"], name=op.f("fk_questions_operation_id")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_questions_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questions")),
        comment="What a phone was asked and has not answered yet; one at a time.",
    )
    op.create_index(
        "one_open_question_per_phone",
        "questions",
        ["phone"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "tries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="code: a wrong one; lookup: nobody was found"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_tries_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tries")),
        comment="What a person tried in vain: counted, so that guessing gets slower.",
    )
    op.create_index("tries_by_person", "tries", ["person_id", "kind", "at"])
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="what the message became by it"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True, comment="the gateway's own code"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_attempts_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        comment="The calls that a gateway did not simply accept; one that it took leaves its trace in the message.",
    )
    op.create_index("attempts_by_message", "attempts", ["message_id", "id"])
    op.add_column(
        "programme",
        sa.Column(
            "digested_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the leads were last told what others did",
        ),
    )
    op.add_column(
        "programme",
        sa.Column(
            "digested_through",
            sa.Integer(),
            nullable=True,
            comment="the last line of the audit log that they were told of",
        ),
    )
    op.add_column(
        "cases",
        sa.Column(
            "name_key",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="name as it is searched: small, no accents",
        ),
    )
    op.add_column(
        "codes",
        sa.Column(
            "length",
            sa.Integer(),
            server_default="6",
            nullable=False,
            comment="ten digits for a phone that typed many wrong",
        ),
    )
    op.add_column(
        "broadcasts",
        sa.Column(
            "send_at",
            sa.Text(),
            nullable=True,
            comment="a wall-clock time that each recipient's own zone reads; blank: now",
        ),
    )
    with op.batch_alter_table("consent_events") as table:
        table.drop_constraint("consent_kind", type_="check")
        table.create_check_constraint("consent_kind", "kind IN ('stop', 'start', 'doubt')")
    _tell_of(
        consent_events="STOP, START and what may mean STOP, per number, in order of receipt; the last one holds.",
        codes="Digits that confirm an operation, sent only to the registered number.",
        broadcast_audience="Whom a broadcast is for: of a group, who was in it at the preview, or at its hour if it has one.",
    )
    _fill_name_keys()


def _tell_of(**comments: str) -> None:
    # SQLite keeps no comments.
    if op.get_bind().dialect.supports_comments:
        for table, comment in comments.items():
            op.create_table_comment(table, comment)


def _fill_name_keys() -> None:
    """The names that are there already are searched like those that come."""
    connection = op.get_bind()
    fill = sa.update(_cases).where(_cases.c.id == sa.bindparam("row")).values(name_key=sa.bindparam("key"))
    last = 0
    while True:
        found = connection.execute(
            sa.select(_cases.c.id, _cases.c.name).where(_cases.c.id > last).order_by(_cases.c.id).limit(_BATCH)
        ).all()
        if not found:
            return
        connection.execute(fill, [{"row": row.id, "key": searched(row.name)} for row in found])
        last = found[-1].id


def downgrade() -> None:
    # What may mean STOP is a STOP to a release that knows no doubt: whoever asked for silence keeps it.
    op.execute("UPDATE consent_events SET kind = 'stop' WHERE kind = 'doubt'")
    with op.batch_alter_table("consent_events") as table:
        table.drop_constraint("consent_kind", type_="check")
        table.create_check_constraint("consent_kind", "kind IN ('stop', 'start')")
    # Without its hour a text would go at once, in the night perhaps: it is stopped, and a person asks again.
    op.execute("UPDATE broadcasts SET state = 'halted' WHERE send_at IS NOT NULL AND state = 'expanding'")
    op.execute("UPDATE broadcasts SET state = 'dropped' WHERE send_at IS NOT NULL AND state = 'previewed'")
    _tell_of(
        consent_events="STOP and START per number, in order of receipt; the last one holds.",
        codes="Six digits that confirm an operation, sent only to the registered number.",
        broadcast_audience="Whom a broadcast was previewed for; a later member is never added.",
    )
    op.drop_column("broadcasts", "send_at")
    op.drop_column("codes", "length")
    op.drop_column("cases", "name_key")
    op.drop_column("programme", "digested_through")
    op.drop_column("programme", "digested_at")
    op.drop_table("attempts")
    op.drop_table("tries")
    op.drop_table("questions")
