"""Several writers at once: what holds when two workers, two texts or two sheets come at the same moment.

On SQLite they take turns by nature; on PostgreSQL this is what `in_turn` and the locks are for.
"""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from bot.gateways.base import Inbound
from bot.inbound import listeners
from storage import audit, database
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion, previews, progress
from storage.contacts import cases, consent, groups, lookup, people
from storage.contacts.cases import Wanted
from storage.database import Database, Lost
from storage.errors import Problem
from storage.messages import gate, leases, lookups, outbox, receipts
from storage.messages.outbox import Settled
from storage.operations import codes
from storage.programme import rate_limits
from storage.schema import gateways
from storage.schema import messages as table
from tests.patience import HANG_MS, happened, joined, until, work
from tests.world import TEST, World

PHONES = [f"2332000000{n:02}" for n in range(20)]


@pytest.fixture
def others(db, address):
    """Four more Database objects on the same database, as four other processes have them."""
    made = [Database(address, db.rules, db.clock) for _ in range(4)]
    yield made
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def _nobody_gives_up(monkeypatch):
    """How long a writer waits is another thing than whether two of them harm each other, and has tests of its own below."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", int(HANG_MS))


def at_once(*acts):
    """Run these at the same moment; returns what each returned, or the exception that it raised."""
    gate = threading.Barrier(len(acts))

    def run(act):
        gate.wait()
        try:
            return act()
        except Exception as fault:  # noqa: BLE001  the outcome is looked at
            return fault

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def queue_some(db, phones, times=1):
    with db.transaction() as tx:
        return [outbox.queue(tx, p, f"text {n}", "text") for n in range(times) for p in phones]


# -- the turn ----------------------------------------------------------------------------------------------------------


def test_the_audit_log_is_one_chain_whoever_writes(db, others):
    def write(which, name):
        for n in range(10):
            with which.transaction() as tx:
                audit.record(tx, "test", name, n, by=TEST)

    at_once(*(lambda w=w, n=n: write(w, f"writer {n}") for n, w in enumerate(others)))
    found = audit.verify(db.reading)
    assert (found.breach, found.holds) == (None, 40)


def test_lines_that_are_written_out_of_turn_are_one_chain_too(db, others):
    def write(which):
        for n in range(10):
            with which.transaction(in_turn=False) as tx:
                audit.record(tx, "test", "anything", n, by=TEST)

    at_once(*(lambda w=w: write(w) for w in others))
    found = audit.verify(db.reading)
    assert (found.breach, found.holds) == (None, 40)


def test_who_waited_for_the_turn_writes_at_the_later_time(db, others, clock):
    began = threading.Event()

    def wait_and_write():
        began.set()
        with others[0].transaction() as tx:
            return tx.now

    with ThreadPoolExecutor(1) as pool:
        with db.transaction() as tx:
            groups.create(tx, "anc", by=TEST)
            late = pool.submit(wait_and_write)
            happened(began)
            work(0.05)
            now = clock.advance(seconds=3)
        assert late.result() == now


def test_one_number_that_two_verify_at_once_has_one_owner_and_one_who_waits(db, others):
    def claim_number(which, name):
        wanted = {"external_id": name, "contact_phone_number": PHONES[0], "contact_phone_number_is_verified": True}
        with which.transaction() as tx:
            return cases.save(tx, [Wanted(None, wanted)], by=TEST)[0]

    made = at_once(*(lambda w=w, n=n: claim_number(w, f"case {n}") for n, w in enumerate(others)))
    assert all(isinstance(number, int) for number in made), made
    with db.reading() as tx:
        standing = cases.standing(tx, lookup.contact(tx, made[0]))
    assert standing.owner is not None and len(standing.waiting) == 3


@pytest.mark.parametrize(("verb", "key"), [("group", "group-exists"), ("person", "person-exists")])
def test_what_two_make_at_once_is_made_once_and_the_second_is_told(others, verb, key):
    def make(which):
        with which.transaction() as tx:
            if verb == "group":
                return groups.create(tx, "anc", by=TEST)
            return people.add(tx, "Esi Mensah", PHONES[0], "lead", by=TEST)

    outcomes = at_once(*(lambda w=w: make(w) for w in others))
    refused = [o for o in outcomes if isinstance(o, Exception)]
    assert len(refused) == 3
    assert {str(o.key) for o in refused if isinstance(o, Problem)} == {key}


def test_one_text_that_comes_twice_at_once_is_taken_once(db, others):
    came = [lambda w=w: listeners.take(w, "simulator", Inbound("SM1", PHONES[0], "", "hello")) for w in others]
    assert sorted(at_once(*came)) == [False, False, False, True]
    with db.reading() as tx:
        assert lookups.count_states(tx)["handled"] == 1


def test_texts_of_one_sender_count_in_the_order_in_which_they_are_kept(db, others):
    """Each STOP and START is heard with its text, so what was kept last is what holds."""
    for n in range(5):
        words = ["stop", "start", "stop", "start"]
        came = [
            lambda w=w, word=word, sid=f"SM{n}{k}": listeners.take(w, "simulator", Inbound(sid, PHONES[0], "", word))
            for k, (w, word) in enumerate(zip(others, words, strict=True))
        ]
        assert at_once(*came) == [True] * 4
    with db.reading() as tx:
        kept = [row.body for row in reversed(lookups.list_all(tx, direction="in"))]
        assert [event.kind for event in consent.history(tx, PHONES[0])] == kept
        assert consent.newest(tx, PHONES[0]) == kept[-1]
        assert all(row.state == "handled" for row in lookups.list_all(tx, direction="in"))


def test_a_code_that_is_typed_twice_at_once_confirms_once(db, others):
    world = World(db)
    world.group("anc", world.case("ama", PHONES[0]))
    esi = world.person("Esi Mensah", PHONES[1])
    listeners.take(db, "simulator", Inbound("SM1", PHONES[1], "", "tell anc Clinic closed Friday"))
    with db.reading() as tx:
        typed = codes.sent(tx, esi.id).pop()
    came = [
        lambda w=w, k=k: listeners.take(w, "simulator", Inbound(f"OK{k}", PHONES[1], "", f"ok {typed}"))
        for k, w in enumerate(others)
    ]
    assert at_once(*came) == [True] * 4
    with db.reading() as tx:
        launched = [line for line in audit.list_last(tx) if line.verb == "broadcasts.launch"]
    assert len(launched) == 1


def test_a_reader_sees_one_moment_whatever_is_written_beside_it(db, others):
    with others[0].reading() as look:
        assert lookups.count_states(look) == {}
        queue_some(db, PHONES)
        assert lookups.count_states(look) == {}
        assert consent.may_text(look, PHONES[0])


# -- what runs beside others -------------------------------------------------------------------------------------------


def test_workers_that_claim_at_once_never_hold_one_message_twice_nor_two_of_one_phone(db, others):
    """Four workers claim, hand over and settle until nothing is left; meanwhile replies come in ahead of what waits."""
    queue_some(db, PHONES, times=4)
    flying: Counter[str] = Counter()
    sent: Counter[int] = Counter()
    watch, faults, all_queued = threading.Lock(), [], threading.Event()

    def serve(which, owner):
        idle = 0
        while idle < 5 or not all_queued.is_set():
            with which.transaction(in_turn=False) as tx:
                ids = outbox.claim(tx, "simulator", owner, 7)
            if not ids:
                idle += 1
                work(0.01)
                continue
            idle = 0
            with which.transaction(in_turn=False) as tx:
                going, waiting = gate.hand_over(tx, ids, owner, rate_per_s=1000)
                leases.release(tx, waiting, owner)
            with watch:
                for handed in going:
                    sent[handed.id] += 1
                    flying[handed.address] += 1
                    if flying[handed.address] > 1:
                        faults.append(f"two in flight to {handed.address}")
            work(0.002)
            with watch:
                for handed in going:
                    flying[handed.address] -= 1
            with which.transaction(in_turn=False) as tx:
                outbox.settle(tx, [Settled(h.id, h.attempt_id, "accepted", gateway_id=f"SM{h.id}") for h in going])

    def reply():
        for n in range(40):
            with db.transaction() as tx:
                outbox.queue(tx, PHONES[n % 20], f"reply {n}", "reply")
        all_queued.set()

    outcomes = at_once(*(lambda w=w, n=n: serve(w, f"worker {n}") for n, w in enumerate(others)), reply)
    assert outcomes == [None] * 5
    assert faults == []
    assert set(sent.values()) == {1} and len(sent) == 120


def test_a_bucket_grants_no_more_to_four_workers_than_to_one(db, others):
    queue_some(db, PHONES)

    def work(which, owner):
        with which.transaction(in_turn=False) as tx:
            ids = outbox.claim(tx, "simulator", owner, 5)
        with which.transaction(in_turn=False) as tx:
            return len(gate.hand_over(tx, ids, owner, rate_per_s=8)[0])

    granted = at_once(*(lambda w=w, n=n: work(w, f"worker {n}") for n, w in enumerate(others)))
    assert sum(granted) == 8, granted


def test_a_worker_whose_clock_is_behind_does_not_fill_the_bucket_twice(db, others, clock):
    queue_some(db, PHONES)
    early = clock.now

    def hand_over(at, owner):
        clock.now = at
        with db.transaction(in_turn=False) as tx:
            ids = outbox.claim(tx, "simulator", owner, 6)
            return len(gate.hand_over(tx, ids, owner, rate_per_s=4)[0])

    later = early + timedelta(seconds=1)
    assert [hand_over(at, str(at)) for at in (later, early, later)] == [4, 0, 0]


def test_a_broadcast_is_written_once_by_two_workers_and_halted_as_a_whole(db, others, monkeypatch):
    monkeypatch.setattr(expansion, "RANGE", 10)
    world = World(db)
    numbers = []
    for short in ("anc", "tb"):
        members = [world.case(f"{short} {n}", f"23320{n:03}{len(short)}000") for n in range(45)]
        group = world.group(short, *members)
        with db.transaction() as tx:
            numbers.append(previews.draft(tx, {"en": "Hello"}, group_ids=[group], by=TEST))
            broadcasts.launch(tx, numbers[-1], hold_s=0, by=TEST)

    def expand(which):
        found = True
        while found:
            with which.transaction() as tx:
                found = expansion.expand_next(tx)

    def halt():
        work(0.02)
        with db.transaction() as tx:
            broadcasts.halt(tx, numbers[0], by=TEST)

    assert at_once(*(lambda w=w: expand(w) for w in others), halt) == [None] * 5
    expand(db)
    with db.reading() as tx:
        for number in numbers:
            assert sum(progress.progress(tx, number).states.values()) == 45
        assert set(progress.progress(tx, numbers[0]).states) == {"cancelled"}


def test_nobody_waits_for_ever_when_workers_receipts_and_verbs_meet(db, others):
    """Every kind of writer at once, for a while: no deadlock, no fault, and the log holds."""
    world = World(db)
    members = [world.case(f"p{n}", phone) for n, phone in enumerate(PHONES)]
    group = world.group("anc", *members)
    over = threading.Event()

    def worker(which, owner):
        while not over.is_set():
            with which.transaction() as tx:
                leases.end_leases(tx)
                outbox.expire(tx)
                outbox.adopt(tx)
                broadcasts.put_away_unconfirmed(tx)
                expansion.finish(tx)
                expansion.expand_next(tx)
            with which.transaction(in_turn=False) as tx:
                ids = outbox.claim(tx, "simulator", owner, 10)
            with which.transaction(in_turn=False) as tx:
                going, waiting = gate.hand_over(tx, ids, owner, rate_per_s=1000)
                leases.release(tx, waiting, owner)
            for handed in going[::2]:
                with which.transaction(in_turn=False) as tx:
                    receipts.receive_receipt(tx, gateway="simulator", message_id=handed.id, gateway_id=f"SM{handed.id}", state="sent", word="sent", code=None)  # fmt: skip
            with which.transaction(in_turn=False) as tx:
                outbox.settle(tx, [Settled(h.id, h.attempt_id, "accepted", gateway_id=f"SM{h.id}") for h in going])

    def verbs(which):
        for _ in range(15):
            with which.transaction() as tx:
                number = previews.draft(tx, {"en": "Hello"}, group_ids=[group], by=TEST)
                broadcasts.launch(tx, number, hold_s=0, by=TEST)
            with which.transaction() as tx:
                cases.save(tx, [Wanted(members[number % 20], {"name": f"Ama {number}"})], by=TEST)
                rate_limits.pause(tx, "simulator", until=tx.now - timedelta(seconds=1), because="test")
            with which.transaction() as tx:
                broadcasts.halt(tx, number, by=TEST)

    a, b, c, d = others
    left = threading.Barrier(2, over.set)

    def all_verbs(which):
        try:
            verbs(which)
        finally:
            happened(left)

    acts = [lambda: worker(a, "a"), lambda: worker(b, "b"), lambda: all_verbs(c), lambda: all_verbs(d)]
    assert at_once(*acts) == [None] * 4
    assert audit.verify(db.reading).breach is None
    with db.transaction() as tx:
        # On a busy machine every broadcast may have been halted before a worker came to write its messages.
        while expansion.expand_next(tx):
            pass
        assert tx.scalar(select(func.count()).select_from(table)) > 0


# -- PostgreSQL's own --------------------------------------------------------------------------------------------------


def waits_for_a_lock(db):
    """Whether some connection of this database waits for another."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with db.reading() as tx:
        return tx.scalar(text(waiting)) > 0


