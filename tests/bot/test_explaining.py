"""`jumbe messages explain`: the whole life of a message, told by what really happened to it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from bot import explaining, explanation_words
from bot.cli import main
from bot.gateways.base import Accepted, Capabilities, Inbound, NotSent, Outgoing, SendResult, Unknown
from bot.inbound import listeners
from bot.replies import FOLDER, sentences
from bot.worker.worker import Worker
from storage import schema
from storage.audit import Actor
from storage.broadcasts import broadcasts, previews, progress
from storage.contacts import consent, groups
from storage.database import Database
from storage.messages import outbox, receipts
from storage.operations import codes, operations
from storage.rules.quiet_hours import Hours
from storage.sheets import exports
from tests.world import TEST, World

AMA, KOFI, ESI, SAM = "233241234567", "233209876543", "233241110001", "233241110002"
Step = dict[str, Any]


@dataclass
class Scripted:
    """A gateway that answers what it is told to, and afterwards takes everything."""

    answers: list[SendResult] = field(default_factory=list)
    sent: list[Outgoing] = field(default_factory=list)
    name: str = "simulator"
    kind: str = "simulator"
    rate_per_s: float = 1000.0
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(True, False, False, False, concurrency=8))

    async def send(self, outgoing: Outgoing) -> SendResult:
        self.sent.append(outgoing)
        return self.answers.pop(0) if self.answers else Accepted(f"S{outgoing.id}")

    async def close(self) -> None:
        """Nothing is open."""


class Story:
    """A small programme and what happens in it: Esi leads; Ama and Kofi are in anc."""

    def __init__(self, db: Database, clock: Any) -> None:
        self.db, self.clock = db, clock
        self.world = World(db)
        self.gateway = Scripted()
        self.ama = self.world.case("ama", AMA, name="Ama")
        self.kofi = self.world.case("kofi", KOFI, name="Kofi")
        self.anc = self.world.group("anc", self.ama, self.kofi)
        self.esi = self.world.person("Esi Mensah", ESI)
        self._texts = 0

    def texts(self, phone: str, body: str, told: Any = None) -> int:
        """A phone texts us; returns the message's number."""
        self._texts += 1
        listeners.take(self.db, "simulator", Inbound(f"in{self._texts}", phone, "1", body, opt_out=told))
        return self.last(direction="in").id

    def code(self) -> str:
        """The digits that the newest text with a code carries."""
        with self.db.reading() as tx:
            row = tx.execute(select(schema.codes).order_by(schema.codes.c.id.desc()).limit(1)).one()
            return codes.digits(codes.secret_of(tx), row.nonce, row.length)

    def work(self) -> None:
        """The worker does all there is to do now."""

        async def whole() -> None:
            worker = Worker(self.db, {"simulator": self.gateway}, "http://127.0.0.1")
            worker.start()
            await worker.drain()
            await worker.finish()

        asyncio.run(whole())

    def tell(self, words: str = "tell anc Clinic closed Friday") -> int:
        """Esi asks for a broadcast and confirms it; returns its number."""
        self.texts(ESI, words)
        self.work()
        self.clock.advance(minutes=1)
        self.texts(ESI, f"ok {self.code()}")
        with self.db.reading() as tx:
            return int(progress.list_all(tx)[0].id)

    def go(self) -> None:
        """The hold passes, and the worker sends."""
        for _ in range(3):
            self.clock.advance(seconds=61)
            self.work()

    def receipt(self, number: int, word: str, state: str, code: str | None = None) -> None:
        with self.db.transaction() as tx:
            receipts.receive_receipt(
                tx, gateway="simulator", message_id=number, gateway_id=f"S{number}", state=state, word=word, code=code
            )

    def last(self, **where: Any) -> Any:
        with self.db.reading() as tx:
            query = select(schema.messages).order_by(schema.messages.c.id.desc()).limit(1)
            for column, value in where.items():
                query = query.where(schema.messages.c[column] == value)
            return tx.execute(query).one()

    def to_ama(self) -> int:
        return int(self.last(direction="out", case_id=self.ama).id)

    def life(self, number: int) -> list[Step]:
        with self.db.reading() as tx:
            return explaining.life(tx, number)

    def rules(self, **changed: Any) -> None:
        self.db.rules = replace(self.db.rules, **changed)


