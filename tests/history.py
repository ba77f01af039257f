"""A programme with a long past: two years of texts, receipts, operations and audit lines, written by set statements.

The rows are spread as in a programme that texts broadcasts, hears replies and forwards them to its lead.  All of it is over,
but for a few texts that wait for tomorrow, a few that are in doubt and a few that are left to a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from storage import audit
from storage.audit import Actor
from storage.bulk import insert_many
from storage.contacts import groups, people
from storage.database import Database, Transaction
from storage.schema import audit as lines
from storage.schema import audit_changes, programme

YEARS: Final = timedelta(days=730)
LEAD: Final = "233244000001"
SUPERVISOR: Final = "233244000002"
FIRST: Final = 233_200_000_000
GATEWAY: Final = "twilio"
BY: Final = Actor("cli", None, "a history")

MESSAGES_A_CASE: Final = 10
MESSAGES_A_LINE: Final = 30
CHANGES_A_LINE: Final = 3
MEMBERS: Final = 600
"""Of each group."""

RECIPIENTS: Final = 150
"""Of each broadcast: few, because PostgreSQL goes through an index broadcast by broadcast where there are but a hundred."""

_STATEMENTS: Final = (
    # Cases, each in one group.
    """
    INSERT INTO cases (case_id, case_id_key, external_id, external_id_key, name, name_key, status, contact_phone_number, phone_key,
        contact_phone_number_is_verified, two_way, claimed_at, properties, created_at, modified_at)
    SELECT 'c-' || i, 'c-' || i, 'p-' || i, 'p-' || i, 'Case ' || i, 'case ' || i, 'open', {phone}, {phone}, true, true, {began}, '{{}}',
        {began}, {began}
    FROM {to_cases}
    """,
    """
    INSERT INTO groups (short, name, created_at)
    SELECT 'ward' || (i + 1), 'Ward ' || (i + 1), {began} FROM {to_groups}
    """,
    """
    INSERT INTO memberships (group_id, case_id, added_at, added_entry)
    SELECT 1 + (i - 1) / {members} + {first_group}, i, {began}, 1 FROM {to_cases}
    """,
    """
    INSERT INTO consent_events (phone, phone_key, kind, words, door, at) SELECT {phone}, {phone}, 'stop', 'STOP', 'sms', {began}
    FROM {to_cases} WHERE i % 100 = 7
    """,
    # What was asked for: the broadcasts first, then one operation for each reply.
    """
    INSERT INTO operations (kind, person_id, door, state, words, request, wrong_tries, asked_at, expires_at, decided_at)
    SELECT 'tell', 1, 'sms', 'done', 'tell ward' || i, '{{}}', 0, {at_broadcast}, {at_broadcast}, {at_broadcast}
    FROM {to_broadcasts}
    """,
    """
    INSERT INTO operations (kind, person_id, door, state, words, request, wrong_tries, message_id, asked_at, decided_at)
    SELECT 'inbox', NULL, 'sms', 'done', '', '{{}}', 0, i, {at}, {at} FROM {to_messages} WHERE i % 10 = 0
    """,
    """
    INSERT INTO operations (kind, person_id, door, state, words, request, wrong_tries, message_id, asked_at, decided_at)
    SELECT 'add', 1, 'sms', 'done', 'add ward1 p-' || i, '{{}}', 0, i, {at}, {at} FROM {to_messages} WHERE i % 50 = 2
    """,
    """
    INSERT INTO broadcasts (id, state, kind, language, recipients, sendable, launched_at, hold_until, expires_at,
        expanded_through, expanded_at, finished_at)
    SELECT i, 'done', 'broadcast', 'en', {recipients}, {recipients}, {at_broadcast}, {at_broadcast}, {at_broadcast}, 0,
        {at_broadcast}, {at_broadcast}
    FROM {to_broadcasts}
    """,
    "INSERT INTO broadcast_texts (broadcast_id, language, text) SELECT id, 'en', 'Come tomorrow' FROM broadcasts",
    """
    INSERT INTO broadcast_audience (broadcast_id, group_id, frozen_through, frozen_at)
    SELECT id, {first_group} + 1, 1, launched_at FROM broadcasts
    """,
    # Of fifty messages five are replies of cases, five tell the lead of them, one is a command and one its answer.
    """
    INSERT INTO messages (id, direction, phone, phone_key, body, kind, state, gateway, gateway_id, case_id, person_id, handled_as,
        reply_to, answered, priority, due_at, attempts, created_at, settled_at, paused)
    SELECT i, 'in', CASE WHEN i % 10 = 0 THEN {phone_of_message} ELSE '{lead}' END,
        CASE WHEN i % 10 = 0 THEN {phone_of_message} ELSE '{lead}' END, 'Can I come on Monday? ' || i, 'text',
        'handled', '{gateway}', {sid}, CASE WHEN i % 10 = 0 THEN {case_of_message} END,
        CASE WHEN i % 10 = 0 THEN NULL ELSE 1 END, CASE WHEN i % 10 = 0 THEN 'inbox' ELSE 'command' END, NULL, false, 0,
        {at}, 0, {at}, {at}, false
    FROM {to_messages} WHERE i % 10 = 0 OR i % 50 = 2
    """,
    """
    INSERT INTO messages (id, direction, phone, phone_key, body, kind, state, gateway, gateway_id, person_id, reply_to, answered,
        priority, due_at, expires_at, attempts, attempt_id, segments, created_at, handed_over_at, settled_at, paused)
    SELECT i, 'out', '{lead}', '{lead}', 'A reply of somebody, number ' || i, CASE WHEN i % 10 = 1 THEN 'notice' ELSE 'reply' END,
        'delivered', '{gateway}', {sid}, 1, i - 1, false, 1, {at}, {at}, 1, 'a' || i, 1, {at}, {at}, {at}, false
    FROM {to_messages} WHERE i % 10 = 1 OR i % 50 = 3
    """,
    """
    INSERT INTO messages (id, direction, phone, phone_key, body, kind, state, reason, gateway, gateway_id, case_id, broadcast_id,
        language, answered, priority, due_at, expires_at, attempts, attempt_id, segments, created_at, handed_over_at,
        settled_at, paused)
    SELECT i, 'out', {phone_of_message}, {phone_of_message}, 'Hello, your visit to the clinic is tomorrow. Bring your card. ' || i, 'broadcast',
        CASE WHEN i > {all} - 40 AND i % 5 = 4 THEN 'queued' WHEN i > {all} - 200 AND i % 50 = 8 THEN 'unknown'
            WHEN i % 5000 = 4 THEN 'unresolved' WHEN i % 50 = 4 THEN 'accepted' WHEN i % 50 = 5 THEN 'sent'
            WHEN i % 50 = 6 THEN 'undelivered' WHEN i % 100 = 7 THEN 'withheld' WHEN i % 200 = 9 THEN 'refused'
            ELSE 'delivered' END,
        CASE WHEN i % 100 = 7 THEN 'stopped' END, '{gateway}', {sid}, {case_of_message}, 1 + (i - 1) / {recipients},
        'en', false, 5, CASE WHEN i > {all} - 40 THEN {tomorrow} ELSE {at} END,
        CASE WHEN i > {all} - 40 THEN {tomorrow} ELSE {at} END, 1, 'a' || i, 1, {at}, {at}, {at}, false
    FROM {to_messages} WHERE i % 10 > 1 AND i % 50 NOT IN (2, 3)
    """,
    """
    INSERT INTO receipts (gateway, message_id, gateway_id, state, word, code, moved, at)
    SELECT gateway, id, gateway_id, 'sent', 'sent', '', true, settled_at FROM messages
    WHERE state IN ('sent', 'delivered', 'undelivered') ORDER BY id
    """,
    """
    INSERT INTO receipts (gateway, message_id, gateway_id, state, word, code, moved, at)
    SELECT gateway, id, gateway_id, state, state, '', true, settled_at FROM messages
    WHERE state IN ('delivered', 'undelivered') ORDER BY id
    """,
    """
    INSERT INTO attempts (message_id, attempt_id, state, reason, at)
    SELECT id, attempt_id, state, 'gateway', settled_at FROM messages WHERE state IN ('refused', 'unresolved') ORDER BY id
    """,
)


def fill(db: Database, many: int) -> None:
    """Write a past of so many messages into an upgraded, empty database; the present is the database's clock."""
    with db.transaction() as tx:
        people.add(tx, "Lena", LEAD, "lead", by=BY)
        group = groups.create(tx, "all", None, by=BY)
        for statement in _STATEMENTS:
            tx.execute(text(statement.format(**_words(tx, many, int(group.id)))))
        people.add(tx, "Samuel", SUPERVISOR, "supervisor", shorts=["ward2"], by=BY)
        _write_lines(tx, many // MESSAGES_A_LINE)
        line = audit.head(tx)
        assert line is not None
        tx.execute(programme.update().values(created_at=tx.now - YEARS, digested_at=tx.now, digested_through=line.id))
        if not tx.is_sqlite:
            tx.execute(text("SELECT setval('messages_id_seq', (SELECT max(id) FROM messages))"))


def analyze(db: Database) -> None:
    """Let the database look at its own rows, as PostgreSQL does by itself."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _words(tx: Transaction, many: int, group: int) -> dict[str, Any]:
    """What the statements are filled in with; the n-th row of each table has the number `i`."""
    cases = max(many // MESSAGES_A_CASE, 100)
    recipients = min(RECIPIENTS, cases)
    broadcasts = -(-many // recipients)
    step_s, step_of_broadcasts_s = YEARS.total_seconds() / many, YEARS.total_seconds() / broadcasts
    began, now = tx.now - YEARS, tx.now
    return {
        "all": many, "members": MEMBERS, "recipients": recipients, "first_group": group, "lead": LEAD, "gateway": GATEWAY,
        "to_cases": _to(tx, cases), "to_groups": _to(tx, -(-cases // MEMBERS)), "to_broadcasts": _to(tx, broadcasts),
        "to_messages": _to(tx, many),
        "sid": "'SM' || substr('" + "0" * 32 + "' || i, length(CAST(i AS TEXT)) + 1)",
        "phone": f"CAST({FIRST} + i AS TEXT)",
        "case_of_message": f"(1 + i % {cases})", "phone_of_message": f"CAST({FIRST} + 1 + i % {cases} AS TEXT)",
        "began": _moment(tx, began), "tomorrow": _moment(tx, now + timedelta(days=1)),
        "at": _moment(tx, began, f"i * {step_s!r}"), "at_broadcast": _moment(tx, began, f"i * {step_of_broadcasts_s!r}"),
    }  # fmt: skip


def _to(tx: Transaction, many: int) -> str:
    """The numbers from one to so many, as a table with the column `i`."""
    if tx.is_sqlite:
        return f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {many}) SELECT i FROM n)"
    return f"generate_series(1, {many}) AS n(i)"


def _moment(tx: Transaction, at: datetime, seconds: str = "0") -> str:
    if tx.is_sqlite:
        return f"strftime('%Y-%m-%d %H:%M:%f000', {at.timestamp()!r} + {seconds}, 'unixepoch')"
    return f"to_timestamp({at.timestamp()!r} + {seconds})"


def _write_lines(tx: Transaction, many: int) -> None:
    """So many lines of the audit log, of which each holds, with their changes."""
    newest = audit.head(tx)
    assert newest is not None
    entry_id, previous, began = newest.id, newest.hash, tx.now - YEARS
    entries: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for n in range(many):
        entry_id += 1
        under = list(_changes(n))
        entry = {
            "at": began + YEARS * (n / many), "person_id": 1, "door": "sms", "source": f"message {n * MESSAGES_A_LINE}",
            "verb": "cases.save", "subject": "case", "subject_id": n, "facts": {"updated": CHANGES_A_LINE},
            "changes_digest": audit.salted(under), "previous": previous,
        }  # fmt: skip
        previous = audit.hash_of(entry)
        entries.append({"id": entry_id, **entry, "hash": previous})
        changes.extend({"entry_id": entry_id, **change} for change in under)
    insert_many(tx, lines, entries)
    insert_many(tx, audit_changes, changes)
    if not tx.is_sqlite:
        tx.execute(text("SELECT setval('audit_id_seq', (SELECT max(id) FROM audit))"))


def _changes(n: int) -> Iterator[dict[str, Any]]:
    for position in range(CHANGES_A_LINE):
        case = 1 + (n * CHANGES_A_LINE + position) % 1000
        yield {
            "position": position, "subject": "case", "subject_id": case, "before": {"name": "Case"},
            "after": {"name": f"Case {case}"},
        }  # fmt: skip


def count(db: Database) -> dict[str, int]:
    """How many rows the tables that grow have."""
    with db.reading() as tx:
        return {
            name: int(tx.scalar(text(f"SELECT count(*) FROM {name}")))
            for name in ("messages", "receipts", "operations", "audit", "audit_changes")
        }
