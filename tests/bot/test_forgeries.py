"""Forged, re-cut and replayed webhooks by the thousand: none has an effect, none is an accident of ours.

Every forgery goes through the real web application and the real adapter.  Between them go genuine requests, and those
all count: a door that is shut to everybody would pass too.  `EXAMPLES=100 pytest tests/bot/test_forgeries.py`
makes a hundred times as many, other ones each time; 500 make the million that is promised.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from twilio.request_validator import RequestValidator

from bot.app import create_app
from bot.gateways.twilio import Twilio
from storage.contacts import people
from storage.database import Database
from storage.rules.hours_and_limits import Rules
from tests.conftest import Clock
from tests.stub_twilio import StubTwilio
from tests.texting import any_text, examples, opened
from tests.world import TEST, World

ACCOUNT, TOKEN, PUBLIC = "AC" + "7" * 32, "a token of ours", "https://sms.example.org"
LENA, SAMUEL, AMA, THIEF = "233244000901", "233244000902", "233244000101", "233244000666"
STUB = StubTwilio(ACCOUNT, TOKEN)
VALIDATOR = RequestValidator(TOKEN)
SID = "SM" + "a" * 32
"""Of the one message that has left already; its number is 1."""
IN = "/in/twilio"
FORM = "application/x-www-form-urlencoded"
EACH = 100
"""Forgeries of each family in the usual run."""

Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Asked:
    """One request as it goes to the door."""

    body: bytes
    signature: str | None
    path: str = IN
    method: str = "POST"
    content_type: str = FORM
    headers: dict[str, str] = field(default_factory=dict)
    captured: Asked | None = None
    """The true request that this was made from; it has come before, or nobody could have captured it."""


def sign(url: str, fields: Fields, token: str = TOKEN) -> str:
    """Twilio's own signature: by its official library, which glues names and values together."""
    params: dict[str, Any] = {}
    for name, value in fields:
        params.setdefault(name, []).append(value)
    if token == TOKEN:
        return VALIDATOR.compute_signature(url, _Lists(params))
    return RequestValidator(token).compute_signature(url, _Lists(params))


class _Lists(dict[str, list[str]]):
    """The fields as the library wants those that may be said twice."""

    def getall(self, name: str) -> list[str]:
        return self[name]


def text_of(rng: Random, sender: str = SAMUEL, body: str | None = None) -> Fields:
    """An incoming text as Twilio forms it."""
    words = body if body is not None else rng.choice([
        "tell anc Hello", "ok 482193", "drop anc ama", "STOP", "delete anc", "add anc kofi", "undo 1", "menu",
    ])  # fmt: skip
    sid = f"SM{rng.getrandbits(128):032x}"
    return list(STUB.inbound_form(sender, words, sid).items())


def receipt_of(_rng: Random, word: str = "delivered", code: str | None = None) -> Fields:
    """A status callback for the message that is in the world."""
    return list(STUB.receipt_form(SID, AMA, word, code).items())


def made(fields: Fields, signature: str | None, path: str = IN, **more: Any) -> Asked:
    return Asked(urlencode(fields, errors="surrogatepass").encode(), signature, path, **more)


def honest(fields: Fields, path: str = IN) -> Asked:
    return made(fields, sign(PUBLIC + path, fields), path)


# -- the families: each makes one forgery -----------------------------------------------------------------------------------


def no_signature_or_junk(rng: Random) -> Asked:
    junk = [None, "", " ", "=", "0", "null", "A" * 28, "A" * 5000, "é", base64.b64encode(rng.randbytes(20)).decode(),
            base64.b64encode(rng.randbytes(32)).decode(), rng.randbytes(20).hex()]  # fmt: skip
    return made(text_of(rng), rng.choice(junk))


def another_token(rng: Random) -> Asked:
    fields = text_of(rng)
    token = rng.choice(["", " ", TOKEN.upper(), TOKEN + " ", TOKEN[:-1], ACCOUNT, f"{rng.getrandbits(64):x}"])
    return made(fields, sign(PUBLIC + IN, fields, token))


