"""The gateways of the file that `JUMBE_CONFIG` names: which there are, whose numbers each texts, which helps out.

`KINDS` says which words a table `[gateways.NAME]` may hold.  What is secret stands in the environment; the file holds
the name of its variable, so that it may lie about and be copied.  Every fault is told at once, and none shows a value
that could be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

NAME: Final = re.compile("[a-z][a-z0-9-]{0,19}")
_VARIABLE: Final = re.compile("[A-Z][A-Z0-9_]*")
_SENDER: Final = re.compile(r"\+?[0-9]{3,15}|(?=.*[A-Za-z])[A-Za-z0-9 &_.-]{1,11}")
_NUMBER: Final = re.compile(r"\+?[0-9]{3,15}")
_WORD: Final = re.compile("[!-~]{1,64}")
_SECRET_WORD: Final = re.compile("[A-Za-z0-9_-]{16,128}")
_ACCOUNT: Final = re.compile("AC[0-9a-fA-F]{32}")
_SERVICE: Final = re.compile("MG[0-9a-fA-F]{32}")
_PREFIX: Final = re.compile("[1-9][0-9]{0,14}")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Key:
    """One word of a table; `variable` where the file names a variable of the environment that holds the value."""

    read: Callable[[Any], Any]
    required: bool = False
    variable: bool = False


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One table `[gateways.NAME]`, read: `values` by the names of its keys, a variable's without `_env`."""

    name: str
    kind: str
    rate_per_s: float
    values: Mapping[str, Any] = field(repr=False)
    sender_rate_per_s: float = 1.0

    @property
    def senders(self) -> tuple[str, ...]:
        """Our numbers, where there are several; their digits, as texts and rows have them."""
        told = self.values.get("from")
        return tuple(number.removeprefix("+") for number in told) if isinstance(told, tuple) else ()

    @property
    def shown(self) -> str:
        """What an operator may read of it."""
        sender = self.values.get("sender") or self.values.get("from") or self.values.get("messaging_service_sid")
        if self.senders:
            sender = f"{', '.join(self.senders)} ({self.sender_rate_per_s:g} a second each)"
        where = f" at {urlsplit(self.values['url']).netloc.rpartition('@')[2]}" if "url" in self.values else ""
        return f"{self.name}: {self.kind}{where}, from {sender}, {self.rate_per_s:g} a second"


