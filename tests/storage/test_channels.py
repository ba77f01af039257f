"""Another channel is another row of the table: here one goes by pigeon, to the loft of a case, and is of the tests alone.

It stands for whatever does not go by phone: its address is another column of a case, its texts cost by the line, it flies at
night, and its consent is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError

from storage import schema
from storage.audit import Actor
from storage.broadcasts import content, expansion, previews
from storage.contacts import consent
from storage.database import Database
from storage.errors import Problem
from storage.messages import gate, history, inbox, lookups, outbox, receipts, reconciliation
from storage.messages.outbox import Settled
from storage.programme import routing
from storage.rules import segments
from storage.rules.channels import CHANNELS, SMS, Channel
from storage.rules.hours_and_limits import Rules
from storage.rules.quiet_hours import Hours
from storage.schema import broadcast_texts, messages
from storage.sheets import exports
from storage.upkeep import migrate
from tests.storage.broadcasts.sending import draft, expand, launch
from tests.storage.messages.sending import GATEWAY, claim, look
from tests.world import TEST, World

LOFT, PHONE, OTHER = "Loft 7, Accra", "233241234567", "233209876543"
FLIGHT = "flight"
"""The gateway by which pigeons go."""


@dataclass(frozen=True)
class Lines:
    parts: int
    forced_by: str | None = None


PIGEON = Channel(
    name="pigeon",
    of_case="commcare_email_address",
    key_of_case="commcare_email_address",
    by_phone=False,
    is_address=lambda address: address.startswith("Loft"),
    compared=lambda address: " ".join(address.split()),
    limit=40,
    count=lambda words: Lines(1 + words.count("\n")),
    counted_as="lines",
    needs_consent=True,
    keeps_quiet_hours=False,
    no_address="no-number",
    default_gateway=lambda _rules: FLIGHT,
)


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, default_gateway=GATEWAY,
        gateways=frozenset({GATEWAY, FLIGHT}), routes=(("2332", GATEWAY),),
    )  # fmt: skip


@pytest.fixture
def pigeon(monkeypatch: pytest.MonkeyPatch) -> Channel:
    monkeypatch.setitem(CHANNELS, PIGEON.name, PIGEON)
    return PIGEON


def queue(db: Database, address: str = LOFT, body: str = "Come home", kind: str = "text", **more: Any) -> int:
    with db.transaction() as tx:
        return outbox.queue(tx, address, body, kind, channel=PIGEON, **more)


def hand_over(db: Database, gateway: str = FLIGHT) -> list[gate.HandOver]:
    ids = claim(db, gateway=gateway)
    with db.transaction() as tx:
        return gate.hand_over(tx, ids, "me", rate_per_s=1000)[0]


def said(db: Database, address: str, kind: consent.Kind, channel: Channel = PIGEON) -> None:
    with db.transaction() as tx:
        consent.hear(tx, address, kind, words=kind, message_id=None, channel=channel, by=TEST)


def sent_by(world: World, number: int) -> list[tuple[Any, ...]]:
    with world.db.reading() as tx:
        query = select(*messages.c["channel", "phone", "phone_key", "address", "gateway", "state", "reason"])
        return [
            tuple(row) for row in tx.execute(query.where(messages.c.broadcast_id == number).order_by(messages.c.id))
        ]


# -- one message -------------------------------------------------------------------------------------------------------


def test_sms_is_the_only_channel_that_a_programme_has() -> None:
    assert CHANNELS == {"sms": SMS}
    assert (SMS.count, SMS.key_column, SMS.needs_consent, SMS.keeps_quiet_hours) == (
        segments.count, "phone_key", True, True,
    )  # fmt: skip
    assert [SMS.is_address(each) for each in (PHONE, "1234", "Vodafone")] == [True, False, False]


def test_a_text_has_its_channel_and_its_address_stands_once(db: Database) -> None:
    with db.transaction() as tx:
        out = outbox.queue(tx, PHONE, "Hello", "notice")
        came = inbox.record_inbound(tx, gateway=GATEWAY, gateway_id="SM1", sender=PHONE, text="Hi")
        assert came is not None
    for number in (out, came.id):
        row = look(db, number)
        assert (row.channel, row.phone, row.phone_key, row.address) == ("sms", PHONE, PHONE, None)
    with db.reading() as tx:
        query = select(*exports.columns_of(messages, ("channel", "phone", "address")))
        assert [tuple(row) for row in tx.execute(query)] == [("sms", PHONE, PHONE)] * 2


def test_a_message_of_another_channel_is_queued_claimed_by_its_gateway_and_settled(
    db: Database, pigeon: Channel
) -> None:
    number = queue(db, "Loft  7, Accra", "Come\nhome")
    row = look(db, number)
    assert (row.channel, row.phone, row.phone_key, row.address) == ("pigeon", None, None, LOFT)
    assert (row.gateway, row.segments, row.state) == (FLIGHT, 2, "queued")
    assert claim(db, gateway=GATEWAY) == [], "no gateway of another channel takes it"
    (going,) = hand_over(db)
    assert (going.id, going.address, going.body, going.segments) == (number, LOFT, "Come\nhome", 2)
    with db.transaction() as tx:
        assert outbox.settle(tx, [Settled(number, going.attempt_id, "accepted", gateway_id="ring 12")]) == 1
    with db.transaction() as tx:
        moved = receipts.receive_receipt(
            tx, gateway=FLIGHT, message_id=number, gateway_id="ring 12", state="delivered", word="landed", code=None
        )
        assert moved
    assert look(db, number).state == "delivered"


def test_in_doubt_it_is_asked_about_by_its_address_and_told_from_others_there(
    db: Database, pigeon: Channel, clock: Any
) -> None:
    first, second, elsewhere = queue(db), queue(db), queue(db, "Loft 8")
    going = hand_over(db)
    assert [each.id for each in going] == [first, second, elsewhere], "only of a phone is one in flight at a time"
    with db.transaction() as tx:
        outbox.settle(tx, [Settled(first, going[0].attempt_id, "accepted", gateway_id="ring 1")])
        outbox.settle(tx, [Settled(elsewhere, going[2].attempt_id, "accepted", gateway_id="ring 3")])
        outbox.settle(tx, [Settled(second, going[1].attempt_id, "unknown", reason="no-answer")])
    clock.advance(minutes=3)
    with db.reading() as tx:
        (question,) = reconciliation.questions(tx, FLIGHT, 10)
    assert (question.id, question.address, question.not_it) == (second, LOFT, frozenset({"ring 1"}))


def test_what_was_queued_where_no_gateway_was_set_gets_that_of_its_channel(db: Database, pigeon: Channel) -> None:
    by_sms, by_air = queue(db), queue(db)
    with db.transaction() as tx:
        tx.execute(update(messages).values(gateway=None))
        tx.execute(update(messages).where(messages.c.id == by_sms).values(channel="sms", phone=PHONE, address=None))
    with db.transaction() as tx:
        outbox.adopt(tx)
    assert (look(db, by_sms).gateway, look(db, by_air).gateway) == (GATEWAY, FLIGHT)


def test_only_what_goes_by_phone_is_routed_by_its_number_and_its_case(rules: Rules, pigeon: Channel) -> None:
    assert routing.choose(rules, PHONE, GATEWAY) == routing.Choice(GATEWAY, "case")
    assert routing.choose(rules, "2332 pigeons", GATEWAY, pigeon) == routing.Choice(FLIGHT, "default")
    nowhere = replace(pigeon, default_gateway=lambda _rules: None)
    assert routing.choose(rules, LOFT, None, nowhere) == routing.Choice(None, "none")


def test_quiet_hours_hold_only_for_a_channel_that_keeps_them(db: Database, pigeon: Channel, clock: Any) -> None:
    db.rules = replace(db.rules, hours=Hours(time(9), time(20)))
    night = datetime(2026, 11, 4, 1, tzinfo=UTC)
    clock.advance(seconds=(night - clock()).total_seconds())
    by_air = queue(db)
    with db.transaction() as tx:
        by_sms = outbox.queue(tx, PHONE, "Come home", "text")
    assert [each.id for each in hand_over(db)] == [by_air]
    assert hand_over(db, GATEWAY) == []
    assert (look(db, by_sms).state, look(db, by_sms).reason) == ("queued", "quiet-hours")


def test_a_message_of_a_channel_that_this_release_does_not_know_is_refused_alone(db: Database) -> None:
    with db.transaction() as tx:
        known = outbox.queue(tx, PHONE, "Hello", "notice", gateway=FLIGHT)
    unknown = queue(db)
    assert [each.id for each in hand_over(db)] == [known]
    assert (look(db, unknown).state, look(db, unknown).reason) == ("refused", "fault")


# -- consent -----------------------------------------------------------------------------------------------------------


def test_consent_of_a_channel_is_apart_from_that_of_another(world: World, pigeon: Channel) -> None:
    db = world.db
    world.case("ama", PHONE, commcare_email_address=LOFT)
    said(db, "Loft  7, Accra", "stop")
    with db.reading() as tx:
        assert not consent.may_text(tx, LOFT, pigeon)
        assert consent.may_text(tx, PHONE)
        assert consent.history(tx, PHONE) == []
        (event,) = consent.history(tx, LOFT, pigeon)
        assert (event.channel, event.phone, event.phone_key, event.address) == ("pigeon", None, None, LOFT)
    by_air = queue(db)
    with db.transaction() as tx:
        by_sms = outbox.queue(tx, PHONE, "Come home", "text")
    assert hand_over(db) == []
    assert [each.id for each in hand_over(db, GATEWAY)] == [by_sms]
    assert (look(db, by_air).state, look(db, by_air).reason) == ("withheld", "stopped")
    said(db, LOFT, "start")
    said(db, PHONE, "stop", SMS)
    again = queue(db)
    assert [each.id for each in hand_over(db)] == [again]
    with db.reading() as tx:
        assert not consent.may_text(tx, PHONE)


def test_two_channels_of_one_phone_are_stopped_apart(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both go by the same key of the same number."""
    drum = replace(SMS, name="drum")
    monkeypatch.setitem(CHANNELS, "drum", drum)
    said(db, PHONE, "stop", drum)
    with db.reading() as tx:
        assert (consent.may_text(tx, PHONE), consent.may_text(tx, PHONE, drum)) == (True, False)
    said(db, PHONE, "stop", SMS)
    said(db, PHONE, "start", drum)
    with db.reading() as tx:
        assert (consent.may_text(tx, PHONE), consent.may_text(tx, PHONE, drum)) == (False, True)
        assert [event.kind for event in consent.history(tx, PHONE)] == ["stop"]


