"""A town of phones on which people text at random, and texts as they type them, made from the registry of commands.

`Town` is the real inbox, store and worker with a gateway of ours at the end, whose book holds what really left: the code
put in, the words filled in.  `a_text` types what the registry knows, so a new verb is typed without a line here.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

from sqlalchemy import event

from bot.commands.dispatch import verbs_of
from bot.commands.registry import COMMANDS
from bot.gateways.base import Accepted, Capabilities, Inbound, NotSent, Outgoing, SendResult, Unknown
from bot.inbound import listeners
from bot.replies import sentences
from bot.worker.worker import Worker
from storage.database import Database
from storage.rules.hours_and_limits import Rules
from storage.rules.normalize import fold

OUR_NUMBER: Final = "15005550006"
GATEWAY: Final = "book"
RULES: Final = Rules(
    name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, second_person_above=6, rate_per_s=1000.0,
    default_gateway=GATEWAY, gateways=frozenset({GATEWAY}),
)  # fmt: skip


def examples(usual: int) -> int:
    """How many examples to play: the usual number, or what EXAMPLES says."""
    given = os.environ.get("EXAMPLES", "")
    return int(given) if given.isdigit() else usual


@dataclass(frozen=True, slots=True)
class Left:
    """One text that the gateway had: `taken` says whether it may have reached the phone."""

    id: int
    phone: str
    text: str
    taken: bool


@dataclass
class Book:
    """A gateway that writes down what it gets; `moods` says how it answers for a phone, once each."""

    name: str = GATEWAY
    kind: str = GATEWAY
    rate_per_s: float = 1000.0
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(
            receipts=True, signed_webhooks=True, validity=True, answers_stop_itself=False, concurrency=8
        )
    )
    left: list[Left] = field(default_factory=list)
    moods: dict[str, str] = field(default_factory=dict)

    async def send(self, outgoing: Outgoing) -> SendResult:
        result = self._result(outgoing)
        taken = not isinstance(result, NotSent)
        self.left.append(Left(outgoing.id, outgoing.to, outgoing.text, taken))
        return result

    def _result(self, outgoing: Outgoing) -> SendResult:
        match self.moods.pop(outgoing.to, "ok"):
            case "ok":
                return Accepted(f"book-{outgoing.attempt_id}")
            case "unknown":
                return Unknown("no answer")
            case scope:
                return NotSent(scope, "not today")  # type: ignore[arg-type]

    async def close(self) -> None:
        """Nothing is open."""


class Town:
    """A database with a clock, the book at its end and a worker between; texts come in by the real inbox."""

    def __init__(self, db: Database, clock: Any, runner: asyncio.Runner) -> None:
        self.db, self.clock, self.runner = db, clock, runner
        self.book = Book()
        self.worker = Worker(db, {GATEWAY: self.book}, "https://sms.example.org")  # type: ignore[dict-item]
        self._said = 0

    def text(self, phone: str, body: str) -> None:
        """A text comes in and is acted on; nothing leaves yet."""
        self._said += 1
        listeners.take(self.db, GATEWAY, Inbound(f"in-{self._said}", phone, OUR_NUMBER, body))

    def work(self) -> list[Left]:
        """The worker does what is due; what left just now."""
        before = len(self.book.left)
        self.runner.run(self.worker.drain())
        return self.book.left[before:]

    def close(self) -> None:
        self.runner.run(self.worker.finish())


def opened(file: Path, to: Path, clock: Any, rules: Rules = RULES) -> Database:
    """A copy of a prepared database; texting is about words, not about power cuts, so commits do not wait for the disk."""
    for old in to.parent.glob(to.name + "*"):
        old.unlink()
    shutil.copy(file, to)
    db = Database(f"sqlite:///{to}", rules, clock)
    event.listen(db.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    return db


# -- what people type ----------------------------------------------------------------------------------------------------

WORDS_TO_SEND: Final = [
    "Clinic closed Friday", "Please call us", "Hi {name|friend}, see you at 9", "{name} {external_id}", "Hi {nobody}",
    "a } b", "STOP", "stop. Thank you", "yes", "help", "Ñandú ¿qué tal? €5 [x]", "Karibu 🙏 {name}", "ሰላም {name}",
    "x" * 159, "word " * 60, "🙏" * 71, "y" * 1601, "no tell ok", '"quoted" \\ \n two lines', "=1+1", "'; DROP TABLE cases;--",
]  # fmt: skip
NAMES: Final = ["Ward one", "Antenatal care", "TB clinic", "x" * 150, "Ñ€ 🙏", "", "482", "anc"]
PLAIN: Final = [
    "Thank you", "When can I come?", "stopping by later", "stop please", "STOP", "S T O P", "stop!", "start", "START",
    "unstop", "help", "HELP", "info", "yes", "no", "ok", "alto", "parar", "please stop texting me", "end", "", " ", ".", "\0",
    "٤٢", "🙏", "address is 5 Main St", "anc", "anc hello there", "1 hello", "remove", "remove me", "menu", "groups",
]  # fmt: skip
TIMES: Final = ["0900", "09:00", "fri 0900", "tomorrow 9", "2560", "mon", "0", "daily 0900"]
TONGUES: Final = ["sw", "es", "en", "xx", "pt-BR"]
SHORTS: Final = [
    "ward1",
    "ward2",
    "ward12",
    "anc",
    "tbb",
    "tell",
    "stop",
    "7",
    "x",
    "kids",
    "averyverylongshort",
    "é",
    "zz9",
]


@dataclass(frozen=True)
class Things:
    """What can be named in this world, rightly or wrongly."""

    groups: Sequence[str]
    cases: Sequence[str]
    phones: Sequence[str]
    numbers: Sequence[str]


def any_text(rng: Random, at_most: int) -> str:
    """Characters from anywhere: letters of many scripts, signs, pictures, what nobody sees, what no database holds."""
    ranges = [(32, 126), (32, 126), (0, 31), (160, 591), (0x370, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x1200, 0x137F),
              (0x2000, 0x206F), (0x3040, 0x30FF), (0xFE00, 0xFEFF), (0xFF00, 0xFFEF), (0x1F300, 0x1F64F), (0xE0000, 0xE007F)]  # fmt: skip
    first, last = rng.choice(ranges)
    other = rng.choice(ranges)
    return "".join(
        chr(rng.randint(*(other if rng.random() < 0.2 else (first, last)))) for _ in range(rng.randint(0, at_most))
    )


def said(rng: Random) -> str:
    """Words to be sent."""
    return rng.choice(WORDS_TO_SEND) if rng.random() < 0.8 else any_text(rng, 80)


def hole(rng: Random, name: str, things: Things) -> str:
    """What stands in a hole of a grammar; one that nobody here has heard of may hold anything."""
    case = rng.choice([*things.cases, *things.phones])
    match name:
        case "group":
            return rng.choice(things.groups)
        case "short":
            return rng.choice(SHORTS)
        case "name":
            return rng.choice(NAMES)
        case "who":
            return " ".join(rng.choices([*things.cases, *things.phones], k=rng.choice([1, 1, 2, 3, 14])))
        case "whom":
            return rng.choice([rng.choice(things.groups), case])
        case "text" | "survey":
            return said(rng)
        case "number":
            return rng.choice(things.numbers)
        case "phone":
            return rng.choice(things.phones)
        case "when" | "time":
            return rng.choice(TIMES)
        case "language":
            return rng.choice(TONGUES)
        case "code":
            return rng.choice(["000000", "12345", "1234567", "0123456789", "abc", f"{rng.randint(0, 999_999):06}"])
        case _:
            return rng.choice([
                case, rng.choice(things.groups), rng.choice(things.numbers), said(rng), rng.choice(TIMES + TONGUES),
            ])  # fmt: skip


@cache
def spoken() -> tuple[tuple[str, str], ...]:
    """Every word that means a command, in every language there is, with the command."""
    tongues = [path.stem for path in (Path(listeners.__file__).parents[1] / "locales").glob("*.toml")]
    return tuple(sorted({(word, verb) for tongue in tongues for word, verb in verbs_of(sentences(tongue)).items()}))


def a_command(rng: Random, things: Things, verbs: Collection[str] | None = None) -> str:
    """One command with something in each of its holes, mostly of the right sort."""
    verb = rng.choice(sorted(verbs if verbs is not None else COMMANDS))
    parts = [rng.choice([word for word, of in spoken() if of == verb])]
    for name, _, optional in COMMANDS[verb].holes:
        if optional and rng.random() < 0.3:
            break
        parts.append(hole(rng, "" if rng.random() < 0.1 else name, things))
    if rng.random() < 0.07:
        parts = parts[: rng.randint(1, len(parts))]
    return " ".join(parts)


def typo(rng: Random, text: str) -> str:
    """The first word with one letter too many, too few, wrong, or two swapped."""
    word, _, rest = text.partition(" ")
    at, letter = rng.randint(0, max(0, len(word) - 1)), rng.choice("aeklnost1 ")
    wrong = rng.choice([
        word[:at] + word[at + 1 :], word[:at] + letter + word[at:], word[:at] + letter + word[at + 1 :],
        word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :],
    ])  # fmt: skip
    return f"{wrong} {rest}"


def group_first(_rng: Random, text: str) -> str:
    first, *rest = text.split(" ", 2)
    return " ".join([rest[0], first, *rest[1:]]) if rest else text


def with_signs(rng: Random, text: str) -> str:
    sign = rng.choice([", ", ": ", " , ", "\u00a0", "\u200b ", "  ", "\n", ' "', " \u201c", ". ", " - ", " +"])
    return text.replace(" ", sign, rng.choice([1, 1, 3])) + rng.choice(["", ".", "!", " ?"])


DIGITS: Final = ["٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "०१२३४५६७८९", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"]


def in_digits(rng: Random, text: str) -> str:
    return text.translate(dict(zip(map(ord, "0123456789"), rng.choice(DIGITS), strict=True)))


def wide(_rng: Random, text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


MANGLERS: Final[Sequence[Callable[[Random, str], str]]] = [
    lambda _, text: text.upper(), lambda _, text: text.title(), typo, typo, group_first, with_signs, in_digits, wide,
    lambda _, text: f"  {text}  ", lambda _, text: text * 8,
]  # fmt: skip


def mangled(rng: Random, text: str) -> str:
    """A text as a person in a hurry types it."""
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        text = rng.choice(MANGLERS)(rng, text)
    return text


def a_text(rng: Random, things: Things) -> str:
    """Anything that anybody may text."""
    if rng.random() < 0.85:
        return mangled(rng, a_command(rng, things))
    return rng.choice([*PLAIN, *PLAIN, any_text(rng, 200), "word " * 900, "9" * 700, "🙏" * 1000])


# -- what can be seen ------------------------------------------------------------------------------------------------------


def digits_in(text: str) -> str:
    """All digits of a text, of whatever script, in ours."""
    return "".join(c for c in fold(text) if c.isdecimal())


def code_in(stored: str, left: str) -> str | None:
    """The code that was put into a text as it left: what stands where the database has asterisks."""
    pattern = re.sub(r"(?:\\\*){6,}", r"(\\d{6,10})", re.escape(stored))
    found = re.fullmatch(pattern, left, re.DOTALL) if "(" in pattern else None
    return found[1] if found is not None and found.re.groups == 1 else None


def span(name: str) -> timedelta:
    """`61 s`, `13 h`, `2 days`."""
    count, unit = name.split()
    return timedelta(**{{"s": "seconds", "min": "minutes", "h": "hours", "days": "days"}[unit]: float(count)})