def _matching(shape: re.Pattern[str], wrong: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise ValueError(wrong)
        return value

    return read


def _address(value: Any) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is an address such as http://127.0.0.1:13013/cgi-bin/sendsms")
    if parts.username or parts.password or parts.query:
        raise ValueError("it is the bare address: user, password and everything after a ? have words of their own")
    return str(value).rstrip("/")


def _own_address(value: Any) -> str:
    address = _address(value)
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError("it must begin with https://, except on this machine itself")
    return address


def _senders(value: Any) -> str | tuple[str, ...]:
    """One sender, or several numbers of ours."""
    if not isinstance(value, list):
        return _sender(value)
    if not all(isinstance(number, str) and _NUMBER.fullmatch(number) for number in value):
        raise ValueError("where there are several, each is a number, such as +15551234567")
    if not value or len({number.removeprefix("+") for number in value}) != len(value):
        raise ValueError("it is a list of different numbers")
    return tuple(value) if len(value) > 1 else str(value[0])


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10_000:
        raise ValueError("it is messages per second, such as 20 or 0.5")
    return float(value)


_sender = _matching(_SENDER, "it is a number, or up to eleven letters")
_secret_word = _matching(_SECRET_WORD, "it is 16 to 128 letters, digits, - or _, because it stands in an address")
_anything = _matching(_WORD, "it is one word without spaces")

KINDS: Final[Mapping[str, Mapping[str, Key]]] = {
    "kannel": {
        "url": Key(_address, required=True),
        "username": Key(_anything, required=True),
        "password_env": Key(_anything, required=True, variable=True),
        "webhook_secret_env": Key(_secret_word, required=True, variable=True),
        "sender": Key(_sender, required=True),
        "smsc": Key(_anything),
        "callback_url": Key(_own_address),
        "rate": Key(_rate),
    },
    "twilio": {
        "account_sid_env": Key(_matching(_ACCOUNT, "it is AC and 32 hexadecimal digits"), required=True, variable=True),
        "auth_token_env": Key(_anything, required=True, variable=True),
        "from": Key(_senders),
        "messaging_service_sid": Key(_matching(_SERVICE, "it is MG and 32 hexadecimal digits")),
        "api_url": Key(_own_address),
        "rate": Key(_rate),
        "sender_rate": Key(_rate),
    },
}
"""The words of a table by the kind of its gateway."""


def read_gateways(told: Any, env: Mapping[str, str], faults: list[str]) -> dict[str, GatewaySettings]:
    """The tables under `[gateways]`, those that have no fault; every fault is added."""
    if not isinstance(told, dict) or not all(isinstance(table, dict) for table in told.values()):
        faults.append("JUMBE_CONFIG: gateways are tables, such as [gateways.kannel]")
        return {}
    made = {}
    for name, table in told.items():
        before = len(faults)
        if not NAME.fullmatch(name):
            faults.append(
                f"JUMBE_CONFIG: gateways.{name}: the name stands in addresses, so it is up to 20 small letters, digits "
                "or -, and begins with a letter"
            )
        elif name == "simulator":
            faults.append("JUMBE_CONFIG: gateways.simulator: that name is the rehearsal's; choose another")
        values = _read_table(name, table, env, faults)
        if len(faults) == before:
            each = values.pop("sender_rate", 1.0)
            told = values.get("from")
            rate = values.pop("rate", each * len(told) if isinstance(told, tuple) else 1.0)
            made[name] = GatewaySettings(name, table["kind"], rate, values, each)
    return made


def _read_table(name: str, table: Mapping[str, Any], env: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    where = f"JUMBE_CONFIG: gateways.{name}"
    keys = KINDS.get(str(table.get("kind")))
    if keys is None:
        has = f"kind {table['kind']!r} is none of ours" if "kind" in table else "kind is missing"
        faults.append(f"{where}: {has}; the kinds are {', '.join(KINDS)}")
        return {}
    values: dict[str, Any] = {}
    for word, value in table.items():
        if word == "kind":
            continue
        if word in keys:
            _read_key(where, word, keys[word], value, env, values, faults)
        elif f"{word}_env" in keys:
            faults.append(
                f"{where}.{word} is never in a file: say {word}_env, and the name of a variable that holds it"
            )
        else:
            faults.append(f"{where}.{word}: there is no such word; there are {', '.join(['kind', *keys])}")
    missing = [word for word, key in keys.items() if key.required and word not in table]
    if table["kind"] == "twilio" and not {"from", "messaging_service_sid"} & set(table):
        missing.append("from or messaging_service_sid")
    faults += [f"{where}: {word} is missing" for word in missing]
    return values


def _read_key(
    where: str, word: str, key: Key, value: Any, env: Mapping[str, str], values: dict[str, Any], faults: list[str]
) -> None:
    at = f"{where}.{word}"
    if key.variable:
        if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
            # Whatever stands here may be the secret itself, so it is not shown.
            faults.append(f"{at} holds the name of a variable, such as MY_{word.upper()[:-4]}, never the value itself")
            return
        if not (held := env.get(value, "").strip()):
            faults.append(f"{at}: the variable {value} is not set in the environment")
            return
        value, at = held, f"{at}: the variable {value} does not fit"
    try:
        values[word.removesuffix("_env")] = key.read(value)
    except ValueError as error:
        faults.append(f"{at}: {error}")


def read_routes(told: Any, names: frozenset[str], faults: list[str]) -> dict[str, str]:
    """The table `[routes]`: prefix and gateway, the longest prefix first."""
    if not isinstance(told, dict):
        faults.append('JUMBE_CONFIG: routes is a table of lines such as "233" = "kannel"')
        return {}
    for prefix, name in told.items():
        if not _PREFIX.fullmatch(prefix):
            faults.append(f"JUMBE_CONFIG: routes: {prefix!r} is no beginning of a number: digits, country code first")
        _known(f"routes.{prefix}", name, names, faults)
    return {prefix: str(told[prefix]) for prefix in sorted(told, key=lambda prefix: (-len(prefix), prefix))}


def read_failover(told: Any, names: frozenset[str], faults: list[str]) -> dict[str, str]:
    """The table `[failover]`: which gateway takes over what another certainly did not send."""
    if not isinstance(told, dict):
        faults.append('JUMBE_CONFIG: failover is a table of lines such as twilio = "kannel"')
        return {}
    for one, other in told.items():
        _known("failover", one, names, faults)
        _known(f"failover.{one}", other, names, faults)
    for one in told:
        passed, at = [one], told[one]
        while isinstance(at, str) and at in told and at not in passed:
            passed.append(at)
            at = told[at]
        if at == one and one == min(passed):
            faults.append(f"JUMBE_CONFIG: failover goes in a circle: {' -> '.join([*passed, one])}")
    return {one: str(other) for one, other in told.items()}


def _known(where: str, name: Any, names: frozenset[str], faults: list[str]) -> None:
    if name not in names:
        there = ", ".join(sorted(names)) or "none"
        faults.append(f"JUMBE_CONFIG: {where}: there is no gateway {name}; there are: {there}")
