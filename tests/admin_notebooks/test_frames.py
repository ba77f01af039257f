"""Everything as data frames: the kinds of the columns, whose they are, and that looking changes nothing."""

from datetime import UTC, datetime

import pytest

from admin_notebooks.desk import Desk
from storage.audit import Actor
from storage.broadcasts import broadcasts, expansion, previews
from storage.contacts import consent, groups
from storage.errors import Problem
from storage.messages import inbox, outbox
from tests.parts import library
from tests.storage.broadcasts.sending import expand
from tests.world import TEST

pd = library("pandas")
from admin_notebooks import delivery, frames


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


AMA, KOFI = "233241234567", "233209876543"


@pytest.fixture
def busy(db, world, clock):
    """A small programme that lived: members who came and went, texts both ways, a STOP, a broadcast."""
    lead = world.person("Esi", "233241110001")
    ama = world.case("p-1", AMA, name="Ama", language_code="en")
    kofi = world.case("p-2", KOFI, name="Kofi")
    yaw = world.case("p-3", name="Yaw")
    anc = world.group("anc", ama, kofi, yaw, name="Antenatal care")
    tb = world.group("tb", world.case("p-4", "233205550000", name="Efua"))
    clock.advance(days=1)
    by = Actor("sms", lead.id, "message 1")
    with db.transaction() as tx:
        groups.remove(tx, anc, [yaw], by=by)
    clock.advance(minutes=1)
    with db.transaction() as tx:
        consent.hear(tx, KOFI, "stop", words="STOP", message_id=None, by=TEST)
        previews.draft(tx, {"en": "Hello {name}"}, group_ids=[anc], by=by)
        late = inbox.record_inbound(tx, gateway="simulator", gateway_id="1", sender=AMA, text="I come")
        inbox.handled(tx, late.id, "reply", case_id=ama, person_id=None)
        typed = inbox.record_inbound(tx, gateway="simulator", gateway_id="2", sender=lead.phone, text="ok 482193")
        inbox.handled(tx, typed.id, "command", case_id=None, person_id=lead.id)
        outbox.queue(tx, KOFI, "Hello", "text", case_id=kofi)
    return {"lead": lead, "anc": anc, "tb": tb, "number": 1}


@pytest.fixture
def desk(db, busy):
    return Desk(db, busy["lead"].id)


def test_groups_are_counted(desk, busy):
    found = frames.groups(desk).set_index("short")
    assert found.loc["anc", ["name", "members", "two_way"]].tolist() == ["Antenatal care", 2, 2]
    assert found.loc["tb", "members"] == 1


def test_members_have_their_consent_their_last_reply_and_who_put_them_in(desk, clock):
    found = frames.members(desk, "anc").set_index("external_id")
    assert list(found.index) == ["p-1", "p-2"]
    assert found.loc["p-1", "contact_phone_number"] == AMA  # text, and not a number
    assert found.loc["p-1", "last_reply_at"] == clock.now
    assert pd.isna(found.loc["p-2", "last_reply_at"])
    assert found.loc["p-2", "consent"] == "stop"
    assert pd.isna(found.loc["p-1", "consent"])
    assert set(found["added_door"]) == {"test"}


def test_members_are_asked_as_of_a_moment(desk):
    assert list(frames.members(desk, "anc", as_of="2026-11-03T12:00")["external_id"]) == ["p-1", "p-2", "p-3"]
    assert list(frames.members(desk, "anc", as_of=datetime(2026, 11, 2, tzinfo=UTC))["external_id"]) == []


def test_a_missing_number_is_missing_and_further_properties_are_columns(db, world, desk):
    from storage.contacts import cases
    from storage.contacts.cases import Wanted

    with db.transaction() as tx:
        cases.save(tx, [Wanted(None, {"external_id": "007"}, {"district": "Kisumu", "name": "x"})], by=TEST)
    found = frames.cases(desk).set_index("external_id")
    assert pd.isna(found.loc["p-3", "contact_phone_number"])
    assert found.loc["007", "district"] == "Kisumu"
    assert pd.isna(found.loc["p-1", "district"])
    assert found["two_way"].dtype == "boolean"
    assert "007" in found.index  # with its zeros


def test_moments_are_aware_and_by_the_programme_s_clock(desk, db):
    found = frames.members(desk, "anc")
    assert str(found["added_at"].dt.tz) == db.rules.time_zone
    assert found["added_at"].iloc[0] == datetime(2026, 11, 3, 10, tzinfo=UTC)


def test_texts_both_ways_without_a_code(desk):
    found = frames.messages(desk)
    assert list(found["body"]) == ["I come", "ok ******", "Hello"]
    assert list(frames.messages(desk, direction="out")["external_id"]) == ["p-2"]
    assert frames.messages(desk, since="2026-12-01").empty
    assert list(found["broadcast_id"].isna()) == [True] * 3
    assert list(found["channel"]) == ["sms"] * 3
    assert list(found["address"]) == list(found["phone"])


def test_broadcasts_have_a_column_for_each_state_of_their_messages(db, desk, busy, clock):
    assert frames.broadcasts(desk)["state"].tolist() == ["previewed"]
    with db.transaction() as tx:
        broadcasts.launch(tx, busy["number"], hold_s=0, by=TEST)
    with db.transaction() as tx:
        while expansion.expand_next(tx):
            pass
    found = frames.broadcasts(desk).iloc[0]
    assert (found["queued"], found["withheld"], found["recipients"]) == (1, 1, 2)
    assert (found["groups"], found["asked_by"]) == ("anc", "Esi")


