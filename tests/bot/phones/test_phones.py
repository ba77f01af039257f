"""The rules of the virtual phones: only on a rehearsal, only on this machine, and showing what a handset really got."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from bot import phones, webhooks
from bot.gateways.simulator import Simulator
from bot.worker.worker import Worker
from storage.audit import Actor
from storage.contacts import cases, consent, groups, people
from storage.contacts.cases import Wanted
from storage.database import Database
from storage.messages import lookups, outbox, states
from storage.programme import rate_limits
from storage.rules.hours_and_limits import Rules
from storage.upkeep import migrate
from tests.patience import until

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
        ids = cases.save(tx, wanted, by=OPERATOR)
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
        cases.save(tx, [case("Esi's child", LEAD)], by=OPERATOR)
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
        cases.save(tx, [case(f"Case {n}", f"2332100{n:05}") for n in range(60)], by=OPERATOR)
    assert len(threads(client)) == phones.MOST_PHONES


def test_the_questions_to_the_database_do_not_grow_with_the_phones(client: FlaskClient, db: Database) -> None:
    asked: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    threads(client)
    few = len(asked)
    with db.transaction() as tx:
        cases.save(tx, [case(f"Case {n}", f"2332100{n:05}") for n in range(30)], by=OPERATOR)
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
    assert answer["said"] == states.MEANINGS["accepted"]
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
        outbox.queue(tx, REFUSED, "hello", "text")
        outbox.queue(tx, AMA, "hello", "text")
        consent.hear(tx, AMA, "stop", words="stop", message_id=None, by=OPERATOR)
    send_all(db, simulator)
    shown = threads(client)
    refused, withheld = shown[REFUSED]["texts"][0], shown[AMA]["texts"][0]
    assert refused["state"] == "refused"
    assert refused["said"] == f"{states.MEANINGS['refused']}: {refused['reason']}"
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


# Added phones, and whom they are for

TAKE_OUT, PUT_AWAY, FAULTS = "/phones/take-out", "/phones/put-away", "/phones/faults"
STRANGER, LATE = "447700900123", "233210000059"
RAW = (
    b"", b"{", b"[]", b"null", b"5", b'"a"', b"[" * 20_000, b"\xff\xfe", b"1" * 5_000, b'{"phone": 5}', b'{"phone": "\\ud800"}',
    b'{"phone": "' + b"1" * 5_000 + b'"}', b'{"phone": ""}', b'{"phone": "abc"}', b'{"delay_s": 1e999}', b'{"seed": -1}',
    b'{"phone": {"phone": 1}, "delay_s": [], "gateway": {}}', b"{" + b" " * 40_000 + b"}", b'{"gateway": "\\u0000"}',
)  # fmt: skip


def many(db: Database) -> None:
    with db.transaction() as tx:
        wanted = [case(f"Case {n}", f"2332100{n:05}", external_id=f"q-{n}", language_code="sw") for n in range(60)]
        cases.save(tx, wanted, by=OPERATOR)


def found(client: FlaskClient, asked: str) -> list[tuple[str | None, str]]:
    answer = client.get("/phones/find", query_string={"q": asked})
    assert answer.status_code == 200
    return [(one["phone"], one["name"]) for one in answer.get_json()["found"]]


def test_a_case_is_found_by_name_id_and_number_and_a_number_of_nobody_is_a_strangers(
    client: FlaskClient, db: Database
) -> None:
    many(db)
    assert found(client, "ama") == [(AMA, "Ama")]
    assert found(client, "AMINA") == [(AMINA, "Amina")]
    assert found(client, "Esi") == [(LEAD, "Esi")]
    assert found(client, "q-59") == [(LATE, "Case 59")]
    assert found(client, "+233 210 000 059") == [(LATE, "Case 59")]
    assert found(client, "abena") == [(None, "Abena")]
    assert found(client, "+44 7700 900123") == [(STRANGER, "A stranger")]
    assert found(client, "nobody is called so") == []
    assert 0 < len(found(client, "")) <= 8


@pytest.mark.parametrize(
    "asked", ["%", "_", "\\", "'", "\0", "a\nb", "\u202e", "a" * 5_000, "\ud83d".encode("utf-8", "surrogatepass")]
)
def test_a_hostile_question_finds_nobody_and_breaks_nothing(client: FlaskClient, asked: Any) -> None:
    assert client.get("/phones/find", query_string={"q": asked}).status_code == 200


def test_a_phone_is_taken_out_stays_on_every_look_may_text_and_is_put_away(
    client: FlaskClient, db: Database, simulator: Simulator
) -> None:
    many(db)
    assert LATE not in threads(client)
    assert type_on(client, LATE, "hello") == 400
    for phone, said in ((LATE, "+233 21 000 0059"), (STRANGER, "00447700900123")):
        assert client.post(TAKE_OUT, json={"phone": said}).get_json() == {"status": 200, "phone": phone}
    shown = threads(client)
    assert (shown[LATE]["name"], shown[LATE]["kind"], shown[LATE]["taken_out"]) == ("Case 59", "case", True)
    assert (shown[STRANGER]["name"], shown[STRANGER]["kind"]) == ("Stranger", "stranger")
    assert type_on(client, STRANGER, "Who are you?") == 200
    send_all(db, simulator)
    assert next(text["said"] for text in threads(client)[STRANGER]["texts"]) == "kept; from a stranger"
    assert client.post(PUT_AWAY, json={"phone": STRANGER}).status_code == 200
    assert STRANGER not in threads(client)


def test_a_phone_that_is_there_by_itself_is_not_added(client: FlaskClient, simulator: Simulator) -> None:
    assert client.post(TAKE_OUT, json={"phone": f"+{AMA}"}).get_json()["phone"] == AMA
    assert simulator.network.taken_out() == []


def test_no_more_phones_are_added_than_a_page_can_hold(client: FlaskClient) -> None:
    codes = [
        client.post(TAKE_OUT, json={"phone": f"44770090{n:04}"}).status_code for n in range(phones.MOST_TAKEN_OUT + 1)
    ]
    assert codes == [200] * phones.MOST_TAKEN_OUT + [400]


# Cards


def card(client: FlaskClient, phone: str) -> str:
    (told,) = client.get(THREADS, query_string={"cards": phone, "only": phone}).get_json()["phones"]
    lines = [f"{line['word']}: {line['said']}" for section in told["card"] for line in section["lines"]]
    return "\n".join([f"{section['title']} ({section['about']})" for section in told["card"]] + lines)


def test_a_card_says_who_owns_the_number_who_waits_groups_language_and_consent(
    client: FlaskClient, db: Database, simulator: Simulator
) -> None:
    told = card(client, SHARED)
    for line in ("Replies: two-way: this case owns the number", "Replies: one-way: Yaw owns the number", "Waiting: Efua",
                 "Verified: yes", "Groups: anc", "Groups: none", "it never said stop"):  # fmt: skip
        assert line in told
    assert "Language: Arabic (ar)" in card(client, AMINA)
    type_on(client, AMA, "STOP")
    told = card(client, AMA)
    assert "Now: said STOP: gets nothing until it says START" in told
    assert "Its words: “STOP”" in told
    type_on(client, AMA, "START")
    assert "Now: said START: may be texted" in card(client, AMA)


def test_a_card_says_that_a_phone_which_may_have_meant_stop_is_held(client: FlaskClient) -> None:
    type_on(client, AMA, "please stop texting me")
    assert "Now: may have meant stop: asked, and held until it answers" in card(client, AMA)
    assert threads(client)[AMA]["texts"][0]["said"] == "may mean stop: asked, and held until it answers"


def test_the_card_of_a_person_shows_the_role_and_the_groups(client: FlaskClient) -> None:
    assert "Groups: anc" in card(client, SUPERVISOR)
    assert "Role: lead" in card(client, LEAD)
    assert "Groups: every group" in card(client, LEAD)


def test_only_the_cards_that_are_asked_for_are_told(client: FlaskClient) -> None:
    told = client.get(THREADS, query_string={"cards": f"{AMA},nonsense,{'9' * 3000}"}).get_json()["phones"]
    assert [one["phone"] for one in told if "card" in one] == [AMA]


# Faults


def switch(client: FlaskClient, **faults: Any) -> Any:
    answer = client.post(FAULTS, json=faults)
    assert answer.status_code == 200
    return answer.get_json()["network"]


def test_faults_are_switched_shown_and_ended(client: FlaskClient, simulator: Simulator) -> None:
    assert client.get(THREADS).get_json()["network"]["normal"] is True
    assert switch(client, delay_s=5, twice=True)["words"] == ["texts take 5 s", "everything told twice"]
    assert client.get(THREADS).get_json()["network"]["normal"] is False
    assert simulator.network.faults().delay_s == 5
    assert switch(client)["normal"] is True


def test_a_switch_that_is_turned_leaves_the_others_as_they_are(client: FlaskClient, simulator: Simulator) -> None:
    switch(client, delay_s=5)
    assert client.patch(FAULTS, json={"twice": True}).status_code == 200
    assert (simulator.network.faults().delay_s, simulator.network.faults().twice) == (5, True)
    answer = client.patch(FAULTS, json={"seed": -1})
    assert (answer.status_code, "seed is a whole number" in answer.get_json()["problem"]) == (400, True)
    assert client.patch(FAULTS, json={}, headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_typed_text_that_is_lost_stands_on_its_handset_and_never_comes(client: FlaskClient, db: Database) -> None:
    switch(client, lost_texts=100)
    assert type_on(client, AMA, "hello") == 200
    (text,) = threads(client)[AMA]["texts"]
    assert (text["state"], text["said"]) == ("lost", "lost on the way: it never came to us")
    with db.reading() as tx:
        assert lookups.list_all(tx) == []


def test_a_typed_text_that_is_told_twice_is_acted_on_once(client: FlaskClient, db: Database) -> None:
    switch(client, twice=True)
    assert type_on(client, LEAD, "groups") == 200
    with db.reading() as tx:
        assert len(lookups.list_all(tx)) == 2  # the text and its answer


def test_a_typed_text_that_is_late_is_seen_on_its_way_and_comes(client: FlaskClient, db: Database) -> None:
    switch(client, delay_s=0.4)
    type_on(client, AMA, "hello")
    assert [text["state"] for text in threads(client)[AMA]["texts"]] == ["on_its_way"]
    states = lambda: [text["state"] for text in threads(client)[AMA]["texts"]]  # noqa: E731
    until(lambda: states()[0] == "handled", "it comes")
    until(lambda: not any(thread.name == "air" for thread in threading.enumerate()), "nothing is in the air")
    assert states() == ["handled"]


def test_a_gateway_that_refused_our_number_is_asked_again_at_once_when_all_is_normal(
    client: FlaskClient, db: Database, simulator: Simulator
) -> None:
    switch(client, gateway="foreign_sender")
    with db.transaction() as tx:
        outbox.queue(tx, AMA, "hello", "text")
    send_all(db, simulator)
    with db.reading() as tx:
        assert [row.name for row in rate_limits.paused(tx)] == ["simulator"]
    switch(client)
    with db.reading() as tx:
        assert rate_limits.paused(tx) == []


@pytest.mark.parametrize("path", [TAKE_OUT, PUT_AWAY, FAULTS])
def test_nonsense_is_refused_everywhere_and_never_a_fault_of_ours(client: FlaskClient, path: str) -> None:
    for raw in RAW:
        answer = client.post(path, data=raw, content_type="application/json")
        assert answer.status_code == 400, raw[:40]
        assert "\n" not in answer.get_json()["problem"]
    assert client.get(THREADS).get_json()["network"]["normal"] is True


@pytest.mark.parametrize("path", [TAKE_OUT, PUT_AWAY, FAULTS])
def test_another_page_switches_nothing(client: FlaskClient, path: str) -> None:
    body = json.dumps({"phone": STRANGER} if path != FAULTS else {"gateway": "down"})
    for headers in (
        {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}, {"Origin": "null"},
        {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"}, {"X-Forwarded-For": "127.0.0.1"},
    ):  # fmt: skip
        told = {"Content-Type": "application/json", **headers}
        assert client.post(path, data=body, headers=told).status_code == 403, headers
    assert client.get(THREADS).get_json()["network"]["normal"] is True
    assert STRANGER not in threads(client)


@pytest.mark.parametrize("path", [TAKE_OUT, PUT_AWAY, FAULTS, "/phones/text"])
def test_nothing_is_switched_by_a_link(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 405


def test_without_the_book_of_the_network_everything_is_a_sentence_and_no_fault_of_ours(
    db: Database, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    client = app(db, Simulator(book=tmp_path / "file" / "phones.db", public_url=PUBLIC)).test_client()
    assert client.get(THREADS).status_code == 503
    for path, said in ((TEXT, {"phone": LEAD, "body": "menu"}), (TAKE_OUT, {"phone": STRANGER}), (FAULTS, {})):
        answer = client.post(path, json=said)
        assert answer.status_code == 503
        assert answer.get_json()["problem"] == "the book of the simulated network cannot be opened"
