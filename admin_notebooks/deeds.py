"""What is done at the desk, in words: what a change will do, what it did, and what taking it back does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from admin_notebooks.sheets import cells, writer
from storage.console import count_of, sentence, sentences_of
from storage.contacts import cases
from storage.database import Transaction
from storage.errors import Problem
from storage.operations import undo
from storage.rules import numbers
from storage.sheets.plans import Plan, Verdict

FOR_LEADS = frozenset({"external_id", "contact_phone_number", "contact_phone_number_is_verified", "contact_backend_id"})
"""The properties of a case that a lead alone sets: who somebody is and whose phone it is, which `move` and `invite` ask of
the phone itself."""

TAKES_BACK = 20_000
"""Cases of a sheet that are taken back at most: it takes the writer's turn, some seconds for so many, and a STOP waits."""

PROBLEMS = ("unreadable", "invalid", "not_found", "ambiguous", "no_phone", "closed", "duplicate")
"""The verdicts that somebody has to look at, the worst first."""


def differing(old: Plan | None, fresh: Plan | None) -> list[int]:
    """The row ids of the cases of which a plan says something else than it did."""
    if old is None or fresh is None:
        return []
    before = {(v.row, v.identifier): (v.verdict, v.target, v.changes) for v in old.verdicts}
    now = {(v.row, v.identifier): (v.verdict, v.target, v.changes) for v in fresh.verdicts}
    differing = [before.get(key_) or now[key_] for key_ in {**before, **now} if before.get(key_) != now.get(key_)]
    return [target or 0 for _verdict, target, _changes in differing]


def deed(line: Row[Any]) -> str:
    """What a line of the log says that somebody did: `added 2 cases to it`."""
    many = next((n for n in line.facts.values() if isinstance(n, int)), 0)
    told = {
        "groups.add": f"added {count_of(many, 'case')} to it",
        "groups.remove": f"removed {count_of(many, 'case')} from it",
        "groups.rename": "renamed it",
        "groups.restore": "brought it back",
        "cases.import": "loaded a sheet of cases",
        "cases.undo": "took a change of cases back",
        "cases.own": "handed a number over",
    }
    return told.get(line.verb, "changed a case" if line.subject == "case" else "changed it")


def record(v: Verdict) -> dict[str, Any]:
    """A verdict as people and scripts read it; `changes` only where something changes."""
    shown: dict[str, Any] = {
        "row": v.row,
        "identifier": v.identifier,
        "verdict": v.verdict,
        "reason": " ".join(faults_of(v)) or None,
        "suggestion": v.suggestion,
        "case_id": v.case_id,
        "warnings": sentences_of(v.warnings),
    }
    if v.changes:
        shown["changes"] = {name: list(change) for name, change in v.changes.items()}
    return shown


def faults_of(v: Verdict) -> list[str]:
    """Every fault of a row in words, so that one round of mending is enough."""
    return sentences_of([v.reason, *v.more]) if v.reason else []


def told_of(plan: Plan) -> Iterator[writer.Told]:
    """For each row of a sheet, in order, what its result workbook says: verdict, reason and suggestion."""
    for v in plan.verdicts:
        if v.row is not None:
            why = " ".join([*faults_of(v), *sentences_of(v.warnings)]) if v.reason or v.warnings else ""
            yield v.row, v.verdict, why, v.suggestion or ""


def without_result_columns(sheet: cells.Sheet) -> list[cells.Row]:
    """A result workbook may be loaded again: its own columns are no properties of a case."""
    ours = sheet.columns[-3:]
    if ours not in (writer.RESULT_COLUMNS, writer.RENAMED_RESULT_COLUMNS):
        return list(sheet.rows)
    return [cells.Row(r.number, {n: c for n, c in r.cells.items() if n not in ours}) for r in sheet.rows]


def sentence_of(warning: str, number: str) -> str:
    """What a person should know of a number that is kept."""
    return sentence(numbers.warning(warning, number))


