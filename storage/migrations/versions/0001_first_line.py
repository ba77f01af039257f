"""The first line: cases, groups, people, broadcasts, messages."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=True, comment="blank: the system's own user"),
        sa.Column("door", sa.Text(), nullable=False, comment="sms, cli, desk, gateway, worker"),
        sa.Column("source", sa.Text(), nullable=True, comment="the text or sheet it came by"),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False, comment="counts and names, nothing personal"),
        sa.Column("changes_digest", sa.Text(), nullable=True, comment="sha256 over the rows in audit_changes"),
        sa.Column("previous", sa.Text(), nullable=False, comment="hash of the entry before"),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
        comment="Who did what, through which door: a hash chain.",
    )
    op.create_table(
        "cases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Text(), nullable=False, comment="ours, or imported; never readable as a number"),
        sa.Column("case_id_key", sa.Text(), nullable=False, comment="case_id as identifiers are compared"),
        sa.Column("external_id", sa.Text(), nullable=True, comment="the programme's own id"),
        sa.Column("external_id_key", sa.Text(), nullable=True, comment="external_id as identifiers are compared"),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("contact_phone_number", sa.Text(), nullable=True, comment="digits, country code first"),
        sa.Column("number_warning", sa.Text(), nullable=True, comment="why a person should look at the number again"),
        sa.Column("contact_phone_number_is_verified", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column(
            "two_way", sa.Boolean(), server_default=sa.false(), nullable=False, comment="owns its number: may reply"
        ),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when it stands in line for its number",
        ),
        sa.Column("commcare_email_address", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True, comment="IANA name"),
        sa.Column("language_code", sa.Text(), nullable=True, comment="BCP 47"),
        sa.Column("contact_backend_id", sa.Text(), nullable=True, comment="name of the gateway for this case"),
        sa.Column(
            "properties", sa.JSON(), server_default="{}", nullable=False, comment="any further column of a sheet"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('open', 'closed')", name=op.f("case_status")),
        sa.CheckConstraint("not two_way or contact_phone_number is not null", name=op.f("two_way_needs_a_number")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cases")),
        sa.UniqueConstraint("case_id_key", name=op.f("uq_cases_case_id_key")),
        comment="A case is a contact: whom the programme texts.",
    )
    with op.batch_alter_table("cases", schema=None) as batch_op:
        batch_op.create_index("cases_by_external_id", ["external_id_key"], unique=False)
        batch_op.create_index("cases_by_number", ["contact_phone_number"], unique=False)
        batch_op.create_index(
            "one_owner_per_number",
            ["contact_phone_number"],
            unique=True,
            sqlite_where=sa.text("two_way"),
            postgresql_where=sa.text("two_way"),
        )

    op.create_table(
        "consent_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=True, comment="what was written"),
        sa.Column("message_id", sa.Integer(), nullable=True),
        sa.Column("person_id", sa.Integer(), nullable=True),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('stop', 'start')", name=op.f("consent_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_events")),
        comment="STOP and START per number, in order of receipt; the last one holds.",
    )
    with op.batch_alter_table("consent_events", schema=None) as batch_op:
        batch_op.create_index("consent_by_phone", ["phone", "id"], unique=False)

    op.create_table(
        "gateways",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_because", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_gateways")),
        comment="The rate of each gateway, held over all workers, and why one is paused.",
    )
    op.create_table(
        "groups",
        sa.Column("id", sa.Integer(), nullable=False, comment="also the number of the group in a text"),
        sa.Column("short", sa.Text(), nullable=False, comment="the name in a text, 2 to 12 letters or digits"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        comment="Case groups.",
    )
    with op.batch_alter_table("groups", schema=None) as batch_op:
        batch_op.create_index(
            "one_live_group_per_name",
            ["name"],
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )
        batch_op.create_index(
            "one_live_group_per_short",
            ["short"],
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )

    op.create_table(
        "people",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("language_code", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("role IN ('lead', 'supervisor', 'helper', 'viewer')", name=op.f("person_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        comment="Supervisors and other staff.",
    )
    with op.batch_alter_table("people", schema=None) as batch_op:
        batch_op.create_index(
            "one_active_person_per_phone",
            ["phone"],
            unique=True,
            sqlite_where=sa.text("active"),
            postgresql_where=sa.text("active"),
        )

    op.create_table(
        "programme",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rehearsal", sa.Boolean(), nullable=False, comment="a rehearsal database never meets a real gateway"),
        sa.Column(
            "secret", sa.LargeBinary(), nullable=False, comment="derives the six-digit codes; never leaves the database"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("one_programme")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_programme")),
        comment="The one row that stamps this database.",
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column(
            "message_id", sa.Integer(), nullable=False, comment="as in the address; it may name no message of ours"
        ),
        sa.Column("gateway_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False, comment="the gateway's own word"),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("moved", sa.Boolean(), nullable=False, comment="false: late, repeated, or of no message of ours"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipts")),
        comment="Every receipt, as it came.",
    )
    with op.batch_alter_table("receipts", schema=None) as batch_op:
        batch_op.create_index(
            "one_receipt_per_word", ["gateway", "message_id", "gateway_id", "word", "code"], unique=True
        )

    op.create_table(
        "workers",
        sa.Column("owner", sa.Text(), nullable=False, comment="a fresh name at each start"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_workers")),
        comment="The heartbeat of each worker.",
    )
    op.create_table(
        "audit_changes",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Integer(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["entry_id"], ["audit.id"], name=op.f("fk_audit_changes_entry_id")),
        sa.PrimaryKeyConstraint("entry_id", "position", name=op.f("pk_audit_changes")),
        comment="Before and after, row by row; personal data lives here and not in the chain.",
    )
    with op.batch_alter_table("audit_changes", schema=None) as batch_op:
        batch_op.create_index("audit_changes_by_subject", ["subject", "subject_id"], unique=False)

    op.create_table(
        "memberships",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.Integer(), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_entry", sa.Integer(), nullable=False, comment="who added, from which text or sheet"),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_entry", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["added_entry"], ["audit.id"], name=op.f("fk_memberships_added_entry")),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_memberships_case_id")),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_memberships_group_id")),
        sa.ForeignKeyConstraint(["removed_entry"], ["audit.id"], name=op.f("fk_memberships_removed_entry")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_memberships")),
        comment="Who was in a group, from when to when.",
    )
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.create_index("memberships_by_case", ["case_id"], unique=False)
        batch_op.create_index("memberships_by_group_and_case", ["group_id", "case_id"], unique=False)
        batch_op.create_index(
            "one_live_membership",
            ["group_id", "case_id"],
            unique=True,
            sqlite_where=sa.text("removed_at IS NULL"),
            postgresql_where=sa.text("removed_at IS NULL"),
        )

    op.create_table(
        "operations",
        sa.Column("id", sa.Integer(), nullable=False, comment="the number a person texts: halt 42"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=True),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=True),
        sa.Column(
            "words",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="the command as compared, for the same words twice",
        ),
        sa.Column("answer", sa.Text(), nullable=True, comment="what was answered, code masked"),
        sa.Column("request", sa.JSON(), server_default="{}", nullable=False, comment="what `ok` will do"),
        sa.Column("undoes", sa.JSON(), nullable=True, comment="what `undo` takes back"),
        sa.Column("wrong_tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=True, comment="the text it came by"),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'seconding', 'done', 'dropped', 'expired', 'refused', 'undone')",
            name=op.f("operation_state"),
        ),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_operations_group_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_operations_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
        comment="Numbered things a person asked for.",
    )
    with op.batch_alter_table("operations", schema=None) as batch_op:
        batch_op.create_index("operations_by_person", ["person_id", "id"], unique=False)

    op.create_table(
        "person_groups",
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_person_groups_group_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_person_groups_person_id")),
        sa.PrimaryKeyConstraint("person_id", "group_id", name=op.f("pk_person_groups")),
        comment="The groups a person may touch; a lead may touch all.",
    )
    op.create_table(
        "broadcasts",
        sa.Column("id", sa.Integer(), nullable=False, comment="the operation's number"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="broadcast, or text: one case"),
        sa.Column("language", sa.Text(), nullable=False, comment="whose text is used where no other language fits"),
        sa.Column(
            "recipients", sa.Integer(), nullable=False, comment="everybody it was previewed for, skipped ones too"
        ),
        sa.Column("sendable", sa.Integer(), nullable=False, comment="those of them who could be texted then"),
        sa.Column("launched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "expanded_through", sa.Integer(), server_default="0", nullable=False, comment="resume after this case"
        ),
        sa.Column(
            "expanded_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when everybody has a row in messages",
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('previewed', 'expanding', 'sending', 'done', 'halted', 'dropped')", name=op.f("broadcast_state")
        ),
        sa.ForeignKeyConstraint(["id"], ["operations.id"], name=op.f("fk_broadcasts_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcasts")),
        comment="A text to groups and single cases.",
    )
    with op.batch_alter_table("broadcasts", schema=None) as batch_op:
        batch_op.create_index("broadcasts_by_state", ["state"], unique=False)

    op.create_table(
        "codes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operation_id", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column(
            "nonce", sa.LargeBinary(), nullable=False, comment="the digits are derived from it, and stored nowhere"
        ),
        sa.Column("digest", sa.Text(), nullable=False, comment="what the code confirms: words and recipients"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["operation_id"], ["operations.id"], name=op.f("fk_codes_operation_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_codes_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_codes")),
        comment="Six digits that confirm an operation, sent only to the registered number.",
    )
    with op.batch_alter_table("codes", schema=None) as batch_op:
        batch_op.create_index("codes_by_person", ["person_id", "used_at"], unique=False)
        batch_op.create_index("one_code_per_person_and_operation", ["operation_id", "person_id"], unique=True)

    op.create_table(
        "broadcast_audience",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.Integer(), nullable=True),
        sa.Column("case_id", sa.Integer(), nullable=True),
        sa.Column(
            "frozen_through", sa.Integer(), nullable=True, comment="the newest membership counted by the preview"
        ),
        sa.Column(
            "frozen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="who was taken out since is skipped, and shown",
        ),
        sa.CheckConstraint("(group_id is null) <> (case_id is null)", name=op.f("group_or_case")),
        sa.ForeignKeyConstraint(["broadcast_id"], ["broadcasts.id"], name=op.f("fk_broadcast_audience_broadcast_id")),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_broadcast_audience_case_id")),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_broadcast_audience_group_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_broadcast_audience")),
        comment="Whom a broadcast was previewed for; a later member is never added.",
    )
    with op.batch_alter_table("broadcast_audience", schema=None) as batch_op:
        batch_op.create_index("audience_by_broadcast", ["broadcast_id"], unique=False)

    op.create_table(
        "broadcast_texts",
        sa.Column("broadcast_id", sa.Integer(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["broadcast_id"], ["broadcasts.id"], name=op.f("fk_broadcast_texts_broadcast_id")),
        sa.PrimaryKeyConstraint("broadcast_id", "language", name=op.f("pk_broadcast_texts")),
        comment="The words, per language.",
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.Integer(), nullable=False, comment="also in the address of its receipts"),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=True, comment="the person's number; blank where a recipient had none"),
        sa.Column("body", sa.Text(), nullable=False, comment="a code stands here as ******"),
        sa.Column("kind", sa.Text(), nullable=False, comment="consent, reply, notice, text, broadcast; inbound: text"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is in this state, as a key"),
        sa.Column("code", sa.Text(), nullable=True, comment="the gateway's own code for the reason"),
        sa.Column("gateway", sa.Text(), nullable=True),
        sa.Column("gateway_id", sa.Text(), nullable=True),
        sa.Column("case_id", sa.Integer(), nullable=True),
        sa.Column("person_id", sa.Integer(), nullable=True),
        sa.Column("broadcast_id", sa.Integer(), nullable=True),
        sa.Column("reply_to", sa.Integer(), nullable=True, comment="the inbound text that this answers"),
        sa.Column("code_id", sa.Integer(), nullable=True, comment="whose digits are put in at hand-over"),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("told", sa.Text(), nullable=True, comment="inbound: stop, start or help, where the gateway said so"),
        sa.Column(
            "answered",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="inbound: the gateway answered it itself",
        ),
        sa.Column("handled_as", sa.Text(), nullable=True, comment="inbound: what it was taken for"),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False, comment="lower leaves first"),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("segments", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "handed_over_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when claimed became sending, by our clock",
        ),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True, comment="when the state last moved"),
        sa.CheckConstraint(
            "(direction = 'in' and state IN ('received', 'handled', 'set_aside')) or (direction = 'out' and state IN ('queued', 'claimed', 'sending', 'accepted', 'sent', 'delivered', 'undelivered', 'refused', 'unknown', 'unresolved', 'withheld', 'expired', 'cancelled'))",
            name=op.f("message_state"),
        ),
        sa.CheckConstraint("direction IN ('in', 'out')", name=op.f("message_direction")),
        sa.ForeignKeyConstraint(["broadcast_id"], ["broadcasts.id"], name=op.f("fk_messages_broadcast_id")),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_messages_case_id")),
        sa.ForeignKeyConstraint(["code_id"], ["codes.id"], name=op.f("fk_messages_code_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_messages_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        comment="Inbox and outbox: the row is the queue.",
    )
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.create_index("messages_by_broadcast", ["broadcast_id", "state"], unique=False)
        batch_op.create_index("messages_by_case", ["case_id", "id"], unique=False)
        batch_op.create_index("messages_by_gateway_id", ["gateway_id"], unique=False)
        batch_op.create_index("messages_by_phone", ["phone", "id"], unique=False)
        batch_op.create_index("messages_by_phone_and_state", ["phone", "state"], unique=False)
        batch_op.create_index(
            "messages_due",
            ["gateway", "priority", "due_at", "id"],
            unique=False,
            sqlite_where=sa.text("state = 'queued'"),
            postgresql_where=sa.text("state = 'queued'"),
        )
        batch_op.create_index(
            "messages_expiring",
            ["expires_at"],
            unique=False,
            sqlite_where=sa.text("state = 'queued'"),
            postgresql_where=sa.text("state = 'queued'"),
        )
        batch_op.create_index(
            "messages_leased",
            ["lease_until"],
            unique=False,
            sqlite_where=sa.text("state IN ('claimed', 'sending')"),
            postgresql_where=sa.text("state IN ('claimed', 'sending')"),
        )
        batch_op.create_index(
            "messages_unhandled",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("state = 'received'"),
            postgresql_where=sa.text("state = 'received'"),
        )
        batch_op.create_index(
            "one_inbound_per_gateway_id",
            ["gateway", "gateway_id"],
            unique=True,
            sqlite_where=sa.text("direction = 'in'"),
            postgresql_where=sa.text("direction = 'in'"),
        )
        batch_op.create_index(
            "one_live_message_per_broadcast_and_phone",
            ["broadcast_id", "phone"],
            unique=True,
            sqlite_where=sa.text("broadcast_id IS NOT NULL AND state <> 'withheld'"),
            postgresql_where=sa.text("broadcast_id IS NOT NULL AND state <> 'withheld'"),
        )
        batch_op.create_index(
            "one_message_per_broadcast_and_case",
            ["broadcast_id", "case_id"],
            unique=True,
            sqlite_where=sa.text("broadcast_id IS NOT NULL"),
            postgresql_where=sa.text("broadcast_id IS NOT NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.drop_index(
            "one_message_per_broadcast_and_case",
            sqlite_where=sa.text("broadcast_id IS NOT NULL"),
            postgresql_where=sa.text("broadcast_id IS NOT NULL"),
        )
        batch_op.drop_index(
            "one_live_message_per_broadcast_and_phone",
            sqlite_where=sa.text("broadcast_id IS NOT NULL AND state <> 'withheld'"),
            postgresql_where=sa.text("broadcast_id IS NOT NULL AND state <> 'withheld'"),
        )
        batch_op.drop_index(
            "one_inbound_per_gateway_id",
            sqlite_where=sa.text("direction = 'in'"),
            postgresql_where=sa.text("direction = 'in'"),
        )
        batch_op.drop_index(
            "messages_unhandled",
            sqlite_where=sa.text("state = 'received'"),
            postgresql_where=sa.text("state = 'received'"),
        )
        batch_op.drop_index(
            "messages_leased",
            sqlite_where=sa.text("state IN ('claimed', 'sending')"),
            postgresql_where=sa.text("state IN ('claimed', 'sending')"),
        )
        batch_op.drop_index(
            "messages_expiring", sqlite_where=sa.text("state = 'queued'"), postgresql_where=sa.text("state = 'queued'")
        )
        batch_op.drop_index(
            "messages_due", sqlite_where=sa.text("state = 'queued'"), postgresql_where=sa.text("state = 'queued'")
        )
        batch_op.drop_index("messages_by_phone_and_state")
        batch_op.drop_index("messages_by_phone")
        batch_op.drop_index("messages_by_gateway_id")
        batch_op.drop_index("messages_by_case")
        batch_op.drop_index("messages_by_broadcast")

    op.drop_table("messages")
    op.drop_table("broadcast_texts")
    with op.batch_alter_table("broadcast_audience", schema=None) as batch_op:
        batch_op.drop_index("audience_by_broadcast")

    op.drop_table("broadcast_audience")
    with op.batch_alter_table("codes", schema=None) as batch_op:
        batch_op.drop_index("one_code_per_person_and_operation")
        batch_op.drop_index("codes_by_person")

    op.drop_table("codes")
    with op.batch_alter_table("broadcasts", schema=None) as batch_op:
        batch_op.drop_index("broadcasts_by_state")

    op.drop_table("broadcasts")
    op.drop_table("person_groups")
    with op.batch_alter_table("operations", schema=None) as batch_op:
        batch_op.drop_index("operations_by_person")

    op.drop_table("operations")
    with op.batch_alter_table("memberships", schema=None) as batch_op:
        batch_op.drop_index(
            "one_live_membership",
            sqlite_where=sa.text("removed_at IS NULL"),
            postgresql_where=sa.text("removed_at IS NULL"),
        )
        batch_op.drop_index("memberships_by_group_and_case")
        batch_op.drop_index("memberships_by_case")

    op.drop_table("memberships")
    with op.batch_alter_table("audit_changes", schema=None) as batch_op:
        batch_op.drop_index("audit_changes_by_subject")

    op.drop_table("audit_changes")
    op.drop_table("workers")
    with op.batch_alter_table("receipts", schema=None) as batch_op:
        batch_op.drop_index("one_receipt_per_word")

    op.drop_table("receipts")
    op.drop_table("programme")
    with op.batch_alter_table("people", schema=None) as batch_op:
        batch_op.drop_index(
            "one_active_person_per_phone", sqlite_where=sa.text("active"), postgresql_where=sa.text("active")
        )

    op.drop_table("people")
    with op.batch_alter_table("groups", schema=None) as batch_op:
        batch_op.drop_index(
            "one_live_group_per_short",
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )
        batch_op.drop_index(
            "one_live_group_per_name",
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )

    op.drop_table("groups")
    op.drop_table("gateways")
    with op.batch_alter_table("consent_events", schema=None) as batch_op:
        batch_op.drop_index("consent_by_phone")

    op.drop_table("consent_events")
    with op.batch_alter_table("cases", schema=None) as batch_op:
        batch_op.drop_index(
            "one_owner_per_number", sqlite_where=sa.text("two_way"), postgresql_where=sa.text("two_way")
        )
        batch_op.drop_index("cases_by_number")
        batch_op.drop_index("cases_by_external_id")

    op.drop_table("cases")
    op.drop_table("audit")
