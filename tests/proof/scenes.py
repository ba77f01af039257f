"""What is done to a programme: a death at each step, deaths at random, a gateway that fails; then it settles and is counted."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from tests.patience import HANG_S, by_chance, ended, for_a_while
from tests.processes import ACCOUNT, TOKEN, Jumbe, Process, SlowTwilio
from tests.proof.counting import Count, count
from tests.proof.nursery import Child
from tests.stub_twilio import Received, new_sid

FAULTS: Final = ("cut", "half", "stall", "late", "refuse", "503", "429")
"""Taken and the answer lost, in four ways (late: booked only half a second after), and not taken, in three."""

LATE_S: Final = 0.5
FIRST: Final = 10_000_000
STRANGERS: Final = 30_000_000
SETTLES_S: Final = HANG_S

WORKER: Final = (
    "expand:before", "expand:written", "expand:committed", "claim:before", "claim:written", "gate:before",
    "handover:written", "handover:committed", "call:before", "call:after", "settle:before", "settle:written",
    "settle:committed", "leases:written", "leases:committed", "reconcile:asked", "reconcile:before",
    "reconcile:written", "reconcile:committed",
)  # fmt: skip
WEB: Final = ("inbound:recorded", "inbound:written", "inbound:committed", "receipt:written", "receipt:committed")
SPOOL: Final = ("spool:before", "spool:kept", "spool:played")
IMPORT: Final = ("import:before", "import:written")


class Moody(SlowTwilio):
    """A Twilio that fails one request in so many, as the dice fall."""

    def __init__(self, dice: random.Random, one_in: int = 0) -> None:
        super().__init__(ACCOUNT, TOKEN)
        self.dice = random.Random(dice.random())
        self.one_in = one_in
        self.retry_after = "1"
        self.met: dict[str, int] = defaultdict(int)
        self.modes_for = _Moods(self)  # type: ignore[assignment]
        self.late = threading.local()
        self.timers: list[threading.Timer] = []

    def take(self, request: Received) -> None:
        """The official description is held against requests elsewhere; here it would only cost time."""

    def mood(self) -> str:
        """How the next request is answered."""
        with self.lock:
            fails = bool(self.one_in) and self.dice.randrange(self.one_in) == 0
            mode = self.dice.choice(FAULTS) if fails else "ok"
            if fails:
                self.met[mode] += 1
        self.late.on = mode == "late"
        return "cut" if mode == "late" else mode

    def accept(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Into the book, now or late."""
        if not getattr(self.late, "on", False):
            return super().accept(form)
        timer = threading.Timer(LATE_S, super().accept, (form,))
        self.timers.append(timer)
        timer.start()
        return {}

    def until_booked(self) -> None:
        """Until nothing is under way to the book."""
        for timer in self.timers:
            timer.join()


class _Moods(dict[str, str]):
    """What the stub asks for the way in which to answer one number."""

    def __init__(self, stub: Moody) -> None:
        super().__init__()
        self.stub = stub

    def get(self, key: str, default: Any = None) -> Any:
        return self.stub.mood()


