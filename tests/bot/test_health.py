"""What the doctor says: each thing that can be wrong, and how it is mended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from bot import health
from storage import messages
from storage.database import Database


def said(db: Database) -> dict[str, tuple[bool, str]]:
    return {name: (well, sentence) for name, well, sentence in health.examine(db)}


def test_the_doctor_says_which_gateway_is_paused_why_and_until_when(db: Database, clock: Any) -> None:
    assert said(db)["paused"] == (True, "no gateway is paused")
    with db.transaction() as tx:
        messages.pause(tx, "twilio", until=clock() + timedelta(minutes=5), because="a wrong token (20003)")
    well, sentence = said(db)["paused"]
    assert not well
    assert "twilio is paused until 2026-11-03 10:05 UTC: a wrong token (20003)" in sentence
    clock.advance(minutes=5)
    assert said(db)["paused"][0]


def test_the_doctor_says_which_line_of_the_audit_log_was_changed(db: Database, world: Any) -> None:
    world.group("anc", world.case("ama", "233244123456"))
    assert said(db)["audit"] == (True, "every line of the audit log holds")
    with db.transaction() as tx:
        tx.execute(text("UPDATE audit SET door = 'desk' WHERE id = 2"))
    well, sentence = said(db)["audit"]
    assert not well
    assert sentence.startswith("line 2 of the audit log")
