"""Whatever is asked, answered, failed and waited for in whatever order: one is open on a phone, and nothing is forgotten.

A fake kind that does not interrupt, as a survey will not, is put in from here alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from storage.contacts import cases
from storage.contacts.cases import Wanted
from storage.conversations import conversations
from storage.conversations.conversations import KINDS, MOVES, Kind
from storage.database import Database
from storage.messages import gate, lookups, outbox
from storage.messages.outbox import Settled
from storage.operations import operations
from storage.schema import conversations as table
from storage.schema import messages
from tests.world import TEST

PHONES = ("525512345690", "233244000101")
SPELLINGS = {PHONES[0]: (PHONES[0], "5215512345690"), PHONES[1]: (PHONES[1],)}


@pytest.fixture(autouse=True)
def survey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "survey", Kind(interrupts=False, life=None))


class Phones:
    """Two phones, what they were asked, and a worker that hands texts over and hears what became of them."""

    def __init__(self, db: Database) -> None:
        self.db = db
        with db.transaction() as tx:
            self.case = cases.save(
                tx, [Wanted(None, {"external_id": "ama", "contact_phone_number": PHONES[1]})], by=TEST
            )[0]

    def ask(self, phone: str, kind: str) -> None:
        with self.db.transaction() as tx:
            number = operations.note(tx, kind, words="", undoes=None, by=TEST)
            text = outbox.queue(tx, phone, "Is this your phone?", "reply")
            case = self.case if kind in ("invite", "move") else None
            conversations.begin(tx, phone, kind, case_id=case, operation_id=number, message_id=text)

    def send(self, become: str) -> None:
        """One batch leaves; each of its texts is answered by the gateway as `become` says."""
        with self.db.transaction() as tx:
            claimed = outbox.claim(tx, "simulator", "worker", 10)
            leaving, waiting = gate.hand_over(tx, claimed, "worker", rate_per_s=1000)
            assert not waiting
        self.look()
        with self.db.transaction() as tx:
            due = tx.now if become == "queued" else None
            outbox.settle(tx, [Settled(one.id, one.attempt_id, become, due_at=due) for one in leaving])
        self.look()

    def answer(self, phone: str) -> None:
        with self.db.transaction() as tx:
            is_open = conversations.open_on(tx, phone)
            if is_open is not None:
                assert conversations.close(tx, is_open.id, "yes")
                assert not conversations.close(tx, is_open.id, "no"), "an answer counts once"
            self.resume(tx, phone)

    def resume(self, tx: Any, phone: str | None = None) -> None:
        """As the bot does: what was suspended is put once more."""
        for row in conversations.to_resume(tx, phone):
            conversations.say_again(tx, row.id, outbox.queue(tx, row.phone, "Once more", "reply"))

    def tend(self) -> None:
        with self.db.transaction() as tx:
            conversations.tend(tx)
            self.resume(tx)

    def look(self) -> None:
        """What holds at every moment."""
        with self.db.reading() as tx:
            opened = tx.execute(select(table.c.phone_key).where(table.c.state == "open")).scalars().all()
            assert len(opened) == len(set(opened)), "two are open on a phone"
            for row in tx.execute(select(table)):
                assert (row.state == "closed") == (row.closed_at is not None) == (row.outcome is not None)

    def end(self) -> None:
        """Everything is sent, everybody answers what is put to them: then nothing is left, and nothing was forgotten."""
        for _ in range(200):
            self.send("delivered")
            for phone in PHONES:
                self.answer(phone)
            self.tend()
            with self.db.transaction() as tx:
                tx.execute(update(messages).where(messages.c.state == "queued").values(due_at=tx.now))
                left = tx.scalar(select(func.count()).select_from(table).where(table.c.state != "closed"))
            if not left:
                return
        raise AssertionError("something is never asked again")


ACTS = st.one_of(
    st.tuples(
        st.just("ask"),
        st.sampled_from([*PHONES, SPELLINGS[PHONES[0]][1]]),
        st.sampled_from(sorted({*KINDS, "survey"} - {"which"})),
    ),
    st.tuples(st.just("send"), st.sampled_from(["accepted", "delivered", "queued", "refused", "unknown"])),
    st.tuples(st.just("answer"), st.sampled_from(PHONES)),
    st.tuples(st.just("tend")),
    st.tuples(st.just("later"), st.integers(1, 4)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTS, max_size=25))
def test_never_two_open_nothing_asked_for_ever_and_nothing_forgotten(new_db: Any, acts: list[Any]) -> None:
    with new_db() as db:
        phones = Phones(db)
        for act, *how in acts:
            if act == "later":
                db.clock.advance(days=how[0])
            else:
                getattr(phones, act)(*how)
            phones.look()
        phones.end()
        with db.reading() as tx:
            rows = tx.execute(select(table)).all()
            asked = sum(act[0] == "ask" for act in acts)
        assert len(rows) == asked
        assert {row.outcome for row in rows} <= {"yes", "expired", "failed"}


def test_a_kind_that_does_not_interrupt_waits_and_fails_no_batch(db: Database) -> None:
    phones = Phones(db)
    phones.ask(PHONES[0], "invite")
    phones.send("delivered")
    phones.ask(PHONES[0], "survey")
    with db.transaction() as tx:
        other = outbox.queue(tx, PHONES[1], "Hello", "reply")
    phones.send("delivered")
    with db.reading() as tx:
        (survey,) = [row for row in conversations.live_on(tx, PHONES[0]) if row.kind == "survey"]
        text = lookups.message(tx, survey.message_id)
        assert text is not None
        assert (survey.state, text.state, text.reason) == ("waiting", "queued", "in-conversation")
        sent = lookups.message(tx, other)
        assert sent is not None
        assert sent.state == "delivered"
    phones.answer(PHONES[0])
    phones.end()


def test_what_is_interrupted_is_put_again_once_and_a_yes_to_the_other_does_not_answer_it(db: Database) -> None:
    phones = Phones(db)
    phones.ask(PHONES[0], "invite")
    phones.send("delivered")
    phones.ask(SPELLINGS[PHONES[0]][1], "move")
    phones.send("delivered")
    with db.reading() as tx:
        assert [(row.kind, row.state) for row in conversations.live_on(tx, PHONES[0])] == [
            ("invite", "suspended"),
            ("move", "open"),
        ]
    phones.answer(PHONES[0])
    phones.tend()
    phones.tend()
    with db.reading() as tx:
        (invite,) = conversations.live_on(tx, PHONES[0])
        assert (invite.state, invite.turn) == ("suspended", 2), "put once more, and not opened before that text leaves"
    phones.send("delivered")
    with db.reading() as tx:
        is_open = conversations.open_on(tx, PHONES[0])
        assert is_open is not None
        assert is_open.kind == "invite"


def test_a_text_that_certainly_did_not_leave_opens_nothing_and_one_that_never_arrived_ends_it(db: Database) -> None:
    phones = Phones(db)
    phones.ask(PHONES[0], "invite")
    phones.send("queued")
    phones.tend()
    with db.reading() as tx:
        (invite,) = conversations.live_on(tx, PHONES[0])
        assert invite.state == "waiting"
    phones.send("unknown")
    phones.tend()
    with db.reading() as tx:
        assert conversations.open_on(tx, PHONES[0]) is not None, "it may have arrived"
    with db.transaction() as tx:
        tx.execute(update(messages).values(state="undelivered"))
    phones.tend()
    with db.reading() as tx:
        over = conversations.conversation(tx, invite.id)
        assert over is not None
        assert (over.state, over.outcome) == ("closed", "failed")


def test_the_database_itself_refuses_a_second_open_one(db: Database) -> None:
    phones = Phones(db)
    for kind in ("invite", "move"):
        phones.ask(PHONES[0], kind)
    with db.reading() as tx, pytest.raises(Exception, match=r"phone_key|one_open_conversation"):
        tx.execute(update(table).values(state="open"))


def test_every_move_is_in_the_table_and_the_end_is_the_end() -> None:
    assert set(MOVES) == {"waiting", "open", "suspended", "closed"}
    assert MOVES["closed"] == frozenset()
    assert all(becomes in MOVES for moves in MOVES.values() for becomes in moves)
