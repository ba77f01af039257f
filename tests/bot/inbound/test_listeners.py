"""What comes in by the webhooks: once for ever, nobody's fault costs another anything, and strangers get nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from bot.app import create_app
from bot.gateways.base import Inbound, Request
from bot.gateways.twilio import Twilio
from bot.inbound import listeners, opt_outs
from bot.worker.worker import Worker
from storage import schema
from storage.audit import Actor
from storage.broadcasts import broadcasts, content, previews
from storage.contacts import consent, groups, people
from storage.database import Database
from storage.messages import inbox, lookups, outbox, receipts
from storage.operations import operations
from storage.rules.hours_and_limits import Rules
from tests.breaking import break_rows, mend
from tests.stub_twilio import StubTwilio, new_sid
from tests.world import TEST, World, broken_line

ACCOUNT, TOKEN, PUBLIC = "AC" + "7" * 32, "a token", "https://sms.example.org"
LENA, SAMUEL, AMA, KOFI = "233244000901", "233244000902", "233244000101", "233244000102"
STUB = StubTwilio(ACCOUNT, TOKEN)
IN = "/in/twilio"


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None,
        default_gateway="twilio", gateways=frozenset({"twilio"}),
    )  # fmt: skip


@pytest.fixture
def app(db: Database, world: World) -> Flask:
    world.group("anc", world.case("ama", AMA))
    world.case("kofi", KOFI)
    world.person("Lena", LENA)
    world.person("Samuel", SAMUEL, "supervisor", "anc")
    gateway = Twilio(
        name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender=STUB.number, messaging_service_sid=None
    )
    return create_app(db, {"twilio": gateway}, PUBLIC)


def post(app: Flask, form: dict[str, str], path: str = IN, *, signature: str | None = "") -> int:
    """A webhook request, signed by Twilio unless told otherwise."""
    headers = {} if signature is None else {"X-Twilio-Signature": signature or STUB.sign(PUBLIC + path, form)}
    return app.test_client().post(path, data=form, headers=headers).status_code


def say(app: Flask, phone: str, body: str, sid: str | None = None) -> int:
    return post(app, STUB.inbound_form(phone, body, sid))


def inbound(db: Database) -> list[Any]:
    """Every text that came in, oldest first."""
    with db.reading() as tx:
        return lookups.list_all(tx, direction="in")[::-1]


def answers(db: Database, phone: str) -> list[str]:
    with db.reading() as tx:
        return [row.body for row in lookups.list_all(tx, direction="out", phone=phone)][::-1]


def work(db: Database) -> None:
    """What a worker does about texts that came in."""

    async def drain() -> None:
        worker = Worker(db, {}, PUBLIC)
        await worker.drain()
        await worker.finish()

    asyncio.run(drain())


# -- once --------------------------------------------------------------------------------------------------------------


def test_a_text_that_the_gateway_delivers_twenty_times_has_one_effect(app: Flask, db: Database) -> None:
    sid = new_sid()
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: say(app, SAMUEL, "add anc kofi", sid), range(20)))
    assert taken == [200] * 20
    assert len(inbound(db)) == 1
    assert answers(db, SAMUEL) == ["anc: 1 in (now 2). To take back: undo 1"]
    with db.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(schema.memberships)) == 2
        assert broken_line(tx) is None


def test_the_same_words_under_another_id_are_another_text(app: Flask, db: Database) -> None:
    assert [say(app, AMA, "Hello") for _ in range(3)] == [200] * 3
    assert len(inbound(db)) == 3


def test_a_text_keeps_every_letter_but_the_one_no_database_can_hold(app: Flask, db: Database) -> None:
    say(app, AMA, "N\0ull, two\nlines, 🙏, ٤٢")
    assert inbound(db)[0].body == "Null, two\nlines, 🙏, ٤٢"


def test_half_a_character_is_kept_as_a_question_mark(app: Flask, db: Database) -> None:
    """urlencoded bytes that are no UTF-8, as a gateway in trouble may sign them."""
    from bot.gateways.base import Inbound
    from bot.inbound import listeners

    assert listeners.take(db, "twilio", Inbound("SM1", AMA, STUB.number, "Hi \ud83d there"))
    assert listeners.take(db, "twilio", Inbound("SM2", SAMUEL, STUB.number, "tell anc Hi \udcff there"))
    assert [row.body for row in inbound(db)] == ["Hi ? there", "tell anc Hi ? there"]


# -- a fault in the handling -------------------------------------------------------------------------------------------

NO_ADDING: dict[str, Any] = {"table": "audit", "when": "new.verb = 'groups.add'", "says": "not today, 233244000101"}
NO_CONFIRMING: dict[str, Any] = {"table": "messages", "when": "new.kind = 'consent'", "says": "not today"}
NO_HANDLING: dict[str, Any] = {
    "table": "messages",
    "when": "new.state = 'handled'",
    "says": "not today",
    "on": "UPDATE",
}
GIVES_UP: dict[str, Any] = NO_ADDING | {"says": "the disk is full", "gives_up": True}


def fail(db: Database, fault: dict[str, Any]) -> None:
    with db.transaction() as tx:
        break_rows(tx, **fault)


def test_a_text_whose_handling_fails_is_kept_and_tried_again(app: Flask, db: Database, clock: Any) -> None:
    fail(db, NO_ADDING)
    assert say(app, SAMUEL, "add anc kofi") == 200
    row = inbound(db)[0]
    assert (row.body, row.state, row.attempts) == ("add anc kofi", "received", 1)
    assert answers(db, SAMUEL) == []
    mend(db, "audit")
    work(db)
    assert answers(db, SAMUEL) == [], "not before half a minute has passed"
    clock.advance(seconds=31)
    work(db)
    assert answers(db, SAMUEL) == ["anc: 1 in (now 2). To take back: undo 1"]
    assert inbound(db)[0].state == "handled"


def test_a_text_that_fails_three_times_is_set_aside_and_the_leads_are_told(
    app: Flask, db: Database, clock: Any
) -> None:
    fail(db, NO_ADDING)
    say(app, SAMUEL, "add anc kofi")
    for _ in range(5):
        clock.advance(seconds=31)
        work(db)
    row = inbound(db)[0]
    assert (row.state, row.attempts) == ("set_aside", 3)
    assert row.reason.startswith("fault ")
    assert len(answers(db, LENA)) == 1
    assert "set aside" in answers(db, LENA)[0]
    with db.reading() as tx:
        assert lookups.list_all(tx, state="set_aside") == [row]
        assert tx.scalar(select(func.count()).select_from(schema.memberships)) == 1
        assert broken_line(tx) is None


def test_the_fault_of_one_text_costs_no_other_text_anything(app: Flask, db: Database) -> None:
    fail(db, NO_ADDING)
    say(app, SAMUEL, "add anc kofi")
    say(app, SAMUEL, "groups")
    say(app, AMA, "Hello")
    assert answers(db, SAMUEL)[0] == "1 in all: anc 1. To see who is in one: who GROUP"
    assert answers(db, SAMUEL)[1].startswith("1 Ama (ama)")
    assert [row.state for row in inbound(db)] == ["received", "handled", "handled"]


def test_no_number_and_no_word_of_a_text_is_logged_when_it_fails(app: Flask, db: Database, caplog: Any) -> None:
    fail(db, NO_ADDING)
    say(app, SAMUEL, "add anc kofi")
    assert "could not be handled" in caplog.text
    assert not any(word in caplog.text for word in ("kofi", AMA, SAMUEL, "not today"))


def test_a_stop_counts_although_its_handling_fails(app: Flask, db: Database) -> None:
    fail(db, NO_CONFIRMING)
    assert say(app, AMA, "Stop. Thank you") == 200
    assert inbound(db)[0].state == "received"
    with db.reading() as tx:
        assert not consent.may_text(tx, AMA)


def test_a_start_that_is_tried_again_does_not_undo_a_later_stop(app: Flask, db: Database, clock: Any) -> None:
    say(app, AMA, "STOP")
    fail(db, NO_CONFIRMING)
    say(app, AMA, "start!")
    say(app, AMA, "stop!")
    mend(db, "messages")
    clock.advance(seconds=31)
    work(db)
    assert {row.state for row in inbound(db)} == {"handled"}
    with db.reading() as tx:
        assert not consent.may_text(tx, AMA)
    assert [a.split(":")[1][:26] for a in answers(db, AMA)] == [" you will get no more texts"[:26]]


def test_what_the_database_gave_up_waits_in_the_spool_and_is_acted_on_once(app: Flask, db: Database) -> None:
    fail(db, GIVES_UP)
    sid = new_sid()
    assert say(app, SAMUEL, "add anc kofi", sid) == 200
    assert inbound(db) == []
    mend(db, "audit")
    assert say(app, SAMUEL, "add anc kofi", sid) == 200
    assert [row.state for row in inbound(db)] == ["handled"]
    assert answers(db, SAMUEL) == ["anc: 1 in (now 2). To take back: undo 1"]


def test_what_neither_database_nor_spool_can_keep_is_not_acknowledged(
    app: Flask, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(db, GIVES_UP)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bot.inbound.spool._write", full)
    sid = new_sid()
    assert say(app, SAMUEL, "add anc kofi", sid) == 503
    monkeypatch.undo()
    mend(db, "audit")
    assert inbound(db) == []
    assert say(app, SAMUEL, "add anc kofi", sid) == 200
    assert [row.state for row in inbound(db)] == ["handled"]


def test_a_doubt_that_is_tried_again_after_a_stop_asks_nothing(app: Flask, db: Database, clock: Any) -> None:
    fail(db, NO_CONFIRMING)
    say(app, AMA, "please stop texting me")
    mend(db, "messages")
    say(app, AMA, "Stop!")
    clock.advance(seconds=31)
    work(db)
    assert {row.state for row in inbound(db)} == {"handled"}
    assert [a.split(":")[1][:26] for a in answers(db, AMA)] == [" you will get no more texts"[:26]]
    say(app, AMA, "2")
    with db.reading() as tx:
        assert consent.newest(tx, AMA) == "stop"


@pytest.mark.parametrize(("said", "heard"), [("1", "stop"), ("Yes!", "stop"), ("YES", "stop"), ("2", "start")])
def test_a_number_in_doubt_answers_our_question(app: Flask, db: Database, said: str, heard: str) -> None:
    say(app, AMA, "please stop texting me")
    say(app, AMA, said)
    with db.reading() as tx:
        assert consent.newest(tx, AMA) == heard


def test_a_bare_no_is_asked_again_for_it_can_mean_either(app: Flask, db: Database) -> None:
    say(app, AMA, "please stop texting me")
    for _ in range(4):
        say(app, AMA, "no")
    with db.reading() as tx:
        assert consent.newest(tx, AMA) == "doubt"
    assert sum("Reply 1 to stop" in answer for answer in answers(db, AMA)) == 3


def test_what_a_machine_with_a_name_says_is_held_and_not_asked_about(app: Flask, db: Database) -> None:
    for sender in ("VODAFONE", "12345"):
        say(app, sender, "please stop texting me")
        assert answers(db, sender) == []
        with db.reading() as tx:
            assert not consent.may_text(tx, sender)


def test_help_is_answered_while_a_number_is_in_doubt(app: Flask, db: Database) -> None:
    say(app, AMA, "please stop texting me")
    say(app, AMA, "help!")
    assert "our staff will read it" in answers(db, AMA)[-1]


def test_a_text_that_is_tried_again_is_read_as_the_gateway_said_it_was(app: Flask, db: Database, clock: Any) -> None:
    fail(db, NO_HANDLING)
    assert post(app, {**STUB.inbound_form(AMA, "no more of this"), "OptOutType": "STOP"}) == 200
    assert inbound(db)[0].state == "received"
    mend(db, "messages")
    clock.advance(seconds=31)
    work(db)
    assert (inbound(db)[0].state, inbound(db)[0].handled_as) == ("handled", "stop")
    assert answers(db, AMA) == [], "the gateway has answered it"
    assert answers(db, SAMUEL) == [], "and nobody reads it as a reply"


# -- consent and loops -------------------------------------------------------------------------------------------------


def test_what_twilio_answered_is_not_answered_again(app: Flask, db: Database) -> None:
    say(app, AMA, " stop ")
    post(app, {**STUB.inbound_form(KOFI, "no more of this"), "OptOutType": "STOP"})
    post(app, {**STUB.inbound_form(KOFI, "what is this"), "OptOutType": "HELP"})
    with db.reading() as tx:
        assert not consent.may_text(tx, AMA)
        assert not consent.may_text(tx, KOFI)
    assert answers(db, AMA) == answers(db, KOFI) == []


def test_a_machine_that_answers_our_answers_is_answered_no_more(app: Flask, db: Database, clock: Any) -> None:
    for _ in range(30):
        say(app, SAMUEL, "Thank you for your message")
    assert len(answers(db, SAMUEL)) == 5
    clock.advance(minutes=11)
    say(app, SAMUEL, "groups")
    assert len(answers(db, SAMUEL)) == 6


def launched(db: Database, *, hold_s: int = 60) -> int:
    """A broadcast of Samuel's that holds."""
    with db.transaction() as tx:
        by = Actor("sms", people.person(tx, SAMUEL).id)
        number = previews.draft(tx, {"en": "Hello"}, group_ids=[groups.group(tx, "anc").id], by=by)
        operations.decide(tx, number, "done", by=by)
        broadcasts.launch(tx, number, hold_s=hold_s, by=by)
    return number


