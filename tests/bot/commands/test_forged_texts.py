"""Texts that somebody sends under a supervisor's number: what they cannot do, and what they cannot keep its owner from.

Whoever forges a number never sees an answer.  Each test plays both: the forger by texts alone, and the owner, who reads
what the phone got.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select

from bot.gateways.base import Inbound
from bot.inbound import listeners
from storage import schema
from storage.contacts import groups, people
from storage.database import Database
from storage.operations import caps, codes, operations
from storage.operations.operations import WAITING
from storage.rules.hours_and_limits import Rules
from tests.conftest import Clock
from tests.world import TEST, World

LENA, MARIA, SAMUEL, SOFIA = "233244000901", "233244000903", "233244000902", "233244000904"
NUMBER = itertools.count(1)


@pytest.fixture
def rules() -> Rules:
    return Rules(name="Demo clinic", time_zone="Africa/Accra", country="GH", hours=None, default_gateway="twilio",
                 gateways=frozenset({"twilio"}))  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Phones:
    """Who texts, and what the phones got."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db, self.clock = db, clock

    def text(self, phone: str, words: str, *, after_s: float = 1) -> list[str]:
        """What the phone got for a text, without digits of a code."""
        self.clock.advance(seconds=after_s)
        before = len(self.got(phone))
        assert listeners.take(self.db, "twilio", Inbound(f"SM{next(NUMBER)}", phone, "+15550001111", words))
        return [row.body for row in self.got(phone)[before:]]

    def got(self, phone: str) -> list[Any]:
        """All that a phone got, oldest first."""
        with self.db.reading() as tx:
            query = select(schema.messages).where(
                schema.messages.c.direction == "out", schema.messages.c.phone == phone
            )
            return list(tx.execute(query.order_by(schema.messages.c.id)))

    def code(self, phone: str, *, saying: str = "") -> str:
        """The digits in the newest text that has some, as its owner reads them."""
        row = next(row for row in self.got(phone)[::-1] if row.code_id is not None and saying in row.body)
        with self.db.reading() as tx:
            return codes.shown(tx, row.code_id)

    def members(self, short: str) -> int:
        with self.db.reading() as tx:
            return groups.count_members(tx, groups.group(tx, short).id)


@pytest.fixture
def phones(db: Database, world: World, clock: Clock) -> Phones:
    cases = [world.case(f"p{n}", f"2332440010{n:02}") for n in range(60)]
    world.group("anc", *cases[:40])
    world.group("tb", *cases[:12])
    world.person("Lena", LENA)
    world.person("Maria", MARIA, language="es")
    world.person("Samuel", SAMUEL, "supervisor", "anc", "tb")
    world.person("Sofia", SOFIA, "supervisor", "anc")
    return Phones(db, clock)


def some_forgery(rng: Random) -> str:
    """Anything that a forger might try."""
    who = " ".join(f"p{rng.randrange(60)}" for _ in range(rng.randint(1, 10)))
    return rng.choice([
        f"add anc {who}", f"drop anc {who}", f"drop tb {who}", f"find x{rng.random()}", f"add anc q{rng.randrange(999)} r{rng.randrange(999)}",
        f"tell anc Hello {rng.random()}", f"tell p{rng.randrange(60)} Hi {rng.random()}", f"ok {rng.randrange(10**6):06}",
        f"ok {rng.randrange(10**10):010}", f"new g{rng.randrange(10**6)}", f"name anc N{rng.random()}", f"undo {rng.randrange(300)}", "menu",
        "no", f"thanks {rng.random()}", f"delete tb {rng.random()}", f"also {rng.randrange(300)} sw Habari", "groups", "ok thanks",
    ])  # fmt: skip


