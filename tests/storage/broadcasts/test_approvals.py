"""How a broadcast goes at a door where people have signed in: what was shown is what goes, and once."""

from dataclasses import replace
from datetime import datetime, time

import pytest

from storage import schema
from storage.audit import Actor
from storage.broadcasts import approvals, broadcasts, content, previews, progress
from storage.contacts import consent, groups, people
from storage.errors import Problem
from storage.messages import lookups
from storage.operations import confirmations, operations
from storage.rules.quiet_hours import Hours
from tests.storage.broadcasts.sending import expand
from tests.world import TEST


@pytest.fixture
def esi(world):
    return world.person("Esi", "233241110001")


@pytest.fixture
def by(esi):
    return Actor("desk", esi.id, "03_broadcasts")


@pytest.fixture
def anc(world):
    return world.group("anc", *(world.case(f"p-{n}", f"23324412345{n}") for n in range(1, 4)))


@pytest.fixture
def ask(db, by, anc):
    def asked(text="Clinic closed", *, by=by, **more):
        with db.transaction() as tx:
            return approvals.ask(tx, {"en": text}, **({"group_ids": [anc]} | more), by=by)

    return asked


@pytest.fixture
def ok(db, by):
    def confirmed(number, count=3, *, by=by, **more):
        with db.transaction() as tx:
            return approvals.confirm(tx, number, count=count, by=by, **more)

    return confirmed


def state(db, number):
    with db.reading() as tx:
        return operations.operation(tx, number).state, content.broadcast(tx, number).state


def refused(key, act, *args, **more):
    with pytest.raises(Problem, match=f"^{key}") as told:
        act(*args, **more)
    return told.value


def test_what_is_confirmed_goes_once_however_often_it_is_asked(db, world, ask, ok, clock):
    number = ask()
    assert [ok(number), ok(number), ok(number)] == ["going"] * 3
    clock.advance(minutes=2)
    expand(world)
    with db.reading() as tx:
        assert len(lookups.list_all(tx)) == 3
    assert state(db, number) == ("done", "sending")


def test_two_pages_with_the_same_wish_have_one_broadcast(db, ask, ok, clock):
    number = ask()
    assert ask() == number, "it waits, so the second page looks at the same"
    assert ask("Other words") != number
    ok(number)
    assert refused("broadcast-twice", ask).values["number"] == number
    clock.advance(minutes=11)
    assert ask() != number, "after ten minutes it is a wish of its own"


def test_after_a_halt_the_same_words_are_a_new_wish(db, ask, ok, by):
    number = ask()
    ok(number)
    with db.transaction() as tx:
        broadcasts.halt(tx, number, by=by)
    assert ask() != number
    refused("broadcast-decided", ok, number)


def test_the_number_of_people_is_typed(db, ask, ok):
    number = ask()
    assert refused("count-otherwise", ok, number, 4).values["count"] == 3
    assert state(db, number) == ("waiting", "previewed")


def test_somebody_who_would_get_it_now_and_was_not_shown_so_is_looked_at_first(db, world, ask, ok, clock):
    number = ask()
    with db.reading() as tx:
        case = groups.members(tx, groups.group(tx, "anc").id)[0].id
    clock.advance(seconds=1)
    world.change(case, contact_phone_number="233244123499")
    refused("broadcast-changed", ok, number)
    assert ask() == number, "looking again freezes those of now"
    assert ok(number) == "going"


def test_words_to_look_at_are_looked_at(ask, ok):
    number = ask("Your HIV result is here")
    assert refused("look-twice", ok, number).values["words"] == "HIV"
    assert ok(number, looked=True) == "going"


def test_a_large_one_has_another_lead(db, world, ask, ok, esi):
    db.rules = replace(db.rules, second_person_above=2)
    number = ask()
    refused("broadcast-no-other-lead", ok, number)
    ato = world.person("Ato", "233241110002")
    efo = world.person("Efo", "233241110003", "supervisor", "anc")
    assert [ok(number), ok(number)] == ["seconding", "seconding"], "the first one's second ok is no second person's"
    assert state(db, number) == ("seconding", "previewed")
    refused("second-person", ok, number, by=Actor("desk", efo.id, "x"))
    refused("second-person", ok, number, by=Actor("desk", None, "x"))
    refused("broadcast-twice", ask)
    assert ok(number, by=Actor("desk", ato.id, "03_broadcasts")) == "going"
    assert state(db, number) == ("done", "held")


def test_what_waits_for_a_second_lead_is_unasked_until_one_was_texted(db, world, ask, ok, esi, clock):
    """A page sends nothing, so the worker has to find it; each time that it waits is a question of its own."""
    db.rules = replace(db.rules, second_person_above=2)
    ato = world.person("Ato", "233241110002")

    def unasked():
        with db.reading() as tx:
            return approvals.unasked(tx)

    number = ask(send_at=datetime.fromisoformat("2026-11-03T12:00"))
    assert unasked() == []
    ok(number)
    assert unasked() == [number]
    with db.transaction() as tx:
        operations.issue_code(tx, number, esi.id)
    assert unasked() == [number], "a code of the asker is no question to another"
    with db.transaction() as tx:
        operations.issue_code(tx, number, ato.id)
    assert unasked() == []
    ok(number, by=Actor("desk", ato.id, "03_broadcasts"))
    clock.advance(hours=3)
    with db.transaction() as tx:
        assert approvals.begin(tx, number, by=TEST), "two said ok to it, and nobody came in since"


