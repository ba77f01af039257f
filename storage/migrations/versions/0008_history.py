"""What is done each second or for each text finds its rows by an index, however long the history is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

RECEIPT = ["gateway_id", "word", "code"]

PARTIAL = [
    ("operations_open", "operations", ["state", "expires_at"], "state IN ('waiting', 'seconding')"),
    ("operations_by_group", "operations", ["group_id", "kind"], "group_id IS NOT NULL"),
    ("operations_by_message", "operations", ["message_id"], "message_id IS NOT NULL"),
    ("audit_by_source", "audit", ["source"], "source IS NOT NULL"),
    ("messages_unclear", "messages", ["state", "created_at"], "state IN ('unknown', 'unresolved', 'set_aside')"),
    ("messages_answering", "messages", ["reply_to"], "reply_to IS NOT NULL"),
]


def upgrade() -> None:
    for name, table, columns, condition in PARTIAL:
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
    _one_receipt_per_word("message_id", "gateway")
    op.add_column(
        "gateways",
        sa.Column(
            "handed_over_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a text was last handed to it",
        ),
    )


def downgrade() -> None:
    op.drop_column("gateways", "handed_over_at")
    _one_receipt_per_word("gateway", "message_id")
    for name, table, _, _ in reversed(PARTIAL):
        op.drop_index(name, table)


def _one_receipt_per_word(*first: str) -> None:
    op.drop_index("one_receipt_per_word", "receipts")
    op.create_index("one_receipt_per_word", "receipts", [*first, *RECEIPT], unique=True)
