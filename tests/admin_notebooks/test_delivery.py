"""What became of a broadcast: every recipient stands in one part, with the reason in words, and nobody sees another's."""

import io

import pytest
from openpyxl import load_workbook
from sqlalchemy import func, select

from admin_notebooks import case_views, delivery
from admin_notebooks.desk import Desk
from storage import audit, schema
from storage.audit import Actor
from storage.broadcasts import broadcasts, previews, progress
from storage.contacts import consent, groups
from storage.errors import Problem
from storage.messages import inbox
from tests.parts import library
from tests.storage.broadcasts.sending import expand
from tests.storage.messages.sending import claim, hand_over, receipt, settle
from tests.world import TEST

HOSTILE = "<img src=x onerror=alert(1)>"


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ("sqlite", "postgresql"))


@pytest.fixture
def sent(db, world, clock):
    """A broadcast to anc that went as they go: one has it, one is on its way, one failed, one unclear, three skipped."""
    lead = world.person("Esi", "233241110001")
    ids = [world.case(f"p-{n}", f"23324412345{n}", name=HOSTILE if n == 1 else f"Case {n}") for n in range(1, 6)]
    silent = world.case("p-6", name="Yaw")
    gone = world.case("p-7", "233244123457", name="Efua")
    anc = world.group("anc", *ids, silent, gone, name="Antenatal care")
    world.group("tb", world.case("p-8", "233244123458", name="Abla"))
    by = Actor("sms", lead.id, "message 1")
    with db.transaction() as tx:
        consent.hear(tx, "233244123455", "stop", words="STOP", message_id=None, by=TEST)
        number = previews.draft(tx, {"en": "Clinic {name}"}, group_ids=[anc], by=by)
        broadcasts.launch(tx, number, hold_s=0, by=by)
        groups.remove(tx, anc, [gone], by=by)
    expand(world)
    clock.advance(seconds=5)
    going, _ = hand_over(db, claim(db))
    by_phone = {handed.address: handed for handed in going}
    answers = {
        "1": ("accepted", None),
        "2": ("accepted", None),
        "3": ("refused", "recipient"),
        "4": ("unknown", "no-answer"),
    }
    for last, (state, reason) in answers.items():
        handed = by_phone[f"23324412345{last}"]
        settle(db, handed.id, handed.attempt_id, state, reason=reason, gateway_id=f"SM{last}" if not reason else None)
    clock.advance(seconds=65)
    assert receipt(db, by_phone["233244123451"].id, "delivered", "SM1")
    return number


@pytest.fixture
def desk(db, sent):
    return Desk(db, None, "04_delivery")


def test_every_recipient_stands_in_one_part_and_the_parts_add_up(desk, sent):
    told = delivery.describe(desk, sent)
    parts = {"delivered": 1, "on_its_way": 1, "to_go": 0, "unclear": 1, "failed": 1, "skipped": 3, "halted": 0}
    assert (told["parts"], told["recipients"], told["adds_up"]) == (parts, 7, True)
    assert {reason["why"]: reason["count"] for reason in told["reasons"]} == {
        "the number said STOP": 1, "the case has no phone number": 1,
        "the case was taken out of the group before it left": 1,
        "the gateway says the number cannot be texted": 1,
        "the gateway gave no clear answer; it may or may not have left": 1,
    }  # fmt: skip
    assert (told["whom"], told["asked_by"], told["texts"]) == ("Antenatal care", "Esi", {"en": "Clinic {name}"})
    count, (line,) = delivery.list_broadcasts(desk)
    assert (count, line["number"], line["parts"]) == (1, sent, parts)


def test_what_nobody_confirmed_in_time_says_so_and_is_not_still_to_go(db, clock, desk):
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "More"}, group_ids=[groups.group(tx, "tb").id], by=TEST)
    clock.advance(hours=1)
    with db.transaction() as tx:
        broadcasts.put_away_unconfirmed(tx)
    told = delivery.describe(desk, number)
    assert (told["state"], told["is_open"], told["may_halt"]) == (
        "not confirmed in time, so nothing was sent", False, False,
    )  # fmt: skip
    assert (told["parts"]["to_go"], told["adds_up"]) == (0, True)
    assert delivery.why(desk, number, "p-8")["says"] == f"Abla did not get {number}: nobody confirmed it in time."
    listed, recent = delivery.list_broadcasts(desk)[1], delivery.list_broadcasts(desk, lapsed=False)[1]
    assert number in [line["number"] for line in listed]
    assert number not in [line["number"] for line in recent], "whoever forges a number could fill the first page"


