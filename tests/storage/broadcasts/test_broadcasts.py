"""A text to groups: recipients frozen by the preview, one row for each of them, and a sum that anyone can check."""

import random
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from storage.audit import Actor
from storage.broadcasts import broadcasts, content, expansion, previews, progress
from storage.contacts import consent, groups
from storage.errors import Problem
from storage.messages import gate, leases, lookups, outbox
from storage.messages.outbox import Settled
from storage.rules.quiet_hours import Hours
from storage.schema import audit, cases
from storage.schema import messages as table
from storage.upkeep import restore
from tests.storage.broadcasts.sending import draft, expand, launch
from tests.world import TEST, World

A, B = "233241234567", "233209876543"


def preview(world, number):
    with world.db.reading() as tx:
        return previews.preview(tx, number)


def halt(world, number):
    with world.db.transaction() as tx:
        return broadcasts.halt(tx, number, by=TEST)


def go(world, *group_ids, **more):
    number = draft(world, *group_ids, **more)
    launch(world, number)
    expand(world)
    return number


def sent(world, number):
    """What each case of a broadcast got: its row, by external id."""
    with world.db.reading() as tx:
        query = select(table, cases.c.external_id).join(cases, cases.c.id == table.c.case_id)
        return {row.external_id: row for row in tx.execute(query.where(table.c.broadcast_id == number))}


def reasons(world, number):
    return {name: row.reason for name, row in sent(world, number).items()}


def progress_of(world, number):
    with world.db.reading() as tx:
        return progress.progress(tx, number)


def state(world, number):
    return progress_of(world, number).row.state


@pytest.fixture
def anc(world):
    return world.group("anc", world.case("ama", A), world.case("kofi", B))


# -- who gets it -------------------------------------------------------------------------------------------------------


def test_one_who_joins_after_the_preview_is_not_added(world, anc):
    number, esi = draft(world, anc), world.case("esi", "233205550000")
    with world.db.transaction() as tx:
        groups.add(tx, anc, [esi], by=TEST)
    launch(world, number)
    expand(world)
    assert set(sent(world, number)) == {"ama", "kofi"}
    assert preview(world, number).recipients == 2


def test_one_who_was_taken_out_after_the_preview_is_not_texted(world, anc):
    number = draft(world, anc)
    with world.db.reading() as tx:
        ama = groups.members(tx, anc)[0].id
    with world.db.transaction() as tx:
        groups.remove(tx, anc, [ama], by=TEST)
        groups.add(tx, anc, [ama], by=TEST)
    launch(world, number)
    expand(world)
    told = progress_of(world, number)
    assert told.states == {"queued": 1, "withheld": 1}
    assert told.skipped == {"left": 1}
    assert told.row.recipients == 2


def test_one_who_is_taken_out_during_the_hold_is_not_texted(world, anc):
    number = go(world, anc)
    with world.db.reading() as tx:
        ama = groups.members(tx, anc)[0].id
    with world.db.transaction() as tx:
        groups.remove(tx, anc, [ama], by=TEST)
    with world.db.transaction() as tx:
        going, _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", 10), "me", rate_per_s=10)
    assert len(going) == 1
    assert progress_of(world, number).skipped == {"left": 1}


def test_one_who_is_in_two_groups_and_named_besides_gets_it_once(world, anc):
    ama = world.case("esi", "233205550000")
    other = world.group("tb", ama)
    number = go(world, anc, other, case_ids=[ama])
    assert sorted(sent(world, number)) == ["ama", "esi", "kofi"]


def test_each_one_who_is_skipped_has_a_row_that_says_why(world):
    ids = [
        world.case("fine", "233200000001"),
        world.case("closed", "233200000002", status="closed"),
        world.case("nonumber"),
        world.case("stopped", "233200000003"),
        world.case("elsewhere", "233200000004", contact_backend_id="nosuch"),
        world.case("here", "233200000005", contact_backend_id="simulator"),
    ]
    with world.db.transaction() as tx:
        consent.hear(tx, "233200000003", "stop", words="stop", message_id=None, by=TEST)
    number = draft(world, world.group("anc", *ids))
    assert preview(world, number).skipped == {"closed": 1, "no-number": 1, "stopped": 1, "gateway-unknown": 1}
    launch(world, number)
    expand(world)
    assert reasons(world, number) == {
        "fine": None, "closed": "closed", "nonumber": "no-number", "stopped": "stopped", "elsewhere": "gateway-unknown", "here": None,
    }  # fmt: skip
    assert {row.state for row in sent(world, number).values() if row.reason} == {"withheld"}