def test_a_gateway_that_says_opted_out_stops_the_channel_of_its_message(db: Database, pigeon: Channel) -> None:
    number = queue(db)
    said(db, "Loft 8", "stop")
    with db.transaction() as tx:
        receipts.note_opt_out(tx, number, by=Actor("gateway", None))
        receipts.note_opt_out(tx, number, by=Actor("gateway", None))
    with db.reading() as tx:
        (event,) = consent.history(tx, LOFT, pigeon)
        assert (event.kind, event.message_id) == ("stop", number)
        row = lookups.message(tx, number)
        assert row is not None
        assert [each.id for each in history.consent_round(tx, row)] == [event.id]


def test_a_channel_that_asks_for_no_consent_sends_all_the_same(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHANNELS, "pigeon", replace(PIGEON, needs_consent=False))
    said(db, LOFT, "stop")
    number = queue(db)
    assert [each.id for each in hand_over(db)] == [number]


def test_the_database_keeps_no_consent_of_nobody(db: Database) -> None:
    with db.reading() as tx, pytest.raises(IntegrityError, match="consent_of_an_address"):
        tx.execute(insert(schema.consent_events), {"kind": "stop", "door": "test", "at": tx.now})


# -- a broadcast -------------------------------------------------------------------------------------------------------


def test_a_broadcast_goes_by_the_channel_of_its_words(world: World, pigeon: Channel) -> None:
    ama = world.case("ama", PHONE, commcare_email_address=LOFT)
    twin = world.case("twin", OTHER, commcare_email_address=LOFT)
    homeless = world.case("homeless", "233205550000")
    stopped = world.case("stopped", "233205550001", commcare_email_address="Loft 8")
    said(world.db, "Loft 8", "stop")
    anc = world.group("anc", ama, twin, homeless, stopped)
    number = draft(world, anc, channel=pigeon)
    with world.db.reading() as tx:
        preview = previews.preview(tx, number)
        assert (preview.recipients, dict(preview.skipped), preview.parts) == (
            1, {"no-number": 1, "same-phone": 1, "stopped": 1}, 1,
        )  # fmt: skip
    launch(world, number)
    expand(world)
    assert sent_by(world, number) == [
        ("pigeon", None, None, LOFT, FLIGHT, "queued", None),
        ("pigeon", None, None, LOFT, FLIGHT, "withheld", "same-phone"),
        ("pigeon", None, None, None, FLIGHT, "withheld", "no-number"),
        ("pigeon", None, None, "Loft 8", FLIGHT, "withheld", "stopped"),
    ]
    assert [each.address for each in hand_over(world.db)] == [LOFT]