def test_before_anybody_has_a_row_all_are_still_to_go_and_after_a_halt_halted(db, world, desk):
    with db.transaction() as tx:
        number = previews.draft(tx, {"en": "More"}, group_ids=[groups.group(tx, "tb").id], by=TEST)
        broadcasts.launch(tx, number, hold_s=60, by=TEST)
    told = delivery.describe(desk, number)
    assert (told["parts"]["to_go"], told["state"]) == (1, "held, and can still be halted")
    assert delivery.why(desk, number, "p-8")["says"].startswith(f"Abla has not got {number} yet")
    with db.transaction() as tx:
        broadcasts.halt(tx, number, by=TEST)
    assert delivery.describe(desk, number)["parts"]["halted"] == 1
    assert delivery.why(desk, number, "p-8")["says"] == f"Abla did not get {number}: it was halted before it left."


def test_a_part_is_listed_by_its_people_each_with_the_reason(desk, sent):
    count, rows = delivery.list_recipients(desk, sent, part="skipped")
    assert (count, [row["external_id"] for row in rows]) == (3, ["p-5", "p-6", "p-7"])
    assert rows[0]["why"] == "the number said STOP"
    stopped = next(r["key"] for r in delivery.describe(desk, sent)["reasons"] if "STOP" in r["why"])
    assert delivery.list_recipients(desk, sent, part="skipped", reason=stopped)[0] == 1
    assert [r["external_id"] for r in delivery.list_recipients(desk, sent, search="p-3")[1]] == ["p-3"]
    assert delivery.list_recipients(desk, sent, part="no such part")[0] == 0


@pytest.mark.parametrize(
    ("who", "says", "step"),
    [
        ("p-1", "got 1: the phone has it.", "The gateway said delivered."),
        ("p-2", "should get 1: the gateway took it, and there is no receipt of the phone.", "handed to the gateway simulator"),
        ("p-3", "did not get 1: the gateway says the number cannot be texted.", "An attempt: the gateway says"),
        ("p-4", "may or may not have got 1: the gateway gave no clear answer", "An attempt: the gateway gave no clear"),
        ("p-5", "did not get 1: the number said STOP.", "The number said STOP."),
        ("p-7", "did not get 1: the case was taken out of the group before it left.", "Esi took the case out of anc (sms)."),
        ("p-8", "is not among those for whom 1 was.", "Esi asked for 1 (sms)."),
    ],
)  # fmt: skip
def test_why_she_did_not_get_it_is_one_sentence_and_the_steps_that_led_there(desk, sent, who, says, step):
    told = delivery.why(desk, sent, who)
    assert says in told["says"]
    assert any(step in each["what"] for each in told["steps"]), told["steps"]
    moments = [each["at"] for each in told["steps"]]
    assert moments == sorted(moments)


def test_sent_and_delivered_over_time_are_counted_in_the_database(desk, sent):
    assert delivery.over_time(desk, sent) == [
        {"at": "2026-11-03 10:00:05+00:00", "sent": 4, "delivered": 0},
        {"at": "2026-11-03 10:01:10+00:00", "sent": 0, "delivered": 1},
    ]


def test_those_who_did_not_answer_become_a_group_once(db, desk, sent):
    with db.transaction() as tx:
        heard = inbox.record_inbound(tx, gateway="simulator", gateway_id="1", sender="233244123451", text="I come")
        case = progress.reached(tx, sent)[0]
        inbox.handled(tx, heard.id, "inbox", case_id=case, person_id=None)
    proposal = delivery.gather(desk, sent, delivery.NO_REPLY, "quiet", "Did not answer")
    assert proposal.says == "Make a group of 1 case"
    done = proposal.confirm()
    assert done.says == "Did not answer (quiet) is made, with 1 case." and proposal.confirm() == done
    with db.reading() as tx:
        assert [row.external_id for row in groups.members(tx, groups.group(tx, "quiet").id)] == ["p-2"]
    with pytest.raises(Problem, match="gather-nobody"):
        delivery.gather(desk, sent, "halted", "none")


