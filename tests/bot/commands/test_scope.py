"""Twin worlds: what a supervisor may not see and what does not exist are answered byte for byte alike.

One world has another supervisor's groups, cases and operations; the other has not.  Everything else is the same, down to
the numbers.  Sofia, whose groups are tb and kids, texts the same words in both.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from bot.commands.dispatch import answer, verbs_of
from bot.commands.registry import COMMANDS
from bot.replies import sentences
from storage import schema
from storage.audit import Actor
from storage.broadcasts import broadcasts, previews
from storage.contacts import cases, consent, groups, people
from storage.contacts.cases import Wanted
from storage.conversations import conversations
from storage.database import Database
from storage.messages import lookups, outbox
from storage.operations import operations, replies
from tests.conftest import Clock
from tests.texting import Things, Town, a_command, code_in, examples, mangled, opened
from tests.world import TEST, World

LENA, SOFIA, SAMUEL, HELEN, VICTOR = (f"23324400090{n}" for n in range(5))
YAW, EFUA, XAVIER, ZOE = "233244000101", "233244000102", "233244000801", "233244000802"
STOPPED, ASKED = "233244000805", "233244000806"
OWN_FILLER, LAST_FILLER = 19, 40

OURS = Things(
    groups=["tb", "kids", "1", "2", "TB", "none"],
    cases=["yaw", "efua", "p1", "p2", "p3", "nobody"],
    phones=[
        EFUA,
        f"+{EFUA}",
        "0244000102",
        "233244999999",
    ],  # not Yaw's: another case of the first world has it as well
    numbers=["1", "2", "3", "4", "19", "41", "42", "43", "77"],
)
THEIRS: dict[str, str] = {
    "a group": "anc", "a group in capitals": "ANC", "a group's number": "3", "a deleted group": "gone", "a deleted group's number": "4",
    "a case": "x9", "a case in capitals": "X9", "a case in no group": "z9", "a case of a deleted group": "g9", "a case's name": "Xavier",
    "a phone": XAVIER, "a phone with a plus": f"+{XAVIER}", "a national phone": XAVIER.replace("233", "0", 1), "a phone of two": ZOE,
    "a case id": "zeta-case", "a case row": "17", "what waits": "20", "what runs": "21", "what was halted": "22", "a reply": "23",
    "a small thing done": "24", "a deletion": "25", "a text to one": "26", "one's own phone that another shares": YAW,
    "what another is asked": "27", "a phone that said stop": STOPPED, "a phone that is asked something": ASKED,
}  # fmt: skip
"""What only the first world has, as Sofia could name it."""

GOOD = {
    "group": "kids", "whom": "tb", "who": "yaw", "number": "2", "text": "Hello", "code": "000000", "short": "newgroup", "name": "Long name",
    "phone": "233244000444", "when": "0900", "time": "0900", "language": "sw", "words": "yaw", "survey": "intake",
}  # fmt: skip

BY_DESIGN = {
    ("add", "who"): "a supervisor may add any case of the programme (product.md, rule 8 of commands.md)",
    ("new", "short"): "no two groups have one short name, so a taken one is refused, without saying whose",
}


def build(db: Database, *, theirs: bool) -> None:
    """The world with Sofia's own things, and with those of others where told."""
    world = World(db)
    several = [world.case(name, f"2332440002{n:02}") for n, name in enumerate(["p1", "p2", "p3"])]
    yaw, efua = world.case("yaw", YAW), world.case("efua", EFUA)
    world.group("tb", yaw, efua, *several, name="TB clinic")
    world.group("kids", efua)
    with db.transaction() as tx:
        people.add(tx, "Lena", LENA, "lead", by=TEST)
        people.add(tx, "Sofia", SOFIA, "supervisor", shorts=["tb", "kids"], by=TEST)
        people.add(tx, "Helen", HELEN, "helper", shorts=["tb", "kids"], by=TEST)
        people.add(tx, "Victor", VICTOR, "viewer", shorts=["tb", "kids"], by=TEST)
        sofia, lena = (Actor("sms", people.person(tx, phone).id) for phone in (SOFIA, LENA))
        operations.note(tx, "caution", words="", undoes=None, by=TEST)
        replies.open_for(tx, yaw, [sofia.person_id or 0], None)
        previews.draft(tx, {"en": "Hello"}, group_ids=[1], words="tell tb hello", by=sofia)
        operations.note(tx, "add", words="add kids efua", undoes={"add": [efua]}, group_id=2, by=sofia)
        previews.draft(tx, {"en": "All"}, group_ids=[1], words="tell tb all", by=lena)
        _filler(tx, OWN_FILLER)
        if theirs:
            _theirs(tx, lena)
        _filler(tx, LAST_FILLER)