def test_who_moved_between_two_ranges_hides_nobody_who_has_the_same_address(world: World, pigeon: Channel) -> None:
    """Else the database alone would refuse the second message, and its case would have no row at all."""
    ama = world.case("ama", PHONE, commcare_email_address=LOFT)
    kofi = world.case("kofi", OTHER, commcare_email_address=LOFT)
    number = draft(world, world.group("anc", ama, kofi), channel=pigeon)
    launch(world, number)
    with world.db.transaction() as tx:
        assert expansion.expand_next(tx, 1)
    world.change(ama, commcare_email_address="Loft 8")
    expand(world)
    assert [row[-2:] for row in sent_by(world, number)] == [("queued", None), ("withheld", "same-phone")]


def test_an_address_that_changed_after_the_expansion_gets_nothing(world: World, pigeon: Channel) -> None:
    ama = world.case("ama", PHONE, commcare_email_address=LOFT)
    number = draft(world, world.group("anc", ama), channel=pigeon)
    launch(world, number)
    expand(world)
    world.change(ama, commcare_email_address="Loft 8")
    assert hand_over(world.db) == []
    assert [row[-2:] for row in sent_by(world, number)] == [("withheld", "changed")]


def test_a_new_phone_does_not_keep_back_what_goes_by_another_channel(world: World, pigeon: Channel) -> None:
    ama = world.case("ama", PHONE, commcare_email_address=LOFT)
    number = draft(world, world.group("anc", ama), channel=pigeon)
    launch(world, number)
    expand(world)
    world.change(ama, contact_phone_number=OTHER)
    assert [each.address for each in hand_over(world.db)] == [LOFT]


