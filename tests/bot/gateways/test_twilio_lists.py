"""What Twilio's list proves of a message in doubt, and what it tells of texts that came in; over HTTP, to the stub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.gateways import twilio as adapter_module
from bot.gateways.base import Absent, CannotTell, Doubtful, FindResult, Found, Inbound, Outgoing
from bot.gateways.twilio import Twilio
from tests.stub_twilio import StubTwilio, new_sid, requires_spec

ACCOUNT, TOKEN, SERVICE = "AC" + "7" * 32, "a token", "MG" + "9" * 32
PERSON, OTHER = "254700000001", "254700000002"
WORDS = "Clinic on Monday"


@pytest.fixture
def stub() -> Iterator[StubTwilio]:
    with StubTwilio(ACCOUNT, TOKEN) as running:
        yield running
        assert running.spec_faults == []


def adapter(stub: StubTwilio, **more: Any) -> Twilio:
    told = {"sender": "15005550006", "messaging_service_sid": None} | more
    return Twilio(name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, api_url=stub.url, **told)


def run(gateway: Twilio, *calls: Any) -> list[Any]:
    async def whole() -> list[Any]:
        try:
            return [await call for call in calls]
        finally:
            await gateway.close()

    return asyncio.run(whole())


def hand_over(stub: StubTwilio, to: str = PERSON, text: str = WORDS, mode: str = "cut", **more: Any) -> None:
    stub.mode = mode
    gateway = adapter(stub, **more)
    run(gateway, gateway.send(Outgoing(1, "a1", to, text, "https://sms.example.org/status/twilio/1")))


def find(
    stub: StubTwilio, text: str = WORDS, *, not_it: frozenset[str] = frozenset(), ago_s: float = 0, **more: Any
) -> FindResult:
    gateway = adapter(stub, **more)
    at = datetime.now(UTC) - timedelta(seconds=ago_s)
    (found,) = run(gateway, gateway.find(Doubtful(1, "a1", PERSON, text, at, not_it)))
    return found


def sweep(stub: StubTwilio, since: datetime | None = None, **more: Any) -> list[Inbound] | CannotTell:
    gateway = adapter(stub, **more)
    (swept,) = run(gateway, gateway.sweep(since or datetime.now(UTC) - timedelta(hours=1)))
    return swept


# -- a message in doubt ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cut", "half"])
def test_a_message_whose_answer_was_lost_is_found_by_its_words(stub: StubTwilio, mode: str) -> None:
    hand_over(stub, mode=mode)
    assert find(stub) == Found(stub.book[0]["sid"], "sent")


@pytest.mark.parametrize("mode", ["refuse", "503"])
def test_a_message_that_twilio_never_took_is_absent(stub: StubTwilio, mode: str) -> None:
    hand_over(stub, OTHER, mode="ok")
    hand_over(stub, mode=mode)
    assert find(stub) == Absent()


def test_a_message_that_is_still_queued_at_twilio_is_found_though_it_has_no_date_of_sending(stub: StubTwilio) -> None:
    hand_over(stub)
    stub.book[0] |= {"sent": False, "status": "queued"}
    assert find(stub) == Found(stub.book[0]["sid"], "accepted")


@pytest.mark.parametrize(
    ("word", "code", "state"),
    [("delivered", None, "delivered"), ("failed", 30003, "undelivered"), ("a-new-word", None, "accepted")],
)
def test_what_is_found_says_how_far_it_is(stub: StubTwilio, word: str, code: int | None, state: Any) -> None:
    hand_over(stub)
    stub.book[0] |= {"status": word, "error_code": code}
    assert find(stub) == Found(stub.book[0]["sid"], state, str(code) if code else None)


def test_the_same_words_sent_twice_to_one_phone_are_never_mistaken_for_each_other(stub: StubTwilio) -> None:
    hand_over(stub, mode="ok")
    assert find(stub, not_it=frozenset({stub.book[0]["sid"]})) == Absent()
    hand_over(stub)
    assert find(stub, not_it=frozenset({stub.book[0]["sid"]})) == Found(stub.book[1]["sid"], "sent")
    assert isinstance(find(stub), CannotTell), "which of the two is ours cannot be told"


def test_another_message_to_the_phone_that_may_be_ours_with_other_words_proves_nothing(stub: StubTwilio) -> None:
    """Smart encoding changes words, and redaction hides them."""
    hand_over(stub, text="Clinic on \u201cMonday\u201d")
    assert isinstance(find(stub), CannotTell)
    stub.hides_bodies = True
    assert isinstance(find(stub, text="Clinic on \u201cMonday\u201d"), CannotTell)


def test_what_was_sent_long_before_is_not_it(stub: StubTwilio) -> None:
    stub.now = lambda: time.time() - 3600
    hand_over(stub, mode="ok")
    assert find(stub) == Absent()
    assert isinstance(find(stub, ago_s=3600), Found)


def test_a_text_from_the_phone_with_the_same_words_is_not_it(stub: StubTwilio) -> None:
    stub.arrive(PERSON, WORDS)
    assert find(stub) == Absent()


def test_a_messaging_service_finds_its_messages_too(stub: StubTwilio) -> None:
    hand_over(stub, messaging_service_sid=SERVICE)
    assert find(stub, messaging_service_sid=SERVICE) == Found(stub.book[0]["sid"], "sent")


def test_a_list_is_read_to_the_page_that_is_older(stub: StubTwilio) -> None:
    stub.page_size = 2
    for hours in range(9, 0, -1):
        stub.now = lambda hours=hours: time.time() - 3600 * hours
        hand_over(stub, text=f"Text {hours}", mode="ok")
    stub.now = time.time
    hand_over(stub)
    before = len(stub.requests)
    assert isinstance(find(stub), Found)
    assert len(stub.requests) - before == 1, "the newest first: the second on the page is an hour old"
    stub.list_mode = "unsorted"
    assert isinstance(find(stub), Found)
    assert len(stub.requests) - before == 1 + 5, "in no order: to the end"


def test_a_list_too_long_to_be_read_to_its_end_proves_nothing(
    stub: StubTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "MOST_PAGES_SENT", 2)
    stub.page_size = 1
    for _ in range(4):
        hand_over(stub, text="Another", mode="ok")
    stub.list_mode = "unsorted"
    assert isinstance(find(stub), CannotTell)


@pytest.mark.parametrize("mode", ["503", "cut", "half"])
def test_a_list_that_cannot_be_read_is_no_proof_that_nothing_is_there(stub: StubTwilio, mode: str) -> None:
    stub.list_mode = mode
    assert isinstance(find(stub), CannotTell)
    assert isinstance(sweep(stub), CannotTell)


def test_a_gateway_that_is_not_there_cannot_tell(stub: StubTwilio) -> None:
    gateway = Twilio(
        name="t", account_sid=ACCOUNT, auth_token=TOKEN, sender="1", messaging_service_sid=None,
        api_url="http://127.0.0.1:9",
    )  # fmt: skip
    (found,) = run(gateway, gateway.find(Doubtful(1, "a", PERSON, WORDS, datetime.now(UTC))))
    assert isinstance(found, CannotTell)


def test_a_clock_that_is_wrong_proves_nothing(stub: StubTwilio, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=2)

    monkeypatch.setattr(adapter_module, "datetime", Ahead)
    assert isinstance(find(stub), CannotTell)


# -- what came in ------------------------------------------------------------------------------------------------------


def test_every_text_to_our_number_since_then_is_listed_in_the_order_in_which_it_was_sent(stub: StubTwilio) -> None:
    stub.page_size = 3
    now = time.time()
    stub.arrive(PERSON, "too old", at=now - 7200)
    for n in range(10):
        stub.arrive(PERSON, f"text {n}", at=now - 600 + n)
    hand_over(stub, mode="ok")
    listed = sweep(stub)
    assert not isinstance(listed, CannotTell)
    assert [text.text for text in listed] == [f"text {n}" for n in range(10)]
    assert {(text.sender, text.to) for text in listed} == {(PERSON, stub.number)}
    assert listed[0].sent_at == datetime.fromtimestamp(int(now - 600), UTC)


def test_a_text_that_twilio_is_still_receiving_and_one_that_is_no_text_are_left(stub: StubTwilio) -> None:
    stub.arrive(PERSON, "half of a long one")["status"] = "receiving"
    stub.arrive(PERSON, "no phone")["from"] = "whatsapp:+254700000001"
    stub.arrive(PERSON, "STOP")
    listed = sweep(stub)
    assert not isinstance(listed, CannotTell)
    assert [(text.text, text.answered) for text in listed] == [("STOP", True)]


def test_a_messaging_service_lists_what_came_by_it_and_nothing_of_other_projects(stub: StubTwilio) -> None:
    stub.arrive(PERSON, "to our service")["messaging_service_sid"] = SERVICE
    stub.arrive(PERSON, "to another project")
    listed = sweep(stub, messaging_service_sid=SERVICE)
    assert not isinstance(listed, CannotTell)
    assert [text.text for text in listed] == ["to our service"]


def test_nobody_can_answer_a_sender_of_letters(stub: StubTwilio) -> None:
    assert sweep(stub, sender="CLINIC") == []
    assert stub.requests == []


def test_every_list_is_asked_for_as_twilio_s_description_says(stub: StubTwilio) -> None:
    requires_spec()
    find(stub)
    sweep(stub)
    assert stub.spec_checked == 2
    assert "DateSent%3E=" in stub.requests[1].path
    assert new_sid() not in stub.requests[0].path
