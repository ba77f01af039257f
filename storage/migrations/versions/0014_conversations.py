"""Conversations in place of questions: what is open on a phone has states, and the texts that put it are its turns."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LIVE = "state IN ('waiting', 'open', 'suspended')"


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("phone_key", sa.Text(), nullable=True, comment="by which the number is compared"),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="invite, move: is this your phone? doubt: did you mean STOP? which: was that your answer?",
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=True),
        sa.Column("operation_id", NUMBER, nullable=True, comment="the operation that asks"),
        sa.Column("about", sa.Integer(), nullable=True, comment="which: the conversation that may have been meant"),
        sa.Column("answer_id", sa.Integer(), nullable=True, comment="which: the text that may be its answer"),
        sa.Column("message_id", sa.Integer(), nullable=True, comment="the text by which it was put last"),
        sa.Column("turn", sa.Integer(), nullable=False, server_default="1", comment="how often it was put"),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "opened_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the text that opens it was handed over",
        ),
        sa.Column("waits_until", sa.DateTime(timezone=True), nullable=True, comment="blank: for ever"),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "outcome", sa.Text(), nullable=True, comment="yes, no, stopped, withdrawn, stale, expired, failed, restored"
        ),
        sa.CheckConstraint("kind IN ('invite', 'move', 'doubt', 'which', 'survey')", name="conversation_kind"),
        sa.CheckConstraint("state IN ('waiting', 'open', 'suspended', 'closed')", name="conversation_state"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_conversations_case_id")),
        sa.ForeignKeyConstraint(["operation_id"], ["operations.id"], name=op.f("fk_conversations_operation_id")),
        sa.ForeignKeyConstraint(["about"], ["conversations.id"], name=op.f("fk_conversations_about")),
        sa.ForeignKeyConstraint(["answer_id"], ["messages.id"], name=op.f("fk_conversations_answer_id")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_conversations_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
        comment="What is between the programme and a phone: one at most is open.",
    )
    op.execute(
        "INSERT INTO conversations (id, phone, phone_key, kind, state, case_id, operation_id, message_id, turn, asked_at,"
        " opened_at, waits_until, closed_at, outcome)"
        " SELECT q.id, q.phone, q.phone_key, q.kind,"
        " CASE WHEN q.closed_at IS NOT NULL THEN 'closed' WHEN m.state IN ('queued', 'claimed') THEN 'waiting' ELSE 'open' END,"
        " q.case_id, q.operation_id, q.message_id, 1, q.asked_at,"
        " m.handed_over_at, q.expires_at, q.closed_at,"
        " CASE WHEN q.closed_at IS NOT NULL THEN coalesce(q.answer, 'withdrawn') END"
        " FROM questions q LEFT JOIN messages m ON m.id = q.message_id"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('conversations', 'id'), coalesce(max(id), 0) + 1, false) FROM conversations"
        )
    for name, columns, where in (
        ("one_open_conversation_per_phone", ["phone_key"], "state = 'open'"),
        ("conversations_by_phone", ["phone_key", "id"], LIVE),
        ("conversations_by_operation", ["operation_id", "id"], "operation_id IS NOT NULL"),
    ):
        condition = sa.text(where)
        op.create_index(
            name, "conversations", columns, unique=name.startswith("one_"),
            sqlite_where=condition, postgresql_where=condition,
        )  # fmt: skip
    op.add_column(
        "messages",
        sa.Column("conversation_id", sa.Integer(), nullable=True, comment="the conversation that this is a turn of"),
    )
    op.execute(
        "UPDATE messages SET conversation_id ="
        " (SELECT max(q.id) FROM questions q WHERE q.message_id = messages.id)"
        " WHERE id IN (SELECT message_id FROM questions WHERE message_id IS NOT NULL)"
    )
    op.drop_table("questions")


def downgrade() -> None:
    """What an older release has no word for is over for it: a doubt stands in consent, and which was meant is asked no more."""
    op.create_table(
        "questions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("phone_key", sa.Text(), nullable=True, comment="by which the number is compared"),
        sa.Column("kind", sa.Text(), nullable=False, comment="invite, move: is this your phone?"),
        sa.Column("case_id", sa.Integer(), nullable=True),
        sa.Column("operation_id", NUMBER, nullable=True, comment="the operation that asks"),
        sa.Column(
            "message_id",
            sa.Integer(),
            nullable=True,
            comment="the text that asks: only what comes after it can answer",
        ),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True, comment="yes, no, or blank where it ran out or was replaced"),
        sa.CheckConstraint("kind IN ('invite', 'move')", name="question_kind"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_questions_case_id")),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_questions_message_id")),
        sa.ForeignKeyConstraint(["operation_id"], ["operations.id"], name=op.f("fk_questions_operation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questions")),
        comment="What a phone was asked and has not answered yet; one at a time.",
    )
    op.execute(
        "INSERT INTO questions (id, phone, phone_key, kind, case_id, operation_id, message_id, asked_at, expires_at,"
        " closed_at, answer)"
        " SELECT id, phone, phone_key, kind, case_id, operation_id, message_id, asked_at, coalesce(waits_until, asked_at),"
        " CASE WHEN state = 'open' OR (state = 'waiting' AND NOT EXISTS (SELECT 1 FROM conversations o"
        " WHERE o.phone_key = conversations.phone_key AND o.id <> conversations.id AND (o.state = 'open'"
        " OR (o.state = 'waiting' AND o.id > conversations.id)))) THEN NULL ELSE coalesce(closed_at, asked_at) END,"
        " CASE WHEN outcome IN ('yes', 'no') THEN outcome END"
        " FROM conversations WHERE kind IN ('invite', 'move')"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "SELECT setval(pg_get_serial_sequence('questions', 'id'), coalesce(max(id), 0) + 1, false) FROM questions"
        )
    where = sa.text("closed_at IS NULL")
    op.create_index(
        "one_open_question_per_phone", "questions", ["phone_key"], unique=True,
        sqlite_where=where, postgresql_where=where,
    )  # fmt: skip
    op.drop_column("messages", "conversation_id")
    op.drop_table("conversations")