def another_hash(rng: Random) -> Asked:
    """Right bytes and right token, hashed in another way: as hex, with SHA-256, cut short, in another alphabet."""
    fields = text_of(rng)
    glued = (PUBLIC + IN + "".join(n + v for n, v in sorted(fields))).encode()
    right = hmac.new(TOKEN.encode(), glued, hashlib.sha1).digest()
    return made(fields, rng.choice([
        right.hex(), base64.b64encode(hmac.digest(TOKEN.encode(), glued, "sha256")).decode(), base64.b64encode(right).decode()[:-1],
        base64.b64encode(right[:10]).decode(), base64.b64encode(hashlib.sha1(TOKEN.encode() + glued).digest()).decode(),
        "sha1=" + base64.b64encode(right).decode(), base64.b64encode(right).decode().swapcase(),
        base64.b85encode(right).decode(), base64.b64encode(hmac.digest(TOKEN.encode(), glued, "md5")).decode(),
    ]))  # fmt: skip


def another_address(rng: Random) -> Asked:
    """Signed for another host, scheme, port, path or query than ours."""
    fields = text_of(rng)
    url = rng.choice([
        f"https://{rng.choice(string.ascii_lowercase)}.example.org{IN}", f"ftp://sms.example.org{IN}", f"https://sms.example.org:8443{IN}",
        PUBLIC + "/in/other", PUBLIC + IN + "/", PUBLIC + IN + "?a=1", PUBLIC + "/IN/TWILIO", PUBLIC + "//in/twilio", IN, PUBLIC,
        "https://sms.example.org.evil.example/in/twilio", "https://user@sms.example.org/in/twilio", f"http://localhost{IN}",
        PUBLIC + "/status/twilio/1", f"http://sms.example.org:80{IN}", PUBLIC + IN + "#", PUBLIC + IN + "?", "",
    ])  # fmt: skip
    return made(fields, sign(url, fields))


def one_field_more(rng: Random) -> Asked:
    fields = text_of(rng)
    signature = sign(PUBLIC + IN, fields)
    fields.insert(
        rng.randint(0, len(fields)),
        (
            rng.choice(["X", "From", "Body", "", "Zz", "from", "Body[]", "MessageSid "]),
            rng.choice(["x", LENA, "STOP", "0"]),
        ),
    )
    return made(fields, signature)


def one_field_less(rng: Random) -> Asked:
    fields = text_of(rng)
    signature = sign(PUBLIC + IN, fields)
    said = [n for n, (_, value) in enumerate(fields) if value]
    del fields[rng.choice(said)]
    return made(fields, signature)


def one_letter_changed(rng: Random) -> Asked:
    fields = text_of(rng)
    signature = sign(PUBLIC + IN, fields)
    n = rng.choice([n for n, (_, value) in enumerate(fields) if value])
    name, value = fields[n]
    at = rng.randrange(len(value))
    other = rng.choice([c for c in "0123456789abcdefX ~\0é" if c != value[at]])
    fields[n] = rng.choice([
        (name, value[:at] + other + value[at + 1 :]), (name, value + other), (name.swapcase(), value),
        (name, value.swapcase() if value.swapcase() != value else value + "0"), (name + "[]", value), (f" {name}", value),
    ])  # fmt: skip
    return made(fields, signature)


def values_swapped(rng: Random) -> Asked:
    """The right names and the right values, and some of them on another's place."""
    fields = text_of(rng)
    signature = sign(PUBLIC + IN, fields)
    places = rng.sample(range(len(fields)), 3)
    values = [fields[p][1] for p in places]
    for place, value in zip(places, values[1:] + values[:1], strict=True):
        fields[place] = (fields[place][0], value)
    if sign(PUBLIC + IN, fields) == signature:
        return another_token(rng)  # blanks or twins changed places
    return made(fields, signature)


