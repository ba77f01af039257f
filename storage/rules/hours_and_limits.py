"""What a programme has decided: its home, its hours, its limits.

These come from the operator's settings and are handed to `database.open`; every verb finds them as `tx.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time

from storage.errors import Problem
from storage.rules.quiet_hours import Hours

RESEND_ABSENT = frozenset({"reply", "notice"})
"""What may go again once it is proved that the gateway never had it: answers to staff and senders, and nothing to many."""

HEALTH_WORDS = ("hiv", "aids", "arv", "arvs", "art clinic", "vih", "sida", "syphilis", "sifilis", "abortion", "aborto")
"""What nobody should read over a shoulder without somebody having thought of it; a programme sets its own list."""

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def read_language(typed: str) -> str:
    """The code of a person's language, such as `sw` or `pt-BR`.  Raises Problem `language-shape`."""
    if not _LANGUAGE.fullmatch(typed):
        raise Problem("language-shape", typed=typed)
    return typed


@dataclass(frozen=True, slots=True)
class Senders:
    """Our numbers at a gateway that has several, and how many texts a second each may send."""

    numbers: tuple[str, ...]
    rate_per_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Rules:
    """The programme's own decisions; the defaults are those of `product.md` and safe for a programme that set none.

    `rate_per_s` is the default gateway's, for saying how long a broadcast takes.
    `hours` is None where texting is allowed at every hour (tests).  `gateways` are the names that a case's
    `contact_backend_id` may hold; empty where this process sends nothing and cannot know.  `routes` are prefixes of numbers
    with their gateways, the longest first; `rates` are messages per second; `failover` says which gateway takes over what
    another certainly did not send; `senders` are our numbers at gateways that have several.  `add_only_own` keeps supervisors
    and helpers to the people who are in their groups already.  `resend_absent` are the kinds of message that go again
    once the gateway has shown twice that it never had them.  A backup older than `backup_h` hours is complained about; 0: none is.
    """

    name: str = "the programme"
    time_zone: str = "UTC"
    language: str = "en"
    country: str | None = None
    strict_numbers: bool = False
    hold_s: int = 60
    hours: Hours | None = field(default_factory=lambda: Hours(time(9), time(20)))
    expiry_h: int = 24
    second_person_above: int = 500
    rate_per_s: float = 1.0
    default_gateway: str | None = None
    gateways: frozenset[str] = frozenset()
    routes: tuple[tuple[str, str], ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)
    senders: Mapping[str, Senders] = field(default_factory=dict, hash=False)
    failover: Mapping[str, str] = field(default_factory=dict, hash=False)
    health_words: tuple[str, ...] = HEALTH_WORDS
    digest: bool = True
    add_only_own: bool = False
    resend_absent: frozenset[str] = RESEND_ABSENT
    backup_h: int = 26
