"""A person is forgotten, and the audit log still shows every other touch: in lines of today and of an older release."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from sqlalchemy import func, select, text

from storage import audit
from storage.audit import Change
from storage.contacts import cases
from storage.contacts.cases import Wanted
from storage.schema import audit as table
from storage.schema import audit_changes
from storage.upkeep import migrate
from tests.storage.tampering import BEFORE_DIGESTS, FORGET, PUT_IN, tampering
from tests.world import TEST, World

AMA = 3
"""The place in the sheet, and so under the line, of the one who is forgotten."""


class Log:
    """A sheet of ten cases under one line, what was changed of some since, and which line vouches for what is forgotten."""

    def __init__(self, world: World, *, is_older: bool) -> None:
        self.db, self.is_older = world.db, is_older
        world.group("anc")
        wanted = [Wanted(None, {"external_id": f"case {n}", "name": f"Name {n}", "status": "open"}) for n in range(10)]
        with self.db.transaction() as tx:
            self.cases = cases.save(tx, wanted, by=TEST)
            self.sheet = self.head(tx).id
        world.change(self.cases[AMA], name="Ama")
        self.second = self.ask(func.max(table.c.id))
        world.change(self.cases[AMA + 1], name="Neighbour")
        if is_older:
            migrate.downgrade(self.db, BEFORE_DIGESTS)
            self.heads = self.hashes()
            migrate.upgrade(self.db)
        else:
            self.heads = self.hashes()
        self.vouches = self.ask(func.max(table.c.id))

    def head(self, tx: Any) -> audit.Head:
        last = audit.head(tx)
        assert last is not None
        return last

    def ask(self, what: Any) -> Any:
        with self.db.reading() as tx:
            return tx.scalar(select(what))

    def hashes(self) -> list[str]:
        with self.db.reading() as tx:
            return list(tx.execute(select(table.c.hash).order_by(table.c.id)).scalars())

    def run(self, statement: str, *values: Any) -> int:
        with tampering(self.db) as other:
            return int(other.execute(statement, values).rowcount)

    def forget(self, *places: int) -> None:
        for place in places:
            assert self.run(f"{FORGET} subject = 'case' AND subject_id = ?", self.cases[place])

    def found(self) -> audit.Finding:
        return audit.verify(self.db.reading)

    def breach(self) -> tuple[str | None, int | None]:
        found = self.found()
        return found.breach, found.broken.id if found.broken else None

    def at(self, place: int) -> str:
        return f"entry_id = {self.sheet} AND position = {place}"


@pytest.fixture(params=["of today", "of an older release"])
def log(world, request):
    return Log(world, is_older=request.param != "of today")


def test_one_is_forgotten_among_many_and_every_line_holds(log):
    whole = log.found()
    log.forget(AMA)
    found = log.found()
    assert (found.breach, found.holds, found.last, found.forgotten) == (None, whole.holds, whole.last, 2)
    assert audit.verify_newest(log.db.reading) == found
    with log.db.reading() as tx:
        kept = [dict(row) for row in tx.execute(select(audit_changes)).mappings()]
    assert "Name 4" in str(kept)
    assert "Name 3" not in str(kept)
    assert "Ama" not in str(kept)


def test_all_are_forgotten_one_after_the_other(log):
    for place in range(10):
        log.forget(place)
        assert log.found().breach is None
    assert log.found().forgotten == 12


def test_each_head_that_was_noted_is_found_after_somebody_was_forgotten(log):
    log.forget(AMA)
    for noted in log.heads:
        assert audit.verify(log.db.reading, noted).noted.hash == noted


EDITS = {
    "the value before": 'before = \'{"name": "Kofi"}\'',
    "the value after": "after = '{}'",
    "the salt": f"salt = '{'ab' * 16}'",
    "the salt's length": "salt = ''",
    "no salt": "salt = NULL",
    "the digest": f"digest = '{'ab' * 32}'",
    "no digest": "digest = ''",
    "its place": "position = 77",
    "of what it is": "subject = 'group'",
    "whom it is of": "subject_id = 77",
    "its line": "entry_id = 1",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_beside_one_who_was_forgotten_an_edit_of_a_neighbour_shows_at_its_line(log, edit):
    log.forget(AMA)
    assert log.run(f"UPDATE audit_changes SET {edit} WHERE {log.at(AMA + 1)}") == 1
    assert log.breach() == ("changes", 1 if "entry_id" in edit else log.sheet)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_before_anybody_was_forgotten_an_edit_shows_at_its_line(log, edit):
    assert log.run(f"UPDATE audit_changes SET {edit} WHERE {log.at(AMA)}") == 1
    assert log.breach() == ("changes", 1 if "entry_id" in edit else log.sheet)


@pytest.mark.parametrize("edit", [edit for name, edit in EDITS.items() if name != "no salt"])
def test_of_one_who_was_forgotten_nothing_else_can_be_edited(log, edit):
    """Also whom the change is of: else a deed could be pushed on to somebody under the cover of forgetting."""
    log.forget(AMA)
    assert log.run(f"UPDATE audit_changes SET {edit} WHERE {log.at(AMA)}") == 1
    assert log.breach()[0] == "changes"


@pytest.mark.parametrize("gone", [g for n in (1, 2) for g in itertools.combinations(("before", "after", "salt"), n)])
def test_who_is_forgotten_by_half_is_a_breach(log, gone):
    log.run(f"UPDATE audit_changes SET {', '.join(f'{name} = NULL' for name in gone)} WHERE {log.at(AMA)}")
    assert log.breach() == ("changes", log.sheet)


def test_a_null_of_json_is_a_value_and_no_forgetting(log):
    log.run(f"UPDATE audit_changes SET before = 'null', after = 'null', salt = NULL WHERE {log.at(AMA)}")
    assert log.breach() == ("changes", log.sheet)


@pytest.mark.parametrize("places", [(), (AMA,), (AMA, AMA + 1)], ids=["neither", "one", "both"])
@pytest.mark.parametrize("names", [("digest",), ("salt", "digest")], ids=" and ".join)
def test_two_changes_that_swap_their_digests_show(log, places, names):
    log.forget(*places)
    with log.db.transaction() as tx:
        one, other = (
            tx.execute(text(f"SELECT salt, digest FROM audit_changes WHERE {log.at(n)}")).mappings().one()
            for n in (AMA, AMA + 1)
        )
        for place, values in ((AMA, other), (AMA + 1, one)):
            for name in names:
                tx.execute(text(f"UPDATE audit_changes SET {name} = :v WHERE {log.at(place)}"), {"v": values[name]})
    assert log.breach()[0] == "changes"


@pytest.mark.parametrize("place", [AMA, AMA + 1], ids=["the forgotten one", "a neighbour"])
def test_a_change_that_was_taken_out_shows(log, place):
    log.forget(AMA)
    assert log.run(f"DELETE FROM audit_changes WHERE {log.at(place)}") == 1
    assert log.breach()[0] == "changes"


@pytest.mark.parametrize("under", ["the sheet", "a line without changes"])
def test_a_change_that_was_put_in_as_a_forgotten_one_shows(log, under):
    log.forget(AMA)
    line = log.sheet if under == "the sheet" else 1
    log.run(f"{PUT_IN} ({line}, 10, 'case', 1, NULL, NULL, NULL, '{'ab' * 32}')")
    assert log.breach()[0] == "changes"


def test_who_is_forgotten_in_the_wrong_place_of_two_lines_shows(log):
    """A forgotten change of one line cannot stand in for the one of another."""
    log.forget(AMA)
    for column in ("digest", "subject_id"):
        log.run(
            f"UPDATE audit_changes SET {column} = (SELECT {column} FROM audit_changes WHERE {log.at(AMA + 2)})"
            f" WHERE entry_id = {log.second}"
        )
    assert log.breach()[0] == "changes"


def test_the_same_change_twice_has_two_digests_so_that_nobody_guesses_a_value(db):
    """A phone number is guessed in minutes where its digest has no salt."""
    with db.transaction() as tx:
        for _ in range(2):
            audit.record(tx, "x", "case", changes=[Change("case", 1, {}, {"phone": "233241234567"})] * 2, by=TEST)
        rows = tx.execute(select(audit_changes.c.salt, audit_changes.c.digest)).all()
    assert len({row.salt for row in rows}) == len({row.digest for row in rows}) == 4


@pytest.mark.parametrize("log", ["of an older release"], indirect=True)
def test_without_the_line_that_vouches_nothing_of_an_older_line_is_forgotten(log):
    log.forget(AMA)
    log.run("DELETE FROM audit WHERE id = ?", log.vouches)
    found = log.found()
    assert (found.breach, found.broken.id, found.holds) == ("changes", log.sheet, log.sheet - 1)


def test_a_line_at_the_end_that_says_it_vouches_covers_no_edit_of_what_was_there_before(log):
    """Whoever can add a line as the program does must not rewrite what stood before a head that somebody noted."""
    log.forget(AMA)
    log.run(f"UPDATE audit_changes SET digest = '{'ab' * 32}' WHERE {log.at(AMA)}")
    walk = audit._Walk()
    for line, entry, beneath in audit._lines(log.db.reading):
        walk._fits(line, entry | {"changes_digest": "ab" * 32 if beneath else None}, beneath)
    facts = {"through": log.vouches, "head": log.heads[-1], "changes": 12, "digest": walk._total.hexdigest()}
    with log.db.transaction() as tx:
        audit.record(tx, audit.REDIGESTED, "audit", facts=facts, by=TEST)
    assert log.breach() == ("changes", log.vouches if log.is_older else log.sheet)


def test_the_newest_lines_are_verified_although_the_line_that_vouches_is_of_all_before(log):
    log.forget(AMA)
    World(log.db).case("new", name="New")
    found = audit.verify_newest(log.db.reading, lines=3, changes=1)
    assert (found.breach, found.holds) == (None, 3)
    found = audit.verify_newest(log.db.reading, changes=2)
    assert (found.breach, found.unread is not None) == (None, True)


@pytest.mark.parametrize("size", [1, 3])
def test_what_was_forgotten_is_found_in_slices_as_in_the_whole(log, monkeypatch, size):
    log.forget(AMA)
    whole = log.found()
    monkeypatch.setattr(audit, "SLICE", size)
    assert log.found() == whole
    log.run(f"UPDATE audit_changes SET subject_id = 77 WHERE {log.at(AMA)}")
    assert log.breach() == ("changes", log.vouches if log.is_older else log.sheet)
