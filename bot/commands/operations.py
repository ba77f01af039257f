"""Commands about operations by their number: ok, no, halt, check, undo.

What belongs to somebody else's groups and what does not exist are answered alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from sqlalchemy import Row

from bot import notices
from bot.commands import broadcasts as broadcast_commands
from bot.commands import cases as case_commands
from bot.commands import groups as group_commands
from bot.commands.broadcasts import clock_shown, progress_said, skipped_shown
from bot.commands.naming import case_of, clean, number_of, person_shown
from bot.commands.reach import may_reach, may_see, may_stop, may_undo
from bot.commands.registry import Answer, Call, command
from bot.replies import Words, names, shorten
from storage.broadcasts import approvals as rules
from storage.broadcasts import broadcasts, content, progress, states
from storage.contacts import lookup, people
from storage.errors import Problem
from storage.messages import lookups
from storage.messages.states import OPEN
from storage.operations import codes, confirmations, operations
from storage.operations import undo as undo_store
from storage.operations.operations import UNDO, WRONG_TRIES


@command("ok <code...>", right="see", risk="confirms", examples=["ok 482193"])
def ok(call: Call, code: str) -> Answer:
    """Confirm what waits for a code."""
    digits = "".join(clean(word) for word in code.split())
    if not digits.isdigit() or len(digits) not in (codes.SHORT, codes.LONG):
        raise Problem("code-shape")
    found = codes.matching(call.tx, call.person.id, digits)
    if found is not None and found.used_at is None and found.length < codes.next_length(call.tx, call.person.id):
        # Guesses may have come near it: what was asked before is asked again, with a longer one.
        raise Problem("code-long")
    if found is None:
        return _wrong(call)
    row = operations.operation(call.tx, found.operation_id)
    assert row is not None
    if found.used_at is not None or row.state not in ("waiting", "seconding", "expired"):
        return _again(call, row)
    if found.expires_at <= call.at or row.state == "expired":
        if row.state != "expired":
            _put_away(call, row, "expired")
        elif found.expires_at > call.at:
            return call.say(("code-lapsed", {"number": row.id, "count": operations.WAITING}))
        return call.say(("code-expired", {"number": row.id}))
    if found.digest != operations.digest_of(row) or not may_reach(call, row):
        raise Problem("number-unknown", number=row.id)
    if row.kind == "tell":
        rules.refuse_if_late(call.tx, row.id)
    if not codes.spend(call.tx, found.id):
        return _again(call, row)
    confirmations.add(call.tx, row.id, by=call.by)
    return _carry_out(call, row)


def _carry_out(call: Call, row: Row[Any]) -> Answer:
    """The code was right, and is spent: do what it was for."""
    if row.kind == "tell":
        return broadcast_commands.confirm(call, row)
    if row.kind in ("invite", "move"):
        return case_commands.confirm(call, row)
    if row.kind == "resume":
        return _resumed(call, row)
    if row.kind == codes.PROVE:
        operations.decide(call.tx, row.id, "done", by=call.by)
        return call.say(("proved", {}))
    if "given" in row.request:
        return group_commands.do_again(call, row)
    operations.decide(call.tx, row.id, "done", by=call.by)
    return group_commands.carry_out(call, row)


@command("no <number?>", right="see", risk="stops", examples=["no 42", "no"], alone=True)
def no(call: Call, number: str) -> Answer:
    """Drop what waits for an ok; bare where only one waits."""
    waiting = operations.waiting_of(call.tx, call.person.id) + _seconding(call)
    if number_of(number) is not None:
        if (asked := _question(call, number)) is not None and case_commands.withdraw(call, asked):
            return call.say(("asked-dropped", {"number": asked.id}))
        waiting = [row for row in waiting if row.id == number_of(number)]
        if not waiting:
            raise Problem("number-unknown", number=number)
    if not waiting:
        return call.say(("no-none", {}))
    if len(waiting) > 1:
        numbers = names(row.id for row in waiting)
        return call.say(("no-several", {"count": len(waiting), "numbers": numbers, "first": waiting[0].id}))
    _put_away(call, waiting[0], "dropped")
    return call.say(("dropped-waiting", {"number": waiting[0].id}))


@command("halt <number?>", right="tell", risk="stops", examples=["halt 42", "halt"])
def halt(call: Call, number: str) -> Answer:
    """Stop what has not left yet; bare where only one runs."""
    if number_of(number) is not None:
        if _question(call, number) is not None:
            return no(call, number)
        row = _broadcast(call, number, may_stop)
    else:
        mine = [b for b in progress.running(call.tx) if _stops(call, b.id)]
        if not mine:
            # Lean towards stopping: who says halt may mean what waits for an ok.
            waits = operations.waiting_of(call.tx, call.person.id) or _seconding(call)
            return no(call, "") if waits else call.say(("halt-none", {}))
        # What waits for its hour can still be stopped in peace; what leaves now cannot.
        mine = [b for b in mine if not _waits(b)] or mine
        if len(mine) > 1:
            numbers = names(b.id for b in mine)
            return call.say(("halt-several", {"count": len(mine), "numbers": numbers, "first": mine[0].id}))
        row = mine[0]
    if row.state == "previewed":
        operation = operations.operation(call.tx, row.id)
        assert operation is not None
        _put_away(call, operation, "dropped")
        return call.say(("dropped-waiting", {"number": row.id}))
    so_far = broadcasts.halt(call.tx, row.id, by=call.by)
    unclear = so_far.states.get("unknown", 0) + so_far.states.get("sending", 0)
    if row.state in states.ENDS:
        over = [("halt-over", {"number": row.id, "got": so_far.arrived})]
        return call.say(*over, *([("halted-unknown", {"unknown": unclear})] if unclear else []))
    if so_far.arrived + unclear == 0:
        return call.say(("halted-none", {"number": row.id}))
    rest = row.sendable - so_far.arrived - unclear
    parts = [("halted", {"number": row.id, "got": so_far.arrived, "rest": rest})]
    if unclear:
        parts.append(("halted-unknown", {"unknown": unclear}))
    if so_far.arrived:
        parts.append(("halted-fix", {"number": row.id, "got": so_far.arrived}))
    return call.say(*parts)


@command("pause <number>", right="tell", risk="stops", examples=["pause 42"])
def pause(call: Call, number: str) -> Answer:
    """Let nothing more of a broadcast leave until it is resumed."""
    row = _broadcast(call, number, may_stop)
    done = broadcasts.pause(call.tx, row.id, by=call.by)
    return call.say(("paused", {"number": row.id, "got": done.arrived, "left": done.waiting}))


@command("resume <number>", right="tell", risk="code", examples=["resume 42"])
def resume(call: Call, number: str) -> Answer:
    """Let a paused broadcast go on, after a code."""
    row = _broadcast(call, number)
    if row.state != "paused":
        raise Problem("resume-not-paused", number=row.id)
    if again := group_commands.waiting_already(call):
        return again
    left = progress.progress(call.tx, row.id).waiting
    values = {"broadcast": row.id, "people": broadcast_commands.count_shown(call.sentences, left)}
    return group_commands.ask_with_code(call, "resume", {"broadcast": row.id}, "ask-resume", values)


def _resumed(call: Call, row: Row[Any]) -> Answer:
    """The code was right: it goes on."""
    number = int(row.request["broadcast"])
    done = broadcasts.resume(call.tx, number, by=call.by)
    operations.decide(call.tx, row.id, "done", by=call.by)
    return call.say(
        ("resumed", {"number": number, "people": broadcast_commands.count_shown(call.sentences, done.waiting)})
    )


@command("fix <number> <text...>", right="tell", risk="sends", examples=["fix 42 The clinic opens at 10"])
def fix(call: Call, number: str, text: str) -> Answer:
    """A correction to exactly those whom a broadcast reached."""
    row = _broadcast(call, number)
    reached = progress.reached(call.tx, row.id)
    if not reached:
        return call.say(("fix-nobody", {"number": row.id}))
    return broadcast_commands.correct(call, row.id, reached, text)


@command("check <number?> <who?>", right="read", risk="reads", examples=["check", "check 42", "check 42 p-104"])
def check(call: Call, number: str, who: str) -> Answer:
    """What runs; how far one is; why a person did or did not get it."""
    if not number:
        return _check_all(call)
    if (asked := _question(call, number)) is not None and may_reach(call, asked):
        return case_commands.answered_so_far(call, asked)
    row = _broadcast(call, number)
    if who:
        return _why(call, row, case_of(call, who))
    so_far = progress.progress(call.tx, row.id)
    states = so_far.states
    unclear = states.get("unknown", 0) + states.get("unresolved", 0)
    told = call.sentences.sentences
    values = {
        "number": row.id,
        "group": _shown(call, row.id),
        "sent": so_far.arrived,
        "total": row.sendable,
        "delivered": states.get("delivered", 0),
        "failed": sum(states.get(s, 0) for s in ("undelivered", "refused", "expired")),
        "left": so_far.waiting,
        "halted": told["check-halted"].format(count=states["cancelled"]) if states.get("cancelled") else "",
        "unknown": told["check-unknown"].format(count=unclear) if unclear else "",
        "skipped": skipped_shown(call, so_far.skipped),
        "state": _state_shown(call, row),
    }
    return call.say(("check", values))


def _waits(row: Row[Any]) -> bool:
    """Whether a confirmed broadcast waits for an hour of its own, or did when it was paused."""
    return "scheduled" in (row.state, row.paused_from)


def _state_shown(call: Call, row: Row[Any]) -> str:
    """Where a broadcast is; of one that waits for its time, when that is."""
    told = call.sentences.sentences
    if row.state == "scheduled":
        return told["state-scheduled"].format(time=call.sentences.day_and_time(row.send_at))
    return told[f"state-{row.state}"]


@command("undo <number>", right="add", risk="takes", examples=["undo 58"])
def undo(call: Call, number: str) -> Answer:
    """Take back one's own small operation within 24 hours; a lead anybody's."""
    try:
        row = undo_store.undoable(call.tx, number_of(number), call.person)
    except Problem:
        raise Problem("undo-unknown", number=number) from None
    if row.state == "undone":
        return call.say(("decided-before", {"number": row.id, "state": call.sentences.state(row.state)}))
    if not may_undo(call, row):
        raise Problem("undo-unknown", number=number)
    kinds = undo_store.counts_as(call.tx, row)
    if asked := group_commands.over_cap(call, "undo", {"number": number}, kinds):
        return asked
    done = undo_store.take_back(call.tx, row, by=call.by)
    if not call.confirmed:
        for kind, amount in kinds.items():
            request = {"undoes": row.id}
            operations.note(
                call.tx, kind, words="", undoes=None, request=request, group_id=row.group_id,
                message_id=call.message_id, at_once=amount, by=call.by,
            )  # fmt: skip
    values = {"number": row.id, "group": done.group, "total": done.total}
    if done.what == "name":
        return call.say(("undone-name", {**values, "name": Words(done.name)}))
    if done.what in ("made", "deleted"):
        return call.say((f"undone-{done.what}", values))
    if done.out and done.back:
        return call.say(("undone-both", {**values, "out": done.out, "back": done.back}))
    if done.back or "drop" in row.undoes:
        return call.say(("undone-dropped", {**values, "count": done.back}))
    return call.say(("undone-added", {**values, "count": done.out}))


def _wrong(call: Call) -> Answer:
    if codes.wrong_today(call.tx, call.person.id) == codes.WRONG_A_DAY - 1:
        _tell_leads_of_guessing(call)
    row = operations.wrong_try(call.tx, call.person.id, by=call.by)
    if row.state == "refused":
        if row.kind == "tell":
            broadcasts.drop(call.tx, row.id)
        return call.say(("code-ended", {"number": row.id}))
    return call.say(("code-wrong", {"left": WRONG_TRIES - row.wrong_tries, "number": row.id}))


def _tell_leads_of_guessing(call: Call) -> None:
    """Once a day: somebody guesses codes with this person's number, or this person cannot read theirs."""
    notices.tell_leads(call.tx, "codes-guessed", {"person": Words(call.person.name), "count": codes.WRONG_A_DAY})


