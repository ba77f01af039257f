"""Everything an operator sets, in one frozen record read from the environment.

Both doors read it, so that the bot and the desk cannot disagree about the home country or the database.
Every fault is reported at once, an unknown `JUMBE_` name is a fault (a misspelt one would be silently ignored), and a
secret is never shown.  `JUMBE_CONFIG` names a TOML file with the same settings in small letters without `JUMBE_`; the
environment wins, and a secret in the file is refused.  Its tables, several gateways and which numbers go by which, are
read by `programme/gateway_settings.py`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, fields, replace
from datetime import time
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from storage.errors import Misconfigured
from storage.programme.gateway_settings import GatewaySettings, read_failover, read_gateways, read_routes
from storage.programme.setting_values import (
    LOOPBACK,
    read_account,
    read_country,
    read_kinds,
    read_list,
    read_quiet_hours,
    read_rate,
    read_secure,
    read_whole_number,
    read_yes_or_no,
    read_zone,
)
from storage.rules.hours_and_limits import HEALTH_WORDS, RESEND_ABSENT, Rules, Senders
from storage.rules.quiet_hours import Hours

SIMULATOR_RATE = 20.0
"""Messages per second that the simulated network takes."""


def _setting(
    name: str, meaning: str, read: Callable[[str], Any] = str, *, default: Any = None, secret: bool = False
) -> Any:
    told = {"name": name, "meaning": meaning, "read": read, "secret": secret}
    # The address of a database may hold a password; the table shows it without.
    return field(default=default, metadata=told, repr=not secret and name != "DATABASE_URL")


def _table(name: str, meaning: str) -> Any:
    """What only a file can say, as tables."""
    told = {"name": f"[{name}]", "meaning": meaning, "read": str, "secret": False}
    return field(default_factory=dict, metadata=told)


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings; raises Misconfigured with every fault at once."""
    settings, faults = look(environment)
    if faults:
        raise Misconfigured(faults)
    return settings


