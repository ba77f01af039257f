"""What every gateway keeps, whatever it is: three honest answers to a send, and deaf to strangers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from bot.gateways.base import Accepted, Forged, Gateway, NotSent, Outgoing, Request, SendResult, Unknown, Unreadable
from bot.gateways.faults import Faults
from bot.gateways.kannel import Kannel
from bot.gateways.simulator import Simulator
from bot.gateways.twilio import Twilio
from tests.patience import HANG_S, forward, on_forward, soon
from tests.processes import free_port
from tests.stub_kannel import StubKannel
from tests.stub_twilio import StubTwilio, new_sid

PUBLIC = "https://sms.example.org"
PERSON, TEXT = "254700000001", "Your visit is on Monday."
ACCOUNT, TOKEN = "AC" + "0123456789abcdef" * 2, "12345"
SECRET = "a-secret-that-stands-in-an-address"
ATTEMPT = "0123456789abcdef"


@dataclass
class Kit:
    """A gateway to try: how to make its other end misbehave, what it took, and what it itself would call us with."""

    gateway: Gateway
    fails_by: Callable[[str], None]
    took: Callable[[], int]
    inbound: Request
    receipt: Request
    others: list[Request]


@contextlib.contextmanager
def twilio(_folder: Path) -> Iterator[Kit]:
    with StubTwilio(ACCOUNT, TOKEN) as stub:

        def made(token: str = TOKEN, url: str = stub.url) -> Twilio:
            return Twilio(name="one", account_sid=ACCOUNT, auth_token=token, sender="15005550006",
                          messaging_service_sid=None, api_url=url, timeout_s=HANG_S)  # fmt: skip

        def request(path: str, form: dict[str, str], token: str = TOKEN) -> Request:
            signed = StubTwilio(ACCOUNT, token).sign(PUBLIC + path, form)
            return Request("POST", PUBLIC + path, {"x-twilio-signature": signed}, urlencode(form).encode())

        kit = Kit(made(), lambda mode: setattr(stub, "mode", mode), lambda: len(stub.book),
                  request("/in/one", stub.inbound_form(PERSON, TEXT)),
                  request("/status/one/42", stub.receipt_form(new_sid(), PERSON, "delivered")),
                  [request("/in/one", stub.inbound_form(PERSON, TEXT), "another")])  # fmt: skip

        def fail(mode: str) -> None:
            if mode == "down":
                kit.gateway = made(url=f"http://127.0.0.1:{free_port()}")
            elif mode == "wrong password":
                kit.gateway = made(token="wrong")
            else:
                stub.mode = "503" if mode == "broken" else mode

        kit.fails_by = fail
        yield kit


@contextlib.contextmanager
def kannel(_folder: Path) -> Iterator[Kit]:
    with StubKannel("right") as stub:

        def made(password: str = "right", url: str = stub.url) -> Kannel:
            return Kannel(name="one", url=url, username="u", password=password, webhook_secret=SECRET, sender="1234",
                          timeout_s=HANG_S)  # fmt: skip

        def request(secret: str, name: str = "one") -> Request:
            words = f"from=%2B{PERSON}&to=1234&text={quote(TEXT)}&charset=UTF-8&coding=0&id=abc-1"
            return Request("GET", f"{PUBLIC}/in/{name}/{secret}?{words}", {}, b"")

        told = f"{PUBLIC}/status/one/{SECRET}/42?attempt={ATTEMPT}&type=1&answer="
        kit = Kit(made(), lambda mode: None, lambda: len(stub.book), request(SECRET), Request("GET", told, {}, b""),
                  [request(SECRET[:-1]), request(SECRET + "x"), request(""), request(SECRET, "other"), request("é"),
                   Request("GET", f"{PUBLIC}/in/one?secret={SECRET}", {}, b""), Request("GET", "", {}, b"")])  # fmt: skip

        def fail(mode: str) -> None:
            if mode == "down":
                kit.gateway = made(url=f"http://127.0.0.1:{free_port()}/cgi-bin/sendsms")
            elif mode == "wrong password":
                kit.gateway = made(password="wrong")
            else:
                stub.mode = "503 <html>Service Unavailable" if mode == "broken" else mode

        kit.fails_by = fail
        yield kit


@contextlib.contextmanager
def simulator(folder: Path) -> Iterator[Kit]:
    gateway = Simulator(book=folder / "book", public_url=PUBLIC, receipts_after_s=None, name="one")
    other = Simulator(book=folder / "other", public_url=PUBLIC, receipts_after_s=None, name="one")
    lost, down = Faults(lost_answers=100), Faults(gateway="down")
    faults = {"down": down, "wrong password": Faults(gateway="foreign_sender")}
    yield Kit(gateway, lambda mode: gateway.network.set_faults(faults.get(mode, lost)),
              lambda: len(gateway.network.handset(PERSON)), gateway.originate(PERSON, TEXT),
              gateway.receipt(f"{PUBLIC}/status/one/42", "SIM" + "0" * 32, "delivered"), [other.originate(PERSON, TEXT)])  # fmt: skip


@pytest.fixture(params=[twilio, kannel, simulator], ids=lambda made: made.__name__)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    with request.param(tmp_path) as made:
        yield made


def send(kit: Kit, text: str = TEXT, *, stalls: bool = False) -> SendResult:
    one = Outgoing(42, ATTEMPT, PERSON, text, f"{PUBLIC}/status/one/42", validity_s=600)

    async def sent() -> SendResult:
        call = asyncio.create_task(kit.gateway.send(one))
        try:
            await soon(lambda: call.done() or (stalls and kit.took()))
            forward(2 * HANG_S)  # if it waits, its time is over
            return await call
        finally:
            await kit.gateway.close()

    return on_forward(sent())


def test_what_was_taken_is_accepted_with_a_name(kit: Kit) -> None:
    result = send(kit)
    assert isinstance(result, Accepted)
    assert result.gateway_id
    assert kit.took() == 1


def test_a_gateway_that_cannot_be_reached_has_certainly_not_sent(kit: Kit) -> None:
    kit.fails_by("down")
    result = send(kit)
    assert isinstance(result, NotSent)
    assert result.scope == "unreachable"
    assert kit.took() == 0


def test_a_wrong_password_is_about_our_side_and_not_about_the_text(kit: Kit) -> None:
    kit.fails_by("wrong password")
    result = send(kit)
    assert isinstance(result, NotSent)
    assert result.scope in ("gateway", "sender")
    assert kit.took() == 0


@pytest.mark.parametrize("mode", ["cut", "stall", "half", "refuse", "broken"])
def test_whatever_happens_after_the_first_byte_is_unknown_and_never_tried_twice(kit: Kit, mode: str) -> None:
    kit.fails_by(mode)
    assert isinstance(send(kit, stalls=mode == "stall"), Unknown)
    assert kit.took() <= 1


def test_half_a_character_is_refused_and_reaches_nobody(kit: Kit) -> None:
    result = send(kit, "\ud83d")
    assert isinstance(result, NotSent)
    assert result.scope == "message"
    assert kit.took() == 0


def test_its_own_requests_are_heard(kit: Kit) -> None:
    kit.gateway.verify(kit.inbound)
    (text,) = kit.gateway.parse_inbound(kit.inbound)
    assert (text.sender, text.text) == (PERSON, TEXT)
    assert text.gateway_id
    kit.gateway.verify(kit.receipt)
    (receipt,) = kit.gateway.parse_receipt(kit.receipt, 42)
    assert (receipt.message_id, receipt.state) == (42, "delivered")
    assert TEXT not in str(text.raw)


def test_strangers_are_forged(kit: Kit) -> None:
    for request in kit.others:
        with pytest.raises(Forged):
            kit.gateway.verify(request)


def test_random_bytes_are_forged_or_unreadable_and_never_an_accident(kit: Kit) -> None:
    rng = random.Random(7)
    for n in range(400):
        shown = kit.inbound if n % 2 else kit.receipt
        head, _, query = shown.url.partition("?")
        broken = "".join(
            rng.choice(["%", "%zz", "&", "=", "é", "\0", "a", "%ff", "id"]) for _ in range(rng.randint(0, 30))
        )
        url = rng.choice([head, head[: rng.randint(0, len(head))], f"{head}?{broken}", f"{head}?{query[: rng.randint(0, 60)]}",
                          f"{head}?{query}&{broken}", "http://[", "//", f"{head}/{broken}"])  # fmt: skip
        request = Request(
            rng.choice(["GET", "POST"]), url, dict(shown.headers), rng.choice([b"", rng.randbytes(90), shown.body])
        )
        with contextlib.suppress(Forged, Unreadable):
            kit.gateway.verify(request)
            kit.gateway.parse_inbound(request)
        with contextlib.suppress(Unreadable, Forged):
            kit.gateway.verify(request)
            kit.gateway.parse_receipt(request, 42)
