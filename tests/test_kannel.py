"""The whole way through a gateway that we did not write: Debian's Kannel between our processes and the handsets."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kannel import DENIED, PASSWORD, SECRET, SHORT_CODE, USER, Kannel, requires_kannel
from tests.patience import HANG_S
from tests.processes import ACCOUNT, TOKEN, Jumbe, SlowTwilio, code_in

pytestmark = pytest.mark.processes

LEAD, AMA, KOFI = "233201234567", "233244000101", "233244000102"
LONG = "The clinic moves on Monday to the new house behind the market, beside the old well. " * 4
LONG_UCS = "Клиника переезжает в понедельник в новый дом за рынком, рядом со старым колодцем. " * 3

FILE = """
default_gateway = "kannel"

[gateways.kannel]
kind = "kannel"
url = "{url}"
username = "{user}"
password_env = "KANNEL_PASSWORD"
webhook_secret_env = "KANNEL_SECRET"
sender = "{sender}"
rate = 200
{more}
"""


class Programme(Jumbe):
    """A programme behind a Kannel; the stub is there for what its Twilio would send, which is nothing."""

    kannel: Kannel

    def ask_by_phone(self, phone: str, words: str) -> str:
        """A handset texts and waits for the answer."""
        before = len(self.kannel.to(phone))
        self.kannel.text(phone, words)
        return self.until(lambda: self.kannel.to(phone)[before:], f"an answer to {words!r}")[0]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Programme]]:
    """Makes a programme and its Kannel; whatever happens, what was started ends, and then nothing may have leaked."""
    requires_kannel()
    made: list[Programme] = []

    def start(*, post: bool = False, more: str = "", rate: int = 200, twilio: SlowTwilio | None = None) -> Programme:
        stub = twilio or SlowTwilio(ACCOUNT, TOKEN)
        told = {"KANNEL_PASSWORD": PASSWORD, "KANNEL_SECRET": SECRET, "JUMBE_CONFIG": str(tmp_path / "jumbe.toml")}
        if twilio is None:
            stub._server = type("Nowhere", (), {"server_address": ("127.0.0.1", 9)})()  # type: ignore[assignment]
        programme = Programme(tmp_path, stub, **told)
        if twilio is None:
            programme.env = {name: value for name, value in programme.env.items() if not name.startswith("TWILIO_")}
        programme.kannel = Kannel(tmp_path, programme.base, post=post)
        text = FILE.format(url=programme.kannel.url, user=USER, sender=SHORT_CODE, more=more)
        (tmp_path / "jumbe.toml").write_text(text.replace("rate = 200", f"rate = {rate}"), "utf-8")
        made.append(programme)
        programme.kannel.__enter__()
        programme.__enter__()
        programme.canaries |= {PASSWORD, SECRET}
        programme.quickly("people", "add", "--name", "Lena", "--phone", LEAD, "--role", "lead")
        return programme

    try:
        yield start
    finally:
        for programme in made:
            programme.__exit__(None, None, None)
            programme.kannel.__exit__(None, None, None)
    for programme in made:
        assert programme.leaks() == []


def test_from_the_handset_and_back(make: Callable[..., Programme]) -> None:
    jumbe = make()
    jumbe.fill("anc", [AMA, KOFI])
    jumbe.start("web", "worker")
    assert "anc 2" in jumbe.ask_by_phone(LEAD, "groups")

    asked = jumbe.ask_by_phone(LEAD, f"tell anc {LONG}")
    assert "2 people" in asked
    jumbe.ask_by_phone(LEAD, f"ok {code_in(asked)}")
    jumbe.until(lambda: jumbe.kannel.to(AMA) and jumbe.kannel.to(KOFI), "the broadcast arrived")
    assert jumbe.kannel.to(AMA) == jumbe.kannel.to(KOFI) == [LONG.strip()]
    assert {one.parts for one in jumbe.kannel.all() if one.phone == AMA} == {3}

    asked = jumbe.ask_by_phone(LEAD, f"tell anc {LONG_UCS}")
    jumbe.ask_by_phone(LEAD, f"ok {code_in(asked)}")
    jumbe.until(lambda: len(jumbe.kannel.to(AMA)) == 2, "the one in another script arrived")
    assert jumbe.kannel.to(AMA)[1] == LONG_UCS.strip()

    # Delivered comes before accepted with a long text nearly always; the message is delivered all the same.
    states = "SELECT state, count(*) FROM messages WHERE kind = 'broadcast' GROUP BY state"
    jumbe.until(lambda: [tuple(row) for row in jumbe.rows(states)] == [("delivered", 4)], "all are delivered")
    words = jumbe.rows("SELECT word, count(*) n FROM receipts GROUP BY word")
    assert {row.word for row in words} == {"1 delivered", "8 taken by the network"}

    jumbe.kannel.text(AMA, "Спасибо! 😀 não posso")
    jumbe.until(lambda: any("Спасибо! 😀" in text for text in jumbe.kannel.to(LEAD)), "her words reached the lead")
    jumbe.kannel.text_in_parts(KOFI, "A" * 153, "B" * 153, "the end", order=(3, 1, 2))
    heard = "SELECT body FROM messages WHERE direction = 'in' AND phone = :phone"
    jumbe.until(lambda: jumbe.rows(heard, phone=KOFI), "his long text came")
    assert jumbe.one(heard, phone=KOFI) == "A" * 153 + "B" * 153 + "the end"
    assert "no more texts" in jumbe.ask_by_phone(KOFI, "STOP")
    jumbe.until_idle()
    assert jumbe.rows("SELECT phone FROM consent_events WHERE kind = 'stop'")[0].phone == KOFI
    assert jumbe.rows("SELECT 1 FROM messages WHERE direction = 'out' AND gateway <> 'kannel'") == []
    assert [line for line in jumbe.json("doctor") if not line["well"]] == []
    for name in ("worker", "web"):
        assert jumbe.terminate(name) == 0


def test_texts_come_by_post_too_and_a_stranger_who_lacks_the_secret_is_not_heard(
    make: Callable[..., Programme],
) -> None:
    jumbe = make(post=True)
    jumbe.start("web", "worker")
    assert "No group" in jumbe.ask_by_phone(LEAD, "groups") or jumbe.kannel.to(LEAD)
    jumbe.kannel.text(AMA, "ወደ ክሊኒክ 😀")
    heard = "SELECT body FROM messages WHERE direction = 'in' AND phone = :phone"
    jumbe.until(lambda: jumbe.rows(heard, phone=AMA), "her text came")
    assert jumbe.one(heard, phone=AMA) == "ወደ ክሊኒክ 😀"
    jumbe.kannel.text("0244000103", "from here")
    jumbe.until(lambda: jumbe.rows(heard, phone="233244000103"), "a number of the country has its country code")
    words = f"from={LEAD}&to=1234&text=menu&id=forged"
    before = jumbe.one("SELECT count(*) FROM messages WHERE direction = 'in'")
    for path in (f"/in/kannel/{SECRET}x?", f"/in/kannel/{SECRET[:-1]}?", "/in/kannel/-?", f"/in/other/{SECRET}?"):
        assert jumbe.get(path + words)[0] in (403, 404), path
    assert jumbe.post(f"/in/kannel?{words}", {}) == 404, "it has no address without a secret"
    assert jumbe.get(f"/status/kannel/wrong/1?attempt={'a' * 16}&type=1&answer=")[0] == 403
    assert jumbe.get(f"/in/kannel/{SECRET}?from={LEAD}&text=menu")[0] == 400
    assert jumbe.one("SELECT count(*) FROM messages WHERE direction = 'in'") == before
    assert "id=%I" in jumbe.log("web"), "an operator reads what his get-url lacks"


def test_everything_dies_once_and_nobody_is_texted_twice_or_lost_unseen(make: Callable[..., Programme]) -> None:
    jumbe = make(rate=60)
    phones = [f"2332440{n:05}" for n in range(180)]
    jumbe.fill("anc", phones)
    jumbe.start("web", "worker")
    number = jumbe.launch("anc", "The clinic is closed on Friday")
    sent = lambda: sum(len(jumbe.kannel.to(phone)) for phone in phones)  # noqa: E731

    def mended() -> None:
        """Whoever mended the gateway says so, and nothing waits out a pause; another worker goes on."""
        jumbe.kill("worker")
        jumbe.run("gateways", "resume", "kannel")  # if it was paused
        jumbe.start("worker")

    jumbe.until(lambda: sent() > 10, "it runs")
    jumbe.kill("worker")
    jumbe.start("worker")
    jumbe.until(lambda: sent() > 40, "it runs after the worker")
    jumbe.kannel.kill("smsbox")
    jumbe.looked(1)
    jumbe.kannel.start("smsbox")
    mended()
    jumbe.until(lambda: sent() > 80, "it runs after smsbox")
    jumbe.kill("web")
    jumbe.looked(1)
    jumbe.start("web")
    jumbe.until(lambda: sent() > 110, "it runs after web")
    jumbe.kannel.kill("bearerbox")
    jumbe.kannel.kill("smsbox")  # it ends with the bearerbox, which it cannot be without
    jumbe.looked(1)
    jumbe.kannel.start("bearerbox", "smsbox")
    mended()
    jumbe.until_idle()
    counts = Counter(one.phone for one in jumbe.kannel.all() if one.phone in set(phones))

    states = {
        row.phone: row.state
        for row in jumbe.rows("SELECT phone, state FROM messages WHERE broadcast_id = :b", b=number)
    }
    assert set(states) == set(phones)
    taken = {phone for phone, state in states.items() if state in ("accepted", "sent", "delivered")}
    jumbe.until(
        lambda: taken <= {one.phone for one in jumbe.kannel.all()}, "what Kannel took it kept through its own death"
    )
    counts = Counter(one.phone for one in jumbe.kannel.all() if one.phone in set(phones))
    assert max(counts.values()) == 1, "nobody twice"
    lost = {phone for phone in phones if not counts[phone]}
    assert {states[phone] for phone in lost} <= {"unknown"}, "who did not get it is shown as unknown"
    assert len(lost) < 40
    said = jumbe.ask_by_phone(LEAD, "menu")
    assert said, "and it serves on"


def test_an_inbound_text_that_web_could_not_take_comes_again_and_counts_once(make: Callable[..., Programme]) -> None:
    jumbe = make()
    jumbe.start("worker")
    with socket.create_server(("127.0.0.1", jumbe.port)) as nobody:
        nobody.settimeout(HANG_S)
        jumbe.kannel.text(LEAD, "groups")
        nobody.accept()[0].close()  # tried in vain
    jumbe.start("web")
    jumbe.until(lambda: jumbe.kannel.to(LEAD), "the answer to what was texted while web was down")
    assert jumbe.ask_by_phone(LEAD, "menu"), "and what comes later is answered"
    assert len(jumbe.kannel.to(LEAD)) == 2
    assert jumbe.one("SELECT count(*) FROM messages WHERE direction = 'in'") == 2


def test_numbers_choose_their_gateway_and_what_one_certainly_did_not_send_goes_by_the_other(
    make: Callable[..., Programme],
) -> None:
    with SlowTwilio(ACCOUNT, TOKEN) as twilio:
        jumbe = make(twilio=twilio, more='[routes]\n"1" = "twilio"\n\n[failover]\nkannel = "twilio"\n')
        american, denied = "15551234567", f"{DENIED}244000101"
        assert jumbe.quickly("route", american) == {
            "gateway": "twilio",
            "because": "numbers that begin with 1 go by it",
        }
        assert jumbe.quickly("route", AMA) == {"gateway": "kannel", "because": "it is the default"}
        jumbe.quickly("people", "add", "--name", "Ann", "--phone", american, "--role", "lead")
        jumbe.start("web", "worker")
        assert jumbe.ask_by_phone(LEAD, "menu")
        assert jumbe.ask(american, "menu"), "who texts Twilio's number is answered from it"
        jumbe.kannel.text(american, "groups")
        jumbe.until(lambda: jumbe.kannel.to(american), "who texts the short code is answered from it")

        with jumbe.database() as db, db.transaction() as tx:
            from storage.messages import outbox

            row = outbox.queue(tx, denied, "There is no way to this number", "notice", gateway="kannel")
        jumbe.until(lambda: twilio.to(denied), "Twilio took it over")
        jumbe.until_idle()
        told = " ".join(step["what"] for step in jumbe.quickly("messages", "explain", str(row)))
        assert "the gateway does not text that country" in told
        assert "passed on to gateway twilio" in told
        assert len(twilio.to(denied)) == 1
        assert jumbe.kannel.to(denied) == []
        jumbe.terminate("worker")
        assert not re.search("unknown|unresolved", str(jumbe.rows("SELECT state FROM messages")))