def state_of(db: Database, number: int) -> str:
    with db.reading() as tx:
        return str(content.broadcast(tx, number).state)


@pytest.mark.parametrize(
    "word",
    ["stop", "STOP", "Cancel", "end", "PARAR", "acha", "arrête", "stop it now please", "STOP\nSent from my iPhone"],
)
def test_a_stop_word_of_staff_halts_what_they_run_and_leaves_their_phone(word: str, app: Flask, db: Database) -> None:
    number = launched(db)
    say(app, SAMUEL, word)
    assert state_of(db, number) == "halted"
    assert answers(db, SAMUEL)[-1].startswith(f"Halted: {number}. 0 got it, 1 did not.")
    assert answers(db, LENA) == []
    with db.reading() as tx:
        assert consent.newest(tx, SAMUEL) is None


def test_what_somebody_else_runs_is_not_halted_by_a_stop_word(app: Flask, db: Database) -> None:
    number = launched(db)
    say(app, LENA, "stop!")
    assert state_of(db, number) == "held"
    with db.reading() as tx:
        assert consent.newest(tx, LENA) == "stop"


def test_a_paused_one_and_one_that_waits_for_its_hour_are_halted_too(app: Flask, db: Database) -> None:
    first, second = launched(db), launched(db, hold_s=86_400)
    with db.transaction() as tx:
        broadcasts.pause(tx, first, by=TEST)
    say(app, SAMUEL, "stop!")
    assert (state_of(db, first), state_of(db, second)) == ("halted", "halted")
    assert answers(db, SAMUEL)[-1].startswith(f"Halted: {second}, {first}.")