def _again(call: Call, row: Row[Any]) -> Answer:
    """A code that was spent: report, and do nothing again."""
    if row.kind == "tell" and row.state in ("done", "seconding"):
        return progress_said(call, row.id, "confirmed-before")
    return call.say(("decided-before", {"number": row.id, "state": call.sentences.state(row.state)}))


def _put_away(call: Call, row: Row[Any], state: Literal["dropped", "expired"]) -> None:
    if row.kind == "tell":
        put_away = broadcasts.drop if state == "dropped" else broadcasts.lapse
        put_away(call.tx, row.id)
    operations.decide(call.tx, row.id, state, by=call.by)


def _seconding(call: Call) -> list[Row[Any]]:
    """What waits for a second lead: the asker and every lead may drop it."""
    return operations.seconding(call.tx, None if people.may(call.person, "lead") else call.person.id)


def _question(call: Call, number: str) -> Row[Any] | None:
    """The operation with this number if it asks a phone something, and this person may know of it."""
    asked = number_of(number)
    row = operations.operation(call.tx, asked) if asked is not None else None
    if row is None or row.kind not in ("invite", "move"):
        return None
    return row if row.person_id == call.person.id or people.may(call.person, "lead") else None


def _broadcast(call: Call, number: str, may: Callable[[Call, Row[Any]], bool] = may_see) -> Row[Any]:
    """A broadcast that this person may see, or stop; anything else looks as if it did not exist."""
    asked = number_of(number)
    row = operations.operation(call.tx, asked) if asked is not None else None
    if row is None or not may(call, row):
        raise Problem("number-unknown", number=number)
    return content.broadcast(call.tx, row.id)