@pytest.mark.only("postgresql")
def test_a_claim_waits_for_one_that_it_cannot_see_yet(db, others):
    """The race itself: a reply comes in while another worker's claim of the same phone is not committed."""
    (bulk,) = queue_some(db, PHONES[:1])
    done = []

    def claim_reply():
        with others[0].transaction(in_turn=False) as tx:
            done.append(outbox.claim(tx, "simulator", "two", 10))

    with db.transaction(in_turn=False) as tx:
        assert outbox.claim(tx, "simulator", "one", 10) == [bulk]
        with others[1].transaction() as second:
            outbox.queue(second, PHONES[0], "a reply", "reply")
        late = threading.Thread(target=claim_reply)
        late.start()
        until(lambda: waits_for_a_lock(others[2]), "it waits")
        assert done == []
    joined(late)
    assert done == [[]]


@pytest.mark.only("postgresql")
def test_a_worker_that_was_thought_dead_hands_over_nothing_that_another_has_claimed(db, others, clock):
    (number,) = queue_some(db, PHONES[:1])
    with db.transaction(in_turn=False) as tx:
        outbox.claim(tx, "simulator", "slow", 1)
    clock.advance(minutes=3)
    with db.transaction(in_turn=False) as slow:
        going, _ = gate.hand_over(slow, [number], "slow", rate_per_s=10)
        with others[0].transaction() as tx:
            assert leases.end_leases(tx) == (0, 0)
        with others[0].transaction(in_turn=False) as tx:
            assert outbox.claim(tx, "simulator", "quick", 1) == []
    assert [h.id for h in going] == [number]