def _theirs(tx: Any, lena: Actor) -> None:
    anc, gone = groups.create(tx, "anc", "Antenatal", by=TEST), groups.create(tx, "gone", by=TEST)
    people.add(tx, "Samuel", SAMUEL, "supervisor", shorts=["anc"], by=TEST)
    samuel = Actor("sms", people.person(tx, SAMUEL).id)

    def case(external_id: str, phone: str, **more: Any) -> Wanted:
        values = {"external_id": external_id, "contact_phone_number": phone, "contact_phone_number_is_verified": True}
        return Wanted(None, values | {"name": external_id.title()} | more, case_id=f"{external_id}-case")

    x9, _z9, g9, _twin, sharing = cases.save(tx, [
        case("x9", XAVIER, name="Xavier"), case("z9", ZOE), case("g9", "233244000803"), case("zeta", ZOE), case("s9", YAW),
    ], by=TEST)  # fmt: skip
    groups.add(tx, anc.id, [x9, sharing], by=TEST)
    groups.add(tx, gone.id, [g9], by=TEST)
    numbers = [
        previews.draft(tx, {"en": "To anc"}, group_ids=[anc.id], words=f"tell anc {n}", by=lena) for n in range(3)
    ]
    broadcasts.launch(tx, numbers[1], hold_s=0, by=lena)
    operations.decide(tx, numbers[1], "done", by=lena)
    broadcasts.launch(tx, numbers[2], hold_s=0, by=lena)
    broadcasts.halt(tx, numbers[2], by=lena)
    operations.note(tx, "caution", words="", undoes=None, by=TEST)
    tx.execute(update(schema.programme).values(replies_through=22))
    assert replies.open_for(tx, x9, [samuel.person_id or 0], None) == 23
    operations.note(tx, "add", words="add anc x9", undoes={"add": [x9]}, group_id=anc.id, by=samuel)
    groups.delete(tx, gone.id, by=TEST)
    operations.note(tx, "delete", words="delete gone", undoes={"deleted": gone.id}, group_id=gone.id, by=lena)
    previews.draft(tx, {"en": "One"}, case_ids=[x9], words="tell x9 one", by=samuel)
    asked = operations.ask(tx, "add", words="add anc many", request={"cases": [x9]}, group_id=anc.id, by=samuel)
    operations.issue_code(tx, asked, samuel.person_id or 0)
    stopped, open_ = cases.save(tx, [case("stopped", STOPPED), case("asked", ASKED)], by=TEST)
    groups.add(tx, anc.id, [stopped, open_], by=TEST)
    consent.hear(tx, STOPPED, "stop", words="stop", message_id=None, by=TEST)
    asking = outbox.queue(tx, ASKED, "Reply 1 for yes", "text", case_id=open_)
    conversations.begin(tx, ASKED, "invite", case_id=open_, operation_id=asked, message_id=asking)
    assert (numbers[0], asked) == (OWN_FILLER + 1, 27)


def _filler(tx: Any, number: int) -> None:
    """An operation of the system, so that the next one has the same number in both worlds."""
    row = {"id": number, "kind": "new", "door": "test", "state": "done", "asked_at": tx.now}
    tx.execute(insert(schema.operations), row)


class Twins:
    """The world with others in it, and the world without."""

    def __init__(self, files: tuple[Path, Path], folder: Path) -> None:
        self.clocks = (Clock(), Clock())
        self.dbs = tuple(
            opened(file, folder / f"twin{n}.db", clock)
            for n, (file, clock) in enumerate(zip(files, self.clocks, strict=True))
        )

    def answers(self, phone: str, words: str) -> list[tuple[str, bool, bool]]:
        """What each world answers, both of which forget it again."""
        given = []
        for db in self.dbs:
            with db.reading() as tx:
                said = answer(tx, people.person(tx, phone), words, message_id=None)
                given.append((said.text, said.code_id is not None, said.refused))
        return given

    def close(self) -> None:
        for db in self.dbs:
            db.close()


