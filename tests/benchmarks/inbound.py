"""One inbound text through the whole application: a case answers, and its supervisor is told.

The floor is the same by hand: Flask, an HMAC, and sqlite3 on the same tables with the same durability, one transaction.  The
naive peer is what a tutorial teaches: Twilio's validator, an ORM, a look before each insert, a commit after each step, SQLite
as it comes.  Every handler is called as WSGI in this process, and its CPU time counts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from flask import Flask, Response, request
from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Integer, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Session
from twilio.request_validator import RequestValidator

from bot.app import create_app
from storage.database import Database
from storage.schema import messages
from tests.benchmarks.ground import SUPERVISOR, Programme, phone_of
from tests.benchmarks.measuring import Comparison, Rounds, in_turn, spending
from tests.benchmarks.outgoing import ACCOUNT, PUBLIC, TOKEN, gateway
from tests.stub_twilio import StubTwilio, new_sid

PATH: Final = "/in/twilio"
WORDS: Final = "Can I come on Monday?"
App = Callable[[dict[str, Any], Callable[..., Any]], Any]


def signed(sender: str, base: str = PUBLIC, words: str = WORDS) -> tuple[bytes, str]:
    """The body and the signature of a text as Twilio posts it."""
    twilio = StubTwilio(ACCOUNT, TOKEN)
    form = twilio.inbound_form(sender, words, new_sid())
    return urlencode(form).encode("ascii"), twilio.sign(base + PATH, form)


def texts(many: int) -> Iterator[dict[str, Any]]:
    """So many texts of as many cases, as WSGI hands them over."""
    for n in range(many):
        body, signature = signed(phone_of(n))
        yield {
            "REQUEST_METHOD": "POST", "PATH_INFO": PATH, "RAW_URI": PATH, "SCRIPT_NAME": "", "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "HTTP_X_TWILIO_SIGNATURE": signature,
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
        }  # fmt: skip


def take(app: App, asked: list[dict[str, Any]]) -> float:
    """Have all of them taken; the CPU seconds for each."""
    said: list[str] = []
    with spending() as spent:
        for environ in asked:
            b"".join(app(environ, lambda status, _headers, _exc=None: said.append(status)))
    assert all(status.startswith("200") for status in said), set(said)
    return spent.cpu_s / len(asked)


def raw(path: str) -> App:
    """The floor: the same effects, written down by hand."""
    app = Flask("raw")
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")

    @app.post(PATH)
    def inbound() -> Response:
        fields = parse_qsl(request.get_data().decode(), keep_blank_values=True)
        glued = PUBLIC + PATH + "".join(name + value for name, value in sorted(set(fields)))
        mac = base64.b64encode(hmac.new(TOKEN.encode(), glued.encode(), hashlib.sha1).digest()).decode()
        if not hmac.compare_digest(mac, request.headers["X-Twilio-Signature"]):
            return Response(status=403)
        form = dict(fields)
        sender, now = form["From"][1:], f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
        db.execute("BEGIN IMMEDIATE")
        new = db.execute(
            "INSERT INTO messages (direction, phone, phone_key, body, kind, state, gateway, gateway_id, due_at, created_at, settled_at,"
            " handled_as) VALUES ('in', ?, ?, ?, 'text', 'handled', 'twilio', ?, ?, ?, ?, 'inbox') ON CONFLICT DO NOTHING"
            " RETURNING id", (sender, sender, form["Body"], form["MessageSid"], now, now, now),
        ).fetchone()  # fmt: skip
        if new is not None:
            said = db.execute(
                "SELECT kind FROM consent_events WHERE phone_key = ? ORDER BY id DESC LIMIT 1", (sender,)
            ).fetchone()
            staff = db.execute("SELECT id FROM people WHERE phone_key = ? AND active", (sender,)).fetchone()
            case = db.execute(
                "SELECT id, name, external_id FROM cases WHERE phone_key = ? AND two_way", (sender,)
            ).fetchone()
            caring = db.execute(
                "SELECT p.id, p.phone FROM people p JOIN person_groups g ON g.person_id = p.id JOIN memberships m"
                " ON m.group_id = g.group_id WHERE m.case_id = ? AND m.removed_at IS NULL AND p.active", (case[0],),
            ).fetchall()  # fmt: skip
            assert staff is None
            assert said is None or said[0] == "stop"
            number = db.execute(
                "INSERT INTO operations (kind, door, state, message_id, asked_at, decided_at, request)"
                " VALUES ('inbox', 'sms', 'done', ?, ?, ?, '{}') RETURNING id", (new[0], now, now),
            ).fetchone()[0]  # fmt: skip
            for person, phone in caring:
                db.execute(
                    "INSERT INTO messages (direction, phone, phone_key, body, kind, state, gateway, person_id, reply_to, priority, due_at,"
                    " expires_at, created_at, segments) VALUES ('out', ?, ?, ?, 'notice', 'queued', 'twilio', ?, ?, 1, ?, ?, ?, 1)",
                    (phone, phone, f'{number} {case[1]} ({case[2]}): "{form["Body"]}" Answer: re {number} YOUR TEXT',
                     person, new[0], now, now, now),
                )  # fmt: skip
            db.execute("UPDATE messages SET case_id = ? WHERE id = ?", (case[0], new[0]))
        db.execute("COMMIT")
        return Response("<Response/>", content_type="text/xml")

    return app


class _Base(DeclarativeBase): ...


class Contact(_Base):
    """Of the naive peer."""

    __tablename__ = "contact"
    id = Column(Integer, primary_key=True)
    name = Column(String)
    phone = Column(String, unique=True)
    stopped = Column(Boolean)
    supervisor_id = Column(ForeignKey("supervisor.id"))


class Supervisor(_Base):
    """Of the naive peer."""

    __tablename__ = "supervisor"
    id = Column(Integer, primary_key=True)
    phone = Column(String)


class Text(_Base):
    """Of the naive peer."""

    __tablename__ = "text"
    id = Column(Integer, primary_key=True)
    sid = Column(String, index=True)
    contact_id = Column(ForeignKey("contact.id"))
    phone = Column(String)
    body = Column(String)
    direction = Column(String)
    at = Column(DateTime)


def naive(path: Path, people: int) -> App:
    """The peer: Flask, Twilio's validator and an ORM, as a tutorial puts them together."""
    path.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{path}")
    _Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Supervisor(id=1, phone=SUPERVISOR))
        session.flush()
        session.add_all(Contact(name="Ama", phone=phone_of(n), stopped=False, supervisor_id=1) for n in range(people))
    app = Flask("naive")
    validator = RequestValidator(TOKEN)

    @app.post(PATH)
    def inbound() -> Response:
        if not validator.validate(PUBLIC + PATH, request.form, request.headers.get("X-Twilio-Signature", "")):
            return Response(status=403)
        with Session(engine) as session:
            sid, sender = request.form["MessageSid"], request.form["From"].lstrip("+")
            if session.scalars(select(Text).where(Text.sid == sid)).first() is None:
                contact = session.scalars(select(Contact).where(Contact.phone == sender)).first()
                text = Text(sid=sid, phone=sender, body=request.form["Body"], direction="in", at=datetime.now(UTC))
                session.add(text)
                session.commit()
                if contact is not None:
                    text.contact_id = contact.id
                    session.commit()
                    supervisor = session.get(Supervisor, contact.supervisor_id)
                    assert supervisor is not None
                    body = f'{contact.name}: "{text.body}"'
                    session.add(Text(phone=supervisor.phone, body=body, direction="out", at=datetime.now(UTC)))
                    session.commit()
        return Response("<Response/>", content_type="text/xml")

    return app