# -- the owner is not locked out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "gap_s"), [(1000, 0.2), (200, 0), (200, 3)])
def test_after_a_thousand_forged_texts_the_owners_next_code_confirms_and_the_next_command_is_answered(
    phones: Phones, times: int, gap_s: float
) -> None:
    times = times if phones.db.is_sqlite else times // 5
    rng = Random(5)
    for _ in range(times):
        phones.text(SAMUEL, some_forgery(rng), after_s=gap_s)
    lasted_min = times * gap_s / 60
    assert len(phones.got(SAMUEL)) <= 62 * (lasted_min / 10 + 1), "and the owner is not flooded by answers"
    if not phones.text(SAMUEL, "add anc p59"):
        assert phones.text(SAMUEL, f"ok {phones.code(SAMUEL, saying='if they are yours')}") == [
            "Thank you: this phone is heard again. Text your command once more"
        ]
    phones.clock.advance(seconds=10)
    if "ok **********" in (answer := phones.text(SAMUEL, "add anc p59"))[0]:
        assert "is paused" in answer[0]
        phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")
    (asked,) = phones.text(SAMUEL, "tell anc Clinic closed Friday")
    assert "TELL anc" in asked
    (going,) = phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")
    assert "is going to" in going


def test_a_correct_code_from_a_phone_that_is_not_heard_any_more_confirms_and_is_answered(phones: Phones) -> None:
    phones.text(SAMUEL, "tell anc Clinic closed Friday")
    code = phones.code(SAMUEL)
    for n in range(90):
        phones.text(SAMUEL, f"tell p{n % 30} Hello {n}"[:20] if n % 9 == 8 else f"who {'anc' if n % 2 else 'tb'} {n}")
        phones.text(SAMUEL, f"find p{n % 60}")
    assert phones.text(SAMUEL, "groups") == []
    (going,) = phones.text(SAMUEL, f"OK {code[:3]} {code[3:]}")
    assert "is going to 40 people" in going
    assert phones.text(SAMUEL, "groups") != []


def test_a_phone_that_is_not_heard_is_asked_once_in_ten_minutes_and_forged_codes_end_no_question(
    phones: Phones,
) -> None:
    def flood(times: int) -> None:
        for n in range(times):
            phones.text(SAMUEL, f"find p{n % 40}", after_s=0.1)

    def asked() -> int:
        return sum("if they are yours" in row.body for row in phones.got(SAMUEL))

    flood(100)
    assert asked() == 1
    for n in range(10):
        assert phones.text(SAMUEL, f"ok {n:010}") == []
        assert phones.text(SAMUEL, f"ok {n:06}") == []
    assert phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}") == [
        "Thank you: this phone is heard again. Text your command once more"
    ]
    assert phones.text(SAMUEL, "groups") != []
    flood(100)
    assert asked() == 2, "after a proof the next question need not wait"
    flood(100)
    assert asked() == 2


def test_proving_a_phone_under_attack_does_not_let_texts_to_single_people_go_at_once(phones: Phones) -> None:
    for n in range(22):
        phones.text(SAMUEL, f"find nobody{n}")
    phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")
    assert "Reply ok ******" in phones.text(SAMUEL, "tell p1 Hello")[0]
    phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")
    assert "is on its way" in phones.text(SAMUEL, "tell p1 Hello again")[0]


def test_thirty_forged_texts_to_single_people_leave_the_owner_one_more_for_a_code(phones: Phones) -> None:
    phones.text(SAMUEL, "tell p1 Hello")
    phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")
    answers = [phones.text(SAMUEL, f"tell p{n} Hello {n}", after_s=20)[0] for n in range(2, 40)]
    assert sum("is on its way" in text for text in answers) == 29
    assert all("Reply ok ******" in text for text in answers[29:])
    assert "is going to 1 person" in phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")[0]


# -- small acts add up -------------------------------------------------------------------------------------------------


def test_hundreds_of_forged_small_acts_change_no_more_than_the_hours_cap_and_the_leads_are_told_once(
    phones: Phones,
) -> None:
    rng = Random(11)
    before = {short: _ids(phones, short) for short in ("anc", "tb")}
    texts = [f"{verb} {short} {' '.join(f'p{rng.randrange(60)}' for _ in range(rng.randint(1, 10)))}"
             for _ in range(125 if phones.db.is_sqlite else 25) for verb in ("add", "drop") for short in ("anc", "tb")]  # fmt: skip
    for text in texts:
        phones.text(SAMUEL, text, after_s=7)  # 500 of them in 58 minutes
    gone = sum(len(before[short] - _ids(phones, short)) for short in before)
    come = sum(len(_ids(phones, short) - before[short]) for short in before)
    assert gone <= 10
    assert come <= 10
    for lead in (LENA, MARIA):
        assert len(phones.got(lead)) == 1, "once an hour"
    assert phones.got(LENA)[0].body.startswith("Samuel: ")
    assert "sin codigo" in phones.got(MARIA)[0].body