def test_a_stop_that_the_gateway_acted_on_stops_the_phone_and_halts_and_the_leads_are_told(
    app: Flask, db: Database
) -> None:
    number = launched(db)
    post(app, {**STUB.inbound_form(SAMUEL, "STOP"), "OptOutType": "STOP"})
    assert state_of(db, number) == "halted"
    assert answers(db, SAMUEL) == []
    assert answers(db, LENA) == ["Samuel texted STOP and cannot be answered any more, until START from that phone"]
    with db.reading() as tx:
        assert consent.newest(tx, SAMUEL) == "stop"


def test_a_lead_who_said_stop_is_not_told_of_another(app: Flask, db: Database) -> None:
    say(app, LENA, "stop!")
    told = answers(db, LENA)
    say(app, SAMUEL, "stop!")
    assert answers(db, LENA) == told


def test_a_halt_that_failed_is_tried_again_and_stops_no_phone(app: Flask, db: Database, clock: Any) -> None:
    number = launched(db)
    fail(db, {"table": "audit", "when": "new.verb = 'broadcasts.halt'", "says": "not today"})
    say(app, SAMUEL, "stop")
    assert state_of(db, number) == "held"
    mend(db, "audit")
    clock.advance(seconds=31)
    work(db)
    assert state_of(db, number) == "halted"
    with db.reading() as tx:
        assert consent.newest(tx, SAMUEL) is None