def test_one_with_an_hour_waits_again_if_it_outgrew_its_one_ok(db, world, ask, ok, anc, clock):
    db.rules = replace(db.rules, second_person_above=3)
    world.person("Ato", "233241110002")
    number = ask(send_at=datetime.fromisoformat("2026-11-03T12:00"))
    assert ok(number) == "going"
    clock.advance(hours=1)
    late = world.case("p-9", "233244123459")
    with db.transaction() as tx:
        groups.add(tx, anc, [late], by=TEST)
    clock.advance(hours=2)
    with db.transaction() as tx:
        assert not approvals.begin(tx, number, by=TEST)
        assert approvals.unasked(tx) == [number]
    assert state(db, number) == ("seconding", "previewed")


def test_who_said_ok_on_a_page_is_kept_and_read_by_whoever_asks_for_the_second(db, world, ask, ok, esi, clock):
    """The log is not asked: a line of it that is gone makes nobody's second ok."""
    db.rules = replace(db.rules, second_person_above=2)
    ato = world.person("Ato", "233241110002")
    number = ask(send_at=datetime.fromisoformat("2026-11-03T12:00"))
    assert ok(number) == ok(number) == "seconding"
    assert ok(number, by=Actor("desk", ato.id, "03_broadcasts")) == "going"
    with db.transaction() as tx:
        given = confirmations.of(tx, number)
        assert [(row.place, row.person_id, row.door) for row in given] == [(1, esi.id, "desk"), (2, ato.id, "desk")]
        tx.execute(schema.approvals.delete().where(schema.approvals.c.place == 2))
    clock.advance(hours=3)
    with db.transaction() as tx:
        assert not approvals.begin(tx, number, by=TEST), "it has one ok, whatever the log tells"


def test_what_waited_too_long_or_is_somebody_elses_goes_no_more(db, world, ask, ok, clock, anc):
    number = ask()
    ato = world.person("Ato", "233241110002")
    refused("broadcast-unknown", ok, number, by=Actor("desk", ato.id, "x"))
    with db.transaction() as tx:
        by_phone = previews.draft(tx, {"en": "By phone"}, group_ids=[anc], by=Actor("sms", ato.id, "message 1"))
    refused("broadcast-unknown", ok, by_phone, by=Actor("desk", ato.id, "x"))
    clock.advance(minutes=16)
    refused("broadcast-decided", ok, number)


def test_what_was_looked_at_and_not_wanted_is_put_away(db, ask, by, ok):
    number, other = ask(), ask("More")
    ok(other)
    with db.transaction() as tx:
        approvals.drop(tx, number, by=by)
        approvals.drop(tx, other, by=by)
    assert state(db, number) == ("dropped", "dropped")
    assert state(db, other) == ("done", "held"), "what goes is not put away"
    refused("broadcast-decided", ok, number)


def test_a_time_is_in_the_hours_of_texting_and_still_to_come(db, world, ask, ok, clock):
    db.rules = replace(db.rules, hours=Hours(time(9), time(20)))
    refused("time-quiet", ask, send_at=datetime.fromisoformat("2026-11-03T22:00"))
    number = ask(send_at=datetime.fromisoformat("2026-11-03T10:05"))
    clock.advance(minutes=10)
    refused("time-past", ok, number)


def test_single_people_are_texted_so_often_and_no_more(db, world, ask, ok):
    case = world.case("p-9", "233244123459")
    for n in range(approvals.SINGLE_TEXTS_AN_HOUR):
        ok(ask(f"Come {n}", group_ids=[], case_ids=[case]), 1)
    refused("tell-too-many", ok, ask("Once more", group_ids=[], case_ids=[case]), 1)


def test_one_tries_it_on_the_own_phone_first_unless_that_said_stop(db, esi, by):
    with db.transaction() as tx:
        approvals.try_on(tx, people.by_id(tx, esi.id), "Clinic closed", by=by)
        (row,) = lookups.list_all(tx)
        assert (row.phone, row.body, row.kind, row.person_id) == (esi.phone, "Clinic closed", "notice", esi.id)
        consent.hear(tx, esi.phone, "stop", words="STOP", message_id=None, by=TEST)
        with pytest.raises(Problem, match="try-stopped"):
            approvals.try_on(tx, people.by_id(tx, esi.id), "Clinic closed", by=by)


def test_tries_have_an_end(db, esi, by):
    with db.transaction() as tx:
        for _ in range(approvals.TRIES_AN_HOUR):
            approvals.try_on(tx, people.by_id(tx, esi.id), "x", by=by)
        with pytest.raises(Problem, match="try-too-many"):
            approvals.try_on(tx, people.by_id(tx, esi.id), "x", by=by)


def test_the_dearest_rendering_of_a_language_and_those_left_out_are_told(db, world, by):
    long = world.case("p-5", "233244123455", name="Ọlá" + "x" * 70, language_code="en")
    nobody = world.case("p-6", language_code="sw")
    group = world.group("mix", long, nobody, world.case("p-7", "233244123457", language_code="sw"))
    with db.transaction() as tx:
        number = approvals.ask(tx, {"en": "Dear {name}", "sw": "Habari"}, group_ids=[group], by=by)
        english, swahili = previews.dearest(tx, number, "en"), previews.dearest(tx, number, "sw")
        assert (english.parts, english.forced_by, swahili.parts, swahili.forced_by) == (2, "Ọ", 1, None)
        assert [(row.case_id, row.reason) for row in progress.list_skipped(tx, number, 9)] == [(nobody, "no-number")]
