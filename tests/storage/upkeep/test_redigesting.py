"""Revision 0011 gives every old change a digest of its own: no noted head is lost by it, and no breach is covered up."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import column, select, table, text

from storage import audit, digests
from storage.audit import Change
from storage.database import Database
from storage.schema import audit as lines_table
from storage.schema import audit_changes
from storage.upkeep import backups, migrate
from tests.storage.tampering import BEFORE_DIGESTS, FORGET, tampering
from tests.world import TEST, World

OF_A_CHANGE = ("position", "subject", "subject_id", "before", "after")
_old_changes = table("audit_changes", column("entry_id"), *(column(name) for name in OF_A_CHANGE))


def lines_of(db: Database) -> list[dict[str, Any]]:
    with db.reading() as tx:
        return [dict(row) for row in tx.execute(select(lines_table).order_by(lines_table.c.id)).mappings()]


def read(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def broken_for_an_older_release(db: Database) -> tuple[int, str] | None:
    """The first line that a release of before the migration finds broken, and how: it knows one digest over the values."""
    assert db.revision() == BEFORE_DIGESTS
    previous = audit.FIRST
    for line in lines_of(db):
        with db.reading() as tx:
            of_it = select(_old_changes).where(_old_changes.c.entry_id == line["id"]).order_by(_old_changes.c.position)
            rows = [dict(row) for row in tx.execute(of_it).mappings()]
        under = [
            {name: read(row[name]) if name in ("before", "after") else row[name] for name in OF_A_CHANGE}
            for row in rows
        ]
        if digests.hash_of(line) != line["hash"]:
            return line["id"], "edited"
        if line["previous"] != previous:
            return line["id"], "missing"
        if line["changes_digest"] != (digests.digest_of(under) if under else None):
            return line["id"], "changes"
        previous = line["hash"]
    return None


def forget(db: Database, condition: str) -> None:
    with tampering(db) as other:
        assert other.execute(f"{FORGET} {condition}").rowcount > 0


def summary(found: audit.Finding) -> tuple[Any, ...]:
    return found.breach, found.broken.id if found.broken else None, found.broken is not None and found.holds


@pytest.fixture
def older(lived):
    """A database that an older release wrote, at its revision."""
    migrate.downgrade(lived, BEFORE_DIGESTS)
    assert broken_for_an_older_release(lived) is None
    assert audit.verify(lived.reading).breach is None
    return lived


def test_the_upgrade_leaves_every_line_as_it_is_and_writes_one_at_the_end(older):
    before = lines_of(older)
    with older.reading() as tx:
        changes = [tuple(row) for row in tx.execute(select(_old_changes).order_by(text("1, 2")))]
    migrate.upgrade(older)
    *same, last = lines_of(older)
    assert same == before
    assert (last["verb"], last["person_id"], last["door"], last["changes_digest"]) == (
        audit.REDIGESTED,
        None,
        "cli",
        None,
    )
    assert last["facts"] | {"digest": ""} == {
        "through": before[-1]["id"], "head": before[-1]["hash"], "changes": len(changes), "digest": "",
    }  # fmt: skip
    with older.reading() as tx:
        assert [tuple(row) for row in tx.execute(select(_old_changes).order_by(text("1, 2")))] == changes
    found = audit.verify(older.reading)
    assert (found.breach, found.holds, found.last.hash) == (None, len(before) + 1, last["hash"])


def test_each_head_that_was_noted_before_the_upgrade_is_found_after_it(older):
    heads = [line["hash"] for line in lines_of(older)]
    migrate.upgrade(older)
    assert [audit.verify(older.reading, head[:12]).noted.hash for head in heads] == heads


def test_a_new_database_and_one_in_which_nothing_was_changed_get_no_line(bare):
    with contextlib.closing(Database(bare)) as made:
        migrate.upgrade(made)
        assert lines_of(made) == []
        migrate.downgrade(made, BEFORE_DIGESTS)
        assert lines_of(made) == []
        migrate.upgrade(made)
        with made.transaction() as tx:
            audit.record(tx, "x", "case", by=TEST)
        migrate.downgrade(made, BEFORE_DIGESTS)
        migrate.upgrade(made)
        assert [line["verb"] for line in lines_of(made)] == ["x"]


@pytest.mark.parametrize("many", [4999, 5000, 12_001])
def test_more_changes_than_are_read_at_once(older, many):
    """A sheet of 300,000 is upgraded, verified and taken down in slices; one edit in it is still found at its line."""
    migrate.upgrade(older)
    with older.transaction() as tx:
        changes = [Change("case", n, {}, {"name": f"Name {n}"}) for n in range(many)]
        number = audit.record(tx, "x", "case", changes=changes, by=TEST)
        audit.record(tx, "y", "case", changes=changes[:2], by=TEST)
    migrate.downgrade(older, BEFORE_DIGESTS)
    assert broken_for_an_older_release(older) is None
    migrate.upgrade(older)
    assert audit.verify(older.reading).breach is None
    forget(older, f"entry_id = {number} AND position IN (0, {many - 1})")
    assert audit.verify(older.reading).forgotten == 2
    with tampering(older) as other:
        other.execute(f"UPDATE audit_changes SET after = '{{}}' WHERE entry_id = {number} AND position = {many - 2}")
    assert summary(audit.verify(older.reading))[:2] == ("changes", number)


# -- what was broken stays broken --------------------------------------------------------------------------------------


BROKEN = {
    "an edited line": ["UPDATE audit SET door = 'desk' WHERE id = 3"],
    "an edited digest": ["UPDATE audit SET changes_digest = 'ab' WHERE id = 3"],
    "an edited value": ["UPDATE audit_changes SET after = '{}' WHERE entry_id = 3"],
    "a null of JSON": ["UPDATE audit_changes SET before = 'null' WHERE entry_id = 3"],
    "whom a change is of": ["UPDATE audit_changes SET subject_id = 77 WHERE entry_id = 3"],
    "a change taken out": ["DELETE FROM audit_changes WHERE entry_id = 3"],
    "a change put in": ["INSERT INTO audit_changes VALUES (3, 99, 'case', 1, '{}', '{}')"],
    "a line taken out": ["DELETE FROM audit WHERE id = 4", "DELETE FROM audit_changes WHERE entry_id = 4"],
    "a line in the middle without its changes": ["DELETE FROM audit WHERE id = 4"],
    "the last line taken out": ["DELETE FROM audit WHERE id = (SELECT max(entry_id) FROM audit_changes)"],
    "two lines swapped": [
        f"UPDATE {t} SET {c} = {new} WHERE {c} = {old}"
        for old, new in ((3, -3), (4, 3), (-3, 4))
        for t, c in (("audit", "id"), ("audit_changes", "entry_id"))
    ],
    "two lines broken": [
        "UPDATE audit_changes SET after = '{}' WHERE entry_id = 3",
        "UPDATE audit_changes SET after = '{}' WHERE entry_id = 5",
    ],
}  # fmt: skip

DAMAGED = {
    "no JSON": "UPDATE audit_changes SET after = '{' WHERE entry_id = 3",
    "no letters": "UPDATE audit_changes SET after = CAST(x'7bff7d' AS TEXT) WHERE entry_id = 3",
    "bytes": "UPDATE audit_changes SET before = x'00ff' WHERE entry_id = 3",
    "brackets without end": "UPDATE audit_changes SET after = replace(hex(zeroblob(50000)), '0', '[') WHERE entry_id = 3",
    "a subject of no letters": "UPDATE audit_changes SET subject = CAST(x'ff' AS TEXT) WHERE entry_id = 3",
    "a subject of bytes": "UPDATE audit_changes SET subject = CAST(subject AS BLOB) WHERE entry_id = 3",
    "a place that is no number": "UPDATE audit_changes SET position = CAST(x'ff' AS TEXT) WHERE entry_id = 3",
    "a line that is no number": "UPDATE audit_changes SET entry_id = 'x' WHERE entry_id = 3",
    "a last hash of no letters": "UPDATE audit SET hash = CAST(x'ff' AS TEXT) WHERE id = (SELECT max(id) FROM audit)",
    "a time that is none": "UPDATE audit SET at = 'yesterday' WHERE id = 3",
}


def stays_broken(db: Database) -> None:
    before = summary(audit.verify(db.reading))
    assert before[0] is not None
    migrate.upgrade(db)
    db.check()
    assert summary(audit.verify(db.reading)) == before
    forget(db, "subject <> ''")
    assert summary(audit.verify(db.reading)) == before, "nor does forgetting cover it up"
    World(db).case("later")
    assert summary(audit.verify(db.reading)) == before


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_a_log_that_was_broken_before_the_upgrade_is_as_broken_after_it(older, damage):
    with tampering(older) as other:
        assert sum(other.execute(statement).rowcount for statement in damage) > 0
    stays_broken(older)


@pytest.mark.only("sqlite")  # PostgreSQL keeps nothing of the kind
@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_even_be_read_is_upgraded_and_stays_broken(older, damage):
    with tampering(older) as other:
        assert other.execute(damage).rowcount > 0
    stays_broken(older)


# -- down --------------------------------------------------------------------------------------------------------------


def test_straight_down_again_the_log_is_the_one_before_and_a_line_that_says_what_went(older):
    before = lines_of(older)
    migrate.upgrade(older)
    head = lines_of(older)[-1]
    migrate.downgrade(older, BEFORE_DIGESTS)
    *same, last = lines_of(older)
    assert same == before
    assert (last["verb"], last["facts"]) == ("audit.rewritten", {"from": head["id"], "head": head["hash"]})
    assert broken_for_an_older_release(older) is None


def test_what_was_written_since_the_upgrade_holds_for_an_older_release_and_so_does_each_older_head(older):
    before = lines_of(older)
    migrate.upgrade(older)
    World(older).case("new", name="New")
    with older.transaction() as tx:
        audit.record(tx, "desk.download", "download", by=TEST)
        head = audit.head(tx)
    migrate.downgrade(older, BEFORE_DIGESTS)
    assert broken_for_an_older_release(older) is None
    assert lines_of(older)[: len(before)] == before
    assert lines_of(older)[-1]["facts"]["head"] == head.hash


def test_down_and_up_any_number_of_times(older):
    for n in range(3):
        migrate.upgrade(older)
        World(older).case(f"new {n}", name="New")
        forget(older, "subject = 'case' AND entry_id = (SELECT max(id) FROM audit)")
        assert (audit.verify(older.reading).breach, audit.verify(older.reading).forgotten) == (None, 1)
        migrate.downgrade(older, BEFORE_DIGESTS)
        assert broken_for_an_older_release(older) is None


def test_of_what_an_older_line_forgot_an_older_release_says_that_it_was_edited(older):
    """It knows no forgetting, and the line's own digest must stay, or every head that was noted would be lost."""
    migrate.upgrade(older)
    with older.reading() as tx:
        number = tx.scalar(select(audit_changes.c.entry_id).where(audit_changes.c.subject == "case").limit(1))
    forget(older, f"entry_id = {number}")
    migrate.downgrade(older, BEFORE_DIGESTS)
    assert broken_for_an_older_release(older) == (number, "changes")