@pytest.fixture(scope="module")
def files(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = []
    for theirs in (True, False):
        file = tmp_path_factory.mktemp("twins") / f"{theirs}.db"
        db = opened(empty_file, file, Clock())
        build(db, theirs=theirs)
        db.close()
        made.append(file)
    return made[0], made[1]


@pytest.fixture(scope="module")
def twins(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    twins = Twins(files, tmp_path_factory.mktemp("playing"))
    yield twins
    twins.close()


def texts_with(verb: str, named: str) -> Iterator[tuple[str, str]]:
    """Each hole of a command filled with this, the others with something of Sofia's own; the hole and the text."""
    holes = [hole for hole, _, _ in COMMANDS[verb].holes]
    for at, hole in enumerate(holes):
        filled = [named if n == at else GOOD.get(other, "yaw") for n, other in enumerate(holes)]
        yield hole, " ".join([verb, *filled])
        if at + 1 < len(holes):
            yield hole, " ".join([verb, *filled[: at + 1]])
        if hole == "who":
            yield hole, " ".join([verb, *filled[:at], "efua", named, "nobody"])


def told_of_others(twins: Twins, verb: str, kinds: Iterable[str]) -> list[str]:
    """The texts that are answered otherwise where the others are there."""
    told = []
    for kind in kinds:
        for hole, words in texts_with(verb, THEIRS[kind]):
            with_them, without = twins.answers(SOFIA, words)
            if with_them != without and (verb, hole) not in BY_DESIGN:
                told.append(f"{kind}: {words}\n   there: {with_them}\n   not:   {without}")
    return told


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_what_is_out_of_scope_and_what_is_not_there_are_answered_alike(verb: str, twins: Twins) -> None:
    told = told_of_others(twins, verb, THEIRS)
    assert not told, "\n".join(told)


@pytest.mark.parametrize("phone", [HELEN, VICTOR], ids=["helper", "viewer"])
def test_a_helper_and_a_viewer_learn_no_more(phone: str, twins: Twins) -> None:
    kinds = (
        "a group",
        "a group's number",
        "a deleted group",
        "a case",
        "a phone",
        "what runs",
        "a reply",
        "a small thing done",
    )
    for verb, kind in itertools.product(sorted(COMMANDS), kinds):
        for hole, words in texts_with(verb, THEIRS[kind]):
            if (verb, hole) not in BY_DESIGN:
                with_them, without = twins.answers(phone, words)
                assert with_them == without, f"{kind}: {words}"


def test_bare_words_and_slips_tell_nothing(twins: Twins) -> None:
    said = [*COMMANDS, *THEIRS.values()]
    said += [f"{named} {rest}" for named in THEIRS.values() for rest in ("hello", "tell hello", "who", "check")]
    said += [f"{slip} {named} hello" for slip in ("tel", "tll", "ad", "whoo", "chek", "hal", "n", "unddo", "fx", "nam", "delet")
             for named in THEIRS.values()]  # fmt: skip
    for words in said:
        with_them, without = twins.answers(SOFIA, words)
        assert with_them == without, words


@pytest.mark.parametrize("short", ["anc", "ancc", "amc", "an"])
def test_a_name_too_near_to_a_group_of_others_is_refused_without_naming_it(short: str, twins: Twins) -> None:
    said, _, refused = twins.answers(SOFIA, f"new {short}")[0]
    assert refused
    assert "anc" not in said.replace(short, "", 1)


def test_the_twins_differ_for_a_lead(twins: Twins) -> None:
    """Or the comparison would say nothing."""
    seen = [words for words in ("groups", "who anc", "check", "check 21", "tell x9 hi", "undo 24", "re 23 hi", "halt 21")
            if len(set(twins.answers(LENA, words))) > 1]  # fmt: skip
    assert len(seen) == 8, seen


MIXED = Things(
    groups=[*OURS.groups, "anc", "3", "gone", "4"],
    cases=[*OURS.cases, "x9", "z9", "g9", "Xavier", "zeta-case"],
    phones=[*OURS.phones, YAW, XAVIER, ZOE],
    numbers=[*OURS.numbers, *map(str, range(20, 30))],
)
LOOSE = sorted({verb for verb, _ in BY_DESIGN} | {"name"})
"""Verbs by which Sofia may touch what is not hers yet, or meets names that are taken."""


def a_script(rng: Random) -> list[str]:
    """A few texts of Sofia's; `{code}` is the newest code that her phone has."""
    script = []
    for _ in range(rng.randint(3, 9)):
        kind = rng.random()
        if kind < 0.2:
            script.append("ok {code}")
        elif kind < 0.35:
            script.append(a_command(rng, OURS, LOOSE))
        else:
            said = mangled(rng, a_command(rng, MIXED, [v for v in COMMANDS if v not in LOOSE]))
            script.append(said if _first_words(said).isdisjoint(_words_of(LOOSE)) else "groups")
    return script


def _first_words(text: str) -> set[str]:
    return set(text.lower().split()[:2])


def _words_of(verbs: list[str]) -> set[str]:
    return {word for word, verb in verbs_of(sentences("en")).items() if verb in verbs}


def played(file: Path, to: Path, script: list[str], runner: asyncio.Runner) -> list[tuple[Any, ...]]:
    """Every text that Sofia's phone got, in order, with codes masked, and how her own things stand at the end."""
    clock = Clock()
    db = opened(file, to, clock)
    town = Town(db, clock, runner)
    code = "000000"
    for words in script:
        town.text(SOFIA, words.replace("{code}", code))
        for left in town.work():
            if left.phone == SOFIA:
                with db.reading() as tx:
                    code = code_in(lookups.message(tx, left.id).body, left.text) or code
        clock.advance(seconds=35)
    with db.reading() as tx:
        got = [(r.body, r.state, r.code_id is not None) for r in lookups.list_all(tx, direction="out", phone=SOFIA)]
        mine = select(schema.operations.c.id, schema.operations.c.state).where(
            schema.operations.c.person_id == people.person(tx, SOFIA).id
        )
        got += [tuple(row) for row in tx.execute(mine.order_by(schema.operations.c.id))]
    town.close()
    db.close()
    return got


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@settings(
    max_examples=examples(6),
    deadline=None,
    derandomize=examples(0) == 0,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**32))
def test_whatever_a_supervisor_texts_her_phone_gets_the_same_in_both_worlds(
    seed: int, files: tuple[Path, Path], tmp_path: Path, runner: asyncio.Runner
) -> None:
    script = a_script(Random(seed))
    with_them, without = (played(file, tmp_path / "twin.db", script, runner) for file in files)
    assert with_them == without, script
