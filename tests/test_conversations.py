"""Plays the stories in `tests/conversations/*.sms`: what people text, and every text that their phones get.

    # A comment; the first one is the rule that the story tells.
    @ case zola in anc, zone America/New_York
    lena > tell anc Clinic closed Friday
    lena < {n} TELL anc: ... Reply ok {code} to send, no {n} to drop. ...
    + 61 s
    ama < Clinic closed Friday
    kofi -

`name > text` is said by that phone, `name < text` is the next text that it gets, `name -` that it has got nothing more.
`name = delivered` is the network's receipt for the last text that it got (`name = undelivered 30003`).
`{x}` is whatever stands there the first time and the same ever after (`{n..}` a number, `{code..}` six or ten digits);
`{code as ### ###}` and `{code as ٠١٢٣٤٥٦٧٨٩}` say it in another way; `{ama's phone}` is known from the start; `{{` is a bracket.  `...` stands for any words.  `\\n` is a new line.
`+ 15 min` moves the clock.  Lines with `@` at the top describe what differs from the usual world; later on they are what
somebody does at the desk meanwhile:

    @ person maria lead                 @ person sara supervisor of tb, anc       @ group ward1 Ward one
    @ person rosa lead, language es     @ person luz supervisor of anc, language es-MX      @ language es
    @ case zola in anc, tb, phone 15551234567, shares ama, no phone, unverified, closed,
           zone America/New_York, language sw, id z-9, called Zola Banda          @ cases p1 to p12 in anc
    @ phone stranger                    @ quiet 20:00-09:00     @ hold 0 s        @ clock 2026-11-03 21:30
    @ second person above 2             @ gateway 1 a second    @ gateway answers kofi 21610
    @ fatou joins anc                   @ kofi leaves anc       @ samuel loses anc       @ samuel becomes viewer
    @ kofi has number 233200000001

The usual world: Lena leads; Samuel is supervisor, Helen helper and Victor viewer of anc.  Ama, Kofi and Binta are in anc,
Yaw and Efua in tb, Fatou in no group.  It is Tuesday ten in the morning in Accra, and no hour is quiet.

Texts go as signed requests to the web application, and leave by the worker through the Twilio adapter to a Twilio of our
own on loopback: nothing in between is ours to pretend.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, func, insert, select

from bot.app import create_app
from bot.commands.registry import COMMANDS
from bot.gateways.twilio import Twilio
from bot.replies import FOLDER, read, sentences
from bot.worker.worker import Worker
from storage import schema
from storage.contacts import cases, groups, people
from storage.contacts.cases import Wanted
from storage.database import Database
from storage.operations import codes
from storage.rules import segments
from storage.rules.hours_and_limits import Rules
from storage.rules.quiet_hours import Hours
from tests.postgres import empty
from tests.stub_twilio import StubTwilio
from tests.world import TEST, World, broken_line

ACCOUNT, TOKEN = "AC" + "5" * 32, "a token of ours"
PUBLIC = "https://sms.example.org"
STORIES = sorted((Path(__file__).parent / "conversations").glob("*.sms"))
STEP_S = 0.1
"""What passes between two lines, so that the gateway's bucket fills again."""

FORWARDED = [read(path).sentences["inbox"].split("{text}")[1].split("{")[0] for path in FOLDER.glob("*.toml")]
"""What stands behind a case's own words, of which more may be shown than one text."""

HOLE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|\.\.\.")


@dataclass
class Case:
    """A case as a story describes it."""

    phone: str | None
    groups: list[str] = field(default_factory=list)
    verified: bool = True
    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Person:
    """A member of staff as a story describes them."""

    phone: str
    role: str
    groups: list[str]
    language: str | None = None


@dataclass
class Got:
    """A text that a phone got, and the line of the story after which it came."""

    text: str
    line: int
    entry: dict[str, Any]


class Broken(Exception):
    """The story and the system disagree."""