@pytest.fixture
def story(db: Database, clock: Any) -> Story:
    return Story(db, clock)


# -- lives: what happens, which message, and the words that must be told in this order ---------------------------------


def delivered(s: Story) -> int:
    s.tell()
    s.go()
    number = s.to_ama()
    s.clock.advance(seconds=5)
    s.receipt(number, "delivered", "delivered")
    s.clock.advance(seconds=5)
    s.receipt(number, "sent", "sent")
    return number


def undelivered(s: Story) -> int:
    s.tell()
    s.go()
    s.receipt(s.to_ama(), "undelivered", "undelivered", "30003")
    return s.to_ama()


def tried_again(s: Story) -> int:
    s.tell()
    s.clock.advance(seconds=61)
    s.gateway.answers = [NotSent("unreachable", "no route"), NotSent("unreachable", "no route")]
    s.work()
    return s.to_ama()


def tried_again_and_taken(s: Story) -> int:
    number = tried_again(s)
    s.clock.advance(minutes=6)
    s.work()
    return number


def paused(s: Story) -> int:
    s.tell()
    s.clock.advance(seconds=61)
    s.gateway.answers = [NotSent("gateway", "wrong token", "20003")] * 2
    s.work()
    return s.to_ama()


def doubtful(s: Story) -> int:
    s.tell()
    s.clock.advance(seconds=61)
    s.gateway.answers = [Unknown("a time-out")] * 2
    s.work()
    return s.to_ama()


def stopped_in_the_hold(s: Story) -> int:
    s.tell()
    s.work()
    s.clock.advance(seconds=10)
    s.texts(AMA, "Stop. Thank you")
    s.go()
    return s.to_ama()


def stopped_before(s: Story) -> int:
    s.texts(AMA, "STOP")
    s.clock.advance(minutes=5)
    s.tell()
    s.go()
    return s.to_ama()


def halted(s: Story) -> int:
    number = s.tell()
    s.work()
    s.texts(ESI, f"halt {number}")
    return s.to_ama()


def left(s: Story) -> int:
    s.tell()
    s.work()
    s.texts(ESI, "drop anc ama")
    s.go()
    return s.to_ama()


def changed(s: Story) -> int:
    s.tell()
    s.work()
    s.world.change(s.ama, contact_phone_number="233205550000")
    s.go()
    return s.to_ama()


def same_phone(s: Story) -> int:
    twin = s.world.case("twin", AMA)
    with s.db.transaction() as tx:
        groups.add(tx, s.anc, [twin], by=TEST)
    s.tell()
    s.go()
    return int(s.last(direction="out", case_id=twin).id)


def at_night(s: Story) -> int:
    s.rules(hours=Hours.parse("09:00-20:00"))
    s.world.change(s.ama, time_zone="America/New_York")
    s.tell()
    s.work()
    return s.to_ama()


def at_night_and_gone(s: Story) -> int:
    number = at_night(s)
    s.clock.advance(hours=5)
    s.work()
    return number


def too_late(s: Story) -> int:
    s.tell()
    s.work()
    s.clock.advance(days=2)
    s.work()
    return s.to_ama()


def own_gateway(s: Story) -> int:
    s.world.change(s.ama, contact_backend_id="simulator")
    s.tell()
    s.go()
    return s.to_ama()


def unknown_gateway(s: Story) -> int:
    s.world.change(s.ama, contact_backend_id="nowhere")
    s.tell()
    s.go()
    return s.to_ama()


def second_person(s: Story) -> int:
    s.rules(second_person_above=1)
    s.world.person("Lena", SAM)
    s.tell()
    s.work()
    s.clock.advance(minutes=1)
    s.texts(SAM, f"ok {s.code()}")
    s.go()
    return s.to_ama()