@pytest.mark.only("postgresql")
def test_nobody_waits_longer_for_a_lock_than_a_webhook_may(db, others, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 200)
    with db.transaction() as tx:
        tx.execute(insert(gateways), {"name": "x", "tokens": 1, "refilled_at": tx.now})
        with pytest.raises(OperationalError, match="lock timeout"), others[0].transaction():
            pass


@pytest.mark.only("postgresql")
def test_a_writer_that_falls_silent_lets_go_of_the_turn(db, others, monkeypatch):
    monkeypatch.setattr(database, "STALLED_MS", 100)
    with pytest.raises(DBAPIError), db.transaction() as silent:
        with others[0].transaction() as tx:
            audit.record(tx, "test", "anything", by=Actor("test"))
        silent.scalar(text("SELECT 1"))


@pytest.mark.only("postgresql")
def test_a_fault_that_was_swallowed_outside_of_a_savepoint_is_told_at_the_commit(db):
    with pytest.raises(Lost), db.transaction() as tx:
        groups.create(tx, "anc", by=TEST)
        with pytest.raises(IntegrityError):
            tx.execute(insert(gateways), {"name": None, "tokens": 1, "refilled_at": tx.now})
    with db.reading() as tx:
        assert groups.list_all(tx) == []


# -- SQLite's own ------------------------------------------------------------------------------------------------------


