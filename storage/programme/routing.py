"""By which gateway a number is texted, and why that one.

The case's own gateway (`contact_backend_id`) decides, else the longest prefix of the number that the programme's map
has, else the programme's default.  On a channel that goes by no number it is that channel's default.  The choice is made once, when a message is put into the outbox, and stays on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, FromClause, Text, case, func, literal

from storage.rules.channels import SMS, Channel
from storage.rules.hours_and_limits import Rules

Because = Literal["case", "prefix", "default", "none"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A gateway and why: `prefix` is the one that decided, `is_known` false where the programme has no such gateway."""

    gateway: str | None
    because: Because
    prefix: str | None = None
    is_known: bool = True


def choose(rules: Rules, address: str, own: str | None = None, channel: Channel = SMS) -> Choice:
    """The gateway for a number or other address, which a case that is set to `own` has."""
    if own and channel.by_phone:
        return Choice(own, "case", is_known=not rules.gateways or own in rules.gateways)
    for prefix, gateway in rules.routes if channel.by_phone else ():
        if address.startswith(prefix):
            return Choice(gateway, "prefix", prefix)
    default = channel.default_gateway(rules)
    return Choice(default, "default" if default else "none")


def by_number(rules: Rules, phone: ColumnElement[str], channel: Channel = SMS) -> ColumnElement[Any]:
    """The same for a column of numbers, in the set; the longest prefix is asked first."""
    default = literal(channel.default_gateway(rules), Text())
    if not rules.routes or not channel.by_phone:
        return default
    return case(*((phone.startswith(prefix), literal(name, Text())) for prefix, name in rules.routes), else_=default)


def by_case(rules: Rules, whose: FromClause, channel: Channel = SMS) -> ColumnElement[Any]:
    """The same for cases: their own gateway, else by their number."""
    chosen = by_number(rules, whose.c[channel.of_case], channel)
    return func.coalesce(func.nullif(whose.c.contact_backend_id, ""), chosen) if channel.by_phone else chosen