def compare(folder: Path, dice: random.Random, *, rounds: int, many: int) -> list[Comparison]:
    """The rows of one inbound text in microseconds of CPU."""
    programme = Programme(folder, max(many, 1000), dice)

    def ours(seen: Rounds) -> None:
        with closing(programme.copy("inbound")) as db:
            app = create_app(db, {"twilio": gateway("http://127.0.0.1:9")}, PUBLIC)
            seen.note("ours", 1e6 * take(app, list(texts(many))))
            _is_all_there(db, many)

    def floor(seen: Rounds) -> None:
        with closing(programme.copy("raw")) as db:
            assert db.file is not None
            seen.note("floor", 1e6 * take(raw(str(db.file)), list(texts(many))))
            _is_all_there(db, many)

    def peer(seen: Rounds) -> None:
        seen.note("naive", 1e6 * take(naive(folder / "naive.db", many), list(texts(many))))

    found = in_turn(rounds, dice, {"ours": ours, "floor": floor, "naive": peer})
    what, unit = "inbound text, whole application", "us of CPU"
    return [
        Comparison(what, unit, found["ours"], "raw sqlite3 and HMAC", found["floor"], at_most=2.5),
        Comparison(what, unit, found["ours"], "naive Flask and ORM", found["naive"], at_most=0.25),
    ]


def _is_all_there(db: Database, many: int) -> None:
    with db.reading() as tx:
        kinds = (messages.c.direction, messages.c.state)
        counted = {(row[0], row[1]): row[2] for row in tx.execute(select(*kinds, func.count()).group_by(*kinds))}
    assert counted == {("in", "handled"): many, ("out", "queued"): many}, counted
