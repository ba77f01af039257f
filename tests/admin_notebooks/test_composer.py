"""Writing to many from a page: what it shows before it goes, whose it is, and that a click counts once."""

from dataclasses import replace

import pytest

from admin_notebooks import composer
from admin_notebooks.desk import Desk
from bot.commands.broadcasts import ask_second_leads
from bot.gateways.base import Inbound
from bot.inbound import listeners
from storage import audit
from storage.broadcasts import broadcasts, progress
from storage.contacts import consent
from storage.errors import Problem
from storage.messages import lookups
from storage.operations import codes
from tests.parts import library
from tests.storage.broadcasts.sending import expand
from tests.storage.messages.sending import claim, hand_over, settle
from tests.world import TEST

library("anywidget")
from admin_notebooks.panels.broadcasts import Broadcasts

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def anc(world):
    """Six: two read English, two Swahili (one by its base), one said STOP, one has no number."""
    ids = [
        world.case("p-1", "233244123451", name=HOSTILE, language_code="en"),
        world.case("p-2", "233244123452", name="Kofi"),
        world.case("p-3", "233244123453", name="Asha", language_code="sw"),
        world.case("p-4", "233244123454", name="Juma", language_code="sw-KE"),
        world.case("p-5", "233244123455", name="Esi"),
        world.case("p-6", name="Yaw"),
    ]
    with world.db.transaction() as tx:
        consent.hear(tx, "233244123455", "stop", words="STOP", message_id=None, by=TEST)
    world.group("tb", world.case("p-9", "233244123459", name="Abla"))
    return world.group("anc", *ids, name="Antenatal care")


@pytest.fixture
def esi(world, anc):
    return world.person("Esi", "233241110001")


@pytest.fixture
def desk(db, esi):
    return Desk(db, esi.id, "03_broadcasts")


@pytest.fixture
def ask(desk):
    panel = Broadcasts(desk)

    def asked(verb, **args):
        answer, _ = panel.answer({"id": 1, "verb": verb, "args": args}, [])
        return answer.get("result", answer.get("problem"))

    return asked


TEXTS = {"en": "Hello {name|friend}, come at 10", "sw": "Habari {name}, njoo saa nne"}


def test_a_page_offers_what_there_is_to_choose(ask):
    told = ask("choices")
    assert [g["short"] for g in told["groups"]] == ["anc", "tb"]
    assert (told["fields"], told["language"], told["may_try"]) == (["name", "external_id", "case_id"], "en", True)
    assert "sw" in told["languages"]


@pytest.mark.parametrize(
    ("text", "parts", "room", "forced", "problem"),
    [
        ("Hello", 1, 160, None, None),
        ("x" * 161, 2, 306, None, None),
        ("Ten o’clock", 1, 70, ("’", "right single quotation mark"), None),
        ("x" * 150 + "{name|you}", 1, 160, None, None),
        ("Hello {nam}", 1, 160, None, "There is no field"),
        ("Hello {name", 1, 160, None, "stray curly bracket"),
        ("STOP", 1, 160, None, "acted on by the phone network"),
        ("", 0, 160, None, None),
    ],
)
def test_a_text_is_counted_as_it_is_written_and_the_dear_character_named(ask, text, parts, room, forced, problem):
    told = ask("measure", text=text)
    assert (told["parts"], told["room"]) == (parts, room)
    assert (told["forced_by"], told["forced_name"]) == (forced or (None, None))
    assert problem in told["problem"] if problem else told["problem"] is None


def test_what_would_go_is_shown_whole_before_it_goes(ask):
    told = ask("look", texts=TEXTS, shorts=["anc"], typed="p-9")
    assert (told["recipients"], told["parts"], told["total_parts"]) == (5, 1, 5)
    assert {r["why"]: r["count"] for r in told["left_out"]} == {
        "the number said STOP": 1, "the case has no phone number": 1,
    }  # fmt: skip
    english, swahili = told["languages"]
    assert (english["language"], english["readers"]) == ("en", 3)
    assert english["samples"] == [f"Hello {HOSTILE}, come at 10", "Hello Kofi, come at 10", "Hello Abla, come at 10"]
    assert (swahili["readers"], swahili["samples"]) == (2, ["Habari Asha, njoo saa nne", "Habari Juma, njoo saa nne"])
    assert told["takes"] == "about 5 seconds"
    assert told["begins"] == "It is held for 60 seconds first, and can be halted."
    assert [row["name"] for row in ask("left_out", number=told["number"])] == ["Esi", "Yaw"]
    assert composer._minutes(0.2) == "about 1 second" and composer._minutes(30) == "about 30 seconds"
    assert composer._minutes(3600) == "about 60 minutes" and composer._minutes(36_000) == "about 10.0 hours"


