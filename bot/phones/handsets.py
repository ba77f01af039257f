"""Whose phones lie on the page, and what each of them shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from bot.gateways.faults import GATEWAY
from bot.gateways.simulator import MAGIC_RECIPIENTS, Simulator
from bot.gateways.simulator_network import Text as Arrived
from bot.gateways.simulator_network import Typed
from bot.phones import cards
from bot.replies import sentences
from storage.contacts import lookup, people
from storage.database import Database, Transaction
from storage.messages import inbox, states
from storage.rules import segments

MOST_PHONES = 40
MOST_TAKEN_OUT = 24
TEXTS_A_PHONE = 60

TAKEN_FOR: Mapping[str | None, str] = {
    "command": "read as a command",
    "unheard": "not heard: too many texts",
    "inbox": "in the inbox",
    "stranger": "kept; from a stranger",
    "stop": "read as STOP",
    "start": "read as START",
    "help": "read as HELP",
    "doubt": "may mean stop: asked, and held until it answers",
    "answer": "read as the answer to a question",
    "echo": "our own text come back: nothing done",
    "reaction": "a reaction to a text: nothing done",
}

NOT_HANDLED = {"received": "kept, and tried again", "set_aside": "kept, and set aside for a person"}

MAGIC: Mapping[str, str] = {
    number: f"{words} (gateway {code})" for number, (_, words, code) in MAGIC_RECIPIENTS.items()
}
"""Twilio's magic numbers, and what becomes of every text to one of them."""

_WORDS = {code: words for _, words, code in MAGIC_RECIPIENTS.values()} | {
    answer.code: answer.reason for _, answer in GATEWAY.values() if answer is not None and answer.code
}

_RIGHT_TO_LEFT = frozenset({"ar", "arc", "ckb", "dv", "fa", "he", "iw", "nqo", "ps", "sd", "syr", "ug", "ur", "yi"})


@dataclass(frozen=True, slots=True)
class Phone:
    """One handset: whose it is, and as what they are shown; `taken_out` is one that somebody put on the page."""

    phone: str
    kind: str
    name: str
    label: str
    language: str
    taken_out: bool = False


def handsets(tx: Transaction, taken_out: Sequence[str] = ()) -> list[Phone]:
    """One phone for each number: of people, leads first, then of cases, oldest first; at most MOST_PHONES.

    After them the phones that were taken out by hand and are not among these: of a later case, or of a stranger.
    """
    staff = sorted(people.list_all(tx), key=lambda p: p.role != "lead")
    found = {p.phone: Phone(p.phone, "person", p.name, p.role, p.language_code or tx.rules.language) for p in staff}
    for number, sharing in lookup.by_number(tx, at_most=MOST_PHONES).items():
        if number in found:
            person = found[number]
            found[number] = Phone(
                number, person.kind, f"{person.name} & {named(sharing)}", person.label, person.language
            )
        else:
            found[number] = _of_cases(tx, number, sharing)
    shown = list(found.values())[:MOST_PHONES]
    here = {phone.phone for phone in shown}
    others = [number for number in taken_out if number not in here]
    later = cards.cases_on(tx, others) if others else {}
    for number in others:
        if number in found:  # a person beyond the first forty
            one = found[number]
            shown.append(Phone(number, one.kind, one.name, one.label, one.language, taken_out=True))
        elif number in later:
            shown.append(_of_cases(tx, number, later[number], taken_out=True))
        else:
            name, label = ("Magic number", "always refused") if number in MAGIC else ("Stranger", "no case, no person")
            shown.append(Phone(number, "stranger", name, label, tx.rules.language, taken_out=True))
    return shown


def named(sharing: Iterable[Row[Any]]) -> str:
    """The names of the cases on one phone."""
    return " & ".join(case.name or case.external_id or case.case_id for case in sharing)


def _of_cases(tx: Transaction, number: str, sharing: Sequence[Row[Any]], *, taken_out: bool = False) -> Phone:
    in_groups = sorted({short for case in sharing for short in case.groups.split() if short})
    language = next((case.language_code for case in sharing if case.language_code), tx.rules.language)
    return Phone(number, "case", named(sharing), ", ".join(in_groups) or "in no group", language, taken_out)


