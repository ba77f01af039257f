"""Bulk changes from a sheet: one verdict a row, all of it or nothing, and the second time nothing."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from storage.console import sentence
from storage.contacts import cases, consent, groups, lookup
from storage.errors import Problem
from storage.schema import audit, audit_changes, memberships
from storage.schema import cases as cases_table
from storage.sheets import imports, members, plans
from tests.breaking import break_rows
from tests.storage.rows import Cell, sheet
from tests.world import TEST, broken_line

NUMBER, OTHER = "233241234567", "233209876543"


def plan(world, group, rows, mode="add"):
    with world.db.reading() as tx:
        return members.plan_members(tx, group, rows, mode)


def apply(world, group, rows, mode="add", **planned):
    with world.db.transaction() as tx:
        return members.apply_members(tx, group, rows, mode, by=TEST, **planned)


def members_of(world, group):
    with world.db.reading() as tx:
        return [row.external_id for row in groups.members(tx, group)]


def verdicts(plan):
    return [(v.row, v.verdict) for v in plan.verdicts]


def reasons(plan):
    return [sentence(v.reason) if v.reason else None for v in plan.verdicts]


def plan_cases(world, *rows):
    with world.db.reading() as tx:
        return imports.plan_cases(tx, sheet(*rows))


def load(world, *rows, **planned):
    with world.db.transaction() as tx:
        return imports.apply_cases(tx, sheet(*rows), by=TEST, **planned)


def case_named(world, external_id):
    with world.db.reading() as tx:
        return tx.execute(select(cases_table).where(cases_table.c.external_id == external_id)).one()


# -- members: verdicts -------------------------------------------------------------------------------------------------


@pytest.fixture
def clinic(world):
    """A group `anc` with ama in it, and one case of every other kind."""
    ama = world.case("ama", NUMBER)
    world.case("kofi", "233201111111")
    world.case("nophone")
    world.case("gone", "233202222222", status="closed")
    world.case("twin1", "233203333333")
    world.case("twin2", "233203333333")
    return world.group("anc", ama)


EVERY_KIND = sheet(
    "kofi", "ama", "+233 20 111 1111", "kofii", "nosuch-9", "233203333333", "nophone", "gone", Cell("1.55512E+10", "Excel shortened it"), ""
)  # fmt: skip


def test_each_row_of_a_sheet_to_add_gets_one_verdict_with_its_row_number(world, clinic):
    assert verdicts(plan(world, clinic, EVERY_KIND)) == [
        (2, "add"), (3, "already_in"), (4, "duplicate"), (5, "not_found"), (6, "not_found"), (7, "ambiguous"),
        (8, "no_phone"), (9, "closed"), (10, "unreadable"), (11, "unreadable"),
    ]  # fmt: skip


def test_each_row_that_does_nothing_says_why_and_what_to_do(world, clinic):
    told = reasons(plan(world, clinic, EVERY_KIND))
    assert told[0] is None
    assert told[1] == "Is in the group already."
    assert told[2] == "The same case as in row 2: delete one of the two."
    assert told[3].startswith("No case has kofii as phone number")
    assert told[5].startswith("233203333333 fits several cases: c-")
    assert told[6] == "The case has no phone number: give it one first."
    assert told[7] == "The case is closed: open it again first."
    assert told[8] == "Excel shortened it"
    assert told[9].startswith("The cell in column case_identifier is empty")


def test_a_row_that_is_not_found_echoes_what_was_typed_and_suggests_what_is_near(world, clinic):
    found = plan(world, clinic, EVERY_KIND)
    assert [(v.identifier, v.suggestion) for v in found.verdicts[3:5]] == [("kofii", "kofi"), ("nosuch-9", None)]


def test_the_counts_hold_only_the_verdicts_that_occur(world, clinic):
    assert plan(world, clinic, sheet("kofi", "ama", "x-x", "y-y")).counts == {"add": 1, "already_in": 1, "not_found": 2}


def test_a_column_that_is_missing_makes_each_row_unreadable(world, clinic):
    assert verdicts(plan(world, clinic, sheet({"name": "Ama"}))) == [(2, "unreadable")]


def test_an_empty_sheet_has_an_empty_plan(world, clinic):
    assert verdicts(plan(world, clinic, [])) == []


def test_a_sheet_to_remove_takes_out_closed_cases_and_those_without_a_number(world, clinic):
    ids = [case_named(world, name).id for name in ("nophone", "kofi")]
    with world.db.transaction() as tx:
        groups.add(tx, clinic, ids, by=TEST)
    world.change(ids[1], status="closed")
    done = apply(world, clinic, sheet("kofi", "nophone", "twin1", "nosuch-9", "kofi"), "remove")
    assert verdicts(done) == [(2, "remove"), (3, "remove"), (4, "not_member"), (5, "not_found"), (6, "duplicate")]
    assert members_of(world, clinic) == ["ama"]


def test_a_sheet_to_replace_takes_out_whoever_is_not_in_it_and_names_them(world, clinic):
    done = apply(world, clinic, sheet("kofi", "twin1"), "replace")
    assert verdicts(done) == [(2, "add"), (3, "add"), (None, "remove")]
    assert (done.verdicts[2].identifier, done.verdicts[2].reason.key) == ("ama", "row-left-out")
    assert members_of(world, clinic) == ["kofi", "twin1"]


def test_a_replace_keeps_a_member_who_is_closed_but_in_the_sheet(world, clinic):
    world.change(case_named(world, "ama").id, status="closed")
    assert verdicts(apply(world, clinic, sheet("ama"), "replace")) == [(2, "already_in")]
    assert members_of(world, clinic) == ["ama"]


@pytest.mark.parametrize("unsure", ["nosuch-9", "233203333333", Cell("x", "unreadable"), ""])
def test_a_replace_is_refused_while_a_row_is_unsure_and_drops_nobody(world, clinic, unsure):
    with pytest.raises(Problem) as refused:
        apply(world, clinic, sheet("kofi", unsure), "replace")
    assert (refused.value.key, refused.value.values) == ("replace-unsure", {"count": 1, "rows": "3"})
    assert members_of(world, clinic) == ["ama"]


def test_a_number_that_said_stop_and_one_that_another_owns_are_warnings(world, clinic):
    with world.db.transaction() as tx:
        consent.hear(tx, "233201111111", "stop", words="stop", message_id=None, by=TEST)
    found = plan(world, clinic, sheet("kofi", "twin2"))
    assert verdicts(found) == [(2, "add"), (3, "add")]
    assert [w.key for w in found.verdicts[0].warnings] == ["case-stopped"]
    (owned,) = found.verdicts[1].warnings
    assert owned.key == "number-owned"
    assert owned.values["owner"] == case_named(world, "twin1").case_id


@pytest.mark.parametrize("rows", [[], [{"name": "Ama"}]], ids=["no row at all", "no identifier"])
def test_a_replace_by_a_sheet_that_names_no_case_never_empties_the_group(world, clinic, rows):
    with pytest.raises(Problem) as refused:
        apply(world, clinic, sheet(*rows), "replace")
    assert refused.value.key == ("replace-unsure" if rows else "replace-empty")
    assert "nothing was done" in sentence(refused.value)
    assert members_of(world, clinic) == ["ama"]
    assert plan(world, clinic, sheet(*rows), "replace").refusal.key == refused.value.key


# -- members: applying -------------------------------------------------------------------------------------------------


def test_a_plan_touches_nothing(world, clinic):
    plan(world, clinic, EVERY_KIND)
    assert members_of(world, clinic) == ["ama"]


@pytest.mark.parametrize("mode", ["add", "remove", "replace"])
def test_a_sheet_applied_twice_changes_nothing_the_second_time(world, clinic, mode):
    rows = sheet("kofi", "ama", "twin1")
    apply(world, clinic, rows, mode)
    with world.db.reading() as tx:
        before = tx.execute(select(memberships)).all(), tx.execute(select(audit)).all()
    again = apply(world, clinic, rows, mode)
    with world.db.reading() as tx:
        assert (tx.execute(select(memberships)).all(), tx.execute(select(audit)).all()) == before
    assert not {"add", "remove"} & set(again.counts)


def add(world, group, case):
    with world.db.transaction() as tx:
        groups.add(tx, group, [case], by=TEST)


@pytest.mark.parametrize(
    "meanwhile",
    [
        add,
        lambda world, _group, kofi: world.change(kofi, status="closed"),
        lambda world, _group, kofi: world.change(kofi, contact_phone_number=None),
        lambda world, _group, kofi: world.change(kofi, external_id="other"),
    ],
    ids=["added by somebody", "closed", "without a number", "called otherwise"],
)
def test_a_plan_made_before_somebody_changed_the_group_or_the_case_is_refused(world, clinic, meanwhile):
    rows = sheet("kofi", "twin1")
    planned = plan(world, clinic, rows)
    meanwhile(world, clinic, case_named(world, "kofi").id)
    with pytest.raises(Problem, match="plan-stale"):
        apply(world, clinic, rows, planned=planned)
    assert "twin1" not in members_of(world, clinic)


def test_a_plan_that_still_holds_is_carried_out(world, clinic):
    rows = sheet("kofi", "twin1")
    assert apply(world, clinic, rows, planned=plan(world, clinic, rows)).counts == {"add": 2}
    assert members_of(world, clinic) == ["ama", "kofi", "twin1"]


def read_members(world, *rows):
    return members.read_members(sheet(*rows), world.db.rules)


def test_a_plan_that_nobody_disturbed_is_not_made_twice(world, clinic, statements):
    """The writer is held for what changes, not for comparing a whole sheet again."""
    read = read_members(world, *(f"p-{n}" for n in range(50)), "kofi")
    planned = plan(world, clinic, read)
    with world.db.transaction() as tx, statements(world.db) as ran:
        assert members.apply_members(tx, clinic, read, planned=planned, by=TEST) is planned
    assert not any("wanted_identifiers" in statement or "near_identifiers" in statement for statement in ran)
    assert members_of(world, clinic) == ["ama", "kofi"]


def test_a_plan_is_carried_out_after_a_change_that_does_not_touch_it(world, clinic):
    read = read_members(world, "kofi", "kofii")
    planned = plan(world, clinic, read)
    world.case("afua", "233204444444")
    done = apply(world, clinic, read, planned=planned)
    assert (done.counts, done.verdicts[1].suggestion) == ({"add": 1, "not_found": 1}, "kofi")


def test_a_plan_for_one_group_is_never_carried_out_on_another(world, clinic):
    other = world.group("tb", case_named(world, "kofi").id)
    read = read_members(world, "kofi")
    with pytest.raises(Problem, match="plan-stale"):
        apply(world, other, read, planned=plan(world, clinic, read))
    with pytest.raises(Problem, match="plan-stale"):
        apply(world, clinic, read, "remove", planned=plan(world, clinic, read))


def test_a_stop_that_came_in_meanwhile_does_not_make_a_plan_stale(world, clinic):
    read = read_members(world, "kofi")
    planned = plan(world, clinic, read)
    with world.db.transaction() as tx:
        consent.hear(tx, "233201111111", "stop", words="stop", message_id=None, by=TEST)
        assert plans.holds(tx, planned)


@pytest.mark.parametrize("change", ["case", "member added", "member removed", "group made", "group deleted"])
def test_a_plan_holds_no_longer_after_any_change_of_a_case_or_a_group(world, clinic, change):
    planned = plan(world, clinic, sheet("kofi"))
    ama, kofi = case_named(world, "ama").id, case_named(world, "kofi").id
    with world.db.transaction() as tx:
        match change:
            case "case":
                cases.save(tx, [cases.Wanted(kofi, {"status": "closed"})], by=TEST)
            case "member added":
                groups.add(tx, clinic, [kofi], by=TEST)
            case "member removed":
                groups.remove(tx, clinic, [ama], by=TEST)
            case "group made":
                groups.create(tx, "tb", by=TEST)
            case "group deleted":
                groups.delete(tx, clinic, by=TEST)
    with world.db.reading() as tx:
        assert not plans.holds(tx, planned)


def test_members_come_in_all_of_them_or_none(world, clinic):
    with world.db.transaction() as tx:
        twin = "new.case_id = (SELECT id FROM cases WHERE external_id = 'twin1')"
        break_rows(tx, "memberships", twin, "a fault in the middle")
    with pytest.raises(IntegrityError, match="a fault in the middle"):
        apply(world, clinic, sheet("kofi", "twin1", "twin2"))
    assert members_of(world, clinic) == ["ama"]


# -- cases -------------------------------------------------------------------------------------------------------------

AMA = {"external_id": "ama", "name": "Ama", "contact_phone_number": "+233 24 123 4567", "contact_phone_number_is_verified": "1", "time_zone": "Africa/Accra", "language_code": "tw", "district": "Ho"}  # fmt: skip


def test_a_row_with_a_new_external_id_makes_a_case(world):
    done = load(world, AMA)
    ama = case_named(world, "ama")
    assert done.counts == {"create": 1}
    assert (done.verdicts[0].target, done.verdicts[0].case_id) == (ama.id, ama.case_id)
    assert (ama.name, ama.contact_phone_number, ama.two_way, ama.time_zone) == ("Ama", NUMBER, True, "Africa/Accra")
    assert ama.properties == {"district": "Ho"}


def test_a_sheet_of_cases_loaded_twice_changes_nothing_the_second_time(world):
    rows = [AMA, {"external_id": "kofi", "contact_phone_number": "---", "contact_phone_number_is_verified": "1"}, {"external_id": "esi", "contact_phone_number": NUMBER, "closed": "true"}]  # fmt: skip
    load(world, *rows)
    with world.db.reading() as tx:
        before = lookup.list_all(tx)
    assert load(world, *rows).counts == {"unchanged": 3}
    with world.db.reading() as tx:
        assert lookup.list_all(tx) == before


def test_an_update_shows_old_and_new_values(world):
    load(world, AMA)
    found = plan_cases(world, AMA | {"name": "Ama B", "district": "Kpando", "language_code": "ee"})
    assert found.counts == {"update": 1}
    assert found.verdicts[0].changes == {"name": ("Ama", "Ama B"), "language_code": ("tw", "ee"), "district": ("Ho", "Kpando")}  # fmt: skip


def test_a_blank_leaves_a_value_and_two_dashes_clear_it(world):
    load(world, AMA)
    load(world, {"external_id": "ama", "name": "", "time_zone": "---", "language_code": "--", "district": "--"})
    ama = case_named(world, "ama")
    assert (ama.name, ama.time_zone, ama.language_code, ama.properties) == ("Ama", "Africa/Accra", None, {})


def test_clearing_the_number_ends_its_verification(world):
    load(world, AMA)
    load(world, {"external_id": "ama", "contact_phone_number": "--"})
    ama = case_named(world, "ama")
    assert (ama.contact_phone_number, ama.contact_phone_number_is_verified, ama.two_way) == (None, False, False)


def test_a_row_is_matched_by_case_id_first_and_may_then_change_the_external_id(world):
    ama = world.look(world.case("ama", NUMBER))
    done = load(world, {"case_id": ama.case_id.upper(), "external_id": "anc-7"})
    assert verdicts(done) == [(2, "update")]
    assert world.look(ama.id).external_id == "anc-7"


def test_an_external_id_is_matched_without_regard_to_capitals_and_spaces(world):
    ama = world.case("ANC-7", NUMBER)
    found = plan_cases(world, {"external_id": "  anc-7", "name": "Ama"})
    assert (found.verdicts[0].verdict, found.verdicts[0].target) == ("update", ama)


def test_a_row_is_never_matched_by_phone(world):
    world.case("ama", NUMBER)
    assert plan_cases(world, {"external_id": "other", "contact_phone_number": NUMBER}).counts == {"create": 1}
    assert plan_cases(world, {"contact_phone_number": NUMBER}).verdicts[0].reason.key == "row-no-id"


@pytest.mark.parametrize(("typed", "verified"), [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("No", False), ("false", False), ("", False)])  # fmt: skip
def test_a_number_is_verified_by_one_yes_and_true_and_by_nothing_else(world, typed, verified):
    load(world, AMA | {"contact_phone_number_is_verified": typed})
    assert case_named(world, "ama").contact_phone_number_is_verified is verified


INVALID = {
    "a flag that is neither yes nor no": ({"contact_phone_number_is_verified": "maybe"}, "not-yes-or-no"),
    "closed that is neither": ({"closed": "2026-01-01"}, "not-yes-or-no"),
    "a number too short": ({"contact_phone_number": "12345"}, "number-"),
    "a number with letters": ({"contact_phone_number": "call me"}, "number-letters"),
    "a number that Excel shortened": ({"contact_phone_number": "2.33241E+11"}, "number-scientific"),
    "no e-mail address": ({"commcare_email_address": "ama at home"}, "email-shape"),
    "no time zone": ({"time_zone": "Acra"}, "zone-unknown"),
    "no language": ({"language_code": "english please"}, "language-shape"),
    "no status": ({"status": "half open"}, "status-unknown"),
    "an unreadable cell": ({"contact_phone_number": Cell("#####", "too narrow")}, "cell-unreadable"),
    "an unreadable blank": ({"contact_phone_number": Cell("", "a formula without a value")}, "cell-unreadable"),
    "an unreadable id": ({"external_id": Cell("1.5E+10", "shortened")}, "cell-unreadable"),
    "no id at all": ({"external_id": "---"}, "row-no-id"),
    "a case id of ours that is not there": ({"case_id": "C-bcdfghj"}, "row-case-id-unknown"),
}


@pytest.mark.parametrize(("cells", "key"), INVALID.values(), ids=INVALID)
def test_a_row_is_invalid_that_has(world, cells, key):
    done = load(world, AMA | cells, {"external_id": "good"})
    assert [v.verdict for v in done.verdicts] == ["invalid", "create"]
    assert done.verdicts[0].reason.key.startswith(key)
    assert sentence(done.verdicts[0].reason) != str(done.verdicts[0].reason)


def test_an_unknown_time_zone_suggests_the_nearest(world):
    found = plan_cases(world, AMA | {"time_zone": "Africa/Acra"})
    assert found.verdicts[0].suggestion.split(", ")[0] == "Africa/Accra"


def test_a_case_twice_in_a_sheet_is_named_with_the_first_row(world):
    ama = world.look(world.case("ama", NUMBER))
    found = plan_cases(world, {"external_id": "ama", "name": "A"}, {"case_id": ama.case_id, "name": "B"}, {"external_id": "esi"}, {"external_id": "ESI "})  # fmt: skip
    assert [v.verdict for v in found.verdicts] == ["update", "invalid", "create", "invalid"]
    assert [v.reason.values["row"] for v in found.verdicts if v.reason] == [2, 4]


def test_no_sheet_gives_one_external_id_to_two_cases(world):
    """A sheet that did so could not be loaded again: its own rows would be ambiguous."""
    world.case("ama", NUMBER)
    rows = ({"case_id": "abc", "external_id": "new"}, {"external_id": "NEW"}, {"case_id": "def", "external_id": "new"})
    assert [v.verdict for v in load(world, *rows).verdicts] == ["create", "invalid", "invalid"]


@pytest.mark.parametrize("case_id", ["new-id", "that of kofi"])
def test_a_case_id_with_the_external_id_of_another_case_is_refused(world, case_id):
    ama, kofi = world.look(world.case("ama", NUMBER)), world.look(world.case("kofi", OTHER))
    typed = kofi.case_id if case_id == "that of kofi" else case_id
    done = load(world, {"case_id": typed, "external_id": "ama", "name": "Nobody"})
    assert done.verdicts[0].reason.key == "row-other-case-id"
    assert done.verdicts[0].reason.values["candidates"] == ama.case_id
    assert world.look(kofi.id).external_id == "kofi"


def test_an_external_id_that_two_cases_have_needs_the_case_id(world):
    with world.db.transaction() as tx:
        wanted = [cases.Wanted(None, {"external_id": "same"}, case_id=c) for c in ("abc", "def")]
        cases.save(tx, wanted, by=TEST)
    found = plan_cases(
        world, {"external_id": "same", "name": "?"}, {"case_id": "def", "external_id": "same", "name": "D"}
    )
    assert [v.verdict for v in found.verdicts] == ["invalid", "update"]
    assert found.verdicts[0].reason.values["candidates"] == "abc, def"


def test_a_commcare_case_export_is_loaded_as_it_comes(world):
    row = {"caseid": "5f0c6a3e7b1d4c0f9a2e8d7c6b5a4f3e", "case_name": "Ama", "closed": "False", "external_id": "---", "contact_phone_number": NUMBER, "contact_phone_number_is_verified": "1", "language_code": "---", "last_visit": Cell("2026-01-02", "a date")}  # fmt: skip
    assert load(world, row).counts == {"create": 1}
    with world.db.reading() as tx:
        ama = lookup.find_one(tx, "5F0C6A3E7B1D4C0F9A2E8D7C6B5A4F3E")
    assert (ama.name, ama.status, ama.two_way, ama.language_code, ama.external_id) == ("Ama", "open", True, None, None)
    assert ama.properties == {"last_visit": "2026-01-02"}
    assert load(world, row).counts == {"unchanged": 1}
    load(world, row | {"closed": "True"})
    assert world.look(ama.id).status == "closed"


def test_a_number_that_another_case_owns_is_a_warning_that_names_the_owner(world):
    world.case("kofi", NUMBER)
    found = plan_cases(world, AMA)
    assert found.counts == {"create": 1}
    (note,) = found.verdicts[0].warnings
    assert (note.key, note.values["owner"]) == ("number-owned", "kofi")


def test_who_only_verifies_a_number_that_another_case_owns_is_warned_too(world):
    world.case("kofi", NUMBER), world.case("ama", NUMBER, verified=False)
    found = plan_cases(world, {"external_id": "ama", "contact_phone_number_is_verified": "yes"})
    assert [w.key for w in found.verdicts[0].warnings] == ["number-owned"]


def test_two_rows_with_one_number_say_which_of_them_owns_it(world):
    done = load(world, AMA, {"external_id": "esi", "contact_phone_number": NUMBER, "contact_phone_number_is_verified": "1"})  # fmt: skip
    assert [[w.key for w in v.warnings] for v in done.verdicts] == [[], ["number-shared-in-sheet"]]
    assert done.verdicts[1].warnings[0].values["row"] == 2
    assert (case_named(world, "ama").two_way, case_named(world, "esi").two_way) == (True, False)


def test_a_number_in_no_known_range_is_kept_with_a_warning_or_refused_when_strict(world):
    row = {"external_id": "ama", "contact_phone_number": "15551234567"}
    assert [w.key for w in load(world, row).verdicts[0].warnings] == ["number-unknown-range"]
    assert case_named(world, "ama").number_warning == "number-unknown-range"
    load(world, row | {"contact_phone_number": NUMBER})
    assert case_named(world, "ama").number_warning is None
    world.db.rules = replace(world.db.rules, strict_numbers=True)
    assert load(world, row).verdicts[0].reason.key == "number-not-valid"


def test_a_changed_number_waits_for_verification_unless_the_sheet_says_it_is_verified(world):
    load(world, AMA)
    load(world, {"external_id": "ama", "contact_phone_number": OTHER})
    assert not case_named(world, "ama").contact_phone_number_is_verified
    load(world, AMA)
    load(world, AMA | {"contact_phone_number": OTHER})
    assert case_named(world, "ama").two_way


def test_a_plan_of_cases_made_before_somebody_changed_one_is_refused(world):
    load(world, AMA)
    row = AMA | {"name": "Ama B"}
    planned = plan_cases(world, row)
    world.change(case_named(world, "ama").id, name="Ama C")
    with pytest.raises(Problem, match="plan-stale"):
        load(world, row, planned=planned)
    assert case_named(world, "ama").name == "Ama C"


def test_a_plan_of_cases_that_was_read_before_and_disturbed_since_is_refused(world):
    load(world, AMA)
    read = imports.read_cases(sheet(AMA | {"name": "Ama B"}), world.db.rules)
    with world.db.reading() as tx:
        planned = imports.plan_cases(tx, read)
    world.change(case_named(world, "ama").id, name="Ama C")
    with pytest.raises(Problem, match="plan-stale"), world.db.transaction() as tx:
        imports.apply_cases(tx, read, planned=planned, by=TEST)
    assert case_named(world, "ama").name == "Ama C"


def test_another_name_of_a_column_counts_only_in_a_sheet_without_the_column_itself(world):
    """The phone of a sheet with both columns was the one that stood last, and a stranger was texted."""
    row = {"external_id": "ama", "contact_phone_number": NUMBER, "phone_number": OTHER}
    load(world, row, {"external_id": "kofi", "phone_number": OTHER}, {"external_id": "esi", "closed": "true"})
    ama, kofi = case_named(world, "ama"), case_named(world, "kofi")
    assert (ama.contact_phone_number, ama.properties) == (NUMBER, {"phone_number": OTHER})
    assert (kofi.contact_phone_number, kofi.properties) == (None, {"phone_number": OTHER})
    assert case_named(world, "esi").status == "closed"


def test_a_column_left_blank_in_every_row_is_a_column_of_the_sheet_all_the_same(world):
    rows = sheet({"external_id": "ama", "phone_number": OTHER})
    columns = ("external_id", "contact_phone_number", "phone_number")
    (ama,) = imports.read_cases(rows, world.db.rules, columns=columns).rows
    assert (ama.values, ama.properties) == ({"external_id": "ama"}, {"phone_number": OTHER})


def test_closed_beside_a_status_is_a_property_of_the_programme_s_own(world):
    load(world, {"external_id": "ama", "status": "open", "closed": "2026-01-01"})
    ama = case_named(world, "ama")
    assert (ama.status, ama.properties) == ("open", {"closed": "2026-01-01"})


def test_two_other_names_of_one_column_are_refused_rather_than_guessed_between(world):
    with pytest.raises(Problem) as refused:
        plan_cases(world, {"external_id": "ama", "phone": NUMBER, "phone_number": OTHER})
    assert refused.value.key == "column-two-names"
    assert sentence(refused.value).startswith("The columns phone and phone_number could both be contact_phone_number")


def test_cases_come_in_all_of_them_or_none(world):
    with world.db.transaction() as tx:
        break_rows(tx, "audit", says="a fault at the end")
    with pytest.raises(IntegrityError, match="a fault at the end"):
        load(world, AMA, {"external_id": "kofi"})
    with world.db.reading() as tx:
        assert lookup.list_all(tx) == []


def test_twenty_thousand_rows_are_planned_and_applied_by_a_bounded_number_of_statements(world, statements):
    rows = sheet(*({"external_id": f"p-{n}", "contact_phone_number": f"+23324{n:07}", "contact_phone_number_is_verified": "1"} for n in range(20_000)))  # fmt: skip
    with statements(world.db) as ran:
        with world.db.transaction() as tx:
            made = imports.apply_cases(tx, rows, by=TEST)
        group = world.group("all")
        identifiers = sheet(*(f"p-{n}" for n in range(20_000)))
        apply(world, group, identifiers, planned=plan(world, group, identifiers))
    assert made.counts == {"create": 20_000}
    assert len(ran) < 150
    with world.db.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(memberships)) == 20_000


# -- worked out beforehand ---------------------------------------------------------------------------------------------


def test_what_was_worked_out_beforehand_is_written_as_it_would_be_without(db, world):
    """The slow part needs no writer; what stands in the database, and under the audit line, is the same."""
    world.case("kofi", "233209876543")
    rows = sheet(
        {"external_id": "ama", "name": "Ama", "contact_phone_number": "233241234567", "district": "Kisumu"},
        {"external_id": "kofi", "name": "Kofi Mensah", "status": "closed"},
        {"external_id": "esi", "contact_phone_number": "nonsense"},
    )
    with db.reading() as tx:
        plan = imports.make_ready(tx, imports.plan_cases(tx, rows))
        assert [row.external_id for row in lookup.list_all(tx)] == ["kofi"], "nothing was written"
    with db.transaction() as tx:
        done = imports.apply_cases(tx, rows, planned=plan, by=TEST)
    assert done.counts == {"create": 1, "update": 1, "invalid": 1}
    with db.reading() as tx:
        ama, kofi = lookup.find_one(tx, "ama"), lookup.find_one(tx, "kofi")
        assert broken_line(tx) is None
        under = [(row.subject_id, row.after) for row in tx.execute(select(audit_changes)) if row.subject == "case"]
        again = imports.plan_cases(tx, sheet({"case_id": ama.case_id, "external_id": "ama"}))
    assert (ama.name, ama.properties, kofi.status) == ("Ama", {"district": "Kisumu"}, "closed")
    assert [(v.target, v.case_id) for v in done.verdicts[:2]] == [(ama.id, ama.case_id), (kofi.id, kofi.case_id)]
    assert under[-1] == (kofi.id, {"name": "Kofi Mensah", "status": "closed"})
    assert again.counts == {"unchanged": 1}


def test_a_case_that_was_made_meanwhile_keeps_its_row_and_the_sheet_makes_others(db, world):
    rows = sheet({"external_id": "ama"}, {"external_id": "esi"})
    with db.reading() as tx:
        ready = imports.make_ready(tx, imports.plan_cases(tx, rows)).ready
    kofi = world.case("kofi", "233209876543")
    with db.transaction() as tx:
        plan = imports.plan_cases(tx, rows)
        done = imports.apply_cases(tx, rows, planned=replace(plan, ready=ready), by=TEST)
    assert world.look(kofi).external_id == "kofi"
    with db.reading() as tx:
        assert sorted(row.external_id for row in lookup.list_all(tx)) == ["ama", "esi", "kofi"]
        assert {v.target for v in done.verdicts} == {lookup.find_one(tx, name).id for name in ("ama", "esi")}
        assert broken_line(tx) is None