def test_one_who_says_stop_after_the_preview_gets_nothing(world, anc):
    number = draft(world, anc)
    with world.db.transaction() as tx:
        consent.hear(tx, A, "stop", words="stop", message_id=None, by=TEST)
    launch(world, number)
    expand(world)
    assert reasons(world, number) == {"ama": "stopped", "kofi": None}


def test_a_shared_phone_gets_it_once_and_by_its_owner(world):
    number = go(
        world, world.group("anc", world.case("esi", A, verified=False), world.case("ama", A), world.case("yaw", A))
    )
    assert reasons(world, number) == {"esi": "same-phone", "ama": None, "yaw": "same-phone"}


def test_a_shared_phone_whose_owner_is_not_in_the_group_gets_it_by_another(world):
    world.case("ama", A)
    number = go(world, world.group("anc", world.case("esi", A), world.case("yaw", A)))
    assert reasons(world, number) == {"esi": None, "yaw": "same-phone"}


def test_a_shared_phone_gets_it_though_the_owner_is_set_to_a_gateway_that_is_not_there(world):
    ids = [world.case("ama", A, contact_backend_id="nosuch"), world.case("esi", A)]
    assert reasons(world, go(world, world.group("anc", *ids))) == {"ama": "gateway-unknown", "esi": None}


def test_the_database_refuses_a_second_message_of_a_broadcast_to_a_case_or_a_phone(world, anc):
    number = go(world, anc)
    ama = sent(world, number)["ama"]
    esi = world.case("esi", A)
    base = {"direction": "out", "body": "x", "kind": "broadcast", "state": "queued", "broadcast_id": number}
    for row in ({"case_id": ama.case_id, "phone": "233200000009"}, {"case_id": esi, "phone": A, "phone_key": A}):
        with world.db.reading() as tx, pytest.raises(IntegrityError, match=r"UNIQUE|one_(live_)?message_per_broadcast"):
            tx.execute(insert(table), base | row | {"due_at": tx.now, "created_at": tx.now})


people = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["open", "open", "closed"]), st.booleans(), st.sampled_from([None, None, "nosuch"])),
    max_size=8,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(people, st.sets(st.integers(1, 3)), st.integers(1, 4))
def test_recipients_are_the_sum_of_all_states_and_each_phone_gets_it_once(new_db, who, stopped, taken):
    with new_db() as db:
        world = World(db)
        ids = [
            world.case(f"p{n}", f"23320000000{phone}" if phone else None, verified=verified, status=status, contact_backend_id=backend)
            for n, (phone, status, verified, backend) in enumerate(who)
        ]  # fmt: skip
        with db.transaction() as tx:
            for phone in stopped:
                consent.hear(tx, f"23320000000{phone}", "stop", words="stop", message_id=None, by=TEST)
        number = draft(world, world.group("anc", *ids))
        told = preview(world, number)
        launch(world, number)
        assert progress_of(world, number).waiting == told.recipients
        expand(world)
        with db.transaction() as tx:
            going, _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", taken), "me", rate_per_s=100)
            ends = ["accepted", "refused", "unknown"]
            outbox.settle(
                tx, [Settled(h.id, h.attempt_id, ends[n % 3], gateway_id=str(n)) for n, h in enumerate(going)]
            )
        now = progress_of(world, number)
        rows = sent(world, number)
        assert sum(now.states.values()) == len(ids) == told.recipients + sum(told.skipped.values())
        assert now.states.get("withheld", 0) == sum(now.skipped.values()) and dict(now.skipped) == dict(told.skipped)
        texted = [row.phone for row in rows.values() if row.state != "withheld"]
        assert len(texted) == len(set(texted)) == told.recipients
        able = {f"23320000000{p}" for p, status, _, backend in who if p and status == "open" and not backend} - {f"23320000000{p}" for p in stopped}  # fmt: skip
        assert set(texted) == able


# -- the words ---------------------------------------------------------------------------------------------------------