def test_the_leads_learn_that_the_network_stopped_a_phone_of_staff(app: Flask, db: Database) -> None:
    with db.transaction() as tx:
        reply = outbox.queue(tx, SAMUEL, "Hello", "reply")
        opt_outs.note_opt_out(tx, reply, by=TEST)
        opt_outs.note_opt_out(tx, reply, by=TEST)
    assert answers(db, LENA) == ["Samuel texted STOP and cannot be answered any more, until START from that phone"]


def test_a_short_code_or_a_name_is_not_answered(app: Flask, db: Database) -> None:
    for sender in ("12345", "MTN"):
        say(app, sender, "You have won")
        assert answers(db, sender) == []
    assert [row.handled_as for row in inbound(db)] == ["stranger", "stranger"]


def test_a_reply_is_of_the_supervisors_who_care(app: Flask, db: Database) -> None:
    say(app, AMA, "Hello")
    say(app, KOFI, "Hello")
    assert [len(answers(db, phone)) for phone in (SAMUEL, LENA)] == [1, 1]
    with db.transaction() as tx:
        groups.remove(tx, 1, [1], by=TEST)
    say(app, AMA, "Hello again")
    assert [len(answers(db, phone)) for phone in (SAMUEL, LENA)] == [1, 2]


def test_a_person_who_was_removed_is_a_stranger(app: Flask, db: Database) -> None:
    with db.transaction() as tx:
        people.remove(tx, people.person(tx, SAMUEL), by=TEST)
    say(app, SAMUEL, "who anc")
    assert answers(db, SAMUEL)[0].startswith("Thank you. This number is for members")


