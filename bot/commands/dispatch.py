"""Read a supervisor's text, find the command it means, and answer it.

A command is declared in one place: `@command` holds its grammar, the right it needs, its risk and its examples, and the
table in `bot/README.md`, the menu and the answer to a verb alone are printed from that.
The risk decides what a typing mistake may do: *lean towards stopping, never towards sending*.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row

from bot.replies import Names, Sentences, Words, names, sentences, shorten
from storage.audit import Actor
from storage.broadcasts import progress
from storage.contacts import attempts, consent, groups, lookup, people
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import codes, operations
from storage.rules import optout
from storage.rules.identifiers import fold, key, near
from storage.rules.identifiers import read as read_identifier
from storage.rules.normalize import searched

LOOKUPS_AN_HOUR = 20
"""People whom nobody knows that one phone may name in an hour, before its looking up is paused."""

Risk = Literal["reads", "small", "takes", "code", "sends", "part", "stops", "confirms"]

_HOLE = re.compile(r"<(\w+)(\.\.\.)?(\?)?>")
_DIGITS = re.compile(r"(?<!\d)(?:\d{10}|\d{6})(?!\d)")
_LISTS = ("who", "when")
_IGNORED = "'\"+,.:;!?¡¿()*#"
"""Signs that people type around words; they never carry a meaning at a word's edge."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the phone is told; `code_id` names the code whose digits are put in when it leaves; `refused` says that nothing was done.

    `unread` says that no command could be read in the text, `challenge` that the owner of the phone is asked to prove it.
    """

    text: str
    code_id: int | None = None
    refused: bool = False
    unread: bool = False
    challenge: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One text of one person, with all that a command needs to answer it."""

    tx: Transaction
    person: Row[Any]
    message_id: int | None
    words: str
    sentences: Sentences
    groups: Sequence[Row[Any]] = field(default=())
    guess: str = ""
    sent_at: datetime | None = None
    confirmed: bool = False
    """Whether a code confirmed what is done: then it is not counted among what goes without one."""

    @property
    def at(self) -> datetime:
        """The moment by which a code in this text is judged: when it was sent, if that was not long ago.

        A text that comes later confirms nothing: what it was about is out of date, and after a restore from a backup it
        may have been done already.
        """
        return self.tx.now if self.sent_at is None or self.is_late else min(self.sent_at, self.tx.now)

    @property
    def is_late(self) -> bool:
        """Whether this text was sent so long ago that what it asks for may not be wanted any more."""
        return self.sent_at is not None and self.sent_at < self.tx.now - codes.LATE

    @property
    def by(self) -> Actor:
        """Who acts, and from which text."""
        return Actor("sms", self.person.id, f"message {self.message_id}")

    def say(self, *parts: tuple[str, dict[str, Any]]) -> Answer:
        """An answer made of sentences, cut to one text."""
        return Answer(self.sentences.say(*parts))

    def members(self, group: Row[Any]) -> int:
        """How many are in a group now; counted only where it is said, for that of 500 groups takes longer than a text."""
        return groups.count_members(self.tx, group.id)


@dataclass(frozen=True, slots=True)
class Command:
    """One verb: its grammar, who may use it, what it risks, and the function that answers it."""

    verb: str
    holes: tuple[tuple[str, bool, bool], ...]  # name, takes the rest, optional
    right: str
    risk: Risk
    examples: tuple[str, ...]
    run: Callable[..., Answer]
    alone: bool = False
    """Whether its word is an everyday one, and means it only as the whole text or with a number behind it."""

    @property
    def grammar(self) -> str:
        """The form as it is shown: `add <group> <who...>`."""
        shown = [f"<{name}{'...' if rest else ''}{'?' if optional else ''}>" for name, rest, optional in self.holes]
        return " ".join([self.verb, *shown])

    @property
    def does(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.run) or "").splitlines()[0]


COMMANDS: dict[str, Command] = {}

_PAUSED = ("too-many-texts", "lookups-paused")
"""Answers to a phone that is paused by how much came from its number: they ask its owner for a code that lifts that."""

_UNREAD = ("verb-unknown", "plain-text")
"""Answers to a text in which no command could be read: a machine's, most of the time, if there are many."""

CHALLENGE_KEPT = timedelta(minutes=5)
"""The same code is asked for again so long, so that the text that came first is as good as the last."""

