"""The rules of the faults: bounded, the same by the same seed, and known to both processes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.gateways import faults as faulty
from bot.gateways.base import Accepted, NotSent, Outgoing, SendResult, Unknown
from bot.gateways.faults import GATEWAY, Faults
from bot.gateways.simulator import MAGIC_RECIPIENTS, Simulator
from bot.gateways.simulator_network import Network
from bot.gateways.twilio_codes import CODES

PUBLIC = "http://127.0.0.1:1"
PERSON = "254700000001"


def send(book: Path, faults: Faults, number: int = 42, to: str = PERSON) -> tuple[SendResult, Simulator]:
    """Hand one text to a simulator under these faults."""

    async def sent() -> SendResult:
        outgoing = Outgoing(number, f"a{number}", to, "Hello", f"{PUBLIC}/status/simulator/{number}")
        try:
            return await gateway.send(outgoing)
        finally:
            await gateway.close()

    gateway = Simulator(book=book, public_url=PUBLIC, receipts_after_s=None)
    gateway.network.set_faults(faults)
    return asyncio.run(sent()), gateway


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "phones.db"


def test_what_one_process_switches_the_other_knows(book: Path) -> None:
    assert Network(book).faults() == Faults()
    Network(book).set_faults(Faults(delay_s=2.5, lost_texts=10, gateway="down", seed=7))
    assert Network(book).faults() == Faults(delay_s=2.5, lost_texts=10, gateway="down", seed=7)


def test_the_faults_of_another_release_are_none(book: Path) -> None:
    network = Network(book)
    network.set_faults(Faults())
    with network._open() as opened:
        opened.execute("UPDATE faults SET told = ?", (json.dumps({"meteor": True}),))
    assert network.faults() == Faults()


def test_what_is_switched_is_said_in_words() -> None:
    assert Faults().in_words() == []
    assert not Faults(seed=9).any
    told = Faults(delay_s=5, disorder=True, twice=True, lost_texts=33, gateway="down").in_words()
    assert told == ["gateway is down: texts wait", "texts take 5 s", "out of order", "everything told twice",
                    "33 % of texts lost on the way"]  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [[], None, 5, "down", {"meteor": True}, {"delay_s": 61}, {"delay_s": -1}, {"delay_s": "5"}, {"delay_s": True},
     {"delay_s": float("nan")}, {"delay_s": float("inf")}, {"twice": 1}, {"disorder": None}, {"gateway": "gone"}, {"gateway": []},
     {"lost_texts": 101}, {"lost_texts": -1}, {"lost_texts": 1.5}, {"lost_texts": True}, {"seed": -1}, {"seed": 10**9}],
)  # fmt: skip
def test_a_fault_out_of_bounds_is_refused_in_one_sentence(said: Any) -> None:
    wrong = faulty.read(said)
    assert isinstance(wrong, str)
    assert 10 < len(wrong) < 200


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "up", "down", [], {}])


@given(st.dictionaries(st.sampled_from([*asdict(Faults()), "meteor"]), _VALUES))
def test_whatever_is_asked_is_read_or_refused(said: dict[str, Any]) -> None:
    read = faulty.read(said)
    assert isinstance(read, str) or read.on_its_way_s(1) <= faulty.LONGEST_DELAY_S + faulty.SHUFFLED_OVER_S


@given(st.builds(Faults, seed=st.integers(0, 99), lost_texts=st.integers(0, 100), lost_receipts=st.integers(0, 100),
                 undelivered=st.integers(0, 100), disorder=st.booleans(), twice=st.booleans(), delay_s=st.floats(0, 60)))  # fmt: skip
def test_the_same_seed_strikes_the_same_texts_and_receipts_are_bounded(faults: Faults) -> None:
    again = faulty.read(asdict(faults))
    assert isinstance(again, Faults)
    for number in range(5):
        in_s = faults.on_its_way_s(number)
        assert in_s == again.on_its_way_s(number) <= faulty.LONGEST_DELAY_S + faulty.SHUFFLED_OVER_S
        told = faults.receipts(number, in_s, 0.6)
        assert told == again.receipts(number, in_s, 0.6) == sorted(told)
        assert len(told) <= 4
        if faults.lost_texts == 100:
            assert all(state == "sent" for _, state in told)


def test_a_share_strikes_about_so_many_and_another_seed_others() -> None:
    struck = [{n for n in range(1000) if Faults(lost_texts=33, seed=seed).strikes("lost_texts", n)} for seed in (1, 2)]
    assert all(280 < len(one) < 380 for one in struck)
    assert struck[0] != struck[1]


# What the simulator makes of them


def test_a_text_that_is_late_is_accepted_and_not_on_the_handset_yet(book: Path) -> None:
    result, gateway = send(book, Faults(delay_s=60))
    assert isinstance(result, Accepted)
    assert gateway.network.handset(PERSON) == []
    assert gateway.network.arrived(["a42"]) == {}


def test_texts_out_of_order_overtake_one_another(book: Path) -> None:
    faults = Faults(disorder=True)
    order = sorted(range(20), key=lambda number: number + faults.on_its_way_s(number))
    assert order != list(range(20))
    assert [state for _, state in faults.receipts(1, 0.0, 0.5)] == ["delivered", "sent"]


@pytest.mark.parametrize("faults", [Faults(lost_texts=100), Faults(undelivered=100)])
def test_a_text_that_is_lost_or_cannot_be_delivered_is_accepted_and_never_arrives(book: Path, faults: Faults) -> None:
    result, gateway = send(book, faults)
    assert isinstance(result, Accepted)
    assert gateway.network.handset(PERSON) == []


def test_an_answer_that_is_lost_leaves_an_unknown_and_a_text_on_the_handset(book: Path) -> None:
    result, gateway = send(book, Faults(lost_answers=100))
    assert isinstance(result, Unknown)
    assert [text.body for text in gateway.network.handset(PERSON)] == ["Hello"]


def test_receipts_are_lost_told_twice_or_say_that_the_phone_is_out_of_reach() -> None:
    told = {name: [state for _, state in Faults(**faults).receipts(1, 0.0, 0.5)] for name, faults in {
        "lost": {"lost_receipts": 100}, "twice": {"twice": True}, "off": {"undelivered": 100}}.items()}  # fmt: skip
    assert told == {
        "lost": [],
        "twice": ["sent", "sent", "delivered", "delivered"],
        "off": ["sent", "undelivered"],
    }


def test_a_receipt_of_a_failure_carries_twilios_code(book: Path) -> None:
    gateway = Simulator(book=book, public_url=PUBLIC)
    request = gateway.receipt(f"{PUBLIC}/status/simulator/42", "SIM" + "0" * 32, "undelivered")
    (receipt,) = gateway.parse_receipt(request, 42)
    assert (receipt.state, receipt.code) == ("undelivered", "30003")


@pytest.mark.parametrize(
    ("gateway", "scope", "code"),
    [("down", "unreachable", None), ("refuses", "message", "21618"), ("invalid_sender", "sender", "21212"),
     ("foreign_sender", "sender", "21606"), ("full_queue", "throttled", "21611")],
)  # fmt: skip
def test_a_gateway_that_refuses_takes_nothing(book: Path, gateway: str, scope: str, code: str | None) -> None:
    result, simulator = send(book, Faults(gateway=gateway))
    assert isinstance(result, NotSent)
    assert (result.scope, result.code) == (scope, code)
    assert simulator.network.handset(PERSON) == []


@pytest.mark.parametrize("to", MAGIC_RECIPIENTS)
def test_a_magic_number_is_refused_as_twilio_refuses_it(book: Path, to: str) -> None:
    result, _ = send(book, Faults(), to=to)
    assert isinstance(result, NotSent)
    assert result.code is not None
    assert CODES[result.code][:2] == (result.scope, result.reason)


def test_every_refusal_of_the_gateway_has_twilios_meaning() -> None:
    refusals = [answer for _, answer in GATEWAY.values() if answer is not None and answer.code]
    assert len(refusals) == 4
    for answer in refusals:
        assert CODES[answer.code or ""][:2] == (answer.scope, answer.reason)