class Programme(Jumbe):
    """A programme whose processes may be told where to die, and what is known of it from outside."""

    def __init__(self, folder: Path, stub: Moody, dice: random.Random, **settings: str) -> None:
        super().__init__(folder, stub, PROOF_PACE="1", TWILIO_RATE="60", **settings)
        self.moody = stub
        self.dice = dice
        self.kills = 0
        self.partial = 0
        self.people = 0
        self.strangers = 0
        self.launched: dict[int, int] = {}
        self.acknowledged: set[str] = set()
        self.delivered: set[int] = set()
        self.receipted: set[str] = set()

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def spawn(self, name: str, *, as_name: str | None = None, **told: str) -> Process:
        """Start one behind the hook, and do not wait."""
        process = Child([name], self.env | told, self.folder / f"{name}.log")
        self.running[as_name or name] = process
        return process

    def ends(self, *arguments: str, **told: str) -> int:
        """One command behind the hook, until it ends or is killed; returns its status, or the signal below 0."""
        return ended(Child(arguments, self.env | told, self.folder / "commands.log"))

    def slay(self, name: str) -> None:
        """kill -9, counted."""
        self.kill(name)
        self.kills += 1

    def gather(self, many: int) -> None:
        """A group `all` of so many cases."""
        self.fill("all", [f"2547{FIRST + n}" for n in range(many)])
        self.people = many

    def say(self) -> None:
        """One more broadcast to everybody, in words of its own."""
        number = self.launch("all", f"Visit {len(self.launched) + 1}: come to the clinic tomorrow")
        self.launched[number] = self.people

    def hear(self, body: str = "Where is the clinic?") -> str:
        """A text of somebody new, sent again until it is taken, and once more though it was; returns its id."""
        self.strangers += 1
        form = self.stub.inbound_form(f"2547{STRANGERS + self.strangers}", body, new_sid())
        self.until(lambda: self.post("/in/twilio", form) == 200, "a text is taken", every_s=0.1)
        self.acknowledged.add(form["MessageSid"])
        self.post("/in/twilio", form)
        return form["MessageSid"]

    def tell(self, message: Mapping[str, Any]) -> None:
        """The receipts of one message, in any order and one of them twice."""
        words = ["sent", "delivered", self.dice.choice(["sent", "delivered", "queued"])]
        self.dice.shuffle(words)
        for word in words:
            if self.receipt(message, word) == 200 and word == "delivered":
                self.delivered.add(int(message["status_callback"].partition("?")[0].rpartition("/")[2]))

    def tell_some(self, at_most: int) -> None:
        """Receipts of every second message that has had none."""
        untold = [m for m in self.stub.sent() if m["sid"] not in self.receipted][:at_most]
        for n, message in enumerate(untold):
            self.receipted.add(message["sid"])
            if n % 2 == 0:
                self.tell(message)

    def dies(self, name: str) -> bool:
        """Whether a process that was told where to die has done so."""
        process = self.running[name]
        try:
            ended(process)
        except subprocess.TimeoutExpired:
            return False
        if process.returncode != -signal.SIGKILL:
            raise AssertionError(f"{name} ended with {process.returncode}: {self.log(name)[-2000:]}")
        self.kill(name)
        self.kills += 1
        return True

    def settle(self, *workers: str) -> Count:
        """Start what is not running, with a gateway that does all it should; wait until nothing is open; count."""
        self.moody.one_in = 0
        self.moody.until_booked()
        for name in ("web", *(workers or ("worker",))):
            if name not in self.running:
                self.spawn(name.rstrip("0123456789"), as_name=name)
        self.until(lambda: self.get("/healthz")[0] == 200, "web is up", every_s=0.1)
        open_ = (
            "SELECT (SELECT count(*) FROM messages WHERE state IN ('queued', 'claimed', 'sending', 'unknown', 'received'))"
            " + (SELECT count(*) FROM broadcasts WHERE state IN ('held', 'expanding', 'sending'))"
        )
        with contextlib.suppress(AssertionError):  # what is open then is counted as lost, or as unknown
            self.until(lambda: self.one(open_) == 0, "all is settled", within_s=SETTLES_S, every_s=0.2)
        for name in list(self.running):
            self.kill(name)
        found = count(
            self, self.stub.sent(), kills=self.kills, launched=self.launched,
            acknowledged=self.acknowledged, delivered=self.delivered,
        )  # fmt: skip
        found.partial = self.partial
        return found


# -- a death at each step ----------------------------------------------------------------------------------------------


def worker_dies_at(jumbe: Programme, label: str, nth: int = 1, **told: str) -> bool:
    """The worker dies at a step while a broadcast goes out; returns whether it came there."""
    if label.startswith(("leases", "reconcile")):
        # There must be something in doubt first.
        jumbe.say()
        jumbe.spawn("worker", PROOF_DIE="call:before:2")
        jumbe.dies("worker")
    else:
        jumbe.say()
    jumbe.spawn("worker", PROOF_DIE=f"{label}:{nth}", **told)
    return jumbe.dies("worker")


def web_dies_at(jumbe: Programme, label: str) -> bool:
    """Web dies at a step of a text or a receipt; the sender tries again."""
    jumbe.spawn("web", PROOF_DIE=f"{label}:1")
    jumbe.until(lambda: jumbe.is_up("web"), "web is up")
    if label.startswith("receipt"):
        message = next(m for m in jumbe.stub.sent() if m["sid"] not in jumbe.receipted)
        jumbe.receipted.add(message["sid"])
        jumbe.tell(message)
        died = jumbe.dies("web")
        jumbe.start("web")
        jumbe.tell(message)
    else:
        form = jumbe.stub.inbound_form(f"2547{STRANGERS + 5_000_000 + jumbe.kills}", "STOP", new_sid())
        if jumbe.post("/in/twilio", form) == 200:
            jumbe.acknowledged.add(form["MessageSid"])
        died = jumbe.dies("web")
        jumbe.start("web")
        if jumbe.post("/in/twilio", form) == 200:
            jumbe.acknowledged.add(form["MessageSid"])
    jumbe.kill("web")
    return died


