"""A broadcast can be paused: no claim takes its texts until it is resumed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DUE = ["gateway", "priority", "due_at", "id"]


def upgrade() -> None:
    op.add_column(
        "broadcasts",
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True, comment="since when nothing of it may leave"),
    )
    op.add_column(
        "messages",
        sa.Column(
            "paused",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="queued, and no claim takes it: its broadcast is paused",
        ),
    )
    _index_what_is_due("state = 'queued' AND paused = 0", "state = 'queued' AND NOT paused")


def downgrade() -> None:
    # What was paused would leave at once by a release that knows no pause, so it is halted.
    op.execute(
        "UPDATE messages SET state = 'cancelled', reason = 'halted' WHERE state IN ('queued', 'claimed') AND broadcast_id IN"
        " (SELECT id FROM broadcasts WHERE paused_at IS NOT NULL)"
    )
    op.execute(
        "UPDATE broadcasts SET state = 'halted', finished_at = paused_at"
        " WHERE paused_at IS NOT NULL AND state IN ('expanding', 'sending')"
    )
    _index_what_is_due("state = 'queued'", "state = 'queued'")
    op.drop_column("messages", "paused")
    op.drop_column("broadcasts", "paused_at")


def _index_what_is_due(on_sqlite: str, on_postgresql: str) -> None:
    op.drop_index("messages_due", "messages")
    where = {"sqlite_where": sa.text(on_sqlite), "postgresql_where": sa.text(on_postgresql)}
    op.create_index("messages_due", "messages", DUE, **where)
