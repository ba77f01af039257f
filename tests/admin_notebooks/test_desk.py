"""The desk without its pages: a proposal says what it will do, does it once, and is taken back."""

import inspect
import threading

import pytest
from sqlalchemy import func, select

from admin_notebooks import desk as desk_module
from admin_notebooks.desk import Desk
from storage.audit import Actor
from storage.broadcasts import content, previews
from storage.console import sentence
from storage.contacts import groups, people
from storage.database import Database
from storage.errors import Misconfigured, Problem
from storage.rules.hours_and_limits import Rules
from storage.schema import ROLES
from storage.schema import operations as operations_table
from tests.world import broken_line, inside


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


@pytest.fixture
def anc(world):
    for n in range(4):
        world.case(f"p-{n}", f"23324412345{n}")
    world.case("nophone")
    return world.group("anc", world.case("p-8", "233244123458"), name="Antenatal care")


@pytest.fixture
def lead(world, anc):
    return world.person("Esi", "233241110001")


@pytest.fixture
def desk(db, lead):
    return Desk(db, lead.id, "01_case_groups")


def told(act, *arguments):
    with pytest.raises(Problem) as caught:
        act(*arguments)
    return caught.value.key


def csv(*identifiers):
    return "\n".join(["case_identifier", *identifiers]).encode()


# ------------------------------------------------------------------------------------------ members


def test_a_sheet_is_seen_before_anything_is_done_done_and_taken_back(db, desk, anc):
    proposal = desk.upload("anc", "june.csv", csv("p-0", "p-8", "nophone", "233244123451", "nobody"))

    assert proposal.says == "Add 2 cases to Antenatal care"
    assert proposal.counts == {"not_found": 1, "no_phone": 1, "add": 2, "already_in": 1}
    assert [r["row"] for r in proposal.records()] == [6, 4, 2, 3, 5]  # problems first, Excel's own numbers
    assert inside(db, anc) == ["p-8"]

    result = proposal.confirm()

    assert result.says == "2 cases added to Antenatal care. It has 3 cases now."
    assert inside(db, anc) == ["p-8", "p-0", "p-1"]
    assert desk.undo(result.number).says == "2 cases out of Antenatal care (anc) again. It has 1 case now."
    assert inside(db, anc) == ["p-8"]
    with db.reading() as tx:
        assert broken_line(tx) is None


def test_a_double_click_counts_once(db, desk, anc):
    proposal = desk.add("anc", "p-0\np-1")
    assert proposal.confirm() == proposal.confirm()
    with db.reading() as tx:
        assert len(groups.members(tx, anc)) == 3
        assert tx.scalar(select(func.count()).select_from(operations_table)) == 1


