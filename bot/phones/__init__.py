"""The virtual phones: `/phones`, a page on which a rehearsal's handsets stand side by side.

Whoever types on a handset speaks as that person, a lead too.  So the page exists only on a database stamped as a
rehearsal, and answers only this machine: a loopback peer that no proxy speaks for, under a loopback name (another
name that resolves to this machine is an attack, *DNS rebinding*), and a text only from the page itself.

What is typed goes the way of every text: a signed request of the simulator, taken by `webhooks.take_inbound`.
A handset shows what the simulator's book says it got.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, render_template
from flask import request as flask_request
from sqlalchemy import Row

from bot import webhooks
from bot.gateways.simulator import Simulator
from bot.gateways.simulator import Text as Arrived
from bot.replies import sentences
from storage import contacts, messages, people
from storage.database import Database, Transaction, is_rehearsal

MOST_PHONES = 40
TEXTS_A_PHONE = 60
LONGEST_TEXT = 1600
LARGEST_BODY = 32 * 1024  # 1600 characters outside the basic plane, written as JSON escapes, are 19,200 bytes

TAKEN_FOR: Mapping[str | None, str] = {
    "command": "read as a command",
    "inbox": "in the inbox",
    "stranger": "kept; from a stranger",
    "stop": "read as STOP",
    "start": "read as START",
    "help": "read as HELP",
}
NOT_HANDLED = {"received": "kept, and tried again", "set_aside": "kept, and set aside for a person"}

_RIGHT_TO_LEFT = frozenset({"ar", "arc", "ckb", "dv", "fa", "he", "iw", "nqo", "ps", "sd", "syr", "ug", "ur", "yi"})
_PROXIED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip")
_SECURITY = {
    # The page asks nobody but this process for anything.  `data:` is its empty icon.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Phone:
    """One handset: whose it is, and as what they are shown."""

    phone: str
    kind: str
    name: str
    label: str
    language: str


def blueprint(db: Database, simulator: Simulator) -> Blueprint:
    """The page, what it asks for every 700 ms, and where it posts a text."""
    pages = Blueprint(
        "phones", __name__, template_folder="templates", static_folder="static", static_url_path="/phones/static"
    )
    stamped: list[bool] = []

    @pages.before_request
    def _only_rehearsals_and_only_here() -> Response | None:
        if not stamped:  # a database is stamped once, so a yes is asked for once
            with db.reading() as tx:
                if not is_rehearsal(tx):
                    return _refuse(404, "there are no virtual phones here: this is not a rehearsal database")
            stamped.append(True)
        why_not = _not_from_here() or (_not_from_the_page() if flask_request.method == "POST" else None)
        return _refuse(403, why_not) if why_not else None

    @pages.after_request
    def _secure(response: Response) -> Response:
        response.headers.update(_SECURITY)
        return response

    @pages.get("/phones")
    def page() -> str:
        return render_template("phones.html", programme=db.rules.name, longest=LONGEST_TEXT)

    @pages.get("/phones/threads")
    def threads() -> Response:
        return jsonify(phones=shown(db, simulator))

    @pages.post("/phones/text")
    def text() -> Response | tuple[Response, int]:
        typed = _read(_raw())
        if isinstance(typed, str):
            return _refuse(400, typed)
        phone, body = typed
        with db.reading() as tx:
            known = any(handset.phone == phone for handset in handsets(tx))
        if not known:
            return _refuse(400, "there is no such phone on this page")
        code = webhooks.take_inbound(db, simulator, simulator.originate(phone, body))
        return jsonify(status=code), code

    return pages


# -- what is shown -----------------------------------------------------------------------------------------------------


def handsets(tx: Transaction) -> list[Phone]:
    """One phone for each number: of people, leads first, then of cases, oldest first; at most MOST_PHONES."""
    staff = sorted(people.list_all(tx), key=lambda p: p.role != "lead")
    found = {p.phone: Phone(p.phone, "person", p.name, p.role, p.language_code or tx.rules.language) for p in staff}
    for number, sharing in contacts.by_number(tx, at_most=MOST_PHONES).items():
        names = " & ".join(case.name or case.external_id or case.case_id for case in sharing)
        if number in found:
            person = found[number]
            found[number] = Phone(number, person.kind, f"{person.name} & {names}", person.label, person.language)
            continue
        in_groups = sorted({short for case in sharing for short in case.groups.split() if short})
        language = next((case.language_code for case in sharing if case.language_code), tx.rules.language)
        found[number] = Phone(number, "case", names, ", ".join(in_groups) or "in no group", language)
    return list(found.values())[:MOST_PHONES]


def shown(db: Database, simulator: Simulator) -> list[dict[str, Any]]:
    """Every handset with its thread, as the page draws it."""
    with db.reading() as tx:
        phones = handsets(tx)
        threads = messages.threads(tx, [p.phone for p in phones], at_most=TEXTS_A_PHONE)
        # Asked inside the reading, which is one moment: a text that is in the book only now is shown next time.
        arrived = simulator.network.arrived(
            row.attempt_id for thread in threads.values() for row in thread if row.attempt_id
        )
        language = tx.rules.language
    return [
        {
            "phone": p.phone,
            "kind": p.kind,
            "name": p.name,
            "label": p.label,
            "language": p.language,
            "direction": direction(p.language),
            "texts": _thread(threads[p.phone], arrived, language),
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


def _thread(rows: Iterable[Row[Any]], arrived: Mapping[str, Arrived], language: str) -> list[dict[str, Any]]:
    """A thread in the order of the handset: a text stands where it came, not where it was queued."""
    in_order = sorted(rows, key=lambda row: (row.handed_over_at or row.created_at, row.id))
    return [_text(row, arrived.get(row.attempt_id or ""), language) for row in in_order]


def _text(row: Row[Any], arrived: Arrived | None, language: str) -> dict[str, Any]:
    said, reason = _said(row, language)
    return {
        "id": row.id,
        "from_phone": row.direction == "in",
        "body": arrived.body if arrived is not None and arrived.phone == row.phone else row.body,
        "at": (row.handed_over_at or row.created_at).isoformat(),
        "state": row.state,
        "said": said,
        "reason": reason,
        "segments": row.segments,
    }


def _said(row: Row[Any], language: str) -> tuple[str, str]:
    """A text's state in plain words with its reason, and the reason alone."""
    if row.direction == "in":
        return TAKEN_FOR.get(row.handled_as, "handled") if row.state == "handled" else NOT_HANDLED[row.state], ""
    reason = sentences(language).reason(row.reason, row.code) if row.reason else ""
    return messages.MEANINGS[row.state] + (f": {reason}" if reason else ""), reason


