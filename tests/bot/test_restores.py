"""Back to a backup: what left since is not sent again, what came since is not acted on again, and the rest goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import select, text, update

from bot import explaining, health
from bot.cli.backups import backup as backup_command
from bot.cli.backups import restore as restore_command
from bot.gateways.base import Request
from bot.gateways.simulator import Simulator
from bot.gateways.twilio import Twilio
from bot.inbound import intake
from bot.inbound.spool import Kept
from bot.worker.worker import Worker, only_one
from storage import audit, schema
from storage.audit import Actor
from storage.broadcasts import broadcasts, previews, progress
from storage.contacts import consent
from storage.conversations import conversations
from storage.database import Database, sqlite_is_safe
from storage.errors import Misconfigured
from storage.messages import gate, lookups, outbox
from storage.operations import operations
from storage.rules.hours_and_limits import Rules
from storage.upkeep import backups, migrate
from tests.patience import HANG_S
from tests.stub_twilio import StubTwilio
from tests.world import TEST, World

ACCOUNT, TOKEN = "AC" + "7" * 32, "a token"
LENA, AMA, KOFI = "233244000901", "233244000101", "233244000102"
OPERATOR = Actor("cli", None, "a test")


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def rules() -> Rules:
    return Rules(
        name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, digest=False,
        default_gateway="twilio", gateways=frozenset({"twilio"}),
    )  # fmt: skip


@pytest.fixture
def stub(clock: Any) -> Iterator[StubTwilio]:
    with StubTwilio(ACCOUNT, TOKEN) as running:
        running.now = lambda: clock().timestamp()
        yield running
        assert running.spec_faults == []


@pytest.fixture(autouse=True)
def _long_ago(db: Database, clock: Any) -> None:
    with db.transaction() as tx:
        tx.execute(update(schema.programme).values(created_at=clock() - timedelta(days=9)))


def twilio(stub: StubTwilio) -> Twilio:
    return Twilio(
        name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender=stub.number, messaging_service_sid=None,
        api_url=stub.url, rate_per_s=1000, timeout_s=HANG_S,
    )  # fmt: skip


def work(db: Database, gateway: Any, *, while_at_it: Callable[[], object] | None = None) -> None:
    """A worker starts, does all there is to do, and ends."""

    async def whole() -> None:
        worker = Worker(db, {gateway.name: gateway}, "https://sms.example.org")
        worker.start()
        await worker.turn()
        if while_at_it is not None:
            await asyncio.to_thread(while_at_it)
        await worker.drain()
        await worker.drain()
        await worker.finish()

    asyncio.run(whole())


def keep_asking(db: Database, gateway: Any, clock: Any, *, turns: int) -> None:
    """A worker for so many seconds: it asks about a few at a time."""

    async def whole() -> None:
        worker = Worker(db, {gateway.name: gateway}, "https://sms.example.org")
        worker.start()
        for _ in range(turns):
            clock.advance(seconds=1)
            await worker.drain()
        await worker.finish()

    asyncio.run(whole())


def queue(db: Database, phone: str, words: str = "Clinic on Monday", kind: str = "notice") -> int:
    with db.transaction() as tx:
        return outbox.queue(tx, phone, words, kind)


def look(db: Database, number: int) -> Any:
    with db.reading() as tx:
        return lookups.message(tx, number)


def states(db: Database) -> dict[str, int]:
    with db.reading() as tx:
        return lookups.count_states(tx)


def back_to(db: Database, file: Path, *, yes: bool = True) -> backups.Restored:
    db.close()
    done = backups.restore(db, file, yes=yes, by=OPERATOR)
    db.close()
    return done


# -- what left is not sent again ---------------------------------------------------------------------------------------


def test_a_hundred_that_left_since_the_backup_are_not_sent_again(
    db: Database, stub: StubTwilio, clock: Any, tmp_path: Path
) -> None:
    numbers = [queue(db, f"23324{n:07}", f"Clinic {n}") for n in range(100)]
    file = tmp_path / "night.db"
    backups.make(db, file)
    clock.advance(minutes=1)
    for _ in range(4):
        work(db, twilio(stub))
        clock.advance(seconds=2)
    assert states(db) == {"accepted": 100}
    assert len(stub.book) == 100

    assert back_to(db, file).held["messages"] == 100
    assert states(db) == {"unknown": 100}
    fresh = queue(db, "233244000777", "New")
    clock.advance(minutes=2)
    keep_asking(db, twilio(stub), clock, turns=40)
    clock.advance(minutes=31)
    keep_asking(db, twilio(stub), clock, turns=5)
    assert len(stub.book) == 101, "the hundred, once each, and the new one"
    assert look(db, fresh).state == "accepted"
    assert {look(db, n).state for n in numbers} == {"sent"}
    assert sorted(look(db, n).gateway_id for n in numbers) == sorted(m["sid"] for m in stub.book[:100])


def test_a_notice_that_never_left_goes_once_it_is_proved_and_a_broadcast_s_text_waits_for_a_person(
    db: Database, stub: StubTwilio, clock: Any, tmp_path: Path
) -> None:
    notice, told = queue(db, AMA), queue(db, KOFI, kind="text")
    backups.make(db, tmp_path / "b.db")
    back_to(db, tmp_path / "b.db")
    for _ in range(3):
        clock.advance(minutes=12)
        work(db, twilio(stub))
    assert look(db, notice).state == "accepted"
    assert (look(db, told).state, look(db, told).reason) == ("unresolved", "absent")
    assert [m["to"] for m in stub.book] == [f"+{AMA}"]


def test_what_was_in_doubt_at_the_backup_and_was_sent_again_since_is_found(
    db: Database, stub: StubTwilio, clock: Any, tmp_path: Path
) -> None:
    """The answer *absent* from before the backup proves nothing about what came after it."""
    stub.mode = "503"
    number = queue(db, AMA)
    work(db, twilio(stub))
    clock.advance(minutes=3)
    work(db, twilio(stub))
    backups.make(db, tmp_path / "b.db")
    stub.mode = "ok"
    clock.advance(minutes=12)
    work(db, twilio(stub))
    work(db, twilio(stub))
    assert len(stub.book) == 1
    back_to(db, tmp_path / "b.db")
    for _ in range(3):
        clock.advance(minutes=12)
        work(db, twilio(stub))
    assert look(db, number).state == "sent"
    assert len(stub.book) == 1


def test_the_simulated_network_is_asked_by_the_message_where_the_attempt_is_not_known(
    db: Database, clock: Any, tmp_path: Path
) -> None:
    gateway = Simulator(name="twilio", book=tmp_path / "book.db", public_url="http://127.0.0.1", receipts_after_s=None)
    number = queue(db, AMA)
    backups.make(db, tmp_path / "b.db")
    work(db, gateway)
    assert look(db, number).state == "accepted"
    back_to(db, tmp_path / "b.db")
    clock.advance(minutes=12)
    again = Simulator(name="twilio", book=tmp_path / "book.db", public_url="http://127.0.0.1", receipts_after_s=None)
    work(db, again)
    assert look(db, number).state in ("accepted", "delivered")
    assert len(again.network.handset(AMA)) == 1


def test_a_broadcast_that_went_out_since_is_counted_recipient_by_recipient_and_nobody_gets_it_twice(
    db: Database, stub: StubTwilio, clock: Any, tmp_path: Path
) -> None:
    world = World(db)
    group = world.group("anc", *(world.case(f"c{n}", f"23324500000{n}") for n in range(5)))
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "Clinic on Monday"}, group_ids=[group], words="tell", by=TEST)
        operations.decide(tx, number, "done", by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
    backups.make(db, tmp_path / "b.db")
    clock.advance(minutes=1)
    work(db, twilio(stub))
    clock.advance(seconds=5)
    work(db, twilio(stub))
    assert len(stub.book) == 5
    back_to(db, tmp_path / "b.db")
    clock.advance(minutes=5)
    keep_asking(db, twilio(stub), clock, turns=5)
    with db.reading() as tx:
        assert progress.progress(tx, number).states == {"sent": 5}
    assert len(stub.book) == 5


def test_a_broadcast_whose_hour_is_still_to_come_is_halted(db: Database, clock: Any, tmp_path: Path) -> None:
    world = World(db)
    group = world.group("anc", world.case("ama", AMA))
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "Clinic on Monday"}, group_ids=[group], words="tell", by=TEST)
        operations.decide(tx, number, "done", by=TEST)
        broadcasts.launch(tx, number, hold_s=3600, by=TEST)
    backups.make(db, tmp_path / "b.db")
    assert back_to(db, tmp_path / "b.db").held["halted"] == 1
    with db.reading() as tx:
        shown = progress.progress(tx, number)
    assert (shown.row.state, shown.states) == ("halted", {"cancelled": 1})


# -- what came is not acted on again -----------------------------------------------------------------------------------


def test_a_command_from_the_lost_time_is_set_aside_and_a_stop_from_it_counts(
    db: Database, stub: StubTwilio, clock: Any, tmp_path: Path
) -> None:
    world = World(db)
    world.person("Lena", LENA)
    world.case("ama", AMA)
    backups.make(db, tmp_path / "b.db")
    clock.advance(minutes=5)
    stub.arrive(LENA, "menu")
    stub.arrive(AMA, "STOP")
    keep_asking(db, twilio(stub), clock, turns=5)
    before = len(stub.book)
    assert [m["to"] for m in stub.book] == [f"+{LENA}"], "Twilio answers STOP itself"
    clock.advance(minutes=5)
    back_to(db, tmp_path / "b.db")
    clock.advance(minutes=1)
    stub.arrive(LENA, "groups")
    keep_asking(db, twilio(stub), clock, turns=5)
    answered = [m["to"] for m in stub.book[before:] if not m["body"].startswith("The system went back to")]
    assert answered == [f"+{LENA}"], "only what came after the restore is answered"
    with db.reading() as tx:
        assert not consent.may_text(tx, AMA)
        aside = lookups.list_all(tx, state="set_aside")
    assert {(row.body, row.reason) for row in aside} == {("menu", "restored"), ("STOP", "restored")}


def test_codes_and_questions_that_were_open_confirm_nothing_any_more(db: Database, clock: Any, tmp_path: Path) -> None:
    world = World(db)
    lena = world.person("Lena", LENA)
    ama = world.case("ama", AMA)
    with db.transaction() as tx:
        number = operations.ask(tx, "delete", words="delete anc", request={}, by=Actor("sms", lena.id))
        operations.issue_code(tx, number, lena.id)
        asked = outbox.queue(tx, AMA, "Is this your phone?", "text", case_id=ama)
        conversations.begin(tx, AMA, "invite", case_id=ama, operation_id=number, message_id=asked)
    backups.make(db, tmp_path / "b.db")
    back_to(db, tmp_path / "b.db")
    with db.reading() as tx:
        assert operations.operation(tx, number).state == "expired"
        assert conversations.live_on(tx, AMA) == []
        assert [row for row in tx.execute(select(schema.codes)) if row.expires_at > tx.now] == []


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_backup_made_while_the_worker_sends_is_whole_and_its_owner_s_alone(
    db: Database, stub: StubTwilio, tmp_path: Path
) -> None:
    World(db).group("anc", World(db).case("ama", AMA))
    for n in range(20):
        queue(db, f"23324{n:07}")
    file, other = tmp_path / "b.db", Database(str(db.url), db.rules, db.clock)
    work(db, twilio(stub), while_at_it=lambda: backups.make(other, file))
    other.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith((".jumbe", "b.db"))] == ["b.db"]
    with contextlib.closing(Database(f"sqlite:///{file}", db.rules, db.clock)) as copy:
        copy.check()
        assert audit.verify(copy.reading).breach is None


def test_a_restore_is_refused_while_anybody_has_the_database_open(db: Database, tmp_path: Path) -> None:
    backups.make(db, tmp_path / "b.db")
    if sqlite_is_safe():
        with pytest.raises(Misconfigured, match="is in use: stop web, worker and desk"):
            backups.restore(Database(str(db.url)), tmp_path / "b.db", yes=True, by=OPERATOR)


def test_a_restore_over_a_newer_life_needs_a_yes_and_keeps_the_old_file(
    db: Database, clock: Any, tmp_path: Path
) -> None:
    backups.make(db, tmp_path / "b.db")
    clock.advance(minutes=1)
    queue(db, AMA)
    with pytest.raises(Misconfigured, match="has gone on since the backup, until 2026-11-03 10:01:00 UTC"):
        back_to(db, tmp_path / "b.db", yes=False)
    assert states(db) == {"queued": 1}
    kept = back_to(db, tmp_path / "b.db").kept
    assert states(db) == {}
    with contextlib.closing(Database(f"sqlite:///{kept}")) as old:
        assert states(old) == {"queued": 1}


@pytest.mark.parametrize("harm", ["torn", "edited", "strange"])
def test_a_backup_that_does_not_hold_changes_nothing(db: Database, tmp_path: Path, harm: str) -> None:
    World(db).group("anc", World(db).case("ama", AMA))
    file = tmp_path / "b.db"
    backups.make(db, file)
    if harm == "torn":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif harm == "strange":
        file.write_text("no database")
    else:
        with contextlib.closing(Database(f"sqlite:///{file}")) as copy, copy.transaction() as tx:
            tx.execute(text("UPDATE audit SET door = 'desk' WHERE id = 2"))
    with db.reading() as tx:
        before = audit.head(tx)
    with pytest.raises(Misconfigured):
        back_to(db, file)
    with db.reading() as tx:
        assert audit.head(tx) == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".jumbe")] == []


def test_a_backup_never_goes_over_the_database_itself(db: Database, tmp_path: Path) -> None:
    assert db.file is not None
    (tmp_path / "link.db").symlink_to(db.file)
    for to in (db.file, tmp_path / "link.db"):
        with pytest.raises(Misconfigured, match="is a database in use"):
            backups.make(db, to)


def test_the_doctor_says_what_the_fence_holds(db: Database, tmp_path: Path) -> None:
    queue(db, AMA)
    backups.make(db, tmp_path / "b.db")
    assert "fence" not in [name for name, _, _ in health.examine(db)]
    back_to(db, tmp_path / "b.db")
    said = {name: (well, sentence) for name, well, sentence in health.examine(db)}
    assert said["fence"] == (
        False,
        "restored 2026-11-03 10:00 UTC from a backup of 2026-11-03 10:00 UTC; of what was open in it the gateway is asked"
        " about 1 message, a person decides about 0, and of what came in before 0 texts for a person to read",
    )
    assert said["audit"][0]


def test_the_life_of_a_message_that_the_fence_holds_says_so(db: Database, tmp_path: Path) -> None:
    number = queue(db, AMA)
    backups.make(db, tmp_path / "b.db")
    back_to(db, tmp_path / "b.db")
    with db.reading() as tx:
        told = [step["what"] for step in explaining.life(tx, number)]
    assert any("it counts as handed over then, because it may have left since" in what for what in told)
    assert "it was open in a backup that was restored; it may have left since" in told[-1]


def test_the_commands_print_the_head_and_the_fence(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    World(db).case("ama", AMA)
    monkeypatch.setenv("DATABASE_URL", str(db.url))
    file = tmp_path / "b.db"
    backup_command.main(["--to", str(file), "--json"], standalone_mode=False)
    told = json.loads(capsys.readouterr().out)
    with db.reading() as tx:
        assert (told["head"], told["size"]) == (audit.head(tx).hash, file.stat().st_size)
    db.close()
    with only_one(db.file), pytest.raises(Misconfigured, match="another worker serves"):
        restore_command.main([str(file)], standalone_mode=False)
    restore_command.main([str(file)], standalone_mode=False)
    assert "held back: 0 messages" in capsys.readouterr().out


# -- after it ----------------------------------------------------------------------------------------------------------


def test_a_receipt_of_the_lost_time_touches_no_new_message_of_the_same_number(
    db: Database, stub: StubTwilio, clock: Any, tmp_path: Path
) -> None:
    backups.make(db, tmp_path / "b.db")
    lost = queue(db, AMA, "Of the lost time")
    work(db, twilio(stub))
    old = look(db, lost)
    address = f"https://sms.example.org/status/twilio/{lost}?attempt={old.attempt_id}"
    (sent,) = [request for request in stub.requests if request.method == "POST"]
    assert dict(sent.form())["StatusCallback"] == address
    back_to(db, tmp_path / "b.db")
    fresh = queue(db, KOFI, "Of the new time")
    assert fresh == lost, "our numbers begin again where the backup ended"
    with db.transaction() as tx:
        (handed,), _ = gate.hand_over(tx, outbox.claim(tx, "twilio", "w", 1), "w", rate_per_s=100)
    form = stub.receipt_form(old.gateway_id, AMA, "undelivered", 21610)
    request = Request("POST", address, {"x-twilio-signature": stub.sign(address, form)}, urlencode(form).encode())
    kept = Kept("twilio", request, fresh, clock())
    assert intake.take(db, {"twilio": twilio(stub)}, kept, intake.spool_of(db)) == 200
    assert look(db, fresh).state == "sending"
    with db.transaction() as tx:
        assert consent.may_text(tx, KOFI)
        assert consent.may_text(tx, AMA)
        outbox.settle(tx, [outbox.Settled(fresh, handed.attempt_id, "accepted", gateway_id="SM" + "c" * 32)])
    assert look(db, fresh).state == "accepted"


def test_the_leads_are_told_once_after_a_restore(db: Database, stub: StubTwilio, clock: Any, tmp_path: Path) -> None:
    world = World(db)
    world.person("Lena", LENA)
    world.person("Rosa", "233244000902", language="es")
    world.person("Samuel", "233244000903", "supervisor")
    queue(db, AMA)
    backups.make(db, tmp_path / "b.db")
    clock.advance(hours=2)
    back_to(db, tmp_path / "b.db")
    for _ in range(3):
        work(db, twilio(stub))
        clock.advance(minutes=2)
    told = {m["to"]: m["body"] for m in stub.book if "10:00" in m["body"]}
    assert told == {
        f"+{LENA}": "The system went back to 3 Nov 10:00. What was done since is not in it: do it again, STOPs first."
        " In doubt: 1, not sent twice",
        "+233244000902": "El sistema ha vuelto al 3 nov 10:00. Lo hecho desde entonces no consta: repita, primero los"
        " STOP. En duda: 1, no se repiten",
    }
    assert len([m for m in stub.book if "10:00" in m["body"]]) == 2, "once each"
    backups.make(db, tmp_path / "c.db")
    back_to(db, tmp_path / "c.db")
    work(db, twilio(stub))
    assert len([m for m in stub.book if "12:0" in m["body"]]) == 2, "and once again after the next"


def test_a_backup_is_tried_without_a_change_and_one_that_would_not_hold_says_so(
    db: Database, clock: Any, tmp_path: Path
) -> None:
    world = World(db)
    world.group("anc", world.case("ama", AMA))
    queue(db, AMA)
    file = tmp_path / "b.db"
    made = backups.make(db, file)
    before, there = file.read_bytes(), sorted(p.name for p in tmp_path.iterdir())
    found = backups.check(db, file, by=OPERATOR)
    assert (found.head, found.lines, found.revision) == (made.head, made.lines, schema.REVISION)
    assert found.held["messages"] == 1
    assert (file.read_bytes(), sorted(p.name for p in tmp_path.iterdir())) == (before, there)
    assert states(db) == {"queued": 1}
    file.write_bytes(before[: len(before) // 2])
    with pytest.raises(Misconfigured):
        backups.check(db, file, by=OPERATOR)
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'other.db'}", db.rules, clock)) as other:
        migrate.upgrade(other)
        backups.make(other, tmp_path / "other-backup.db")
    with pytest.raises(Misconfigured, match="of another programme"):
        backups.check(db, tmp_path / "other-backup.db", by=OPERATOR)


def test_the_doctor_says_how_old_the_last_backup_is(db: Database, clock: Any, tmp_path: Path) -> None:
    def said() -> tuple[bool, str]:
        return next((well, told) for name, well, told in health.examine(db) if name == "backup")

    assert not said()[0]
    assert said()[1].startswith("none was ever made: run 'jumbe backup --to FILE' each night")
    backups.make(db, tmp_path / "b.db")
    clock.advance(hours=3)
    assert said() == (True, "the last one was made and verified 2026-11-03 10:00 UTC, 3 h ago")
    clock.advance(hours=24)
    well, told = said()
    assert not well
    assert "27 h ago, more than 26: run 'jumbe backup --to FILE'" in told
    back_to(db, tmp_path / "b.db")
    assert "made and verified 2026-11-03 10:00 UTC" in said()[1], "the backup it came from"
    db.rules = replace(db.rules, backup_h=0)
    assert said()[0]
    with db.transaction() as tx:
        tx.execute(update(schema.programme).values(rehearsal=True))
    assert "backup" not in [name for name, _, _ in health.examine(db)]


def test_the_command_tries_a_backup(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", str(db.url))
    World(db).case("ama", AMA)
    backups.make(db, tmp_path / "b.db")
    restore_command.main([str(tmp_path / "b.db"), "--check"], standalone_mode=False)
    assert "can be restored: it is of 2026-11-03 10:00:00 UTC, 1 line of the audit log" in capsys.readouterr().out