def test_each_reads_the_words_in_the_own_language_else_in_its_base_else_in_the_programmes(world):
    codes = {"exact": "pt-BR", "base": "pt-PT", "other": "SW", "deeper": "sw-KE", "none": None, "unknown": "zu"}
    ids = [world.case(name, f"2332000000{n:02}", language_code=code) for n, (name, code) in enumerate(codes.items())]
    texts = {"en": "Hello", "pt": "Olá", "pt-BR": "Oi", "sw": "Habari"}
    rows = sent(world, go(world, world.group("anc", *ids), texts=texts))
    assert {name: (row.body, row.language) for name, row in rows.items()} == {
        "exact": ("Oi", "pt-BR"), "base": ("Olá", "pt"), "other": ("Habari", "sw"), "deeper": ("Habari", "sw"),
        "none": ("Hello", "en"), "unknown": ("Hello", "en"),
    }  # fmt: skip


def test_fields_are_filled_once_and_a_value_is_never_read_again(world):
    names = {"ama": "Ama", "blank": "", "sly": "{external_id}", "quote": "O'Brien % {name|x}"}
    ids = [world.case(e, f"23320000000{n}", name=name) for n, (e, name) in enumerate(names.items())]
    number = draft(
        world, world.group("anc", *ids), texts="Dear {name|friend}, yours is {external_id} ('100%'; {case_id})"
    )
    samples = preview(world, number).samples
    launch(world, number)
    expand(world)
    rows = sent(world, number)
    bodies = {name: row.body.split(" (")[0] for name, row in rows.items()}
    assert bodies == {
        "ama": "Dear Ama, yours is ama", "blank": "Dear friend, yours is blank",
        "sly": "Dear {external_id}, yours is sly", "quote": "Dear O'Brien % {name|x}, yours is quote",
    }  # fmt: skip
    assert rows["ama"].body.endswith(f"('100%'; {world.look(ids[0]).case_id})")
    assert samples == [rows[name].body for name in ("ama", "blank", "sly")]


@pytest.mark.parametrize(("body", "key"), [("  ", "text-blank"), ("x" * 1601, "text-too-long"), ("Dear {nmae}", "field-unknown"), ("Dear {name", "brace-stray")])  # fmt: skip
def test_words_that_cannot_be_sent_are_refused_when_they_are_written(world, anc, body, key):
    with pytest.raises(Problem, match=key):
        draft(world, anc, texts={"en": "fine", "sw": body})


def test_a_preview_says_what_it_costs_and_which_character_makes_it_dear(world, anc):
    assert preview(world, draft(world, anc, texts="x" * 160)).parts == 1
    dear = preview(world, draft(world, anc, texts="ẹ" * 71))
    assert (dear.parts, dear.forced_by) == (2, "ẹ")


def test_a_broadcast_remembers_its_words_and_groups(world, anc):
    number = draft(world, anc, texts={"sw": "Habari", "en": "Hello"})
    with world.db.reading() as tx:
        assert content.text_of(tx, number) == "Hello"
        assert [g.short for g in progress.groups_of(tx, number)] == ["anc"]
        assert progress.pending_for(tx, anc) == [number]
        with pytest.raises(Problem, match="broadcast-unknown"):
            content.broadcast(tx, 99)


# -- expanding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_expansion_goes_on_where_it_stopped_and_writes_everybody_once(world, monkeypatch, size):
    monkeypatch.setattr(expansion, "RANGE", size)
    ids = [world.case(f"p{n}", f"2332000000{n:02}") for n in range(5)]
    number = draft(world, world.group("anc", *ids))
    launch(world, number)
    assert expand(world) == -(-5 // size) + 1
    assert list(sent(world, number)) == [f"p{n}" for n in range(5)]
    assert state(world, number) == "sending"


def test_a_range_is_counted_in_members_and_not_in_row_ids(world, monkeypatch):
    monkeypatch.setattr(expansion, "RANGE", 2)
    members = [world.case(f"p{n}", f"2332000000{n:02}") for n in range(12)][::4]
    number = draft(world, world.group("anc", *members))
    launch(world, number)
    assert expand(world) == 3  # two of them, one more, and the end
    assert len(sent(world, number)) == 3


def test_groups_and_single_cases_side_by_side_are_all_reached(world, monkeypatch):
    monkeypatch.setattr(expansion, "RANGE", 2)
    ids = [world.case(f"p{n}", f"2332000000{n:02}") for n in range(9)]
    one, two = world.group("one", *ids[0:4]), world.group("two", *ids[2:7])
    number = draft(world, one, two, case_ids=ids[7:])
    launch(world, number)
    expand(world)
    assert sorted(sent(world, number)) == [f"p{n}" for n in range(9)]


def test_an_expansion_writes_fewer_at_once_where_writing_is_slow(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 1.001])  # a second for the first range, a moment for the next
    monkeypatch.setattr(expansion.time, "perf_counter", lambda: next(clock))
    pace = expansion.Pace()
    sizes = []
    for _ in range(2):
        with pace.kept() as many:
            sizes.append(many)
    assert sizes == [2 * expansion.FEWEST, expansion.FEWEST]
    assert pace.many == 2 * expansion.FEWEST