def from_the_desk(s: Story) -> int:
    with s.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Hello"}, group_ids=[s.anc], by=Actor("cli", None, "command line"))
        operations.decide(tx, number, "done", by=Actor("cli", None, "command line"))
        broadcasts.launch(tx, number, hold_s=60, by=Actor("cli", None, "command line"))
    s.go()
    return s.to_ama()


def a_code(s: Story) -> int:
    s.tell()
    with s.db.reading() as tx:
        return int(tx.scalar(text("SELECT min(id) FROM messages WHERE code_id IS NOT NULL")))


def a_preview_that_was_replaced(s: Story) -> int:
    s.texts(ESI, "tell anc Clinic closed Friday")
    first = s.last(direction="out").id
    s.work()
    s.clock.advance(minutes=1)
    s.texts(ESI, "at 1 fri 0900")
    return int(first)


def replaced_before_it_left(s: Story) -> int:
    s.texts(ESI, "tell anc Clinic closed Friday")
    first = s.last(direction="out").id
    s.clock.advance(minutes=1)
    s.texts(ESI, "at 1 fri 0900")
    s.work()
    return int(first)


def at_its_hour(s: Story) -> int:
    s.texts(ESI, "tell anc Clinic closed Friday")
    s.work()
    s.clock.advance(minutes=1)
    s.texts(ESI, "at 1 fri 1500")
    s.work()
    s.clock.advance(minutes=1)
    s.texts(ESI, f"ok {s.code()}")
    s.clock.advance(days=3, hours=5)
    s.work()
    s.work()
    return s.to_ama()


def first_of_two(s: Story) -> int:
    s.rules(second_person_above=1)
    s.world.person("Lena", SAM)
    s.tell()
    with s.db.reading() as tx:
        return int(tx.scalar(text("SELECT min(id) FROM messages WHERE code_id IS NOT NULL")))


def one_person_at_once(s: Story) -> int:
    s.tell()
    s.go()
    s.texts(ESI, "tell kofi Please call us")
    s.work()
    return int(s.last(direction="out", kind="text").id)


def held_by_day(s: Story) -> int:
    s.rules(hours=Hours.parse("09:00-20:00"))
    s.tell()
    s.work()
    return s.to_ama()


def tried_again_at_night(s: Story) -> int:
    s.rules(hours=Hours.parse("09:00-20:00"))
    return tried_again(s)


def an_answer(s: Story) -> int:
    s.texts(ESI, "groups")
    s.work()
    return int(s.last(direction="out").id)


def an_answer_to_stop(s: Story) -> int:
    s.texts(AMA, "STOP")
    s.work()
    return int(s.last(direction="out", kind="consent").id)


def in_doubt_and_back(s: Story) -> int:
    with s.db.transaction() as tx:
        consent.hear(tx, AMA, "doubt", words="no more maybe", message_id=None, by=Actor("sms"))
    s.clock.advance(minutes=1)
    with s.db.transaction() as tx:
        consent.hear(tx, AMA, "start", words=" 2.", message_id=None, by=Actor("sms"))
        return outbox.queue(tx, AMA, "Hello", "notice", case_id=s.ama)


def written_down(s: Story) -> int:
    with s.db.transaction() as tx:
        consent.hear(tx, AMA, "start", words="she called", message_id=None, by=Actor("desk", s.esi.id))
        s.clock.advance(seconds=1)
    with s.db.transaction() as tx:
        return outbox.queue(tx, AMA, "Hello", "notice", case_id=s.ama)


def waits_for_the_answer(s: Story) -> int:
    s.tell()
    s.work()
    with s.db.transaction() as tx:
        consent.hear(tx, AMA, "doubt", words="no more maybe", message_id=None, by=Actor("sms"))
    s.go()
    return s.to_ama()