def spool_dies_at(jumbe: Programme, label: str) -> bool:
    """The database is locked for longer than anybody waits, a text goes to the spool, and web dies at it."""
    dies_late = label == "spool:played"
    told = {} if dies_late else {"PROOF_DIE": f"{label}:1"}
    jumbe.spawn("web", **told)
    jumbe.until(lambda: jumbe.is_up("web"), "web is up")
    forms = [jumbe.stub.inbound_form(f"2547{STRANGERS + 6_000_000 + 10 * jumbe.kills + n}", "Hello?") for n in range(3)]

    def send(form: dict[str, str]) -> None:
        if jumbe.post("/in/twilio", form) == 200:
            jumbe.acknowledged.add(form["MessageSid"])

    threads = [threading.Thread(target=send, args=(form,)) for form in forms]
    with jumbe.database() as db, db.transaction():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if dies_late:
        jumbe.kill("web")
        jumbe.spawn("worker", PROOF_DIE=f"{label}:2")
        return jumbe.dies("worker")
    died = jumbe.dies("web")
    jumbe.start("web")
    for form in forms:
        send(form)
    jumbe.kill("web")
    return died


def import_dies_at(jumbe: Programme, label: str, rows: int = 500) -> bool:
    """A sheet is applied and the process dies: all of it or nothing, and then the whole of it once."""
    prefix = f"i{jumbe.kills}"
    sheet = jumbe.folder / f"{prefix}.csv"
    sheet.write_text("external_id,name\n" + "".join(f"{prefix}-{n},Case {n}\n" for n in range(rows)), "utf-8")
    died = jumbe.ends("cases", "import", str(sheet), PROOF_DIE=f"{label}:1") == -signal.SIGKILL
    there = "SELECT count(*) FROM cases WHERE external_id LIKE :p"
    jumbe.partial += jumbe.one(there, p=f"{prefix}-%") not in (0, rows)
    for _ in range(2):
        jumbe.quickly("cases", "import", str(sheet))
        jumbe.partial += jumbe.one(there, p=f"{prefix}-%") != rows
    jumbe.kills += died
    return died


# -- deaths at random --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def traffic(jumbe: Programme) -> Iterator[None]:
    """Texts and receipts come in all the time, from a sender that tries again as Twilio does."""
    over = threading.Event()

    def phones() -> None:
        n = 0
        while not over.wait(0.1):
            n += 1
            with contextlib.suppress(AssertionError):
                jumbe.hear("STOP" if n % 3 == 0 else "Where is the clinic?")
            jumbe.tell_some(8)

    thread = threading.Thread(target=phones)
    thread.start()
    try:
        yield
    finally:
        if "web" not in jumbe.running:
            jumbe.start("web")
        over.set()
        thread.join()


FEWEST: Final = 5


def kill_at_random(jumbe: Programme, kills: int, within_s: float, workers: tuple[str, ...] = ("worker",)) -> None:
    """So many deaths of workers and of web, each after a few texts or a moment, or as many as there is time for.

    A few there are always: a part that had no time would prove nothing and look as if it had.
    """
    dice, end = jumbe.dice, time.monotonic() + within_s
    first = jumbe.kills
    for name in ("web", *workers):
        if name not in jumbe.running:
            jumbe.spawn(name.rstrip("0123456789"), as_name=name)
    jumbe.until(lambda: jumbe.get("/healthz")[0] == 200, "web is up", every_s=0.1)
    with traffic(jumbe):
        while (done := jumbe.kills - first) < kills and (done < FEWEST or time.monotonic() < end):
            if jumbe.one("SELECT count(*) FROM messages WHERE state = 'queued'") < 30:
                jumbe.say()
            victim = "web" if dice.random() < 0.2 else dice.choice(workers)
            enough = len(jumbe.stub.sent()) + dice.randrange(1, 9)
            for_a_while(lambda enough=enough: len(jumbe.stub.sent()) >= enough, 3)
            by_chance(dice, 0.05)
            jumbe.slay(victim)
            jumbe.spawn(victim.rstrip("0123456789"), as_name=victim)