def test_consent_and_history_say_who_and_by_what(desk):
    heard = frames.consent(desk)[["phone", "kind", "words", "channel", "address"]]
    assert heard.to_numpy().tolist() == [[KOFI, "stop", "STOP", "sms", KOFI]]
    lines = frames.history(desk, "anc")
    assert list(lines["verb"]) == ["groups.remove", "groups.add", "groups.create"]
    assert (lines["person"].iloc[0], lines["source"].iloc[0], lines["cases"].iloc[0]) == ("Esi", "message 1", 1)


def test_whoever_is_no_lead_gets_nothing_of_others(db, world, desk):
    mine = Desk(db, world.person("Yaw", "233241110002", "supervisor", "tb").id)
    assert list(frames.groups(mine)["short"]) == ["tb"]
    assert list(frames.cases(mine)["external_id"]) == ["p-4"]
    assert frames.messages(mine).empty
    assert frames.broadcasts(mine).empty
    assert frames.consent(mine).empty
    for look in (lambda: frames.members(mine, "anc"), lambda: frames.history(mine, "anc")):
        with pytest.raises(Problem) as told:
            look()
        assert told.value.key == "group-unknown"
    with pytest.raises(Problem) as told:
        frames.query(mine, "SELECT * FROM cases")
    assert told.value.key == "right-missing"
    helper = Desk(db, world.person("Abena", "233241110003", "helper", "tb").id)
    with pytest.raises(Problem) as told:
        frames.members(helper, "tb")
    assert told.value.key == "right-missing"


def test_an_empty_programme_has_every_column_of_every_frame(db):
    desk = Desk(db)
    for look in (frames.groups, frames.cases, frames.messages, frames.broadcasts, frames.consent):
        found = look(desk)
        assert found.empty
        assert len(found.columns) > 4


# ------------------------------------------------------------------------------------------ one's own questions


def test_a_question_of_one_s_own_has_values_and_comes_by_the_programme_s_clock(desk):
    found = frames.query(desk, "SELECT external_id, created_at FROM cases WHERE name = :name", name="Ama")
    assert found["external_id"].tolist() == ["p-1"]
    assert found["created_at"].iloc[0] == datetime(2026, 11, 3, 10, tzinfo=UTC)
    assert frames.query(desk, "SELECT count(*) AS n FROM cases WHERE name = :name", name="nobody")["n"].tolist() == [0]
    assert list(frames.query(desk, "SELECT id, name FROM cases WHERE id < 0").columns) == ["id", "name"]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM memberships", "UPDATE cases SET name = 'x'", "DROP TABLE receipts", "SELEC 1"]
)
def test_a_question_changes_nothing_whatever_it_says(db, desk, sql):
    with pytest.raises(Problem) as told:
        frames.query(desk, sql)
    assert told.value.key == "query-refused"
    desk.create("still", "Still writes").confirm()  # the same connection writes again afterwards
    assert len(frames.cases(desk)) == 4
    assert set(frames.cases(desk)["name"]) == {"Ama", "Kofi", "Yaw", "Efua"}


def test_a_number_of_rows_takes_no_statement_more(db, world, desk, statements_of):
    def count(look):
        with statements_of(db) as ran:
            look(desk)
        return len(ran)

    looks = (
        frames.groups,
        frames.cases,
        frames.messages,
        frames.broadcasts,
        frames.consent,
        lambda d: frames.members(d, "anc"),
    )
    before = [count(look) for look in looks]
    with db.transaction() as tx:
        groups.add(tx, groups.group(tx, "anc").id, _many(tx), by=TEST)
    assert [count(look) for look in looks] == before


def _many(tx):
    from storage.contacts import cases
    from storage.contacts.cases import Wanted

    wanted = [Wanted(None, {"external_id": f"m-{n}", "contact_phone_number": f"2332440{n:05}"}) for n in range(200)]
    return cases.save(tx, wanted, by=TEST)


def test_without_a_group_the_members_of_every_one_of_yours_are_told_with_their_group(db, world, desk, busy):
    found = frames.members(desk)
    assert list(zip(found["group"], found["external_id"], strict=True)) == [
        ("anc", "p-1"),
        ("anc", "p-2"),
        ("tb", "p-4"),
    ]
    mine = Desk(db, world.person("Kofi", "233241110077", "supervisor", "tb").id)
    assert list(frames.members(mine)["external_id"]) == ["p-4"]
    with db.transaction() as tx:
        groups.delete(tx, busy["tb"], by=TEST)
    assert list(frames.members(desk)["group"].unique()) == ["anc"]


def test_the_parts_of_a_funnel_add_up_to_its_recipients(db, world, desk, busy):
    assert frames.funnels(desk)["recipients"].tolist() == [2]
    with db.transaction() as tx:
        broadcasts.launch(tx, busy["number"], hold_s=0, by=TEST)
    expand(world)
    (row,) = frames.funnels(desk).to_dict("records")
    assert (row["number"], row["whom"], row["recipients"]) == (busy["number"], "Antenatal care", 2)
    assert (row["to_go"], row["skipped"]) == (1, 1), "Kofi said STOP"
    assert sum(row[part] for part in delivery.PARTS) == row["recipients"]
    found = frames.recipients(desk).set_index("external_id")
    assert found.loc["p-2", ["part", "why"]].tolist() == ["skipped", "the number said STOP"]
    assert frames.recipients(desk, busy["number"]).shape == (2, len(delivery.COLUMNS))
    assert str(found["settled_at"].dtype) == "datetime64[us, Africa/Accra]"


def test_where_nothing_was_sent_the_frames_are_empty_and_whole(db, world):
    fresh = Desk(db, world.person("Esi", "233241110001").id)
    assert frames.funnels(fresh).empty and list(frames.recipients(fresh)) == list(delivery.COLUMNS)
    assert frames.members(fresh).empty