def an_invitation(s: Story) -> int:
    s.world.change(s.ama, contact_phone_number_is_verified=False)
    s.texts(ESI, "invite ama")
    s.work()
    s.clock.advance(minutes=1)
    s.texts(ESI, f"ok {s.code()}")
    s.work()
    asked = int(s.last(direction="out", phone=AMA).id)
    s.clock.advance(minutes=1)
    s.texts(AMA, "yes")
    return asked


def an_invitation_that_is_open(s: Story) -> int:
    s.tell()
    s.go()
    s.world.change(s.ama, contact_phone_number_is_verified=False)
    s.texts(ESI, "invite ama")
    return int(s.last(direction="out", kind="text", phone=AMA).id)


def a_command(s: Story) -> int:
    return s.texts(ESI, "new tb TB clinic")


def a_confirmation(s: Story) -> int:
    s.tell()
    return int(s.last(direction="in").id)


def a_stop(s: Story) -> int:
    return s.texts(AMA, "Stop. Thank you")


def a_stop_told_by_the_gateway(s: Story) -> int:
    return s.texts(AMA, "arrêt", told="stop")


def a_reply(s: Story) -> int:
    return s.texts(AMA, "I cannot come on Friday")


def a_stranger(s: Story) -> int:
    return s.texts("15551234567", "who is this")


def a_fault(s: Story) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listeners, "_handle", lambda *_more, **_named: 1 / 0)
        number = s.texts(AMA, "hello")
        for _ in range(2):
            s.clock.advance(seconds=31)
            listeners.try_again(s.db)
    return number