def moment(text: str, zone: str) -> datetime:
    """A moment as typed, by the clock of a zone; a day alone means its end.  Raises Problem `moment-shape`."""
    try:
        at = datetime.fromisoformat(text)
        if len(text) <= 10:
            at = at.replace(hour=23, minute=59, second=59)
        return (at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: before the first year or after the last in UTC
        raise Problem("moment-shape", typed=text) from None


def rank(verdict: str) -> int:
    """How early a verdict is looked at: those that somebody has to look at come first."""
    return PROBLEMS.index(verdict) if verdict in PROBLEMS else len(PROBLEMS)


def effect_on_group(plan: Plan, name: str, *, is_done: bool = False) -> str:
    """`Add 10 cases to Patients`, `10 cases added to Patients`; both for a replace that does both; blank for nothing."""
    add, remove = plan.counts.get("add", 0), plan.counts.get("remove", 0)
    came, left = count_of(add, "case"), count_of(remove, "case")
    if is_done:
        told = [f"{came} added to {name}" if add else "", f"{left} removed from {name}" if remove else ""]
    else:
        told = [f"Add {came} to {name}" if add else "", f"Remove {left} from {name}" if remove else ""]
    return ", ".join(part for part in told if part)


def is_large(plan: Plan) -> bool:
    """Whether a plan changes more cases than are taken back."""
    return plan.counts.get("create", 0) + plan.counts.get("update", 0) > TAKES_BACK


def effect_on_cases(plan: Plan, *, is_done: bool = False) -> str:
    """What a plan does to cases, as the words of a button or, once it is done, of the answer."""
    made, changed = plan.counts.get("create", 0), plan.counts.get("update", 0)
    if is_done:
        told = [
            f"{count_of(made, 'case')} created" if made else "",
            f"{count_of(changed, 'case')} changed" if changed else "",
        ]
    else:
        told = [
            f"Create {count_of(made, 'case')}" if made else "",
            f"change {count_of(changed, 'case')}" if changed else "",
        ]
    joined = ", ".join(part for part in told if part)
    return joined[:1].upper() + joined[1:]


_LABELS = {
    "name": "name",
    "external_id": "external id",
    "status": "status",
    "contact_phone_number": "phone number",
    "contact_phone_number_is_verified": "verification",
    "commcare_email_address": "e-mail address",
    "time_zone": "time zone",
    "language_code": "language",
    "contact_backend_id": "gateway",
}


def change_of_case(case: Row[Any], plan: Plan) -> str:
    """`Change the language of Ama`; blank changes are nothing to do."""
    (verdict,) = plan.verdicts
    if not plan.acts:
        return "Nothing to do"
    names = [_LABELS.get(name, name) for name in verdict.changes]
    what = f"the {names[0]}" if len(names) == 1 else f"{len(names)} properties"
    return f"Change {what} of {name_of(case)}"


def name_of(case: Row[Any]) -> str:
    """A case by name, else by its identifier."""
    return str(case.name or case.external_id or case.case_id)


def what_follows(tx: Transaction, case: Row[Any], plan: Plan) -> tuple[str, ...]:
    """What comes of a change besides itself: whether the case is texted, and whose its number is then."""
    (verdict,) = plan.verdicts
    if not plan.acts or verdict.wanted is None:
        return ()
    new = {name: value for name, (_old, value) in verdict.changes.items()}
    proved = bool(verdict.wanted.values.get("contact_phone_number_is_verified"))
    closes, loses = new.get("status") == "closed", new.get("contact_phone_number_is_verified") is False
    told = []
    if "status" in new:
        told.append("nobody texts a closed case" if closes else "the case is texted again")
    if new.get("contact_phone_number") and not proved:
        told.append("the new number is not verified: texts go there, and it may not reply until its phone has said yes")
    if case.two_way and (closes or loses or "contact_phone_number" in new):
        waits, number = cases.standing(tx, case).waiting, case.contact_phone_number
        told.append(f"the next in line becomes owner of {number}" if waits else f"nobody owns {number} then")
    return tuple(told)


def cases_undone(done: undo.CasesBack) -> str:
    """What taking a sheet of cases back did."""
    back = f"{count_of(done.back, 'case')} {'is' if done.back == 1 else 'are'} as before"
    closed = f"{count_of(done.closed, 'case')} that {'was' if done.closed == 1 else 'were'} made {'is' if done.closed == 1 else 'are'} closed"
    left = f"{count_of(done.left, 'case')} that somebody changed since {'stays' if done.left == 1 else 'stay'}"
    gone = f"{count_of(done.forgotten, 'case')} whose old values were forgotten {'stays' if done.forgotten == 1 else 'stay'}"
    parts = ((back, done.back), (closed, done.closed), (left, done.left), (gone, done.forgotten))
    told = [words for words, n in parts if n]
    return f"{', '.join(told) or 'Nothing had to be changed'}."


def undone(done: undo.TakenBack) -> str:
    """What taking an operation back did."""
    group = done.name if done.name == done.group else f"{done.name} ({done.group})"
    if done.what == "name":
        return f"{done.group} is called {done.name} again."
    if done.what == "made":
        return f"{group} is gone."
    if done.what == "deleted":
        return f"{group} is back with its {count_of(done.total, 'case')}."
    told = [f"{count_of(done.out, 'case')} out of {group} again" if done.out else "",
            f"{count_of(done.back, 'case')} back in {group}" if done.back else ""]  # fmt: skip
    return f"{', '.join(part for part in told if part) or 'Nobody had to be moved'}. It has {count_of(done.total, 'case')} now."
