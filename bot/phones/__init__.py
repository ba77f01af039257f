"""The virtual phones: `/phones`, a page on which a rehearsal's handsets stand side by side.

Whoever types on a handset speaks as that person, a lead too.  So the page exists only on a database stamped as a
rehearsal, and answers only this machine: a loopback peer that no proxy speaks for, under a loopback name (another
name that resolves to this machine is an attack, *DNS rebinding*), and a change only from the page itself.

What is typed goes the way of every text (`air.py`): a signed request of the simulator, taken by
`intake.take_inbound`.  A handset shows what the simulator's book says it got (`handsets.py`), a card what the store
knows of its number (`cards.py`).  The page also switches the faults of the simulated network.
"""

from __future__ import annotations

import ipaddress
import json
import sqlite3
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, render_template
from flask import request as flask_request

from bot.gateways import faults as faulty
from bot.gateways.faults import Faults
from bot.gateways.simulator import Simulator
from bot.phones import finding
from bot.phones.air import Air
from bot.phones.handsets import MAGIC, MOST_PHONES, MOST_TAKEN_OUT, Phone, direction, handsets, shown
from storage.console import sentence
from storage.database import Database, is_rehearsal
from storage.errors import Problem
from storage.programme import rate_limits
from storage.rules import numbers

__all__ = ["MOST_PHONES", "MOST_TAKEN_OUT", "Phone", "blueprint", "direction", "handsets", "shown"]

LONGEST_TEXT = 1600
LARGEST_BODY = 32 * 1024  # 1600 characters outside the basic plane, written as JSON escapes, are 19,200 bytes
MOST_CARDS = 12
LONGEST_NUMBER = 40

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


def blueprint(db: Database, simulator: Simulator) -> Blueprint:
    """The page, what it asks for every 700 ms, and where it posts what is typed and switched."""
    pages = Blueprint(
        "phones", __name__, template_folder="templates", static_folder="static", static_url_path="/phones/static"
    )
    stamped: list[bool] = []
    air = Air(db, simulator)

    @pages.before_request
    def _only_rehearsals_and_only_here() -> Response | None:
        if not stamped:  # a database is stamped once, so a yes is asked for once
            with db.reading() as tx:
                if not is_rehearsal(tx):
                    return _refuse(404, "there are no virtual phones here: this is not a rehearsal database")
            stamped.append(True)
        why_not = _not_from_here() or (_not_from_the_page() if flask_request.method in ("POST", "PATCH") else None)
        return _refuse(403, why_not) if why_not else None

    @pages.after_request
    def _secure(response: Response) -> Response:
        response.headers.update(_SECURITY)
        return response

    @pages.get("/phones")
    def page() -> str:
        gateway = {name: told for name, (told, _) in faulty.GATEWAY.items()}
        return render_template(
            "phones.html", programme=db.rules.name, longest=LONGEST_TEXT, magic=MAGIC, gateway=gateway,
            longest_delay=int(faulty.LONGEST_DELAY_S),
        )  # fmt: skip

    @pages.get("/phones/threads")
    def threads() -> Response:
        cards = flask_request.args.get("cards", "").split(",")[:MOST_CARDS]
        air.carry(simulator.network.under_way())
        told = shown(db, simulator, with_cards=cards, only=flask_request.args.get("only"))
        return jsonify(phones=told, network=_told(simulator.network.faults()))

    @pages.get("/phones/find")
    def find() -> Response:
        asked = flask_request.args.get("q", "")
        with db.reading() as tx:
            return jsonify(found=finding.find(tx, "".join(c for c in asked if c.isprintable())))

    @pages.post("/phones/text")
    def text() -> Response:
        phone, body = _text_in(_posted())
        with db.reading() as tx:
            known = any(handset.phone == phone for handset in handsets(tx, simulator.network.taken_out()))
        if not known:
            raise _Wrong("there is no such phone on this page")
        return _said(air.send(phone, body))

    @pages.route("/phones/faults", methods=["POST", "PATCH"])
    def faults() -> Response:
        """What is posted is all that goes wrong; of a PATCH the rest stays as somebody else may have switched it."""
        before = simulator.network.faults()
        asked = simulator.network.change_faults(_posted(), anew=flask_request.method == "POST")
        if isinstance(asked, str):
            raise _Wrong(asked)
        if before.gateway != asked.gateway == "up":
            with db.transaction() as tx:  # a gateway that refuses our number is paused for minutes
                rate_limits.resume(tx)
        return _said(200, network=_told(asked))

    @pages.post("/phones/take-out")
    def take_out() -> Response:
        phone = _number_in(_posted(), db.rules.country)
        with db.reading() as tx:
            here = any(handset.phone == phone for handset in handsets(tx))
        taken_out = simulator.network.taken_out()
        if not here and phone not in taken_out:
            if len(taken_out) >= MOST_TAKEN_OUT:
                raise _Wrong(f"{MOST_TAKEN_OUT} phones were added already: close one first")
            simulator.network.take_out(phone)
        return _said(200, phone=phone)

    @pages.post("/phones/put-away")
    def put_away() -> Response:
        phone = _number_in(_posted(), db.rules.country)
        simulator.network.put_away(phone)
        return _said(200, phone=phone)

    @pages.errorhandler(_Wrong)
    def _wrong(wrong: _Wrong) -> Response:
        return _refuse(400, str(wrong))

    @pages.errorhandler(ConnectionError)
    @pages.errorhandler(sqlite3.Error)
    def _no_book(_fault: Exception) -> Response:
        return _refuse(503, "the book of the simulated network cannot be opened")

    return pages


# -- what is asked -----------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A request that cannot be done as it stands; the sentence says why."""


def _posted() -> Any:
    """The JSON value of the request."""
    if (flask_request.content_length or 0) > LARGEST_BODY:
        raise _Wrong(f"a text has at most {LONGEST_TEXT} characters")
    try:
        return json.loads(flask_request.get_data())
    except (ValueError, RecursionError):
        raise _Wrong("the request is not JSON") from None


def _text_in(said: Any) -> tuple[str, str]:
    """The phone and what was typed on it."""
    phone, body = (said.get("phone"), said.get("body")) if isinstance(said, dict) else (None, None)
    if not isinstance(phone, str) or not isinstance(body, str):
        raise _Wrong("the request needs a phone and a body, both texts")
    if (why_not := _fault_of(body)) is not None:
        raise _Wrong(why_not)
    return phone, body


def _number_in(said: Any, country: str | None) -> str:
    """The digits of the phone that is named, in whatever form it was typed."""
    typed = said.get("phone") if isinstance(said, dict) else None
    if not isinstance(typed, str) or len(typed) > LONGEST_NUMBER or not typed.isprintable():
        raise _Wrong("the request needs a phone, as a text")
    try:
        return numbers.read(typed, country=country).digits
    except Problem as problem:
        raise _Wrong(sentence(problem)) from None


def _said(code: int, **more: Any) -> Response:
    response = jsonify(status=code, **more)
    response.status_code = code
    return response


def _told(faults: Faults) -> dict[str, Any]:
    """The faults as the page shows them."""
    return {"faults": asdict(faults), "words": faults.in_words(), "normal": not faults.any}


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