LIVES: dict[Callable[[Story], int], Iterable[str]] = {
    delivered: [
        'asked: Esi Mensah asked for 1 through sms by texting "tell anc Clinic closed Friday" at 10:00:00 on 3 November in Africa/Accra (message 1)',
        "2 people in anc, of whom 2 could be texted",
        "code: a code was sent to Esi Mensah (message 2, accepted)",
        "code: Esi Mensah gave the code back",
        "confirmed: Esi Mensah through sms (message 3) confirmed 1",
        "held: 1 was let go and held until 10:02:00 on 3 November",
        "queued: put into the outbox (kind broadcast, language en",
        "gateway: goes by gateway simulator, the programme's default",
        "handed_over: handed to the gateway, attempt 1",
        "consent, halt, group, number and expiry were asked once more and let it go",
        "receipt: receipt: delivered: now delivered",
        "receipt: receipt: sent, which changed nothing",
        "state: now delivered (S",
    ],
    undelivered: ["receipt: receipt: undelivered, code 30003", "state: now undelivered", "30003"],
    tried_again: [
        "attempt: an attempt came to nothing: the gateway could not be reached; it was queued again",
        "state: now queued: the gateway could not be reached. It is tried again from",
    ],
    tried_again_and_taken: ["attempt: an attempt came to nothing", "handed to the gateway, attempt 2", "state: now accepted"],
    paused: ["attempt: an attempt came to nothing", "state: now queued", "Its gateway is paused until", "wrong token (20003)"],
    doubtful: ["an attempt had no clear outcome", "it became unknown", "handed to the gateway, attempt 1", "state: now unknown", "it may or may not have left", "never sent again without proof", "A receipt still settles it"],
    stopped_in_the_hold: ['consent: the number said STOP: "Stop. Thank you" through sms (message', "state: now withheld: the number said STOP"],
    stopped_before: ['consent: the number said STOP: "STOP"', "of whom 1 could be texted", "state: now withheld: the number said STOP"],
    halted: ["halted: Esi Mensah through sms (message", "halted 1", "state: now cancelled: it was halted before it left"],
    left: ["withheld: Esi Mensah through sms (message", "took the case out of anc", "state: now withheld: the case was taken out"],
    changed: ["withheld: the case has another number now", "state: now withheld"],
    same_phone: ["queued: was not put into the outbox (kind broadcast", "of the same broadcast goes to this phone, for", "state: now withheld: it goes to the same phone for another case"],
    at_night: [
        "waits: may leave from 09:00:00 on 3 November in America/New_York on (texts arrive from 09:00 to 20:00 by the clock there; the case's own zone)",
        "state: now queued", "It is tried from 14:00:00 on 3 November in Africa/Accra on",
    ],
    at_night_and_gone: ["waits: may leave from 09:00:00", "let it go; it was 10:0", "in America/New_York", "state: now accepted"],
    too_late: ["withheld: it was good until 10:02:00 on 4 November", "state: now expired: its time ran out"],
    own_gateway: ["gateway: goes by gateway simulator, because the case is set to it"],
    unknown_gateway: ["withheld: the case is set to the gateway nowhere", "state: now withheld: its gateway is not set up here"],
    second_person: [
        "second: Esi Mensah through sms (message 3) confirmed 1; a second person's ok was asked for, for it is for more than 1",
        "code: a code was sent to Lena", "confirmed: Lena through sms", "held: 1 was let go", "state: now accepted",
    ],
    from_the_desk: ["asked: system asked for 1 through cli: a text to 2 people in anc", "confirmed: system through cli (command line) confirmed 1", "state: now accepted"],
    a_code: ['answers: answers text 1 of Esi Mensah: "tell anc Clinic closed Friday"', "code: carries a code for 1", "confirmed: the code was given back: 1 is confirmed"],
    a_preview_that_was_replaced: ["code: carries a code for 1, which is good no more: a newer preview took its place", "state: now accepted"],
    replaced_before_it_left: ["a newer preview took its place", "state: now cancelled: a newer preview took its place"],
    at_its_hour: [
        "code: a code was sent to Esi Mensah (message 2, accepted), a newer preview took its place",
        'code: a code was sent to Esi Mensah (message 4, accepted), after "at 1 fri 1500" (message 3), good until 10:16:00',
        "scheduled: 1 was let go and waits for its hour, 2026-11-06 15:00 by each recipient's own clock",
        "handed_over: ",
    ],
    first_of_two: ["code: the code was given back\n"],
    one_person_at_once: [
        'asked: Esi Mensah asked for 2 through sms by texting "tell kofi Please call us"', ": a text to 1 person, of whom 1 could be texted",
        "confirmed: 2 went at once: this phone confirmed a code within twelve hours", "queued: put into the outbox",
    ],
    held_by_day: ["held: 1 was let go and held until 10:02:00", "waits: may leave from 10:02:00 on 3 November in Africa/Accra on\n"],
    tried_again_at_night: ["attempt: an attempt came to nothing", "It is tried again from"],
    an_answer: ["handed_over: handed to the gateway, attempt 1", "): consent and expiry were asked once more and let it go\n"],
    an_answer_to_stop: ["): expiry was asked once more and let it go\n"],
    in_doubt_and_back: ['consent: the number answered "2.", which means START, through sms'],
    written_down: ['consent: the number wants texts again: Esi Mensah wrote it down through desk: "she called"'],
    waits_for_the_answer: ["state: now queued: the number may have said STOP and was asked", "looked at again every five minutes, until the phone answers"],
    an_invitation: [
        'asked: Esi Mensah asked for 1 through sms by texting "invite ama"', "to ask whether this is the phone of Ama (c-", "code: a code was sent to Esi Mensah",
        "code: Esi Mensah gave the code back", "confirmed: Esi Mensah through sms", "queued: put into the outbox", "reply: the phone answered yes",
    ],
    an_invitation_that_is_open: [
        'by texting "invite ama"', "confirmed: 2 went at once: this phone confirmed a code within twelve hours",
        "asked: the phone may answer until 10:0",
    ],
    a_command: ["received: came in by simulator as in1 from Esi Mensah", "effect: it became 1, a new group, which is done now", "effect: it made the group tb (line", "reply: answered by message 2 (queued)", "state: taken for: command"],
    a_confirmation: ["effect: it confirmed 1 (line", "effect: it let 1 go (line", "state: taken for: command"],
    a_stop: ["received: came in by simulator as in1 from Ama (c-", "consent: the number said STOP by it", "reply: answered by message 2 (queued)", "state: taken for: stop (a wish to get no more texts)"],
    a_stop_told_by_the_gateway: ["received: the gateway itself said that it means stop", "consent: the number said STOP by it"],
    a_reply: ["effect: it became reply 1, which staff can answer by re 1: not answered yet", "reply: passed on to Esi Mensah by message 2 (queued)", "state: taken for: inbox"],
    a_stranger: ["from 15551234567", "reply: answered by message 2 (queued)", "state: taken for: stranger"],
    a_fault: ["state: set aside after 3 times: a person must look (fault "],
}  # fmt: skip