def test_whoever_is_no_lead_sees_the_broadcasts_to_their_own_groups(db, world, sent):
    own = Desk(db, world.person("Ato", "233241110003", "supervisor", "anc").id)
    other = Desk(db, world.person("Efo", "233241110004", "supervisor", "tb").id)
    helper = Desk(db, world.person("Adjo", "233241110005", "helper", "anc").id)
    assert delivery.list_broadcasts(own)[0] == 1
    assert delivery.list_broadcasts(other)[0] == 0
    for looking in (
        lambda: delivery.describe(other, sent),
        lambda: delivery.list_recipients(other, sent),
        lambda: delivery.why(other, sent, "p-8"),
        lambda: list(delivery.export(other, sent)),
        lambda: delivery.over_time(other, sent),
        lambda: delivery.gather(other, sent, "skipped", "mine"),
    ):
        with pytest.raises(Problem, match="broadcast-unknown"):
            looking()
    with pytest.raises(Problem, match="right-missing"):
        delivery.describe(helper, sent)
    with pytest.raises(Problem, match="case-unknown"):
        delivery.why(own, sent, "p-8")


@pytest.fixture
def ask(desk):
    library("anywidget")
    from admin_notebooks.panels.delivery import Delivery

    panel = Delivery(desk)

    def asked(verb, **args):
        answer, buffers = panel.answer({"id": 1, "verb": verb, "args": args}, [])
        return buffers[0] if buffers else answer.get("result", answer.get("problem"))

    return asked


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_a_large_one_leaves_slice_by_slice(desk, sent, monkeypatch, statements_of):
    whole = list(delivery.export(desk, sent))
    monkeypatch.setattr(delivery, "SLICE", 2)
    with statements_of(desk.db) as ran:
        assert list(delivery.export(desk, sent)) == whole
    assert len([line for line in ran if "LIMIT" in line]) == len(whole) // 2 + 1
    assert len({row[0] for row in whole}) == len(whole) == 7


def test_who_takes_a_table_away_stands_in_the_log(desk, sent, tmp_path):
    delivery.write_sheet(desk, tmp_path / "sent.xlsx", sent, "failed")
    case_views.write_sheet(desk, tmp_path / "cases.xlsx")
    many = len(delivery.list_recipients(desk, sent, part="failed")[1])
    assert many > 0
    with desk.db.reading() as tx:
        took = [line for line in audit.list_last(tx, 2) if line.verb == "desk.download"]
        assert [(line.facts, line.subject_id) for line in sorted(took, key=lambda line: line.id)] == [
            ({"what": "recipients", "rows": many}, sent),
            ({"what": "cases", "rows": tx.scalar(select(func.count()).select_from(schema.cases))}, None),
        ]
        assert {(line.person_id, line.door) for line in took} == {(desk.person_id, "desk")}


def test_the_page_draws_itself_and_exports_what_it_shows(ask, sent):
    assert ask("list")["count"] == 1
    assert ask("broadcast", number=sent)["arrived"] == 2
    assert ask("recipients", number=sent, part="failed")["rows"][0]["external_id"] == "p-3"
    assert ask("why", number=sent, typed="p-1")["says"] == f"{HOSTILE} got {sent}: the phone has it."
    assert ask("broadcast", number=99) == "There is no broadcast 99: see 'jumbe broadcasts list'."
    drawn = ask("picture", number=sent, width=358).decode()
    assert "of 7 recipients 4 were sent and 1 delivered" in drawn and "http://cdn" not in drawn
    rows = list(load_workbook(io.BytesIO(ask("export", number=sent))).active.values)
    assert rows[0] == delivery.COLUMNS and len(rows) == 8
    made = ask("gather", number=sent, part="failed", short="again", name="Try again")
    assert ask("confirm", mark=made["mark"])["says"] == "Try again (again) is made, with 1 case."