def test_a_double_click_and_a_second_page_send_once(db, world, desk, ask, clock):
    first, second = ask("look", texts=TEXTS, shorts=["anc"]), ask("look", texts=TEXTS, shorts=["anc"])
    assert first["number"] == second["number"]
    assert ask("send", number=first["number"], typed="3").startswith("Type 4, the number of people")
    done = ask("send", number=first["number"], typed=" 4 ")
    assert done["says"].startswith(f"{first['number']} is going to 4 people. It is held for 60 seconds first")
    assert ask("send", number=first["number"], typed="4") == done
    assert "went within the last ten minutes" in ask("look", texts=TEXTS, shorts=["anc"])
    clock.advance(minutes=2)
    expand(world)
    with db.reading() as tx:
        assert sorted(row.body for row in lookups.list_all(tx) if row.state == "queued") == sorted(
            [f"Hello {HOSTILE}, come at 10", "Hello Kofi, come at 10", "Habari Asha, njoo saa nne", "Habari Juma, njoo saa nne"]
        )  # fmt: skip


def test_what_was_changed_after_a_look_is_another_and_the_first_is_put_away(db, ask):
    first = ask("look", texts={"en": "One"}, shorts=["anc"])["number"]
    second = ask("look", texts={"en": "Two"}, shorts=["anc"], instead_of=first)["number"]
    assert "does not wait for an ok any more" in ask("send", number=first, typed="4")
    assert ask("drop", number=second) is True
    assert "does not wait" in ask("send", number=second, typed="4")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"texts": {"en": " "}, "shorts": ["anc"]}, "Write the text first."),
        ({"texts": {"en": "x"}}, "Choose a group"),
        ({"texts": {"en": "x"}, "shorts": ["nothere"]}, "There is no group nothere."),
        ({"texts": {"en": "x"}, "typed": "nobody"}, "There is no case nobody"),
        ({"texts": {"en": "x"}, "typed": "\n".join(map(str, range(60)))}, "At most 50 single cases"),
        ({"texts": {"e n": "x"}, "shorts": ["anc"]}, "is no language code"),
        ({"texts": {"en": "x {who}"}, "shorts": ["anc"]}, "There is no field"),
        ({"texts": {"en": "x"}, "shorts": ["anc"], "send_at": "soon"}, "is no time"),
        ({"texts": {"en": "x"}, "shorts": ["anc"], "send_at": "2026-11-01T10:00"}, "is over already"),
        ({"texts": {"en": "x"}, "fixes": 99}, "There is no broadcast 99"),
    ],
)
def test_what_cannot_be_sent_is_a_sentence_and_leaves_nothing_behind(db, ask, wish, says):
    assert says in ask("look", **wish)
    with db.reading() as tx:
        assert progress.list_all(tx) == []


def test_one_s_own_phone_gets_the_first_rendering(db, desk, ask, esi):
    number = ask("look", texts=TEXTS, shorts=["anc"])["number"]
    assert ask("try", number=number, language="sw") == f"It is on its way to your own phone, {esi.phone}."
    with db.reading() as tx:
        (row,) = lookups.list_all(tx)
    assert (row.phone, row.body, row.broadcast_id) == (esi.phone, "Habari Asha, njoo saa nne", None)
    assert "is no language code" in ask("try", number=number, language="fr")
    nobody = Broadcasts(Desk(db)).answer({"id": 1, "verb": "try", "args": {"number": number, "language": "en"}}, [])[0]
    assert "no phone" in nobody["problem"]


