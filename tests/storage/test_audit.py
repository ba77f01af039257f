"""Who did what: one line for each act, a chain that shows every touch, and nothing personal in it."""

import contextlib
import json
import sqlite3

import pytest
from sqlalchemy import select

from storage import audit
from storage.audit import Change
from storage.schema import audit as table
from storage.schema import audit_changes, cases
from storage.schema import people as people_table
from tests.world import TEST


def first_broken(db):
    with db.reading() as tx:
        return audit.first_broken(tx)


@contextlib.contextmanager
def tampering(db):
    """Another program has the file open and is under none of our rules."""
    db.close()
    other = sqlite3.connect(db.file)
    yield other
    other.commit()
    other.close()


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
    "a change put in": "INSERT INTO audit_changes VALUES (3, 1, 'case', 1, '{}', '{}')",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_line_is_found_in_which_somebody_edited(lived, edit):
    with tampering(lived) as other:
        assert other.execute(edit).rowcount == 1
    assert first_broken(lived) == 3


def test_a_log_is_checked_by_one_question_however_long_it_is(lived, statements):
    with statements(lived) as ran:
        assert first_broken(lived) is None
    assert sum("FROM audit" in statement for statement in ran) == 1


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
    assert audit.digest_of([{"a": 1, "b": "ä"}]) == audit.digest_of([{"b": "ä", "a": 1}])
    assert audit.digest_of([{"a": 1}]) != audit.digest_of([{"a": 2}])
    assert audit.digest_of([{"a": 1}, {"b": 1}]) != audit.digest_of([{"b": 1}, {"a": 1}])


def test_a_value_that_no_line_can_hold_is_a_bug_and_is_told_at_once(db):
    with db.transaction() as tx, pytest.raises(TypeError, match="cannot stand in an audit line"):
        audit.record(tx, "x", "case", changes=[Change("case", 1, {}, {"who": object()})], by=TEST)
