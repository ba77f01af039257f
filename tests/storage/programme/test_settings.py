"""What an operator sets: every fault at once, no misspelt name, no secret shown."""

from datetime import time

import pytest

from storage.errors import Misconfigured
from storage.programme import settings
from storage.rules.quiet_hours import Hours

ACCOUNT = "AC" + "1" * 32
TWILIO = {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": "sesame", "TWILIO_FROM": "+15551234567", "PUBLIC_URL": "https://sms.example.org"}  # fmt: skip


def faults(**environment):
    with pytest.raises(Misconfigured) as refused:
        settings.read(environment)
    return list(refused.value.faults)


def test_a_programme_that_set_nothing_has_safe_settings():
    told = settings.read({})
    assert (told.database_url, told.port, told.quiet_hours) == ("sqlite:///jumbe.db", 8000, Hours(time(9), time(20)))
    assert (told.hold_s, told.second_person_above, told.simulator) == (60, 500, False)
    assert told.gateway_names == ()
    assert told.rules().default_gateway is None


def test_every_fault_is_told_at_once():
    told = faults(PORT="http", JUMBE_TIME_ZONE="Africa/Acra", JUMBE_COUNTRY="Ghana", JUMBE_HOLD_S="-1", JUMBE_NOPE="1", TWILIO_RATE="fast")  # fmt: skip
    assert len(told) == 6
    for name in ("PORT", "JUMBE_TIME_ZONE", "JUMBE_COUNTRY", "JUMBE_HOLD_S", "JUMBE_NOPE", "TWILIO_RATE"):
        assert len([fault for fault in told if fault.startswith(name)]) == 1


def test_a_misspelt_name_is_a_fault_and_other_programs_names_are_not():
    told = faults(JUMBE_TIMEZONE="UTC", HOME="/root")[0]
    assert told.startswith("JUMBE_TIMEZONE is no setting of Jumbe, perhaps you mean JUMBE_TIME_ZONE: see")


def test_a_time_zone_that_does_not_exist_suggests_the_nearest():
    assert "Africa/Accra" in faults(JUMBE_TIME_ZONE="Africa/Acra")[0]
    assert faults(JUMBE_TIME_ZONE="Mars")[0].endswith("no such time zone; say one such as Africa/Accra")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "9000", 9000), ("JUMBE_COUNTRY", "gh", "GH"), ("JUMBE_STRICT_NUMBERS", "yes", True),
        ("JUMBE_STRICT_NUMBERS", "0", False), ("JUMBE_HOLD_S", " 0 ", 0), ("TWILIO_RATE", "0.5", 0.5),
        ("JUMBE_QUIET_HOURS", "off", None), ("JUMBE_QUIET_HOURS", "21:30 - 08:00", Hours(time(8), time(21, 30))),
        ("PUBLIC_URL", "https://sms.example.org/", "https://sms.example.org"), ("JUMBE_NAME", "  ", "This programme"),
    ],
)  # fmt: skip
def test_a_setting_is_read(name, text, value):
    told = settings.read({name: text})
    assert {row["name"]: row for row in settings.table(told)}[name]
    assert [getattr(told, f.name) for f in settings.fields(told) if f.metadata["name"] == name] == [value]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "0"), ("PORT", "65536"), ("JUMBE_EXPIRY_H", "0"), ("JUMBE_STRICT_NUMBERS", "maybe"), ("TWILIO_RATE", "0"),
        ("TWILIO_RATE", "nan"), ("JUMBE_QUIET_HOURS", "night"), ("JUMBE_QUIET_HOURS", "09:00-09:00"), ("JUMBE_COUNTRY", "XX"),
        ("JUMBE_HOLD_S", "٦٠x"), ("PUBLIC_URL", "sms.example.org"), ("JUMBE_CONFIG", "/nosuch.toml"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_read_is_refused(name, text):
    assert faults(**{name: text})[0].startswith(name)


def test_quiet_hours_that_are_off_allow_every_hour():
    assert settings.read({"JUMBE_QUIET_HOURS": "off"}).rules().hours is None


@pytest.mark.parametrize("url", ["http://sms.example.org", "http://10.0.0.1:8000", "http://127.0.0.1.example.org"])
def test_a_public_address_is_https(url):
    assert "https://" in faults(PUBLIC_URL=url)[0]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
def test_a_public_address_on_this_machine_need_not_be_https(url):
    told = settings.read({"PUBLIC_URL": url})
    assert told.is_loopback and told.own_url == url


def test_a_fault_is_told_once_and_draws_no_false_ones_after_it():
    (told,) = faults(**TWILIO | {"PUBLIC_URL": "http://sms.example.org"})
    assert told.startswith("PUBLIC_URL is 'http://sms.example.org'")
    (told,) = faults(**TWILIO | {"TWILIO_ACCOUNT_SID": "AC12"})
    assert told.startswith("TWILIO_ACCOUNT_SID")


# -- gateways ----------------------------------------------------------------------------------------------------------


def test_twilios_settings_make_a_gateway():
    told = settings.read(TWILIO)
    assert told.gateway_names == ("twilio",)
    assert (told.rules().default_gateway, told.rules().gateways) == ("twilio", frozenset({"twilio"}))


@pytest.mark.parametrize("missing", ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM", "PUBLIC_URL"])
def test_half_of_twilio_is_a_fault(missing):
    (fault,) = faults(**{name: value for name, value in TWILIO.items() if name != missing})
    assert missing in fault


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_setting_is_a_missing_one(blank):
    assert "TWILIO_ACCOUNT_SID is set alone" in faults(**TWILIO | {"TWILIO_AUTH_TOKEN": blank})[0]


@pytest.mark.parametrize("sid", ["AC1", "AC" + "g" * 32, "SK" + "1" * 32, ACCOUNT + "1"])
def test_a_twilio_account_is_ac_and_32_hexadecimal_digits(sid):
    assert "AC and 32" in faults(**TWILIO | {"TWILIO_ACCOUNT_SID": sid})[0]


def test_a_token_that_was_put_in_the_accounts_place_is_not_shown():
    assert "5esame5esame" not in " ".join(faults(**TWILIO | {"TWILIO_ACCOUNT_SID": "5esame5esame"}))


def test_the_api_is_asked_by_https_except_on_this_machine():
    assert "https://" in faults(**TWILIO, TWILIO_API_URL="http://api.twilio.com")[0]
    assert settings.read(TWILIO | {"TWILIO_API_URL": "http://127.0.0.1:9000"}).has_twilio


@pytest.mark.parametrize("sender", ["TWILIO_FROM", "TWILIO_MESSAGING_SERVICE_SID"])
def test_a_sender_without_an_account_is_a_fault(sender):
    assert faults(**{sender: "x"})[0].startswith(f"{sender} is set without an account")


@pytest.mark.parametrize("url", ["https://sms.example.org", "https://10.0.0.1"])
def test_a_rehearsal_serves_this_machine_only(url):
    assert "this machine only" in faults(JUMBE_SIMULATOR="1", PUBLIC_URL=url)[0]
    assert settings.read({"JUMBE_SIMULATOR": "1", "PUBLIC_URL": "http://127.0.0.1:9000"}).simulator


def test_a_rehearsal_never_meets_a_real_gateway():
    assert "exclude each other" in faults(**TWILIO, JUMBE_SIMULATOR="1")[0]


def test_the_simulator_is_a_gateway_only_when_it_is_asked_for():
    assert settings.read({"JUMBE_SIMULATOR": "1"}).gateway_names == ("simulator",)


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_never_shown():
    told = settings.read(TWILIO | {"DATABASE_URL": "postgresql://jumbe:open@sesame@db.example.org/jumbe"})
    for shown in (repr(told), str(told), str(settings.table(told))):
        assert "sesame" not in shown
    rows = {row["name"]: row["value"] for row in settings.table(told)}
    assert rows["TWILIO_AUTH_TOKEN"] == "(hidden)"
    assert rows["DATABASE_URL"] == "postgresql://jumbe:***@db.example.org/jumbe"


def test_a_secret_is_not_shown_in_a_fault_either():
    told = faults(**{**TWILIO, "TWILIO_ACCOUNT_SID": "", "PORT": "x"})
    assert "sesame" not in " ".join(told)


def test_the_table_has_every_setting_with_its_meaning():
    rows = settings.table(settings.read({"JUMBE_SIMULATOR": "1"}))
    assert len({row["name"] for row in rows}) == len(rows) == len(settings.fields(settings.Settings))
    assert all(row["meaning"] for row in rows)
    assert {row["name"]: (row["value"], row["default"]) for row in rows}["JUMBE_SIMULATOR"] == ("1", "0")
    assert {row["name"]: row["value"] for row in rows}["JUMBE_QUIET_HOURS"] == "20:00-09:00"


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "jumbe.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_file_sets_what_the_environment_does_not(config):
    path = config('name = "Klinik Ñ"\nhold_s = 30\nstrict_numbers = true\nquiet_hours = "off"\n')
    told = settings.read({"JUMBE_CONFIG": path, "JUMBE_HOLD_S": "10"})
    assert (told.name, told.hold_s, told.strict_numbers, told.quiet_hours) == ("Klinik Ñ", 10, True, None)


def test_a_secret_in_a_file_is_refused(config):
    path = config('twilio_auth_token = "sesame"\n')
    told = " ".join(faults(JUMBE_CONFIG=path))
    assert "twilio_auth_token is a secret" in told and "sesame" not in told


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://jumbe:sesame@db/jumbe",
        "postgresql://jumbe@db/jumbe?password=sesame",
        "postgres://jumbe:sesame@db/jumbe",
    ],
)
def test_a_password_of_the_database_in_a_file_is_refused_as_a_secret(config, url):
    told = " ".join(faults(JUMBE_CONFIG=config(f'database_url = "{url}"\n')))
    assert "which is a secret" in told and "sesame" not in told
    assert "sesame" not in str(settings.table(settings.read({"DATABASE_URL": url})))
    path = config('database_url = "postgresql://jumbe@db.example.org/jumbe"\n')
    assert settings.read({"JUMBE_CONFIG": path}).database_url == "postgresql://jumbe@db.example.org/jumbe"


def test_half_of_twilio_may_stand_in_a_file_and_the_secret_in_the_environment(config):
    path = config(
        f'twilio_account_sid = "{ACCOUNT}"\ntwilio_from = "+15551234567"\npublic_url = "https://sms.example.org"\n'
    )
    assert settings.read({"JUMBE_CONFIG": path, "TWILIO_AUTH_TOKEN": "sesame"}).has_twilio
    assert "TWILIO_ACCOUNT_SID is set alone" in faults(JUMBE_CONFIG=path)[0]


@pytest.mark.parametrize(("text", "says"), [("nmae = 'x'", "nmae is no setting"), ("config = 'x'", "config is no setting"), ("name = ", "cannot be read"), ("port = 'x'", "PORT is 'x'")])  # fmt: skip
def test_a_fault_in_a_file_is_told_like_any_other(config, text, says):
    assert says in faults(JUMBE_CONFIG=config(text))[0]
