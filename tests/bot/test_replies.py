"""Every sentence of the bot fits one plain text, and every key that is said has its sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.replies import BUDGET, Names, Quote, Spare, Words, names, sentences, shorten
from storage import messages, optwords, schema, segments

ENGLISH = sentences("en")
ROOT = Path(__file__).resolve().parents[2]
CODE = "******"
LONG_NAME = "Mama Nakalembe Wandira-Ssebagala"
LONG_PERSON = f"{shorten(LONG_NAME, 30)} ({'KCCA-2026-00001234-antenatal-north'[:24]})"
SKIPPED = " 12345 stopped, skipped. 12345 cannot be texted."
REASON = max((ENGLISH.reason(key) for key in ENGLISH.reasons), key=len) + " (gateway 30003)"

LONGEST: dict[str, Any] = {
    "candidates": Words(shorten(", ".join(["c-kzvtnbd"] * 9), 40)),
    "code": CODE,
    "count": 12345,
    "delivered": 12345,
    "example": "groups",
    "failed": 12345,
    "field": Words(shorten("a_field_that_nobody_has_ever_heard_of_anywhere", 40)),
    "first": 123456,
    "got": 12345,
    "group": "antenatal123",
    "groups": names(f"antenatal{n:03} 12345" for n in range(40)),
    "guess": Spare(ENGLISH.sentences["guess"].format(typed="ttell", verb="tell")),
    "halted": " 12345 halted.",
    "id": "KCCA-2026-00001234-anten",
    "known": Words("name, external_id, case_id"),
    "leads": names([LONG_NAME] * 9),
    "left": 12345,
    "length": 12345,
    "life": Spare(ENGLISH.sentences["good-for"]),
    "limit": 12345,
    "minutes": "about 1234 min",
    "name": Words("The Northern Antenatal and Paediatric Outreach Programme, Second Phase " * 3),
    "near": " Near: antenatal123 (12345), antenatal124 (12345).",
    "number": 123456,
    "numbers": names(range(123456, 123476)),
    "other": "antenatal124",
    "parts": 11,
    "people": "12345 people",
    "person": Words(LONG_PERSON),
    "programme": Words("The Northern Antenatal and Paediatric Outreach Programme"),
    "reason": REASON,
    "rest": "x" * 50 + " ",
    "running": names(f"{n} antenatal123 12345/12345" for n in range(123456, 123466)),
    "sent": 12345,
    "skipped": SKIPPED,
    "doubts": names(range(123456, 123476)),
    "stops": " Stops with it: 123456, 123457 +18.",
    "fixed": 123456,
    "starts": "starts at 30 Nov 09:00, in the hours of the day",
    "state": "Not confirmed",
    "text": Quote("Clinic closed Friday, come on Monday. " * 40),
    "time": "30 Nov 14:03",
    "total": 12345,
    "typed": Words(shorten("233244123456233244123456233244123456233244123456", 40)),
    "unknown": 12345,
    "verb": "groups",
    "verbs": "tell groups who new name add drop delete ask find also move fix halt check undo",
    "waiting": names(range(123456, 123476)),
    "who": names([LONG_PERSON] * 9),
    "word": Words("unsubscribe"),
}
SPECIAL: dict[tuple[str, str], Any] = {
    ("who", "people"): names([LONG_PERSON] * 8),
    ("who-all", "people"): names([LONG_PERSON] * 8),
    ("group-unknown-near", "groups"): "antenatal123 (12345), antenatal124 (12345)",
    ("check", "unknown"): " 12345 unclear.",
    ("case-unknown-near", "near"): "KCCA-2026-00001234-anten",
    ("brace-stray", "near"): "x" * 17,
    ("supervisor-stopped", "person"): Words(LONG_NAME),
    ("second-given", "person"): Words(LONG_NAME),
    ("second-asked", "person"): Words(LONG_NAME),
    ("tell-one-cannot", "reason"): ENGLISH.reasons["same-phone"],
    ("ask-many", "verb"): "DROP",
}


def values_for(key: str) -> dict[str, Any]:
    return {hole: SPECIAL.get((key, hole), LONGEST[hole]) for hole in ENGLISH.holes(key)}


@pytest.mark.parametrize("key", sorted(ENGLISH.sentences))
def test_a_sentence_with_its_longest_values_is_one_plain_text(key: str) -> None:
    text = ENGLISH.say((key, values_for(key)))
    size = segments.count(text)
    assert size.encoding == "GSM-7"
    assert size.units <= BUDGET
    assert re.fullmatch(
        ".*".join(re.escape(said) for said, *_ in Formatter().parse(f"{{}}{ENGLISH.sentences[key]}{{}}")), text
    )
    if "code" in ENGLISH.holes(key):
        assert f"ok {CODE} " in text
        assert f"no {LONGEST['number']}" in text or key == "second-asked"


@pytest.mark.parametrize("verb", sorted(ENGLISH.usage))
def test_how_to_use_a_verb_is_one_plain_text(verb: str) -> None:
    size = segments.count(ENGLISH.usage[verb])
    assert size.encoding == "GSM-7"
    assert size.units <= BUDGET


def test_the_answer_to_an_addition_keeps_its_undo_however_much_is_told() -> None:
    told = ("added", "already-in", "not-found", "several-fit", "closed", "no-number", "said-stop")
    text = ENGLISH.say(*((key, values_for(key)) for key in told), ("take-back", {"number": 123456}))
    assert segments.count(text).units <= BUDGET
    assert text.startswith("antenatal123: 12345 in (now 12345).")


def test_no_word_of_the_network_is_taught() -> None:
    texts = [*ENGLISH.sentences.values(), *ENGLISH.usage.values()]
    taught = {word for text in texts for word in re.findall(r"[Tt]ext ([a-zA-Z]+)", text)}
    assert {word.lower() for word in taught} & optwords.GATEWAY_WORDS <= {"stop", "start", "help"}
    assert not {word for word in taught if word.islower()} & optwords.GATEWAY_WORDS


def test_one_is_never_said_in_the_plural() -> None:
    """A count that can be 1 stands with no plural noun, except where it is never 1 or `one-person` is said instead."""
    never_one = {"people", "ask-many", "needs-second", "needs-second-none", "tell-too-many", "code-wrong"}
    plural = re.compile(r"\{\w+\} (people|tries|texts|codes|groups)\b")
    assert {key for key, text in ENGLISH.sentences.items() if plural.search(text)} <= never_one


# -- keys --------------------------------------------------------------------------------------------------------------


def parsed(folder: str, *only: str) -> Iterator[ast.AST]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if not only or path.stem in only:
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
    for node in parsed("bot"):
        if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[1], ast.Dict | ast.Name):
            keys |= {text_of(node.elts[0])} if isinstance(node.elts[1], ast.Dict) else set()
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("call.sentences.sentences", "told"):
            keys.add(text_of(node.slice))
        if called(node) in ("progress_said", "_ask"):
            assert isinstance(node, ast.Call)
            keys.add(text_of(node.args[2]))
        if isinstance(node, ast.IfExp):
            keys |= {k for k in (text_of(node.body), text_of(node.orelse)) if k in ENGLISH.sentences}
    return {key for key in keys if key} - {"sentences", "usage", "reasons", "verbs"}


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
    **problems("storage", "groups", "contacts", "broadcasts", "operations", "templates", "codes"),
    **problems("bot/commands"),
}
NEVER_IN_CONVERSATION = {"broadcast-unknown"}
"""The commands ask `_sees` first."""

MADE_UP = {"stop-confirmed", "start-confirmed", *(f"state-{state}" for state in schema.BROADCAST_STATES)}
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
    assert {"queued", "claimed", "sending", "unknown"} <= ENGLISH.reasons.keys() & messages.MOVES.keys()
    for node in parsed("storage", "messages"):
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


def test_a_language_falls_back_to_its_base_and_to_english() -> None:
    assert sentences("en-GH").language == "en"
    assert sentences("xx").language == "en"
    assert sentences(None).language == "en"
    assert sentences("../../etc/passwd").language == "en"