def opted_out_receipt(app: Flask, db: Database, sid: str, of: str) -> None:
    """A text to Kofi that Twilio knows as `sid`, and a receipt at its address for the text `of`."""
    with db.transaction() as tx:
        number = outbox.queue(tx, KOFI, "Hello", "notice")
        sent = schema.messages.update().where(schema.messages.c.id == number)
        tx.execute(sent.values(state="accepted", attempts=1, gateway_id=sid))
    form = STUB.receipt_form(of, KOFI, "undelivered", 21610)
    assert post(app, form, f"/status/twilio/{number}") == 200


def test_a_receipt_that_says_opted_out_is_a_stop(app: Flask, db: Database) -> None:
    sid = new_sid()
    opted_out_receipt(app, db, sid, sid)
    with db.reading() as tx:
        assert not consent.may_text(tx, KOFI)


def test_a_receipt_that_says_opted_out_ends_a_doubt(app: Flask, db: Database) -> None:
    say(app, KOFI, "please stop texting me")
    sid = new_sid()
    opted_out_receipt(app, db, sid, sid)
    with db.reading() as tx:
        assert consent.newest(tx, KOFI) == "stop"


def test_a_receipt_of_another_message_stops_nobody(app: Flask, db: Database) -> None:
    opted_out_receipt(app, db, new_sid(), new_sid())
    with db.reading() as tx:
        assert consent.may_text(tx, KOFI)


# -- who may knock -----------------------------------------------------------------------------------------------------


def test_an_unsigned_text_is_refused(app: Flask, db: Database) -> None:
    form = STUB.inbound_form(LENA, "tell anc Hello")
    good = STUB.sign(PUBLIC + IN, form)
    assert post(app, form, signature=None) == 403
    assert post(app, form, signature="aGVsbG8=") == 403
    assert post(app, {**form, "Body": "tell anc Help"}, signature=good) == 403
    assert post(app, {**form, "From": f"+{SAMUEL}"}, signature=good) == 403
    assert post(app, form, signature=STUB.sign("https://elsewhere.example.org" + IN, form)) == 403
    assert inbound(db) == []


def test_a_text_of_another_account_is_refused(app: Flask, db: Database) -> None:
    assert post(app, {**STUB.inbound_form(LENA, "menu"), "AccountSid": "AC" + "8" * 32}) == 403
    assert inbound(db) == []


def test_an_unknown_gateway_is_nowhere(app: Flask) -> None:
    form = STUB.inbound_form(LENA, "menu")
    assert post(app, form, "/in/other") == 404
    assert post(app, form, "/in/twilio/more") == 404
    assert post(app, form, "/status/other/1") == 404
    assert post(app, form, "/status/twilio/none") == 404
    assert post(app, form, f"/status/twilio/{10**30}") == 404
    assert app.test_client().get(IN).status_code == 405


def test_a_receipt_for_no_message_of_ours_is_kept_and_moves_nothing(app: Flask, db: Database) -> None:
    path = f"/status/twilio/{2**31 - 1}"
    assert post(app, STUB.receipt_form(new_sid(), AMA, "delivered"), path) == 200
    with db.reading() as tx:
        assert [r.moved for r in receipts.receipts_of(tx, 2**31 - 1)] == [False]


