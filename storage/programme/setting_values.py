"""How the text of a setting is read; what cannot be read raises ValueError with what to say instead."""

from __future__ import annotations

import re
from datetime import time
from urllib.parse import urlsplit

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from storage.rules.quiet_hours import Hours, nearest_zones, valid_zone

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def read_yes_or_no(text: str) -> bool:
    """`1`, `yes`, `on` or `0`, `no`, `off`; blank is no."""
    if text.casefold() in ("1", "yes", "true", "on"):
        return True
    if text.casefold() in ("", "0", "no", "false", "off"):
        return False
    raise ValueError("say 1 or 0")


def read_whole_number(text: str, *, least: int = 0, most: int = 10**9) -> int:
    """A whole number between two bounds."""
    if not text.isdigit() or not least <= int(text) <= most:
        raise ValueError(f"say a whole number from {least} to {most}")
    return int(text)


def read_rate(text: str) -> float:
    """Messages per second, above 0."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 10_000:
        raise ValueError("say messages per second, such as 1 or 0.5")
    return rate


def read_zone(text: str) -> str:
    """A time zone by its name; a mistake is told the nearest ones."""
    if not valid_zone(text):
        close = ", ".join(nearest_zones(text))
        raise ValueError(f"no such time zone; {f'near: {close}' if close else 'say one such as Africa/Accra'}")
    return text


_REGIONS = frozenset(region for regions in COUNTRY_CODE_TO_REGION_CODE.values() for region in regions)


def read_country(text: str) -> str:
    """A country by its two letters."""
    if text.upper() not in _REGIONS:
        raise ValueError("say a country's two letters, such as GH")
    return text.upper()


def read_quiet_hours(text: str) -> Hours | None:
    """`20:00-09:00` says when it is quiet; texting is allowed in the other hours."""
    if text.casefold() == "off":
        return None
    begins, _, ends = text.partition("-")
    try:
        return Hours(opens=time.fromisoformat(ends.strip()), closes=time.fromisoformat(begins.strip()))
    except ValueError:
        raise ValueError("say from and to, such as 20:00-09:00, or off") from None


def read_list(text: str) -> tuple[str, ...]:
    """Words with commas between them; `off` is none."""
    return () if text.casefold() == "off" else tuple(word.strip() for word in text.split(",") if word.strip())


_KINDS = ("consent", "reply", "notice", "text", "broadcast")


def read_kinds(text: str) -> tuple[str, ...]:
    """Kinds of message with commas between."""
    kinds = read_list(text)
    if not set(kinds) <= set(_KINDS):
        raise ValueError(f"say kinds of message with commas between, of {', '.join(_KINDS)}; or off")
    return kinds


def read_address(text: str) -> str:
    """A web address, without a slash at its end."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("say an address such as https://sms.example.org")
    return text.rstrip("/")


_ACCOUNT = re.compile("AC[0-9a-fA-F]{32}")


def read_account(text: str) -> str:
    """The id of a Twilio account."""
    if not _ACCOUNT.fullmatch(text):
        raise ValueError("a Twilio account is AC and 32 hexadecimal digits")
    return text


def read_secure(text: str) -> str:
    """A web address by https, or of this machine itself."""
    address = read_address(text)
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ValueError("it must begin with https://, except on this machine itself")
    return address
