"""The channels by which a message goes: what each of them is, declared once.

A channel says where the address of a case stands and how addresses are compared, how long a text may be and what it costs,
whether consent and quiet hours hold, and which gateway takes what nothing else decides.  Whoever sends, previews, judges or
asks for consent looks it up here by the channel of the message, so that another channel is another row of `CHANNELS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from storage.rules import phone_keys, segments
from storage.rules.hours_and_limits import Rules


class Cost(Protocol):
    """What a text costs: the parts that are paid for, and the character that makes it dearer, None where there is none."""

    @property
    def parts(self) -> int:
        """How many are paid for."""

    @property
    def forced_by(self) -> str | None:
        """The first character that the cheaper encoding lacks."""


DEFAULT = "sms"
"""The channel of a row that names none, as the columns of the schema have it."""


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One way to a person; one channel is one object, by which whatever is made for it once is found.

    `of_case` is the column of a case that has its address, and `key_of_case` the one by which that address is compared.
    `is_address` says whether somebody can be reached there, `compared` how an address is written where two are compared.
    `limit` is in characters, `count` what a text costs.  `no_address` is the reason for leaving out a case without one.
    """

    name: str
    of_case: str
    key_of_case: str
    by_phone: bool
    """Whether its addresses are phone numbers: then they stand in `phone` with their `phone_key`, else in `address`."""
    is_address: Callable[[str], bool]
    compared: Callable[[str], str]
    limit: int
    count: Callable[[str], Cost]
    counted_as: str
    """What `count` counts, in words for the page."""
    needs_consent: bool
    keeps_quiet_hours: bool
    no_address: str
    default_gateway: Callable[[Rules], str | None]
    """The gateway of what no case and no number decides; None where none is set."""

    @property
    def key_column(self) -> str:
        """The column of messages and of consent events by which addresses of this channel are compared."""
        return "phone_key" if self.by_phone else "address"

    def columns(self, address: str) -> dict[str, str]:
        """What a message or a consent event has of this channel and an address of it, by column.

        What is blank or the column's default is left out: each column more that is written costs every text.
        """
        key = self.compared(address)
        own: dict[str, str] = {"phone": address, "phone_key": key} if self.by_phone else {"address": key}
        return own if self.name == DEFAULT else own | {"channel": self.name}


def _is_a_phone(address: str) -> bool:
    """Not a short code or a sender with a name: nobody reads an answer there, and two machines may never stop."""
    return address.isdigit() and len(address) > 6


def _default_gateway(rules: Rules) -> str | None:
    return rules.default_gateway


SMS = Channel(
    name=DEFAULT,
    of_case="contact_phone_number",
    key_of_case="phone_key",
    by_phone=True,
    is_address=_is_a_phone,
    compared=phone_keys.key,
    limit=1600,  # characters that a gateway takes in one message (Twilio: error 21617 beyond)
    count=segments.count,
    counted_as="parts of 160 or 153 characters in GSM-7, 70 or 67 in UCS-2",
    needs_consent=True,
    keeps_quiet_hours=True,
    no_address="no-number",
    default_gateway=_default_gateway,
)

CHANNELS: dict[str, Channel] = {channel.name: channel for channel in (SMS,)}
"""Every channel there is, by its name as messages and consent events have it."""