def _sees(call: Call, number: int) -> bool:
    row = operations.operation(call.tx, number)
    return row is not None and may_see(call, row)


def _stops(call: Call, number: int) -> bool:
    row = operations.operation(call.tx, number)
    return row is not None and may_stop(call, row)


def _check_all(call: Call) -> Answer:
    running = [b for b in progress.running(call.tx) if _sees(call, b.id)]
    waiting = operations.waiting_of(call.tx, call.person.id)
    parts: list[tuple[str, dict[str, Any]]] = []
    if running:
        shown = []
        for row in running:
            so_far = progress.progress(call.tx, row.id)
            paused = call.sentences.sentences["check-paused"] if row.state == "paused" else ""
            shown.append(f"{row.id} {_shown(call, row.id)} {so_far.arrived}/{row.sendable}{paused}")
        parts.append(("check-running", {"running": names(shown)}))
    if waiting:
        parts.append(("check-waiting", {"waiting": names(row.id for row in waiting)}))
    doubts = [number for number in progress.doubtful(call.tx, call.tx.now - UNDO) if _sees(call, number)]
    if doubts:
        parts.append(("check-doubts", {"doubts": names(doubts)}))
    return call.say(*parts) if parts else call.say(("check-nothing", {}))


def _shown(call: Call, number: int) -> str:
    """What a broadcast was for: its groups, or its one person."""
    shorts = [g.short for g in progress.groups_of(call.tx, number)]
    operation = operations.operation(call.tx, number)
    if shorts or operation is None:
        return ", ".join(shorts)
    if operation.request.get("fixes"):
        return f"{call.sentences.verb('fix')} {operation.request['fixes']}"
    return shorten(person_shown(lookup.contact(call.tx, int(operation.request["cases"][0]))), 24)