def test_a_range_that_is_rolled_back_is_written_again(world, monkeypatch):
    monkeypatch.setattr(expansion, "RANGE", 2)
    number = draft(world, world.group("anc", *(world.case(f"p{n}", f"2332000000{n:02}") for n in range(5))))
    launch(world, number)
    with pytest.raises(KeyboardInterrupt), world.db.transaction() as tx:
        expansion.expand_next(tx)
        raise KeyboardInterrupt
    assert sent(world, number) == {}
    expand(world)
    assert len(sent(world, number)) == 5


def test_expanding_a_range_again_writes_nobody_twice(world, anc):
    number = go(world, anc)
    with world.db.transaction() as tx:
        tx.execute(broadcasts.broadcasts.update().values(state="expanding", expanded_through=0))
    expand(world)
    assert progress_of(world, number).states == {"queued": 2}


def test_a_range_is_one_statement_however_many_are_in_it(world, statements):
    number = draft(world, world.group("anc", *(world.case(f"p{n}", f"2332000000{n:02}") for n in range(40))))
    launch(world, number)
    with statements(world.db) as ran, world.db.transaction() as tx:
        expansion.expand_next(tx)
    assert len([s for s in ran if "INSERT INTO messages" in s]) == 1
    assert len(ran) < 12


def test_nothing_is_expanded_that_was_not_launched(world, anc):
    draft(world, anc)
    assert expand(world) == 0


# -- when --------------------------------------------------------------------------------------------------------------


def test_nothing_leaves_before_the_hold_is_over(world, anc, clock):
    number = draft(world, anc)
    assert launch(world, number, hold_s=60) == clock() + timedelta(seconds=60)
    expand(world)
    for seconds, due in ((0, False), (59, False), (1, True)):
        clock.advance(seconds=seconds)
        with world.db.reading() as tx:
            assert outbox.is_due(tx, "simulator") is due


def test_launching_twice_changes_nothing_and_tells_the_same_moment(world, anc, clock):
    number = draft(world, anc)
    first = launch(world, number, hold_s=60)
    with world.db.reading() as tx:
        before = content.broadcast(tx, number), tx.execute(select(audit)).all()
    clock.advance(seconds=30)
    assert launch(world, number, hold_s=60) == first
    with world.db.reading() as tx:
        assert (content.broadcast(tx, number), tx.execute(select(audit)).all()) == before


def test_each_gets_it_in_the_hours_of_the_own_time_zone(world, clock):
    world.db.rules = replace(world.db.rules, hours=Hours(time(9), time(20)))
    zones = {"accra": "Africa/Accra", "york": "America/New_York", "kolkata": "Asia/Kolkata", "tokyo": "Asia/Tokyo", "none": None}  # fmt: skip
    ids = [world.case(name, f"23320000000{n}", time_zone=zone) for n, (name, zone) in enumerate(zones.items())]
    rows = sent(world, go(world, world.group("anc", *ids)))
    now = clock()  # Tuesday 10:00 in Accra, 5:00 in New York, 15:30 in Kolkata, 19:00 in Tokyo
    assert {name: row.due_at for name, row in rows.items()} == {
        "accra": now, "york": datetime(2026, 11, 3, 14, 0, tzinfo=UTC), "kolkata": now, "tokyo": now, "none": now,
    }  # fmt: skip


def test_what_has_not_left_when_its_time_runs_out_dies(world, anc, clock):
    number = go(world, anc)
    assert {row.expires_at for row in sent(world, number).values()} == {clock() + timedelta(hours=24)}


# -- paused ------------------------------------------------------------------------------------------------------------


def pause(world, number):
    with world.db.transaction() as tx:
        return broadcasts.pause(tx, number, by=TEST)


def resume(world, number):
    with world.db.transaction() as tx:
        return broadcasts.resume(tx, number, by=TEST)