def _ids(phones: Phones, short: str) -> set[int]:
    with phones.db.reading() as tx:
        group = groups.group(tx, short)
        return {row.id for row in groups.members(tx, group.id, at_most=100)}


def test_several_forged_numbers_empty_a_group_no_further_than_one(phones: Phones) -> None:
    for n in range(10):
        phones.text(SAMUEL, f"drop anc p{n}")
        phones.text(SOFIA, f"drop anc p{n + 10}")
        phones.text(LENA, f"drop anc p{n + 20}")
    assert phones.members("anc") == 30


def test_no_more_than_half_of_a_small_group_leaves_it_in_an_hour_without_a_code(phones: Phones) -> None:
    phones.text(SAMUEL, "drop tb p0 p1 p2 p3 p4 p5 p6 p7 p8 p9")
    for n in range(12):
        phones.text(SAMUEL, f"drop tb p{n}")
    assert phones.members("tb") == 6


def test_dropping_and_taking_back_in_turns_does_not_begin_the_count_again(phones: Phones) -> None:
    for _ in range(4):
        (answer,) = phones.text(SAMUEL, "drop anc p1 p2 p3 p4 p5")
        if "undo" in answer:
            phones.text(SAMUEL, f"undo {answer.rsplit(' ', 1)[1]}")
    with phones.db.reading() as tx:
        person = people.person(tx, SAMUEL)
        used = select(func.sum(schema.operations.c.at_once)).where(schema.operations.c.person_id == person.id)
        assert tx.scalar(used) == 20  # ten out and ten back
        assert caps.over(tx, person.id, "drop", 1) is not None
        assert caps.over(tx, person.id, "add", 1) is not None


def test_what_a_code_confirmed_is_not_counted_and_an_hour_later_all_begins_again(phones: Phones) -> None:
    phones.text(SAMUEL, "drop anc p0 p1 p2 p3 p4 p5 p6 p7 p8 p9 p10 p11")
    assert "12 out" in phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")[0]
    assert "10 out" in phones.text(SAMUEL, "drop anc p20 p21 p22 p23 p24 p25 p26 p27 p28 p29")[0]
    assert "Reply ok" in phones.text(SAMUEL, "drop anc p30")[0]
    assert "1 out" in phones.text(SAMUEL, "drop anc p31", after_s=3601)[0]


def test_a_lead_who_is_alone_and_over_the_cap_is_asked_for_a_code_and_told_nothing_more(
    db: Database, world: World, clock: Clock
) -> None:
    phones = Phones(db, clock)
    world.group("anc", *[world.case(f"p{n}", f"2332440010{n:02}") for n in range(30)])
    world.person("Lena", LENA)
    for n in range(12):
        phones.text(LENA, f"drop anc p{n}")
    assert phones.members("anc") == 20
    assert len(phones.got(LENA)) == 12


@pytest.mark.parametrize("verb", ["new", "name"])
def test_groups_are_made_and_named_ten_times_an_hour_and_then_by_a_code(phones: Phones, verb: str) -> None:
    names = [f"{chr(97 + n)}{chr(98 + n)}{chr(99 + n)}clinic" for n in range(12)]
    texts = [f"new {name}" if verb == "new" else f"name anc Clinic {name}" for name in names]
    answers = [phones.text(SAMUEL, text)[0] for text in texts]
    assert ["Reply ok" in answer for answer in answers] == [False] * 10 + [True] * 2
    assert "Reply ok" not in phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")[0]
    with phones.db.reading() as tx:
        made = {group.short for group in groups.list_all(tx)}
        assert (names[11] in made) if verb == "new" else groups.group(tx, "anc").name == f"Clinic {names[11]}"


