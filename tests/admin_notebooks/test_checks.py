"""What an audit finds: each check on a small programme, and that the numbers are the database's own."""

from datetime import UTC, datetime

import pytest

from admin_notebooks.desk import Desk
from storage.audit import Actor
from storage.broadcasts import previews
from storage.contacts import cases, consent, groups, lookup
from storage.contacts.cases import Wanted
from storage.errors import Problem
from storage.messages import outbox
from storage.schema import messages as messages_table
from tests.parts import library
from tests.world import TEST

pd = library("pandas")
from admin_notebooks import checks


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


@pytest.fixture
def troubled(db, world, clock):
    """One of everything that an audit looks for; each case is called by what is wrong with it."""
    phones = (f"2332412345{n:02}" for n in range(99))
    fine = world.case("fine", next(phones), language_code="en", time_zone="Africa/Accra")
    shared = next(phones)
    owner, waiting = world.case("owner", shared), world.case("waiting", shared)
    names = ("unreachable", "never", "stopped", "closed", "nowhere")
    made = {name: world.case(name, next(phones), language_code="sw") for name in names}
    made["unverified"] = world.case("unverified", next(phones), verified=False)
    made["nophone"] = world.case("nophone")
    with db.transaction() as tx:
        (made["doubtful"],) = cases.save(
            tx, [Wanted(None, {"external_id": "doubtful", "contact_phone_number": "15551234567",
                               "contact_phone_number_is_verified": True, "number_warning": "number-unknown-range"})], by=TEST
        )  # fmt: skip
    anc = world.group("anc", fine, owner, waiting, *made.values())
    tb = world.group("tb", fine, made["never"])
    world.group("none")
    world.case("outside", verified=False)
    world.change(made["closed"], status="closed")
    world.change(made["nowhere"], contact_backend_id="pigeon")
    clock.advance(days=1)
    with db.transaction() as tx:
        consent.hear(tx, world_phone(tx, made["stopped"]), "stop", words="STOP", message_id=None, by=TEST)
        for name, state in (
            (fine, "delivered"),
            (made["unreachable"], "delivered"),
            (made["unreachable"], "undelivered"),
            (made["never"], "refused"),
        ):
            one = outbox.queue(tx, world_phone(tx, name), "Hello", "text", case_id=name)
            ended = {
                "state": state,
                "handed_over_at": tx.now,
                "settled_at": tx.now,
                "reason": None if state == "delivered" else "recipient",
            }
            tx.execute(messages_table.update().where(messages_table.c.id == one).values(ended))
    return {"anc": anc, "tb": tb, "made": made}


def world_phone(tx, case):
    return lookup.contact(tx, case).contact_phone_number


def found(desk, key, **where):
    (finding,) = [f for f in checks.findings(desk, **where) if f.key == key]
    which = finding.which()
    assert len(which) == finding.count
    return sorted(which["external_id"] if "external_id" in which else which["short"])


@pytest.mark.parametrize(
    ("key", "who"),
    [
        ("stopped", ["stopped"]),
        ("shared_number", ["owner", "waiting"]),
        ("waiting_for_number", ["waiting"]),
        ("unreachable", ["never", "unreachable"]),
        ("never_reached", ["never"]),
        ("unknown_gateway", ["nowhere"]),
        ("no_number", ["nophone"]),
        ("doubtful_number", ["doubtful"]),
        ("closed", ["closed"]),
        ("unverified", ["unverified"]),
        ("never_texted", ["doubtful", "nowhere", "owner", "stopped", "unverified", "waiting"]),
        ("empty_group", ["none"]),
        ("deleted_group", []),
    ],
)
def test_a_check_finds_whom_it_is_named_for_and_nobody_else(db, troubled, key, who):
    assert found(Desk(db), key) == who


def test_every_check_is_tried_above():
    (tried,) = [mark.args[1] for mark in test_a_check_finds_whom_it_is_named_for_and_nobody_else.pytestmark]
    assert {key for key, _ in tried} == set(checks.CHECKS)


def test_a_case_in_two_groups_is_found_once_and_in_one_group_only_its_own(db, troubled):
    desk = Desk(db)
    assert found(desk, "never_reached") == ["never"]
    assert found(desk, "unverified", group="tb") == []
    assert found(desk, "never_reached", group="tb") == ["never"]


def test_since_a_moment_only_what_was_sent_since_counts(db, troubled):
    assert found(Desk(db), "unreachable", since="2026-12-01") == []
    assert "fine" in found(Desk(db), "never_texted", since="2026-12-01")