class Naps:
    """The time of the module under test: what it sleeps is noted, and `then` happens at a nap that is given."""

    def __init__(self, then, at):
        self.taken, self.then, self.at = [], then, at

    monotonic = staticmethod(time.monotonic)

    def sleep(self, seconds):
        self.taken.append(seconds)
        if len(self.taken) == self.at:
            self.then()


@pytest.mark.only("sqlite")
def test_who_waits_for_the_writer_has_it_a_moment_after_it_is_free(db, others, monkeypatch):
    """Left to itself SQLite sleeps longer and longer, up to a tenth of a second, and another writer is first."""
    before = others[0].transaction()
    before.__enter__()
    naps = Naps(lambda: before.__exit__(None, None, None), at=20)
    monkeypatch.setattr(database, "time", naps)
    queue_some(db, PHONES[:1])
    assert naps.taken == [database.RETRY_S] * 20
    assert sum(naps.taken) < 0.1


@pytest.mark.only("sqlite")
def test_the_writer_is_waited_for_no_longer_than_a_webhook_may_and_the_connection_is_as_it_was(db, others, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 30)
    with others[0].transaction(), pytest.raises(OperationalError, match="locked"), db.transaction():
        pass
    with db.transaction() as tx:
        assert tx.scalar(text("PRAGMA busy_timeout")) == 30


@pytest.mark.only("sqlite")
def test_a_fault_at_the_begin_is_a_fault_of_the_database_and_is_not_waited_for(db, monkeypatch):
    db.close()
    db.file.write_bytes(b"no database" * 1000)
    monkeypatch.setattr(database, "time", Naps(None, at=0))
    with pytest.raises(DBAPIError, match="not a database"), db.transaction():
        pass