def test_two_clicks_at_once_count_once(address, rules, clock, world, lead):
    """Two kernels cannot share a proposal; two threads of one can."""
    with_threads = Database(address, rules, clock)
    proposal = Desk(with_threads, lead.id).add("anc", "p-0, p-1")
    numbers = []
    both = [threading.Thread(target=lambda: numbers.append(proposal.confirm().number)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    with_threads.close()
    assert len(numbers) == 2
    assert len(set(numbers)) == 1


def test_of_two_people_who_looked_the_second_is_told_and_looks_again(db, world, desk, anc):
    """Nobody undoes the other without knowing: the second click does nothing, says what happened, and shows it anew."""
    other = Desk(db, world.person("Efua", "233241110003").id)
    mine, theirs = desk.upload("anc", "a.csv", csv("p-0"), "replace"), other.add("anc", "p-1, p-2")
    theirs.confirm()

    assert told(mine.confirm) == "plan-stale"

    assert inside(db, anc) == ["p-8", "p-1", "p-2"]
    fresh = mine.anew()
    assert fresh.meanwhile == ("Efua added 2 cases to it.", "2 rows of yours mean something else now.")
    assert fresh.says == "Add 1 case to Antenatal care, Remove 3 cases from Antenatal care"
    done = fresh.confirm()
    assert fresh.confirm() == done
    assert inside(db, anc) == ["p-0"]
    assert told(mine.confirm) == "plan-stale"
    desk.undo(done.number)
    assert sorted(inside(db, anc)) == ["p-1", "p-2", "p-8"]


def test_who_takes_back_what_another_changed_since_takes_back_their_own_part(db, world, desk, anc):
    other = Desk(db, world.person("Efua", "233241110003").id)
    mine = desk.upload("anc", "a.csv", csv("p-0", "p-1")).confirm()
    other.remove("anc", "p-0").confirm()
    other.add("anc", "p-0, p-2").confirm()

    assert other.undo(mine.number).says == "1 case out of Antenatal care (anc) again. It has 3 cases now."

    assert sorted(inside(db, anc)) == ["p-0", "p-2", "p-8"]
    assert told(desk.undo, mine.number) == "undone-before"


def test_of_two_names_for_one_group_the_second_is_looked_at_again(db, world, desk, anc):
    other = Desk(db, world.person("Efua", "233241110003").id)
    mine = desk.rename("anc", "Mothers")
    other.rename("anc", "Women").confirm()
    assert told(mine.confirm) == "plan-stale"
    assert mine.anew().meanwhile == ("Efua renamed it.",)
    assert mine.anew().confirm().says == "Women is called Mothers now."


def test_two_kernels_at_once_on_one_sheet_apply_it_once(address, rules, clock, world, lead, db, anc):
    """Both looked, both click at the same moment: one is done, and the other is told or finds nothing left to do."""
    desks_ = [Database(address, rules, clock) for _ in range(2)]
    both = [Desk(one, lead.id).upload("anc", "a.csv", csv("p-0", "p-1"), "replace") for one in desks_]
    came: list[str] = []

    def click(proposal):
        try:
            came.append(proposal.confirm().says[:7])
        except Problem as problem:
            came.append(problem.key)

    threads = [threading.Thread(target=click, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in desks_:
        one.close()
    assert sorted(came) == ["2 cases", "plan-stale"]
    assert inside(db, anc) == ["p-0", "p-1"]


def test_a_change_elsewhere_does_not_spoil_a_plan_that_still_means_the_same(db, world, desk, anc):
    proposal = desk.add("anc", "p-0")
    world.group("tb", world.case("else", "233244999999"))
    assert proposal.confirm().says == "1 case added to Antenatal care. It has 2 cases now."


def test_a_replace_that_is_unsure_says_why_and_does_nothing(db, desk, anc):
    proposal = desk.upload("anc", "a.csv", csv("p-0", "nobody"), "replace")
    assert not proposal.acts
    assert "could not be read or found" in proposal.refusal
    assert told(proposal.confirm) == "replace-unsure"
    assert told(desk.add("anc", "p-8").confirm) == "nothing-to-do"


def test_a_replace_names_both_of_its_effects(db, desk, anc):
    proposal = desk.upload("anc", "a.csv", csv("p-0", "p-1"), "replace")
    assert proposal.says == "Add 2 cases to Antenatal care, Remove 1 case from Antenatal care"
    result = proposal.confirm()
    assert inside(db, anc) == ["p-0", "p-1"]
    desk.undo(result.number)
    assert inside(db, anc) == ["p-8"]


@pytest.mark.parametrize("typed", ["p-0\np-1", " p-0 ,p-1;", "p-0\t233244123451\r\n\n", "+233 24 412 3450\nP-1"])
def test_what_is_pasted_is_one_identifier_a_line(db, desk, anc, typed):
    assert desk.add("anc", typed).says == "Add 2 cases to Antenatal care"


@pytest.mark.parametrize(
    ("typed", "rows"),
    [
        ("p-0 p-1 233244123452", 3),  # each names somebody by itself
        ("+233 24 412 3450", 1),  # one number, as people write it
        ("0244 123450 p-1", 1),  # a piece names nobody, so nothing is guessed
        ("p-0 nobody", 1),
        ("p-0 p-1\np-2, p-3", 4),
    ],
)
def test_what_is_pasted_with_spaces_is_several_where_each_piece_is_one(desk, anc, typed, rows):
    assert len(desk.add("anc", typed).records()) == rows


def test_a_wrong_group_names_what_is_near_and_nothing_else(desk, world):
    world.group("tb", name="TB treatment")
    for typed, said in (("ancc", "There is no group ancc. Near it: anc."), ("zzz", "There is no group zzz. See")):
        with pytest.raises(Problem) as caught:
            desk.add(typed, "p-0")
        assert sentence(caught.value).startswith(said)


def test_some_are_taken_out_by_what_names_them(db, desk, anc):
    result = desk.remove("anc", "p-8").confirm()
    assert result.says == "1 case removed from Antenatal care. It has 0 cases now."
    desk.undo(result.number)
    assert inside(db, anc) == ["p-8"]


def test_what_was_done_says_who_and_by_which_sheet(db, desk, anc, lead):
    desk.upload("anc", "june.csv", csv("p-0")).confirm()
    desk.add("anc", "p-1").confirm()
    with db.reading() as tx:
        from storage import audit

        lines = audit.list_last(tx, 2)
    assert [(line.person, line.door) for line in lines] == [("Esi", "desk")] * 2
    assert lines[0].source == "01_case_groups"
    assert lines[1].source.startswith("sheet june.csv ")


# ------------------------------------------------------------------------------------------ groups


def test_a_group_is_made_renamed_deleted_and_brought_back(db, desk, world):
    made = desk.create("tb", "TB treatment").confirm()
    assert made.says == "TB treatment (tb) is made."
    desk.rename("tb", "Tuberculosis").confirm()
    deletion = desk.delete("tb")
    assert told(deletion.confirm, "tp") == "typed-otherwise"
    gone = deletion.confirm(" TB ")
    assert told(desk.add, "tb", "p-0") == "group-unknown"
    assert desk.undo(gone.number).says == "Tuberculosis (tb) is back with its 0 cases."
    assert [g.name for g in desk.list_groups() if g.short == "tb"] == ["Tuberculosis"]


def test_an_undo_is_offered_only_to_whom_it_would_not_be_refused(as_role, desk):
    mine = as_role("supervisor", "anc")
    deletion = mine.delete("anc")
    gone = deletion.confirm("anc")
    assert not gone.undoable, "a deletion is taken back by a lead"
    assert mine.outcome(deletion.mark) == gone and told(mine.undo, gone.number) == "undo-unknown"
    desk.undo(gone.number)
    assert mine.add("anc", "p-0").confirm().undoable and desk.delete("anc").confirm("anc").undoable


def test_a_deletion_says_what_goes_with_it_and_halts_it(db, desk, anc, lead):
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "Hello"}, group_ids=[anc], by=Actor("sms", lead.id))
    deletion = desk.delete("anc")
    assert deletion.goes_with == (
        "takes 1 case out of it; the cases themselves stay",
        f"halts 1 broadcast to it: {number}",
    )
    assert deletion.confirm("anc").says == f"Antenatal care is deleted. Halted: {number}."
    with db.reading() as tx:
        assert content.broadcast(tx, number).state == "halted"


def test_what_was_asked_for_since_is_seen_before_it_is_halted(db, desk, anc, lead):
    deletion = desk.delete("anc")
    with db.transaction() as tx:
        previews.draft(tx, {"en": "Hello"}, group_ids=[anc], by=Actor("sms", lead.id))
    assert told(deletion.confirm, "anc") == "plan-stale"
    assert deletion.anew().meanwhile == ("Now this halts 1 broadcast to it: 1.",)
    assert [g.short for g in desk.list_groups()] == ["anc"]


# ------------------------------------------------------------------------------------------ cases


def test_a_sheet_of_cases_shows_old_and_new_before_anything_changes(db, desk, anc, world):
    data = b"external_id,name,district\np-0,Ama,Kisumu\nnew-1,Kofi,\np-1,--,\nbad,x,\n,,\n"
    proposal = desk.upload_cases("people.csv", data)
    assert proposal.says == "Create 2 cases, change 2 cases"
    changes = {r["identifier"]: r.get("changes") for r in proposal.records()}
    assert changes["p-0"] == {"name": ["P-0", "Ama"], "district": [None, "Kisumu"]}
    assert proposal.confirm().says == "2 cases created, 2 cases changed."
    assert proposal.confirm().says == "2 cases created, 2 cases changed."
    assert desk.upload_cases("people.csv", data).says == "Nothing to do"


# ------------------------------------------------------------------------------------------ who may


@pytest.fixture
def as_role(db, world, anc):
    def make(role, *shorts):
        number = f"23324111{ROLES.index(role)}00{len(shorts)}"
        return Desk(db, world.person(role.title(), number, role, *shorts).id)

    return make


def test_another_s_group_looks_as_if_it_did_not_exist(as_role, anc, world):
    world.group("tb")
    mine = as_role("supervisor", "tb")
    assert [g.short for g in mine.list_groups()] == ["tb"]
    for act in (
        lambda short: mine.add(short, "p-0"),
        lambda short: mine.remove(short, "p-0"),
        lambda short: mine.rename(short, "Ours").confirm(),
    ):
        for short in ("anc", "anx"):
            with pytest.raises(Problem) as caught:
                act(short)
            assert (caught.value.key, caught.value.values["near"]) == ("group-unknown", "")
    assert told(mine.delete, "anc") == "group-unknown"
    assert told(mine.create("anc").confirm) == "group-short-taken"


def test_a_role_holds_whatever_a_page_shows(db, as_role, anc):
    helper, viewer = as_role("helper", "anc"), as_role("viewer", "anc")
    assert helper.add("anc", "p-0").confirm().says.startswith("1 case added")
    assert told(helper.remove, "anc", "p-0") == "right-missing"
    assert told(helper.upload, "anc", "a.csv", csv("p-1"), "replace") == "right-missing"
    assert told(helper.upload_cases, "a.csv", b"external_id,name\np-0,Ama\n") == "right-missing"
    assert told(helper.create("tb").confirm) == "right-missing"
    assert told(helper.delete("anc").confirm, "anc") == "right-missing"
    assert told(viewer.add, "anc", "p-0") == "right-missing"
    assert told(viewer.undo, 1) == "right-missing"


def test_a_right_that_was_lost_before_the_click_is_lost(db, world, desk, anc):
    person = world.person("Yaw", "233241110009", "supervisor", "anc")
    mine = Desk(db, person.id)
    adding, removing = mine.add("anc", "p-0"), mine.remove("anc", "p-8")
    with db.transaction() as tx:
        people.change(tx, person, role="helper", by=Actor("cli"))
    assert told(removing.confirm) == "right-missing"
    with db.transaction() as tx:
        people.remove(tx, person, by=Actor("cli"))
    assert told(adding.confirm) == "nobody-signed-in"
    assert told(mine.list_groups) == "nobody-signed-in"
    assert inside(db, anc) == ["p-8"]


def test_a_supervisor_s_new_group_is_their_own(as_role, db):
    mine = as_role("supervisor", "anc")
    result = mine.create("ward1", "Ward one").confirm()
    assert [g.short for g in mine.list_groups()] == ["anc", "ward1"]
    assert mine.undo(result.number).says == "Ward one (ward1) is gone."


def test_whoever_is_in_nobody_s_group_of_theirs_is_not_found_where_the_programme_says_so(address, clock, world, anc):
    world.group("tb", world.case("mine", "233244777777"))
    person = world.person("Yaw", "233241110009", "supervisor", "tb", "anc")
    strict = Database(address, Rules(country="GH", add_only_own=True), clock)
    verdicts = Desk(strict, person.id).add("anc", "p-0, mine, p0").counts
    strict.close()
    assert verdicts == {"not_found": 2, "add": 1}


def test_every_change_of_the_desk_asks_who_may():
    """A method that proposes a change holds a right against it, by name."""
    for name in (
        "create",
        "gather",
        "rename",
        "delete",
        "_members",
        "upload_cases",
        "change_case",
        "hand_over",
        "undo",
    ):
        assert "self.allow(tx" in inspect.getsource(getattr(Desk, name)), name


# ------------------------------------------------------------------------------------------ opening


@pytest.fixture
def opened(tmp_path, monkeypatch, empty_file, request):
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{empty_file}")
    made = []

    def make(person=None):
        if person is not None:
            monkeypatch.setenv(desk_module.PERSON, person)
        made.append(desk_module.open_desk())
        return made[-1]

    yield make
    for one in made:
        one.db.close()


def test_beside_the_database_it_is_the_system_s_own_user(opened):
    assert opened().describe()["name"] == "the system's own user"


@pytest.mark.parametrize("person", ["", "x", "7"])
def test_a_page_to_which_nobody_signed_in_opens_nothing(opened, person):
    assert told(opened, person) == "nobody-signed-in"


def test_a_desk_without_a_database_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(Misconfigured):
        desk_module.open_desk()
