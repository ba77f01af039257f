"""What can be made to go wrong on the simulated network, and for which text it does: by a seed, so never by chance.

`Faults` is the whole of it, kept in the simulator's book, which the web and the worker process share.  A share is in
percent of texts; whether a text is struck follows from the seed and the text's number alone, so that a rehearsal can be
played again and a test knows what comes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from bot.gateways.base import NotSent, ReceiptState

LONGEST_DELAY_S: Final = 60.0
LARGEST_SEED: Final = 1_000_000
SHUFFLED_OVER_S: Final = 3.0
"""Out of order: each text takes up to so much longer, so that neighbours overtake one another."""

AGAIN_S: Final = 3.0
"""When a gateway that is down, or whose queue is full, may be asked again: soon, because somebody looks on."""

UNREACHABLE_PHONE: Final = "30003"
"""Twilio's code for a phone that is off or out of reach."""

GATEWAY: Final[Mapping[str, tuple[str, NotSent | None]]] = {
    "up": ("takes texts", None),
    "down": (
        "is down: texts wait",
        NotSent("unreachable", "the gateway could not be reached", retry_after_s=AGAIN_S),
    ),
    "refuses": (
        "refuses every text",
        NotSent("message", "the text was not accepted by the gateway", "21618"),
    ),
    "invalid_sender": (
        "says our number is not valid (as from 15005550001)",
        NotSent("sender", "our sender number is not valid", "21212"),
    ),
    "foreign_sender": (
        "says our number may not send (as from 15005550007)",
        NotSent("sender", "our sender number may not send texts", "21606"),
    ),
    "full_queue": (
        "says our queue is full (as from 15005550008)",
        NotSent("throttled", "the queue of our sender number is full", "21611", retry_after_s=AGAIN_S),
    ),
}
"""How the gateway answers, in words and as an answer; the last three are Twilio's magic senders."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong now; as it is made here, nothing does.

    `delay_s` is how long a text is on its way, either way, and `disorder` lets texts and receipts overtake.  `twice`
    delivers every webhook and every receipt twice.  The shares are percent: of texts lost on the way (either way), of
    receipts that never come, of answers that never come (*unknown*), and of phones out of reach.
    """

    delay_s: float = 0.0
    disorder: bool = False
    twice: bool = False
    lost_texts: int = 0
    lost_receipts: int = 0
    lost_answers: int = 0
    undelivered: int = 0
    gateway: str = "up"
    seed: int = 1

    @property
    def any(self) -> bool:
        """Whether anything at all goes wrong; a seed alone does nothing."""
        return asdict(self) | {"seed": 1} != asdict(Faults())

    def strikes(self, share: str, what: object) -> bool:
        """Whether this one, by its number, is among the share of `lost_texts`, `lost_receipts` and so on."""
        return self._draw(share, what) * 100 < int(getattr(self, share))

    def on_its_way_s(self, what: object) -> float:
        """How long a text with this number is on its way."""
        return self.delay_s + (self._draw("disorder", what) * SHUFFLED_OVER_S if self.disorder else 0.0)

    def receipts(self, message_id: int, arrives_in_s: float, after_s: float) -> list[tuple[float, ReceiptState]]:
        """The receipts of a text that was taken: in how many seconds, and what each says; in the order they come."""
        sent_s, ended_s = after_s, arrives_in_s + 2 * after_s
        if self.disorder:
            sent_s = ended_s + after_s
        told: list[tuple[float, ReceiptState]] = [(sent_s, "sent")]
        if not self.strikes("lost_texts", message_id):
            told.append((ended_s, "undelivered" if self.strikes("undelivered", message_id) else "delivered"))
        come = [one for one in told if not self.strikes("lost_receipts", f"{message_id} {one[1]}")]
        return sorted([one for one in come for _ in range(2 if self.twice else 1)])

    def in_words(self) -> list[str]:
        """What goes wrong now, each in a few words; empty where nothing does."""
        shares = (
            ("lost_texts", "of texts lost on the way"),
            ("lost_receipts", "of receipts lost"),
            ("lost_answers", "of answers lost: those texts are unknown"),
            ("undelivered", "of phones out of reach"),
        )
        told = [f"gateway {GATEWAY[self.gateway][0]}"] if self.gateway != "up" else []
        told += [f"texts take {self.delay_s:g} s"] if self.delay_s else []
        told += ["out of order"] if self.disorder else []
        told += ["everything told twice"] if self.twice else []
        return told + [f"{getattr(self, name)} % {words}" for name, words in shares if getattr(self, name)]

    def _draw(self, kind: str, what: object) -> float:
        return random.Random(f"{self.seed}/{kind}/{what}").random()  # noqa: S311  a die that falls the same way again


def read(said: object, over: Faults | None = None) -> Faults | str:
    """The faults that somebody asks for, or the sentence that says what is wrong.

    What is not named stays as it is in `over`, and is normal without it.
    """
    if not isinstance(said, dict):
        return "faults are an object, such as {} for none"
    known = {field.name for field in fields(Faults)}
    for name, value in said.items():
        if name not in known:
            return f"there is no such fault: the faults are {', '.join(sorted(known))}"
        if (wrong := _wrong_with(name, value)) is not None:
            return wrong
    return replace(over or Faults(), **said)


def _wrong_with(name: str, value: Any) -> str | None:
    """Why a fault cannot be set so; None if it can.  A bool is no number here, though Python says it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "delay_s":
        fits = number and 0 <= value <= LONGEST_DELAY_S
        return None if fits else f"a delay is from 0 to {LONGEST_DELAY_S:g} seconds"
    if name in ("disorder", "twice"):
        return None if isinstance(value, bool) else f"{name} is true or false"
    if name == "gateway":
        fits = isinstance(value, str) and value in GATEWAY
        return None if fits else f"gateway is one of {', '.join(GATEWAY)}"
    most = LARGEST_SEED if name == "seed" else 100
    fits = number and isinstance(value, int) and 0 <= value <= most
    return None if fits else f"{name} is a whole number from 0 to {most}"
