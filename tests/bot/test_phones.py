"""The rules of the virtual phones: only on a rehearsal, only on this machine, and showing what a handset really got."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from bot import phones, webhooks
from bot.gateways.simulator import Simulator
from bot.worker import Worker
from storage import consent, contacts, groups, messages, migrate, people
from storage.audit import Actor
from storage.contacts import Wanted
from storage.database import Database
from storage.rules import Rules

OPERATOR = Actor("cli")
PUBLIC = "http://127.0.0.1:8000"
RULES = Rules(name="Ward Three", hold_s=0, hours=None, default_gateway="simulator", gateways=frozenset({"simulator"}))
LEAD, SUPERVISOR, AMA, SHARED, AMINA, REFUSED = (
    "233200000001", "233200000002", "233200000011", "233200000012", "233200000013", "15005550001",
)  # fmt: skip
THREADS, TEXT = "/phones/threads", "/phones/text"


def open_database(file: Path, *, rehearsal: bool) -> Database:
    db = Database(f"sqlite:///{file}", RULES)
    migrate.upgrade(db, rehearsal=rehearsal)
    return db


def case(name: str, phone: str | None, **more: Any) -> Wanted:
    verified = {"contact_phone_number": phone, "contact_phone_number_is_verified": phone is not None}
    return Wanted(None, {"name": name, **verified, **more})


def populate(db: Database) -> None:
    """A supervisor who came before the lead, two cases on one phone, one without a phone, one in Arabic."""
    with db.transaction() as tx:
        anc = groups.create(tx, "anc", "Antenatal care", by=OPERATOR)
        people.add(tx, "Kofi", SUPERVISOR, "supervisor", shorts=["anc"], by=OPERATOR)
        people.add(tx, "Esi", LEAD, "lead", by=OPERATOR)
        wanted = [
            case("Ama", AMA), case("Yaw", SHARED), case("Efua", SHARED), case("Abena", None),
            case("Amina", AMINA, language_code="ar"), case("Nobody", REFUSED),
        ]  # fmt: skip
        ids = contacts.save(tx, wanted, by=OPERATOR)
        groups.add(tx, anc.id, ids[:2], by=OPERATOR)


@pytest.fixture(scope="module")
def populated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rehearsal with its people and cases, made once and copied for each test."""
    file = tmp_path_factory.mktemp("populated") / "rehearsal.db"
    db = open_database(file, rehearsal=True)
    populate(db)
    db.close()
    return file


