"""A rate and a pause for each of our own numbers, gateways that ask for less, and what is known of backups."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ADDED = {
    "programme": (
        ("restore_told_at", sa.DateTime(timezone=True), "when the leads were told of the restore"),
        ("last_backup_at", sa.DateTime(timezone=True), "when the last backup was made and verified"),
    ),
    "messages": (
        ("own_number", sa.Text(), "ours: to which it came; by which it leaves, blank where the gateway chooses"),
    ),
    "gateways": (
        ("slowed", sa.Float(), "the part of its rate that was left when it last asked for less; it doubles each minute"),
        ("slowed_at", sa.DateTime(timezone=True), None),
        ("resumed_at", sa.DateTime(timezone=True), "when somebody let it go on: a receipt of what left before pauses it no more"),
    ),
}  # fmt: skip


def upgrade() -> None:
    for table, columns in ADDED.items():
        for name, kind, comment in columns:
            op.add_column(table, sa.Column(name, kind, nullable=True, comment=comment))
    op.create_table(
        "senders",
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False, comment="one of several of ours at that gateway"),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_because", sa.Text(), nullable=True),
        sa.Column("slowed", sa.Float(), nullable=True, comment="as of a gateway"),
        sa.Column("slowed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("gateway", "number", name="pk_senders"),
        comment="The rate of each of our numbers, where a gateway has several, and why one is paused.",
    )
    op.execute("UPDATE programme SET restore_told_at = restored_at")  # of one long ago nobody is told now


def downgrade() -> None:
    op.drop_table("senders")
    for table, columns in ADDED.items():
        for name, _, _ in reversed(columns):
            op.drop_column(table, name)