class Stage:
    """The world of one story, with its phones."""

    def __init__(self, db: Database, clock: Any, stub: StubTwilio, runner: asyncio.Runner) -> None:
        self.clock = clock
        self.stub = stub
        self.runner = runner
        self.db = db
        self.rules = Rules(
            name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None,
            default_gateway="twilio", gateways=frozenset({"twilio"}),
        )  # fmt: skip
        self.rate = 1000.0
        self.line = 0
        self.phones: dict[str, str] = {}
        self.groups = {"anc": "Antenatal care", "tb": "TB clinic"}
        self.people = {
            "lena": Person(self._phone("lena"), "lead", []),
            "samuel": Person(self._phone("samuel"), "supervisor", ["anc"]),
            "helen": Person(self._phone("helen"), "helper", ["anc"]),
            "victor": Person(self._phone("victor"), "viewer", ["anc"]),
        }
        in_groups = {"ama": ["anc"], "kofi": ["anc"], "binta": ["anc"], "yaw": ["tb"], "efua": ["tb"], "fatou": []}
        self.cases = {name: Case(self._phone(name), list(shorts)) for name, shorts in in_groups.items()}
        self.known: dict[str, str] = {}
        self.unread: dict[str, list[Got]] = defaultdict(list)
        self.last: dict[str, Got] = {}
        self._read = 0
        self.ready = False

    def _phone(self, name: str) -> str:
        self.phones.setdefault(name, f"233244{len(self.phones) + 100100:06}")
        return self.phones[name]

    # -- what a story can say about its world ----------------------------------------------------------------------

    def describe(self, words: str) -> None:
        """One line with `@`."""
        for pattern, act in self._directives():
            if found := re.fullmatch(pattern, words):
                return act(*found.groups())
        raise Broken(f"this says nothing I know: @ {words}")

    def _directives(self) -> list[tuple[str, Any]]:
        if self.ready:
            return [
                (r"(\w+) joins (\w+)", lambda name, short: self._move(groups.add, name, short)),
                (r"(\w+) leaves (\w+)", lambda name, short: self._move(groups.remove, name, short)),
                (r"(\w+) loses (\w+)", self._loses),
                (r"(\w+) becomes (\w+)", lambda name, role: self._change(name, role=role)),
                (r"(\w+) has number (\d+)", self._has_number),
                (r"gateway answers (\w+) (\w+)", self._gateway_answers),
            ]
        return [
            (r"person (\w+) (\w+)(?: of (.+?))?(?:, language (\S+))?", self._person),
            (r"case (\w+)(?:,? (.+))?", self._case),
            (r"cases ([a-z]+)(\d+) to [a-z]+(\d+)(?:,? (.+))?", self._several),
            (r"group (\w+)(?: (.+))?", lambda short, name: self.groups.__setitem__(short, name or short)),
            (r"phone (\w+)", self._phone),
            (r"quiet (\d\d:\d\d)-(\d\d:\d\d)", self._quiet),
            (r"hold (\d+) s", lambda s: self._rule(hold_s=int(s))),
            (r"second person above (\d+)", lambda n: self._rule(second_person_above=int(n))),
            (r"language (\w+)", lambda code: self._rule(language=code)),
            (r"gateway (\d+) a second", lambda n: setattr(self, "rate", float(n))),
            (r"gateway answers (\w+) (\w+)", self._gateway_answers),
            (r"clock (\S+ \S+)", lambda at: setattr(self.clock, "now", datetime.fromisoformat(at).replace(tzinfo=UTC))),
        ]

    def _rule(self, **changed: Any) -> None:
        self.rules = dataclasses.replace(self.rules, **changed)

    def _quiet(self, begins: str, ends: str) -> None:
        self._rule(hours=Hours(opens=time.fromisoformat(ends), closes=time.fromisoformat(begins)))

    def _person(self, name: str, role: str, shorts: str | None, language: str | None) -> None:
        self.people[name] = Person(self._phone(name), role, re.split(r",\s*", shorts) if shorts else [], language)

    def _several(self, prefix: str, first: str, last: str, rest: str | None) -> None:
        for n in range(int(first), int(last) + 1):
            self._case(f"{prefix}{n}", rest)

    def _case(self, name: str, told: str | None) -> None:
        case = self.cases.setdefault(name, Case(self._phone(name)))
        for part in re.split(r",\s*", told) if told else []:
            word, _, rest = part.partition(" ")
            match word:
                case "in":
                    case.groups = [rest]
                case "closed" | "open":
                    case.values["status"] = word
                case "no":
                    case.phone = None
                case "unverified":
                    case.verified = False
                case "phone":
                    case.phone = self.phones[name] = rest
                case "shares":
                    case.phone = self.phones[rest]
                case "zone":
                    case.values["time_zone"] = rest
                case "language":
                    case.values["language_code"] = rest
                case "id":
                    case.values["external_id"] = rest
                case "called":
                    case.values["name"] = rest
                case _ if part in self.groups:
                    case.groups.append(part)
                case _:
                    raise Broken(f"this says nothing I know of a case: {part}")

    def _has_number(self, name: str, phone: str) -> None:
        with self.db.transaction() as tx:
            cases.save(tx, [Wanted(self.ids[name], {"contact_phone_number": phone})], by=TEST)
        self.phones[name] = phone

    def _gateway_answers(self, name: str, mode: str) -> None:
        self.stub.modes_for[f"+{self.phones[name]}"] = mode

    def _move(self, act: Any, name: str, short: str) -> None:
        with self.db.transaction() as tx:
            act(tx, groups.group(tx, short).id, [self.ids[name]], by=TEST)

    def _loses(self, name: str, short: str) -> None:
        self._change(name, shorts=[g for g in self.people[name].groups if g != short])

    def _change(self, name: str, **changed: Any) -> None:
        with self.db.transaction() as tx:
            person = people.by_phone(tx, self.phones[name])
            people.change(tx, person, by=TEST, **changed)

    # -- the doors -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the world, the web application and the worker."""
        self.db.rules, self.db.clock = self.rules, self.clock
        world = World(self.db)
        with self.db.transaction() as tx:
            made = cases.save(tx, [_wanted(name, case) for name, case in self.cases.items()], by=TEST)
        self.ids = dict(zip(self.cases, made, strict=True))
        for short, name in self.groups.items():
            world.group(short, *[self.ids[n] for n, c in self.cases.items() if short in c.groups], name=name)
        for name, person in self.people.items():
            own = [g for g in person.groups if g in self.groups]
            world.person(name.title(), person.phone, person.role, *own, language=person.language)
        gateway = Twilio(
            name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender=self.stub.number, messaging_service_sid=None,
            api_url=self.stub.url, rate_per_s=self.rate,
        )  # fmt: skip
        self.web: FlaskClient = create_app(self.db, {"twilio": gateway}, PUBLIC).test_client()
        self.worker = Worker(self.db, {"twilio": gateway}, PUBLIC)
        self.known |= {f"{name}'s phone": phone for name, phone in self.phones.items()}
        self.ready = True

    def close(self) -> None:
        """End the worker."""
        if self.ready:
            self.runner.run(self.worker.finish())

    def text(self, name: str, body: str, sid: str | None = None) -> None:
        """A phone sends a text, a moment after what was before."""
        self.clock.advance(seconds=STEP_S)
        self.post("/in/twilio", self.stub.inbound_form(self._phone_of(name), body, sid))
        self.work()

    def receipt(self, name: str, status: str, code: str | None) -> None:
        """The network reports what became of the last text to a phone."""
        if name not in self.last:
            raise Broken(f"{name} has got no text yet")
        entry = self.last[name].entry
        form = self.stub.receipt_form(entry["sid"], self._phone_of(name), status, code)
        address = urlsplit(entry["status_callback"])
        self.post(f"{address.path}?{address.query}", form)
        self.work()

    def post(self, path: str, form: dict[str, str]) -> None:
        """A request that the gateway signed."""
        headers = {"X-Twilio-Signature": self.stub.sign(PUBLIC + path, form)}
        answer = self.web.post(path, data=form, headers=headers)
        if answer.status_code != 200:
            raise Broken(f"the webhook answered {answer.status_code}")

    def wait(self, number: str, unit: str) -> None:
        """Time passes."""
        name = {"s": "seconds", "min": "minutes", "h": "hours", "day": "days", "days": "days"}.get(unit)
        if name is None:
            raise Broken(f"{unit} is no time: say s, min, h or days")
        self.clock.advance(**{name: float(number)})
        self.work()

    def work(self) -> None:
        """The worker does what is due; what the phones got is put before them."""
        self.runner.run(self.worker.drain())
        names = {phone: name for name, phone in reversed(self.phones.items())}
        for entry in self.stub.book[self._read :]:
            name = names.get(entry["to"].removeprefix("+"), entry["to"])
            self.last[name] = Got(entry["body"], self.line, entry)
            self.unread[name].append(self.last[name])
        self._read = len(self.stub.book)

    def _phone_of(self, name: str) -> str:
        if name not in self.phones:
            raise Broken(f"nobody is called {name} here")
        return self.phones[name]

    # -- lines -----------------------------------------------------------------------------------------------------

    def play(self, line: str) -> None:
        """One line of a story."""
        if found := re.fullmatch(r"@ (.+)", line):
            return self.describe(found[1])
        if not self.ready:
            self.open()
        if found := re.fullmatch(r"\+ ([\d.]+) (\w+)", line):
            return self.wait(found[1], found[2])
        found = re.fullmatch(r"(\w+) ([><=-])(?: (.*))?", line)
        if found is None:
            raise Broken("this is no line of a story")
        name, sign, rest = found[1], found[2], found[3] or ""
        self._phone_of(name)
        if sign == ">":
            return self.text(name, self.said(_unescaped(rest)))
        if sign == "=":
            return self.receipt(name, *(*rest.split(), None)[:2])
        if sign == "-":
            if self.unread[name]:
                raise Broken(f"{name} was to get nothing more\n     got: {self.unread[name][0].text!r}")
            return None
        return self.gets(name, _unescaped(rest))

    def said(self, words: str) -> str:
        """What is texted, with what the story has learnt filled in."""

        def fill(hole: re.Match[str]) -> str:
            if hole[1] is None:
                return hole[0] if hole[0] == "..." else hole[0][0]
            name, _, shape = hole[1].partition(" as ")
            if name not in self.known:
                raise Broken(f"the story has not met {{{name}}} yet")
            if "#" in shape:
                digits = iter(self.known[name])
                return re.sub("#", lambda _: next(digits), shape)
            return self.known[name].translate(dict(zip(map(ord, "0123456789"), shape, strict=False)))

        return HOLE.sub(fill, words)

    def gets(self, name: str, expected: str) -> None:
        """The next text of a phone is this one."""
        if not self.unread[name]:
            others = {n: [g.text for g in got] for n, got in self.unread.items() if got}
            raise Broken(f"{name} was to get: {expected!r}\n     got: nothing; unread elsewhere: {others}")
        got = self.unread[name].pop(0).text
        found = re.fullmatch(self._pattern(expected), got, re.DOTALL)
        if found is None:
            shown = re.sub(r"\{([^{}]+)\}", lambda h: self.known.get(h[1], h[0]), expected)
            at = next(
                (n for n, (a, b) in enumerate(zip(shown, got, strict=False)) if a != b), min(len(shown), len(got))
            )
            raise Broken(f"{name} was to get\nexpected: {shown}\n     got: {got}\n          {' ' * at}^")
        self.known |= {_hole_name(n): value for n, value in found.groupdict().items()}

    def _pattern(self, expected: str) -> str:
        pattern, at, new = "", 0, set[str]()
        for hole in HOLE.finditer(expected):
            pattern += re.escape(expected[at : hole.start()])
            at = hole.end()
            if hole[1] is None:
                pattern += ".*" if hole[0] == "..." else re.escape(hole[0][0])
            elif hole[1] in self.known:
                pattern += re.escape(self.known[hole[1]])
            elif hole[1] in new:
                pattern += f"(?P=h_{hole[1]})"
            else:
                new.add(hole[1])
                shape = r"\d{10}|\d{6}" if hole[1].startswith("code") else r"\d+" if hole[1].startswith("n") else ".+?"
                pattern += f"(?P<h_{hole[1]}>{shape})"
        return pattern + re.escape(expected[at:])

    # -- what holds after every story ------------------------------------------------------------------------------

    def faults(self) -> Iterator[str]:
        """What is wrong now that the story is told."""
        for name, got in self.unread.items():
            yield from (f"nobody read what {name} got after line {g.line}: {g.text}" for g in got)
        staff = {f"+{person.phone}" for person in self.people.values()}
        for entry in self.stub.book:
            size = segments.count(entry["body"])
            forwarded = any(words in entry["body"] for words in FORWARDED)
            if entry["to"] in staff and size.parts > 1 + forwarded + (size.encoding == "UCS-2"):
                yield f"an answer to staff is no single plain text ({size}): {entry['body']}"
        yield from (f"Twilio would complain: {fault}" for fault in self.stub.spec_faults)
        with self.db.reading() as tx:
            broken = broken_line(tx)
            if broken is not None:
                yield f"the audit chain is broken at {broken}"
            yield from _codes_written_down(tx)