# -- who may ask -------------------------------------------------------------------------------------------------------


def _not_from_here() -> str | None:
    """Why this request is not one of this machine's own; None if it is."""
    if not _is_loopback(flask_request.remote_addr or ""):
        return "the virtual phones answer only the machine they run on"
    if any(name in flask_request.headers for name in _PROXIED):
        return "the virtual phones do not answer through a proxy"
    try:
        name = urlsplit("//" + flask_request.headers.get("Host", "")).hostname or ""
    except ValueError:
        name = ""
    if name != "localhost" and not _is_loopback(name):
        return "the virtual phones answer only to 127.0.0.1, ::1 and localhost"
    return None


def _not_from_the_page() -> str | None:
    """Why a text was not typed on our own page; None if it may have been."""
    if flask_request.mimetype != "application/json":
        return "a text is posted as application/json"
    host = flask_request.headers.get("Host", "")
    if flask_request.headers.get("Origin") not in (None, f"http://{host}", f"https://{host}"):
        return "a text is taken from this page only"
    if flask_request.headers.get("Sec-Fetch-Site") not in (None, "same-origin"):
        return "a text is taken from this page only"
    return None


def _is_loopback(address: str) -> bool:
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(read, "ipv4_mapped", None)
    return (mapped or read).is_loopback


def _raw() -> bytes | None:
    """The body of the request; None if it is larger than any text can be."""
    if (flask_request.content_length or 0) > LARGEST_BODY:
        return None
    return flask_request.get_data()


def _read(raw: bytes | None) -> tuple[str, str] | str:
    """The phone and what was typed on it, or the sentence that says what is wrong."""
    if raw is None:
        return f"a text has at most {LONGEST_TEXT} characters"
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return "the request is not JSON"
    phone, body = (said.get("phone"), said.get("body")) if isinstance(said, dict) else (None, None)
    if not isinstance(phone, str) or not isinstance(body, str):
        return "the request needs a phone and a body, both texts"
    return _fault_of(body) or (phone, body)


def _fault_of(body: str) -> str | None:
    """Why this cannot be texted; None if it can."""
    if not body.strip():
        return "there is nothing to send"
    if len(body) > LONGEST_TEXT:
        return f"a text has at most {LONGEST_TEXT} characters, this one has {len(body)}"
    if "\0" in body or any("\ud800" <= character <= "\udfff" for character in body):
        return "the text holds a character that no phone can send"
    return None


def _refuse(code: int, why: str) -> Response:
    response = jsonify(status=code, problem=why)
    response.status_code = code
    return response
