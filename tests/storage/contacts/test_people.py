"""Supervisors and other staff: roles, the groups they may touch, and the lead that there must be."""

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from storage.contacts import groups, people
from storage.errors import Problem
from storage.schema import ROLES
from storage.schema import people as table
from tests.world import TEST

PHONE, OTHER = "233241110001", "233241110002"


def test_every_role_has_its_rights_and_each_role_that_does_more_may_do_what_the_lesser_may():
    assert set(people.RIGHTS) == set(ROLES)
    assert people.RIGHTS["viewer"] < people.RIGHTS["supervisor"] < people.RIGHTS["lead"]
    assert people.RIGHTS["helper"] < people.RIGHTS["supervisor"]
    assert "tell" not in people.RIGHTS["helper"] | people.RIGHTS["viewer"]


@pytest.mark.parametrize(("role", "right", "may"), [("lead", "lead", True), ("supervisor", "tell", True), ("supervisor", "lead", False), ("helper", "add", True), ("helper", "read", False), ("viewer", "read", True), ("viewer", "add", False)])  # fmt: skip
def test_a_person_may_do_what_the_role_says(world, role, right, may):
    assert people.may(world.person("Ama", PHONE, role), right) is may


def test_a_number_is_kept_as_digits_and_read_as_everywhere(world):
    ama = world.person("Ama", "+233 24 111 0001")
    assert ama.phone == PHONE
    with world.db.reading() as tx:
        assert people.person(tx, "0241110001").id == ama.id
        assert people.by_phone(tx, PHONE).id == ama.id


def test_a_number_that_nobody_registered_is_refused(world):
    with world.db.reading() as tx, pytest.raises(Problem, match="person-unknown"):
        people.person(tx, PHONE)


@pytest.mark.parametrize(("values", "key"), [(("Ama", PHONE, "boss"), "person-role"), (("  ", PHONE, "lead"), "person-name"), (("Ama", "12", "lead"), "number-"), (("Ama", PHONE, "lead", "anc"), "group-unknown")])  # fmt: skip
def test_a_person_is_refused_with_the_reason(world, values, key):
    with pytest.raises(Problem) as refused:
        world.person(*values)
    assert refused.value.key.startswith(key)


def test_a_refused_person_leaves_nothing_behind_even_where_the_refusal_is_caught(world):
    ama = world.person("Ama", PHONE)
    with world.db.transaction() as tx:
        with pytest.raises(Problem, match="group-unknown"):
            people.add(tx, "Kofi", OTHER, "helper", shorts=["nosuch"], by=TEST)
        with pytest.raises(Problem, match="group-unknown"):
            people.change(tx, ama, language="sw", shorts=["nosuch"], by=TEST)
    with world.db.reading() as tx:
        assert people.by_phone(tx, OTHER) is None
        assert people.by_phone(tx, PHONE).language_code is None


def test_a_number_belongs_to_one_active_person(world):
    ama = world.person("Ama", PHONE)
    world.person("Esi", OTHER)
    with pytest.raises(Problem, match="person-exists"):
        world.person("Kofi", PHONE)
    with (
        world.db.reading() as tx,
        pytest.raises(IntegrityError, match=r"people\.phone_key|one_active_person_per_phone"),
    ):
        tx.execute(
            insert(table),
            {"name": "x", "phone": PHONE, "phone_key": PHONE, "role": "lead", "active": True, "created_at": tx.now},
        )
    with world.db.transaction() as tx:
        people.remove(tx, ama, by=TEST)
    assert world.person("Kofi", PHONE).name == "Kofi"


def test_a_lead_sees_every_group_and_the_others_their_own(world):
    world.group("anc"), world.group("tb")
    lead, helper = world.person("Ama", PHONE), world.person("Kofi", OTHER, "helper", "tb")
    with world.db.reading() as tx:
        assert [g.short for g in people.groups_of(tx, lead)] == ["anc", "tb"]
        assert [g.short for g in people.groups_of(tx, helper)] == ["tb"]


def test_a_group_that_is_deleted_leaves_everybodys_scope(world):
    tb = world.group("tb")
    helper = world.person("Kofi", OTHER, "helper", "tb")
    with world.db.transaction() as tx:
        groups.delete(tx, tb, by=TEST)
        assert people.groups_of(tx, helper) == []


def test_a_group_made_for_a_person_is_in_that_persons_scope(world):
    kofi = world.person("Kofi", OTHER, "supervisor")
    with world.db.transaction() as tx:
        groups.create(tx, "anc", for_person=kofi.id, by=TEST)
        assert [g.short for g in people.groups_of(tx, kofi)] == ["anc"]


def test_a_change_sets_what_is_given_and_leaves_the_rest(world):
    world.group("anc"), world.group("tb")
    kofi = world.person("Kofi", OTHER, "helper", "anc")
    with world.db.transaction() as tx:
        people.change(tx, kofi, role="supervisor", by=TEST)
        people.change(tx, people.by_phone(tx, OTHER), language="sw", by=TEST)
        people.change(tx, people.by_phone(tx, OTHER), shorts=["tb"], by=TEST)
        now = people.by_phone(tx, OTHER)
        assert (now.role, now.language_code) == ("supervisor", "sw")
        assert [g.short for g in people.groups_of(tx, now)] == ["tb"]


def test_a_person_has_a_language_by_its_code_or_none(world):
    kofi = world.person("Kofi", OTHER, "helper")
    with pytest.raises(Problem, match="language-shape"), world.db.transaction() as tx:
        people.change(tx, kofi, language="spanish", by=TEST)
    with pytest.raises(Problem, match="language-shape"), world.db.transaction() as tx:
        people.add(tx, "Esi", "233241110003", "helper", language="spanish", by=TEST)
    with world.db.transaction() as tx:
        people.change(tx, kofi, language="pt-BR", by=TEST)
        assert people.by_phone(tx, OTHER).language_code == "pt-BR"


@pytest.mark.parametrize("act", [lambda tx, p: people.remove(tx, p, by=TEST), lambda tx, p: people.change(tx, p, role="helper", by=TEST)])  # fmt: skip
def test_the_last_lead_stays_a_lead(world, act):
    ama = world.person("Ama", PHONE)
    world.person("Kofi", OTHER, "supervisor")
    with pytest.raises(Problem, match="person-last-lead"), world.db.transaction() as tx:
        act(tx, ama)
    esi = world.person("Esi", "233241110003")
    with world.db.transaction() as tx:
        act(tx, ama)
        assert [p.id for p in people.leads(tx)] == [esi.id]


def test_what_a_removed_person_did_stays_under_their_name(world):
    world.person("Ama", PHONE)
    kofi = world.person("Kofi", OTHER, "helper")
    with world.db.transaction() as tx:
        people.remove(tx, kofi, by=TEST)
        assert people.by_phone(tx, OTHER) is None
        assert people.by_id(tx, kofi.id) is None
        assert people.named(tx, kofi.id) == "Kofi"
        assert people.named(tx, None) == "system"
        assert [p.name for p in people.list_all(tx)] == ["Ama"]
        assert tx.execute(select(table)).all()[1].id == kofi.id
