"""Every key that is said has its sentence, and what is put into a sentence is cut so that one text holds it.

What a file of sentences must hold is in `test_languages.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bot.replies import Names, Quote, Words, names, sentences
from storage import schema
from storage.messages import states
from storage.rules import segments

ENGLISH = sentences("en")
ROOT = Path(__file__).resolve().parents[2]

# -- keys --------------------------------------------------------------------------------------------------------------


SCREENS = {"cli", "phones"}
"""The parts of the bot that speak to a screen, and not in texts."""


def parsed(folder: str, *only: str, besides: Set[str] = frozenset()) -> Iterator[ast.AST]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if (not only or path.stem in only) and not besides & set(path.parts):
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def text_of(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def called(node: ast.AST) -> str:
    """The name of the function that a node calls."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def said_in_bot() -> set[str]:
    """Every key that the code says: `("key", {...})`, `.sentences["key"]`, and what these two functions are handed."""
    keys: set[str | None] = set()
    for node in parsed("bot", besides=SCREENS):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[1], ast.Dict | ast.Name):
            keys |= {text_of(node.elts[0])} if isinstance(node.elts[1], ast.Dict) else set()
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("call.sentences.sentences", "told"):
            keys.add(text_of(node.slice))
        if called(node) in ("progress_said", "_ask", "ask_with_code"):
            assert isinstance(node, ast.Call)
            keys |= {text_of(argument) for argument in node.args[2:]}
        if isinstance(node, ast.IfExp):
            keys |= {k for k in (text_of(node.body), text_of(node.orelse)) if k in ENGLISH.sentences}
    return {key for key in keys if key} - {"sentences", "usage", "reasons", "verbs", "days", "answers"}


def problems(folder: str, *only: str) -> dict[str, set[str]]:
    """Every key with which the code raises a Problem, with the values that all its raisers give."""
    found: dict[str, set[str]] = {}
    for node in parsed(folder, *only):
        if called(node) == "Problem":
            assert isinstance(node, ast.Call)
            if key := text_of(node.args[0] if node.args else None):
                given = {k.arg for k in node.keywords if k.arg}
                found[key] = found.get(key, given) & given
    return found


IN_CONVERSATION = {
    **problems("storage", "groups", "cases", "operations", "templates", "codes", "undo"),
    **problems("storage/broadcasts", "broadcasts", "content", "expansion", "previews", "progress", "recipients"),
    **problems("bot/commands"),
    # The other rules of `approvals` are for doors where people have signed in.
    **{key: told for key, told in problems("storage", "approvals").items() if key in ("time-quiet", "time-past")},
}
NEVER_IN_CONVERSATION = {"broadcast-unknown", "undone-before", "hand-over-not-waiting", "hand-over-since"}
"""The commands ask `_sees`, and what became of an operation, first."""

MADE_UP = {
    "stop-confirmed",
    "start-confirmed",
    *(f"phone-{said}" for said in ("yes", "no", "asked-move", "asked-invite")),
    *(f"undone-{what}" for what in ("made", "deleted")),
    *(f"digest-{kind}" for kind in ("tell", "delete")),
    *(f"state-{state}" for state in (*schema.BROADCAST_STATES, *schema.OPERATION_STATES)),
}
"""Keys that the code puts together."""


def test_every_key_that_is_said_has_its_sentence() -> None:
    assert said_in_bot() | MADE_UP <= ENGLISH.sentences.keys()


def test_every_problem_in_a_conversation_has_its_sentence_and_its_values() -> None:
    for key, values in IN_CONVERSATION.items():
        if key not in NEVER_IN_CONVERSATION:
            assert key in ENGLISH.sentences, key
            assert ENGLISH.holes(key) <= values, key


def test_no_sentence_is_left_over() -> None:
    used = said_in_bot() | MADE_UP | IN_CONVERSATION.keys()
    everywhere = {text_of(node) for node in parsed("bot")}
    assert {key for key in ENGLISH.sentences if key not in used and key not in everywhere} == set()


def test_every_reason_for_a_message_has_its_words() -> None:
    skips = {text_of(n) for n in parsed("storage", "broadcasts") if isinstance(n, ast.Constant)}
    for reason in {"closed", "no-number", "stopped", "gateway-unknown", "same-phone"} & skips | {
        "halted",
        "expired",
        "quiet-hours",
    }:
        assert reason in ENGLISH.reasons
    assert {"queued", "claimed", "sending", "unknown"} <= ENGLISH.reasons.keys() & states.MOVES.keys()
    for node in parsed("storage", "outbox"):
        if isinstance(node, ast.keyword | ast.Constant) and isinstance(node, ast.keyword) and node.arg == "reason":
            assert text_of(node.value) is None or text_of(node.value) in ENGLISH.reasons


# -- how values are cut ------------------------------------------------------------------------------------------------


def test_a_list_drops_its_end_and_says_how_many() -> None:
    assert names("abcd").cut(2) == "a, b +2"
    assert names("ab").cut(2) == "a, b"


def test_a_quotation_drops_its_tail() -> None:
    assert Quote("Clinic  closed\nFriday").cut(30) == '"Clinic closed Friday"'
    assert Quote("Clinic closed Friday").cut(14) == '"Clinic closed..."'


@given(st.text(max_size=2000), st.lists(st.text(max_size=60), max_size=30), st.text(max_size=400))
def test_whatever_people_are_called_an_answer_is_one_plain_text(text: str, people: list[str], name: str) -> None:
    values = {"group": name, "count": 9, "people": Names(tuple(people)), "other": Words(text)}
    for said in (
        ENGLISH.say(("who-all", values)),
        ENGLISH.say(("made", {"group": "anc", "name": Words(text), "number": 4})),
    ):
        size = segments.count(said)
        assert size.parts <= (1 if size.encoding == "GSM-7" else 2)


def test_words_in_another_script_and_pictures_are_shown_as_they_are() -> None:
    for words in ("\u0623\u0646\u0627 \u0628\u062e\u064a\u0631", "ok \U0001f44d"):
        assert words in ENGLISH.say(("inbox", {"number": 31, "person": "Ama (p-1)", "text": Quote(words)}))