def test_taking_back_a_large_sheet_by_text_needs_a_code(phones: Phones, world: World) -> None:
    """What a sheet put in at the desk was taken out again by one forged text, however many they were."""
    with phones.db.transaction() as tx:
        group = groups.group(tx, "tb")
        samuel = people.person(tx, SAMUEL)
        outside = [
            row.id for row in tx.execute(select(schema.cases.c.id).order_by(schema.cases.c.id).offset(20).limit(30))
        ]
        groups.add(tx, group.id, outside, by=TEST)
        line = tx.scalar(select(func.max(schema.audit.c.id)))
        by = type(TEST)("desk", samuel.id, "a sheet")
        number = operations.note(tx, "sheet", words="", undoes={"lines": [line]}, group_id=group.id, by=by)
    assert "Reply ok" in phones.text(SAMUEL, f"undo {number}")[0]
    assert phones.members("tb") == 42
    assert "30 out of tb" in phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")[0]


def test_a_right_that_was_lost_before_the_code_lets_nothing_be_done_again(phones: Phones) -> None:
    for n in range(11):
        phones.text(SAMUEL, f"name anc Clinic {n}")
    code = phones.code(SAMUEL)
    with phones.db.transaction() as tx:
        people.change(tx, people.person(tx, SAMUEL), shorts=["tb"], by=TEST)
    phones.text(SAMUEL, f"ok {code}")
    with phones.db.reading() as tx:
        assert groups.group(tx, "anc").name == "Clinic 9"


# -- guessing ----------------------------------------------------------------------------------------------------------


def test_of_fifty_previews_ten_can_be_hit_by_a_guess_and_the_others_have_lapsed_for_all_to_see(phones: Phones) -> None:
    for n in range(50):
        phones.text(SAMUEL, f"tell anc Hello {n}")
    with phones.db.reading() as tx:
        rows = tx.execute(select(schema.operations.c.id, schema.operations.c.state).order_by("id")).all()
        drafts = tx.execute(select(schema.broadcasts.c.state).order_by(schema.broadcasts.c.id)).scalars().all()
    assert [row.state for row in rows] == ["expired"] * (50 - WAITING) + ["waiting"] * WAITING
    assert drafts == ["expired"] * (50 - WAITING) + ["previewed"] * WAITING


def test_the_owner_learns_that_the_oldest_of_too_many_has_lapsed(phones: Phones) -> None:
    phones.text(SAMUEL, "tell anc Clinic closed Friday")
    first = phones.code(SAMUEL)
    for n in range(WAITING):
        phones.text(SAMUEL, f"tell anc Hello {n}")
    assert phones.text(SAMUEL, f"ok {first}") == [
        "1 is dropped: 10 newer ones wait. Nothing was sent. Ask again if you want it"
    ]
    phones.text(SAMUEL, "tell anc Clinic closed on Friday")
    assert "is going to" in phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")[0]


def test_codes_of_others_that_somebody_asked_for_hide_no_code_of_the_owner(phones: Phones) -> None:
    """Only the newest fifty codes were looked at, and a forger can ask for a hundred."""
    for n in range(22):
        phones.text(SAMUEL, f"find nobody{n}")
    code = phones.code(SAMUEL)
    for n in range(70):
        phones.text(SAMUEL, f"tell anc Hello {n}", after_s=0.1)
    assert phones.text(SAMUEL, f"ok {code}") == ["Thank you: this phone is heard again. Text your command once more"]


# -- machines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "Thanks for your message no {n}",
        "Auto-reply {n}: I am away",
        "n{n}",
        "anc {n}",
        "ok thanks",
        "no thank you {n}",
        "menu",
    ],
)
def test_a_machine_that_answers_each_text_with_other_words_gets_five_answers(phones: Phones, words: str) -> None:
    exchanges = 0
    for n in range(100):
        exchanges += len(phones.text(SAMUEL, words.format(n=n * 7919), after_s=2))
    assert exchanges <= 5


def test_a_person_who_confirmed_a_code_is_not_taken_for_a_machine(phones: Phones) -> None:
    phones.text(SAMUEL, "tell anc Clinic closed Friday")
    phones.text(SAMUEL, f"ok {phones.code(SAMUEL)}")
    assert all(phones.text(SAMUEL, "groups") for _ in range(20))


def test_a_supervisor_whose_words_were_not_understood_is_still_answered_when_they_are(phones: Phones) -> None:
    for n in range(20):
        phones.text(SAMUEL, f"hello there {n}")
    assert phones.text(SAMUEL, "groups") != []