@pytest.fixture
def db(tmp_path: Path, populated: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{shutil.copy(populated, tmp_path)}", RULES)
    yield opened
    opened.close()


@pytest.fixture
def simulator(tmp_path: Path) -> Simulator:
    return Simulator(book=tmp_path / "phones.db", public_url=PUBLIC, receipts_after_s=None)


def app(db: Database, simulator: Simulator) -> Flask:
    made = Flask(__name__, static_folder=None)
    made.register_blueprint(webhooks.blueprint(db, {simulator.name: simulator}, PUBLIC))
    made.register_blueprint(phones.blueprint(db, simulator))
    return made


@pytest.fixture
def client(db: Database, simulator: Simulator) -> FlaskClient:
    return app(db, simulator).test_client()


def send_all(db: Database, simulator: Simulator) -> None:
    """Let everything that is due leave, by the real worker."""

    async def worked() -> None:
        worker = Worker(db, {simulator.name: simulator}, PUBLIC)
        worker.start()
        await worker.drain()
        await worker.finish()

    asyncio.run(worked())


def threads(client: FlaskClient) -> dict[str, Any]:
    answer = client.get(THREADS)
    assert answer.status_code == 200
    return {phone["phone"]: phone for phone in answer.get_json()["phones"]}


def type_on(client: FlaskClient, phone: str, body: str) -> int:
    answer = client.post(TEXT, json={"phone": phone, "body": body})
    assert answer.get_json()["status"] == answer.status_code
    return answer.status_code


# Whose phones


def test_people_come_first_and_leads_before_them_then_each_number_of_a_case_once(client: FlaskClient) -> None:
    shown = threads(client)
    assert list(shown) == [LEAD, SUPERVISOR, AMA, SHARED, AMINA, REFUSED]
    assert [(p["name"], p["label"]) for p in shown.values()][:5] == [
        ("Esi", "lead"),
        ("Kofi", "supervisor"),
        ("Ama", "anc"),
        ("Yaw & Efua", "anc"),
        ("Amina", "in no group"),
    ]


def test_a_person_who_is_also_a_case_has_one_phone(client: FlaskClient, db: Database) -> None:
    with db.transaction() as tx:
        contacts.save(tx, [case("Esi's child", LEAD)], by=OPERATOR)
    assert threads(client)[LEAD]["name"] == "Esi & Esi's child"


def test_a_phone_is_written_in_its_own_direction(client: FlaskClient) -> None:
    shown = threads(client)
    assert (shown[AMINA]["language"], shown[AMINA]["direction"]) == ("ar", "rtl")
    assert (shown[AMA]["language"], shown[AMA]["direction"]) == ("en", "ltr")


@pytest.mark.parametrize(
    ("language", "direction"),
    [("ar", "rtl"), ("AR-EG", "rtl"), ("fa", "rtl"), ("ur_PK", "rtl"), ("he", "rtl"), ("pa-Arab", "rtl"), ("ks-Deva", "ltr"),
     ("ur-Latn", "ltr"), ("sw", "ltr"), ("", "ltr"), ("arn", "ltr")],
)  # fmt: skip
def test_the_direction_follows_the_language_and_a_named_script(language: str, direction: str) -> None:
    assert phones.direction(language) == direction


def test_no_more_phones_than_fit_on_a_page(client: FlaskClient, db: Database) -> None:
    with db.transaction() as tx:
        contacts.save(tx, [case(f"Case {n}", f"2332100{n:05}") for n in range(60)], by=OPERATOR)
    assert len(threads(client)) == phones.MOST_PHONES


def test_the_questions_to_the_database_do_not_grow_with_the_phones(client: FlaskClient, db: Database) -> None:
    asked: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    threads(client)
    few = len(asked)
    with db.transaction() as tx:
        contacts.save(tx, [case(f"Case {n}", f"2332100{n:05}") for n in range(30)], by=OPERATOR)
    asked.clear()
    threads(client)
    assert len(asked) <= few


# What a handset shows


def test_what_is_typed_on_a_handset_is_acted_on_like_every_text(
    client: FlaskClient, db: Database, simulator: Simulator
) -> None:
    assert type_on(client, LEAD, "groups") == 200
    typed, answer = threads(client)[LEAD]["texts"]
    assert (typed["from_phone"], typed["body"], typed["state"], typed["said"]) == (
        True,
        "groups",
        "handled",
        "read as a command",
    )
    assert (answer["from_phone"], answer["state"]) == (False, "queued")
    send_all(db, simulator)
    answer = threads(client)[LEAD]["texts"][1]
    assert answer["state"] == "accepted"
    assert answer["said"] == messages.MEANINGS["accepted"]
    assert answer["segments"] == 1
    assert "anc" in answer["body"]


def test_a_code_stands_in_digits_on_the_handset_and_masked_before_it_arrives(
    client: FlaskClient, db: Database, simulator: Simulator
) -> None:
    type_on(client, LEAD, "tell anc Clinic closed Friday")
    assert "ok ******" in threads(client)[LEAD]["texts"][-1]["body"]
    send_all(db, simulator)
    question = threads(client)[LEAD]["texts"][-1]["body"]
    code = question.partition("ok ")[2][:6]
    assert code.isdigit()
    type_on(client, LEAD, f"ok {code}")
    send_all(db, simulator)
    send_all(db, simulator)
    assert threads(client)[AMA]["texts"][-1]["body"] == "Clinic closed Friday"


def test_a_reply_of_a_case_reaches_the_phone_of_the_supervisor(
    client: FlaskClient, db: Database, simulator: Simulator
) -> None:
    type_on(client, AMA, "I cannot come")
    send_all(db, simulator)
    shown = threads(client)
    assert shown[AMA]["texts"][0]["said"] == "in the inbox"
    assert "I cannot come" in shown[SUPERVISOR]["texts"][0]["body"]


def test_a_text_that_could_not_leave_says_why_in_words(client: FlaskClient, db: Database, simulator: Simulator) -> None:
    with db.transaction() as tx:
        messages.queue(tx, REFUSED, "hello", "text")
        messages.queue(tx, AMA, "hello", "text")
        consent.hear(tx, AMA, "stop", words="stop", message_id=None, by=OPERATOR)
    send_all(db, simulator)
    shown = threads(client)
    refused, withheld = shown[REFUSED]["texts"][0], shown[AMA]["texts"][0]
    assert refused["state"] == "refused"
    assert refused["said"] == f"{messages.MEANINGS['refused']}: {refused['reason']}"
    assert "21211" in refused["reason"]
    assert (withheld["state"], withheld["reason"]) == ("withheld", "the number said STOP")


def test_a_book_of_an_older_rehearsal_shows_nothing(
    client: FlaskClient, db: Database, simulator: Simulator, tmp_path: Path
) -> None:
    type_on(client, LEAD, "menu")
    send_all(db, simulator)
    with (newer := open_database(tmp_path / "newer.db", rehearsal=True)).transaction() as tx:
        people.add(tx, "Esi", LEAD, "lead", by=OPERATOR)
    other = app(newer, simulator).test_client()
    type_on(other, LEAD, "groups")
    (typed, answer) = threads(other)[LEAD]["texts"]
    assert typed["body"] == "groups"
    assert "You may" not in answer["body"]
    newer.close()


# Who may ask


@pytest.mark.parametrize("path", ["/phones", THREADS, "/phones/static/phones.js"])
def test_a_database_for_real_use_has_no_virtual_phones(tmp_path: Path, simulator: Simulator, path: str) -> None:
    real = open_database(tmp_path / "real.db", rehearsal=False)
    client = app(real, simulator).test_client()
    assert client.get(path).status_code == 404
    assert client.post(TEXT, json={"phone": LEAD, "body": "menu"}).status_code == 404
    real.close()


@pytest.mark.parametrize("path", ["/phones", THREADS, "/phones/static/phones.js"])
@pytest.mark.parametrize("peer", ["10.0.0.7", "8.8.8.8", "::ffff:10.0.0.7", "fe80::1", "", "unix"])
def test_another_machine_is_refused(client: FlaskClient, path: str, peer: str) -> None:
    assert client.get(path, environ_overrides={"REMOTE_ADDR": peer}).status_code == 403


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_is_answered(client: FlaskClient, peer: str, host: str) -> None:
    assert client.get("/phones", headers={"Host": host}, environ_overrides={"REMOTE_ADDR": peer}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "10.0.0.7:8000",
        "",
        "[",
        "127.0.0.1@evil.example",
        "127.0.0.1.nip.io",
        "0x7f.1",
    ],
)
def test_another_name_of_this_machine_is_refused(client: FlaskClient, host: str) -> None:
    assert client.get(THREADS, headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"])
def test_a_proxy_is_refused_because_it_speaks_for_strangers(client: FlaskClient, header: str) -> None:
    assert client.get(THREADS, headers={header: "8.8.8.8"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_text_from_another_page_is_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    told = {"Content-Type": "application/json", **headers}
    assert client.post(TEXT, data=json.dumps({"phone": LEAD, "body": "menu"}), headers=told).status_code == 403
    assert threads(client)[LEAD]["texts"] == []


def test_a_text_from_our_own_page_is_taken(client: FlaskClient) -> None:
    headers = {"Origin": "http://localhost:8000", "Host": "localhost:8000", "Sec-Fetch-Site": "same-origin"}
    assert client.post(TEXT, json={"phone": LEAD, "body": "menu"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b"5", b'"a"', b"{}", b"[" * 20_000, b"\xff\xfe", b"1" * 5_000,
        *(json.dumps({"phone": LEAD, "body": "menu", **change}).encode() for change in (
            {"phone": None}, {"phone": 233200000001}, {"phone": ["a"]}, {"phone": "233999999999"}, {"phone": ""}, {"phone": "\0"},
            {"phone": "\ud800"}, {"body": None}, {"body": 5}, {"body": ""}, {"body": " \n"}, {"body": "a\0b"}, {"body": "\ud83d"},
            {"body": "a" * 1601}, {"body": "a" * 40_000}, {"body": "a" * 100_000},
        )),
    ],
    ids=lambda raw: repr(raw[-40:]),
)  # fmt: skip
def test_nonsense_is_answered_with_one_clear_sentence(client: FlaskClient, raw: bytes) -> None:
    answer = client.post(TEXT, data=raw, content_type="application/json")
    assert answer.status_code == 400
    problem = answer.get_json()["problem"]
    assert 10 < len(problem) < 100
    assert "\n" not in problem


def test_the_longest_text_of_the_widest_characters_is_taken(client: FlaskClient) -> None:
    assert type_on(client, AMA, "\N{WAVING HAND SIGN}" * 1600) == 200
    assert len(threads(client)[AMA]["texts"][0]["body"]) == 1600


# What the page may do


@pytest.mark.parametrize("path", ["/phones", THREADS, "/phones/static/phones.js", "/phones/static/phones.css"])
def test_every_answer_says_that_nothing_else_may_be_loaded(client: FlaskClient, path: str) -> None:
    with client.get(path) as answer:
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_page_names_no_other_host_and_has_no_inline_script(client: FlaskClient) -> None:
    page = client.get("/phones").text
    files = "".join(file.read_text(encoding="utf-8") for file in (Path(phones.__file__).parent / "static").iterdir())
    assert "://" not in page + files
    assert "innerHTML" not in files
    assert "<script>" not in page
    assert "style=" not in page
    assert "Rehearsal: nothing leaves this machine." in page


def test_no_socket_is_opened_by_the_page(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    assert type_on(client, LEAD, "menu") == 200
    assert client.get(THREADS).status_code == 200
