"""Who owns a number and who waits for it; how a case is found by whatever a person typed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, inspect, update
from sqlalchemy.exc import IntegrityError

from storage.contacts import cases, lookup
from storage.contacts.cases import Wanted
from storage.errors import Problem
from storage.rules import numbers
from storage.rules.identifiers import read
from storage.schema import audit_changes
from storage.schema import cases as cases_table
from tests.world import TEST, World, broken_line

NUMBER, OTHER = "233241234567", "233209876543"


def standing(world, case):
    with world.db.reading() as tx:
        return cases.standing(tx, lookup.contact(tx, case))


def owner(world, phone=NUMBER):
    with world.db.reading() as tx:
        row = cases.owners_of(tx, [phone]).get(phone)
        return row.external_id if row else None


def find_one(world, typed):
    with world.db.reading() as tx:
        return lookup.find_one(tx, typed)


# -- one owner per number ----------------------------------------------------------------------------------------------


def test_the_first_to_verify_a_number_owns_it(world):
    first = world.look(world.case("ama", "233241234567"))
    second = world.look(world.case("kofi", "233241234567"))

    assert first.two_way
    assert not second.two_way
    with world.db.reading() as tx:
        standing = cases.standing(tx, second)
    assert standing.owner == first.case_id
    assert standing.waiting == (second.case_id,)


def test_the_first_of_one_sheet_owns_the_number_that_both_claim(world):
    values = {"contact_phone_number": NUMBER, "contact_phone_number_is_verified": True}
    with world.db.transaction() as tx:
        wanted = [Wanted(None, {"external_id": name, **values}) for name in ("ama", "kofi")]
        ids = cases.save(tx, wanted, by=TEST)
    assert [world.look(i).two_way for i in ids] == [True, False]


def test_an_unverified_case_neither_owns_its_number_nor_stands_in_line(world):
    ama = world.case("ama", NUMBER, verified=False)
    assert standing(world, ama) == cases.Standing(None, ())


def test_a_case_without_a_number_has_no_standing(world):
    assert standing(world, world.case("ama")) == cases.Standing(None, ())


LEAVING = {
    "changes its number": {"contact_phone_number": OTHER},
    "gives up its number": {"contact_phone_number": None},
    "is closed": {"status": "closed"},
    "loses its verification": {"contact_phone_number_is_verified": False},
}


@pytest.mark.parametrize("values", LEAVING.values(), ids=LEAVING)
def test_the_next_in_line_becomes_owner_when_the_owner(world, clock, values):
    line = []
    for name in ("ama", "kofi", "yaw", "esi"):
        line.append(world.case(name, NUMBER))
        clock.advance(minutes=1)

    world.change(line[0], **values)

    assert not world.look(line[0]).two_way
    assert owner(world) == "kofi"
    assert standing(world, line[1]).waiting == tuple(world.look(c).case_id for c in line[2:])


def test_the_line_is_in_the_order_of_registration_and_not_of_age(world, clock):
    old, ama = world.case("old"), world.case("ama", NUMBER)
    kofi = world.case("kofi", NUMBER)
    clock.advance(days=1)
    world.change(old, contact_phone_number=NUMBER, contact_phone_number_is_verified=True)

    world.change(ama, status="closed")

    assert owner(world) == "kofi"
    assert standing(world, kofi).waiting == (world.look(old).case_id,)


def test_when_the_owner_and_the_next_leave_together_the_third_becomes_owner(world):
    ama, kofi, _yaw = (world.case(name, NUMBER) for name in ("ama", "kofi", "yaw"))
    with world.db.transaction() as tx:
        cases.save(tx, [Wanted(ama, {"status": "closed"}), Wanted(kofi, {"status": "closed"})], by=TEST)
    assert owner(world) == "yaw"


def test_one_who_was_closed_and_opened_again_stands_at_the_end(world, clock):
    ama, _kofi = world.case("ama", NUMBER), world.case("kofi", NUMBER)
    world.change(ama, status="closed")
    clock.advance(hours=1)
    world.change(ama, status="open")
    assert owner(world) == "kofi"
    assert standing(world, ama).waiting == (world.look(ama).case_id,)


def test_a_change_of_anything_else_keeps_the_place_in_line(world, clock):
    ama, kofi, _yaw = (world.case(name, NUMBER) for name in ("ama", "kofi", "yaw"))
    clock.advance(hours=1)
    world.change(kofi, name="Kofi Mensah", contact_phone_number_is_verified=True)
    world.change(ama, status="closed")
    assert owner(world) == "kofi"


def test_two_owners_may_exchange_their_numbers_in_one_save(world):
    ama, kofi = world.case("ama", NUMBER), world.case("kofi", OTHER)
    with world.db.transaction() as tx:
        verified = {"contact_phone_number_is_verified": True}
        cases.save(
            tx,
            [
                Wanted(ama, {"contact_phone_number": OTHER, **verified}),
                Wanted(kofi, {"contact_phone_number": NUMBER, **verified}),
            ],
            by=TEST,
        )
    assert (owner(world, NUMBER), owner(world, OTHER)) == ("kofi", "ama")


def test_a_changed_number_is_no_longer_verified(world):
    ama = world.case("ama", NUMBER)
    world.change(ama, contact_phone_number=OTHER)
    assert not world.look(ama).contact_phone_number_is_verified
    assert owner(world, OTHER) is None


def test_a_changed_number_that_is_said_to_be_verified_is(world):
    ama = world.case("ama", NUMBER)
    world.change(ama, contact_phone_number=OTHER, contact_phone_number_is_verified=True)
    assert owner(world, OTHER) == "ama"


def test_no_number_is_never_a_verified_number(world):
    with world.db.transaction() as tx:
        case = cases.save(tx, [Wanted(None, {"contact_phone_number_is_verified": True})], by=TEST)[0]
    assert not world.look(case).contact_phone_number_is_verified


def test_the_database_itself_refuses_a_second_owner(world):
    world.case("ama", NUMBER)
    kofi = world.case("kofi", NUMBER)
    with world.db.reading() as tx, pytest.raises(IntegrityError, match=r"phone_key|one_owner_per_number"):
        tx.execute(update(cases_table).where(cases_table.c.id == kofi).values(two_way=True))
    row = {"case_id": "x", "case_id_key": "x", "contact_phone_number": NUMBER, "phone_key": NUMBER, "two_way": True}
    with world.db.reading() as tx, pytest.raises(IntegrityError, match=r"phone_key|one_owner_per_number"):
        tx.execute(insert(cases_table), {**row, "created_at": tx.now, "modified_at": tx.now})


def test_the_rule_of_one_owner_has_a_name_in_the_database(db):
    with db.reading() as tx:
        found = {i["name"]: i for i in inspect(tx.connection).get_indexes("cases")}
    assert found["one_owner_per_number"]["unique"]
    assert found["one_owner_per_number"]["column_names"] == ["phone_key"]


def test_the_database_refuses_an_owner_without_a_number(world):
    ama = world.case("ama")
    with world.db.reading() as tx, pytest.raises(IntegrityError, match="two_way_needs_a_number"):
        tx.execute(update(cases_table).where(cases_table.c.id == ama).values(two_way=True))


_steps = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["to-one", "to-other", "verify", "unverify", "close", "open"])),
    max_size=14,
)


class Lines:
    """The model: for each number those who stand in line, the owner first."""

    def __init__(self):
        self.number, self.verified, self.open = [None] * 4, [False] * 4, [True] * 4
        self.line = {NUMBER: [], OTHER: []}

    def step(self, n, what):
        values = {
            "to-one": {"contact_phone_number": NUMBER},
            "to-other": {"contact_phone_number": OTHER},
            "verify": {"contact_phone_number_is_verified": True},
            "unverify": {"contact_phone_number_is_verified": False},
            "close": {"status": "closed"},
            "open": {"status": "open"},
        }[what]
        number = values.get("contact_phone_number", self.number[n])
        if number != self.number[n]:
            self.number[n], self.verified[n] = number, False
        self.verified[n] = values.get("contact_phone_number_is_verified", self.verified[n]) and number is not None
        self.open[n] = {"close": False, "open": True}.get(what, self.open[n])
        for phone, line in self.line.items():
            claims = phone == number and self.verified[n] and self.open[n]
            if claims and n not in line:
                line.append(n)
            if not claims and n in line:
                line.remove(n)
        return values


@settings(max_examples=25, deadline=None)
@given(_steps)
def test_whatever_happens_the_first_in_line_owns_and_nobody_else(new_db, steps):
    with new_db() as db:
        world, model = World(db), Lines()
        ids = [world.case(f"p{n}") for n in range(4)]
        for n, what in steps:
            db.clock.advance(seconds=1)
            world.change(ids[n], **model.step(n, what))
        with db.reading() as tx:
            for phone, line in model.line.items():
                found = cases.owners_of(tx, [phone]).get(phone)
                assert (found and found.id) == (ids[line[0]] if line else None)
                if found:
                    waiting = [lookup.contact(tx, ids[n]).case_id for n in line[1:]]
                    assert list(cases.standing(tx, found).waiting) == waiting


# -- finding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        "233241234567", "+233 24 123 4567", "00233-24-123-4567", "(233) 24.123.4567", "0241234567", "٢٣٣٢٤١٢٣٤٥٦٧",
        "ANC-1", " anc-1 ", "ＡＮＣ－１", "anc–1",
    ],
)  # fmt: skip
def test_a_case_is_found_by_phone_and_external_id_however_they_are_typed(world, typed):
    world.case("other", OTHER)
    case = world.case("Anc-1", NUMBER)
    assert find_one(world, typed).id == case


def test_a_case_is_found_by_its_case_id_however_it_is_typed(world):
    case = world.look(world.case("ama"))
    assert find_one(world, f"  {case.case_id.upper()} ").id == case.id


def test_an_identifier_that_two_open_cases_fit_is_refused_and_both_are_named(world):
    both = [world.look(world.case(name, NUMBER)).case_id for name in ("ama", "kofi")]
    with pytest.raises(Problem) as refused:
        find_one(world, NUMBER)
    assert refused.value.key == "case-ambiguous"
    assert refused.value.values["candidates"] == ", ".join(both)


def test_of_an_open_and_a_closed_case_on_one_phone_the_open_one_is_meant(world):
    world.case("ama", NUMBER, status="closed")
    kofi = world.case("kofi", NUMBER)
    assert find_one(world, NUMBER).id == kofi


def test_a_closed_case_is_found_where_no_open_one_fits(world):
    ama = world.case("ama", NUMBER, status="closed")
    assert find_one(world, NUMBER).id == ama


def test_a_phone_that_is_the_id_of_another_is_ambiguous(world):
    world.case("ama", NUMBER)
    world.case(NUMBER, OTHER)
    with pytest.raises(Problem, match="case-ambiguous"):
        find_one(world, NUMBER)


def test_a_case_that_fits_in_two_ways_is_still_one_case(world):
    case = world.case(NUMBER, NUMBER)
    assert find_one(world, NUMBER).id == case


@pytest.mark.parametrize(("typed", "near"), [("anc-21", "ANC-1"), ("anc1", "ANC-1"), ("nac-1", "ANC-1"), ("23324123456", NUMBER), ("233241234576", NUMBER)])  # fmt: skip
def test_an_identifier_one_slip_away_is_suggested_as_it_is_written(world, typed, near):
    world.case("ANC-1", NUMBER)
    with pytest.raises(Problem) as unknown:
        find_one(world, typed)
    assert unknown.value.key == "case-unknown-near"
    assert unknown.value.values == {"typed": typed, "near": near}


def test_a_case_id_one_slip_away_is_suggested(world):
    case_id = world.look(world.case("ama")).case_id
    with pytest.raises(Problem) as unknown:
        find_one(world, case_id[:-1])
    assert unknown.value.values["near"] == case_id


def test_an_identifier_two_slips_away_is_only_echoed(world):
    world.case("ANC-1", NUMBER)
    with pytest.raises(Problem) as unknown:
        find_one(world, "anc-345")
    assert (unknown.value.key, unknown.value.values) == ("case-unknown", {"typed": "anc-345"})


def test_our_own_case_ids_can_never_be_read_as_a_number(world):
    with world.db.transaction() as tx:
        ids = cases.save(tx, [Wanted(None, {}) for _ in range(200)], by=TEST)
        made = [lookup.contact(tx, i).case_id for i in ids]
    for country in (None, "GH", "US"):
        assert [read(case_id, country=country).phone for case_id in made] == [None] * len(made)
        assert numbers.find(made[0], country=country) is None


def test_finding_keeps_the_order_in_which_was_asked(world):
    ama, kofi = world.case("ama", NUMBER), world.case("kofi", OTHER)
    asked = [read(typed, country="GH") for typed in ("kofi", "nobody", NUMBER, "kofi")]
    with world.db.reading() as tx:
        assert [[row.id for row in rows] for rows in lookup.find(tx, asked)] == [[kofi], [], [ama], [kofi]]
        assert lookup.find(tx, []) == []


def test_a_text_is_from_the_owner_of_its_number_else_from_the_open_case_longest_on_it(world):
    unverified, ama = world.case("esi", NUMBER, verified=False), world.case("ama", NUMBER)
    with world.db.reading() as tx:
        assert lookup.by_phone(tx, NUMBER).id == ama
        assert lookup.by_phone(tx, OTHER) is None
    world.change(ama, status="closed")
    with world.db.reading() as tx:
        assert lookup.by_phone(tx, NUMBER).id == unverified


def test_a_case_that_is_not_there_is_a_mistake_of_the_caller(db):
    with db.reading() as tx, pytest.raises(LookupError):
        lookup.contact(tx, 99)


# -- saving ------------------------------------------------------------------------------------------------------------


def _many(count):
    return [
        Wanted(None, {"external_id": f"p-{n}", "contact_phone_number": f"23324{n:07}", "contact_phone_number_is_verified": True})
        for n in range(count)
    ]  # fmt: skip


def test_a_save_of_two_thousand_cases_is_as_many_statements_as_a_save_of_two(db, statements):
    counts = []
    for count in (2, 2000):
        with statements(db) as ran, db.transaction() as tx:
            ids = cases.save(tx, _many(count)[:count], by=TEST)
        with statements(db) as again, db.transaction() as tx:
            cases.save(tx, [Wanted(i, {"status": "closed"}) for i in ids], by=TEST)
        counts.append((len(ran), len(again)))
    assert abs(counts[0][0] - counts[1][0]) <= 8  # the temporary tables are made once, and copied into on PostgreSQL
    assert abs(counts[0][1] - counts[1][1]) <= 4
    assert max(map(max, counts)) < 40


def test_the_ids_come_back_in_the_order_given(db):
    with db.transaction() as tx:
        ids = cases.save(tx, _many(50), by=TEST)
        assert [lookup.contact(tx, i).external_id for i in ids] == [f"p-{n}" for n in range(50)]


def test_a_save_writes_one_audit_line_with_old_and_new_values(world):
    ama = world.case("ama", NUMBER)
    world.change(ama, name="Ama Boateng")
    with world.db.reading() as tx:
        change = tx.execute(audit_changes.select().order_by(audit_changes.c.entry_id.desc())).first()
    assert (change.before, change.after) == ({"name": "Ama"}, {"name": "Ama Boateng"})


def test_a_save_that_changes_nothing_moves_no_date(world, clock):
    ama = world.case("ama", NUMBER)
    before = world.look(ama)
    clock.advance(hours=1)
    world.change(ama, name="Ama", contact_phone_number_is_verified=True)
    assert world.look(ama) == before


def test_further_columns_are_merged_and_one_set_to_none_is_taken_away(world):
    ama = world.case("ama")
    with world.db.transaction() as tx:
        cases.save(tx, [Wanted(ama, {}, {"district": "Kisumu", "village": "Ahero"})], by=TEST)
        cases.save(tx, [Wanted(ama, {}, {"village": None, "clinic": "3"})], by=TEST)
    assert world.look(ama).properties == {"district": "Kisumu", "clinic": "3"}


def test_two_cases_cannot_have_one_case_id(world):
    with pytest.raises(IntegrityError, match="case_id_key"), world.db.transaction() as tx:
        cases.save(tx, [Wanted(None, {}, case_id="abc"), Wanted(None, {}, case_id="ABC ")], by=TEST)
    with world.db.reading() as tx:
        assert lookup.list_all(tx) == []
        assert broken_line(tx) is None
