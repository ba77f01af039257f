"""Random bytes at every address of the web process: never an accident of ours, never a word of Python in an answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.routing import Rule

from bot.app import create_app
from bot.gateways.kannel import Kannel
from bot.gateways.simulator import Simulator
from bot.gateways.twilio import Twilio
from storage.database import Database
from storage.rules.hours_and_limits import Rules
from storage.upkeep import migrate
from tests.conftest import Clock
from tests.texting import any_text, examples
from tests.world import World

SECRET = "a-secret-that-stands-in-an-address"
LENA, AMA = "233244000901", "233244000101"
METHODS = ["GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"]
CONTENT = [
    "application/json",
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
    "é",
    "a/b; charset=utf-16",
]
HEADERS = ["Host", "Origin", "Sec-Fetch-Site", "X-Forwarded-For", "Forwarded", "Range", "If-None-Match", "If-Modified-Since", "Accept",
           "Content-Encoding", "X-Twilio-Signature", "X-Simulator-Signature", "Cookie", "Authorization", "Expect", "Via"]  # fmt: skip
VALUES = [
    "",
    "localhost",
    "127.0.0.1",
    "[::1",
    "evil.example",
    "null",
    "none",
    "\x01",
    "é",
    "bytes=0-",
    "*" * 3000,
    '"',
    "http://localhost",
    "gzip",
    "0",
]
READY = {"/readyz", "/healthz", "/metrics"}
"""May say 503 while something is not ready; and that is all that they may say of the kind."""


def twilio(folder: Path) -> tuple[Database, Flask]:
    rules = Rules(hours=None, country="GH", default_gateway="twilio", gateways=frozenset({"twilio"}))
    db = peopled(folder / "real.db", rules, rehearsal=False)
    gateway = Twilio(
        name="twilio", account_sid="AC" + "7" * 32, auth_token="t", sender="15005550006", messaging_service_sid=None
    )
    return db, create_app(db, {"twilio": gateway}, "https://sms.example.org")


def kannel(folder: Path) -> tuple[Database, Flask]:
    rules = Rules(hours=None, country="GH", default_gateway="kannel", gateways=frozenset({"kannel"}))
    db = peopled(folder / "kannel.db", rules, rehearsal=False)
    gateway = Kannel(
        name="kannel", url="http://127.0.0.1:9", username="u", password="p", webhook_secret=SECRET, sender="1234"
    )
    return db, create_app(db, {"kannel": gateway}, "https://sms.example.org")


def simulator(folder: Path) -> tuple[Database, Flask]:
    rules = Rules(hours=None, country="GH", default_gateway="simulator", gateways=frozenset({"simulator"}))
    db = peopled(folder / "rehearsal.db", rules, rehearsal=True)
    gateway = Simulator(book=folder / "phones.db", public_url="http://127.0.0.1:8000", receipts_after_s=None)
    return db, create_app(db, {"simulator": gateway}, "http://127.0.0.1:8000")


def peopled(file: Path, rules: Rules, *, rehearsal: bool) -> Database:
    db = Database(f"sqlite:///{file}", rules, Clock())
    migrate.upgrade(db, rehearsal=rehearsal)
    world = World(db)
    world.group("anc", world.case("ama", AMA))
    world.person("Lena", LENA)
    return db


@pytest.fixture(params=[twilio, kannel, simulator], ids=["twilio", "kannel", "simulator"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Database, Flask]]:
    db, app = request.param(tmp_path)
    yield db, app
    db.close()


def a_path(rng: Random, rule: Rule) -> str:
    """The address of a route with something in its holes, right, wrong or hostile."""
    path = rule.rule
    for hole in ("<name>", "<secret>", "<path:filename>", "<int(max=2147483647):message_id>"):
        odd = rng.choice(["twilio", "kannel", "simulator", "0", "1", "2147483647", "2147483648", "-1", "phones.js", "..%2f..%2fapp.py", "%00", "é", "%ff",
                          "a" * 3000, "../../../etc/passwd", "%2e%2e/x", "phones.css%00.js", "..\\x"])  # fmt: skip
        good = {
            "<name>": rng.choice(["twilio", "kannel", "simulator"]),
            "<secret>": SECRET,
            "<path:filename>": "phones.js",
        }.get(hole, "1")
        path = path.replace(hole, good if rng.random() < 0.5 else odd)
    tail = rng.choice(
        [
            "",
            "",
            "",
            "?a=1",
            "?%ff",
            "?" + "x" * 4000,
            "/",
            "//",
            "%00",
            "?phone=" + AMA,
            f"?from={AMA}&to=1&id=a&text=menu",
            "?from=1&id=%ff&text=%00&charset=UTF-16BE",
            "?attempt=abcdef01&type=1",
            "#x",
            ";x",
        ]
    )
    return path + tail


def a_body(rng: Random) -> bytes:
    good: dict[str, Any] = {
        "phone": rng.choice([AMA, LENA, "1", 5, None]),
        "body": rng.choice(["menu", "STOP", "", any_text(rng, 50), "x" * 2000, 7, [], "\ud800"]),
    }
    return rng.choice([
        rng.randbytes(rng.randint(0, 300)), json.dumps(good).encode(), json.dumps(rng.choice([[], 1, "x", None, {}, [good]])).encode(),
        b"[" * 20_000, b'{"phone":' * 500, b"1" * 5000, b"NaN", b"", any_text(rng, 100).encode("utf-16", "replace"), b"x" * 70_000,
        json.dumps(good).encode("utf-16"), b"\xff" + json.dumps(good).encode(), b"From=%00&Body=%ff&AccountSid=AC" + b"7" * 32, b"--x\r\n\r\n",
    ])  # fmt: skip


def test_random_bytes_at_every_address_are_never_an_accident(served: tuple[Database, Flask]) -> None:
    db, app = served
    times = examples(1)
    rng = Random(11 if times == 1 else SystemRandom().randrange(10**9))
    client, rules = app.test_client(), list(app.url_map.iter_rules())
    asked = Counter[str]()
    for n in range(3000 * times):
        rule = rules[n % len(rules)]
        headers = {rng.choice(HEADERS): rng.choice(VALUES) for _ in range(rng.choice([0, 0, 1, 2]))}
        path, method, body, content = a_path(rng, rule), rng.choice(METHODS), a_body(rng), rng.choice(CONTENT)
        try:
            answer = client.open(path, method=method, data=body, headers=headers, content_type=content)
        except UnicodeError as fault:
            raise AssertionError(f"{method} {path} {headers} {content!r} {body[:80]!r}: {fault}") from fault
        asked[f"{rule.rule} {answer.status_code}"] += 1
        shown = f"{method} {path[:80]} {headers} {content!r} {body[:80]!r}: {answer.status_code} {answer.data[:200]!r}"
        assert answer.status_code < 500 or (answer.status_code == 503 and rule.rule in READY), shown
        assert b"Traceback" not in answer.data, shown
        assert b'File "' not in answer.data, shown
        assert b"sqlalchemy" not in answer.data.lower(), shown
        answer.close()
    print(dict(asked))
    with db.reading() as tx:
        assert tx.scalar(text("SELECT count(*) FROM messages WHERE direction = 'in' AND state <> 'handled'")) == 0
    assert {rule.rule for rule in rules} == {name.rsplit(" ", 1)[0] for name in asked}, "every address was tried"