def cut_across_two_fields(rng: Random) -> Asked:
    """Letters of a value moved into the next name or value: the same glued bytes, so the same signature."""
    fields = sorted(text_of(rng))
    captured = honest(fields)
    n = rng.randrange(len(fields) - 1)
    (one, value), (two, other) = fields[n], fields[n + 1]
    glued, bounds = one + value + two + other, sorted(rng.sample(range(len(one + value + two + other) + 1), 3))
    a, b, c = bounds
    cut = [(glued[:a], glued[a:b]), (glued[b:c], glued[c:])]
    if cut == [(one, value), (two, other)]:
        return another_token(rng)
    return made([*fields[:n], *cut, *fields[n + 2 :]], captured.signature, captured=captured)


def glued_into_one(rng: Random) -> Asked:
    """Several neighbours in the signed order as one field, cut somewhere else."""
    fields = sorted(text_of(rng))
    captured = honest(fields)
    n = rng.randrange(len(fields) - 2)
    last = rng.randint(n + 2, len(fields))
    glued = "".join(a + b for a, b in fields[n:last])
    at = rng.randint(0, len(glued))
    return made([*fields[:n], (glued[:at], glued[at:]), *fields[last:]], captured.signature, captured=captured)


def address_and_fields_recut(rng: Random) -> Asked:
    """The first name joins the address: the glued bytes begin with the address, and nothing marks its end."""
    fields = sorted(text_of(rng))
    signature = sign(PUBLIC + IN, fields)
    (name, value), rest = fields[0], fields[1:]
    moved = name + value
    at = rng.randint(1, len(moved))
    left = moved[at:]
    split = rng.randint(0, len(left))
    tail = [(left[:split], left[split:])] if left else []
    return made([*tail, *rest], signature, IN + quote(moved[:at], safe=""))


def captured_from_a_stranger(rng: Random) -> Asked:
    """A stranger texts a Body of their own making, gets hold of its signature, and cuts a supervisor's text out of it."""
    words = rng.choice(["tell anc Hello", "ok 482193", "delete anc", "STOP"])
    forged = sorted(text_of(rng, SAMUEL, words))
    front, behind = [f for f in forged if f[0] <= "Body"], [f for f in forged if f[0] > "Body"]
    name = rng.choice(["Zz", "Zip", "ToZz", "Umsg", "a", "zzzz"])
    tail = "".join(n + v for n, v in behind) + name
    captured = honest(sorted(text_of(rng, THIEF, words + tail)))
    leftover = "".join(
        n + v for n, v in sorted(parse_qsl(captured.body.decode(), keep_blank_values=True)) if n > "Body"
    )
    at = rng.choice([0, len(leftover), rng.randint(0, len(leftover))])
    left = rng.choice(
        [[(name, leftover)], [(name + leftover[:at], leftover[at:])], [(name, leftover[:at]), (leftover[at:], "")]]
    )
    return made([*front, *behind, *left], captured.signature, captured=captured)


def sender_cut_out(rng: Random) -> Asked:
    """The same, but only the sender is made up: a short field swallows the true one, and all the rest is Twilio's own."""
    words = rng.choice(["tell anc Hello", "ok 482193", "delete anc", "STOP"])
    name = rng.choice(["Fz", "Fs", "GeoX", "Hint", "Lang", "MA"])
    captured = honest(sorted(text_of(rng, THIEF, f"{words}From+{SAMUEL}{name}")))
    true = [(n, v) for n, v in sorted(parse_qsl(captured.body.decode(), keep_blank_values=True)) if n != "Body"]
    swallowed = "".join(n + v for n, v in true if n.startswith("From"))
    at = rng.choice([0, 0, 1, 3, 4])
    made_up = [("Body", words), ("From", f"+{SAMUEL}"), (name + swallowed[:at], swallowed[at:])]
    kept = [(n, v) for n, v in true if not n.startswith("From")]
    return made(sorted([*made_up, *kept]), captured.signature, captured=captured)


