"""From a text to a command: which verb is meant, its words filled in, and its answer; never a guess that acts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from bot.commands.naming import clean, group_named, number_of
from bot.commands.registry import COMMANDS, Answer, Call, Command
from bot.replies import Sentences, Words, sentences, shorten
from storage.broadcasts import progress
from storage.contacts import consent, people
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import codes, operations
from storage.rules import optout
from storage.rules.identifiers import near
from storage.rules.normalize import key, searched

_PAUSED = ("too-many-texts", "lookups-paused")
"""Answers to a phone that is paused by how much came from its number: they ask its owner for a code that lifts that."""

_UNREAD = ("verb-unknown", "plain-text")
"""Answers to a text in which no command could be read: a machine's, most of the time, if there are many."""


def answer(
    tx: Transaction,
    person: Row[Any],
    text: str,
    *,
    message_id: int | None,
    muted: bool = False,
    sent_at: datetime | None = None,
) -> Answer:
    """Answer one text of a person; every path answers something.

    Of a phone that is `muted`, because it texted too much to be answered, only what stops something is heard, and a code,
    which nobody else can know: nothing may happen that its owner is not told of.  `sent_at` is given for a text that comes late.
    """
    text = storable(text)
    told = sentences(person.language_code or tx.rules.language)
    call = Call(tx, person, message_id, key(text), told, people.groups_of(tx, person), sent_at=sent_at)
    try:
        given = _answer(call, text, muted=muted)
    except Problem as problem:
        unread, paused = problem.key in _UNREAD, problem.key in _PAUSED
        given = replace(_explain(call, problem), refused=True, unread=unread, challenge=paused)
    return replace(given, text=_without_codes(tx, person, given.text))


_DIGITS = re.compile(r"(?<!\d)(?:\d{10}|\d{6})(?!\d)")


def _without_codes(tx: Transaction, person: Row[Any], text: str) -> str:
    """The answer without a code, also one that was used: what was typed may be quoted, and a code is written down nowhere."""
    runs = set(_DIGITS.findall(text)) & codes.sent(tx, person.id) if _DIGITS.search(text) else set()
    for digits in runs:
        text = text.replace(digits, codes.mask(len(digits)))
    return text


def carries_code(tx: Transaction, person: Row[Any], text: str) -> bool:
    """Whether a text holds the digits of a code that was sent to this person, which nobody else can know."""
    return any(codes.matching(tx, person.id, digits) is not None for digits in _DIGITS.findall(key(text))[:3])


def _answer(call: Call, text: str, *, muted: bool) -> Answer:
    raw = text.split()
    words = [clean(word) for word in raw]
    if not any(words):
        return COMMANDS["menu"].run(call)
    if _is_code(call, "".join(words)):
        words, raw, text = ["ok", "".join(words)], ["ok", *raw], f"ok {text}"
    if _is_group_first(call, words):
        words[0], words[1] = words[1], words[0]
    elif (number := _stopped_by_number(call, words)) is not None:
        words, text = ["halt", number], f"halt {number}"
    chosen, guessed = _choose(call, words)
    if muted and chosen.risk not in ("stops", "confirms"):
        raise Problem("too-many-texts", code=codes.mask(codes.LONG))
    if chosen.risk != "stops" and not consent.may_text(call.tx, call.person.phone):
        # Whoever said stop cannot be answered, and a command whose answer nobody sees may be a forger's.
        raise Problem("phone-stopped")
    if not people.may(call.person, chosen.right):
        raise Problem("not-allowed", verb=call.sentences.verb(chosen.verb))
    if guessed:
        told = call.sentences.sentences["guess"].format(typed=words[0], verb=call.sentences.verb(chosen.verb))
        call = replace(call, guess=told)
    given = _fill(chosen, words[1:], text)
    if given is None:
        return Answer(call.sentences.usage[chosen.verb])
    return chosen.run(call, **given)


def call_of(tx: Transaction, person: Row[Any], text: str, *, message_id: int | None) -> Call:
    """A text of a person with what answering it needs, for what is no verb."""
    language = sentences(person.language_code or tx.rules.language)
    return Call(tx, person, message_id, key(text), language, people.groups_of(tx, person))


def is_exact(tx: Transaction, person: Row[Any], text: str) -> bool:
    """Whether a text is a command beyond doubt: an exact verb, a group and then a verb, or a code.

    While a question is open on a phone everything else is an answer to it.
    """
    text = storable(text)
    call = call_of(tx, person, text, message_id=None)
    words = [clean(word) for word in text.split()]
    if not any(words):
        return False
    named = _exact(call, words) is not None or _is_group_first(call, words)
    return _is_code(call, "".join(words)) or named or _stopped_by_number(call, words) is not None


def _is_group_first(call: Call, words: Sequence[str]) -> bool:
    """Whether a text names a group and then a verb: `anc tell ...`.

    By its number a group may stand first only before what reads: our own answers begin with an operation's number and a
    verb, and one that comes back must not act on the group with that number.
    """
    if len(words) < 2 or _verb(call, words[0]) is not None or (group := group_named(call, words[0])) is None:
        return False
    verb = _verb(call, words[1])
    return verb is not None and (words[0] == group.short or verb.risk == "reads")


def _stopped_by_number(call: Call, words: Sequence[str]) -> str | None:
    """The number in `stop 42` or `cancel 42`, in the words of any language: from staff that is `halt 42`.

    A word that is a verb too (`remove 42`) stops what is the sender's own and not over yet, and nothing else.
    """
    *before, last = [word for word in words if word]
    if not before or number_of(last) is None or optout.read(" ".join(before), whole=True) != "stop":
        return None
    if _verb(call, before[0]) is None:
        return last
    own = [*progress.running(call.tx, of=call.person.id), *operations.waiting_of(call.tx, call.person.id)]
    return last if int(last) in {row.id for row in own} else None


