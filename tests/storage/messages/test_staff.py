"""Who of the staff may be texted now: asked of the database each time, in one query for however many."""

from dataclasses import replace

import pytest

from storage.contacts import consent, people
from storage.messages import lookups, outbox, staff
from tests.world import TEST


def hear(tx, person, kind):
    consent.hear(tx, person.phone, kind, words=kind, message_id=None, by=TEST)


@pytest.fixture
def three(world):
    return [world.person(name, f"23324111000{n}") for n, name in enumerate(("Esi", "Ato", "Efua"), 1)]


@pytest.mark.parametrize("kind", ["stop", "doubt"])
def test_whoever_said_stop_or_may_have_is_out_of_reach_until_a_start(db, three, kind):
    esi, ato, efua = three
    with db.transaction() as tx:
        hear(tx, ato, kind)
        assert [p.name for p in staff.reachable(tx, [efua.id, ato.id, None, esi.id])] == ["Esi", "Efua"]
        assert [p.name for p in staff.reachable_leads(tx)] == ["Esi", "Efua"]
        hear(tx, ato, "start")
        assert [p.name for p in staff.reachable_leads(tx, but=esi.id)] == ["Ato", "Efua"]


def test_whoever_left_is_out_of_reach_and_a_supervisor_is_no_lead(db, world, three):
    ato = three[1]
    kojo = world.person("Kojo", "233241110009", "supervisor")
    with db.transaction() as tx:
        people.remove(tx, ato, by=TEST)
        assert [p.name for p in staff.reachable_leads(tx)] == ["Esi", "Efua"]
        assert [p.name for p in staff.reachable(tx, [ato.id, kojo.id])] == ["Kojo"]
        assert staff.reachable(tx, [None]) == []


def test_each_has_their_own_language_or_the_programme_s(db, world):
    world.person("Esi", "233241110001")
    world.person("Luz", "233241110002", language="es-MX")
    db.rules = replace(db.rules, language="sw")
    with db.reading() as tx:
        assert [p.language for p in staff.reachable_leads(tx)] == ["sw", "es-MX"]


def test_a_notice_carries_whom_it_is_for_and_what_it_comes_from(db, three):
    with db.transaction() as tx:
        came = outbox.queue(tx, "233244000101", "Hello", "text")
        number = staff.queue(tx, staff.reachable_leads(tx)[0], "A reply", reply_to=came)
        row = lookups.message(tx, number)
    assert (row.kind, row.phone, row.person_id, row.reply_to) == ("notice", three[0].phone, three[0].id, came)


def test_however_many_are_asked_for_it_is_one_query(db, three, statements):
    with db.transaction() as tx, statements(db) as ran:
        assert len(staff.reachable(tx, [person.id for person in three])) == 3
        assert len(staff.reachable_leads(tx)) == 3
    assert len(ran) == 2