def test_what_runs_is_halted_and_those_it_reached_are_corrected(db, world, ask, clock):
    number = ask("look", texts={"en": "At 10"}, shorts=["anc"])["number"]
    ask("send", number=number, typed="4")
    assert [line["number"] for line in ask("running")] == [number]
    assert "Nobody has got" in ask("look", texts={"en": "At 11"}, fixes=number)
    clock.advance(minutes=2)
    expand(world)
    going, _ = hand_over(db, claim(db, at_most=2))
    for handed in going:
        settle(db, handed.id, handed.attempt_id, "accepted", gateway_id=f"SM{handed.id}")
    assert ask("halt", number=number) == f"{number} is halted: 2 people got it, and nobody else will."
    assert ask("halt", number=number) == f"{number} was over already: 2 people got it."
    told = ask("broadcast", number=number)
    assert (told["parts"]["on_its_way"], told["parts"]["halted"], told["parts"]["skipped"]) == (2, 2, 2)
    assert (told["may_halt"], told["may_fix"]) == (False, True)
    fix = ask("look", texts={"en": "At 11"}, fixes=number)
    assert fix["recipients"] == 2
    assert ask("send", number=fix["number"], typed="2")["went"] == "going"
    assert ask("recent")[0]["whom"] == f"those whom {number} reached"


def test_one_that_runs_is_paused_and_goes_on(db, world, ask, desk, clock):
    number = ask("look", texts={"en": "Come"}, shorts=["anc"])["number"]
    ask("send", number=number, typed="4")
    assert ask("broadcast", number=number)["may_pause"]
    assert ask("pause", number=number).startswith(f"{number} is paused: 0 people got it")
    told = ask("broadcast", number=number)
    assert (told["state"], told["may_pause"], told["may_resume"], told["may_halt"]) == ("paused", False, True, True)
    clock.advance(minutes=2)
    expand(world)
    assert claim(db) == []
    assert ask("resume", number=number) == f"{number} goes on: 4 people are still to get it."
    assert len(claim(db)) == 4
    ask("pause", number=number)
    ask("halt", number=number)
    assert ask("resume", number=number) == f"{number} is not paused."
    other = Desk(db, world.person("Ama", "233241110003", "supervisor", "tb").id)
    for act in (composer.pause, composer.resume):
        with pytest.raises(Problem, match="broadcast-unknown"):
            act(other, number)


def test_a_large_one_waits_for_another_lead_on_the_same_page(db, world, ask):
    db.rules = replace(db.rules, second_person_above=3)
    ato = world.person("Ato", "233241110002")
    told = ask("look", texts={"en": "Big"}, shorts=["anc"])
    assert told["needs_second"]
    done = ask("send", number=told["number"], typed="4")
    assert done["went"] == "seconding"
    assert done["says"].startswith(f"{told['number']} waits for a second person: Ato, asked by text.")
    assert ask("running")[0]["for_me"] is False
    other = Desk(db, ato.id, "03_broadcasts")
    (line,) = composer.list_running(other)
    assert (line["for_me"], line["state"]) == (True, "waits for a second person")
    assert composer.look_again(other, told["number"])["asked_by"] == "Esi"
    assert composer.confirm(other, told["number"], "4")["went"] == "going"


def test_nobody_waits_for_the_text_of_a_lead_who_said_stop(db, world, ask):
    """No code goes to such a phone, and the page said that it did."""
    db.rules = replace(db.rules, second_person_above=3)
    world.person("Ato", "233241110002")
    efua = world.person("Efua", "233241110004")
    with db.transaction() as tx:
        consent.hear(tx, efua.phone, "stop", words="STOP", message_id=None, by=TEST)
    number = ask("look", texts={"en": "Big"}, shorts=["anc"])["number"]
    done = ask("send", number=number, typed="4")
    assert done["says"] == (
        f"{number} waits for a second person: Ato, asked by text; Efua, on this page only, because no text may go to that"
        " phone. The first ok within fifteen minutes lets it go."
    )
    other = Desk(db, efua.id, "03_broadcasts")
    assert composer.confirm(other, number, "4")["went"] == "going"


