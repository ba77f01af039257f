"""Messages and consent have a channel and, where that goes by no phone number, an address; what there is goes by SMS."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BROADCAST, LIVE = "broadcast_id IS NOT NULL", "broadcast_id IS NOT NULL AND state <> 'withheld'"
BEFORE = (
    ("one_message_per_broadcast_and_case", "messages", ["broadcast_id", "case_id"], BROADCAST),
    ("one_live_message_per_broadcast_and_phone", "messages", ["broadcast_id", "phone_key"], LIVE),
)
AFTER = (
    ("one_message_per_broadcast_case_and_channel", "messages", ["broadcast_id", "case_id", "channel"], BROADCAST),
    ("one_live_message_per_broadcast_phone_and_channel", "messages", ["broadcast_id", "phone_key", "channel"], LIVE),
    (
        "one_live_message_per_broadcast_address_and_channel", "messages", ["broadcast_id", "address", "channel"],
        "address IS NOT NULL AND broadcast_id IS NOT NULL AND state <> 'withheld'",
    ),
    ("messages_by_address", "messages", ["address", "id"], "address IS NOT NULL"),
    ("consent_by_address", "consent_events", ["address", "id"], "address IS NOT NULL"),
)  # fmt: skip
"""Name, table, columns and condition; unique where the name says one."""

NUMBER, NUMBER_BEFORE = (
    "the person's number; blank where a recipient had none, and on a channel that goes by none",
    "the person's number; blank where a recipient had none",
)
FROM, FROM_BEFORE = "from which it came; blank on a channel that goes by no number", "from which it came"
CONSENT, CONSENT_BEFORE = (
    "STOP, START and what may mean STOP, per channel and address, in order of receipt; the last one holds.",
    "STOP, START and what may mean STOP, per number, in order of receipt; the last one holds.",
)
WORDS, WORDS_BEFORE = "The words, per channel and language.", "The words, per language."


def upgrade() -> None:
    for name, table, *_ in BEFORE:
        op.drop_index(name, table)
    op.add_column("messages", _channel("by which it goes (rules/channels.py)"))
    op.add_column("messages", _address("the person's, on a channel that goes by no number; for others it is the phone"))
    # Recreated on SQLite, which cannot make a column nullable: few rows beside those of messages.
    with op.batch_alter_table("consent_events") as table:
        table.alter_column("phone", existing_type=sa.Text(), nullable=True)
        table.add_column(_channel("for which it holds (rules/channels.py)"))
        table.add_column(_address("on a channel that goes by no number: which it is about"))
        table.create_check_constraint("consent_of_an_address", "phone is not null or address is not null")
    with op.batch_alter_table("broadcast_texts") as table:
        table.add_column(_channel(None))
        table.add_column(sa.Column("subject", sa.Text(), nullable=True, comment="on a channel whose messages have one"))
        table.drop_constraint("pk_broadcast_texts", type_="primary")
        table.create_primary_key("pk_broadcast_texts", ["broadcast_id", "channel", "language"])
    # What a downgrade wrote into the phone.
    own = "phone_key IS NULL AND phone LIKE '%:%'"
    for table_name, where in (("messages", f"{own} AND direction = 'out'"), ("consent_events", own)):
        place = f"{'instr' if _on_sqlite() else 'strpos'}(phone, ':')"
        op.execute(
            f"UPDATE {table_name} SET phone = NULL, channel = substr(phone, 1, {place} - 1),"  # noqa: S608
            f" address = substr(phone, {place} + 1) WHERE {where}"
        )
    _make(AFTER)
    _comment(NUMBER, FROM, CONSENT, WORDS)


def downgrade() -> None:
    # An older release knows SMS alone.  What waits on another channel is halted; its address stands in the phone, with its
    # channel before it, where no phone is ever looked for and an upgrade finds it again.
    op.execute(
        "UPDATE messages SET state = 'cancelled', reason = 'halted' WHERE channel <> 'sms' AND state IN ('queued', 'claimed')"
    )
    for table_name in ("messages", "consent_events"):
        op.execute(
            f"UPDATE {table_name} SET phone = channel || ':' || address, phone_key = NULL"  # noqa: S608
            " WHERE channel <> 'sms' AND phone IS NULL AND address IS NOT NULL"
        )
    # It knows one message to a case in a broadcast, and one text in a language: the SMS stays, else the first.
    op.execute(
        "UPDATE messages SET broadcast_id = NULL WHERE channel <> 'sms' AND broadcast_id IS NOT NULL AND EXISTS ("
        "SELECT 1 FROM messages AS other WHERE other.broadcast_id = messages.broadcast_id AND other.id <> messages.id"
        " AND (other.case_id = messages.case_id OR other.phone_key = messages.phone_key)"
        " AND (other.channel = 'sms' OR other.id < messages.id))"
    )
    op.execute(
        "DELETE FROM broadcast_texts WHERE channel <> 'sms' AND EXISTS ("
        "SELECT 1 FROM broadcast_texts AS other WHERE other.broadcast_id = broadcast_texts.broadcast_id"
        " AND other.language = broadcast_texts.language"
        " AND (other.channel = 'sms' OR other.channel < broadcast_texts.channel))"
    )
    for name, table_name, *_ in reversed(AFTER):
        op.drop_index(name, table_name)
    with op.batch_alter_table("broadcast_texts") as table:
        table.drop_constraint("pk_broadcast_texts", type_="primary")
        table.create_primary_key("pk_broadcast_texts", ["broadcast_id", "language"])
        table.drop_column("subject")
        table.drop_column("channel")
    with op.batch_alter_table("consent_events") as table:
        table.drop_constraint("consent_of_an_address", type_="check")
        table.alter_column("phone", existing_type=sa.Text(), nullable=False)
        table.drop_column("address")
        table.drop_column("channel")
    for column in ("address", "channel"):
        op.drop_column("messages", column)
    _make(BEFORE)
    _comment(NUMBER_BEFORE, FROM_BEFORE, CONSENT_BEFORE, WORDS_BEFORE)


def _channel(comment: str | None) -> sa.Column[str]:
    # A constant default: neither database writes the rows anew for it.
    return sa.Column("channel", sa.Text(), nullable=False, server_default="sms", comment=comment)


def _address(comment: str) -> sa.Column[str]:
    return sa.Column("address", sa.Text(), nullable=True, comment=comment)


def _make(indexes: tuple[tuple[str, str, list[str], str], ...]) -> None:
    for name, table, columns, where in indexes:
        condition = {"sqlite_where": sa.text(where), "postgresql_where": sa.text(where)}
        op.create_index(name, table, columns, unique=name.startswith("one_"), **condition)


def _comment(number: str, came_from: str, consent: str, words: str) -> None:
    if _on_sqlite():  # which keeps none
        return
    for column, comment in (("messages.phone", number), ("consent_events.phone", came_from)):
        escaped = comment.replace("'", "''")
        op.execute(f"COMMENT ON COLUMN {column} IS '{escaped}'")
    op.create_table_comment("consent_events", consent)
    op.create_table_comment("broadcast_texts", words)


def _on_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