def test_words_are_as_long_as_their_channel_takes(world: World, pigeon: Channel) -> None:
    anc, long = world.group("anc", world.case("ama", PHONE, commcare_email_address=LOFT)), "x" * 41
    draft(world, anc, texts=long)
    with pytest.raises(Problem, match="text-too-long"):
        draft(world, anc, texts=long, channel=pigeon)
    number = draft(world, anc, channel=pigeon)
    with world.db.transaction() as tx, pytest.raises(Problem, match="text-too-long"):
        previews.amend(tx, number, text=("sw", long))
    with world.db.transaction() as tx:
        previews.amend(tx, number, text=("sw", "Njoo"))
        again = previews.draft_again(tx, number, message_id=None, by=TEST)
        assert content.channel_of(tx, again) is pigeon
        assert content.texts_of(tx, number) == {"en": "Clinic closed Friday", "sw": "Njoo"}


def test_words_on_two_channels_do_not_show_a_broadcast_twice(world: World, pigeon: Channel) -> None:
    number = draft(world, world.group("anc", world.case("ama", PHONE)))
    with world.db.transaction() as tx:
        same = {"broadcast_id": number, "language": "en", "subject": "Closed"}
        tx.execute(insert(broadcast_texts), {**same, "channel": "pigeon", "text": "Shut"})
    found = list(exports.export(world.db.reading, "broadcasts").rows)
    assert [row[0] for row in found] == [number]


