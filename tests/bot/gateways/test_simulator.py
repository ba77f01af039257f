"""The rules of the simulated phone network: it books what a handset gets, signs what it says, and calls only this machine."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bot.gateways.base import (
    Absent,
    Accepted,
    Doubtful,
    Forged,
    Found,
    Gateway,
    NotSent,
    Outgoing,
    Request,
    SendResult,
    Unknown,
    Unreadable,
)
from bot.gateways.faults import Faults
from bot.gateways.simulator import MAGIC_RECIPIENTS, SIGNATURE, Simulator
from bot.gateways.simulator_network import Network
from tests.patience import HANG_S, soon

PUBLIC = "http://127.0.0.1:8000"
PERSON = "254700000001"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "phones.db"


def simulator(book: Path, **settings: Any) -> Simulator:
    return Simulator(book=book, public_url=PUBLIC, **{"receipts_after_s": None, **settings})


def message(to: str = PERSON, **changes: Any) -> Outgoing:
    told = {
        "id": 42,
        "attempt_id": "a1",
        "to": to,
        "text": "Your visit is on Monday.",
        "callback_url": f"{PUBLIC}/status/simulator/42",
    }
    return Outgoing(**{**told, **changes})


def send(gateway: Simulator, one: Outgoing | None = None) -> SendResult:
    async def sent() -> SendResult:
        try:
            return await gateway.send(one or message())
        finally:
            await gateway.close()

    return asyncio.run(sent())


def test_it_is_a_gateway_as_every_other(book: Path) -> None:
    gateway: Gateway = simulator(book, rate_per_s=5.0)
    assert (gateway.name, gateway.kind, gateway.rate_per_s) == ("simulator", "simulator", 5.0)
    assert gateway.reply().body == "ok"
    assert not gateway.capabilities.answers_stop_itself


# What a handset gets


def test_an_accepted_text_stands_on_its_handset(book: Path) -> None:
    result = send(simulator(book), message(text="Kod: 482193 \N{CROSS MARK}", attempt_id="a7"))
    assert isinstance(result, Accepted)
    assert result.gateway_id.startswith("SIM")
    (text,) = Network(book).handset(PERSON)
    assert (text.gateway_id, text.phone, text.body, text.message_id) == (
        result.gateway_id,
        PERSON,
        "Kod: 482193 \N{CROSS MARK}",
        42,
    )
    assert text.at.tzinfo is not None
    assert Network(book).handset("254700000002") == []
    assert Network(book).arrived(["a7", "a8"]) == {"a7": text}


def test_a_text_sent_twice_stands_there_twice(book: Path) -> None:
    gateway = simulator(book)
    first, second = send(gateway), send(gateway)
    assert first != second
    assert [text.message_id for text in gateway.network.handset(PERSON)] == [42, 42]


@pytest.mark.parametrize(
    ("to", "scope", "code"),
    [
        ("15005550001", "recipient", "21211"),
        ("15005550002", "recipient", "21612"),
        ("15005550003", "destination", "21408"),
        ("15005550004", "opted_out", "21610"),
        ("15005550009", "recipient", "21614"),
    ],
)
def test_the_magic_numbers_are_refused_and_get_nothing(book: Path, to: str, scope: str, code: str) -> None:
    result = send(simulator(book), message(to))
    assert isinstance(result, NotSent)
    assert (result.scope, result.code) == (scope, code)
    assert Network(book).handset(to) == []
    assert to in MAGIC_RECIPIENTS


def test_a_broken_character_is_refused_and_not_a_fault(book: Path) -> None:
    assert isinstance(send(simulator(book), message(text="\ud83d")), NotSent)


def test_a_book_that_cannot_be_opened_means_certainly_not_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = send(simulator(tmp_path / "file" / "phones.db"))
    assert isinstance(result, NotSent)
    assert result.scope == "unreachable"


def _send_some(book: Path, process: int) -> None:
    gateway = simulator(book)
    for n in range(20):
        assert isinstance(send(gateway, message(attempt_id=f"{process}-{n}")), Accepted)


def test_two_processes_share_one_book_and_one_secret(book: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    others = [spawn.Process(target=_send_some, args=(book, n)) for n in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(HANG_S)
    assert [other.exitcode for other in others] == [0, 0]
    assert len(Network(book).handset(PERSON)) == 40
    assert Network(book).secret == Network(book).secret != b""


def test_the_book_is_for_its_owner_only(book: Path) -> None:
    assert len(Network(book).secret) == 32
    assert book.stat().st_mode & 0o077 == 0


# What the network says to us


def test_a_text_typed_on_a_handset_comes_in_signed_and_is_read_as_typed(book: Path) -> None:
    gateway = simulator(book)
    request = gateway.originate(PERSON, "menu \N{WAVING HAND SIGN} é")
    assert request.url == f"{PUBLIC}/in/simulator"
    simulator(book).verify(request)  # the other process has the same secret
    (text,) = gateway.parse_inbound(request)
    assert (text.sender, text.text) == (PERSON, "menu \N{WAVING HAND SIGN} é")
    assert gateway.parse_inbound(gateway.originate(PERSON, "menu"))[0].gateway_id != text.gateway_id


def test_the_signature_is_a_hash_over_the_address_and_the_body(book: Path) -> None:
    request = simulator(book).originate(PERSON, "menu")
    right = hmac.new(Network(book).secret, request.url.encode() + request.body, hashlib.sha256).hexdigest()
    assert request.headers[SIGNATURE] == right


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, body=r.body.replace(b"menu", b"halt")),
        lambda r: replace(r, url=r.url + "?a=1"),
        lambda r: replace(r, url=r.url.replace("/in/", "/status/")),
        lambda r: replace(r, url="http://x/\ud800"),
        lambda r: replace(r, headers={}),
        lambda r: replace(r, headers={SIGNATURE: ""}),
        lambda r: replace(r, headers={SIGNATURE: "é\ud800"}),
        lambda r: replace(r, headers={SIGNATURE: r.headers[SIGNATURE].upper()}),
    ],
)
def test_a_request_that_the_network_did_not_sign_is_forged(book: Path, change: Any) -> None:
    gateway = simulator(book)
    with pytest.raises(Forged):
        gateway.verify(change(gateway.originate(PERSON, "menu")))


def test_another_networks_signature_is_forged(book: Path, tmp_path: Path) -> None:
    with pytest.raises(Forged):
        simulator(book).verify(simulator(tmp_path / "other.db").originate(PERSON, "menu"))


def test_without_its_book_everything_is_forged(tmp_path: Path) -> None:
    (tmp_path / "damaged.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(Forged):
        simulator(tmp_path / "damaged.db").verify(Request("POST", PUBLIC, {SIGNATURE: "00"}, b""))


GOOD_ID = "SIM" + "0" * 32
INBOUND = {"id": GOOD_ID, "from": PERSON, "to": "15005550006", "text": "hi"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[]", b"null", b"[" * 100_000, b"1" * 10_000, b" " * 70_000,
        *(json.dumps({**INBOUND, **change}).encode() for change in (
            {"id": "x"}, {"id": None}, {"from": "+254"}, {"from": ""}, {"to": "1 2"}, {"text": 5}, {"text": "\ud800"},
        )),
        json.dumps({"id": GOOD_ID, "from": PERSON, "to": "15005550006"}).encode(),
    ],
    ids=lambda body: repr(body[:60]),
)  # fmt: skip
def test_nonsense_with_a_good_signature_is_unreadable(book: Path, body: bytes) -> None:
    with pytest.raises(Unreadable):
        simulator(book).parse_inbound(Request("POST", PUBLIC, {}, body))
    with pytest.raises(Unreadable):
        simulator(book).parse_receipt(Request("POST", PUBLIC, {}, body), 42)


@pytest.mark.parametrize("state", ["sent", "delivered", "undelivered"])
def test_a_receipt_says_what_became_of_the_text(book: Path, state: Any) -> None:
    gateway = simulator(book)
    request = gateway.receipt(f"{PUBLIC}/status/simulator/42", GOOD_ID, state)
    gateway.verify(request)
    (receipt,) = gateway.parse_receipt(request, 42)
    assert (receipt.message_id, receipt.gateway_id, receipt.state, receipt.word) == (42, GOOD_ID, state, state)


def test_a_state_that_the_network_does_not_know_is_unreadable(book: Path) -> None:
    with pytest.raises(Unreadable):
        simulator(book).parse_receipt(simulator(book).receipt(PUBLIC, GOOD_ID, "refused"), 42)


# Receipts over the network


class Heard:
    """A web process on loopback that keeps what it was told; it answers the first requests as asked, then 200."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[int] = []
        heard = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                heard.requests.append(Request("POST", heard.url + self.path, headers, body))
                self.send_response(heard.answers.pop(0) if heard.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def web() -> Iterator[Heard]:
    heard = Heard()
    thread = threading.Thread(target=heard.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield heard
    heard.server.shutdown()
    thread.join()
    heard.server.server_close()


async def sent_and_told(gateway: Simulator, one: Outgoing) -> SendResult:
    """Send it, and wait until every receipt is given, or given up."""
    try:
        result = await gateway.send(one)
        await soon(lambda: not gateway._receipts)
        return result
    finally:
        await gateway.close()


def test_receipts_come_by_themselves_as_signed_requests(book: Path, web: Heard) -> None:
    gateway = simulator(book, receipts_after_s=0.02)
    one = message(callback_url=f"{web.url}/status/simulator/42")
    result = asyncio.run(sent_and_told(gateway, one))
    assert isinstance(result, Accepted)
    for request in web.requests:
        gateway.verify(request)
    receipts = [gateway.parse_receipt(request, 42)[0] for request in web.requests]
    assert [(r.state, r.gateway_id) for r in receipts] == [
        ("sent", result.gateway_id),
        ("delivered", result.gateway_id),
    ]


def test_a_receipt_that_could_not_be_kept_is_said_again(book: Path, web: Heard) -> None:
    web.answers = [503, 503]
    one = message(callback_url=f"{web.url}/status/simulator/42")
    asyncio.run(sent_and_told(simulator(book, receipts_after_s=0.02), one))
    assert [json.loads(r.body)["state"] for r in web.requests] == ["sent", "sent", "sent", "delivered"]


def test_a_receipt_that_was_refused_is_not_said_again(book: Path, web: Heard) -> None:
    web.answers = [403, 302]
    one = message(callback_url=f"{web.url}/status/simulator/42")
    asyncio.run(sent_and_told(simulator(book, receipts_after_s=0.02), one))
    assert len(web.requests) == 2


def test_a_web_process_that_is_down_never_harms_the_worker(book: Path) -> None:
    one = message(callback_url="http://127.0.0.1:1/status/simulator/42")
    assert isinstance(asyncio.run(sent_and_told(simulator(book, receipts_after_s=0.0), one)), Accepted)


def test_closing_drops_the_receipts_still_to_come(book: Path, web: Heard) -> None:
    one = message(callback_url=f"{web.url}/status/simulator/42")
    assert isinstance(send(simulator(book, receipts_after_s=60.0), one), Accepted)
    assert web.requests == []


@pytest.mark.parametrize(
    "elsewhere", ["https://sms.example.org/status/simulator/42", "http://10.0.0.1/x", "", "http://[/"]
)
def test_it_never_calls_another_machine(book: Path, elsewhere: str) -> None:
    async def promised() -> int:
        gateway = simulator(book, receipts_after_s=0.0)
        assert isinstance(await gateway.send(message(callback_url=elsewhere)), Accepted)
        under_way = len(asyncio.all_tasks()) - 1
        await gateway.close()
        return under_way

    assert asyncio.run(promised()) == 0


# -- what became of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (Faults(lost_answers=100), ("delivered", None)),
        (Faults(lost_answers=100, delay_s=60), ("accepted", None)),
        (Faults(lost_answers=100, lost_texts=100), ("sent", None)),
        (Faults(lost_answers=100, undelivered=100), ("undelivered", "30003")),
    ],
)
def test_the_book_says_what_became_of_a_text_whose_answer_was_lost(book: Path, faults: Faults, found: Any) -> None:
    Network(book).set_faults(faults)
    gateway = simulator(book)
    assert isinstance(send(gateway, message()), Unknown)
    asked = message()
    doubtful = Doubtful(asked.id, asked.attempt_id, asked.to, asked.text, datetime.now(UTC))
    result = asyncio.run(gateway.find(doubtful))
    assert isinstance(result, Found)
    assert (result.state, result.code) == found
    assert isinstance(asyncio.run(gateway.find(replace(doubtful, attempt_id="another"))), Absent)
