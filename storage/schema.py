"""Every table, key, named constraint and index: the page to read first.

What a database can enforce, it enforces here, by a name: one two-way owner per number, one message per broadcast, case
and channel, one live message per broadcast, channel and phone or other address, one inbound text per gateway message id,
only legal states.
Times are UTC.  Phone numbers are digits, country code first, without `+`; a `phone_key` beside one is the key by which that
phone is compared (`rules/phone_keys.py`).  `address` is of a channel that goes by no phone number (`rules/channels.py`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    false,
    literal_column,
    text,
    true,
)

REVISION = "0014"
"""The migration that makes this schema; a database that says otherwise is refused."""

IN_STATES = ("received", "handled", "set_aside")
OUT_STATES = (
    "queued", "claimed", "sending", "accepted", "sent", "delivered", "undelivered", "refused",
    "unknown", "unresolved", "withheld", "expired", "cancelled",
)  # fmt: skip
OPERATION_STATES = ("waiting", "seconding", "done", "dropped", "expired", "refused", "undone")
BROADCAST_STATES = (
    "previewed", "held", "scheduled", "expanding", "sending", "paused", "done", "halted", "dropped", "expired",
)  # fmt: skip
PAUSED_FROM = ("held", "scheduled", "expanding", "sending")
CONSENT_KINDS = ("stop", "start", "doubt")
ANSWERS = ("found", "absent", "cannot_tell")
CONVERSATION_KINDS = ("invite", "move", "doubt", "which", "survey")
CONVERSATION_STATES = ("waiting", "open", "suspended", "closed")
ROLES = ("lead", "supervisor", "helper", "viewer")


class Moment(TypeDecorator[datetime]):
    """An instant: aware UTC in Python, a sortable UTC text on SQLite, `timestamptz` on PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Refuse a naive time: it would be a local time that lost its zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Word(Text):
    """One of a few words that the code names; a comparison has it in the statement itself, not as a value beside it.

    A database takes a partial index only where it knows the word, and SQLite plans a statement anew at each run where it
    is a value.
    """

    class Comparator(Text.Comparator[str]):
        """What `==` and `in_` make of a word."""

        def operate(self, op: Any, *others: Any, **named: Any) -> Any:
            """The comparison, with each plain word of `others` written out."""
            return super().operate(op, *map(_written_out, others), **named)

    comparator_factory = Comparator


def _written_out(other: Any) -> Any:
    if isinstance(other, str) and _PLAIN.fullmatch(other):
        return literal_column(f"'{other}'", Text)
    return [_written_out(one) for one in other] if isinstance(other, list | tuple | set | frozenset) else other


_PLAIN = re.compile("[a-z_]+")


def _one_of(column: str, words: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(word) for word in words)})"