def said_twice(rng: Random) -> Asked:
    """A known field twice, signed as it is: the official library collapses equal values."""
    fields = text_of(rng)
    captured = honest(fields)
    name, value = rng.choice([f for f in fields if f[0] in ("From", "Body", "MessageSid", "AccountSid", "To")])
    twin = (name, rng.choice([value, f"+{LENA}", "STOP", "", "AC" + "8" * 32]))
    fields.insert(rng.choice([0, len(fields)]), twin)
    return made(fields, sign(PUBLIC + IN, fields), captured=captured)


def of_another_account(rng: Random) -> Asked:
    fields = dict(text_of(rng))
    other = rng.choice(["AC" + "8" * 32, "", ACCOUNT.lower(), ACCOUNT + "0", ACCOUNT[:-1], "AC" + "７" * 32, None])
    fields.pop("AccountSid")
    if other is not None:
        fields["AccountSid"] = other
    return honest(list(fields.items()))


def in_odd_letters(rng: Random) -> Asked:
    """The bytes of a genuine request written otherwise: Latin-1, overlong UTF-8, NUL, half a character, `;` for `&`."""
    fields = text_of(rng, body="tell anc Grüße é")
    signature = sign(PUBLIC + IN, fields)
    raw = urlencode(fields).encode()
    name = rng.choice([b"Body=", b"From=", b"MessageSid="])
    bad = rng.choice(
        [b"%E9", b"\xe9", b"%C0%AF", b"%ED%A0%80", b"%00", b"\x00", b"%FF%FE", b"%u0041", b"%", b"%zz", b"%F0%9F"]
    )
    body = rng.choice([
        raw.replace(name, name + bad), urlencode(fields, encoding="latin-1", errors="replace").encode(),
        raw.replace(b"&", b";"), raw.replace(b"&", b"&&" + bad + b"&", 1), b"\xef\xbb\xbf" + raw.replace(name, bad + name),
        raw.replace(b"=", b"%3D"), raw.decode().encode("utf-16"), raw[: rng.randint(0, len(raw) - 5)],
    ])  # fmt: skip
    return Asked(body, signature)


def in_the_query(rng: Random) -> Asked:
    """The fields, or some of them, after a question mark, where a framework may mix them in."""
    fields = text_of(rng)
    signature = sign(PUBLIC + IN, fields)
    query = rng.choice(
        [
            urlencode(fields),
            f"From=%2B{LENA}",
            "Body=STOP",
            "",
            "a",
            "%00",
            "?",
            f"bodySHA256={'0' * 64}",
            quote_plus("&=&"),
        ]
    )
    body = rng.choice([fields, [], fields[:5]])
    if not query and body == fields:
        return another_token(rng)
    # A client that sends `?` alone loses it on the way, so what is signed is what will not be asked.
    return made(body, sign(PUBLIC + IN, body) if rng.random() < 0.3 else signature, f"{IN}?{query or 'x'}")


def as_json(rng: Random) -> Asked:
    """Twilio signs JSON by a hash in the address: no text of a person comes so."""
    body = json.dumps(dict(text_of(rng))).encode()
    said = rng.choice([hashlib.sha256(body).hexdigest(), "0" * 64, "", hashlib.sha256(b"").hexdigest()])
    path = f"{IN}?bodySHA256={said}"
    kind = rng.choice(["application/json", FORM, "text/plain", "multipart/form-data; boundary=x", ""])
    return Asked(rng.choice([body, b""]), sign(PUBLIC + path, []), path, content_type=kind)


def as_parts(rng: Random) -> Asked:
    """The same fields as multipart, or under another content type with nothing in the form."""
    fields = text_of(rng)
    parts = (
        "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields) + "--x--\r\n"
    )
    return Asked(parts.encode(), rng.choice([sign(PUBLIC + IN, fields), sign(PUBLIC + IN, [])]),
                 content_type=rng.choice(["multipart/form-data; boundary=x", "text/plain", FORM]))  # fmt: skip


