"""The longest that the code puts into each hole of a sentence: what fits with these always fits."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bot.commands.registry import COMMANDS
from bot.replies import Quote, Sentences, Spare, Words, names, shorten
from storage import schema

CODE = "*" * 10
LONG_NAME = "Mama Nakalembe Wandira-Ssebagala"
LONG_PERSON = f"{shorten(LONG_NAME, 30)} ({'KCCA-2026-00001234-antenatal-north'[:24]})"
NOT_IN_THE_MENU = ("menu", "ok", "no", "re", "resume")


@cache
def longest(said: Sentences) -> dict[str, Any]:
    """For each hole the longest that the code puts into it."""
    told = said.sentences
    people = told["people"].format(count=12345)
    time = said.date(datetime(2026, 9, 30, 14, 3, tzinfo=UTC))
    day = said.day_and_time("2026-09-30T14:03")
    return {
        "accounts": 12345,
        "back": 12345,
        "broadcast": 123456,
        "candidates": Words(shorten(", ".join(["c-kzvtnbd"] * 9), 40)),
        "closes": "20:00",
        "code": CODE,
        "count": 12345,
        "day": 30,
        "delivered": 12345,
        "did": names(
            told["digest-tell"].format(person="Mama Nakalembe Wa...", group="antenatal123", number=123456 + n)
            for n in range(9)
        ),
        "doubts": names(range(123456, 123476)),
        "example": max(map(said.verb, ("add", "groups")), key=len),
        "failed": 12345,
        "field": Words(shorten("a_field_that_nobody_has_ever_heard_of_anywhere", 40)),
        "first": 123456,
        "fixed": 123456,
        "got": 12345,
        "group": "antenatal123",
        "groups": names(f"antenatal{n:03} 12345" for n in range(40)),
        "guess": Spare(told["guess"].format(typed="ttell", verb=said.verb("tell"))),
        "halted": told["check-halted"].format(count=12345),
        "head": "0123456789ab",
        "id": "KCCA-2026-00001234-anten",
        "known": Words("name, external_id, case_id"),
        "languages": Spare(" (en 12345, pt-br 12345, sw 12345)"),
        "leads": names([LONG_NAME] * 9),
        "left": 12345,
        "length": 12345,
        "life": Spare(told["good-for"]),
        "limit": 12345,
        "minutes": told["about-minutes"].format(count=1234),
        "month": "Sept",
        "name": Words("The Northern Antenatal and Paediatric Outreach Programme, Second Phase " * 3),
        "near": told["group-unknown-near"].format(groups="antenatal123 (12345), antenatal124 (12345)"),
        "number": 123456,
        "numbers": names(range(123456, 123476)),
        "opens": "09:00",
        "other": "antenatal124",
        "out": 12345,
        "parts": 11,
        "people": people,
        "person": Words(LONG_PERSON),
        "phone": "233244123456789",
        "programme": Words("The Northern Antenatal and Paediatric Outreach Programme"),
        "reason": max((said.reason(key, "30003") for key in said.reasons), key=len),
        "rest": "x" * 50 + " ",
        "running": names(f"{n} antenatal123 12345/12345{told['check-paused']}" for n in range(123456, 123466)),
        "sent": 12345,
        "skipped": (told["skipped-stopped"] + told["skipped-other"]).format(count=12345),
        "starts": max((told[f"starts-{which}"].format(time=day) for which in ("at", "day")), key=len),
        "state": max((said.sentences[f"state-{state}"] for state in STATES), key=len),
        "stops": told["delete-stops"].format(numbers="123456, 123457 +18"),
        "text": Quote("Clinic closed Friday, come on Monday. " * 40),
        "time": time,
        "today": "2290197123456",
        "total": 12345,
        "unsure": Spare(told["number-shared"].format(person="Mama Nakalembe Wanjiku...")),
        "zone": "America/Argentina/ComodRivadavia",
        "twin": Spare(told["twin"].format(person="Mama Nakalembe Wa...", number=123456)),
        "typed": Words(shorten("233244123456233244123456233244123456233244123456", 40)),
        "unknown": 12345,
        "verb": max(map(said.verb, COMMANDS), key=len),
        "verbs": " ".join(said.verb(command) for command in said.verbs if command not in NOT_IN_THE_MENU),
        "waiting": names(range(123456, 123476)),
        "when": told["when"].format(time=day),
        "who": names([LONG_PERSON] * 9),
        "word": Words("unsubscribe"),
        "words": Words("x" * 40),
    }


@cache
def in_sentence(said: Sentences) -> dict[tuple[str, str], Any]:
    """What a hole holds at the longest in one sentence, where that is not what it holds elsewhere."""
    skipped = (said.sentences["skipped-stopped"] + said.sentences["skipped-other"]).format(count=12345)
    skips = ("closed", "no-number", "stopped", "gateway-unknown", "same-phone", "text-blank", "text-too-long")
    return {
        ("who", "people"): names([LONG_PERSON] * 8),
        ("who-all", "people"): names([LONG_PERSON] * 8),
        ("group-unknown-near", "groups"): "antenatal123 (12345), antenatal124 (12345)",
        ("check", "unknown"): said.sentences["check-unknown"].format(count=12345),
        ("check", "state"): max((said.sentences[f"state-{state}"] for state in schema.BROADCAST_STATES), key=len),
        ("case-unknown-near", "near"): "KCCA-2026-00001234-anten",
        ("brace-stray", "near"): "x" * 17,
        ("supervisor-stopped", "person"): Words(LONG_NAME),
        ("second-given", "person"): Words(LONG_NAME),
        ("second-asked", "person"): Words(LONG_NAME),
        ("tell-one-cannot", "reason"): max((said.reason(key) for key in skips), key=len),
        ("reason-code", "reason"): max(said.reasons.values(), key=len),
        ("reason-code", "code"): "30003",
        ("halted", "rest"): 12345,
        **{(key, "skipped"): Spare(skipped) for key in ("ask-tell", "ask-fix")},
        ("look-twice", "words"): names(['"tuberculosis"', '"unsubscribe"', '"antiretroviral"']),
        ("starts-at", "time"): said.day_and_time("2026-09-30T14:03"),
        ("find", "people"): names([f"{LONG_PERSON} ...4567"] * 3),
        ("find-many", "people"): names([f"{LONG_PERSON} ...4567"] * 3),
        ("codes-guessed", "person"): Words(LONG_NAME),
        ("lookups-paused", "minutes"): 60,
        ("digest-tell", "person"): "Mama Nakalembe Wa...",
        ("digest-delete", "person"): "Mama Nakalembe Wa...",
        ("ask-many", "verb"): max((said.verb(command).upper() for command in ("add", "drop")), key=len),
    }


STATES = tuple(dict.fromkeys((*schema.BROADCAST_STATES, *schema.OPERATION_STATES)))


def values_for(said: Sentences, key: str) -> dict[str, Any]:
    usual, special = longest(said), in_sentence(said)
    holes = said.holes(key)
    if unknown := {hole for hole in holes if hole not in usual and (key, hole) not in special}:
        pytest.fail(f"add the longest value of {unknown} to longest() in {Path(__file__).name}")
    return {hole: special.get((key, hole), usual.get(hole)) for hole in holes}