def _why(call: Call, row: Row[Any], case: Row[Any]) -> Answer:
    """Why a person did or did not get it."""
    message = progress.message_to(call.tx, row.id, case.id)
    who, number = Words(person_shown(case)), row.id
    if message is None:
        if row.state == "scheduled" and set(lookup.groups_of(call.tx, case.id)) & {
            g.short for g in progress.groups_of(call.tx, number)
        }:
            reason = call.sentences.reason("scheduled")
            return call.say(("check-not-yet", {"person": who, "number": number, "reason": reason}))
        if progress.is_for(call.tx, number, case.id) and (why := states.NOBODY_HAS_A_ROW.get(row.state)):
            key = "check-not-yet" if row.state in states.OPEN else "check-not"
            return call.say((key, {"person": who, "number": number, "reason": call.sentences.reason(why)}))
        return call.say(("check-not-sent-to", {"person": who, "number": number}))
    at = clock_shown(call, message.settled_at or message.created_at)
    if message.state == "delivered":
        return call.say(("check-got", {"person": who, "number": number, "time": at}))
    if message.state in ("accepted", "sent"):
        return call.say(("check-sent", {"person": who, "number": number, "time": at}))
    why = "paused" if lookups.is_held(message) else message.reason or message.state
    reason = call.sentences.reason(why, message.code)
    if message.state in ("unknown", "unresolved"):
        return call.say(("check-unclear", {"person": who, "number": number, "reason": reason}))
    if message.state in OPEN:
        return call.say(("check-not-yet", {"person": who, "number": number, "reason": reason}))
    last = progress.last_arrived(call.tx, case.id)
    seen = ("check-last", {"time": clock_shown(call, last.settled_at)}) if last is not None else ("check-never", {})
    return call.say(("check-not", {"person": who, "number": number, "reason": reason}), seen)
