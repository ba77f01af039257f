"""What a command is: its words, its risk, its function; each registers itself in `COMMANDS`.

A command is declared in one place: `@command` holds its grammar, the right it needs, its risk and its examples, and the
table in `bot/README.md`, the menu and the answer to a verb alone are printed from that.
The risk decides what a typing mistake may do: *lean towards stopping, never towards sending*.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Row

from bot.replies import Sentences, sentences
from storage.audit import Actor
from storage.contacts import groups, people
from storage.database import Transaction
from storage.operations import codes, operations

Risk = Literal["reads", "small", "takes", "code", "sends", "part", "stops", "confirms"]


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

CHALLENGE_KEPT = timedelta(minutes=5)
"""The same code is asked for again so long, so that the text that came first is as good as the last."""

_HOLE = re.compile(r"<(\w+)(\.\.\.)?(\?)?>")


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


def table() -> str:
    """The commands as a Markdown table, for `bot/README.md`."""
    lines = ["| text | does | who | risk | example |", "|---|---|---|---|---|"]
    for c in in_order():
        who = ", ".join(role for role, rights in people.RIGHTS.items() if c.right in rights)
        grammar = c.grammar.replace("|", "\\|")
        lines.append(f"| `{grammar}` | {c.does} | {who} | {_RISKS[c.risk]} | `{c.examples[0]}` |")
    return "\n".join(lines)


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