def _wanted(name: str, case: Case) -> Wanted:
    """A case as it is saved."""
    values = {"external_id": name, "name": name.title(), **case.values}
    if case.phone is not None:
        values |= {"contact_phone_number": case.phone, "contact_phone_number_is_verified": case.verified}
    return Wanted(None, values)


def _trust_the_disk(connection: Any, _record: Any) -> None:
    """Stories are about words, not about power cuts: commits need not wait for the disk."""
    connection.execute("PRAGMA synchronous = OFF")


def _codes_written_down(tx: Any) -> Iterator[str]:
    """Where the digits of a code stand in the database; a text that came in is kept as it came."""
    secret = codes.secret_of(tx)
    given = [codes.digits(secret, row.nonce, row.length) for row in tx.execute(select(schema.codes))]
    if not given:
        return
    pattern = re.compile(rf"(?<!\d)({'|'.join(given)})(?!\d)")
    for table in schema.metadata.sorted_tables:
        for row in tx.execute(select(table)).mappings():
            kept = {n: v for n, v in row.items() if isinstance(v, str | dict | list)}
            if table.name == "messages" and row["direction"] == "in":
                del kept["body"]
            if found := pattern.search(str(kept)):
                yield f"the code {found[0]} stands in {table.name}: {kept}"


def _hole_name(group: str) -> str:
    return group.removeprefix("h_")


