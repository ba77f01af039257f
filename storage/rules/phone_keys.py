"""One phone, one key: a number as its numbering plan writes it today, whichever of its spellings somebody used.

By its key a phone is compared everywhere: consent, ownership, staff, double texts, answers.  The number itself stays as it was
typed or received.  What the rules are, per calling code and with a version, stands in `phone_keys.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

Holds = Literal["old", "both", "maybe"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One spelling: how the digits after the calling code look, the whole key, and what holds of it (`phone_keys.toml`)."""

    spelling: re.Pattern[str]
    key: str
    holds: Holds


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules of one calling code: of which country, from which day, by which source, and in which version."""

    code: str
    country: str
    version: int
    since: date
    source: str
    rules: Sequence[Rule]


@cache
def plans() -> Mapping[str, Plan]:
    """Every plan, by its calling code."""
    written = tomllib.loads(resources.files(__package__).joinpath("phone_keys.toml").read_text("utf-8"))
    return {
        code: Plan(
            code=code,
            country=plan["country"],
            version=plan["version"],
            since=plan["since"],
            source=plan["source"],
            rules=[Rule(re.compile(spelling), key, holds) for spelling, key, holds in plan["rules"]],
        )
        for code, plan in written.items()
    }


def key(digits: str) -> str:
    """The key of a number, given as its digits, country code first; whatever has no rule is its own key."""
    plan = plan_of(digits)
    return digits if plan is None else _key(digits)


def keys(digits: Iterable[str | None]) -> list[str | None]:
    """The key of each number, None for none."""
    return [None if one is None else key(one) for one in digits]


def may_be(digits: str) -> frozenset[str]:
    """The keys of all phones that may be the one with this number, its own first among them: what a STOP has to stop."""
    own = key(digits)
    return frozenset({own, *_perhaps(digits), *_perhaps(own)})


def written_today(digits: str) -> str | None:
    """How a number is written today, where its spelling is over; None where it stands."""
    plan = plan_of(digits)
    rule = None if plan is None else _rule(plan, digits)
    return _key(digits) if rule is not None and rule.holds == "old" else None


def plan_of(digits: str) -> Plan | None:
    """The rules that there are for the calling code of a number."""
    found = plans()
    return found.get(digits[:3]) or found.get(digits[:2])


@lru_cache(maxsize=16384)
def _key(digits: str) -> str:
    plan = plan_of(digits)
    rule = None if plan is None else _rule(plan, digits)
    return digits if rule is None or plan is None or rule.holds == "maybe" else _by(rule, plan, digits)


def _rule(plan: Plan, digits: str) -> Rule | None:
    rest = digits[len(plan.code) :]
    return next((rule for rule in plan.rules if rule.spelling.fullmatch(rest)), None)


def _by(rule: Rule, plan: Plan, digits: str) -> str:
    return rule.spelling.sub(rule.key, digits[len(plan.code) :], count=1)


@lru_cache(maxsize=4096)
def _perhaps(digits: str) -> frozenset[str]:
    """The keys that a number may have besides its own: by a rule that says maybe, from either end."""
    plan = plan_of(digits)
    if plan is None:
        return frozenset()
    maybe = [rule for rule in plan.rules if rule.holds == "maybe"]
    rule = _rule(plan, digits)
    found = {_by(rule, plan, digits)} if rule in maybe else set()
    # From its new spelling back: what is left when the added digits are taken away, if the rule leads here from there.
    rest = digits[len(plan.code) :]
    for n in range(1, 4):
        shorter = plan.code + rest[n:]
        led = _rule(plan, shorter)
        if led in maybe and _by(led, plan, shorter) == digits:
            found.add(shorter)
    return frozenset(found)