@pytest.mark.parametrize("damage", ["an edited line", "an edited value", "whom a change is of", "a change taken out", "a line taken out"])  # fmt: skip
@pytest.mark.parametrize("is_older", [True, False])
def test_a_log_that_is_broken_stays_broken_on_the_way_down_and_up_again(lived, damage, is_older):
    if is_older:
        migrate.downgrade(lived, BEFORE_DIGESTS)
        migrate.upgrade(lived)
    with tampering(lived) as other:
        for statement in BROKEN[damage]:
            other.execute(statement)
    before = summary(audit.verify(lived.reading))
    migrate.downgrade(lived, BEFORE_DIGESTS)
    assert broken_for_an_older_release(lived) == (before[1], before[0])
    migrate.upgrade(lived)
    assert summary(audit.verify(lived.reading)) == before


def test_a_forgotten_change_that_was_edited_stays_a_breach_on_the_way_down(lived):
    number = lines_of(lived)[-1]["id"] + 1
    World(lived).case("new", name="New")
    forget(lived, f"entry_id = {number}")
    with tampering(lived) as other:
        other.execute(f"UPDATE audit_changes SET subject_id = 77 WHERE entry_id = {number}")
    migrate.downgrade(lived, BEFORE_DIGESTS)
    assert broken_for_an_older_release(lived) == (number, "changes")


# -- what else reads a log of before -----------------------------------------------------------------------------------


def test_the_migration_s_own_digests_are_those_of_the_program(older):
    """It may not import them, because they may change; this pins that on the day it was written they are the same."""
    migrate.upgrade(older)
    with older.reading() as tx:
        rows = tx.execute(select(audit_changes)).mappings().all()
    for row in rows:
        own = digests._canonical({name: row[name] for name in OF_A_CHANGE})
        assert digests._of_a_change(row["salt"], own) == row["digest"]
    assert len(rows) > 10


@pytest.mark.only("sqlite")
def test_a_backup_that_an_older_release_made_is_verified_before_it_is_upgraded(older, tmp_path):
    migrate.upgrade(older)
    kept = tmp_path / "kept.db"
    backups.make(older, kept)
    with contextlib.closing(Database(f"sqlite:///{kept}", clock=lambda: datetime(2026, 11, 3, tzinfo=UTC))) as copy:
        migrate.downgrade(copy, BEFORE_DIGESTS)
        head = lines_of(copy)[-1]["hash"]
    found = backups.check(older, kept, by=TEST)
    assert (found.revision, found.head) == (BEFORE_DIGESTS, head)
