"""Who did what: one line for each act, a chain that shows every touch, and nothing personal in it."""

import contextlib
import json
import shutil
import sqlite3
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from storage import audit, digests
from storage.audit import Change
from storage.contacts import consent
from storage.database import Database
from storage.errors import Problem
from storage.schema import audit as table
from storage.schema import audit_changes, cases
from storage.schema import people as people_table
from storage.upkeep import migrate
from tests.storage.tampering import BEFORE_DIGESTS, FORGET, PUT_IN, tampering
from tests.world import TEST, World, broken_line


def first_broken(db):
    with db.reading() as tx:
        return broken_line(tx)


def test_every_act_writes_a_line(lived):
    with lived.reading() as tx:
        verbs = set(tx.execute(select(table.c.verb)).scalars())
    assert verbs == {
        "cases.save", "cases.import", "groups.create", "groups.add", "groups.remove", "groups.delete",
        "people.add", "people.change", "people.remove", "consent.stop", "consent.start",
        "operations.ask", "operations.done", "operations.dropped", "broadcasts.launch", "broadcasts.halt",
    }  # fmt: skip


def test_a_line_says_who_when_through_which_door_and_from_what(lived):
    with lived.reading() as tx:
        line = tx.execute(select(table).where(table.c.verb == "groups.remove")).one()
        esi = tx.execute(select(people_table.c.id).where(people_table.c.name == "Esi Mensah")).scalar_one()
    assert (line.person_id, line.door, line.source, line.at) == (esi, "sms", "text 1", lived.clock())
    assert (line.subject, line.facts) == ("group", {"removed": 1})


def test_the_chain_of_untouched_lines_holds(lived):
    assert first_broken(lived) is None


def test_an_empty_log_holds(db):
    assert first_broken(db) is None