def _unescaped(text: str) -> str:
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).replace("\\n", "\n")


@pytest.fixture(scope="module")
def stub() -> Iterator[StubTwilio]:
    with StubTwilio(ACCOUNT, TOKEN) as stub:
        yield stub


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def kept_db(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Database]:
    """One engine for all stories, so that each statement is compiled once."""
    if os.environ.get("TEST_ENGINE") == "postgresql":
        with (
            request.getfixturevalue("postgres").database() as address,
            contextlib.closing(Database(address)) as kept,
        ):
            yield kept
        return
    db = Database(f"sqlite:///{tmp_path_factory.mktemp('stories') / 'story.db'}")
    event.listen(db.engine, "connect", _trust_the_disk)
    yield db
    db.close()


@pytest.fixture
def stage(kept_db: Database, empty_file: Path, clock: Any, stub: StubTwilio, runner: asyncio.Runner) -> Iterator[Stage]:
    if kept_db.file is None:
        empty(kept_db)
    else:
        kept_db.engine.dispose()
        for left in kept_db.file.parent.glob("story.db*"):
            left.unlink()
        shutil.copy(empty_file, kept_db.file)
    stub.book.clear()
    stub.modes_for.clear()
    stub.spec_faults.clear()
    stage = Stage(kept_db, clock, stub, runner)
    yield stage
    stage.close()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_every_story_is_told_as_it_is_written(story: Path, stage: Stage) -> None:
    lines = story.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "a story begins with the rule that it tells"
    for stage.line, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            try:
                stage.play(line)
            except Broken as broken:
                shown = f"\n{story}:{stage.line}: {line}\n{broken}"
                raise pytest.fail.Exception(shown, pytrace=False) from None
    if faults := list(stage.faults()):
        pytest.fail(f"\n{story}: after the last line\n" + "\n".join(faults), pytrace=False)