def look(environment: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    """The settings as far as they can be read, and every fault: for who has more to look at before he complains."""
    env = dict(os.environ if environment is None else environment)
    faults: list[str] = []
    known = {f.metadata["name"]: f for f in fields(Settings)}
    filed, tables = _from_file(env.get("JUMBE_CONFIG"), faults)
    for name in sorted(env):
        if name.startswith("JUMBE_") and name not in known:
            faults.append(
                f"{name} is no setting of Jumbe{_meant(name, known)}: see 'jumbe settings' for those that are"
            )
    values: dict[str, Any] = {}
    given: set[str] = set()
    for name, f in known.items():
        text = env.get(name, filed.get(f.name))
        if text is None or text.strip() == "":
            continue
        given.add(name)
        try:
            values[f.name] = f.metadata["read"](text.strip())
        except ValueError as error:
            # Account and token are easily put in each other's place.
            shown = "(hidden)" if f.metadata["secret"] or f.metadata["read"] is read_account else repr(text)
            faults.append(f"{name} is {shown}: {error}")
    settings = Settings(**values)
    if tables:
        settings = _with_gateways(settings, tables, env, faults)
    faults += _together(settings, given)
    if not any(fault.startswith("JUMBE_CONFIG: gateways") for fault in faults):
        faults += _of_several(settings)
    return settings, faults


def _meant(name: str, known: Iterable[str]) -> str:
    """The setting that was meant, where one is near."""
    near = get_close_matches(name, list(known), 1, 0.75)
    return f", perhaps you mean {near[0]}" if near else ""


def _together(settings: Settings, given: Set[str]) -> list[str]:
    """Faults that only show when settings are seen together; `given` are those that were set, readable or not."""
    faults = []
    twilio = [name for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN") if name in given]
    senders = [name for name in ("TWILIO_FROM", "TWILIO_MESSAGING_SERVICE_SID") if name in given]
    if len(twilio) == 1:
        faults.append(f"{twilio[0]} is set alone: Twilio needs TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN together")
    if senders and not twilio:
        faults.append(f"{senders[0]} is set without an account: set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN too")
    if len(twilio) == 2 and not senders:
        faults.append("Twilio needs a sender: set TWILIO_FROM or TWILIO_MESSAGING_SERVICE_SID")
    if twilio and settings.simulator:
        faults.append(
            "JUMBE_SIMULATOR and Twilio's settings exclude each other: a rehearsal never meets a real gateway"
        )
    if settings.simulator and not settings.is_loopback:
        faults.append(
            "JUMBE_SIMULATOR serves this machine only, because whoever reaches it reads every text: "
            "take PUBLIC_URL away, or let it begin with http://127.0.0.1"
        )
    if len(twilio) == 2 and "PUBLIC_URL" not in given:
        faults.append("PUBLIC_URL is not set: Twilio signs every webhook over the address that it calls")
    return faults


def _of_several(settings: Settings) -> list[str]:
    """Faults of gateways that stand side by side."""
    names, default = settings.gateway_names, settings.default_gateway
    there = ", ".join(sorted(names)) or "none"
    faults = []
    if default is not None and default not in names:
        faults.append(
            f"JUMBE_DEFAULT_GATEWAY (default_gateway in the file): there is no gateway {default}; there are: {there}"
        )
    if default is None and len(names) > 1:
        faults.append(f"JUMBE_DEFAULT_GATEWAY (default_gateway in the file) is not set, and there are several: {there}")
    if settings.simulator and settings.gateways:
        faults.append(
            "JUMBE_SIMULATOR and the gateways of JUMBE_CONFIG exclude each other: a rehearsal never meets a real gateway"
        )
    if settings.public_url is None:
        faults += [
            f"PUBLIC_URL is not set: gateway {name} has no address to call (JUMBE_CONFIG)"
            for name, gateway in settings.gateways.items()
            if "callback_url" not in gateway.values
        ]
    return faults


def _with_gateways(
    settings: Settings, tables: Mapping[str, Any], env: Mapping[str, str], faults: list[str]
) -> Settings:
    """The settings with the gateways, routes and failover of the file."""
    gateways = read_gateways(tables.get("gateways", {}), env, faults)
    if settings.has_twilio and "twilio" in gateways:
        faults.append(
            "JUMBE_CONFIG: gateways.twilio: TWILIO_ACCOUNT_SID makes a gateway of that name already; choose another"
        )
    told = tables.get("gateways")
    # A table with a fault of its own is there all the same: routes to it are no second fault.
    names = frozenset({*settings.gateway_names, *(told if isinstance(told, dict) else ())})
    settings = replace(settings, gateways=gateways)
    routes = read_routes(tables.get("routes", {}), names, faults)
    failover = read_failover(tables.get("failover", {}), names, faults)
    return replace(settings, routes=routes, failover=failover)


TABLES = ("gateways", "routes", "failover")
"""What a file says in tables."""


def _from_file(path: str | None, faults: list[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The settings of a file, as text, and its tables."""
    if not path:
        return {}, {}
    try:
        told = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(f"JUMBE_CONFIG: {path} cannot be read: {error}")
        return {}, {}
    tables = {name: told.pop(name) for name in TABLES if name in told}
    known = {f.name: f for f in fields(Settings)}
    for name in sorted(told):
        if name not in known or name == "config":
            faults.append(f"JUMBE_CONFIG: {name} is no setting of Jumbe")
        elif known[name].metadata["secret"]:
            faults.append(f"JUMBE_CONFIG: {name} is a secret: it stands in the environment, never in a file")
        elif name == "database_url" and _hidden(str(told[name])) != told[name]:
            faults.append(
                "JUMBE_CONFIG: database_url holds a password, which is a secret: it stands in the environment, never in a file"
            )
    return {name: str(value) for name, value in told.items()}, tables


_PASSWORD = re.compile(r"(://[^:@/]*):.*@")

_PASSWORD_ASKED = re.compile(r"([?&]password=)[^&]*")


def _hidden(address: str) -> str:
    """An address without its password."""
    return _PASSWORD_ASKED.sub(r"\1***", _PASSWORD.sub(r"\1:***@", address))


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says; see `storage/README.md` for the printed table."""

    database_url: str = _setting("DATABASE_URL", "the shared database", default="sqlite:///jumbe.db")
    port: int = _setting(
        "PORT", "the port of the web process", partial(read_whole_number, least=1, most=65535), default=8000
    )
    public_url: str | None = _setting(
        "PUBLIC_URL", "the address under which gateways reach the web process", read_secure
    )
    twilio_account_sid: str | None = _setting(
        "TWILIO_ACCOUNT_SID", "Twilio account; with the token it makes the gateway `twilio`", read_account
    )
    twilio_auth_token: str | None = _setting("TWILIO_AUTH_TOKEN", "Twilio's secret", secret=True)
    twilio_from: str | None = _setting("TWILIO_FROM", "our number at Twilio")
    twilio_messaging_service_sid: str | None = _setting(
        "TWILIO_MESSAGING_SERVICE_SID", "or a messaging service instead of a number"
    )
    twilio_api_url: str = _setting(
        "TWILIO_API_URL", "another base address of the API", read_secure, default="https://api.twilio.com"
    )
    twilio_rate: float = _setting("TWILIO_RATE", "messages per second", read_rate, default=1.0)
    name: str = _setting("JUMBE_NAME", "how the programme calls itself in a text", default="This programme")
    time_zone: str = _setting("JUMBE_TIME_ZONE", "the programme's time zone", read_zone, default="UTC")
    language: str = _setting("JUMBE_LANGUAGE", "the programme's language", default="en")
    country: str | None = _setting(
        "JUMBE_COUNTRY", "home country, for numbers typed without a country code", read_country
    )
    strict_numbers: bool = _setting(
        "JUMBE_STRICT_NUMBERS", "refuse numbers in no known range instead of warning", read_yes_or_no, default=False
    )
    hold_s: int = _setting(
        "JUMBE_HOLD_S",
        "seconds a confirmed broadcast waits, to be halted",
        partial(read_whole_number, most=3600),
        default=60,
    )
    quiet_hours: Hours | None = _setting(
        "JUMBE_QUIET_HOURS", "when nobody is texted, by the recipient's clock, or off", read_quiet_hours, default=Hours(time(9), time(20))
    )  # fmt: skip
    expiry_h: int = _setting(
        "JUMBE_EXPIRY_H",
        "hours after which a broadcast's unsent texts die",
        partial(read_whole_number, least=1, most=336),
        default=24,
    )
    second_person_above: int = _setting(
        "JUMBE_SECOND_PERSON_ABOVE",
        "recipients above which a second person must confirm",
        partial(read_whole_number, least=1),
        default=500,
    )
    health_words: tuple[str, ...] = _setting(
        "JUMBE_HEALTH_WORDS",
        "words that are asked about before a text with them goes, with commas; or off",
        read_list,
        default=HEALTH_WORDS,
    )
    digest: bool = _setting(
        "JUMBE_DIGEST",
        "text the leads, at most hourly, what others told, asked and deleted",
        read_yes_or_no,
        default=True,
    )
    add_only_own: bool = _setting(
        "JUMBE_ADD_ONLY_OWN",
        "1: supervisors and helpers put only people of their own groups into a group; 0: any case",
        read_yes_or_no,
        default=False,
    )
    resend_absent: tuple[str, ...] = _setting(
        "JUMBE_RESEND_ABSENT",
        "kinds of message that go again once the gateway has shown twice that it never had them, with commas; or off",
        read_kinds,
        default=tuple(sorted(RESEND_ABSENT)),
    )
    backup_h: int = _setting(
        "JUMBE_BACKUP_H",
        "hours after which `doctor` asks for a newer backup; 0 where something else makes them",
        partial(read_whole_number, most=24 * 365),
        default=26,
    )
    spool: str | None = _setting(
        "JUMBE_SPOOL",
        "the file that keeps webhooks while the database cannot; beside a SQLite file, or jumbe-spool, where not set",
    )
    simulator: bool = _setting(
        "JUMBE_SIMULATOR",
        "1: rehearse with virtual phones, on a rehearsal database only",
        read_yes_or_no,
        default=False,
    )
    config: str | None = _setting("JUMBE_CONFIG", "a TOML file with settings; the environment wins")
    default_gateway: str | None = _setting(
        "JUMBE_DEFAULT_GATEWAY", "the gateway of whoever no other rule gives one; needed where there are several"
    )
    gateways: Mapping[str, GatewaySettings] = _table("gateways", "in the file only: the gateways beside Twilio's own")
    routes: Mapping[str, str] = _table("routes", "in the file only: which numbers go by which gateway")
    failover: Mapping[str, str] = _table("failover", "in the file only: which gateway takes over for which")

    @property
    def has_twilio(self) -> bool:
        """Whether Twilio's variables are set."""
        return self.twilio_account_sid is not None

    @property
    def own_url(self) -> str:
        """PUBLIC_URL, or this machine's own address where nothing else is set."""
        return self.public_url or f"http://127.0.0.1:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the web process serves this machine only."""
        return urlsplit(self.own_url).hostname in LOOPBACK

    @property
    def phones_book(self) -> str:
        """The file in which the simulator keeps what its virtual phones got: beside the database."""
        _, _, path = self.database_url.partition("sqlite:///")
        return (path or "jumbe.db") + "-phones"

    @property
    def gateway_names(self) -> tuple[str, ...]:
        """The gateways that these settings make, the default one first."""
        own = ("twilio",) if self.has_twilio else ("simulator",) if self.simulator else ()
        names = (*own, *self.gateways)
        return tuple(sorted(names, key=lambda name: name != self.default_gateway))

    @property
    def rates(self) -> dict[str, float]:
        """Messages per second, by gateway."""
        own = {"twilio": self.twilio_rate, "simulator": SIMULATOR_RATE}
        filed = {name: gateway.rate_per_s for name, gateway in self.gateways.items()}
        return {name: rate for name, rate in (own | filed).items() if name in self.gateway_names}

    def rules(self) -> Rules:
        """What the verbs of `storage` need to know of it."""
        names = self.gateway_names
        return Rules(
            name=self.name,
            time_zone=self.time_zone,
            language=self.language,
            country=self.country,
            strict_numbers=self.strict_numbers,
            hold_s=self.hold_s,
            hours=self.quiet_hours,
            expiry_h=self.expiry_h,
            second_person_above=self.second_person_above,
            rate_per_s=self.rates[names[0]] if names else self.twilio_rate,
            default_gateway=names[0] if names else None,
            gateways=frozenset(names),
            routes=tuple(self.routes.items()),
            rates=self.rates,
            senders={
                name: Senders(gateway.senders, gateway.sender_rate_per_s)
                for name, gateway in self.gateways.items()
                if gateway.senders
            },
            failover=self.failover,
            health_words=self.health_words,
            digest=self.digest,
            add_only_own=self.add_only_own,
            resend_absent=frozenset(self.resend_absent),
            backup_h=self.backup_h,
        )


def cautions(environment: Mapping[str, str] | None = None) -> list[str]:
    """What is set and means nothing here, though it may belong to another program: names like those of Twilio's settings."""
    env = os.environ if environment is None else environment
    known = [f.metadata["name"] for f in fields(Settings) if f.metadata["name"].startswith("TWILIO_")]
    told = []
    for name in sorted(name for name in env if name.startswith("TWILIO_") and name not in known):
        told.append(f"{name} is no setting of Jumbe{_meant(name, known)}: it is not read")
    return told


def table(settings: Settings) -> list[dict[str, str]]:
    """Each setting with its value now, its default and its meaning; secrets hidden."""
    bare = Settings()
    return [
        {
            "name": f.metadata["name"],
            "value": _shown(getattr(settings, f.name), secret=f.metadata["secret"]),
            "default": _shown(getattr(bare, f.name), secret=False),
            "meaning": f.metadata["meaning"],
        }
        for f in fields(settings)
    ]


def _shown(value: Any, *, secret: bool) -> str:
    if value is None:
        return "-"
    if secret:
        return "(hidden)"
    if isinstance(value, Hours):
        return f"{value.closes:%H:%M}-{value.opens:%H:%M}"
    if isinstance(value, Mapping):
        return "; ".join(_shown_pair(name, held) for name, held in value.items()) or "-"
    if isinstance(value, tuple):
        return ", ".join(value) or "off"
    if isinstance(value, bool):
        return "1" if value else "0"
    return _hidden(str(value))


def _shown_pair(name: str, held: Any) -> str:
    return held.shown if isinstance(held, GatewaySettings) else f"{name} -> {held}"
