"""The worker asks the gateway what became of a text, and what came in while nobody listened: over HTTP, to the stub."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from bot import explaining, health
from bot.gateways.twilio import Twilio
from bot.worker import reconciler
from bot.worker.worker import Worker
from storage import schema
from storage.contacts import consent
from storage.database import Database
from storage.messages import gate, lookups, outbox, receipts, reconciliation
from storage.rules.hours_and_limits import Rules
from tests.patience import HANG_S, soon
from tests.stub_twilio import StubTwilio
from tests.world import World

ACCOUNT, TOKEN = "AC" + "7" * 32, "a token"
LENA, AMA, KOFI = "233244000901", "233244000101", "233244000102"


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, digest=False,
        default_gateway="twilio", gateways=frozenset({"twilio"}),
    )  # fmt: skip


@pytest.fixture
def stub(clock: Any) -> Iterator[StubTwilio]:
    with StubTwilio(ACCOUNT, TOKEN) as running:
        running.now = lambda: clock().timestamp()
        yield running
        assert running.spec_faults == []


@pytest.fixture(autouse=True)
def _long_ago(db: Database, clock: Any) -> None:
    """The programme is older than the test: what came in before a programme was made is not for it."""
    with db.transaction() as tx:
        tx.execute(update(schema.programme).values(created_at=clock() - timedelta(days=9)))


def twilio(stub: StubTwilio) -> Twilio:
    return Twilio(
        name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender=stub.number, messaging_service_sid=None,
        api_url=stub.url, rate_per_s=100, timeout_s=HANG_S,
    )  # fmt: skip


def work(db: Database, stub: StubTwilio) -> None:
    """A worker starts, does all there is to do, and ends."""

    async def whole() -> None:
        worker = Worker(db, {"twilio": twilio(stub)}, "https://sms.example.org")
        worker.start()
        await worker.drain()
        await worker.drain()
        await worker.finish()

    asyncio.run(whole())


def queue(db: Database, phone: str = AMA, text: str = "Clinic on Monday", kind: str = "notice") -> int:
    with db.transaction() as tx:
        return outbox.queue(tx, phone, text, kind)


def look(db: Database, number: int) -> Any:
    with db.reading() as tx:
        return lookups.message(tx, number)


def texts(db: Database, **where: Any) -> list[Any]:
    with db.reading() as tx:
        return lookups.list_all(tx, **where)[::-1]


# -- what became of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cut", "half"])
def test_a_text_whose_answer_was_lost_is_settled_by_twilio_s_own_list(
    db: Database, stub: StubTwilio, clock: Any, mode: str
) -> None:
    stub.mode = mode
    number = queue(db)
    work(db, stub)
    assert look(db, number).state == "unknown"
    clock.advance(minutes=2)
    stub.book[0] |= {"status": "delivered"}
    work(db, stub)
    assert (look(db, number).state, look(db, number).gateway_id) == ("delivered", stub.book[0]["sid"])
    assert len(stub.book) == 1


def test_a_notice_that_twilio_never_had_goes_again_after_two_looks_and_a_text_to_a_case_waits_for_a_person(
    db: Database, stub: StubTwilio, clock: Any
) -> None:
    stub.mode = "503"
    notice, text = queue(db), queue(db, KOFI, kind="text")
    work(db, stub)
    stub.mode = "ok"
    clock.advance(minutes=2)
    work(db, stub)
    assert {look(db, notice).state, look(db, text).state} == {"unknown"}, "one look is no proof"
    clock.advance(minutes=11)
    work(db, stub)
    assert look(db, notice).state == "accepted"
    assert (look(db, text).state, look(db, text).reason) == ("unresolved", "absent")
    assert [message["to"] for message in stub.book] == [f"+{AMA}"]


def test_a_text_that_twilio_books_late_is_found_and_not_sent_again(db: Database, stub: StubTwilio, clock: Any) -> None:
    stub.mode = "503"
    number = queue(db)
    work(db, stub)
    clock.advance(minutes=2)
    work(db, stub)
    stub.accept({"To": f"+{AMA}", "From": f"+{stub.number}", "Body": "Clinic on Monday"})
    clock.advance(minutes=11)
    work(db, stub)
    assert look(db, number).state == "sent"
    assert len(stub.book) == 1


def test_once_told_to_ask_a_worker_goes_on_until_nothing_more_is_due(
    db: Database, stub: StubTwilio, clock: Any
) -> None:
    stub.mode = "cut"
    many = 3 * reconciler.AT_ONCE
    for n in range(many):
        queue(db, f"2332440002{n:02}")
    work(db, stub)
    assert len(texts(db, state="unknown")) == many
    clock.advance(minutes=2)

    async def asked_once() -> None:
        gateway = twilio(stub)

        async def at_once(work: Any, *args: Any) -> Any:
            return work(*args)

        asking = reconciler.Reconciler(db, {"twilio": gateway}, at_once, lambda: None)
        await asking.ask()
        while asking.under_way or asking.has_answers:
            await soon(lambda: asking.has_answers or not asking.under_way)
            await asyncio.sleep(0)  # who has just answered is not under way any more
            await asking.turn(looks=False)
        await gateway.close()

    asyncio.run(asked_once())
    assert [text.state for text in texts(db)] == ["sent"] * many


def test_while_twilio_cannot_be_asked_nothing_is_concluded(db: Database, stub: StubTwilio, clock: Any) -> None:
    stub.mode, stub.list_mode = "503", "503"
    number = queue(db)
    for _ in range(5):
        work(db, stub)
        assert look(db, number).state == "unknown"
        clock.advance(hours=2)
        clock.advance(minutes=1)
    clock.advance(hours=6)
    work(db, stub)
    assert look(db, number).state == "unresolved"
    with db.reading() as tx:
        assert [ask.answer for ask in reconciliation.asks_of(tx, number)] == ["cannot_tell"] * 5


def test_of_two_texts_with_the_same_words_to_one_phone_each_gets_its_own(
    db: Database, stub: StubTwilio, clock: Any
) -> None:
    known = queue(db)
    work(db, stub)
    stub.mode = "cut"
    doubtful = queue(db)
    work(db, stub)
    clock.advance(minutes=2)
    work(db, stub)
    assert [look(db, n).gateway_id for n in (known, doubtful)] == [message["sid"] for message in stub.book]


def test_the_leads_are_told_once_of_a_broadcast_of_which_some_stay_in_doubt(
    db: Database, world: World, clock: Any
) -> None:
    from storage.broadcasts import broadcasts, expansion, previews
    from tests.world import TEST

    world.person("Lena", LENA)
    group = world.group("anc", world.case("ama", AMA), world.case("kofi", KOFI))
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "Clinic on Monday"}, group_ids=[group], words="tell", by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
        expansion.expand_next(tx)
        doubtful = schema.messages.c.broadcast_id == number
        tx.execute(update(schema.messages).where(doubtful).values(state="unresolved", attempts=1))
    for _ in range(2):
        with db.transaction() as tx:
            reconciler.tell_leads(tx)
    assert [row.body for row in texts(db, phone=LENA)] == [
        f"{number}: nobody can say whether 2 got it, and they are not texted again. Check {number} tells more;"
        " the operator can list them"
    ]


# -- what came in ------------------------------------------------------------------------------------------------------


def test_what_came_in_while_nobody_listened_is_acted_on_once(db: Database, stub: StubTwilio, clock: Any) -> None:
    World(db).case("ama", AMA)
    for n in range(120):
        clock.advance(seconds=10)
        stub.arrive(AMA, f"Text {n}")
    clock.advance(hours=10)
    stub.arrive(AMA, "the last")
    work(db, stub)
    work(db, stub)
    came = texts(db, direction="in")
    assert [row.body for row in came] == [*(f"Text {n}" for n in range(120)), "the last"]
    assert {row.state for row in came} == {"handled"}
    assert came[0].sent_at == datetime.fromtimestamp(stub.received[0]["at"], came[0].sent_at.tzinfo)


def test_the_list_is_read_every_five_minutes_and_from_where_the_last_one_ended(
    db: Database, stub: StubTwilio, clock: Any
) -> None:
    start = clock()
    stub.arrive(AMA, "Hello")
    work(db, stub)
    with db.reading() as tx:
        assert reconciliation.swept_until(tx, "twilio") == start - reconciliation.OVERLAP
    stub.list_mode = "503"
    clock.advance(minutes=5)
    work(db, stub)
    with db.reading() as tx:
        assert reconciliation.swept_until(tx, "twilio") == start - reconciliation.OVERLAP, (
            "what was not read is read again"
        )


def test_a_stop_counts_when_it_is_only_found_in_the_list(db: Database, stub: StubTwilio, clock: Any) -> None:
    stub.arrive(AMA, "STOP")
    clock.advance(hours=20)
    work(db, stub)
    with db.reading() as tx:
        assert not consent.may_text(tx, AMA)


@pytest.mark.parametrize(("late", "since", "may"), [("STOP", "START", True), ("START", "STOP", False)])
def test_a_word_that_comes_late_does_not_undo_what_the_phone_said_since(
    db: Database, stub: StubTwilio, clock: Any, late: str, since: str, may: bool
) -> None:
    from bot.gateways.base import Inbound
    from bot.inbound import listeners

    with db.transaction() as tx:
        consent.hear(tx, AMA, "stop", words="STOP", message_id=None, by=schema_actor())
    clock.advance(minutes=1)
    stub.arrive(AMA, late)
    clock.advance(minutes=5)
    listeners.take(db, "twilio", Inbound("SM" + "1" * 32, AMA, stub.number, since))
    clock.advance(minutes=5)
    work(db, stub)
    with db.reading() as tx:
        assert consent.may_text(tx, AMA) is may
    assert len(texts(db, direction="in")) == 2


def test_late_words_count_in_the_order_in_which_they_were_sent(db: Database, stub: StubTwilio, clock: Any) -> None:
    for word in ("STOP", "START", "STOP", "START"):
        clock.advance(minutes=1)
        stub.arrive(AMA, word)
    clock.advance(hours=3)
    work(db, stub)
    with db.reading() as tx:
        assert [event.kind for event in consent.history(tx, AMA)] == ["stop", "start", "stop", "start"]


def schema_actor() -> Any:
    from tests.world import TEST

    return TEST


# -- a code that comes late --------------------------------------------------------------------------------------------


def asked(db: Database, stub: StubTwilio, clock: Any) -> str:
    """Lena asks for a broadcast and gets a code; returns the code."""
    world = World(db)
    world.person("Lena", LENA)
    world.group("anc", world.case("ama", AMA))
    stub.arrive(LENA, "tell anc Clinic on Monday")
    work(db, stub)
    words = str(stub.book[-1]["body"])
    return words.split("ok ")[1][:6]


def broadcast_state(db: Database) -> str:
    with db.reading() as tx:
        return str(tx.scalar(select(schema.broadcasts.c.state).order_by(schema.broadcasts.c.id.desc()).limit(1)))


@pytest.mark.parametrize(
    ("sent_min", "read_min", "goes"),
    [(14, 14, True), (14, 20, True), (14, 43, True), (16, 20, False), (14, 45, False), (2, 600, False)],
)
def test_a_code_is_judged_by_when_it_was_sent_but_not_for_ever(
    db: Database, stub: StubTwilio, clock: Any, sent_min: int, read_min: int, goes: bool
) -> None:
    code = asked(db, stub, clock)
    began = clock()
    stub.arrive(LENA, f"ok {code}", at=(began + timedelta(minutes=sent_min)).timestamp())
    clock.now = began + timedelta(minutes=read_min)
    work(db, stub)
    assert (broadcast_state(db) in ("held", "expanding", "sending", "done")) is goes
    assert "more than 15 minutes" in stub.book[-1]["body"] or goes


def test_a_text_to_one_person_that_was_asked_for_an_hour_ago_needs_a_new_code(
    db: Database, stub: StubTwilio, clock: Any
) -> None:
    code = asked(db, stub, clock)
    stub.arrive(LENA, f"ok {code}")
    clock.advance(minutes=5)
    work(db, stub)
    clock.advance(minutes=5)
    stub.arrive(LENA, "tell ama Come at nine today")
    clock.advance(hours=1)
    work(db, stub)
    assert "ok " in stub.book[-1]["body"]
    assert stub.book[-1]["to"] == f"+{LENA}"
    assert not [message for message in stub.book if "nine" in message["body"] and message["to"] == f"+{AMA}"]


# -- a gateway that is set no more -------------------------------------------------------------------------------------


def test_what_is_in_doubt_at_a_gateway_that_is_set_no_more_goes_to_a_person_and_says_so(
    db: Database, stub: StubTwilio, clock: Any
) -> None:
    with db.transaction() as tx:
        number = outbox.queue(tx, AMA, "Clinic on Monday", "notice", gateway="kannel")
        gate.hand_over(tx, outbox.claim(tx, "kannel", "dead", 1), "dead", rate_per_s=1)
    clock.advance(minutes=3)
    work(db, stub)
    assert look(db, number).state == "unknown"
    clock.advance(minutes=9)
    work(db, stub)
    assert look(db, number).state == "unknown", "ten minutes from the moment that it was in doubt"
    clock.advance(minutes=2)
    work(db, stub)
    row = look(db, number)
    assert (row.state, row.reason) == ("unresolved", "gateway-gone")
    with db.reading() as tx:
        told = [step["what"] for step in explaining.life(tx, number)]
    assert ": its gateway is not in the settings any more" in " ".join(told)
    assert told[-1].endswith(
        "Look at the own list of kannel, or ask the person; set up again, its late receipt still settles it"
    )
    said = {name: sentence for name, _, sentence in health.examine(db)}["unknown"]
    assert "1 message of them went by kannel, which is not in the settings any more" in said
    with db.transaction() as tx:
        moved = receipts.receive_receipt(
            tx, gateway="kannel", message_id=number, gateway_id=row.attempt_id, state="delivered", word="1", code=None
        )
    assert moved
    assert look(db, number).state == "delivered"