def test_a_second_lead_is_texted_the_question_and_the_code_lets_it_go(db, world, ask, clock):
    """A page sends nothing: the worker asks, as if it had been asked for by a phone, and the page sees the answer."""
    db.rules = replace(db.rules, second_person_above=3)
    ato = world.person("Ato", "233241110002", language="es")
    number = ask("look", texts={"en": "Clinic closed"}, shorts=["anc"])["number"]
    ask("send", number=number, typed="4")
    assert ask("broadcast", number=number)["state"] == "waits for a second person"

    for _ in range(2):
        with db.transaction() as tx:
            ask_second_leads(tx)

    with db.reading() as tx:
        (question,) = lookups.list_all(tx)
        code = codes.shown(tx, question.code_id)
    assert question.phone == ato.phone
    assert question.body.startswith(f'{number} de Esi: ENVIA anc, 4 personas: "Clinic closed" Responda ok ******')
    listeners.take(db, "simulator", Inbound("in-1", ato.phone, "", f"ok {code}"))
    assert ask("broadcast", number=number)["state"] == "held, and can still be halted"
    with db.reading() as tx:
        told = {row.phone: row.body for row in lookups.list_all(tx) if row.id != question.id and row.direction == "out"}
    assert "Ato said ok" in told["233241110001"], "who wrote it on the page learns of it on their phone"


def test_what_no_second_lead_answered_is_over_and_says_so(db, world, ask, clock):
    db.rules = replace(db.rules, second_person_above=3)
    world.person("Ato", "233241110002")
    number = ask("look", texts={"en": "Clinic closed"}, shorts=["anc"])["number"]
    ask("send", number=number, typed="4")
    clock.advance(hours=2)
    with db.transaction() as tx:
        ask_second_leads(tx)
        assert lookups.list_all(tx) == [], "it is too late to ask"
        broadcasts.put_away_unconfirmed(tx)
    assert ask("broadcast", number=number)["state"] == "not confirmed in time, so nothing was sent"


def test_whoever_is_no_lead_writes_to_their_own_groups_and_the_people_in_them(db, world, esi, ask):
    own = Desk(db, world.person("Ama", "233241110003", "supervisor", "tb").id)
    assert [g["short"] for g in composer.choices(own)["groups"]] == ["tb"]
    with pytest.raises(Problem, match="group-unknown"):
        composer.look(own, {"en": "x"}, shorts=["anc"])
    with pytest.raises(Problem, match="case-unknown"):
        composer.look(own, {"en": "x"}, typed="p-1")
    theirs = ask("look", texts={"en": "x"}, shorts=["anc"])["number"]
    for act in (
        lambda: composer.confirm(own, theirs, "4"),
        lambda: composer.halt(own, theirs),
        lambda: composer.list_left_out(own, theirs),
        lambda: composer.try_on_me(own, theirs, "en"),
        lambda: composer.look(own, {"en": "x"}, fixes=theirs),
    ):
        with pytest.raises(Problem, match="broadcast-unknown"):
            act()
    with pytest.raises(Problem, match="right-missing"):
        composer.look_again(own, theirs)
    assert composer.list_running(own) == []
    number = composer.look(own, {"en": "x"}, shorts=["tb"], typed="p-9")["number"]
    assert composer.confirm(own, number, "1")["went"] == "going"
    for n, role in enumerate(("viewer", "helper")):
        weak = Desk(db, world.person(role, f"23324111001{n}", role, "anc").id)
        for act in (lambda d=weak: composer.choices(d), lambda d=weak: composer.look(d, {"en": "x"}, shorts=["anc"]),
                    lambda d=weak: composer.confirm(d, theirs, "4"), lambda d=weak: composer.halt(d, theirs)):  # fmt: skip
            with pytest.raises(Problem, match="right-missing"):
                act()


def test_the_log_says_who_did_it_and_through_which_page(db, ask, esi):
    number = ask("look", texts={"en": "x"}, shorts=["anc"])["number"]
    ask("send", number=number, typed="4")
    with db.reading() as tx:
        lines = [line for line in audit.list_last(tx, 10) if line.verb in ("operations.done", "broadcasts.launch")]
    assert {(line.person_id, line.door, line.source) for line in lines} == {(esi.id, "desk", "03_broadcasts")}