def _is_code(call: Call, digits: str) -> bool:
    """Whether digits alone are a code; ten of them only where codes are long or it is one, for they may be a phone number."""
    if not (digits.isascii() and digits.isdigit()):
        return False
    if len(digits) != codes.LONG:
        return len(digits) == codes.SHORT
    person = call.person.id
    return codes.next_length(call.tx, person) == codes.LONG or codes.matching(call.tx, person, digits) is not None


def _explain(call: Call, problem: Problem) -> Answer:
    values = dict(problem.values)
    if "near" in values and problem.key in ("group-unknown", "group-or-person-unknown"):
        shown = call.sentences.sentences["group-unknown-near"]
        values["near"] = shown.format(groups=values["near"]) if values["near"] else ""
    for name, value in problem.values.items():
        if isinstance(value, str) and name not in ("near", "code"):
            values[name] = Words(shorten(value, 40))
    if problem.key not in call.sentences.sentences:
        return call.say(("verb-unknown", {"typed": f'"{str(problem.values.get("typed", ""))[:20]}"'}))
    return call.say((problem.key, values))


def storable(text: str) -> str:
    """The text as every database can keep it: without NUL, and without halves of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def verbs_of(told: Sentences) -> dict[str, str]:
    """Every word that names a verb, in this language and in English, with its command's name."""
    english = sentences("en")
    return {
        word: verb
        for source in (english, told)
        for verb, spoken in source.verbs.items()
        if verb in COMMANDS
        for word in spoken
    }


def _verb(call: Call, word: str) -> Command | None:
    spoken = verbs_of(call.sentences)
    verb = spoken.get(word) or spoken.get(searched(word))  # a phone may write `envía` where `envia` is taught
    return COMMANDS[verb] if verb else None


def _exact(call: Call, words: Sequence[str]) -> Command | None:
    """The command that the first word names, if what follows lets it be one: `no`, and `no 42`, but not `no puedo hablar`."""
    found = _verb(call, words[0])
    rest = [word for word in words[1:] if word]
    return None if found is not None and found.alone and rest and number_of(rest[0]) is None else found


def _choose(call: Call, words: Sequence[str]) -> tuple[Command, bool]:
    """The command that a text means, and whether that is a guess.

    Raises Problem `verb-unknown`, `verb-retype` where a guess would change something, `plain-text` where a group is named
    without a verb, `no-with-words` where an everyday word begins a sentence.
    """
    exact = _exact(call, words)
    if exact is None and _verb(call, words[0]) is not None:
        raise Problem("no-with-words")
    if optout.read(words[0]) == "help":
        exact = COMMANDS["menu"]
    if words[0] == "remove" and len(words) == 1:
        exact = None
    if exact is not None:
        return exact, False
    spoken = verbs_of(call.sentences)
    followed = len(words) > 1 and group_named(call, words[1]) is not None
    # A short verb is one letter from many words, so it is guessed only where its own grammar goes on: with a group.
    close = {
        spoken[word]
        for word in near(words[0]) & spoken.keys()
        if len(word) > 3 or (followed and _takes_group(spoken[word]))
    }
    if len(close) == 1:
        guessed = COMMANDS[close.pop()]
        if guessed.risk in ("reads", "stops", "small", "sends"):
            return guessed, True
        raise Problem("verb-retype", typed=words[0], verb=call.sentences.verb(guessed.verb))
    if (group := group_named(call, words[0])) is not None and words[0] == group.short:
        raise Problem("plain-text", group=group.short)
    raise Problem("verb-unknown", typed=f'"{words[0][:20]}"')


def _takes_group(verb: str) -> bool:
    return bool(COMMANDS[verb].holes) and COMMANDS[verb].holes[0][0] in ("group", "whom")


_LISTS = ("who", "when")


def _fill(chosen: Command, words: Sequence[str], text: str) -> dict[str, Any] | None:
    """What each hole of the grammar holds; None where a needed one is empty.

    A hole that takes the rest holds the text as it was typed, or the cleaned words if it is called `who` or `when`.
    """
    given: dict[str, Any] = {}
    at = 0
    for name, rest, optional in chosen.holes:
        # A sign that stands alone (`tell anc , Clinic`) is no word.
        at = next((i for i in range(at, len(words)) if words[i]), len(words))
        left = [word for word in words[at:] if word]
        if not left:
            if not optional:
                return None
            given[name] = [] if rest and name in _LISTS else ""
        elif rest:
            given[name] = left if name in _LISTS else text.split(maxsplit=at + 1)[at + 1].strip()
            at = len(words)
        else:
            given[name] = words[at]
            at += 1
    return given


def kept_answer(call: Call, operation: Row[Any]) -> Answer:
    """What was answered when this was asked, with its code: with a longer one, if guesses have come near it since."""
    code = next((c for c in codes.waiting_for(call.tx, call.person.id) if c.operation_id == operation.id), None)
    length = codes.next_length(call.tx, call.person.id)
    if code is None or code.length >= length:
        return Answer(operation.answer, code.id if code is not None else None)
    text = operation.answer.replace(codes.mask(code.length), codes.mask(length))
    operations.answered(call.tx, operation.id, text)
    return Answer(text, operations.issue_code(call.tx, operation.id, call.person.id))