def test_one_message_for_each_broadcast_case_and_channel(world: World, pigeon: Channel) -> None:
    ama = world.case("ama", PHONE, commcare_email_address=LOFT)
    number = draft(world, world.group("anc", ama))
    row = {"direction": "out", "body": "x", "kind": "broadcast", "case_id": ama, "broadcast_id": number}

    def write(channel: Channel, address: str, **more: Any) -> None:
        with world.db.transaction() as tx:
            made = {"state": "withheld", "due_at": tx.now, "created_at": tx.now}
            tx.execute(insert(messages), {**row, **made, **channel.columns(address), **more})

    write(SMS, PHONE)
    write(pigeon, LOFT)
    for channel, address in ((SMS, OTHER), (pigeon, "Loft 8")):
        with pytest.raises(
            IntegrityError, match=r"one_message_per_broadcast_case_and_channel|messages.case_id, messages.channel"
        ):
            write(channel, address)


def test_one_live_message_for_each_broadcast_channel_and_address(world: World, pigeon: Channel) -> None:
    cases = [world.case(name, PHONE, commcare_email_address=LOFT) for name in ("ama", "kofi", "efua")]
    number = draft(world, world.group("anc", *cases))

    def write(case: int, channel: Channel, address: str, state: str) -> None:
        with world.db.transaction() as tx:
            made = {"direction": "out", "body": "x", "kind": "broadcast", "case_id": case, "broadcast_id": number}
            made |= {"state": state, "due_at": tx.now, "created_at": tx.now}
            tx.execute(insert(messages), {**made, **channel.columns(address)})

    for channel, address in ((SMS, PHONE), (pigeon, LOFT)):
        write(cases[0], channel, address, "queued")
        write(cases[1], channel, address, "withheld")
        with pytest.raises(
            IntegrityError, match=r"one_live_message_per_broadcast_|messages.(phone_key|address), messages.channel"
        ):
            write(cases[2], channel, address, "queued")


# -- back to a release that knows no channel ---------------------------------------------------------------------------


def test_what_goes_by_another_channel_survives_a_release_that_knows_none(world: World, pigeon: Channel) -> None:
    """Its e-mail STOP would be gone with the way back and forth, and what waits would be nobody's."""
    db = world.db
    ama = world.case("ama", PHONE, commcare_email_address=LOFT)
    number = draft(world, world.group("anc", ama), channel=pigeon)
    launch(world, number)
    expand(world)
    said(db, LOFT, "stop")
    said(db, OTHER, "stop", SMS)
    gone = queue(db, body="It left")
    with db.transaction() as tx:
        tx.execute(update(messages).where(messages.c.id == gone).values(state="delivered"))
        same = {"broadcast_id": number, "case_id": ama, "direction": "out", "body": "x", "kind": "broadcast"}
        same |= {"due_at": tx.now, "created_at": tx.now}
        tx.execute(insert(messages), {**same, "state": "queued", **SMS.columns(PHONE)})
        words = {"broadcast_id": number, "language": "en", "text": "By SMS"}
        tx.execute(insert(broadcast_texts), words)
    assert migrate.downgrade(db, "0012") == "0012"
    with db.reading() as tx:
        rows = tx.execute(text("SELECT phone, phone_key, state, reason, broadcast_id FROM messages ORDER BY id")).all()
        assert [tuple(row) for row in rows] == [
            (f"pigeon:{LOFT}", None, "cancelled", "halted", None),
            (f"pigeon:{LOFT}", None, "delivered", None, None),
            (PHONE, PHONE, "queued", None, number),
        ]
        events = tx.execute(text("SELECT phone, phone_key, kind FROM consent_events ORDER BY id")).all()
        assert [tuple(row) for row in events] == [(f"pigeon:{LOFT}", None, "stop"), (OTHER, OTHER, "stop")]
        assert [tuple(row) for row in tx.execute(text("SELECT language, text FROM broadcast_texts"))] == [
            ("en", "By SMS")
        ]
    migrate.upgrade(db)
    with db.reading() as tx:
        assert not consent.may_text(tx, LOFT, pigeon)
        assert not consent.may_text(tx, OTHER)
        query = select(*messages.c["channel", "phone", "address"]).order_by(messages.c.id)
        assert [tuple(row) for row in tx.execute(query)] == [
            ("pigeon", None, LOFT), ("pigeon", None, LOFT), ("sms", PHONE, None),
        ]  # fmt: skip
    db.check()