def shown(
    db: Database, simulator: Simulator, *, with_cards: Iterable[str] = (), only: str | None = None
) -> list[dict[str, Any]]:
    """Every handset with its thread, as the page draws it, and with a card those that are named."""
    taken_out, under_way = simulator.network.taken_out(), simulator.network.under_way()
    wanted = set(with_cards)
    with db.reading() as tx:
        phones = [phone for phone in handsets(tx, taken_out) if only in (None, phone.phone)]
        threads = inbox.threads(tx, [p.phone for p in phones], at_most=TEXTS_A_PHONE)
        # Asked inside the reading, which is one moment: a text that is in the book only now is shown next time.
        arrived = simulator.network.arrived(
            row.attempt_id for thread in threads.values() for row in thread if row.attempt_id
        )
        told = cards.of_phones(tx, [p.phone for p in phones if p.phone in wanted], MAGIC) if wanted else {}
        language = tx.rules.language
    return [
        {
            "phone": p.phone,
            "kind": p.kind,
            "name": p.name,
            "label": p.label,
            "language": p.language,
            "direction": direction(p.language),
            "taken_out": p.taken_out,
            "texts": _thread(threads[p.phone], arrived, [t for t in under_way if t.phone == p.phone], language),
            **({"card": told[p.phone]} if p.phone in told else {}),
        }
        for p in phones
    ]


def direction(language: str) -> str:
    """How a language is written: `rtl` or `ltr`.  A script named in the code wins over the language's usual one."""
    parts = language.replace("_", "-").casefold().split("-")
    scripts = {part for part in parts[1:] if len(part) == 4 and part.isalpha()}
    if scripts:
        return "rtl" if scripts & {"arab", "hebr", "syrc", "thaa", "nkoo", "adlm"} else "ltr"
    return "rtl" if parts[0] in _RIGHT_TO_LEFT else "ltr"


def _thread(
    rows: Sequence[Row[Any]], arrived: Mapping[str, Arrived], under_way: Iterable[Typed], language: str
) -> list[dict[str, Any]]:
    """A thread in the order of the handset: a text stands where it came, not where it was queued."""
    came = {row.gateway_id for row in rows if row.direction == "in"}
    told = [(_stands_at(row, arrived), row.id, _text(row, arrived.get(row.attempt_id or ""), language)) for row in rows]
    told += [(typed.at, 0, _on_its_way(typed)) for typed in under_way if typed.gateway_id not in came]
    return [text for _, _, text in sorted(told, key=lambda one: one[:2])]


def _stands_at(row: Row[Any], arrived: Mapping[str, Arrived]) -> Any:
    on_it = arrived.get(row.attempt_id or "")
    return on_it.at if on_it is not None else row.handed_over_at or row.created_at


def _text(row: Row[Any], arrived: Arrived | None, language: str) -> dict[str, Any]:
    said, reason = _said(row, language)
    here = arrived is not None and arrived.phone == row.phone
    body = arrived.body if arrived is not None and here else row.body
    cut = segments.count(body)
    return {
        "id": row.id,
        "from_phone": row.direction == "in",
        "body": body,
        "at": (arrived.at if arrived is not None and here else row.handed_over_at or row.created_at).isoformat(),
        "state": row.state,
        "said": said,
        "reason": reason,
        "here": here,
        "segments": cut.parts if row.direction == "in" else row.segments,
        "forced_by": cut.forced_by,
    }


def _on_its_way(typed: Typed) -> dict[str, Any]:
    """A text that was typed and has not come to us."""
    lost = typed.due_at is None
    cut = segments.count(typed.body)
    return {
        "id": f"typed-{typed.gateway_id}",
        "from_phone": True,
        "body": typed.body,
        "at": typed.at.isoformat(),
        "state": "lost" if lost else "on_its_way",
        "said": "lost on the way: it never came to us" if lost else "on its way to us",
        "reason": "",
        "here": False,
        "segments": cut.parts,
        "forced_by": cut.forced_by,
    }


def _said(row: Row[Any], language: str) -> tuple[str, str]:
    """A text's state in plain words with its reason, and the reason alone."""
    if row.direction == "in":
        return TAKEN_FOR.get(row.handled_as, "handled") if row.state == "handled" else NOT_HANDLED[row.state], ""
    reason = why(row.reason, row.code, language) if row.reason else ""
    return states.MEANINGS[row.state] + (f": {reason}" if reason else ""), reason


def why(key: str, code: str | None, language: str) -> str:
    """A reason in words; where the language has no words for a code, those with which the gateway gave it."""
    told = sentences(language)
    if code in _WORDS and told.code_words(code) is None:
        return f"{_WORDS[code]} (gateway {code})"
    return told.reason(key, code)
