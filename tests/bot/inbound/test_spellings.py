"""One phone, several spellings: a text counts as its phone's, whichever way its number is written by whichever gateway."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select
from twilio.request_validator import RequestValidator

from bot.app import create_app
from bot.gateways.kannel import Kannel
from bot.gateways.twilio import Twilio
from storage.broadcasts import previews
from storage.contacts import cases, consent, lookup
from storage.database import Database
from storage.messages import lookups
from storage.rules import numbers, phone_keys
from storage.rules.hours_and_limits import Rules
from storage.schema import consent_events
from tests.world import TEST, World

PUBLIC, SECRET, TOKEN, ACCOUNT = "https://sms.example.org", "a-secret-in-an-address", "t" * 32, "AC" + "0" * 32

SPELLINGS = [
    ("MX", "525512345690", "5215512345690"),
    ("AR", "5491123456789", "541123456789"),
    ("AR", "541123456789", "54111523456789"),
    ("AR", "5492214567890", "54221154567890"),
    ("BR", "5511987654321", "551187654321"),
    ("CO", "576012345678", "5712345678"),
    ("VN", "84701234567", "841201234567"),
    ("VN", "84359123456", "841659123456"),
    ("EG", "201001234567", "20101234567"),
    ("EG", "201061234567", "20161234567"),
    ("GM", "220833012345", "2203012345"),
    ("CI", "2250707123456", "22507123456"),
    ("CI", "2250544123456", "22544123456"),
    ("CI", "2250140123456", "22540123456"),
    ("BJ", "2290197123456", "22997123456"),
    ("MU", "23057123456", "2307123456"),
    ("CM", "237677123456", "23777123456"),
    ("GA", "24166123456", "2416123456"),
    ("GA", "24177123456", "24107123456"),
    ("GW", "245955123456", "2455123456"),
    ("SC", "2482512345", "248512345"),
    ("DJ", "25377612345", "253612345"),
    ("EC", "593991234567", "59391234567"),
    ("TL", "67077234567", "6707234567"),
    ("PS", "970591234567", "972591234567"),
]
"""The home country, and two spellings of one phone in it."""


class Programme:
    """A small programme at home in a country, with two gateways and the webhooks of both."""

    def __init__(self, db: Database) -> None:
        self.db, self.world = db, World(db)
        gateways: dict[str, Any] = {
            "twilio": Twilio(
                name="twilio", account_sid=ACCOUNT, auth_token=TOKEN, sender="+15550009999", messaging_service_sid=None
            ),
            "kannel": Kannel(
                name="kannel",
                url="http://127.0.0.1:1/",
                username="u",
                password="p",
                webhook_secret=SECRET,
                sender="1234",
            ),
        }
        self.client = create_app(db, gateways, PUBLIC).test_client()
        self._ids = itertools.count(1)

    def by_twilio(self, sender: str, text: str) -> None:
        fields = {"From": f"+{sender}", "To": "+15550009999", "Body": text, "MessageSid": f"SM{next(self._ids):032x}"}
        fields |= {"AccountSid": ACCOUNT, "NumMedia": "0"}
        signature = RequestValidator(TOKEN).compute_signature(f"{PUBLIC}/in/twilio", fields)
        answer = self.client.post("/in/twilio", base_url=PUBLIC, data=fields, headers={"X-Twilio-Signature": signature})
        assert answer.status_code == 200

    def by_kannel(self, sender: str, text: str) -> None:
        words = f"from={quote(sender)}&to=1234&id=k{next(self._ids)}&charset=UTF-8&coding=0&text={quote(text)}"
        assert self.client.get(f"/in/kannel/{SECRET}?{words}", base_url=PUBLIC).status_code == 200

    def skipped(self, group: int) -> dict[str, int]:
        """Why those of a group would not get a broadcast that is sent now."""
        with self.db.transaction() as tx:
            number = previews.draft(tx, {"en": "The clinic is closed"}, group_ids=[group], by=TEST)
            return dict(previews.preview(tx, number).skipped)

    def handled_as(self) -> str:
        with self.db.reading() as tx:
            return str(lookups.list_all(tx, direction="in", at_most=1)[0].handled_as)

    def may_text(self, number: str) -> bool:
        with self.db.reading() as tx:
            return consent.may_text(tx, number)


@pytest.fixture
def country() -> str:
    return "GH"


@pytest.fixture
def rules(country: str) -> Rules:
    return Rules(
        name="Clinic", time_zone="UTC", country=country, hours=None, default_gateway="kannel",
        gateways=frozenset({"kannel", "twilio"}),
    )  # fmt: skip


@pytest.fixture
def programme(db: Database) -> Iterator[Programme]:
    yield Programme(db)


@pytest.mark.parametrize("gateway", ["twilio", "kannel"])
@pytest.mark.parametrize("turned", [False, True], ids=["stored as today", "stored as before"])
@pytest.mark.parametrize(("country", "one", "other"), SPELLINGS, ids=str)
def test_a_stop_from_the_other_spelling_is_a_stop(
    programme: Programme, one: str, other: str, *, turned: bool, gateway: str
) -> None:
    stored, sender = (other, one) if turned else (one, other)
    ama = programme.world.case("ama", stored)
    group = programme.world.group("anc", ama)
    assert programme.skipped(group) == {}
    getattr(programme, f"by_{gateway}")(sender, "STOP")
    assert programme.skipped(group) == {"stopped": 1}
    assert not programme.may_text(stored)
    getattr(programme, f"by_{gateway}")(sender, "START")
    assert programme.may_text(stored)


@pytest.mark.parametrize(
    "given", ["0241234101", "00233241234101", "241234101", "+233241234101", "2330241234101", " 233241234101"]
)
def test_a_gateway_may_give_a_number_as_it_is_dialled_at_home(programme: Programme, given: str) -> None:
    ama = programme.world.case("ama", "233241234101")
    group = programme.world.group("anc", ama)
    programme.world.person("Lena", "233244000001")
    programme.by_kannel(given, "Can I come on Monday?")
    assert programme.handled_as() == "inbox", "it is the case's own"
    programme.by_kannel(given, "STOP")
    assert programme.skipped(group) == {"stopped": 1}


@pytest.mark.parametrize("country", ["CI"])
def test_a_home_number_may_be_given_in_its_old_national_form(programme: Programme) -> None:
    programme.world.case("ama", "2250707123456")
    programme.by_kannel("07123456", "STOP")
    assert not programme.may_text("2250707123456")


def test_staff_act_from_either_spelling_and_are_answered(programme: Programme) -> None:
    programme.world.person("Maria", "525512345690")
    programme.by_twilio("5215512345690", "menu")
    assert programme.handled_as() == "command"
    with programme.db.reading() as tx:
        (answer,) = lookups.list_all(tx, direction="out")
    assert answer.phone == "5215512345690", "to the number that texted"


def test_one_phone_has_one_owner_and_gets_a_broadcast_once(programme: Programme) -> None:
    ama, kofi = programme.world.case("ama", "525512345690"), programme.world.case("kofi", "5215512345690")
    first, second = programme.world.look(ama), programme.world.look(kofi)
    assert (first.two_way, second.two_way) == (True, False)
    with programme.db.reading() as tx:
        standing = cases.standing(tx, second)
    assert standing.owner == first.case_id
    assert standing.waiting == (second.case_id,)
    assert programme.skipped(programme.world.group("anc", ama, kofi)) == {"same-phone": 1}


def test_a_phone_that_may_be_another_is_stopped_with_it_and_does_nothing_in_its_name(programme: Programme) -> None:
    """Seven digits of Mauritius that begin with 44 may be a mobile of before 2013, or a fixed line of today."""
    programme.world.case("ama", "2304421234")
    programme.world.person("Lena", "2304421234")
    programme.by_twilio("23054421234", "menu")
    assert programme.handled_as() == "stranger"
    programme.by_twilio("23054421234", "STOP")
    assert not programme.may_text("2304421234")
    assert not programme.may_text("23054421234")
    programme.by_twilio("23054421234", "START")
    assert programme.may_text("2304421234"), "who stopped it lets it go on"


def test_a_start_does_not_undo_the_stop_of_another_phone(programme: Programme) -> None:
    programme.by_twilio("2304421234", "STOP")
    programme.by_twilio("23054421234", "STOP")
    programme.by_twilio("23054421234", "START")
    programme.by_twilio("2304421234", "STOP")
    programme.by_twilio("23054421234", "START")
    assert not programme.may_text("2304421234")


@pytest.mark.parametrize("country", ["US"])
def test_digits_that_are_two_people_s_numbers_stop_both_and_act_for_neither(programme: Programme) -> None:
    here, abroad = "12015550123", "2015550123"
    assert numbers.find(f"+{here}") and numbers.find(f"+{abroad}")
    ama, esi = programme.world.case("ama", here), programme.world.case("esi", abroad)
    programme.world.person("Lena", "13125550100")
    programme.world.person("Maria", "13125550101", "viewer")
    programme.by_kannel(abroad, "Can I come on Monday?")
    assert programme.handled_as() == "stranger"
    programme.by_kannel(abroad, "STOP")
    assert programme.skipped(programme.world.group("anc", ama, esi)) == {"stopped": 2}
    programme.by_kannel(abroad, "START")
    assert programme.skipped(programme.world.group("tb", ama, esi)) == {}


def test_what_was_received_is_kept_as_it_was(programme: Programme) -> None:
    programme.by_twilio("5215512345690", "STOP")
    with programme.db.reading() as tx:
        event = tx.execute(select(consent_events)).one()
        row = lookups.list_all(tx, direction="in")[0]
    assert (event.phone, event.phone_key) == (row.phone, row.phone_key) == ("5215512345690", "525512345690")


def test_a_case_is_found_by_either_spelling(programme: Programme) -> None:
    ama = programme.world.case("ama", "22997123456")
    with programme.db.reading() as tx:
        found = lookup.find_one(tx, "2290197123456")
    assert (found.id, found.contact_phone_number) == (ama, "22997123456")


def test_every_plan_says_its_country_its_day_and_its_source_and_leads_to_a_key_that_stays() -> None:
    assert len(phone_keys.plans()) >= 19
    for plan in phone_keys.plans().values():
        assert plan.country and plan.source and plan.version >= 1 and plan.rules
    for _, one, other in SPELLINGS:
        assert phone_keys.key(one) == phone_keys.key(other)
        assert phone_keys.key(phone_keys.key(one)) == phone_keys.key(one), "a key is its own key"