def leave(world, at_most=10):
    """What the worker would do now: claim, pass the gate, be accepted; the phones that it left for."""
    with world.db.transaction() as tx:
        going, _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", at_most), "me", rate_per_s=100)
        outbox.settle(tx, [Settled(h.id, h.attempt_id, "accepted", gateway_id=f"SM{h.id}") for h in going])
    return [handed.address for handed in going]


def refused(act, *arguments):
    with pytest.raises(Problem) as told:
        act(*arguments)
    return told.value.key


def test_what_is_paused_hands_nothing_over_and_goes_on_where_it_was(world, anc, clock):
    number = go(world, anc)
    assert leave(world, 1) == [A]
    told = pause(world, number)
    assert (told.arrived, told.waiting, told.row.state) == (1, 1, "paused")
    clock.advance(hours=1)
    assert leave(world) == []
    assert pause(world, number).row == told.row, "a second time changes nothing"
    assert resume(world, number).waiting == 1
    assert leave(world) == [B]
    assert leave(world) == [], "and nobody gets it twice"


def test_what_was_claimed_when_it_was_paused_is_given_back_at_the_gate(world, anc, clock):
    number = go(world, anc)
    with world.db.transaction() as tx:
        claimed = outbox.claim(tx, "simulator", "me", 1)
    pause(world, number)
    with world.db.transaction() as tx:
        assert gate.hand_over(tx, claimed, "me", rate_per_s=100) == ([], [])
    assert {(row.state, row.reason) for row in sent(world, number).values()} == {("queued", "paused"), ("queued", None)}
    clock.advance(minutes=30)
    assert leave(world) == [], "looked at again, it is given back again"
    resume(world, number)
    assert sorted(leave(world)) == sorted([A, B]), "what was turned away goes with the others"


def test_what_comes_back_to_the_queue_while_it_is_paused_stays_there(world, anc, clock):
    """A gateway that certainly did not take it, or a worker that died: the row is not marked, and the gate knows."""
    number = go(world, anc)
    with world.db.transaction() as tx:
        (handed,), _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", 1), "me", rate_per_s=100)
    pause(world, number)
    with world.db.transaction() as tx:
        outbox.settle(tx, [Settled(handed.id, handed.attempt_id, "queued", reason="throttled", due_at=tx.now)])
    clock.advance(minutes=1)
    assert leave(world) == []


def test_the_expansion_goes_on_and_counts_everybody_while_it_is_paused(world, anc):
    number = draft(world, anc)
    launch(world, number, hold_s=60)
    pause(world, number)
    expand(world)
    assert progress_of(world, number).states == {"queued": 2}
    assert leave(world) == []
    told = halt(world, number)
    assert (told.row.state, told.states) == ("halted", {"cancelled": 2})


def test_a_pause_lets_texts_grow_old(world, anc, clock):
    number = go(world, anc)
    pause(world, number)
    clock.advance(hours=world.db.rules.expiry_h)
    with world.db.transaction() as tx:
        assert outbox.expire(tx) == 2
        expansion.finish(tx)
    assert state(world, number) == "done"
    assert refused(resume, world, number) == "resume-not-paused"
    assert {row.state for row in sent(world, number).values()} == {"expired"}


def test_a_halt_is_final(world, anc, clock):
    number = go(world, anc)
    pause(world, number)
    halt(world, number)
    assert refused(resume, world, number) == "resume-not-paused"
    assert refused(pause, world, number) == "pause-not-running"
    clock.advance(minutes=10)
    assert leave(world) == []
    waiting = draft(world, anc)
    assert refused(pause, world, waiting) == "pause-not-running"
    assert refused(resume, world, go(world, anc)) == "resume-not-paused"


def test_a_paused_one_keeps_nothing_else_from_its_people(world, anc):
    first, second = go(world, anc), None
    pause(world, first)
    second = go(world, anc, texts="The clinic is open again")
    assert sorted(leave(world)) == sorted([A, B])
    assert {row.state for row in sent(world, second).values()} == {"accepted"}


def test_one_that_is_paused_before_its_hour_begins_when_it_is_resumed(world, anc, clock):
    number = draft(world, anc)
    with world.db.transaction() as tx:
        previews.amend(tx, number, send_at=datetime.fromisoformat("2026-11-03T11:00"))
    launch(world, number)
    pause(world, number)
    clock.advance(hours=2)
    with world.db.reading() as tx:
        assert broadcasts.whose_hour_has_come(tx) == []
    resume(world, number)
    with world.db.transaction() as tx:
        assert broadcasts.whose_hour_has_come(tx) == [number]
        broadcasts.begin(tx, number)
    expand(world)
    assert sorted(leave(world)) == sorted([A, B])


