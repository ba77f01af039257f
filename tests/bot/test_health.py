"""What the doctor says: each thing that can be wrong, and how it is mended."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from bot import health
from bot.cli import main
from storage import messages, pace, schema, workers
from storage.database import Database
from tests.postgres import Postgres


def said(db: Database) -> dict[str, tuple[bool, str]]:
    return {name: (well, sentence) for name, well, sentence in health.examine(db)}


def test_the_doctor_says_which_gateway_is_paused_why_and_until_when(db: Database, clock: Any) -> None:
    assert said(db)["paused"] == (True, "no gateway is paused")
    with db.transaction() as tx:
        pace.pause(tx, "twilio", until=clock() + timedelta(minutes=5), because="a wrong token (20003)")
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
            messages.queue(tx, phone, "Hello", "notice")
        ids = messages.claim(tx, "simulator", "w", 10)
        going, _ = messages.hand_over(tx, ids, "w", rate_per_s=10)
        due = clock() + timedelta(minutes=1)
        messages.settle(
            tx, [messages.Settled(h.id, h.attempt_id, "queued", reason="unreachable", due_at=due) for h in going]
        )
    well, sentence = said(db)["queue"]
    assert not well
    assert "2 messages for simulator, the oldest since 2026-11-03 10:00 UTC, could not be handed over" in sentence


def test_the_doctor_says_what_is_due_where_nothing_leaves(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        messages.queue(tx, "233244123456", "Hello", "notice", gateway="gone")
    assert said(db)["queue"][0]
    clock.advance(minutes=3)
    well, sentence = said(db)["queue"]
    assert not well
    assert "1 message for gone, the oldest since 2026-11-03 10:00 UTC, is due and does not leave" in sentence
    assert "by themselves" not in sentence  # no worker serves it: nothing tries


def test_the_doctor_does_not_look_for_a_network_fault_where_the_gateway_is_paused(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        messages.queue(tx, "233244123456", "Hello", "notice", gateway="twilio")
        pace.pause(tx, "twilio", until=clock() + timedelta(hours=1), because="a wrong token (20003)")
    clock.advance(minutes=3)
    assert said(db)["queue"] == (True, "what is due leaves")
    assert not said(db)["paused"][0]


def test_the_doctor_prints_every_remedy_to_its_end(
    db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{db.file}")
    with db.transaction() as tx:
        tx.execute(text("UPDATE programme SET rehearsal = false"))
        messages.queue(tx, "233244123456", "Hello", "notice")
        messages.hand_over(tx, messages.claim(tx, "simulator", "w", 1), "w", rate_per_s=1)
        tx.execute(text("UPDATE messages SET state = 'unknown'"))
    db.close()
    assert main(["doctor"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "a person decides about" in out
    assert "None is ever sent again without proof" in out
    assert "..." not in out


def test_a_long_queue_that_moves_is_well(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        for n in range(5):
            messages.queue(tx, f"23324412345{n}", "Hello", "notice")
    clock.advance(minutes=10)
    with db.transaction() as tx:
        messages.hand_over(tx, messages.claim(tx, "simulator", "w", 1), "w", rate_per_s=1)
    assert said(db)["queue"][0]


def test_the_doctor_says_how_many_are_in_doubt_and_since_when(db: Database, clock: Any) -> None:
    assert said(db)["unknown"] == (True, "no message is in doubt")
    with db.transaction() as tx:
        messages.queue(tx, "233244123456", "Hello", "notice")
        messages.hand_over(tx, messages.claim(tx, "simulator", "w", 1), "w", rate_per_s=1)
    clock.advance(minutes=5)
    with db.transaction() as tx:
        messages.end_leases(tx)
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
    from bot.intake import spool_of
    from bot.spool import Kept

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
            number = messages.queue(tx, f"23324123456{n}", "Hello", "notice")
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