_RISKS = {
    "reads": "at once",
    "small": "at once up to ten, with undo",
    "takes": "at once up to ten, with undo; never guessed",
    "code": "preview and code; never guessed",
    "sends": "preview and code; one person: at once from a fresh phone",
    "part": "previewed again, with a new code",
    "stops": "at once",
    "confirms": "spends a code",
}


def command(
    grammar: str, *, right: str, risk: Risk, examples: Sequence[str], alone: bool = False
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Declare a command.  Import fails if the holes are not the function's parameters, or if it says not what it does."""
    verb, *rest = grammar.split()
    found = [_HOLE.fullmatch(word) for word in rest]
    holes = tuple((m[1], bool(m[2]), bool(m[3])) for m in found if m)

    def register(run: Callable[..., Answer]) -> Callable[..., Answer]:
        parameters = list(inspect.signature(run).parameters)[1:]
        if parameters != [name for name, _, _ in holes] or not run.__doc__ or verb in COMMANDS:
            raise TypeError(f"{grammar!r} does not fit {run.__name__}({', '.join(parameters)})")
        COMMANDS[verb] = Command(verb, holes, right, risk, tuple(examples), run, alone)
        return run

    return register


def in_order() -> list[Command]:
    """The commands in the order in which the English verbs are taught."""
    return [COMMANDS[verb] for verb in sentences("en").verbs]


def table() -> str:
    """The commands as a Markdown table, for `bot/README.md`."""
    lines = ["| text | does | who | risk | example |", "|---|---|---|---|---|"]
    for c in in_order():
        who = ", ".join(role for role, rights in people.RIGHTS.items() if c.right in rights)
        grammar = c.grammar.replace("|", "\\|")
        lines.append(f"| `{grammar}` | {c.does} | {who} | {_RISKS[c.risk]} | `{c.examples[0]}` |")
    return "\n".join(lines)


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
    if len(words) < 2 or _verb(call, words[0]) is not None or (group := _group(call, words[0])) is None:
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
    return operations.code_length(call.tx, person) == codes.LONG or codes.matching(call.tx, person, digits) is not None


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


def clean(word: str) -> str:
    """A word as commands compare it: folded, small letters, without the signs around it."""
    return key(word).strip(_IGNORED).strip()


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
    followed = len(words) > 1 and _group(call, words[1]) is not None
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
    if (group := _group(call, words[0])) is not None and words[0] == group.short:
        raise Problem("plain-text", group=group.short)
    raise Problem("verb-unknown", typed=f'"{words[0][:20]}"')


def _takes_group(verb: str) -> bool:
    return bool(COMMANDS[verb].holes) and COMMANDS[verb].holes[0][0] in ("group", "whom")


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


def _group(call: Call, word: str) -> Row[Any] | None:
    """The group of this person that a word names: by its short name, or by its number."""
    word = clean(word)
    return next((g for g in call.groups if word in (g.short, str(g.id))), None)


def group_of(call: Call, word: str) -> Row[Any]:
    """The group that a word names, among those this person may see; raises Problem `group-unknown`."""
    found = _group(call, word)
    if found is None:
        raise Problem("group-unknown", group=word, near=_near(call, word))
    return found


def whom(call: Call, word: str) -> tuple[Row[Any] | None, Row[Any] | None]:
    """The group or the case that a word names, the other being None.

    Raises Problem `group-or-person-unknown`, `group-or-person-twice` (a number that is a group's and somebody's id) or
    `case-ambiguous`.
    """
    group = _group(call, word)
    if group is not None and not word.isdigit():
        return group, None
    if group is None:
        try:
            return None, case_of(call, word)
        except Problem as problem:
            if problem.key not in ("case-unknown", "case-unknown-near"):
                raise
            raise Problem("group-or-person-unknown", typed=word, near=_near(call, word)) from None
    if _seen(call, word):
        raise Problem("group-or-person-twice", typed=word)
    return group, None


def case_of(call: Call, word: str) -> Row[Any]:
    """The case that a word names, among those of this person's groups (a lead: all).

    Raises Problem `case-unknown` for one of somebody else's groups just as for one that does not exist, and
    `lookups-paused` after too many of them.
    """
    may_look_up(call)
    seen = _seen(call, word)
    if not seen:
        not_found(call, 1)
        if people.may(call.person, "lead"):
            lookup.find_one(call.tx, word)  # says what is near
        raise Problem("case-unknown", typed=word)
    if len(seen) > 1:
        raise Problem("case-ambiguous", typed=word, candidates=", ".join(map(person_shown, seen)))
    return seen[0]


def _seen(call: Call, word: str) -> list[Row[Any]]:
    """The cases that a word fits, of those this person may see."""
    fitting = lookup.find(call.tx, [read_identifier(word, country=call.tx.rules.country)])[0]
    return [case for case in fitting if is_seen(call, case)]


def is_seen(call: Call, case: Row[Any]) -> bool:
    """Whether a case is within what this person may see: in one of their groups; for a lead always."""
    if people.may(call.person, "lead"):
        return True
    return bool({g.short for g in call.groups} & set(lookup.groups_of(call.tx, case.id)))


def may_look_up(call: Call) -> None:
    """Raises Problem `lookups-paused` for a phone that named too many within an hour whom nobody knows.

    Asked before anything is looked up, so that the pause is the same for those who exist.  What was named before a code was
    confirmed from the phone is not counted: somebody else may have named it.
    """
    over = attempts.last(call.tx, call.person.id, "lookup", LOOKUPS_AN_HOUR + 1)
    if over is not None and over > codes.since(call.tx, call.person.id, timedelta(hours=1)):
        minutes = math.ceil((over + timedelta(hours=1) - call.tx.now) / timedelta(minutes=1))
        raise Problem("lookups-paused", count=LOOKUPS_AN_HOUR, minutes=minutes, code=codes.mask(codes.LONG))


def challenge(tx: Transaction, person: Row[Any], message_id: int | None) -> int:
    """A code by which this person shows that the phone is in their hand; returns its row id.

    Whoever forges the number does not see it, cannot guess its ten digits and cannot end it by wrong ones.
    """
    asked = operations.proving(tx, person.id)
    if asked is None or asked.asked_at <= tx.now - CHALLENGE_KEPT:
        by = Actor("sms", person.id, f"message {message_id}")
        number = operations.ask(tx, codes.PROVE, words="", request={}, message_id=message_id, by=by)
        return operations.issue_code(tx, number, person.id)
    return next(int(code.id) for code in codes.waiting_for(tx, person.id) if code.operation_id == asked.id)


def not_found(call: Call, times: int) -> None:
    """Count people who were named and not found; raises Problem `lookups-paused` if one text names too many of them."""
    attempts.note(call.tx, call.person.id, "lookup", min(times, LOOKUPS_AN_HOUR + 1))
    if times > 1:
        may_look_up(call)


def kept_answer(call: Call, operation: Row[Any]) -> Answer:
    """What was answered when this was asked, with its code: with a longer one, if guesses have come near it since."""
    code = next((c for c in codes.waiting_for(call.tx, call.person.id) if c.operation_id == operation.id), None)
    length = operations.code_length(call.tx, call.person.id)
    if code is None or code.length >= length:
        return Answer(operation.answer, code.id if code is not None else None)
    text = operation.answer.replace(codes.mask(code.length), codes.mask(length))
    operations.answered(call.tx, operation.id, text)
    return Answer(text, operations.issue_code(call.tx, operation.id, call.person.id))


def number_of(word: str) -> int | None:
    """An operation's number as typed, or None if the word is none."""
    return int(word) if word.isdigit() and len(word) <= 9 else None


def person_shown(case: Row[Any]) -> str:
    """A case as an answer names it: its name and the id that a text can use."""
    return f"{shorten(case.name, 30)} ({id_shown(case)})" if case.name else id_shown(case)


def id_shown(case: Row[Any]) -> str:
    """The id that a text can use for a case."""
    return shorten(str(case.external_id or case.case_id), 24)


def listed(cases: Sequence[Row[Any]]) -> Names:
    """Several cases, cut to what fits."""
    return names(person_shown(case) for case in cases)


def _near(call: Call, word: str) -> str:
    """The nearest groups that this person may see, with their sizes."""
    by_short = {g.short: g for g in call.groups}
    nearest = groups.nearest(fold(word), by_short)
    return ", ".join(f"{short} ({call.members(by_short[short])})" for short in nearest)
