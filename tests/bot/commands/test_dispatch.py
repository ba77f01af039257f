"""The language of texts: what a slip may do, and an answer to whatever is typed; the words are in `tests/bot/test_languages.py`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from bot.commands.dispatch import answer, verbs_of
from bot.commands.registry import COMMANDS, Answer, table
from bot.replies import sentences
from storage import schema
from storage.contacts import people
from storage.contacts.groups import VERBS
from storage.database import Database
from storage.errors import Problem
from storage.operations import operations
from storage.rules import segments
from storage.rules.identifiers import near
from tests.world import World

ENGLISH = sentences("en")
SPOKEN = verbs_of(ENGLISH)


class Phone:
    """A phone of Lena's, whose texts are answered in a world that forgets each of them again."""

    def __init__(self, db: Database) -> None:
        world = World(db)
        cases = [world.case(name, f"23324400010{n}") for n, name in enumerate(["ama", "kofi"])]
        world.group("anc", *cases)
        world.group("tb", cases[1])
        self.db = db
        self.who = world.person("Lena", "233244000900")

    def text(self, words: str, look: Callable[[Any], Any] = lambda tx: None) -> tuple[Answer, Any]:
        """The answer to a text, and what `look` sees after it."""
        with self.db.reading() as tx:
            given = answer(tx, people.person(tx, "233244000900"), words, message_id=None)
            return given, look(tx)

    def said(self, words: str) -> str:
        return self.text(words)[0].text


@pytest.fixture
def phone(db: Database) -> Phone:
    return Phone(db)


def test_every_verb_has_its_words_and_its_line_of_usage() -> None:
    assert set(ENGLISH.verbs) == set(ENGLISH.usage) == set(COMMANDS)
    assert all(spoken[0] == verb for verb, spoken in ENGLISH.verbs.items())


def test_no_group_can_be_called_like_a_verb(phone: Phone) -> None:
    assert set(COMMANDS) <= VERBS
    for word in SPOKEN:
        assert phone.said(f"new {word}") == f"{word} means something else in a text. Take another name"


def test_every_command_has_an_example_of_its_own() -> None:
    for verb, command in COMMANDS.items():
        assert command.examples
        assert all(example.split()[0] == verb for example in command.examples)
        assert f"`{command.examples[0]}`" in table()


def test_a_command_whose_holes_are_not_its_parameters_is_refused_when_it_is_declared() -> None:
    from bot.commands.registry import command

    def wave(call: Any, whom: str) -> Any:
        """Wave."""

    for grammar in ("wave <who>", "wave", "wave <whom> <more>", "tell <whom>"):
        with pytest.raises(TypeError):
            command(grammar, right="see", risk="reads", examples=[])(wave)


# -- whatever is typed -------------------------------------------------------------------------------------------------

ANYTHING = st.text(st.characters(), max_size=300) | st.text(
    st.characters(categories=["Cs", "Cc", "Nd", "No", "Mn", "Zs", "So"]), max_size=40
)
WORDS = st.sampled_from(
    [*SPOKEN, "anc", "tb", "1", "2", "ama", "kofi", "p-9", "233244000100", "{name}", "{x}", "{", "******", "0", "-1", "99999999999999",
     "٤٢", "“", ",", "\0", "\ud800", "👍", "\n", "stop", "help", "remove", "x" * 8000, "7" * 400, "ß" * 200]
)  # fmt: skip
TEXTS = st.one_of(ANYTHING, st.lists(WORDS, max_size=8).map(" ".join), st.tuples(WORDS, WORDS, ANYTHING).map(" ".join))

PLAYED = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@PLAYED
@given(TEXTS)
@example("tell anc \ud800")
@example("tell anc a\0b")
@example("new ward1 \udfff\0")
@example("tell anc " + "x" * 8000)
@example("tell ama " + "x" * 1600)
@example("halt " + "x" * 8000)
@example("undo " + "7" * 8000)
@example("new ward1 " + "Ward " * 1600)
@example("add anc " + "{p} " * 2000)
@example("check 1 " + "7" * 8000)
@example("tell anc {" + "y" * 300 + "}")
@example("no ²")
@example("²²²²²²")
@example("anc anc anc")
@example("anc tell")
@example("\0")
@example("")
def test_every_text_is_answered_in_one_plain_text(phone: Phone, text: str) -> None:
    given, _ = phone.text(text)
    size = segments.count(given.text)
    assert given.text
    assert size.parts <= (1 if size.encoding == "GSM-7" else 2)


@PLAYED
@given(TEXTS)
def test_no_text_sends_anything_before_a_code(phone: Phone, text: str) -> None:
    _, states = phone.text(text, lambda tx: set(tx.execute(select(schema.broadcasts.c.state)).scalars()))
    assert states <= {"previewed", "dropped"}


SENDING = [
    word for word, verb in SPOKEN.items() if COMMANDS[verb].risk in ("sends", "takes", "code", "part", "confirms")
]


@pytest.mark.parametrize("word", sorted(SENDING))
def test_no_slip_in_a_verb_sends_or_takes_away(phone: Phone, word: str) -> None:
    """All slips of one key in a verb that sends or takes away, from a phone that may text single people at once."""
    with phone.db.transaction() as tx:
        row = {"kind": "tell", "door": "test", "state": "done", "asked_at": tx.now, "person_id": phone.who.id}
        number = tx.execute(schema.operations.insert().returning(schema.operations.c.id), row).scalar_one()
        code = operations.issue_code(tx, number, phone.who.id)
        tx.execute(schema.codes.update().where(schema.codes.c.id == code).values(used_at=tx.now))

    def look(tx: Any) -> tuple[set[str], int]:
        launched = set(tx.execute(select(schema.broadcasts.c.state)).scalars()) - {"previewed", "dropped"}
        return launched, len(
            tx.execute(select(schema.memberships).where(schema.memberships.c.removed_at.is_not(None))).all()
        )

    for n, slip in enumerate(sorted(near(word) - SPOKEN.keys())):
        rest = ("ama Come today", "anc ama")[n % 2]
        assert phone.text(f"{slip} {rest}", look)[1] == (set(), 0), slip
    assert phone.text("tell ama Come today", look)[1][0] == {"expanding"}, "the phone is fresh"


def test_a_short_verb_is_guessed_only_before_a_group(phone: Phone) -> None:
    assert phone.said("whi anc").startswith("anc 2:")
    assert phone.said("whi is this").startswith("I don't know")
    assert phone.said("ad anc ama").startswith("anc: 0 in")
    assert phone.said("ad hoc").startswith("I don't know")


def test_only_an_exact_code_is_ever_spent(phone: Phone) -> None:
    for text in ("ok", "ok 12345", "ok 1234567", "ok 12345a", "ok one", "1234567", "12345", "okay 123456"):
        given, used = phone.text(text, lambda tx: tx.scalar(select(schema.operations.c.wrong_tries)))
        assert used is None
        assert not given.code_id
    with pytest.raises(Problem, match="code-none-waiting"), phone.db.reading() as tx:
        operations.wrong_try(tx, phone.who.id, by=None)  # type: ignore[arg-type]


def test_a_preview_carries_its_code_as_a_mask(phone: Phone) -> None:
    given, _ = phone.text("tell anc Clinic closed Friday")
    assert given.code_id
    assert "ok ******" in given.text
    assert not re.search(r"\d{6}", given.text)
