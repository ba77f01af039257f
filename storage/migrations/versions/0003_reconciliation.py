"""What a gateway is asked: what became of an unknown text, and which texts came in while nobody listened."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why the gateway could not tell"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("answer IN ('found', 'absent', 'cannot_tell')", name="ask_answer"),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_asks_message_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asks")),
        comment="Each time a gateway was asked what became of a message that had no answer.",
    )
    op.create_index("asks_by_message", "asks", ["message_id", "id"])
    op.add_column(
        "messages",
        sa.Column(
            "ask_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="unknown: when the gateway is asked next; blank: two minutes after the hand-over",
        ),
    )
    op.add_column(
        "messages",
        sa.Column(
            "sent_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="inbound: when it was sent, where it came late",
        ),
    )
    op.create_index(
        "messages_in_doubt",
        "messages",
        ["gateway", "handed_over_at"],
        sqlite_where=sa.text("state = 'unknown'"),
        postgresql_where=sa.text("state = 'unknown'"),
    )
    op.add_column(
        "broadcasts",
        sa.Column(
            "doubt_told_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the leads were told that some may or may not have got it",
        ),
    )
    op.add_column(
        "gateways",
        sa.Column(
            "swept_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="everything that came in before is here: the gateway's own list was read",
        ),
    )


def downgrade() -> None:
    op.drop_column("gateways", "swept_until")
    op.drop_column("broadcasts", "doubt_told_at")
    op.drop_index("messages_in_doubt", "messages")
    op.drop_column("messages", "sent_at")
    op.drop_column("messages", "ask_at")
    op.drop_table("asks")