def test_a_broadcast_to_a_deleted_group_is_found_whatever_way_it_came_to_that(db, troubled):
    """The verbs halt what waits for a group before they delete it; an editor, or an older release, did not."""
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "Hello"}, group_ids=[troubled["tb"]], by=Actor("sms"))
        groups.delete(tx, troubled["tb"], by=TEST)
    (finding,) = [f for f in checks.findings(Desk(db)) if f.key == "deleted_group"]
    assert finding.which()[["short", "broadcast"]].to_numpy().tolist() == [["tb", number]]
    assert finding.needs == "high"


def test_what_may_hurt_somebody_comes_first_and_what_found_nothing_last(db, troubled):
    every = checks.findings(Desk(db))
    assert [f.count == 0 for f in every] == sorted(f.count == 0 for f in every)
    needs = [checks.NEEDS.index(f.needs) for f in every if f.count]
    assert needs == sorted(needs)
    table = checks.as_frame(every)
    assert len(table) == len(checks.CHECKS)
    assert table["mend"].str.len().min() > 10


def test_only_so_many_are_fetched_as_are_asked_for(db, troubled):
    (finding,) = [f for f in checks.findings(Desk(db)) if f.key == "never_texted"]
    assert (finding.count, len(finding.which(2)), len(finding.which(None))) == (6, 2, 6)


def test_whoever_is_no_lead_audits_their_own_groups(db, world, troubled):
    mine = Desk(db, world.person("Yaw", "233241110002", "supervisor", "tb").id)
    assert found(mine, "never_reached") == ["never"]
    assert found(mine, "unverified") == []
    with pytest.raises(Problem) as told:
        checks.findings(mine, "anc")
    assert told.value.key == "group-unknown"
    assert checks.overlaps(mine).index.tolist() == ["tb"]
    helper = Desk(db, world.person("Abena", "233241110003", "helper", "tb").id)
    with pytest.raises(Problem) as told:
        checks.findings(helper)
    assert told.value.key == "right-missing"


# ------------------------------------------------------------------------------------------ the whole


def test_joins_and_leaves_add_up_to_the_members_by_the_programme_s_days(db, world, clock, troubled):
    clock.now = datetime(2026, 11, 6, 23, 59, tzinfo=UTC)
    with db.transaction() as tx:
        groups.remove(tx, troubled["anc"], [troubled["made"]["closed"], troubled["made"]["never"]], by=TEST)
    days = checks.over_time(Desk(db), "anc")
    assert [f"{day:%d}" for day in days.index] == ["03", "04", "05", "06"]
    assert days["joined"].tolist() == [11, 0, 0, 0]
    assert days["left"].tolist() == [0, 0, 0, 2]
    assert days["members"].tolist() == [11, 11, 11, 9]
    assert checks.over_time(Desk(db), "anc", since="2026-11-05")["members"].tolist() == [11, 9]
    assert checks.over_time(Desk(db), "none").empty


def test_who_added_and_removed_how_many_through_which_door(db, world, troubled):
    lead = world.person("Esi", "233241110001")
    Desk(db, lead.id).remove("anc", "closed\nnophone").confirm()
    told = checks.by_whom(Desk(db), "anc").set_index(["person", "door"])
    assert told.loc[("system", "test"), ["added", "removed"]].tolist() == [11, 0]
    assert told.loc[("Esi", "desk"), ["added", "removed"]].tolist() == [0, 2]
    assert checks.by_whom(Desk(db), "anc", since="2026-11-04")["person"].tolist() == ["Esi"]


def test_overlaps_are_a_square_that_reads_alike_from_both_sides(db, troubled):
    square = checks.overlaps(Desk(db))
    assert square.loc["anc", "tb"] == square.loc["tb", "anc"] == 2
    assert square.loc["anc", "anc"] == 11
    assert checks.overlaps(Desk(db), "tb").index.tolist() == ["anc", "tb"]
    assert checks.overlaps(Desk(db), "none").empty


def test_a_mix_counts_open_members_most_first_and_says_what_is_not_set(db, troubled):
    languages = checks.mix(Desk(db), "language_code", "anc")
    assert languages["cases"].tolist() == sorted(languages["cases"], reverse=True)
    assert dict(zip(languages["language_code"].fillna("?"), languages["cases"], strict=True)) == {
        "?": 5,
        "sw": 4,
        "en": 1,
    }
    assert set(checks.mix(Desk(db), "gateway")["gateway"]) == {"simulator", "pigeon"}
    with pytest.raises(Problem) as told:
        checks.mix(Desk(db), "shoe_size")
    assert told.value.key == "mix-unknown"