def with_header_tricks(rng: Random) -> Asked:
    """Signed for an address that a header claims; ours stands in the settings and nowhere else."""
    fields = text_of(rng)
    evil = "evil.example"
    tricks = {"X-Forwarded-Host": evil, "X-Forwarded-Proto": "http", "Host": evil, "Forwarded": f"host={evil};proto=http",
              "X-Original-URL": "/status/twilio/1", "X-Rewrite-URL": "/x", "X-HTTP-Method-Override": "GET", "X-Forwarded-Prefix": "/x",
              "X-Forwarded-Port": "8080"}  # fmt: skip
    name = rng.choice(list(tricks))
    url = rng.choice(
        [
            f"https://{evil}{IN}",
            f"http://{evil}{IN}",
            f"http://sms.example.org{IN}",
            PUBLIC + "/x" + IN,
            f"https://sms.example.org:8080{IN}",
        ]
    )
    return made(fields, sign(url, fields), headers={name: tricks[name]})


def signature_elsewhere(rng: Random) -> Asked:
    """The right signature under another name, in the query, or as one of two."""
    fields = text_of(rng)
    right = sign(PUBLIC + IN, fields)
    where = rng.choice(
        ["Authorization", "X-Twilio-Signature-256", "X-Simulator-Signature", "Twilio-Signature", "Cookie"]
    )
    if rng.random() < 0.3:
        return made(fields, None, f"{IN}?X-Twilio-Signature={quote_plus(right)}")
    return made(
        fields, rng.choice([None, "x", f"{right},{right}", f"x, {right}", f'"{right}"']), headers={where: right}
    )


def another_method(rng: Random) -> Asked:
    fields = text_of(rng)
    path = rng.choice([IN, "/status/twilio/1"])
    return made(
        fields,
        sign(PUBLIC + path, fields),
        path,
        method=rng.choice(["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"]),
    )