@pytest.mark.parametrize("lived", LIVES, ids=lambda lived: lived.__name__)
def test_a_life_is_told_in_order_with_every_step_that_it_had(story: Story, lived: Callable[[Story], int]) -> None:
    steps = story.life(lived(story))
    told = "\n".join(f"{step['kind']}: {step['what']}" for step in steps)
    place = 0
    for part in LIVES[lived]:
        assert part in told[place:], f"{part!r} is not told, or not after what comes before it, in:\n{told}"
        place = told.index(part, place)
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    assert {step["kind"] for step in steps} <= set(explanation_words.KINDS_OF_STEPS)
    assert [step["kind"] for step in steps].count("state") == 1
    assert steps[-1]["kind"] == "state"


@pytest.mark.parametrize("lived", LIVES, ids=lambda lived: lived.__name__)
def test_no_life_shows_a_code(story: Story, lived: Callable[[Story], int]) -> None:
    lived(story)
    with story.db.reading() as tx:
        secret = codes.secret_of(tx)
        known = [codes.digits(secret, row.nonce, row.length) for row in tx.execute(select(schema.codes))]
        numbers = list(tx.execute(select(schema.messages.c.id)).scalars())
        told = " ".join(step["what"] for number in numbers for step in explaining.life(tx, number))
    assert [code for code in known if code in told] == []


def test_a_number_that_may_have_said_stop_is_told_so(story: Story) -> None:
    with story.db.transaction() as tx:
        consent.hear(tx, AMA, "doubt", words="no more maybe", message_id=None, by=TEST)
        number = outbox.queue(tx, AMA, "Hello", "notice", case_id=story.ama)
    assert 'may have said STOP, and is held until it answers: "no more maybe"' in str(story.life(number))


NEVER: dict[Callable[[Story], int], Iterable[str]] = {
    a_preview_that_was_replaced: ["good until", "confirmed", "given back"],
    first_of_two: ["is confirmed"],
    at_its_hour: ["held until"],
    one_person_at_once: ["held until", "1 people", "gave the code back"],
    held_by_day: ["texts arrive from"],
    tried_again_at_night: ["texts arrive from", "may leave from"],
    same_phone: ["goes by gateway", "put into the outbox (kind broadcast, language en); it dies"],
    doubtful: ["came to nothing"],
    written_down: ["said START"],
    in_doubt_and_back: ["said START"],
    waits_for_the_answer: ["may leave from 10:07"],
}


@pytest.mark.parametrize("lived", NEVER, ids=lambda lived: lived.__name__)
def test_a_life_is_not_told_what_did_not_happen(story: Story, lived: Callable[[Story], int]) -> None:
    told = "\n".join(f"{step['kind']}: {step['what']}" for step in story.life(lived(story)))
    assert [words for words in NEVER[lived] if words in told] == []


def test_the_number_in_our_own_text_and_in_that_of_a_case_stays_readable(story: Story) -> None:
    number = story.texts(AMA, "ok call 0244123456")
    assert '"ok call 0244123456"' in str(story.life(story.last(direction="out", reply_to=number).id))


NO_TEXT_CAUSES = {"cases.import", "cases.own", "operations.ask", "programme.restore"}