@pytest.mark.parametrize("path", [IN, "/status/twilio/1"])
def test_a_request_that_is_too_large_is_refused_like_any_that_the_gateway_did_not_make(app: Flask, path: str) -> None:
    client = app.test_client()
    for size in (65536, 65537, 2**20):
        answer = client.post(path, data=b"x" * size)
        assert (answer.status_code, answer.data) == (403, b"not signed by the gateway\n")


@pytest.mark.parametrize("secret", ["menu at once", "\0", "Body", "233244000901"])
def test_a_refusal_says_nothing_of_what_was_sent(app: Flask, secret: str) -> None:
    answer = app.test_client().post(IN, data={"Body": secret, "From": f"+{LENA}"})
    assert answer.status_code == 403
    assert answer.data == b"not signed by the gateway\n"


@pytest.fixture
def door(app: Flask) -> Iterator[Flask]:
    yield app


PLAYED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PLAYED
@given(st.binary(max_size=400), st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=40))
@example(b"Body=%ff%fe&From=%2B1", "")
@example(b"\xff\xfe\x00", "x")
@example(b"=&=&&==", "é")
def test_whatever_a_stranger_sends_is_refused(door: Flask, body: bytes, signature: str) -> None:
    for path in (IN, "/status/twilio/1"):
        answer = door.test_client().post(
            path, data=body, headers={"X-Twilio-Signature": signature}, content_type="application/x-www-form-urlencoded"
        )
        assert answer.status_code == 403


@PLAYED
@given(st.binary(max_size=400))
@example(b"")
@example(b"Body=%ff%fe")
@example(b"Body=%ed%a0%80")
def test_whatever_the_gateway_signs_is_no_fault_of_ours(door: Flask, body: bytes) -> None:
    fields = Request("POST", PUBLIC + IN, {}, body).form()
    try:
        signature = STUB.sign(PUBLIC + IN, fields)
    except UnicodeEncodeError:
        return
    answer = door.test_client().post(
        IN, data=body, headers={"X-Twilio-Signature": signature}, content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code in (200, 400, 403)


@PLAYED
@given(
    st.text(max_size=300),
    st.sampled_from([AMA, LENA, "12345", "MTN"]),
    st.dictionaries(
        st.sampled_from(["From", "To", "NumMedia", "OptOutType", "MessageSid", "Extra"]),
        st.text(max_size=30),
        max_size=2,
    ),
)
def test_whatever_a_signed_text_says_is_kept_or_refused(
    door: Flask, body: str, sender: str, odd: dict[str, str]
) -> None:
    form = {**STUB.inbound_form(sender, body), **odd}
    path = IN
    answer = door.test_client().post(
        path,
        data=urlencode(form),
        headers={"X-Twilio-Signature": STUB.sign(PUBLIC + path, form)},
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.status_code in ((200, 400, 403) if odd else (200,))


def test_what_a_phone_says_while_a_faulty_text_is_kept_once_more_came_later_and_holds(
    db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.group("anc", world.case("Ama", AMA))
    listeners.take(db, "twilio", Inbound("SM0", AMA, "", "stop"))
    handle, open_one, opened = listeners._handle, db.transaction, []

    def fails_once(*told: Any) -> None:
        monkeypatch.setattr(listeners, "_handle", handle)
        raise RuntimeError("our own")

    def another_between(**how: Any) -> Any:
        opened.append(how)
        if len(opened) == 2:
            monkeypatch.setattr(db, "transaction", open_one)
            db.clock.advance(seconds=1)  # type: ignore[attr-defined]
            listeners.take(db, "twilio", Inbound("SM2", AMA, "", "stop"))
        return open_one(**how)

    monkeypatch.setattr(listeners, "_handle", fails_once)
    monkeypatch.setattr(db, "transaction", another_between)
    db.clock.advance(seconds=60)  # type: ignore[attr-defined]
    assert listeners.take(db, "twilio", Inbound("SM1", AMA, "", "start"))
    with db.reading() as tx:
        assert inbox.known_inbound(tx, "twilio", ["SM1", "SM2"]) == {"SM1", "SM2"}
        assert not consent.may_text(tx, AMA), "it said stop after that start"
