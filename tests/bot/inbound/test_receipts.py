"""What a receipt means beyond its own message: the gateway slows, or it or one of our numbers is paused, and once only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from bot.gateways.base import Request
from bot.gateways.twilio import Twilio
from bot.inbound import intake
from bot.inbound.spool import Kept, Spool
from storage.database import Database
from storage.messages import gate, lookups, outbox
from storage.programme import rate_limits
from storage.rules.hours_and_limits import Rules, Senders
from tests.stub_twilio import StubTwilio, new_sid

ACCOUNT, TOKEN, PUBLIC = "AC" + "7" * 32, "a token", "https://sms.example.org"
OURS = ("15005550006", "15005550016")
AMA, KOFI = "233244000101", "233244000102"
STUB = StubTwilio(ACCOUNT, TOKEN)


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None,
        default_gateway="twilio", gateways=frozenset({"twilio"}),
    )  # fmt: skip


def sent(db: Database, phone: str = AMA) -> Any:
    """A message that left and was accepted, as its row is now."""
    with db.transaction() as tx:
        number = outbox.queue(tx, phone, "Clinic on Monday", "notice")
        (handed,), _ = gate.hand_over(tx, outbox.claim(tx, "twilio", "w", 1), "w", rate_per_s=100)
        outbox.settle(tx, [outbox.Settled(number, handed.attempt_id, "accepted", gateway_id=new_sid())])
        return lookups.message(tx, number)


def told(
    db: Database, row: Any, word: str, code: int | None = None, *, sid: str | None = None, attempt: str | None = "own"
) -> int:
    """Twilio calls the status address of a message; returns what we answer."""
    form = STUB.receipt_form(sid or row.gateway_id, row.phone, word, code)
    asked = f"?attempt={row.attempt_id if attempt == 'own' else attempt}" if attempt else ""
    url = f"{PUBLIC}/status/twilio/{row.id}{asked}"
    headers = {"x-twilio-signature": STUB.sign(url, form)}
    request = Request("POST", url, headers, urlencode(form).encode())
    gateway = Twilio(name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender=OURS, messaging_service_sid=None)
    assert db.file is not None
    spool = Spool(Path(f"{db.file}-spool"))
    return intake.take(db, {"twilio": gateway}, Kept("twilio", request, row.id, db.clock()), spool)


def state(db: Database, row: Any) -> tuple[str, str | None]:
    with db.reading() as tx:
        now = lookups.message(tx, row.id)
    return now.state, now.code


def paused(db: Database) -> list[tuple[str, str | None]]:
    with db.reading() as tx:
        whole = [(row.paused_because, None) for row in rate_limits.paused(tx)]
        return whole + [(row.paused_because, row.number) for row in rate_limits.paused_senders(tx)]


def speed(db: Database) -> float:
    with db.reading() as tx:
        return next((rate_limits.speed(row, tx.now) for row in rate_limits.list_gateways(tx)), 1.0)


@pytest.mark.parametrize("code", ["30002", "30018", "30024", "30032", "30034", "63015"])
def test_what_only_a_person_can_mend_pauses_the_gateway_until_a_person_has(db: Database, clock: Any, code: str) -> None:
    row = sent(db)
    assert told(db, row, "undelivered", int(code)) == 200
    assert state(db, row) == ("undelivered", code)
    assert [because[-7:] for because, _ in paused(db)] == [f"({code})"]
    clock.advance(days=9)
    assert paused(db)
    with db.transaction() as tx:
        rate_limits.resume(tx, "twilio")
    assert paused(db) == []


@pytest.mark.parametrize("code", ["30018", "30034"])
def test_of_several_numbers_only_the_one_that_is_meant_is_paused(db: Database, code: str) -> None:
    db.rules = replace(db.rules, senders={"twilio": Senders(OURS)})
    row = sent(db)
    assert row.own_number in OURS
    told(db, row, "failed", int(code))
    assert [number for _, number in paused(db)] == [row.own_number]
    other = sent(db)
    assert other.own_number == next(iter(set(OURS) - {row.own_number}))


def test_a_suspended_account_pauses_the_gateway_however_many_numbers_it_has(db: Database) -> None:
    db.rules = replace(db.rules, senders={"twilio": Senders(OURS)})
    told(db, sent(db), "failed", 30002)
    assert [number for _, number in paused(db)] == [None]


@pytest.mark.parametrize("code", ["30001", "30017", "30022", "63018"])
def test_what_asks_for_less_slows_the_gateway_and_pauses_nothing(db: Database, clock: Any, code: str) -> None:
    told(db, sent(db), "undelivered", int(code))
    assert (speed(db), paused(db)) == (0.5, [])
    clock.advance(minutes=1)
    assert speed(db) == 1.0


@pytest.mark.parametrize("code", ["30023", "30027", "63038"])
def test_a_day_s_cap_holds_until_the_next_day(db: Database, clock: Any, code: str) -> None:
    told(db, sent(db), "undelivered", int(code))
    assert paused(db)
    clock.advance(hours=13, minutes=59)
    assert paused(db)
    clock.advance(minutes=1)
    assert paused(db) == []


@pytest.mark.parametrize("code", ["30003", "30004", "30005", "30006", "30007", "30008", "30410", "39999"])
def test_what_is_about_one_text_holds_up_no_other_and_is_not_sent_again(db: Database, code: str) -> None:
    row = sent(db)
    told(db, row, "undelivered", int(code))
    assert state(db, row) == ("undelivered", code)
    assert (paused(db), speed(db)) == ([], 1.0)


def test_a_receipt_that_comes_twice_pauses_once_and_what_left_before_the_mending_pauses_no_more(
    db: Database, clock: Any
) -> None:
    first, second = sent(db), sent(db, KOFI)
    clock.advance(seconds=9)
    told(db, first, "undelivered", 30034)
    with db.transaction() as tx:
        rate_limits.resume(tx, "twilio")
    told(db, first, "undelivered", 30034)
    told(db, second, "undelivered", 30034)
    assert paused(db) == []
    assert state(db, second) == ("undelivered", "30034")
    clock.advance(seconds=9)
    told(db, sent(db, KOFI), "undelivered", 30034)
    assert paused(db)


# -- whose receipt it is -----------------------------------------------------------------------------------------------


def sending(db: Database, phone: str = AMA) -> Any:
    """A message that was handed over and has no answer yet."""
    with db.transaction() as tx:
        number = outbox.queue(tx, phone, "Clinic on Monday", "notice")
        gate.hand_over(tx, outbox.claim(tx, "twilio", "w", 1), "w", rate_per_s=100)
        return lookups.message(tx, number)


def test_a_receipt_of_another_attempt_under_the_same_number_moves_nothing(db: Database) -> None:
    """After a restore our numbers begin again where the backup ended, and receipts of the lost time may still come."""
    row = sending(db)
    assert told(db, row, "delivered", sid=new_sid(), attempt="0123456789abcdef") == 200
    told(db, row, "undelivered", 21610, sid=new_sid(), attempt="0123456789abcdef")
    told(db, row, "failed", 30002, sid=new_sid(), attempt="0123456789abcdef")
    assert state(db, row) == ("sending", None)
    assert paused(db) == []
    own = new_sid()
    told(db, row, "delivered", sid=own)
    assert state(db, row) == ("delivered", None)


def test_a_receipt_of_an_earlier_attempt_of_ours_still_counts(db: Database) -> None:
    row = sending(db)
    with db.transaction() as tx:
        outbox.settle(tx, [outbox.Settled(row.id, row.attempt_id, "queued", reason="throttled", due_at=tx.now)])
        gate.hand_over(tx, outbox.claim(tx, "twilio", "w", 1), "w", rate_per_s=100)
    told(db, row, "sent", sid=new_sid())
    assert state(db, row) == ("sent", None)


def test_a_receipt_whose_address_names_no_attempt_counts_as_it_did(db: Database) -> None:
    row = sending(db)
    told(db, row, "sent", sid=new_sid(), attempt=None)
    assert state(db, row) == ("sent", None)
