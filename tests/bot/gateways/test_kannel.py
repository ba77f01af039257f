"""Kannel's words in ours: its sentences, its alphabets, its receipts.  The real one is tried in `tests/test_kannel.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, get_args
from urllib.parse import quote

import pytest

from bot.gateways import kannel
from bot.gateways.base import Accepted, NotSent, Outgoing, Request, Scope, SendResult, Unknown, Unreadable
from bot.gateways.kannel import NO_ROUTE, REFUSALS, Kannel, result_of
from storage.rules import segments
from tests.patience import HANG_S
from tests.stub_kannel import StubKannel

PUBLIC, SECRET, ATTEMPT = "https://sms.example.org", "a-secret-that-stands-in-an-address", "0123456789abcdef"


def adapter(url: str = "http://127.0.0.1:13013/cgi-bin/sendsms", **settings: Any) -> Kannel:
    told = {
        "username": "u",
        "password": "p",
        "webhook_secret": SECRET,
        "sender": "1234",
        "timeout_s": HANG_S,
        **settings,
    }
    return Kannel(name="kannel", url=url, **told)


@pytest.fixture
def stub() -> Iterator[StubKannel]:
    with StubKannel("p") as running:
        yield running


def send(gateway: Kannel, text: str = "Hello", **changes: Any) -> SendResult:
    told = {"id": 31, "attempt_id": ATTEMPT, "to": "233244000101", "callback_url": f"{PUBLIC}/status/kannel/31"}

    async def sent() -> SendResult:
        try:
            return await gateway.send(Outgoing(text=text, **{**told, **changes}))
        finally:
            await gateway.close()

    return asyncio.run(sent())


def inbound(query: str, method: str = "GET", body: bytes = b"") -> Request:
    return Request(method, f"{PUBLIC}/in/kannel/{SECRET}?{query}", {}, body)


def heard(query: str, method: str = "GET", body: bytes = b"") -> Any:
    (text,) = adapter().parse_inbound(inbound(query, method, body))
    return text


def test_a_plain_text_goes_in_the_networks_own_alphabet_and_any_other_in_two_bytes(stub: StubKannel) -> None:
    for text in ("Señor à €5 {x}", "Привет 😀", "naïve"):
        assert isinstance(send(adapter(stub.url), text), Accepted)
    told = [(h["x-kannel-coding"], h["content-type"], body) for h, body in stub.book]
    assert told[0] == ("0", "text/plain; charset=UTF-8", "Señor à €5 {x}".encode())
    assert told[1] == ("2", "text/plain; charset=UTF-16BE", "Привет 😀".encode("utf-16-be"))
    assert told[2][0] == "2", "an i with two dots is in no plain text"


def test_the_plain_alphabet_is_the_one_by_which_a_text_is_priced() -> None:
    assert all(segments.is_gsm(char) == (char in kannel._BASIC) for char in map(chr, range(0x3000)))


def test_the_receipt_address_holds_the_secret_the_message_and_the_attempt(stub: StubKannel) -> None:
    send(adapter(stub.url), validity_s=150)
    send(adapter(stub.url, callback_url="http://127.0.0.1:8000", smsc="mtn"), validity_s=5)
    (one, _), (other, _) = stub.book
    told = f"/status/kannel/{SECRET}/31?attempt={ATTEMPT}&type=%d&answer=%A"
    assert (one["x-kannel-dlr-url"], one["x-kannel-dlr-mask"], one["x-kannel-validity"]) == (PUBLIC + told, "31", "2")
    assert (other["x-kannel-dlr-url"], other["x-kannel-smsc"], other["x-kannel-validity"]) == (
        f"http://127.0.0.1:8000{told}", "mtn", "1",
    )  # fmt: skip
    assert "x-kannel-smsc" not in one


@pytest.mark.parametrize("sentence", ["0: Accepted for delivery", "3: Queued for later delivery"])
def test_what_kannel_keeps_is_accepted_under_the_attempts_name(sentence: str) -> None:
    assert result_of(202, sentence, ATTEMPT) == Accepted(ATTEMPT)


@pytest.mark.parametrize("sentence", REFUSALS)
def test_every_refusal_says_what_it_is_about_and_quotes_nothing(sentence: str) -> None:
    result = result_of(503 if "Temporal" in sentence else 403, sentence, ATTEMPT)
    assert isinstance(result, NotSent)
    assert result.scope in get_args(Scope)
    assert sentence not in result.reason


@pytest.mark.parametrize(
    ("status", "sentence", "scope"),
    [(404, "Unknown request", "gateway"), (401, "", "gateway"), (400, "Something new, rejected", "message"), (302, "", None),
     (202, "1: I made this up", None), (200, "<html>", None), (408, "", None), (500, "", None), (503, "Service Unavailable", None)],
)  # fmt: skip
def test_an_answer_that_is_not_kannels_proves_only_what_its_status_does(
    status: int, sentence: str, scope: str | None
) -> None:
    result = result_of(status, sentence, ATTEMPT)
    assert isinstance(result, Unknown) if scope is None else isinstance(result, NotSent) and result.scope == scope


def test_a_text_is_read_in_the_alphabet_it_came_in() -> None:
    words = "from=%2B233244000101&to=1234&id=69f1f4ba-1"
    utf16 = quote("Привет 😀".encode("utf-16-be"), safe="")
    for query, text in (
        (f"{words}&text=caf%C3%A9+%26+more&charset=UTF-8&coding=0", "café & more"),
        (f"{words}&text={utf16}&charset=UTF-16BE&coding=2", "Привет 😀"),
        (f"{words}&text={utf16}&charset=&coding=2", "Привет 😀"),
        (f"{words}&text=caf%E9&charset=UTF-8&coding=0", "café"),
        (f"{words}&text=AAA&charset=8-BIT&coding=1", "AAA"),
        (f"{words}&text=%00&charset=UTF-16BE&coding=2", "\0"),
        (f"{words}&text=&charset=UTF-8", ""),
    ):
        assert (heard(query).text, heard(query).sender, heard(query).to) == (text, "233244000101", "1234"), query
    assert heard(f"{words}&charset=UTF-16BE&coding=2", "POST", "Привет".encode("utf-16-be")).text == "Привет"


@pytest.mark.parametrize(
    ("query", "lacks"),
    [("from=1&text=x", "id=%I"), ("id=1&text=x", "from=%p"), ("from=1&id=1", "text=%b"), ("from=a%00b&id=1&text=x", "from=%p"),
     ("", "id=%I"), (f"from=1&id=1&text={'x' * 9000}", "longer")],
)  # fmt: skip
def test_a_request_that_lacks_something_names_what_the_configuration_lacks(query: str, lacks: str) -> None:
    with pytest.raises(Unreadable, match=lacks):
        heard(query)


@pytest.mark.parametrize(
    ("kind", "answer", "state", "code"),
    [
        ("8", "ACK/", "sent", None), ("1", "", "delivered", None), ("4", "", "sent", None), ("2", "", "undelivered", None),
        ("2", "id:9 sub:001 dlvrd:000 stat:UNDELIV err:027 text:Your visit", "undelivered", "027"),
        ("16", "NACK/0x0000000b/Invalid Destination Address", "undelivered", "0x0000000b"),
        ("16", NO_ROUTE, "unrecognised", None), ("32", "", "unrecognised", None), ("x", "", "unrecognised", None),
    ],
)  # fmt: skip
def test_a_receipt_in_our_words(kind: str, answer: str, state: str, code: str | None) -> None:
    url = f"{PUBLIC}/status/kannel/{SECRET}/31?attempt={ATTEMPT}&type={kind}&answer={quote(answer)}"
    (receipt,) = adapter().parse_receipt(Request("GET", url, {}, b""), 31)
    assert (receipt.message_id, receipt.gateway_id, receipt.state, receipt.code) == (31, ATTEMPT, state, code)
    assert "visit" not in str(receipt)


@pytest.mark.parametrize("query", ["", "type=1", f"attempt={ATTEMPT}", "attempt=../../x&type=1", "attempt=%00&type=1"])
def test_a_receipt_of_no_attempt_of_ours_is_unreadable(query: str) -> None:
    with pytest.raises(Unreadable):
        adapter().parse_receipt(Request("GET", f"{PUBLIC}/status/kannel/{SECRET}/31?{query}", {}, b""), 31)


def test_neither_password_nor_secret_shows() -> None:
    gateway = adapter(password="pass-word")
    assert "pass-word" not in repr(gateway)
    assert SECRET not in repr(gateway)
    with pytest.raises(ValueError, match="secret"):
        adapter(webhook_secret="")