EDITS = {
    "the person": "UPDATE audit SET person_id = 99 WHERE id = 3",
    "the time": "UPDATE audit SET at = '2020-01-01 00:00:00.000000' WHERE id = 3",
    "the door": "UPDATE audit SET door = 'desk' WHERE id = 3",
    "the source": "UPDATE audit SET source = NULL WHERE id = 3",
    "the verb": "UPDATE audit SET verb = 'groups.delete' WHERE id = 3",
    "the facts": "UPDATE audit SET facts = '{\"added\": 1}' WHERE id = 3",
    "the hash": "UPDATE audit SET hash = 'ab' WHERE id = 3",
    "the changes' digest": "UPDATE audit SET changes_digest = NULL WHERE id = 3",
    "an old value": "UPDATE audit_changes SET before = '{\"x\": 1}' WHERE entry_id = 3",
    "a new value": "UPDATE audit_changes SET after = '{}' WHERE entry_id = 3",
    "whom a change is of": "UPDATE audit_changes SET subject_id = 77 WHERE entry_id = 3",
    "a change taken out": "DELETE FROM audit_changes WHERE entry_id = 3",
    "a change put in": f"{PUT_IN} (3, 1, 'case', 1, '{{}}', '{{}}', '{'ab' * 16}', '{'ab' * 32}')",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_line_is_found_in_which_somebody_edited(lived, edit):
    with tampering(lived) as other:
        assert other.execute(edit).rowcount == 1
    assert first_broken(lived) == 3


def test_a_log_is_checked_by_three_questions_for_a_thousand_lines(lived, statements):
    with statements(lived) as ran:
        assert first_broken(lived) is None
    assert sum("FROM audit" in statement for statement in ran) == 3


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_log_that_is_read_in_slices_is_checked_as_if_it_were_read_whole(lived, monkeypatch, size):
    monkeypatch.setattr(audit, "SLICE", size)
    assert first_broken(lived) is None
    with tampering(lived) as other:
        other.execute("UPDATE audit_changes SET after = '{}' WHERE entry_id = 5")
    assert first_broken(lived) == 5


def test_writers_are_let_in_between_the_slices_of_a_check(lived, monkeypatch):
    """A log of years keeps a STOP waiting no longer than a thousand lines take."""
    monkeypatch.setattr(audit, "SLICE", 2)
    wrote = []

    def read():
        if not wrote:
            with lived.transaction() as tx:
                wrote.append(audit.record(tx, "x", "case", by=TEST))
        return lived.reading()

    assert audit.verify(read).last.id == wrote[0]


DAMAGE = {
    "brackets without end": "UPDATE audit SET facts = replace(hex(zeroblob(50000)), '0', '[') WHERE id = 3",
    "no letters": "UPDATE audit SET verb = CAST(x'ff' AS TEXT) WHERE id = 3",
    "a hash of no letters": "UPDATE audit SET hash = CAST(x'ff' AS TEXT) WHERE id = 3",
    "facts of no letters": "UPDATE audit SET facts = CAST(x'7bff7d' AS TEXT) WHERE id = 3",
    "a hash that says unreadable": "UPDATE audit SET facts = x'00ff', hash = 'unreadable' WHERE id = 3",
}


@pytest.mark.only("sqlite")  # PostgreSQL keeps no text that is none
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_line_that_cannot_even_be_read_is_a_finding_and_no_fault(lived, damage):
    with tampering(lived) as other:
        other.execute(damage)
    assert (first_broken(lived), audit.verify(lived.reading).breach) == (3, "edited")
    with lived.reading() as tx:
        assert isinstance(tx.scalar(select(table.c.verb)), str)


def test_a_line_that_was_taken_out_of_the_middle_is_missed_by_the_next(lived):
    with tampering(lived) as other:
        other.execute("DELETE FROM audit WHERE id = 4")
    assert first_broken(lived) == 5


def test_two_lines_that_changed_places_are_found(lived):
    with tampering(lived) as other:
        for old, new in ((3, -3), (4, 3), (-3, 4)):
            other.execute("UPDATE audit SET id = ? WHERE id = ?", (new, old))
            other.execute("UPDATE audit_changes SET entry_id = ? WHERE entry_id = ?", (new, old))
    assert first_broken(lived) == 3


def test_a_line_that_was_put_between_two_is_found(lived):
    with tampering(lived) as other:
        for name in ("audit SET id = -id - 1", "audit_changes SET entry_id = -entry_id - 1"):
            column = "id" if name.startswith("audit ") else "entry_id"
            other.execute(f"UPDATE {name} WHERE {column} >= 4")
            other.execute(f"UPDATE {name.split()[0]} SET {column} = -{column} WHERE {column} < 0")
        other.execute("INSERT INTO audit SELECT 4, at, person_id, door, source, verb, subject, subject_id, facts, NULL, previous, 'forged' FROM audit WHERE id = 5")  # fmt: skip
    assert first_broken(lived) == 4


def test_a_line_rewritten_with_its_hash_made_anew_is_missed_by_the_next(lived):
    with lived.transaction() as tx:
        line = dict(tx.execute(select(table).where(table.c.id == 3)).mappings().one())
        line["door"] = "desk"
        line["hash"] = audit.hash_of(line)
        tx.execute(table.update().where(table.c.id == 3).values(door="desk", hash=line["hash"]))
    assert first_broken(lived) == 4


def verified(db, noted=None):
    return audit.verify(db.reading, noted)


def noted_head(db):
    with db.reading() as tx:
        return audit.head(tx)


def test_a_log_that_holds_says_how_many_lines_hold_and_which_is_the_last(lived):
    found, (number, whole) = verified(lived), noted_head(lived)
    assert (found.breach, found.broken, found.holds, found.last.id, found.last.hash) == (
        None,
        None,
        number,
        number,
        whole,
    )
    assert found.last.at == lived.clock()


def test_an_empty_log_has_no_head(db):
    assert noted_head(db) is None
    assert verified(db).holds == 0


def test_a_head_that_was_noted_is_found_again_by_its_first_twelve_digits_however_they_are_typed(lived):
    number, whole = noted_head(lived)
    for typed in (whole, whole[:12], whole[:12].upper(), f"{whole[:6]} {whole[6:12]}"):
        assert verified(lived, typed).noted.id == number


@pytest.mark.parametrize("typed", ["", "abc", "0" * 11, "g" * 12, "0" * 65])
def test_a_head_that_is_none_is_said_so(lived, typed):
    with pytest.raises(Problem, match="head-shape"):
        verified(lived, typed)


def test_later_lines_leave_an_earlier_head_where_it_is(lived):
    number, whole = noted_head(lived)
    World(lived).case("later")
    found = verified(lived, whole)
    assert (found.breach, found.noted.id, found.last.id) == (None, number, number + 1)


def remade(db, after=0):
    """Compute the chain anew from a line on, as somebody would who knows how it is made."""
    with db.transaction() as tx:
        lines = [dict(row) for row in tx.execute(select(table).order_by(table.c.id)).mappings()]
        previous = audit.FIRST
        for line in lines:
            if line["id"] > after:
                line["previous"] = previous
                line["hash"] = audit.hash_of(line)
                values = {"previous": line["previous"], "hash": line["hash"]}
                tx.execute(table.update().where(table.c.id == line["id"]).values(**values))
            previous = line["hash"]


def test_a_chain_that_was_made_anew_looks_whole_and_is_found_by_a_head_that_was_noted(lived):
    _, whole = noted_head(lived)
    with tampering(lived) as other:
        other.execute("UPDATE audit SET door = 'desk' WHERE id = 3")
    remade(lived)
    assert verified(lived).breach is None
    assert verified(lived, whole).breach == "cut"


def test_an_end_that_was_cut_off_looks_whole_and_is_found_by_a_head_that_was_noted(lived):
    number, whole = noted_head(lived)
    with tampering(lived) as other:
        other.execute("DELETE FROM audit_changes WHERE entry_id > ?", (number - 2,))
        other.execute("DELETE FROM audit WHERE id > ?", (number - 2,))
    found = verified(lived)
    assert (found.breach, found.last.id) == (None, number - 2)
    assert verified(lived, whole).breach == "cut"


def test_changes_that_stand_under_no_line_show_that_their_line_was_taken_out(lived):
    with tampering(lived) as other:
        number = other.execute("SELECT max(entry_id) FROM audit_changes").fetchone()[0]
        other.execute("DELETE FROM audit WHERE id >= ?", (number,))
    assert verified(lived).breach == "orphan"
    assert first_broken(lived) == number - 1


def test_holes_in_the_numbers_are_no_breach(lived):
    with tampering(lived) as other:
        number = other.execute("SELECT max(id) FROM audit").fetchone()[0]
        for name, column in (("audit", "id"), ("audit_changes", "entry_id")):
            other.execute(f"UPDATE {name} SET {column} = {column} + 100 WHERE {column} = ?", (number,))
    assert verified(lived).breach is None


KINDS = {
    "edited": ["UPDATE audit SET door = 'desk' WHERE id = 3"],
    "changes": ["UPDATE audit_changes SET after = '{}' WHERE entry_id = 3"],
    "missing": ["DELETE FROM audit WHERE id = 4", "DELETE FROM audit_changes WHERE entry_id = 4"],
    "order": [f"UPDATE {t} SET {c} = {new} WHERE {c} = {old}" for old, new in ((3, -3), (4, 3), (-3, 4)) for t, c in (("audit", "id"), ("audit_changes", "entry_id"))],
    "inserted": [
        *(f"UPDATE {t} SET {c} = -{c} - 1 WHERE {c} >= 4" for t, c in (("audit", "id"), ("audit_changes", "entry_id"))),
        *(f"UPDATE {t} SET {c} = -{c} WHERE {c} < 0" for t, c in (("audit", "id"), ("audit_changes", "entry_id"))),
        "INSERT INTO audit SELECT 4, at, person_id, door, source, verb, subject, subject_id, facts, NULL, previous, 'forged' FROM audit WHERE id = 5",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_done_is_told_as_far_as_it_shows(lived, kind):
    with tampering(lived) as other:
        for statement in KINDS[kind]:
            other.execute(statement)
    assert verified(lived).breach == kind


@pytest.fixture(scope="module", params=["of today", "of an older release"])
def written(empty_file, tmp_path_factory, request):
    """A log with lines of every shape, in which one case was forgotten, kept as a file that each example copies."""
    path = tmp_path_factory.mktemp("log") / "log.db"
    shutil.copy(empty_file, path)
    db = Database(f"sqlite:///{path}")
    world = World(db)
    members = [world.case(f"case {n}", f"23324412345{n}") for n in range(4)]
    world.group("anc", *members[:2])
    world.person("Esi", "233241110001")
    with db.transaction() as tx:
        consent.hear(tx, "233244123451", "stop", words="stop", message_id=None, by=TEST)
    world.change(members[0], name="Ama", status="closed")
    if request.param != "of today":
        migrate.downgrade(db, BEFORE_DIGESTS)
        migrate.upgrade(db)
        world.case("later")
    with db.transaction() as tx:
        tx.execute(text(f"{FORGET} subject = 'case' AND subject_id = {members[0]}"))
    db.close()
    return path


COLUMNS = [c.name for c in table.c if c.name != "id"]
CHANGE_COLUMNS = [c.name for c in audit_changes.c]
ANYTHING = st.one_of(
    st.none(), st.integers(-5, 2**40), st.text(max_size=12), st.binary(max_size=6),
    st.sampled_from(["{}", "[]", "null", "{", '{"a": NaN}', "2026-11-03 10:00:00.000001", "0" * 64, "desk", "case"]),
)  # fmt: skip


@st.composite
def touches(draw):
    """What somebody does to the file: (kind, where, what)."""
    kind = draw(
        st.sampled_from(["edit", "edit change", "take out", "take out change", "swap", "put in", "put in anew"])
    )
    return kind, draw(st.integers(0, 30)), draw(st.integers(0, 30)), draw(ANYTHING)


def meant(column, stored):
    """What a stored value says: the same JSON with other spaces is the same."""
    if column in ("facts", "before", "after"):
        with contextlib.suppress(ValueError, TypeError):
            return json.dumps(json.loads(stored), sort_keys=True)
    if column == "at":
        with contextlib.suppress(ValueError, TypeError):
            return datetime.fromisoformat(stored)
    return (type(stored), stored)


def touch(other, kind, one, two, value):
    """Do it; False where it could not be done or changes nothing."""
    ids = [row[0] for row in other.execute("SELECT id FROM audit ORDER BY id")]
    one_id, two_id = ids[one % len(ids)], ids[two % len(ids)]
    if kind in ("edit", "edit change"):
        name, key, names = ("audit", "id", COLUMNS) if kind == "edit" else ("audit_changes", "rowid", CHANGE_COLUMNS)
        column = names[two % len(names)]
        rows = [row[0] for row in other.execute(f"SELECT {key} FROM {name} ORDER BY 1")]
        row = rows[one % len(rows)]
        (before,) = other.execute(f"SELECT {column} FROM {name} WHERE {key} = ?", (row,)).fetchone()
        other.execute(f"UPDATE {name} SET {column} = ? WHERE {key} = ?", (value, row))
        (after,) = other.execute(f"SELECT {column} FROM {name} WHERE {key} = ?", (row,)).fetchone()
        return meant(column, before) != meant(column, after)
    if kind == "take out":
        other.execute("DELETE FROM audit_changes WHERE entry_id = ?", (one_id,))
        other.execute("DELETE FROM audit WHERE id = ?", (one_id,))
        return one_id != ids[-1]
    if kind == "take out change":
        return other.execute("DELETE FROM audit_changes WHERE entry_id = ?", (one_id,)).rowcount > 0
    if kind == "swap":
        for old, new in ((one_id, -1), (two_id, one_id), (-1, two_id)):
            other.execute("UPDATE audit SET id = ? WHERE id = ?", (new, old))
            other.execute("UPDATE audit_changes SET entry_id = ? WHERE entry_id = ?", (new, old))
        return one_id != two_id
    for name, column in (("audit", "id"), ("audit_changes", "entry_id")):
        other.execute(f"UPDATE {name} SET {column} = -{column} - 1 WHERE {column} >= ?", (one_id,))
        other.execute(f"UPDATE {name} SET {column} = -{column} WHERE {column} < 0")
    line = {"at": datetime(2026, 11, 3, tzinfo=UTC), "person_id": None, "door": "cli", "source": None, "verb": "x", "subject": "case", "subject_id": 1, "facts": {}, "changes_digest": None}  # fmt: skip
    (line["previous"],) = other.execute("SELECT previous FROM audit WHERE id = ?", (one_id + 1,)).fetchone()
    made = audit.hash_of(line) if kind == "put in anew" else "ab" * 32
    stored = [one_id, "2026-11-03 00:00:00.000000", *list(line.values())[1:7], "{}", None, line["previous"], made]
    other.execute(f"INSERT INTO audit VALUES ({', '.join('?' * len(stored))})", stored)
    return True


@given(touches())
@settings(max_examples=250, deadline=None)
@example(("take out", 0, 0, None))
@example(("swap", 0, 1, None))
@example(("put in anew", 0, 0, None))
def test_whatever_is_done_to_one_line_or_what_stands_under_it_is_found(written, what):
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "log.db"
        shutil.copy(written, path)
        other = sqlite3.connect(path)
        try:
            changed = touch(other, *what)
        except (sqlite3.IntegrityError, sqlite3.OperationalError, OverflowError):
            changed = False
            other.rollback()
        other.commit()
        other.close()
        db = Database(f"sqlite:///{path}")
        try:
            is_last_taken = what[0] == "take out" and not changed
            assert (verified(db).breach is not None) == changed or is_last_taken
        finally:
            db.close()


@given(st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_however_much_of_the_end_was_cut_off_a_noted_head_finds_it(written, count):
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "log.db"
        shutil.copy(written, path)
        db = Database(f"sqlite:///{path}")
        _, whole = noted_head(db)
        db.close()
        other = sqlite3.connect(path)
        last = [row[0] for row in other.execute("SELECT id FROM audit ORDER BY id DESC LIMIT ?", (count,))][-1]
        for name, column in (("audit_changes", "entry_id"), ("audit", "id")):
            other.execute(f"DELETE FROM {name} WHERE {column} >= ?", (last,))
        other.commit()
        other.close()
        db = Database(f"sqlite:///{path}")
        try:
            assert verified(db, whole[:12]).breach == "cut"
        finally:
            db.close()


def test_nothing_personal_stands_in_the_chain_so_that_erasing_never_breaks_it(lived):
    with lived.reading() as tx:
        chain = json.dumps([dict(row) for row in tx.execute(select(table)).mappings()], default=str).casefold()
        personal = [text for row in tx.execute(select(cases.c.name, cases.c.external_id, cases.c.contact_phone_number, cases.c.case_id)) for text in row]  # fmt: skip
        personal += [text for row in tx.execute(select(people_table.c.name, people_table.c.phone)) for text in row]
        kept = json.dumps([dict(row) for row in tx.execute(select(audit_changes)).mappings()]).casefold()
    words = {word for text in personal for word in text.casefold().split()}
    assert {"ama", "boateng", "233241234567", "mensah", "233241110002"} <= words
    assert [word for word in words if word in chain] == []
    assert "233241234567" in kept  # what was changed is kept beside the chain, where it can be erased


def test_the_order_of_keys_in_a_line_does_not_matter_and_their_values_do():
    assert digests.digest_of([{"a": 1, "b": "ä"}]) == digests.digest_of([{"b": "ä", "a": 1}])
    assert digests.digest_of([{"a": 1}]) != digests.digest_of([{"a": 2}])
    assert digests.digest_of([{"a": 1}, {"b": 1}]) != digests.digest_of([{"b": 1}, {"a": 1}])


def test_a_value_that_no_line_can_hold_is_a_bug_and_is_told_at_once(db):
    with db.transaction() as tx, pytest.raises(TypeError, match="cannot stand in an audit line"):
        audit.record(tx, "x", "case", changes=[Change("case", 1, {}, {"who": object()})], by=TEST)


# -- of a log of years, its newest lines ---------------------------------------------------------------------------------


def test_the_newest_lines_are_verified_without_those_before(lived):
    whole = audit.verify(lived.reading)
    newest = audit.verify_newest(lived.reading, lines=3)
    assert (newest.holds, newest.breach, newest.last) == (3, None, whole.last)
    assert newest.after == whole.last.id - 3
    assert audit.verify_newest(lived.reading) == whole, "a log that is shorter is verified whole"


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE audit SET door = 'desk' WHERE id = (SELECT max(id) - 1 FROM audit)",
        "UPDATE audit SET previous = 'ab' WHERE id = (SELECT max(id) - 2 FROM audit)",
        "DELETE FROM audit WHERE id = (SELECT max(id) - 1 FROM audit)",
        f"{PUT_IN} ((SELECT max(id) FROM audit), 9, 'case', 1, '{{}}', '{{}}', NULL, '{'ab' * 32}')",
        f"{PUT_IN} ((SELECT max(id) + 1 FROM audit), 9, 'case', 1, '{{}}', '{{}}', NULL, '{'ab' * 32}')",
    ],
)
def test_a_touch_at_the_end_of_a_long_log_is_seen_at_once(lived, edit):
    with tampering(lived) as other:
        assert other.execute(edit).rowcount == 1
    assert audit.verify_newest(lived.reading, lines=3).breach is not None


def test_what_was_not_read_is_said_and_not_vouched_for(lived):
    """One sheet may have written a hundred thousand changes: of the newest few only."""
    with lived.reading() as tx:
        lines = [
            row.entry_id for row in tx.execute(select(audit_changes.c.entry_id).order_by(audit_changes.c.entry_id))
        ]
    with tampering(lived) as other:
        other.execute("UPDATE audit_changes SET after = '{}' WHERE entry_id = ?", (lines[0],))
    found = audit.verify_newest(lived.reading, changes=2)
    assert (found.breach, found.unread) == (None, lines[-3])
    assert audit.verify_newest(lived.reading).broken.id == lines[0]


def test_the_newest_lines_of_an_empty_log_hold(db):
    assert audit.verify_newest(db.reading) == audit.verify(db.reading)
