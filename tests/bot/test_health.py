"""What the doctor says: each thing that can be wrong, and how it is mended."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, text, update

from bot import health
from bot.cli import main
from bot.inbound.spool import Spool
from storage import audit, schema
from storage.database import Database
from storage.messages import gate, inbox, leases, outbox, receipts
from storage.programme import rate_limits, workers
from storage.upkeep import migrate
from tests.postgres import Postgres
from tests.storage.tampering import FORGET


def said(db: Database) -> dict[str, tuple[bool, str]]:
    return {name: (well, sentence) for name, well, sentence in health.examine(db)}


def test_the_doctor_says_which_gateway_is_paused_why_and_until_when(db: Database, clock: Any) -> None:
    assert said(db)["paused"] == (True, "no gateway is paused")
    with db.transaction() as tx:
        rate_limits.pause(tx, "twilio", until=clock() + timedelta(minutes=5), because="a wrong token (20003)")
    well, sentence = said(db)["paused"]
    assert not well
    assert "twilio is paused until 2026-11-03 10:05 UTC: a wrong token (20003)" in sentence
    clock.advance(minutes=5)
    assert said(db)["paused"][0]


def test_the_doctor_says_which_line_of_the_audit_log_was_changed(db: Database, world: Any) -> None:
    world.group("anc", world.case("ama", "233244123456"))
    well, sentence = said(db)["audit"]
    assert well
    assert sentence.startswith("Every line holds, 3 in all; the head is ")
    with db.transaction() as tx:
        tx.execute(text("UPDATE audit SET door = 'desk' WHERE id = 2"))
    well, sentence = said(db)["audit"]
    assert not well
    assert "line 2 of 2026-11-03 10:00:00 UTC was edited; 1 line holds before it" in sentence


def test_the_doctor_says_what_is_queued_and_cannot_be_handed_to_its_gateway(db: Database, clock: Any) -> None:
    assert said(db)["queue"] == (True, "what is due leaves")
    with db.transaction() as tx:
        for phone in ("233244123456", "233244123457"):
            outbox.queue(tx, phone, "Hello", "notice")
        ids = outbox.claim(tx, "simulator", "w", 10)
        going, _ = gate.hand_over(tx, ids, "w", rate_per_s=10)
        due = clock() + timedelta(minutes=1)
        outbox.settle(
            tx, [outbox.Settled(h.id, h.attempt_id, "queued", reason="unreachable", due_at=due) for h in going]
        )
    well, sentence = said(db)["queue"]
    assert not well
    assert "2 messages for simulator, the oldest since 2026-11-03 10:00 UTC, could not be handed over" in sentence


def test_the_doctor_says_what_is_due_where_nothing_leaves(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        outbox.queue(tx, "233244123456", "Hello", "notice", gateway="gone")
    assert said(db)["queue"][0]
    clock.advance(minutes=3)
    well, sentence = said(db)["queue"]
    assert not well
    assert "1 message for gone, the oldest since 2026-11-03 10:00 UTC, is due and does not leave" in sentence
    assert "by themselves" not in sentence  # no worker serves it: nothing tries


def test_the_doctor_does_not_look_for_a_network_fault_where_the_gateway_is_paused(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        outbox.queue(tx, "233244123456", "Hello", "notice", gateway="twilio")
        rate_limits.pause(tx, "twilio", until=clock() + timedelta(hours=1), because="a wrong token (20003)")
    clock.advance(minutes=3)
    assert said(db)["queue"] == (True, "what is due leaves")
    assert not said(db)["paused"][0]


def test_the_doctor_prints_every_remedy_to_its_end(
    db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{db.file}")
    with db.transaction() as tx:
        tx.execute(text("UPDATE programme SET rehearsal = false"))
        outbox.queue(tx, "233244123456", "Hello", "notice")
        gate.hand_over(tx, outbox.claim(tx, "simulator", "w", 1), "w", rate_per_s=1)
        tx.execute(text("UPDATE messages SET state = 'unknown'"))
    db.close()
    assert main(["doctor"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "a person decides about" in out
    assert "None is ever sent again without proof" in out
    assert "no gateway is set: set TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, TWILIO_FROM and PUBLIC_URL" in out
    assert "..." not in out


def test_a_long_queue_that_moves_is_well(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        for n in range(5):
            outbox.queue(tx, f"23324412345{n}", "Hello", "notice")
    clock.advance(minutes=10)
    with db.transaction() as tx:
        gate.hand_over(tx, outbox.claim(tx, "simulator", "w", 1), "w", rate_per_s=1)
    assert said(db)["queue"][0]


def test_the_doctor_says_how_many_are_in_doubt_and_since_when(db: Database, clock: Any) -> None:
    assert said(db)["unknown"] == (True, "no message is in doubt")
    with db.transaction() as tx:
        outbox.queue(tx, "233244123456", "Hello", "notice")
        gate.hand_over(tx, outbox.claim(tx, "simulator", "w", 1), "w", rate_per_s=1)
    clock.advance(minutes=5)
    with db.transaction() as tx:
        leases.end_leases(tx)
    well, sentence = said(db)["unknown"]
    assert not well
    assert sentence.startswith("1 message may or may not have been sent, the oldest since 2026-11-03 10:05 UTC")


def test_the_doctor_says_which_postgresql_it_is_and_how_many_workers_serve_it(postgres: Postgres, rules: Any) -> None:
    with postgres.database() as address, contextlib.closing(Database(address, rules)) as db:
        told = said(db)
        assert told["worker"] == (False, "no worker was heard of for 20 seconds: start 'jumbe worker'")
        with db.transaction() as tx:
            workers.beat(tx, "one")
        assert said(db)["worker"] == (True, "a worker is at work")
        with db.transaction() as tx:
            workers.beat(tx, "two")
        assert said(db)["worker"] == (True, "2 workers are at work")
        well, sentence = told["postgresql"]
        with db.reading() as tx:
            synced = tx.scalar(text("SHOW fsync")) == tx.scalar(text("SHOW synchronous_commit")) == "on"
    assert well is synced and sentence.startswith("PostgreSQL ")
    assert ("any number of workers" if synced else "a power cut may take back") in sentence


def test_the_doctor_says_how_many_webhooks_wait_for_the_database(db: Database, clock: Any) -> None:
    from bot.gateways.base import Request
    from bot.health import spooled
    from bot.inbound.intake import spool_of
    from bot.inbound.spool import Kept

    spool = spool_of(db)
    assert spooled(spool) == ("spool", True, "no webhook waits for the database")
    for _ in range(3):
        spool.keep(Kept("twilio", Request("POST", "https://sms.example.org/in/twilio", {}, b""), None, clock()))
    about, well, sentence = spooled(spool)
    assert (about, well) == ("spool", False)
    assert sentence.startswith("3 webhooks wait in ")


def test_the_doctor_tells_whom_the_gateway_is_asked_about_from_those_left_to_a_person(db: Database) -> None:
    with db.transaction() as tx:
        for n, state in enumerate(("unknown", "unresolved", "unresolved")):
            number = outbox.queue(tx, f"23324123456{n}", "Hello", "notice")
            change = schema.messages.update().where(schema.messages.c.id == number)
            tx.execute(change.values(state=state, attempts=1, settled_at=tx.now, handed_over_at=tx.now))
    sentence = said(db)["unknown"][1]
    assert "asked about 1 " in sentence
    assert "decides about 2 " in sentence


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "TWILIO_AUTHTOKEN",
            "x",
            "TWILIO_AUTHTOKEN is no setting of Jumbe, perhaps you mean TWILIO_AUTH_TOKEN: it is not read",
        ),
        ("TWILIO_WORKSPACE", "x", "TWILIO_WORKSPACE is no setting of Jumbe: it is not read"),
        (
            "JUMBE_LANGUAGE",
            "sw-KE",
            "JUMBE_LANGUAGE is 'sw-KE', in which the bot has no sentences: it answers in English;",
        ),
        ("JUMBE_LANGUAGE", "es-MX", None),
        ("TWILIO_RATE", "2", None),
    ],
)
def test_what_is_set_and_does_nothing_is_said(
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    told: str | None,
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{db.file}")
    monkeypatch.delenv("TWILIO_SPEC", raising=False)
    monkeypatch.setenv(name, value)
    db.close()
    assert main(["doctor", "--json"]) == 1  # a database nobody works on
    said = {line["about"]: line["says"] for line in json.loads(capsys.readouterr().out)}
    assert said.get("settings", "").startswith(told) if told else "settings" not in said
    assert main(["settings"]) == 0
    shown = capsys.readouterr().err
    assert f"jumbe: {told}" in shown if told else shown == ""


def test_a_route_is_told_for_a_number_and_not_for_what_is_none(
    db: Database, world: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{db.file}")
    world.case("p-104")
    db.close()
    assert main(["route", "abc"]) == 2
    assert '"abc" has letters in it' in capsys.readouterr().err
    assert main(["route", "--case", "p-104", "--json"]) == 0
    assert "once the case has a number" in capsys.readouterr().out
    assert main(["route", "233244123456", "--json"]) == 0
    assert "once" not in capsys.readouterr().out


# -- what a monitor reads ----------------------------------------------------------------------------------------------


def ready(db: Database, spool: Spool | None = None) -> tuple[int, list[str], list[str]]:
    app = Flask(__name__)
    app.register_blueprint(health.blueprint(db, spool))
    answer = app.test_client().get("/readyz")
    told = json.loads(answer.data)
    return answer.status_code, told["faults"], told["warnings"]


@pytest.fixture
def served(db: Database) -> Database:
    with db.transaction() as tx:
        workers.beat(tx, "w")
    assert ready(db) == (200, [], [])
    return db


def test_readyz_says_that_a_gateway_is_paused_and_shows_neither_number_nor_answer(served: Database, clock: Any) -> None:
    with served.transaction() as tx:
        rate_limits.pause(
            tx, "twilio", until=clock() + timedelta(minutes=5), because="said of 233244123456: no (20003)"
        )
    assert ready(served) == (200, [], ["twilio is paused, or a number of ours there: 'jumbe doctor' says why"])


def test_readyz_says_that_messages_are_in_doubt_and_that_the_backup_is_old(served: Database, clock: Any) -> None:
    with served.transaction() as tx:
        tx.execute(update(schema.programme).values(created_at=tx.now))
        outbox.queue(tx, "233244123456", "Hello", "notice")
        tx.execute(update(schema.messages).values(state="unknown"))
    assert ready(served)[2] == ["1 message may or may not have been sent: 'jumbe doctor' says since when"]
    clock.advance(hours=27)
    with served.transaction() as tx:
        workers.beat(tx, "w")
    assert ready(served)[2][-1].startswith("none was ever made: run 'jumbe backup --to FILE' each night")


def test_a_clock_that_is_behind_what_was_written_is_said(served: Database, clock: Any) -> None:
    clock.advance(minutes=-5)
    well, sentence = said(served)["clock"]
    assert not well
    assert "it is 2026-11-03 09:55 UTC here, and a worker wrote at 2026-11-03 10:00 UTC: set the clocks" in sentence
    assert ready(served)[2] == [sentence]


def test_a_disk_that_is_nearly_full_is_said_with_the_next_step(
    served: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOW_DISK", 2**60)  # of which no disk has more
    well, sentence = said(served)["disk"]
    assert not well
    says = "MiB free where the database is: make room, for when it is full no text can be kept"
    assert sentence.endswith(says)
    assert [told.endswith(says) for told in ready(served)[2]] == [True]


def test_webhooks_that_wait_are_said_while_no_worker_is_there(served: Database, clock: Any, tmp_path: Any) -> None:
    spool = Spool(tmp_path / "kept")
    spool.path.write_bytes(b"{}\n")
    clock.advance(minutes=1)
    status, faults, told = ready(served, spool)
    assert (status, told) == (503, ["1 webhooks wait for the database, 0 were set aside"])
    assert faults == ["no worker was heard of for 20 seconds: start 'jumbe worker'"]


def test_a_schema_that_is_behind_is_said_with_the_next_step(served: Database) -> None:
    migrate.downgrade(served, "0005")
    status, (fault,), _ = ready(served)
    assert status == 503
    assert fault.endswith(f"is at revision 0005 and this release needs {schema.REVISION}: run 'jumbe db upgrade'")
    assert said(served)["database"] == (False, fault)


def test_a_gateway_that_sends_no_receipts_is_said(served: Database, clock: Any) -> None:
    with served.transaction() as tx:
        outbox.queue(tx, "233244123456", "Hello", "notice")
        tx.execute(
            update(schema.messages).values(
                state="accepted", gateway="simulator", gateway_id="S1", handed_over_at=tx.now
            )
        )
    assert "receipts" not in said(served)
    clock.advance(hours=2)
    well, sentence = said(served)["receipts"]
    assert not well
    assert sentence.startswith(
        "simulator took 1 message since 2026-11-03 10:00 UTC and sent no receipt: see that PUBLIC_URL"
    )
    with served.transaction() as tx:
        tx.execute(
            insert(schema.receipts).values(
                gateway="simulator", message_id=9, gateway_id="S0", state="sent", word="sent", moved=True, at=tx.now
            )
        )
    assert "receipts" not in said(served)


def scraped(db: Database) -> dict[str, float]:
    app = Flask(__name__)
    app.register_blueprint(health.blueprint(db))
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_a_scrape_counts_what_is_open_and_what_came_of_the_last_minutes(db: Database, clock: Any) -> None:
    assert scraped(db)['jumbe_messages{state="unknown"}'] == 0
    with db.transaction() as tx:
        for n, state in enumerate(("queued", "claimed", "sending", "unknown", "unresolved", "delivered", "expired")):
            number = outbox.queue(tx, f"23324412345{n}", "Hello", "notice" if n else "text")
            change = update(schema.messages).where(schema.messages.c.id == number)
            tx.execute(change.values(state=state, lease_until=tx.now if state in ("claimed", "sending") else None))
        inbox.record_inbound(tx, gateway="g", gateway_id="1", sender="233244123456", text="?")
        inbox.record_inbound(
            tx, gateway="g", gateway_id="2", sender="233244123456", text="?", set_aside="restored"
        )  # fmt: skip
        for word in ("sent", "delivered"):
            receipts.receive_receipt(
                tx, gateway="g", message_id=1, gateway_id="S", state=word, word=word, code=None
            )  # fmt: skip
    found = scraped(db)
    states = ("received", "queued", "claimed", "sending", "unknown", "unresolved", "set_aside")
    assert {state: found[f'jumbe_messages{{state="{state}"}}'] for state in states} == dict.fromkeys(states, 1)
    assert 'jumbe_messages{state="delivered"}' not in found, "of what is over there is ever more"
    assert (found["jumbe_messages_total"], found["jumbe_receipts_total"]) == (9, 2)
    assert found['jumbe_receipts_recent{state="delivered"}'] == 1
    clock.advance(minutes=6)
    assert 'jumbe_receipts_recent{state="delivered"}' not in scraped(db)


def test_page_00_says_that_it_read_the_newest_lines_only(db: Database, world: Any, monkeypatch: Any) -> None:
    world.group("anc", world.case("ama", "233244123456"))
    monkeypatch.setattr(audit, "NEWEST", 2)
    told = {name: says for name, _, says in health.examine(db, at_once=True)}
    assert told["audit"].startswith("the newest 2 lines hold; 'jumbe audit verify' reads every line. The head is ")
    assert said(db)["audit"][1].startswith("Every line holds, 3 in all")
    with db.transaction() as tx:
        tx.execute(text(f"{FORGET} true"))
    told = {subject: sentence for subject, _, sentence in health.examine(db, at_once=True)}
    assert told["audit"].endswith(" The values of 1 change under these lines were forgotten.")