def test_there_are_stories() -> None:
    assert len(STORIES) >= 26


EXAMPLES = [example for command in COMMANDS.values() for example in command.examples]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_that_is_taught_does_what_it_says(example: str, stage: Stage) -> None:
    verb = example.split(maxsplit=1)[0]
    _prepare(stage, verb)
    if verb == "ok":
        example = f"ok {_code(stage)}"
    elif verb in ("halt", "check"):
        stage.text("lena", f"ok {_code(stage)}")
    stage.unread.clear()
    stage.text("lena", example)
    answer = stage.unread["lena"].pop(0).text
    assert answer not in sentences("en").usage.values()
    assert not any(_is(key, answer) for key in REFUSALS), answer


REFUSALS = (
    "verb-unknown", "verb-retype", "not-allowed", "plain-text", "group-unknown", "group-or-person-unknown", "group-exists",
    "number-unknown", "undo-unknown", "code-none-waiting", "code-wrong", "case-unknown", "no-none", "halt-none",
    "check-nothing", "check-not-sent-to", "not-found", "not-in",
)  # fmt: skip


def _is(key: str, answer: str) -> bool:
    """Whether an answer is, or holds, this sentence."""
    shape = re.sub(r"\\\{[^}]*\\\}", ".*", re.escape(sentences("en").sentences[key]))
    return re.search(shape, answer, re.DOTALL) is not None


