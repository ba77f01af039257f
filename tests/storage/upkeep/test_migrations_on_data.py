"""Each migration down and up again on a database in which every column of every table holds something: nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    Integer,
    LargeBinary,
    Table,
    Text,
    column,
    func,
    insert,
    inspect,
    select,
    table,
    update,
)

from storage import schema
from storage.audit import REDIGESTED
from storage.database import Database
from storage.rules.normalize import searched
from storage.upkeep import migrate
from tests.world import broken_line

STEPS = [
    (step.revision, step.down_revision) for step in ScriptDirectory.from_config(migrate._config(None)).walk_revisions()
]

MOMENT = datetime(2026, 11, 3, 9, 58, 7, 123456, tzinfo=UTC)

CHOSEN: dict[str, dict[str, Any]] = {
    "cases": {"status": "closed", "name": "Ángela Müller"},
    "people": {"role": "viewer"},
    "consent_events": {"kind": "doubt", "phone": "a phone"},
    "operations": {"state": "waiting"},
    "broadcasts": {
        "state": ("paused", "scheduled"),
        "paused_from": ("sending", None),
        "paused_at": (MOMENT, None),
        "send_at": ("2026-11-03T09:00", "2026-11-03T09:00"),
    },
    "messages": {"direction": "out", "state": "unknown"},
    "approvals": {"place": 1},
    "asks": {"answer": "cannot_tell"},
    "conversations": {"kind": "move", "state": "waiting", "outcome": "yes"},
}
"""What the database would refuse to be anything else; everything else is of the column's type.
Of two words the first is of the full row and the other of the bare one."""

EITHER = {"broadcast_audience": ("group_id", "case_id")}
"""Columns of which a row has the one or the other."""

BY_VERBS = (schema.audit, schema.audit_changes)
"""A chain, which only verbs can make longer: `lived` has filled it."""

FULL, BARE = 1001, 1002
"""The row that has everything, and the one that has only what it must have."""

TURNED: dict[str, dict[tuple[str, str], dict[str, str]]] = {
    "0012": {("broadcasts", "state"): {"paused": "sending", "scheduled": "expanding"}},
    "0007": {("broadcasts", "state"): {"sending": "halted"}},
    "0002": {("consent_events", "kind"): {"doubt": "stop"}, ("broadcasts", "state"): {"expanding": "halted"}},
}
"""What a downgrade turns into something else, because the older release has no word for it; each says so where it does."""

REPLACED = {"0014": {"questions"}}
"""Tables that a migration puts another in place of; what becomes of their rows has a test of its own."""
TURNED_BACK: dict[str, dict[tuple[str, str], dict[str, str]]] = {
    "0012": {("broadcasts", "state"): {"sending": "paused", "expanding": "scheduled"}},
}
"""What the upgrade tells apart again, by what the older release knew it by."""

Dump = dict[str, dict[str, list[Any]]]

CHAINED = ("changes_digest", "previous", "hash")
"""What revision 0011 writes again on its way down, each line as an older release would have; it adds a line either way."""


def value(of: Any, number: int) -> Any:
    """Something that a column can hold."""
    for key in of.foreign_keys:
        return 1 if key.column.table in BY_VERBS else number
    made: dict[Any, Any] = {
        Text: f"{of.name} {number}", Integer: number, BigInteger: number, Float: 0.25, Boolean: True, LargeBinary: b"\x00\xff",
        JSON: {"é": [number]}, schema.Moment: MOMENT, schema.Word: f"{of.name} {number}",
    }  # fmt: skip
    return made[type(of.type)]


def row(of: Table, number: int) -> dict[str, Any]:
    needed = [c for c in of.c if number == FULL or (not c.nullable and c.server_default is None)]
    made = {c.name: value(c, number) for c in needed} | CHOSEN.get(of.name, {})
    made = {name: one[number == BARE] if isinstance(one, tuple) else one for name, one in made.items()}
    if of.name in EITHER:
        one, other = EITHER[of.name]
        made |= {one: number, other: None} if number == FULL else {one: None, other: number}
    return made


def fill(db: Database) -> None:
    """Beside what verbs left: in every table one row with every column, and one with no more than it needs."""
    with db.transaction() as tx:
        for of in schema.metadata.sorted_tables:
            if of is schema.programme:
                every = {c.name: value(c, FULL) for c in of.c if c.name not in ("id", "rehearsal")}
                tx.execute(update(of).values(every))
            elif of not in BY_VERBS:
                for number in (FULL, BARE):
                    tx.execute(insert(of).values(row(of, number)))
        for of in schema.metadata.sorted_tables:
            filled = tx.execute(select(*(func.count(c) for c in of.c))).one()
            assert 0 not in filled, f"{of.name} has a column that holds nothing: {filled}"


def dump(db: Database) -> Dump:
    """Everything as it stands, by the names that this revision knows; rows in the order of their keys."""
    found: Dump = {}
    with db.reading() as tx:
        look = inspect(tx.connection)
        for name in look.get_table_names():
            if name.startswith("alembic"):
                continue
            columns = [column(c["name"]) for c in look.get_columns(name)]
            keys = look.get_pk_constraint(name)["constrained_columns"]
            rows = tx.execute(select(*columns).select_from(table(name)).order_by(*map(column, keys))).all()
            found[name] = {c.name: [line[n] for line in rows] for n, c in enumerate(columns)}
    return found


def shared(one: Dump, other: Dump) -> Dump:
    """The part of a dump that another one has names for."""
    return {
        name: {c: values for c, values in columns.items() if c in other[name]}
        for name, columns in one.items()
        if name in other
    }


def unchained(found: Dump, revision: str) -> Dump:
    """A dump without what revision 0011 says that it does to the audit log: tests/storage/upkeep/test_redigesting.py has that."""
    if revision == "0011":
        verbs = found["audit"]["verb"]
        found["audit"] = {
            name: [one for one, verb in zip(values, verbs, strict=True) if verb not in (REDIGESTED, "audit.rewritten")]
            for name, values in found["audit"].items()
            if name not in CHAINED
        }
    return found


def turned(found: Dump, into: dict[tuple[str, str], dict[str, str]] | None) -> Dump:
    """A dump with what a step says that it turns into something else."""
    found = {name: dict(columns) for name, columns in found.items()}
    for (name, of), words in (into or {}).items():
        assert words.keys() <= set(found[name][of]), f"no row tries what becomes of one of {words}"
        found[name][of] = [words.get(one, one) for one in found[name][of]]
    return found


@pytest.mark.parametrize(("revision", "before"), STEPS)
def test_a_migration_goes_down_and_up_again_and_loses_nothing_that_both_releases_know(
    lived: Database, revision: str, before: str | None
) -> None:
    fill(lived)
    migrate.downgrade(lived, revision)
    newer = unchained(dump(lived), revision)
    migrate.downgrade(lived, before or "base")
    older = unchained(dump(lived), revision)
    assert shared(older, newer) == turned(shared(newer, older), TURNED.get(revision))
    assert older.keys() - newer.keys() == REPLACED.get(revision, set())
    assert before is None or {name for name in newer if name not in older or newer[name].keys() > older[name].keys()}
    migrate.upgrade(lived, revision)
    again = unchained(dump(lived), revision)
    assert {name: set(columns) for name, columns in again.items()} == {name: set(newer[name]) for name in newer}
    assert shared(again, older) == turned(shared(older, again), TURNED_BACK.get(revision))
    migrate.upgrade(lived)
    lived.check()
    if before is not None:
        with lived.reading() as tx:
            assert broken_line(tx) is None


def test_what_an_upgrade_fills_in_of_itself_is_what_the_release_would_have_written(lived: Database) -> None:
    fill(lived)
    migrate.downgrade(lived, "0001")
    migrate.upgrade(lived, "0002")
    names = dump(lived)["cases"]
    assert names["name_key"] == [searched(name) for name in names["name"]]
    assert "angela muller" in names["name_key"]


def test_nobody_is_told_of_a_restore_of_before_the_upgrade(lived: Database) -> None:
    fill(lived)
    migrate.downgrade(lived, "0004")
    migrate.upgrade(lived, "0005")
    programme = dump(lived)["programme"]
    assert programme["restore_told_at"] == programme["restored_at"] != [None]


def test_what_a_phone_was_asked_goes_over_into_conversations_and_back(lived: Database) -> None:
    with lived.transaction() as tx:
        case = tx.scalar(select(func.min(schema.cases.c.id)))
        for number, (phone, state, outcome) in enumerate(
            [("233241000001", "open", None), ("233241000002", "closed", "yes"), ("233241000003", "waiting", None)], 1
        ):
            text = {
                "direction": "out",
                "phone": phone,
                "body": "x",
                "kind": "text",
                "due_at": tx.now,
                "created_at": tx.now,
            }
            text |= {"id": 9000 + number, "state": "queued" if state == "waiting" else "delivered"}
            tx.execute(insert(schema.messages), text)
            asked = {
                "id": number,
                "phone": phone,
                "phone_key": phone,
                "kind": "invite",
                "state": state,
                "outcome": outcome,
            }
            asked |= {"case_id": case, "message_id": 9000 + number, "asked_at": tx.now, "waits_until": tx.now}
            tx.execute(insert(schema.conversations), asked | {"closed_at": tx.now if outcome else None})
        tx.execute(
            update(schema.messages)
            .where(schema.messages.c.id > 9000)
            .values(conversation_id=schema.messages.c.id - 9000)
        )
    before = dump(lived)
    migrate.downgrade(lived, "0010")
    questions = dump(lived)["questions"]
    assert questions["answer"] == [None, "yes", None]
    assert [at is None for at in questions["closed_at"]] == [True, False, True]
    migrate.upgrade(lived)
    after = dump(lived)
    for name in ("phone", "phone_key", "kind", "state", "outcome", "case_id", "message_id", "asked_at", "waits_until"):
        assert after["conversations"][name] == before["conversations"][name], name
    assert after["messages"]["conversation_id"] == before["messages"]["conversation_id"]