def huge(rng: Random) -> Asked:
    """Signed or not, larger than anything that Twilio sends."""
    size = rng.choice([9000, 20_000, 66_000, 200_000])
    fields = [(n, v * 1 if n != "Body" else "x" * size) for n, v in text_of(rng)]
    if rng.random() < 0.3:
        fields = [*text_of(rng), *((f"X{n}", "x" * 64) for n in range(size // 60))]
    return honest(fields)


def receipts_of_nobody(rng: Random) -> Asked:
    """Receipts that Twilio never signed, for a message that is really ours."""
    path = "/status/twilio/1"
    fields = receipt_of(
        rng, rng.choice(["delivered", "undelivered", "failed", "sent"]), rng.choice([None, "21610", "30003"])
    )
    other = [(n, "failed" if n == "MessageStatus" else v) for n, v in receipt_of(rng)]
    return made(fields, rng.choice([None, "x", sign(PUBLIC + "/status/twilio/2", fields), sign(PUBLIC + IN, fields), sign(PUBLIC + path, other),
                                    sign(PUBLIC + path, [*fields, ("ErrorCode", "1")]), sign(PUBLIC + path, fields, "t")]), path)  # fmt: skip


def replayed_elsewhere(rng: Random) -> Asked:
    """A genuine request at another address of ours: a text as a receipt, a receipt as a text or for another message."""
    text_in, receipt = text_of(rng), receipt_of(rng)
    return rng.choice([
        made(text_in, sign(PUBLIC + IN, text_in), "/status/twilio/1"), made(receipt, sign(PUBLIC + "/status/twilio/1", receipt), IN),
        made(receipt, sign(PUBLIC + "/status/twilio/1", receipt), "/status/twilio/2"), made(text_in, sign(PUBLIC + IN, text_in), "/in/other"),
        made(text_in, sign(PUBLIC + IN, text_in), "/in/TWILIO"), made(text_in, sign(PUBLIC + IN, text_in), "/in/twilio/"),
        made(text_in, sign(PUBLIC + IN, text_in), "/in/twilio%2F"), made(text_in, sign(PUBLIC + IN, text_in), "/in/simulator"),
        made(receipt, sign(PUBLIC + "/status/twilio/1", receipt), "/status/twilio/01"),
        made(receipt, sign(PUBLIC + "/status/twilio/1", receipt), "/status/twilio/-1"),
        made(receipt, sign(PUBLIC + "/status/twilio/1", receipt), f"/status/twilio/{10**30}"),
    ])  # fmt: skip


def any_bytes(rng: Random) -> Asked:
    body = rng.randbytes(rng.randint(0, 300)) if rng.random() < 0.5 else any_text(rng, 200).encode("utf-8", "replace")
    junk = "".join(c for c in any_text(rng, 40) if c.isprintable()).encode("latin-1", "replace").decode("latin-1")
    return Asked(
        body, junk, rng.choice([IN, "/status/twilio/1"]), content_type=rng.choice([FORM, "", "a/b", "application/json"])
    )


FAMILIES: list[Callable[[Random], Asked]] = [
    no_signature_or_junk, another_token, another_hash, another_address, one_field_more, one_field_less, one_letter_changed,
    values_swapped, cut_across_two_fields, glued_into_one, address_and_fields_recut, captured_from_a_stranger, sender_cut_out, said_twice,
    of_another_account, in_odd_letters, in_the_query, as_json, as_parts, with_header_tricks, signature_elsewhere,
    another_method, huge, receipts_of_nobody, replayed_elsewhere, any_bytes,
]  # fmt: skip


# -- the door --------------------------------------------------------------------------------------------------------------


class Door:
    """The web application of a small programme, and all that a request could change behind it."""

    def __init__(self, db: Database) -> None:
        self.db = db
        gateway = Twilio(
            name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender=STUB.number, messaging_service_sid=None
        )
        self.client: FlaskClient = create_app(db, {"twilio": gateway}, PUBLIC).test_client()

    def ask(self, asked: Asked) -> int:
        headers = dict(asked.headers)
        if asked.signature is not None:
            headers["X-Twilio-Signature"] = asked.signature
        answer = self.client.open(
            asked.path, method=asked.method, data=asked.body, headers=headers, content_type=asked.content_type
        )
        assert b"Traceback" not in answer.data
        return answer.status_code

    def rows(self) -> dict[str, Any]:
        """How many rows each table has, and a digest of those that can change in place."""
        with self.db.reading() as tx:
            tables = (
                "messages",
                "consent_events",
                "receipts",
                "operations",
                "audit",
                "memberships",
                "codes",
                "groups",
                "broadcasts",
            )
            counts = {t: tx.scalar(text(f"SELECT count(*) FROM {t}")) for t in tables}
            states = tx.execute(text("SELECT id, state, reason FROM messages")).all()
            live = tx.execute(text("SELECT id FROM memberships WHERE removed_at IS NULL")).all()
            return {**counts, "states": states, "members": live}


@pytest.fixture
def door(tmp_path: Path, empty_file: Path) -> Iterator[Door]:
    rules = Rules(
        time_zone="Africa/Accra", country="GH", hours=None, default_gateway="twilio", gateways=frozenset({"twilio"})
    )
    db = opened(empty_file, tmp_path / "door.db", Clock(), rules)
    world = World(db)
    world.group("anc", world.case("ama", AMA))
    world.case("kofi", "233244000102")
    with db.transaction() as tx:
        people.add(tx, "Lena", LENA, "lead", by=TEST)
        people.add(tx, "Samuel", SAMUEL, "supervisor", shorts=["anc"], by=TEST)
        tx.execute(
            text(
                "INSERT INTO messages (id, direction, phone, body, kind, state, gateway, gateway_id, attempts, due_at, created_at, answered, priority)"
                " VALUES (1, 'out', :phone, 'Hello', 'notice', 'sent', 'twilio', :sid, 1, :now, :now, 0, 1)"
            ),
            {"phone": AMA, "sid": SID, "now": "2026-11-03 10:00:00.000000"},
        )
    yield Door(db)
    db.close()


REPLAYS = {"cut_across_two_fields", "glued_into_one", "said_twice"}
"""Families of which some keep the true sender, words and id: those are a replay, which is answered yes and does nothing."""


def true_but_for_its_shape(forgery: Asked) -> bool:
    """Whether Twilio's official library takes the signature for a true one."""
    params: dict[str, Any] = {}
    for name, value in parse_qsl(forgery.body.decode(), keep_blank_values=True):
        params.setdefault(name, []).append(value)
    return bool(VALIDATOR.validate(PUBLIC + forgery.path, _Lists(params), forgery.signature))


def test_forgeries_of_every_family_change_nothing_and_are_refused_while_true_texts_are_taken(door: Door) -> None:
    times = examples(1)
    seed = 7 if times == 1 else SystemRandom().randrange(10**9)
    rng, tried, answered, wrong = Random(seed), Counter[str](), Counter[str](), Counter[str]()
    shown: dict[str, Asked] = {}
    stolen = genuine = 0
    for _ in range(EACH * times // 50):
        for family in FAMILIES:
            name = family.__name__
            forgeries = [family(rng) for _ in range(50)]
            for forgery in forgeries:
                if forgery.captured is not None:
                    genuine += 1
                    assert door.ask(forgery.captured) == 200, f"a genuine text was refused: {forgery.captured}"
                    stolen += true_but_for_its_shape(forgery)
            before = door.rows()
            for forgery in forgeries:
                code = door.ask(forgery)
                tried[name] += 1
                answered[f"{name} {code}"] += 1
                if not (400 <= code < 500 or (code == 200 and name in REPLAYS)):
                    wrong[f"{name}: {code}"] += 1
                    shown.setdefault(name, forgery)
            if door.rows() != before:
                wrong[f"{name}: an effect"] += 1
                shown.setdefault(name, forgeries[0])
        before, genuine = door.rows(), genuine + 1
        assert door.ask(honest(text_of(rng, AMA, f"Hello {genuine}"))) == 200, "a genuine text was refused"
        assert door.rows()["messages"] > before["messages"], "a genuine text had no effect"
    print(
        f"seed {seed}: {sum(tried.values())} forgeries, {stolen} with a true signature, {genuine} genuine; {dict(answered)}"
    )
    assert not wrong, f"seed {seed}: {dict(wrong)} of {dict(tried)}\n" + "\n".join(
        f"{k}: {v}" for k, v in shown.items()
    )
    assert set(tried.values()) == {EACH * times}, "every family"
    assert stolen * 13 >= sum(tried.values()), "the re-cut ones must really carry a true signature"


def test_a_true_text_that_is_replayed_a_hundred_times_has_one_effect(door: Door) -> None:
    rng = Random(3)
    text_in = honest(text_of(rng, SAMUEL, "add anc kofi"))
    assert door.ask(text_in) == 200
    after = door.rows()
    for n in range(100):
        again = (
            text_in if n % 2 else Asked(text_in.body, text_in.signature, headers={"I-Twilio-Idempotency-Token": str(n)})
        )
        assert door.ask(again) == 200, "the gateway must hear yes, or it tries again for ever"
    assert door.rows() == after


def test_a_true_receipt_that_is_replayed_moves_a_message_once_and_never_back(door: Door) -> None:
    rng, path = Random(4), "/status/twilio/1"
    delivered, sent = (honest(receipt_of(rng, word), path) for word in ("delivered", "sent"))
    assert door.ask(delivered) == 200
    after = door.rows()
    for _ in range(50):
        assert door.ask(delivered) == 200
    assert door.rows() == after
    assert door.ask(sent) == 200
    assert door.rows()["states"] == after["states"], "a late receipt moves nothing back"
