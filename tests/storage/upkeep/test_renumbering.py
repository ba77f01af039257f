"""What an upgrade does where numbers that were two are one phone by its rules: who owns it, who stays, what is told."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from bot import health
from bot.worker import reconciler
from storage import audit
from storage.broadcasts import broadcasts, expansion, previews
from storage.contacts import consent, groups, people
from storage.database import Database
from storage.messages import lookups, outbox
from storage.rules import phone_keys
from storage.schema import REVISION, cases, consent_events, messages, person_groups, phone_plans
from storage.schema import people as people_table
from storage.upkeep import migrate, renumbering
from tests.world import TEST, World, broken_line

TODAY, BEFORE = "525512345690", "5215512345690"


def as_before(db: Database) -> None:
    """Make every key the number itself, as the release before this one had it."""
    migrate.downgrade(db, "0009")
    migrate.upgrade(db, REVISION)  # by its number it makes no key anew


@pytest.fixture
def two(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A programme of before: the same phone is two cases, two owners, two people, and said STOP under one spelling."""
    monkeypatch.setattr(phone_keys, "key", str)
    kofi = world.case("kofi", BEFORE)
    ama = world.case("ama", TODAY)
    made = {"kofi": kofi, "ama": ama, "group": world.group("anc", ama, kofi)}
    world.group("tb")
    made["samuel"] = world.person("Samuel", BEFORE, "supervisor", "anc")
    made["lena"] = world.person("Lena", TODAY, "lead", "tb")
    monkeypatch.undo()
    return made


def upgraded(world: World) -> None:
    migrate.upgrade(world.db)


def test_the_earliest_claim_owns_a_phone_that_two_owned_and_the_other_stands_in_line(
    world: World, two: dict[str, Any]
) -> None:
    as_before(world.db)
    assert world.look(two["ama"]).two_way
    assert world.look(two["kofi"]).two_way
    upgraded(world)
    assert (world.look(two["kofi"]).two_way, world.look(two["ama"]).two_way) == (True, False)
    assert world.look(two["ama"]).claimed_at is not None
    with world.db.reading() as tx:
        line = audit.list_since(tx, 0, (renumbering.ONE_PHONE_CASE,))
        assert [one.facts for one in line] == [{"cases": 1}]
        assert broken_line(tx) is None


def test_a_stop_under_one_spelling_holds_for_the_other_after_the_upgrade(world: World) -> None:
    world.case("ama", TODAY)
    with world.db.transaction() as tx:
        consent.hear(tx, BEFORE, "stop", words="STOP", message_id=None, by=TEST)
        tx.execute(update(consent_events).values(phone_key=BEFORE))
        tx.execute(update(phone_plans).values(version=0))
    with world.db.reading() as tx:
        assert consent.may_text(tx, TODAY), "as it was before"
    upgraded(world)
    with world.db.reading() as tx:
        assert not consent.may_text(tx, TODAY)
        assert not consent.may_text(tx, BEFORE)
        assert tx.scalar(select(consent_events.c.phone)) == BEFORE, "what was received stays"


def test_of_two_accounts_on_one_phone_the_older_stays_with_the_groups_of_both_and_the_last_lead_is_not_lost(
    world: World, two: dict[str, Any]
) -> None:
    as_before(world.db)
    upgraded(world)
    with world.db.reading() as tx:
        active = tx.execute(select(people_table).where(people_table.c.active)).all()
        shorts = [g.short for g in groups.list_live(tx, only=_groups_of(tx, two["samuel"].id))]
    assert [(p.name, p.role) for p in active] == [("Samuel", "lead")]
    assert sorted(shorts) == ["anc", "tb"]


def test_a_role_stays_where_another_lead_is_there(world: World, two: dict[str, Any]) -> None:
    world.person("Joy", "233244000009", "lead")
    as_before(world.db)
    upgraded(world)
    with world.db.reading() as tx:
        found = people.by_phone(tx, TODAY)
        assert found is not None
        assert (found.id, found.role) == (two["samuel"].id, "supervisor")


def test_of_a_broadcast_that_runs_nobody_is_texted_by_both_spellings_and_what_left_keeps_its_key(
    world: World, two: dict[str, Any]
) -> None:
    with world.db.transaction() as tx:
        tx.execute(update(phone_plans).values(version=0))
        number = previews.draft(tx, {"en": "Closed"}, group_ids=[two["group"]], by=TEST)
        broadcasts.launch(tx, number, hold_s=0, by=TEST)
    with world.db.transaction() as tx:
        while expansion.expand_next(tx):
            pass
        old = outbox.queue(tx, BEFORE, "hello", "notice")
        tx.execute(update(messages).where(messages.c.id == old).values(state="delivered", phone_key=BEFORE))
        tx.execute(update(messages).where(messages.c.broadcast_id == number).values(state="queued", reason=None))
        tx.execute(
            update(messages)
            .where(messages.c.broadcast_id == number, messages.c.phone == BEFORE)
            .values(phone_key=BEFORE)
        )
        tx.execute(update(cases).where(cases.c.contact_phone_number == BEFORE).values(phone_key=BEFORE, two_way=True))
    upgraded(world)
    with world.db.reading() as tx:
        rows = {row.phone: row for row in lookups.list_all(tx, direction="out") if row.broadcast_id == number}
        delivered = lookups.message(tx, old)
    assert sorted((row.state, row.reason) for row in rows.values()) == [("queued", None), ("withheld", "same-phone")]
    assert delivered is not None
    assert delivered.phone_key == BEFORE


def test_an_upgrade_without_new_rules_changes_nothing(world: World, two: dict[str, Any]) -> None:
    as_before(world.db)
    upgraded(world)
    with world.db.reading() as tx:
        before = (audit.head(tx), tx.execute(select(cases.c.id, cases.c.phone_key, cases.c.two_way)).all())
    upgraded(world)
    with world.db.reading() as tx:
        assert (audit.head(tx), tx.execute(select(cases.c.id, cases.c.phone_key, cases.c.two_way)).all()) == before


def test_a_new_version_of_one_plan_renews_the_keys_of_its_country_alone(world: World) -> None:
    mexican, vietnamese = world.case("mex", BEFORE), world.case("vie", "841201234567")
    with world.db.transaction() as tx:
        tx.execute(update(cases).values(phone_key=cases.c.contact_phone_number))
        tx.execute(update(phone_plans).where(phone_plans.c.code == "52").values(version=0))
    upgraded(world)
    assert world.look(mexican).phone_key == TODAY
    assert world.look(vietnamese).phone_key == "841201234567"


def test_the_leads_are_told_once_and_the_doctor_says_it(world: World, two: dict[str, Any]) -> None:
    as_before(world.db)
    upgraded(world)
    with world.db.transaction() as tx:
        assert reconciler.tell_of_one_phone(tx) == 1
        assert reconciler.tell_of_one_phone(tx) == 0
        (notice,) = lookups.list_all(tx, direction="out")
    assert notice.phone == BEFORE, "who is the lead now"
    assert "1 cases wait" in notice.body
    assert "1 accounts" in notice.body
    says = {name: (well, words) for name, well, words in health.examine(world.db)}
    assert says["numbers"][0]
    assert "1 case stand in line" in says["numbers"][1]


def _groups_of(tx: Any, person: int) -> set[int]:
    mine = select(person_groups.c.group_id).where(person_groups.c.person_id == person)
    return set(tx.execute(mine).scalars())
