"""Several gateways side by side: what the file may say, and every fault of it at once, without a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from storage.errors import Misconfigured
from storage.programme import settings
from storage.rules.hours_and_limits import Senders

KANNEL = {
    "kind": '"kannel"', "url": '"http://127.0.0.1:13013/cgi-bin/sendsms"', "username": '"jumbe"',
    "password_env": '"KANNEL_PASSWORD"', "webhook_secret_env": '"KANNEL_SECRET"', "sender": '"1234"', "rate": "20",
}  # fmt: skip
TWILIO = {"kind": '"twilio"', "account_sid_env": '"SID_2"', "auth_token_env": '"TOKEN_2"', "from": '"+15551234567"'}
HELD = {
    "KANNEL_PASSWORD": "sesame-open", "KANNEL_SECRET": "0123456789abcdef-sesame", "SID_2": "AC" + "1" * 32,
    "TOKEN_2": "sesame-token", "PUBLIC_URL": "https://sms.example.org",
}  # fmt: skip
Look = Callable[..., tuple[settings.Settings, list[str]]]


def table(name: str, values: Mapping[str, str], **changes: str | None) -> str:
    lines = {word: value for word, value in (dict(values) | changes).items() if value is not None}
    return f"[gateways.{name}]\n" + "".join(f"{word} = {value}\n" for word, value in lines.items())


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def read(*parts: str, **environment: str | None) -> tuple[settings.Settings, list[str]]:
        path = tmp_path / "jumbe.toml"
        path.write_text("\n".join(parts), encoding="utf-8")
        env = HELD | {"JUMBE_CONFIG": str(path)} | environment
        return settings.look({name: value for name, value in env.items() if value is not None})

    return read


def test_a_table_makes_a_gateway_and_one_alone_is_the_default(look: Look) -> None:
    told, faults = look(table("kannel", KANNEL))
    assert faults == []
    assert told.gateway_names == ("kannel",)
    rules = told.rules()
    assert (rules.default_gateway, rules.rate_per_s, rules.rates) == ("kannel", 20.0, {"kannel": 20.0})
    assert told.gateways["kannel"].values["password"] == "sesame-open"


def test_routes_failover_and_the_environments_twilio_stand_together(look: Look) -> None:
    told, faults = look(
        'default_gateway = "kannel"', table("kannel", KANNEL), table("second", TWILIO),
        '[routes]\n"2" = "second"\n"233" = "kannel"\n"23324" = "twilio"\n[failover]\ntwilio = "second"\nsecond = "kannel"\n',
        TWILIO_ACCOUNT_SID="AC" + "2" * 32, TWILIO_AUTH_TOKEN="sesame", TWILIO_FROM="+15550001111",
    )  # fmt: skip
    assert faults == []
    rules = told.rules()
    assert told.gateway_names[0] == "kannel"
    assert rules.gateways == {"kannel", "second", "twilio"}
    assert rules.routes == (("23324", "twilio"), ("233", "kannel"), ("2", "second"))
    assert rules.failover == {"twilio": "second", "second": "kannel"}
    assert rules.rates == {"kannel": 20.0, "second": 1.0, "twilio": 1.0}


def test_no_table_and_no_list_shows_a_secret(look: Look) -> None:
    told, _ = look(table("kannel", KANNEL), table("second", TWILIO), 'default_gateway = "second"')
    shown = str(settings.table(told)) + repr(told)
    assert "sesame" not in shown
    assert "kannel at 127.0.0.1:13013, from 1234, 20 a second" in shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (table("kannel", KANNEL, kind='"nokia"'), "kind 'nokia' is none of ours; the kinds are kannel, twilio"),
        (table("kannel", KANNEL, kind=None), "kind is missing"),
        (table("kannel", KANNEL, colour='"red"'), "gateways.kannel.colour: there is no such word"),
        (table("kannel", KANNEL, sender=None), "gateways.kannel: sender is missing"),
        (table("kannel", KANNEL, sender='"a much too long sender"'), "gateways.kannel.sender: it is a number, or up to"),
        (table("kannel", KANNEL, sender="1234"), "gateways.kannel.sender: it is a number, or up to"),
        (table("kannel", KANNEL, password_env='"sesame-open"'), "holds the name of a variable, such as MY_PASSWORD"),
        (table("kannel", KANNEL, password='"sesame"'), "gateways.kannel.password is never in a file: say password_env"),
        (table("kannel", KANNEL, password_env='"NOWHERE"'), "the variable NOWHERE is not set in the environment"),
        (table("kannel", KANNEL, webhook_secret_env='"SHORT"'), "the variable SHORT does not fit: it is 16 to 128 letters"),
        (table("kannel", KANNEL, url='"http://u:sesame@127.0.0.1/x"'), "gateways.kannel.url: it is the bare address"),
        (table("kannel", KANNEL, url='"127.0.0.1:13013"'), "gateways.kannel.url: it is an address such as"),
        (table("kannel", KANNEL, callback_url='"http://example.org"'), "callback_url: it must begin with https://"),
        (table("kannel", KANNEL, rate='"fast"'), "gateways.kannel.rate: it is messages per second"),
        (table("kannel", KANNEL, rate="0"), "gateways.kannel.rate: it is messages per second"),
        (table("kannel", KANNEL, rate="true"), "gateways.kannel.rate: it is messages per second"),
        (table("Kannel", KANNEL), "gateways.Kannel: the name stands in addresses"),
        (table('"a/b"', KANNEL), "gateways.a/b: the name stands in addresses"),
        (table("simulator", KANNEL), "that name is the rehearsal's"),
        (table("second", TWILIO, **{"from": None}), "gateways.second: from or messaging_service_sid is missing"),
        (table("second", TWILIO, account_sid_env='"SHORT"'), "it is AC and 32 hexadecimal digits"),
        ("gateways = 3", "gateways are tables"),
        (table("kannel", KANNEL) + "[routes]\n'+233' = 'kannel'", "routes: '+233' is no beginning of a number"),
        (table("kannel", KANNEL) + "[routes]\n233 = 'mtn'", "routes.233: there is no gateway mtn; there are: kannel"),
        ("routes = 3\n" + table("kannel", KANNEL), "routes is a table of lines"),
        (table("kannel", KANNEL) + "[failover]\nkannel = 'mtn'", "failover.kannel: there is no gateway mtn"),
        (table("kannel", KANNEL) + "[failover]\nmtn = 'kannel'", "failover: there is no gateway mtn"),
        (table("kannel", KANNEL) + "[failover]\nkannel = 'kannel'", "failover goes in a circle: kannel -> kannel"),
        (table("kannel", KANNEL) + table("b", KANNEL) + "[failover]\nkannel = 'b'\nb = 'kannel'", "in a circle: b -> kannel -> b"),
        (table("kannel", KANNEL) + table("b", KANNEL), "is not set, and there are several: b, kannel"),
        ("default_gateway = 'mtn'\n" + table("kannel", KANNEL), "there is no gateway mtn; there are: kannel"),
    ],
)  # fmt: skip
def test_a_fault_is_told_once_in_words_and_shows_no_secret(look: Look, text: str, says: str) -> None:
    _, faults = look(text, SHORT="sesame")
    assert len([fault for fault in faults if says in fault]) == 1, faults
    assert "sesame" not in " ".join(faults)


def test_every_fault_of_several_gateways_is_told_at_once(look: Look) -> None:
    _, faults = look(
        table("kannel", KANNEL, sender=None, rate="0"), table("b", TWILIO, kind='"x"'), "[routes]\nx = 'y'"
    )
    assert len(faults) == 5, faults


def test_a_rehearsal_never_meets_a_gateway_of_the_file(look: Look) -> None:
    _, faults = look(table("kannel", KANNEL), JUMBE_SIMULATOR="1", PUBLIC_URL="http://127.0.0.1:8000")
    assert any("exclude each other" in fault for fault in faults)


def test_a_gateway_needs_an_address_to_call_its_own_or_the_public_one(look: Look) -> None:
    _, faults = look(table("kannel", KANNEL), PUBLIC_URL=None)
    assert faults == ["PUBLIC_URL is not set: gateway kannel has no address to call (JUMBE_CONFIG)"]
    _, faults = look(table("kannel", KANNEL, callback_url='"http://127.0.0.1:8000"'), PUBLIC_URL=None)
    assert faults == []


def test_twilio_in_the_environment_and_a_table_of_that_name_are_one_too_many(look: Look) -> None:
    _, faults = look(
        table("twilio", TWILIO), TWILIO_ACCOUNT_SID="AC" + "2" * 32, TWILIO_AUTH_TOKEN="x", TWILIO_FROM="+1555"
    )
    assert any("makes a gateway of that name already" in fault for fault in faults)


def test_whoever_misses_a_default_among_several_reads_it_at_start(look: Look) -> None:
    path_faults = look(table("kannel", KANNEL), table("b", TWILIO))[1]
    assert path_faults == [
        "JUMBE_DEFAULT_GATEWAY (default_gateway in the file) is not set, and there are several: b, kannel"
    ]
    with pytest.raises(Misconfigured):
        settings.read({"JUMBE_DEFAULT_GATEWAY": "nobody"})


def test_several_numbers_of_ours_each_have_a_rate_and_the_gateway_that_of_all(look: Look) -> None:
    several = table("second", TWILIO, **{"from": '["+15551234567", "15551234568"]', "sender_rate": "0.5"})
    told, faults = look(several)
    assert faults == []
    rules = told.rules()
    assert rules.senders == {"second": Senders(("15551234567", "15551234568"), 0.5)}
    assert rules.rates == {"second": 1.0}
    assert "from 15551234567, 15551234568 (0.5 a second each)" in told.gateways["second"].shown
    assert look(several.replace("sender_rate", "rate = 0.7\nsender_rate"))[0].rates == {"second": 0.7}
    one, faults = look(table("second", TWILIO, **{"from": '["+15551234567"]'}))
    assert (faults, one.rules().senders) == ([], {})


@pytest.mark.parametrize(
    "told",
    [
        "[]",
        '["+15551234567", "+15551234567"]',
        '["+15551234567", "15551234567"]',
        '["+15551234567", "CLINIC"]',
        '["+15551234567", 7]',
        '[["+15551234567"]]',
        "[{ a = 1 }]",
    ],
)
def test_a_list_that_is_none_of_different_numbers_is_a_fault(look: Look, told: str) -> None:
    (fault,) = look(table("second", TWILIO, **{"from": told}))[1]
    assert fault.startswith("JUMBE_CONFIG: gateways.second.from: ")