def test_every_verb_of_the_log_that_a_text_can_cause_has_words(story: Story) -> None:
    source = "".join(path.read_text() for path in (Path(__file__).parents[2] / "storage").rglob("*.py"))
    verbs = set(re.findall(r'audit\.record\(\s*tx,\s*"([a-z.]+)"', source)) - NO_TEXT_CAUSES
    verbs = {verb for verb in verbs if not verb.startswith("people.")}
    assert verbs | {f"operations.{state}" for state in ("done", "seconding", "dropped", "refused", "undone")} <= set(
        explanation_words.DEEDS
    )


def test_every_word_that_confirms_hides_what_follows_it() -> None:
    for path in FOLDER.glob("*.toml"):
        assert set(sentences(path.stem).verbs["ok"]) <= set(exports.CONFIRMING)


def test_a_text_cannot_steer_the_terminal_of_whoever_looks_at_it(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = story.texts(AMA, "hi\x1b]0;owned\x07\x9b2J\u202edlrow")
    story.db.close()
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{story.db.file}")
    for words in (["list"], ["explain", str(number)], ["explain", str(number + 1)]):
        assert main(["messages", *words]) == 0
        out = capsys.readouterr().out
        assert [c for c in out if c != "\n" and not c.isprintable()] == []
        assert "\\x1b]0;owned\\x07" in out or words[0] == "explain"
    assert main(["messages", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["body"] == "hi\x1b]0;owned\x07\x9b2J\u202edlrow"


def test_the_times_beside_the_steps_are_those_of_the_sentences(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = delivered(story)
    story.db.close()
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{story.db.file}")
    monkeypatch.setenv("JUMBE_TIME_ZONE", "Africa/Nairobi")
    assert main(["messages", "explain", str(number)]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "Times are those of Africa/Nairobi."
    assert second.startswith("2026-11-03 13:00:00  Esi Mensah asked for 1")
    assert "at 13:00:00 on 3 November in Africa/Nairobi" in second


def test_a_message_that_is_not_there_is_one_problem(story: Story) -> None:
    with pytest.raises(explaining.Problem, match="message-unknown"):
        story.life(99)


def test_the_command_line_tells_whole_sentences_and_lists_no_code(
    story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = delivered(story)
    code = story.code()
    story.db.close()
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{story.db.file}")
    assert main(["messages", "explain", str(number)]) == 0
    out = capsys.readouterr().out
    assert "(message 1): a text to 2 people in anc, of whom 2 could be texted\n" in out
    assert main(["messages", "explain", str(number), "--json"]) == 0
    assert {"at", "kind", "what"} == set(json.loads(capsys.readouterr().out)[0])
    assert main(["messages", "list", "--direction", "in"]) == 0
    out = capsys.readouterr().out
    assert "ok ******" in out
    assert code not in out


def test_it_tells_what_the_gateway_said_when_it_was_asked(db: Database, clock: Any) -> None:
    from bot.gateways.base import Unknown
    from storage.messages import reconciliation

    story = Story(db, clock)
    story.gateway.answers = [Unknown("no answer")]
    with db.transaction() as tx:
        number = outbox.queue(tx, AMA, "Clinic on Monday", "text")
    story.work()
    attempt = story.last(id=number).attempt_id
    assert "is asked from 10:02:00" in story.life(number)[-1]["what"]
    clock.advance(minutes=2)
    with db.transaction() as tx:
        reconciliation.cannot_tell(tx, number, attempt, "the gateway could not be asked")
    for _ in range(2):
        clock.advance(minutes=11)
        with db.transaction() as tx:
            reconciliation.absent(tx, number, attempt)
    asked = [step["what"] for step in story.life(number) if step["kind"] == "ask"]
    assert asked == [
        "the gateway was asked what became of it, and could not say: the gateway could not be asked",
        "the gateway was asked what became of it, and does not have it",
        "the gateway was asked what became of it, and does not have it",
    ]
    assert story.life(number)[-1]["what"].endswith("tell it again if it is still wanted")