def test_one_that_stood_paused_at_its_hour_in_a_backup_is_sent_to_nobody_after_the_restore(world, anc, clock):
    """It was resumed and sent since, perhaps."""
    number = draft(world, anc)
    with world.db.transaction() as tx:
        previews.amend(tx, number, send_at=datetime.fromisoformat("2026-11-03T11:00"))
    launch(world, number)
    pause(world, number)
    made_at = clock.advance(hours=2)
    clock.advance(hours=1)
    with world.db.transaction() as tx:
        restore.put_up(tx, made_at, by=TEST)
    assert progress_of(world, number).states == {"unknown": 2}
    resume(world, number)
    with world.db.transaction() as tx:
        assert broadcasts.whose_hour_has_come(tx) == []
    expand(world)
    assert leave(world) == []


def test_a_paused_one_is_not_over_while_what_is_in_doubt_may_come_back(world, anc, clock):
    """Else it would wait for a resume that nobody can say any more."""
    number = go(world, anc)
    with world.db.transaction() as tx:
        going, _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", 2), "me", rate_per_s=100)
        outbox.settle(tx, [Settled(h.id, h.attempt_id, "unknown", reason="no-answer") for h in going])
    pause(world, number)
    with world.db.transaction() as tx:
        assert expansion.finish(tx) == 0
        first, second = (Settled(h.id, h.attempt_id, "queued", reason="absent", due_at=tx.now) for h in going)
        outbox.settle(tx, [first, replace(second, state="unresolved", due_at=None)])
    assert leave(world) == []
    resume(world, number)
    assert len(leave(world)) == 1
    with world.db.transaction() as tx:
        assert expansion.finish(tx) == 1


@pytest.mark.parametrize(("end", "reason"), [("halt", "halted"), ("expire", "expired")])
def test_what_ended_while_it_was_paused_is_not_called_paused(world, anc, clock, end, reason):
    number = go(world, anc)
    pause(world, number)
    assert all(map(lookups.is_held, sent(world, number).values()))
    if end == "halt":
        halt(world, number)
    clock.advance(hours=world.db.rules.expiry_h)
    with world.db.transaction() as tx:
        outbox.expire(tx)
    assert {(lookups.is_held(row), row.reason) for row in sent(world, number).values()} == {(False, reason)}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_paused_and_resumed_nothing_leaves_meanwhile_and_nobody_gets_it_twice(world, clock, seed):
    dice = random.Random(seed)
    anc = world.group("anc", *(world.case(f"c-{n}", f"23324412{n:04}") for n in range(30)))
    number, paused, left = go(world, anc), False, []
    for _ in range(60):
        clock.advance(seconds=dice.randint(1, 400))
        if dice.random() < 0.3:
            (resume if paused else pause)(world, number)
            paused = not paused
        elif dice.random() < 0.2:
            with world.db.transaction() as tx:  # a worker that takes some and dies
                outbox.claim(tx, "simulator", "dead", dice.randint(1, 5))
        else:
            with world.db.transaction() as tx:
                leases.end_leases(tx)
            going = leave(world, dice.randint(1, 5))
            assert not (paused and going)
            left += going
    if paused:
        resume(world, number)
    clock.advance(minutes=5)
    with world.db.transaction() as tx:
        leases.end_leases(tx)
    left += leave(world, 100)
    assert len(left) == len(set(left)) == 30


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_halt_in_the_hold_withholds_everything(world, anc, clock):
    number = draft(world, anc)
    launch(world, number, hold_s=60)
    expand(world)
    assert halt(world, number).states == {"cancelled": 2}
    clock.advance(hours=1)
    with world.db.transaction() as tx:
        assert outbox.claim(tx, "simulator", "me", 10) == []
    assert {row.reason for row in sent(world, number).values()} == {"halted"}


def test_a_halt_before_the_expansion_sends_to_nobody_and_still_counts_everybody(world, anc):
    number = draft(world, anc)
    launch(world, number, hold_s=60)
    halt(world, number)
    expand(world)
    told = progress_of(world, number)
    assert told.states == {"cancelled": 2}
    assert told.row.state == "halted"