Number = BigInteger().with_variant(Integer(), "sqlite")
"""The number of an operation: those of ten digits are skipped, and what comes after them is beyond 32 bits."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "%(constraint_name)s",
    }
)

programme = Table(
    "programme",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rehearsal", Boolean, nullable=False, comment="a rehearsal database never meets a real gateway"),
    Column("secret", LargeBinary, nullable=False, comment="derives the six-digit codes; never leaves the database"),
    Column("created_at", Moment, nullable=False),
    Column("digested_at", Moment, comment="when the leads were last told what others did"),
    Column("digested_through", Integer, comment="the last line of the audit log that they were told of"),
    Column("backed_up_at", Moment, comment="in a backup, and in what was restored from it: when it was made"),
    Column(
        "restored_at",
        Moment,
        comment="the fence: what was open in the backup is not sent by itself, what came in before is not acted on",
    ),
    Column("restore_told_at", Moment, comment="when the leads were told of the restore"),
    Column("last_backup_at", Moment, comment="when the last backup was made and verified"),
    Column(
        "replies_through",
        Number,
        nullable=False,
        server_default="0",
        comment="the last number that was counted out to a reply",
    ),
    CheckConstraint("id = 1", name="one_programme"),
    comment="The one row that stamps this database.",
)

cases = Table(
    "cases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("case_id", Text, nullable=False, comment="ours, or imported; never readable as a number"),
    Column("case_id_key", Text, nullable=False, unique=True, comment="case_id as identifiers are compared"),
    Column("external_id", Text, comment="the programme's own id"),
    Column("external_id_key", Text, comment="external_id as identifiers are compared"),
    Column("name", Text, nullable=False, server_default=""),
    Column("name_key", Text, nullable=False, server_default="", comment="name as it is searched: small, no accents"),
    Column("status", Text, nullable=False, server_default="open"),
    Column("contact_phone_number", Text, comment="digits, country code first"),
    Column("phone_key", Text, comment="by which the number is compared"),
    Column("number_warning", Text, comment="why a person should look at the number again"),
    Column("contact_phone_number_is_verified", Boolean, nullable=False, server_default=false()),
    Column("two_way", Boolean, nullable=False, server_default=false(), comment="owns its number: may reply"),
    Column("claimed_at", Moment, comment="since when it stands in line for its number"),
    Column("commcare_email_address", Text),
    Column("time_zone", Text, comment="IANA name"),
    Column("language_code", Text, comment="BCP 47"),
    Column("contact_backend_id", Text, comment="name of the gateway for this case"),
    Column("properties", JSON, nullable=False, server_default="{}", comment="any further column of a sheet"),
    Column("created_at", Moment, nullable=False),
    Column("modified_at", Moment, nullable=False),
    CheckConstraint(_one_of("status", ("open", "closed")), name="case_status"),
    CheckConstraint("not two_way or contact_phone_number is not null", name="two_way_needs_a_number"),
    Index("one_owner_per_number", "phone_key", unique=True,
          sqlite_where=text("two_way"), postgresql_where=text("two_way")),
    Index("cases_by_phone", "phone_key"),
    Index("cases_by_external_id", "external_id_key"),
    comment="A case is a contact: whom the programme texts.",
)  # fmt: skip

groups = Table(
    "groups",
    metadata,
    Column("id", Integer, primary_key=True, comment="also the number of the group in a text"),
    Column("short", Text, nullable=False, comment="the name in a text, 2 to 12 letters or digits"),
    Column("name", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    Index("one_live_group_per_short", "short", unique=True,
          sqlite_where=text("deleted_at IS NULL"), postgresql_where=text("deleted_at IS NULL")),
    Index("one_live_group_per_name", "name", unique=True,
          sqlite_where=text("deleted_at IS NULL"), postgresql_where=text("deleted_at IS NULL")),
    comment="Case groups.",
)  # fmt: skip

people = Table(
    "people",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("phone", Text, nullable=False),
    Column("phone_key", Text, comment="by which the number is compared"),
    Column("role", Text, nullable=False),
    Column("language_code", Text),
    Column("active", Boolean, nullable=False, server_default=true()),
    Column("created_at", Moment, nullable=False),
    CheckConstraint(_one_of("role", ROLES), name="person_role"),
    Index("one_active_person_per_phone", "phone_key", unique=True,
          sqlite_where=text("active"), postgresql_where=text("active")),
    comment="Supervisors and other staff.",
)  # fmt: skip

passwords = Table(
    "passwords",
    metadata,
    Column("person_id", ForeignKey("people.id"), primary_key=True),
    Column("hash", Text, nullable=False, comment="argon2id; the password itself is kept nowhere"),
    Column("set_at", Moment, nullable=False),
    comment="What the people who sign in at the desk prove themselves by.",
)

person_groups = Table(
    "person_groups",
    metadata,
    Column("person_id", ForeignKey("people.id"), primary_key=True),
    Column("group_id", ForeignKey("groups.id"), primary_key=True),
    comment="The groups a person may touch; a lead may touch all.",
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("person_id", Integer, comment="blank: the system's own user"),
    Column("door", Text, nullable=False, comment="sms, cli, desk, gateway, worker"),
    Column("source", Text, comment="the text or sheet it came by"),
    Column("verb", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("subject_id", Number),
    Column("facts", JSON, nullable=False, comment="counts and names, nothing personal"),
    Column("changes_digest", Text, comment="sha256 over the digests in audit_changes; before 0011 over their values"),
    Column("previous", Text, nullable=False, comment="hash of the entry before"),
    Column("hash", Text, nullable=False, unique=True),
    Index("audit_by_source", "source",
          sqlite_where=text("source IS NOT NULL"), postgresql_where=text("source IS NOT NULL")),
    comment="Who did what, through which door: a hash chain.",
)  # fmt: skip

audit_changes = Table(
    "audit_changes",
    metadata,
    Column("entry_id", ForeignKey("audit.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("subject_id", Number, nullable=False),
    Column("before", JSON(none_as_null=True), comment="blank: forgotten"),
    Column("after", JSON(none_as_null=True), comment="blank: forgotten"),
    Column("salt", Text, comment="16 random bytes in hex; blank: forgotten"),
    Column("digest", Text, nullable=False, comment="sha256 over the salt and the change; it stays"),
    Index("audit_changes_by_subject", "subject", "subject_id"),
    comment="Before and after, row by row; personal data lives here and not in the chain.",
)

memberships = Table(
    "memberships",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("group_id", ForeignKey("groups.id"), nullable=False),
    Column("case_id", ForeignKey("cases.id"), nullable=False),
    Column("added_at", Moment, nullable=False),
    Column("added_entry", ForeignKey("audit.id"), nullable=False, comment="who added, from which text or sheet"),
    Column("removed_at", Moment),
    Column("removed_entry", ForeignKey("audit.id")),
    Index("one_live_membership", "group_id", "case_id", unique=True,
          sqlite_where=text("removed_at IS NULL"), postgresql_where=text("removed_at IS NULL")),
    Index("memberships_by_case", "case_id"),
    Index("memberships_by_group_and_case", "group_id", "case_id"),
    comment="Who was in a group, from when to when.",
)  # fmt: skip

consent_events = Table(
    "consent_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("phone", Text, comment="from which it came; blank on a channel that goes by no number"),
    Column("phone_key", Text, comment="of the phone that it is about"),
    Column("kind", Text, nullable=False),
    Column("words", Text, comment="what was written"),
    Column("message_id", Integer),
    Column("person_id", Integer),
    Column("door", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("channel", Word, nullable=False, server_default="sms", comment="for which it holds (rules/channels.py)"),
    Column("address", Text, comment="on a channel that goes by no number: which it is about"),
    CheckConstraint(_one_of("kind", CONSENT_KINDS), name="consent_kind"),
    CheckConstraint("phone is not null or address is not null", name="consent_of_an_address"),
    Index("consent_by_phone", "phone_key", "id"),
    Index("consent_by_address", "address", "id",
          sqlite_where=text("address IS NOT NULL"), postgresql_where=text("address IS NOT NULL")),
    comment="STOP, START and what may mean STOP, per channel and address, in order of receipt; the last one holds.",
)  # fmt: skip

operations = Table(
    "operations",
    metadata,
    Column("id", Number, primary_key=True, comment="the number a person texts: halt 42"),
    Column("kind", Text, nullable=False),
    Column("person_id", ForeignKey("people.id")),
    Column("door", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("group_id", ForeignKey("groups.id")),
    Column(
        "words", Text, nullable=False, server_default="", comment="the command as compared, for the same words twice"
    ),
    Column("answer", Text, comment="what was answered, code masked"),
    Column("request", JSON, nullable=False, server_default="{}", comment="what `ok` will do"),
    Column("undoes", JSON, comment="what `undo` takes back"),
    Column("wrong_tries", Integer, nullable=False, server_default="0"),
    Column("message_id", Integer, comment="the text it came by"),
    Column("asked_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("decided_at", Moment),
    Column("at_once", Integer, comment="how many it changed without a code; blank: by a code"),
    CheckConstraint(_one_of("state", OPERATION_STATES), name="operation_state"),
    Index("operations_by_person", "person_id", "id"),
    Index("operations_open", "state", "expires_at",
          sqlite_where=text("state IN ('waiting', 'seconding')"),
          postgresql_where=text("state IN ('waiting', 'seconding')")),
    Index("operations_by_group", "group_id", "kind",
          sqlite_where=text("group_id IS NOT NULL"), postgresql_where=text("group_id IS NOT NULL")),
    Index("operations_by_message", "message_id",
          sqlite_where=text("message_id IS NOT NULL"), postgresql_where=text("message_id IS NOT NULL")),
    Index("operations_at_once", "person_id", "asked_at",
          sqlite_where=text("at_once IS NOT NULL"), postgresql_where=text("at_once IS NOT NULL")),
    Index("operations_at_once_by_group", "group_id", "asked_at",
          sqlite_where=text("at_once IS NOT NULL"), postgresql_where=text("at_once IS NOT NULL")),
    comment="Numbered things a person asked for.",
)  # fmt: skip

codes = Table(
    "codes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("operation_id", ForeignKey("operations.id"), nullable=False),
    Column("person_id", ForeignKey("people.id"), nullable=False),
    Column("nonce", LargeBinary, nullable=False, comment="the digits are derived from it, and stored nowhere"),
    Column(
        "length", Integer, nullable=False, server_default="6", comment="ten digits for a phone that typed many wrong"
    ),
    Column("digest", Text, nullable=False, comment="what the code confirms: words and recipients"),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
    Index("one_code_per_person_and_operation", "operation_id", "person_id", unique=True),
    Index("codes_by_person", "person_id", "used_at"),
    comment="Digits that confirm an operation, sent only to the registered number.",
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("operation_id", ForeignKey("operations.id"), nullable=False),
    Column("person_id", ForeignKey("people.id"), comment="blank: the system's own user"),
    Column("door", Text, nullable=False),
    Column("place", Integer, nullable=False, comment="1: the first ok; 2: the second, where one is not enough"),
    Column("digest", Text, nullable=False, comment="what was approved: words and request, as of a code"),
    Column("at", Moment, nullable=False),
    CheckConstraint("place IN (1, 2)", name="first_or_second_approval"),
    Index("one_approval_per_place", "operation_id", "place", unique=True),
    Index("one_approval_per_person", "operation_id", "person_id", unique=True),
    Index("one_approval_of_the_system", "operation_id", unique=True,
          sqlite_where=text("person_id IS NULL"), postgresql_where=text("person_id IS NULL")),
    comment="Who said ok to an operation, through which door.",
)  # fmt: skip

replies = Table(
    "replies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", Number, nullable=False, comment="what `re` takes; given again a month after the reply was closed"),
    Column("holds_number", Boolean, nullable=False, comment="false: another reply has its number by now"),
    Column("case_id", ForeignKey("cases.id"), nullable=False),
    Column("told", JSON, nullable=False, comment="the people who were texted about it"),
    Column("message_id", Integer, comment="the text it came by"),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment, comment="when an answer to it was let go"),
    Index("one_reply_per_number", "number", unique=True,
          sqlite_where=text("holds_number"), postgresql_where=text("holds_number")),
    Index("replies_at_rest", "closed_at",
          sqlite_where=text("holds_number"), postgresql_where=text("holds_number")),
    Index("replies_by_message", "message_id",
          sqlite_where=text("message_id IS NOT NULL"), postgresql_where=text("message_id IS NOT NULL")),
    comment="What a case wrote that staff may answer by its number.",
)  # fmt: skip

broadcasts = Table(
    "broadcasts",
    metadata,
    Column("id", ForeignKey("operations.id"), primary_key=True, comment="the operation's number"),
    Column("state", Word, nullable=False),
    Column("kind", Text, nullable=False, comment="broadcast, or text: one case"),
    Column("language", Text, nullable=False, comment="whose text is used where no other language fits"),
    Column("recipients", Integer, nullable=False, comment="everybody it was previewed for, skipped ones too"),
    Column("sendable", Integer, nullable=False, comment="those of them who could be texted then"),
    Column("send_at", Text, comment="a wall-clock time that each recipient's own zone reads; blank: now"),
    Column("launched_at", Moment),
    Column("hold_until", Moment),
    Column("expires_at", Moment),
    Column("expanded_through", Integer, nullable=False, server_default="0", comment="resume after this case"),
    Column("expanded_at", Moment, comment="since when everybody has a row in messages"),
    Column("finished_at", Moment),
    Column("doubt_told_at", Moment, comment="when the leads were told that some may or may not have got it"),
    Column("paused_at", Moment, comment="since when nothing of it may leave"),
    Column("paused_from", Word, comment="paused: the state that it goes back to"),
    CheckConstraint(_one_of("state", BROADCAST_STATES), name="broadcast_state"),
    CheckConstraint(_one_of("paused_from", PAUSED_FROM), name="broadcast_paused_from"),
    CheckConstraint("(state = 'paused') = (paused_from IS NOT NULL)", name="paused_knows_from_where"),
    Index("broadcasts_by_state", "state"),
    comment="A text to groups and single cases.",
)

broadcast_audience = Table(
    "broadcast_audience",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("broadcast_id", ForeignKey("broadcasts.id"), nullable=False),
    Column("group_id", ForeignKey("groups.id")),
    Column("case_id", ForeignKey("cases.id")),
    Column("frozen_through", Integer, comment="the newest membership counted by the preview"),
    Column("frozen_at", Moment, nullable=False, comment="who was taken out since is skipped, and shown"),
    CheckConstraint("(group_id is null) <> (case_id is null)", name="group_or_case"),
    Index("audience_by_broadcast", "broadcast_id"),
    comment="Whom a broadcast is for: of a group, who was in it at the preview, or at its hour if it has one.",
)

broadcast_texts = Table(
    "broadcast_texts",
    metadata,
    Column("broadcast_id", ForeignKey("broadcasts.id"), primary_key=True),
    Column("channel", Word, primary_key=True, server_default="sms"),
    Column("language", Text, primary_key=True),
    Column("text", Text, nullable=False),
    Column("subject", Text, comment="on a channel whose messages have one"),
    comment="The words, per channel and language.",
)

messages = Table(
    "messages",
    metadata,
    Column("id", Integer, primary_key=True, comment="also in the address of its receipts"),
    Column("direction", Word, nullable=False),
    Column("phone", Text, comment="the person's number; blank where a recipient had none, and on a channel that goes by none"),
    Column("phone_key", Text, comment="by which the number is compared; blank also where it may be two people's"),
    Column("body", Text, nullable=False, comment="a code stands here as ******"),
    Column("kind", Text, nullable=False, comment="consent, reply, notice, text, broadcast; inbound: text"),
    Column("state", Word, nullable=False),
    Column("reason", Text, comment="why it is in this state, as a key"),
    Column("code", Text, comment="the gateway's own code for the reason"),
    Column("gateway", Text),
    Column("gateway_id", Text),
    Column("own_number", Text, comment="ours: to which it came; by which it leaves, blank where the gateway chooses"),
    Column("case_id", ForeignKey("cases.id")),
    Column("person_id", ForeignKey("people.id")),
    Column("broadcast_id", ForeignKey("broadcasts.id")),
    Column("reply_to", Integer, comment="the inbound text that this answers"),
    Column("conversation_id", Integer, comment="the conversation that this is a turn of"),
    Column("code_id", ForeignKey("codes.id"), comment="whose digits are put in at hand-over"),
    Column("language", Text),
    Column("told", Text, comment="inbound: stop, start or help, where the gateway said so"),
    Column("answered", Boolean, nullable=False, server_default=false(), comment="inbound: the gateway answered it itself"),
    Column("handled_as", Text, comment="inbound: what it was taken for"),
    Column("priority", Integer, nullable=False, server_default="0", comment="lower leaves first"),
    Column("due_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempt_id", Text),
    Column("lease_owner", Text),
    Column("lease_until", Moment),
    Column("segments", Integer),
    Column("created_at", Moment, nullable=False),
    Column("handed_over_at", Moment, comment="when claimed became sending, by our clock"),
    Column("settled_at", Moment, comment="when the state last moved"),
    Column("ask_at", Moment, comment="unknown: when the gateway is asked next; blank: two minutes after the hand-over"),
    Column("sent_at", Moment, comment="inbound: when it was sent, where it came late"),
    Column("paused", Boolean, nullable=False, server_default=false(), comment="queued, and no claim takes it: its broadcast is paused"),
    Column("channel", Word, nullable=False, server_default="sms", comment="by which it goes (rules/channels.py)"),
    Column("address", Text, comment="the person's, on a channel that goes by no number; for others it is the phone"),
    CheckConstraint(_one_of("direction", ("in", "out")), name="message_direction"),
    CheckConstraint(
        f"(direction = 'in' and {_one_of('state', IN_STATES)})"
        f" or (direction = 'out' and {_one_of('state', OUT_STATES)})",
        name="message_state",
    ),
    Index("one_inbound_per_gateway_id", "gateway", "gateway_id", unique=True,
          sqlite_where=text("direction = 'in'"), postgresql_where=text("direction = 'in'")),
    Index("one_message_per_broadcast_case_and_channel", "broadcast_id", "case_id", "channel", unique=True,
          sqlite_where=text("broadcast_id IS NOT NULL"), postgresql_where=text("broadcast_id IS NOT NULL")),
    Index("one_live_message_per_broadcast_phone_and_channel", "broadcast_id", "phone_key", "channel", unique=True,
          sqlite_where=text("broadcast_id IS NOT NULL AND state <> 'withheld'"),
          postgresql_where=text("broadcast_id IS NOT NULL AND state <> 'withheld'")),
    Index("one_live_message_per_broadcast_address_and_channel", "broadcast_id", "address", "channel", unique=True,
          sqlite_where=text("address IS NOT NULL AND broadcast_id IS NOT NULL AND state <> 'withheld'"),
          postgresql_where=text("address IS NOT NULL AND broadcast_id IS NOT NULL AND state <> 'withheld'")),
    Index("messages_due", "gateway", "priority", "due_at", "id",
          # As a query writes it: SQLite takes a partial index only for the very same words.
          sqlite_where=text("state = 'queued' AND paused = 0"), postgresql_where=text("state = 'queued' AND NOT paused")),
    Index("messages_expiring", "expires_at",
          sqlite_where=text("state = 'queued'"), postgresql_where=text("state = 'queued'")),
    Index("messages_by_phone_and_state", "phone_key", "state"),
    Index("messages_leased", "lease_until",
          sqlite_where=text("state IN ('claimed', 'sending')"),
          postgresql_where=text("state IN ('claimed', 'sending')")),
    Index("messages_unhandled", "due_at",
          sqlite_where=text("state = 'received'"), postgresql_where=text("state = 'received'")),
    Index("messages_in_doubt", "gateway", "handed_over_at",
          sqlite_where=text("state = 'unknown'"), postgresql_where=text("state = 'unknown'")),
    Index("messages_unclear", "state", "created_at",
          sqlite_where=text("state IN ('unknown', 'unresolved', 'set_aside')"),
          postgresql_where=text("state IN ('unknown', 'unresolved', 'set_aside')")),
    Index("messages_answering", "reply_to",
          sqlite_where=text("reply_to IS NOT NULL"), postgresql_where=text("reply_to IS NOT NULL")),
    Index("messages_by_phone", "phone_key", "id"),
    Index("messages_by_address", "address", "id",
          sqlite_where=text("address IS NOT NULL"), postgresql_where=text("address IS NOT NULL")),
    Index("messages_by_gateway_id", "gateway_id"),
    Index("messages_by_broadcast", "broadcast_id", "state"),
    Index("messages_by_case", "case_id", "id"),
    comment="Inbox and outbox: the row is the queue.",
)  # fmt: skip

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("state", Word, nullable=False, comment="what the message became by it"),
    Column("reason", Text),
    Column("code", Text, comment="the gateway's own code"),
    Column("at", Moment, nullable=False),
    Index("attempts_by_message", "message_id", "id"),
    comment="The calls that a gateway did not simply accept; one that it took leaves its trace in the message.",
)

asks = Table(
    "asks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("attempt_id", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("reason", Text, comment="why the gateway could not tell"),
    Column("at", Moment, nullable=False),
    CheckConstraint(_one_of("answer", ANSWERS), name="ask_answer"),
    Index("asks_by_message", "message_id", "id"),
    comment="Each time a gateway was asked what became of a message that had no answer.",
)
receipts = Table(
    "receipts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("message_id", Integer, nullable=False, comment="as in the address; it may name no message of ours"),
    Column("gateway_id", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("word", Text, nullable=False, comment="the gateway's own word"),
    Column("code", Text),
    Column("moved", Boolean, nullable=False, comment="false: late, repeated, or of no message of ours"),
    Column("at", Moment, nullable=False),
    Index("one_receipt_per_word", "message_id", "gateway", "gateway_id", "word", "code", unique=True),
    comment="Every receipt, as it came.",
)

gateways = Table(
    "gateways",
    metadata,
    Column("name", Text, primary_key=True),
    Column("tokens", Float, nullable=False),
    Column("refilled_at", Moment, nullable=False),
    Column("paused_until", Moment),
    Column("paused_because", Text),
    Column("swept_until", Moment, comment="everything that came in before is here: the gateway's own list was read"),
    Column(
        "slowed",
        Float,
        comment="the part of its rate that was left when it last asked for less; it doubles each minute",
    ),
    Column("slowed_at", Moment),
    Column("resumed_at", Moment, comment="when somebody let it go on: a receipt of what left before pauses it no more"),
    Column("handed_over_at", Moment, comment="when a text was last handed to it"),
    comment="The rate of each gateway, held over all workers, and why one is paused.",
)

phone_plans = Table(
    "phone_plans",
    metadata,
    Column("code", Text, primary_key=True, comment="a calling code that has rules of its own"),
    Column("version", Integer, nullable=False, comment="of the rules by which the keys of its phones were made"),
    Column("made_at", Moment, nullable=False),
    Column("cases", Integer, nullable=False, comment="which owned a phone then, and stand in line for it since"),
    Column(
        "people", Integer, nullable=False, comment="whose account was joined with an older one of the same phone then"
    ),
    Column("told_at", Moment, comment="when the leads were told of these"),
    comment="Which rules made the phone keys: others are made again by the next upgrade.",
)

senders = Table(
    "senders",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("number", Text, primary_key=True, comment="one of several of ours at that gateway"),
    Column("tokens", Float, nullable=False),
    Column("refilled_at", Moment, nullable=False),
    Column("paused_until", Moment),
    Column("paused_because", Text),
    Column("slowed", Float, comment="as of a gateway"),
    Column("slowed_at", Moment),
    Column("resumed_at", Moment),
    comment="The rate of each of our numbers, where a gateway has several, and why one is paused.",
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("phone", Text, nullable=False),
    Column("phone_key", Text, comment="by which the number is compared"),
    Column("kind", Text, nullable=False, comment="invite, move: is this your phone? doubt: did you mean STOP? which: was that your answer?"),
    Column("state", Word, nullable=False),
    Column("case_id", ForeignKey("cases.id")),
    Column("operation_id", ForeignKey("operations.id"), comment="the operation that asks"),
    Column("about", ForeignKey("conversations.id"), comment="which: the conversation that may have been meant"),
    Column("answer_id", ForeignKey("messages.id"), comment="which: the text that may be its answer"),
    Column("message_id", ForeignKey("messages.id"), comment="the text by which it was put last"),
    Column("turn", Integer, nullable=False, server_default="1", comment="how often it was put"),
    Column("asked_at", Moment, nullable=False),
    Column("opened_at", Moment, comment="when the text that opens it was handed over"),
    Column("waits_until", Moment, comment="blank: for ever"),
    Column("closed_at", Moment),
    Column("outcome", Text, comment="yes, no, stopped, withdrawn, stale, expired, failed, restored"),
    CheckConstraint(_one_of("kind", CONVERSATION_KINDS), name="conversation_kind"),
    CheckConstraint(_one_of("state", CONVERSATION_STATES), name="conversation_state"),
    Index("one_open_conversation_per_phone", "phone_key", unique=True,
          sqlite_where=text("state = 'open'"), postgresql_where=text("state = 'open'")),
    Index("conversations_by_phone", "phone_key", "id",
          sqlite_where=text("state IN ('waiting', 'open', 'suspended')"),
          postgresql_where=text("state IN ('waiting', 'open', 'suspended')")),
    Index("conversations_by_operation", "operation_id", "id",
          sqlite_where=text("operation_id IS NOT NULL"), postgresql_where=text("operation_id IS NOT NULL")),
    comment="What is between the programme and a phone: one at most is open.",
)  # fmt: skip

tries = Table(
    "tries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("person_id", ForeignKey("people.id"), nullable=False),
    Column(
        "kind", Text, nullable=False, comment="code: a wrong one; lookup: nobody was found; and what else is counted"
    ),
    Column("at", Moment, nullable=False),
    Index("tries_by_person", "person_id", "kind", "at"),
    comment="What a person tried in vain: counted, so that guessing gets slower.",
)

workers = Table(
    "workers",
    metadata,
    Column("owner", Text, primary_key=True, comment="a fresh name at each start"),
    Column("started_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    comment="The heartbeat of each worker.",
)