def _prepare(stage: Stage, verb: str) -> None:
    """A world in which 31 is a reply of Ama's, 42 waits, 58 was an addition, and the people of the examples are there."""
    stage.describe("case pa in tb, id p-104, called Pat Adu")
    stage.describe("case us phone 15551234567")
    if verb == "new":
        del stage.groups["anc"]
    elif verb != "add":
        stage.cases["pa"].groups.append("anc")
    stage.open()
    with stage.db.transaction() as tx:
        tx.execute(schema.programme.update().values(replies_through=30))
    stage.text("ama", "When can I come?")
    _next_number(stage, 42)
    if verb != "new":
        stage.text("lena", "tell anc Please come at 9")
    _next_number(stage, 58)
    stage.text("lena", "add tb ama")


def _code(stage: Stage) -> str:
    found = next(re.search(r"ok (\d{6})", got.text) for got in stage.unread["lena"] if "Reply ok" in got.text)
    assert found
    return found[1]


def _next_number(stage: Stage, number: int) -> None:
    """The next operation gets this number."""
    row = {"id": number - 1, "kind": "new", "door": "test", "state": "done", "asked_at": stage.clock.now}
    with stage.db.transaction() as tx:
        tx.execute(insert(schema.operations), row)
        if not tx.is_sqlite:
            tx.scalar(select(func.setval(func.pg_get_serial_sequence("operations", "id"), number - 1)))