def test_a_halt_stops_what_has_not_left_and_leaves_what_has(world, anc):
    number = go(world, anc)
    with world.db.transaction() as tx:
        (going,), _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", 1), "me", rate_per_s=1)
        outbox.settle(tx, [Settled(going.id, going.attempt_id, "accepted", gateway_id="SM1")])
    told = halt(world, number)
    assert (told.row.state, told.arrived, told.states) == ("halted", 1, {"accepted": 1, "cancelled": 1})


def test_a_halt_of_what_is_over_or_halted_changes_nothing(world, anc, clock):
    number = go(world, anc)
    first = halt(world, number)
    clock.advance(hours=1)
    assert halt(world, number).row == first.row
    assert launch(world, number) == first.row.hold_until
    assert state(world, number) == "halted"


def test_a_broadcast_is_done_when_nothing_of_it_is_left_to_send(world, anc):
    number = go(world, anc)

    def finish():
        with world.db.transaction() as tx:
            return expansion.finish(tx)

    assert finish() == 0
    with world.db.transaction() as tx:
        tx.execute(table.update().where(table.c.phone == A).values(state="unknown"))
        tx.execute(table.update().where(table.c.phone == B).values(state="refused"))
    assert (finish(), state(world, number), finish()) == (1, "done", 0)


def test_one_that_was_never_confirmed_is_dropped_and_cannot_be_launched(world, anc):
    number = draft(world, anc)
    with world.db.transaction() as tx:
        broadcasts.drop(tx, number)
    launch(world, number)
    assert state(world, number) == "dropped"
    assert expand(world) == 0


def test_what_runs_is_listed_newest_first(world, anc):
    tb = world.group("tb", world.case("esi", "233205550000"))
    first, second = go(world, anc), go(world, tb)
    draft(world, anc)
    with world.db.reading() as tx:
        assert [b.id for b in progress.running(tx)] == [second, first]


def test_whether_and_how_one_case_got_it_can_be_asked(world, anc):
    number = go(world, anc)
    ama = sent(world, number)["ama"].case_id
    esi = world.case("esi", "233205550000")
    with world.db.transaction() as tx:
        tx.execute(table.update().where(table.c.case_id == ama).values(state="delivered"))
        assert progress.message_to(tx, number, ama).state == "delivered"
        assert progress.message_to(tx, number, esi) is None
        assert (progress.is_for(tx, number, ama), progress.is_for(tx, number, esi)) == (True, False)
        assert progress.last_arrived(tx, ama).broadcast_id == number
        assert progress.last_arrived(tx, esi) is None


def test_a_text_to_one_case_is_a_text_and_counts_for_who_asked(world, clock):
    person = world.person("Ama", "233241110001")
    ama = world.case("ama", A)
    with world.db.transaction() as tx:
        number = previews.draft(tx, {"en": "Come at 9"}, case_ids=[ama], by=Actor("sms", person.id))
        assert content.broadcast(tx, number).kind == "text"
        assert progress.count_texts(tx, person.id, clock() - timedelta(hours=1)) == 0
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
        assert progress.count_texts(tx, person.id, clock() - timedelta(hours=1)) == 1


def test_a_number_that_changed_during_the_hold_is_not_texted(world, anc):
    number = go(world, anc)
    with world.db.reading() as tx:
        ama = groups.members(tx, anc)[0].id
    world.change(ama, contact_phone_number="233209999999")
    with world.db.transaction() as tx:
        going, _ = gate.hand_over(tx, outbox.claim(tx, "simulator", "me", 10), "me", rate_per_s=10)
    assert len(going) == 1
    assert progress_of(world, number).skipped == {"changed": 1}


def test_an_unknown_zone_of_one_case_keeps_nobody_waiting(world, anc):
    with world.db.transaction() as tx:
        tx.execute(cases.update().values(time_zone="America/Nowhere"))
    assert len(sent(world, go(world, anc))) == 2


def test_a_name_of_blanks_is_no_name_and_a_foreign_one_far_down_is_priced(world):
    blank = world.case("p0", "233200000100", name="  ")
    plain = [world.case(f"p{n}", f"2332000001{n:02}") for n in range(1, 9)]
    foreign = world.case("p9", "233200000199", name="Zoë Ąžolas")
    number = draft(world, world.group("anc", blank, *plain, foreign), texts={"en": "Dear {name|friend}, " + "x" * 60})
    with world.db.reading() as tx:
        told = previews.preview(tx, number)
    assert told.samples[0].startswith("Dear friend, ")
    assert told.parts == 2
