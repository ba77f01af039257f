"""One phone has one key, by which it is compared; until the rules are applied, its own number (`storage/upkeep/renumbering.py`)."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COMPARED = "by which the number is compared"
KEYS = (
    ("cases", "contact_phone_number", COMPARED),
    ("people", "phone", COMPARED),
    ("consent_events", "phone", "of the phone that it is about"),
    ("messages", "phone", "by which the number is compared; blank also where it may be two people's"),
    ("questions", "phone", COMPARED),
)
INDEXES = (
    ("one_owner_per_number", "cases", ["contact_phone_number"], ["phone_key"], "two_way"),
    ("one_active_person_per_phone", "people", ["phone"], ["phone_key"], "active"),
    ("consent_by_phone", "consent_events", ["phone", "id"], ["phone_key", "id"], None),
    (
        "one_live_message_per_broadcast_and_phone", "messages",
        ["broadcast_id", "phone"], ["broadcast_id", "phone_key"], "broadcast_id IS NOT NULL AND state <> 'withheld'",
    ),
    ("messages_by_phone_and_state", "messages", ["phone", "state"], ["phone_key", "state"], None),
    ("messages_by_phone", "messages", ["phone", "id"], ["phone_key", "id"], None),
    ("one_open_question_per_phone", "questions", ["phone"], ["phone_key"], "closed_at IS NULL"),
)  # fmt: skip
"""Name, table, columns before, columns after, and the condition of a partial one; unique where the name says one."""


def upgrade() -> None:
    op.create_table(
        "phone_plans",
        sa.Column("code", sa.Text(), nullable=False, comment="a calling code that has rules of its own"),
        sa.Column(
            "version", sa.Integer(), nullable=False, comment="of the rules by which the keys of its phones were made"
        ),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "cases", sa.Integer(), nullable=False, comment="which owned a phone then, and stand in line for it since"
        ),
        sa.Column(
            "people",
            sa.Integer(),
            nullable=False,
            comment="whose account was joined with an older one of the same phone then",
        ),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True, comment="when the leads were told of these"),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_phone_plans")),
        comment="Which rules made the phone keys: others are made again by the next upgrade.",
    )
    for name, table, *_ in INDEXES:
        op.drop_index(name, table)
    op.drop_index("cases_by_number", "cases")
    for table, number, comment in KEYS:
        op.add_column(table, sa.Column("phone_key", sa.Text(), nullable=True, comment=comment))
        op.execute(f"UPDATE {table} SET phone_key = {number}")  # noqa: S608
    for name, table, _, columns, where in INDEXES:
        _index(name, table, columns, where)
    op.create_index("cases_by_phone", "cases", ["phone_key"])
    _comment("from which it came")


def downgrade() -> None:
    _comment(None)
    op.drop_index("cases_by_phone", "cases")
    for name, table, *_ in reversed(INDEXES):
        op.drop_index(name, table)
    for table, *_ in reversed(KEYS):
        op.drop_column(table, "phone_key")
    for name, table, columns, _, where in INDEXES:
        _index(name, table, columns, where)
    op.create_index("cases_by_number", "cases", ["contact_phone_number"])
    op.drop_table("phone_plans")


def _index(name: str, table: str, columns: list[str], where: str | None) -> None:
    partial = {} if where is None else {"sqlite_where": sa.text(where), "postgresql_where": sa.text(where)}
    op.create_index(name, table, columns, unique=name.startswith("one_"), **partial)


def _comment(words: str | None) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"COMMENT ON COLUMN consent_events.phone IS {'NULL' if words is None else repr(words)}")
