"""Who a text is from: one question finds what four would."""

from storage.contacts import consent, lookup, people
from storage.conversations import conversations, sender_lookup
from storage.messages import outbox
from storage.messages.openings import Turn
from storage.operations import operations
from tests.world import TEST

AMA, KOFI, LENA, NOBODY = "233241234567", "233209876543", "233244000101", "15551234567"


def asked(world, case, phone):
    with world.db.transaction() as tx:
        operation = operations.note(tx, "invite", words="", undoes=None, by=TEST)
        text = outbox.queue(tx, phone, "Is this your phone?", "reply")
        conversations.begin(tx, phone, "invite", case_id=case, operation_id=operation, message_id=text)
        conversations.open_by(tx, [Turn(text, conversations.live_on(tx, phone)[-1].id)])


def test_one_question_finds_what_is_found_one_by_one(world, clock, statements):
    first, second = world.case("ama", AMA, verified=False), world.case("yaa", AMA)
    kofi = world.case("kofi", KOFI)
    world.case("lena", LENA)
    world.person("Lena", LENA)
    asked(world, first, AMA)
    asked(world, kofi, KOFI)
    with world.db.transaction() as tx:
        for phone, kinds in ((AMA, ("stop", "start")), (LENA, ("stop",)), (NOBODY, ("doubt",))):
            for kind in kinds:
                consent.hear(tx, phone, kind, words=kind, message_id=None, by=TEST)
    for _ in range(2):
        with world.db.reading() as tx:
            for phone in (AMA, KOFI, LENA, NOBODY):
                found, case = sender_lookup.caller(tx, phone), lookup.by_phone(tx, phone)
                assert found.person == people.by_phone(tx, phone)
                assert (found.case.id if found.case else None) == (case.id if case else None)
                assert found.said_last == consent.newest(tx, phone)
                assert found.conversation == conversations.open_on(tx, phone)
            owner = sender_lookup.caller(tx, AMA).case
            assert owner.id == second and owner.two_way and owner.properties == {}
            assert sender_lookup.caller(tx, NOBODY).case is None
        clock.advance(days=8)  # the questions ran out
    with statements(world.db) as ran, world.db.reading() as tx:
        sender_lookup.caller(tx, KOFI)
    assert len([one for one in ran if one.startswith("SELECT")]) == 1
