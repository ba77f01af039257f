"""The words of an explanation: which fact of the database is told by which sentence."""

from __future__ import annotations

KINDS_OF_STEPS = (
    "asked", "code", "confirmed", "second", "ended", "held", "scheduled", "halted", "queued", "consent", "gateway",
    "waits", "attempt", "handed_over", "ask", "receipt", "withheld", "answers", "received", "effect", "reply", "fault", "state",
)  # fmt: skip
"""The words that stand under `kind`."""

ASKED = {
    "found": "has it",
    "absent": "does not have it",
    "cannot_tell": "could not say",
}

CONSENT = {"stop": "said STOP", "start": "said START", "doubt": "may have said STOP, and is held until it answers"}

WRITTEN_DOWN = {
    "stop": "wants no texts",
    "start": "wants texts again",
    "doubt": "may want no texts, and is held until it answers",
}

AT_ONCE = "at once: this phone confirmed a code within twelve hours"

STATES = {
    "waiting": "waiting for its code",
    "seconding": "waiting for a second person's code",
    "dropped": "dropped",
    "expired": "expired: no code came in time",
    "refused": "ended by a third wrong code",
    "undone": "taken back",
}
"""The states of an operation that do not explain themselves, after `is`."""

OPERATIONS = {
    "tell": "a text to be sent",
    "new": "a new group",
    "add": "people to be put into a group",
    "drop": "people to be taken out of a group",
    "name": "another name for a group",
    "delete": "a group to be deleted",
    "invite": "a phone to be asked whether it is a case's",
    "move": "a new number for a case",
    "inbox": "a reply that staff can answer by its number",
    "resume": "a paused broadcast to go on",
    "caution": "a text to look at twice",
}
"""What a text asked for, by the kind of its operation."""

DEEDS = {
    "gateways.resume": "let a gateway try again",
    "operations.done": "confirmed {of}",
    "operations.seconding": "confirmed {of}, which waits for a second person",
    "operations.dropped": "dropped {of}",
    "operations.expired": "came too late for {of}",
    "operations.refused": "was the third wrong code, which ended {of}",
    "operations.undone": "took {of} back",
    "broadcasts.launch": "let {of} go",
    "broadcasts.pause": "paused {of}",
    "broadcasts.resume": "let {of} go on",
    "broadcasts.halt": "halted {of}",
    "groups.create": "made the group {of}",
    "groups.add": "put {people} into the group {of}",
    "groups.remove": "took {people} out of the group {of}",
    "groups.rename": "gave the group {of} another name",
    "groups.delete": "deleted the group {of}",
    "groups.restore": "brought the group {of} back",
    "cases.save": "changed a case",
}
"""What was done, by the verb in the audit log, after `it`."""

TAKEN = {
    "stop": "a wish to get no more texts",
    "start": "a wish to get texts again",
    "doubt": "it may mean STOP: the phone was asked, and gets nothing else until it answers",
    "help": "a call for help",
    "echo": "our own text come back: nothing was done",
    "reaction": "a reaction to a text of ours: nothing was done",
    "command": "a command of a member of staff",
    "answer": "the answer to a question we asked this phone",
    "inbox": "a reply for the people who care for this case",
    "stranger": "a text of a number that we do not know",
}

OUTCOMES = {
    "stopped": "the phone said STOP, which ends every question",
    "withdrawn": "the question was taken back, or a newer one about the same case took its place",
    "stale": "the phone said yes, but the case had been closed or had got another number meanwhile",
    "expired": "nobody answered in time",
    "failed": "the question never reached the phone",
    "restored": "the system went back to a backup, and what was open then is over",
}
"""How a question ended that was not answered."""
