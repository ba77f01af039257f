"""The rules of the Twilio adapter, held against a stub that signs by its own hand and Twilio's official description."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from bot.gateways import twilio_codes, twilio_webhooks
from bot.gateways.base import (
    Accepted,
    Forged,
    Gateway,
    NotSent,
    Outgoing,
    Request,
    Scope,
    SendResult,
    Unknown,
    Unreadable,
)
from bot.gateways.twilio import Twilio
from bot.gateways.twilio_codes import CODES, result_of
from bot.gateways.twilio_webhooks import form_encoded, signature_fits
from tests.patience import HANG_S, forward, on_forward, soon
from tests.stub_twilio import Received, StubTwilio, new_sid, requires_spec, spec_path

ACCOUNT = "AC" + "0123456789abcdef" * 2
OTHER_ACCOUNT = "AC" + "f" * 32
SERVICE = "MG" + "0123456789abcdef" * 2
TOKEN = "12345"
INBOUND = "https://sms.example.org/gateways/twilio/inbound"
STATUS = "https://sms.example.org/gateways/twilio/status/42"
PERSON = "254700000001"
SUPERVISOR = "+254711000000"

stub_signer = StubTwilio(ACCOUNT, TOKEN)  # never started: only its hand is needed where nothing is sent


def adapter(api_url: str = "https://api.twilio.com", **settings: Any) -> Twilio:
    chosen = {"sender": "15005550006", "messaging_service_sid": None, "timeout_s": HANG_S, **settings}
    return Twilio(name="main", account_sid=ACCOUNT, auth_token=TOKEN, api_url=api_url, **chosen)


def request(
    form: Mapping[str, str] | list[tuple[str, str]], *, url: str = INBOUND, signature: str | None = "right"
) -> Request:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    if signature is not None:
        headers["x-twilio-signature"] = stub_signer.sign(url, form) if signature == "right" else signature
    return Request("POST", url, headers, urlencode(form if isinstance(form, list) else dict(form)).encode())


def inbound(body: str = "hello", sender: str = PERSON, **changes: str) -> dict[str, str]:
    return {**stub_signer.inbound_form(sender, body), **changes}


def is_forged(made: Request, gateway: Twilio | None = None) -> bool:
    try:
        (gateway or adapter()).verify(made)
    except Forged:
        return True
    return False


def message(to: str = PERSON, text: str = "Your visit is on Monday.", **changes: Any) -> Outgoing:
    return Outgoing(
        **{"id": 42, "attempt_id": "a1", "to": to, "text": text, "callback_url": STATUS, "validity_s": 3600, **changes}
    )


async def handed_over(
    gateway: Twilio, *messages: Outgoing, out_of_time: Callable[[int], bool] = lambda _: False
) -> list[SendResult]:
    """The results; once it is `out_of_time` with so many open calls, their time limit is over."""
    calls = [asyncio.create_task(gateway.send(one)) for one in messages]
    left = lambda: sum(not call.done() for call in calls)  # noqa: E731
    try:
        if await soon(lambda: "no" if not left() else "yes" if out_of_time(left()) else "") == "yes":
            forward(gateway._timeout.connect + 1)
            for _ in range(20):
                await asyncio.sleep(0)  # who only waited for a connection gives up first
            forward(gateway._timeout.total)
        return list(await asyncio.gather(*calls))
    finally:
        await gateway.close()


def send(
    gateway: Twilio, one: Outgoing | None = None, out_of_time: Callable[[int], bool] = lambda _: False
) -> SendResult:
    return on_forward(handed_over(gateway, one or message(), out_of_time=out_of_time))[0]


@pytest.fixture
def stub() -> Iterator[StubTwilio]:
    """A stub whose every request must have been right by the official description, whatever the test asked."""
    with StubTwilio(ACCOUNT, TOKEN) as running:
        yield running
    assert running.spec_faults == []


# Who may speak to us


VECTOR_FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
VECTOR_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
TWICE = [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")]
VECTORS = [
    pytest.param(VECTOR_URL, VECTOR_FORM, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", id="form"),
    pytest.param(
        VECTOR_URL.replace(".com", ".com:1234"), VECTOR_FORM, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", id="https port unsigned"
    ),
    pytest.param(
        VECTOR_URL.replace("https", "http").replace(".com", ".com:1234"),
        VECTOR_FORM,
        "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",
        id="http port signed",
    ),
    pytest.param(VECTOR_URL, VECTOR_FORM, "kvajT1Ptam85bY51eRf/AJRuM3w=", id="port 443 signed"),
    pytest.param(VECTOR_URL.replace("https", "http"), VECTOR_FORM, "0ZXoZLH/DfblKGATFgpif+LLRf4=", id="port 80 signed"),
    pytest.param(VECTOR_URL, TWICE, "IK+Dwps556ElfBT0I3Rgjkr1wJU=", id="duplicates"),
    pytest.param(
        VECTOR_URL + "&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
        {},
        "a9nBmqA0ju/hNViExpshrM61xv4=",
        id="json, address only",
    ),
]


@pytest.mark.parametrize(("url", "form", "signature"), VECTORS)
def test_the_official_signature_vectors_fit_and_no_neighbour_of_them_does(
    url: str, form: Mapping[str, str] | list[tuple[str, str]], signature: str
) -> None:
    fields = request(form, url=url).form()
    assert signature_fits(TOKEN, url, fields, signature)
    assert not signature_fits("54321", url, fields, signature)
    assert not signature_fits(TOKEN, url, [*fields, ("Extra", "")], signature)
    assert not signature_fits(TOKEN, url.replace("mycompany", "yourcompany"), fields, signature)


@pytest.mark.parametrize(
    ("url", "form", "signature"), [case for case in VECTORS if case.id in {"form", "http port signed", "duplicates"}]
)
def test_the_stub_signs_by_the_official_vectors_too(
    url: str, form: Mapping[str, str] | list[tuple[str, str]], signature: str
) -> None:
    assert stub_signer.sign(url, form) == signature


NAMES = st.sampled_from(["Body", "From", "To", "MessageSid", "Extra", "B"])
SITES = [
    "https://sms.example.org",
    "https://sms.example.org:443",
    "https://sms.example.org:8443",
    "http://127.0.0.1:8000",
]


@given(
    st.lists(st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=12)), max_size=8),
    st.sampled_from(SITES),
    st.sampled_from(SITES),
    st.sampled_from(["/in/twilio", "/status/twilio/7?attempt=0123456789abcdef"]),
    st.sampled_from(["", "x", "=", "é"]),
    st.booleans(),
)
def test_a_signature_fits_exactly_where_the_official_validator_says_so(
    fields: list[tuple[str, str]], site: str, signed_for: str, path: str, spoilt: str, other_token: bool
) -> None:
    params = twilio_webhooks._MultiDict()
    for name, value in fields:
        params.setdefault(name, []).append(value)
    made = RequestValidator("54321" if other_token else TOKEN).compute_signature(signed_for + path, params) + spoilt
    official = RequestValidator(TOKEN).validate(site + path, params, made)
    assert signature_fits(TOKEN, site + path, fields, made) == official
    assert official or spoilt or other_token or site != signed_for


def test_what_twilio_signed_is_let_in() -> None:
    adapter().verify(request(inbound()))
    adapter().verify(request(stub_signer.receipt_form(new_sid(), PERSON, "delivered"), url=STATUS))


def test_a_request_without_the_right_signature_is_forged() -> None:
    form = inbound()
    for signature in (None, "", "x", "é", "a" * 28, stub_signer.sign(STATUS, form), stub_signer.sign(INBOUND)):
        assert is_forged(request(form, signature=signature)), signature


def test_one_changed_letter_makes_a_request_forged() -> None:
    form = inbound("yes")
    signature = stub_signer.sign(INBOUND, form)
    for name in form:
        assert is_forged(request({**form, name: form[name] + "1"}, signature=signature)), name


def test_blank_fields_are_part_of_what_is_signed() -> None:
    form = inbound()
    bare = {name: value for name, value in form.items() if value}
    assert bare != form
    assert is_forged(request(bare, signature=stub_signer.sign(INBOUND, form)))
    adapter().verify(request(form))
    adapter().verify(request(bare))


def test_another_account_with_the_same_token_is_forged() -> None:
    assert is_forged(request(inbound(AccountSid=OTHER_ACCOUNT)))
    without = inbound()
    del without["AccountSid"]
    assert is_forged(request(without))


def test_a_signed_json_request_is_forged_because_its_body_is_not_what_was_checked() -> None:
    body = b'{"property": "value", "boolean": true}'
    url = f"{INBOUND}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    made = Request("POST", url, {"x-twilio-signature": stub_signer.sign(url)}, body)
    assert is_forged(made)
    assert is_forged(Request("POST", url, made.headers, b""))


def test_a_fresh_parameter_of_twilio_is_let_in() -> None:
    adapter().verify(request(inbound(StirVerdict="A", FromCarrier="Safaricom", OptOutType="STOP")))
    adapter().verify(request(inbound(AddOns=json.dumps({"status": "successful", "results": ["x" * 900]}))))
    media = f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages/MM{'0' * 32}/Media/ME{'1' * 32}"
    adapter().verify(request(inbound(NumMedia="1", MediaUrl0=media, MediaContentType0="image/jpeg")))
    status = stub_signer.receipt_form(new_sid(), PERSON, "undelivered", 30003)
    adapter().verify(request({**status, "RawDlrDoneDate": "2611211930", "MessagingServiceSid": SERVICE}, url=STATUS))


@pytest.mark.parametrize(
    "text", ["", "From me", "From+254711000000", "JOIN\nclinic & = %", "नमस्ते", "👩‍👩‍👧", "x" * 1600]
)
def test_a_person_may_write_anything(text: str) -> None:
    made = request(inbound(text))
    adapter().verify(made)
    assert adapter().parse_inbound(made)[0].text == text


STRANGE = {
    "MessageSid": ["SM1", "SM" + "G" * 32, "SM" + "a" * 32 + "\n", "XX" + "a" * 32, ""],
    "From": ["+25470#", "+" + "1" * 16, "+٢٥٤٧٠٠٠٠٠٠٠١", "two words and more", "+254700000001\n"],
    "To": ["+1500555 0006", "javascript:alert"],
    "Body": ["x" * (twilio_webhooks.MOST_TEXT + 1)],
    "NumMedia": ["-1", "1e3", "", "100"],
    "NumSegments": ["one", "٣"],
    "SmsStatus": ["received now", "", "RECEIVED"],
    "ApiVersion": ["2008-08-01", ""],
    "MessagingServiceSid": ["MG1"],
    "OptOutType": ["stop it"],
    "MediaUrl0": ["http://example.org/x", "https://example.org/" + "x" * 400],
    "ErrorCode": ["thirty"],
    "Unheard": ["x" * 65, "a\nb", "\x00"],
    "Bad-Name": ["x"],
    "": ["x"],
    "N" * 42: ["x"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in STRANGE.items() for value in values])
def test_a_signed_request_of_a_strange_shape_is_forged(name: str, value: str) -> None:
    form = inbound()
    if name == "MessageSid":
        form |= {"SmsSid": value, "SmsMessageSid": value}
    form[name] = value
    made = request(form)
    assert RequestValidator(TOKEN).validate(INBOUND, form, made.headers["x-twilio-signature"])
    assert is_forged(made)


def test_a_known_field_said_twice_and_two_message_ids_are_forged() -> None:
    twice = [*inbound().items(), ("From", SUPERVISOR)]
    assert is_forged(request(twice))
    assert is_forged(request(inbound(SmsSid=new_sid())))
    assert is_forged(request([*inbound().items(), *((f"X{n}", "") for n in range(twilio_webhooks.MOST_FIELDS))]))


# A re-cut: the attacker wrote Body, saw one signature, and cuts the same bytes into other parameters.
# A cut gives the forged fields, and the name from which on Twilio's own fields are left as they were.

Cut = Callable[[random.Random, str], tuple[list[tuple[str, str]], str]]
NOTHING = "~"


def cut_into_one_tail(rng: random.Random, tail: str) -> tuple[list[tuple[str, str]], str]:
    """A fresh message of the supervisor's, and all that is left over in one made-up parameter."""
    return [*fresh_message(), (rng.choice(["Zz", "Zip", "a", "ToZ", "Umsg"]), tail)], NOTHING


def cut_into_short_tails(_rng: random.Random, tail: str) -> tuple[list[tuple[str, str]], str]:
    """The same, with what is left over shared out so that no name and no value is too long."""
    return [*fresh_message(), *shared_out(tail)], NOTHING


def cut_before_the_true_id(rng: random.Random, tail: str) -> tuple[list[tuple[str, str]], str]:
    """Only the sender is made up; a short parameter swallows the true one, and the rest is Twilio's own."""
    name = rng.choice(["Fz", "Fs", "GeoX", "Hint", "Lang", "FromZzz", "MA"])
    return [("From", SUPERVISOR), (name, tail.partition("MessageSid")[0])], "MessageSid"


def cut_inside_a_name(rng: random.Random, tail: str) -> tuple[list[tuple[str, str]], str]:
    """The same, with the true sender cut across a name and a value, where neither shows it."""
    true_sender, at = tail.partition("MessageSid")[0], rng.randint(1, 4)
    return [("From", SUPERVISOR), ("Fz" + true_sender[:at], true_sender[at:])], "MessageSid"


def cut_to_two_senders(rng: random.Random, _tail: str) -> tuple[list[tuple[str, str]], str]:
    """The true sender stays, as a second From."""
    return [("From", f"+1{rng.randint(10**9, 2 * 10**9)}")], "From"


CUTS: list[Cut] = [
    cut_into_one_tail,
    cut_into_short_tails,
    cut_before_the_true_id,
    cut_inside_a_name,
    cut_to_two_senders,
]


def fresh_message() -> list[tuple[str, str]]:
    return [
        ("From", SUPERVISOR),
        ("MessageSid", new_sid()),
        ("NumMedia", "0"),
        ("NumSegments", "1"),
        ("SmsStatus", "received"),
        ("To", "+15005550006"),
    ]


def shared_out(tail: str) -> list[tuple[str, str]]:
    """`Zz` and the tail as parameters in signed order, each name at most 30 and each value at most 64 long; or, where
    the letters do not allow it, as one."""
    rest, last = "Zz" + tail, ""
    pieces: list[tuple[str, str]] = []
    while rest:
        name = rest[: 30 if pieces else 2]
        value = rest[len(name) :][:64]
        if len(rest) > len(name) + 64:
            ends = [n for n in range(len(name), len(name) + 65) if rest[n].islower() and rest[n:] > name]
            value = rest[len(name) : ends[-1]] if ends else value
        if not name.isalnum() or name < last:
            return [("Zz", tail)]
        pieces.append((name, value))
        last, rest = name, rest[len(name) + len(value) :]
    return pieces


def glue(fields: list[tuple[str, str]]) -> str:
    return "".join(name + value for name, value in fields)


def recut(rng: random.Random, cut: Cut) -> tuple[list[tuple[str, str]], str]:
    """The fields of a forgery, and the true signature that it steals."""
    form = inbound(sender=f"2547{rng.randint(10**7, 10**8 - 1)}")
    if rng.random() < 0.3:
        form = {name: value for name, value in form.items() if name == "From" or not name.startswith("From")}
    behind_body = [(name, value) for name, value in sorted(form.items()) if name > "Body"]
    forged, kept_from = cut(rng, glue(behind_body))
    kept = [(name, value) for name, value in behind_body if name >= kept_from]
    swallowed = glue(behind_body).removesuffix(glue(kept))
    text = f"tell all {rng.randint(0, 999)}"
    signature = stub_signer.sign(INBOUND, {**form, "Body": text + glue(forged).removesuffix(swallowed)})
    front = [("AccountSid", ACCOUNT), ("ApiVersion", "2010-04-01"), ("Body", text)]
    return [*front, *forged, *kept], signature


def test_2000_recut_forgeries_carry_a_true_signature_and_all_are_forged() -> None:
    rng, gateway, validator = random.Random(42), adapter(), RequestValidator(TOKEN)
    split = 0
    for n in range(2000):
        fields, signature = recut(rng, CUTS[n % len(CUTS)])
        params = twilio_webhooks._MultiDict()
        for name, value in fields:
            params.setdefault(name, []).append(value)
        assert validator.validate(INBOUND, params, signature), CUTS[n % len(CUTS)].__name__
        assert is_forged(request(fields, signature=signature), gateway), fields
        split += CUTS[n % len(CUTS)] is cut_into_short_tails and len(fields) > 10
    assert split > 100, "the short tails must really have been cut"


# Nothing a stranger sends is an accident of ours


HOSTILE_TEXT = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["", "https://h:abc/", "https://h:99999/", "//["]
)
URLS = st.sampled_from(
    [INBOUND, "https://h:abc/x", "https://h:99999/x", "http://[::1", "https://u:p@h:1/", "", "?", "https://h/?"]
) | HOSTILE_TEXT.map(lambda text: "https://sms.example.org/" + text)


@given(
    url=URLS,
    headers=st.dictionaries(st.sampled_from(["x-twilio-signature", "host", "content-type"]), HOSTILE_TEXT),
    body=st.binary(max_size=200) | st.sampled_from([b"%ff=%fe", b"\xff\xfe", b"a=%ED%B2%80", b"&&==&", b"From=\x00"]),
)
@settings(max_examples=300, deadline=None)
def test_hostile_addresses_headers_and_bytes_are_only_ever_forged(
    url: str, headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(Forged):
        adapter().verify(Request("POST", url, headers, body))


SIGNABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)


@given(
    changes=st.dictionaries(st.sampled_from(sorted(twilio_webhooks._SHAPES)) | SIGNABLE, SIGNABLE, max_size=4),
    dropped=st.sets(st.sampled_from(sorted(inbound())), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_signed_request_is_forged_or_unreadable_or_read(changes: dict[str, str], dropped: set[str]) -> None:
    form = {name: value for name, value in {**inbound(), **changes}.items() if name not in dropped}
    made, gateway = request(form), adapter()
    try:
        gateway.verify(made)
        [text] = gateway.parse_inbound(made)
        assert text.text == form["Body"]
    except (Forged, Unreadable):
        pass


@pytest.mark.parametrize("body", [b"From=%FF", b"From=\xff", b"AccountSid=%ED%B2%80"])
def test_bytes_that_are_no_text_are_forged(body: bytes) -> None:
    assert is_forged(Request("POST", INBOUND, {"x-twilio-signature": "x"}, body))


def test_a_forged_request_leaves_nothing_of_itself_in_the_error() -> None:
    with pytest.raises(Forged) as caught:
        adapter().verify(Request("POST", "https://h:secret-port/", {"x-twilio-signature": "secret"}, b"Body=secret"))
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


# What is read


def test_a_text_is_read_with_digits_and_its_words_kept_apart() -> None:
    form = inbound("JOIN clinic", sender="254700000001", OptOutType="STOP", NumMedia="2")
    [text] = adapter().parse_inbound(request(form))
    assert (text.gateway_id, text.sender, text.to) == (form["MessageSid"], "254700000001", "15005550006")
    assert (text.text, text.media, text.opt_out) == ("JOIN clinic", 2, "stop")
    assert "Body" not in text.raw
    assert text.raw["FromCity"] == ""
    assert {**text.raw, "Body": "JOIN clinic"} == form


@pytest.mark.parametrize(
    ("sender", "read"), [("+254700000001", "254700000001"), ("12345", "12345"), ("SAFARICOM", "SAFARICOM")]
)
def test_a_short_code_stays_digits_and_letters_stay_letters(sender: str, read: str) -> None:
    made = request(inbound(From=sender))
    adapter().verify(made)
    assert adapter().parse_inbound(made)[0].sender == read


@pytest.mark.parametrize(
    ("word", "meaning"), [("STOP", "stop"), ("START", "start"), ("HELP", "help"), ("PAUSE", None), ("", None)]
)
def test_opt_out_words_are_read_and_unknown_ones_are_not_guessed(word: str, meaning: str | None) -> None:
    assert adapter().parse_inbound(request(inbound(OptOutType=word)))[0].opt_out == meaning


@pytest.mark.parametrize("name", ["Body", "From", "To"])
def test_a_signed_request_that_is_not_a_text_is_unreadable(name: str) -> None:
    form = inbound()
    del form[name]
    adapter().verify(request(form))
    with pytest.raises(Unreadable):
        adapter().parse_inbound(request(form))
    with pytest.raises(Unreadable):
        adapter().parse_inbound(request(stub_signer.receipt_form(new_sid(), PERSON, "sent")))


def test_a_signed_whatsapp_message_is_unreadable_not_forged() -> None:
    made = request(inbound(From="whatsapp:+254700000001", To="whatsapp:+15005550006"))
    adapter().verify(made)
    with pytest.raises(Unreadable):
        adapter().parse_inbound(made)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("accepted", "accepted"),
        ("scheduled", "accepted"),
        ("queued", "accepted"),
        ("sending", "accepted"),
        ("sent", "sent"),
        ("delivered", "delivered"),
        ("read", "delivered"),
        ("undelivered", "undelivered"),
        ("failed", "undelivered"),
        ("canceled", "undelivered"),
        ("partially_delivered", "unrecognised"),
        ("receiving", "unrecognised"),
        ("received", "unrecognised"),
        ("teleported", "unrecognised"),
    ],
)
def test_every_status_word_has_one_meaning(word: str, state: str) -> None:
    made = request(stub_signer.receipt_form(new_sid(), PERSON, word), url=STATUS)
    adapter().verify(made)
    [receipt] = adapter().parse_receipt(made, 42)
    assert (receipt.message_id, receipt.state, receipt.word, receipt.code) == (42, state, word, None)


def test_every_status_of_the_official_description_was_decided() -> None:
    description = json.loads(requires_spec().read_text("utf-8"))
    words = set(description["components"]["schemas"]["message_enum_status"]["enum"])
    assert words == set(twilio_codes.RECEIPT_STATES) | {"partially_delivered", "receiving", "received"}


def test_a_receipt_keeps_its_code_and_a_blank_code_is_none() -> None:
    sid = new_sid()
    [receipt] = adapter().parse_receipt(request(stub_signer.receipt_form(sid, PERSON, "undelivered", 30003)), 7)
    assert (receipt.gateway_id, receipt.code) == (sid, "30003")
    assert receipt.raw["ErrorCode"] == "30003"
    [receipt] = adapter().parse_receipt(request(stub_signer.receipt_form(sid, PERSON, "sent", "")), 7)
    assert receipt.code is None


@pytest.mark.parametrize(("code", "opted_out"), [("21610", True), ("30005", False), ("", False)])
def test_a_receipt_says_whether_the_person_told_twilio_to_stop(code: str, opted_out: bool) -> None:
    [receipt] = adapter().parse_receipt(request(stub_signer.receipt_form(new_sid(), PERSON, "undelivered", code)), 7)
    assert receipt.opted_out is opted_out


def test_a_request_without_a_status_is_no_receipt() -> None:
    with pytest.raises(Unreadable):
        adapter().parse_receipt(request({"MessageSid": new_sid()}), 7)
    with pytest.raises(Unreadable):
        adapter().parse_receipt(request({"MessageStatus": "sent"}), 7)


def test_the_answer_to_a_webhook_says_nothing() -> None:
    assert adapter().reply().body == "<Response/>"
    assert adapter().reply().content_type == "text/xml"


# What is sent


def test_a_message_is_handed_over_as_twilio_wants_it(stub: StubTwilio) -> None:
    result = send(adapter(stub.url), message(text="Karibu & = % 👋"))
    [booked] = stub.book
    assert result == Accepted(booked["sid"], 1)
    assert (booked["to"], booked["from"], booked["body"]) == ("+254700000001", "+15005550006", "Karibu & = % 👋")
    assert (booked["status_callback"], booked["validity_period"]) == (STATUS, 3600)


def test_a_messaging_service_picks_the_sender_and_its_segments_are_not_known_yet(stub: StubTwilio) -> None:
    result = send(adapter(stub.url, messaging_service_sid=SERVICE))
    [booked] = stub.book
    assert result == Accepted(booked["sid"], None)
    assert (booked["from"], booked["messaging_service_sid"]) == (None, SERVICE)


@pytest.mark.parametrize(
    ("sender", "given"), [("15005550006", "+15005550006"), ("+15005550006",) * 2, ("12345",) * 2, ("CLINIC",) * 2]
)
def test_a_sender_number_gets_its_plus_and_short_codes_and_letters_do_not(
    stub: StubTwilio, sender: str, given: str
) -> None:
    send(adapter(stub.url, sender=sender))
    assert stub.book[0]["from"] == given


@pytest.mark.parametrize(("asked", "sent"), [(None, None), (-5, 1), (0, 1), (600, 600), (90_000, 36_000)])
def test_a_validity_stays_within_what_twilio_takes(stub: StubTwilio, asked: int | None, sent: int | None) -> None:
    send(adapter(stub.url), message(validity_s=asked))
    assert stub.book[0]["validity_period"] == sent


MODES: dict[str, tuple[type, str | None, bool]] = {
    # mode: what we say, what it is about, whether Twilio has the message
    "ok": (Accepted, None, True),
    "cut": (Unknown, None, True),
    "stall": (Unknown, None, True),
    "half": (Unknown, None, True),
    "refuse": (Unknown, None, False),
    "503": (Unknown, None, False),
    "429": (NotSent, "throttled", False),
    "401": (NotSent, "gateway", False),
    "21610": (NotSent, "opted_out", False),
    "21999": (NotSent, "message", False),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_way_of_answering_has_its_result_and_costs_exactly_one_request(stub: StubTwilio, mode: str) -> None:
    kind, scope, has_it = MODES[mode]
    stub.mode = mode
    result = send(adapter(stub.url), out_of_time=lambda _: mode == "stall" and len(stub.book) == 1)
    assert type(result) is kind
    assert getattr(result, "scope", None) == scope
    assert len(stub.requests) == 1
    assert len(stub.book) == has_it


def test_only_a_certain_result_is_ever_called_not_sent(stub: StubTwilio) -> None:
    """Over every mode at once and on shared connections: what Twilio has in its book is never called not sent."""
    people = {f"2547000000{n:02}": mode for n, mode in enumerate(MODES)}
    stub.modes_for = {f"+{to}": mode for to, mode in people.items()}
    texts, stalled = [message(to) for to in people], list(MODES).count("stall")
    results = on_forward(handed_over(adapter(stub.url), *texts, out_of_time=lambda left: left == stalled))
    booked = {one["to"] for one in stub.book}
    for to, result in zip(people, results, strict=True):
        assert not (isinstance(result, NotSent) and f"+{to}" in booked)
        assert isinstance(result, MODES[people[to]][0])
    assert len(stub.requests) == len(people)


def test_a_throttled_answer_carries_the_wait(stub: StubTwilio) -> None:
    stub.mode, stub.retry_after = "429", "12"
    result = send(adapter(stub.url))
    assert isinstance(result, NotSent)
    assert (result.retry_after_s, result.code) == (12.0, "20429")


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (None, None),
        ("0", 0.0),
        ("999999", 3600.0),
        ("-1", None),
        ("nan", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_wait_is_seconds_and_never_longer_than_an_hour(header: str | None, wait: float | None) -> None:
    result = result_of(429, header, b"")
    assert isinstance(result, NotSent)
    assert (result.scope, result.retry_after_s) == ("throttled", wait)


SCOPES = {
    "opted_out": "21610",
    "recipient": "21211 21614 21217 21604 21612 21608 21265 21266 30003 30004 30005 30006",
    "destination": "21408 21215 30011",
    "sender": "21212 21603 21606 21607 21616 21659 21660 21661 21701 21702 21703 21704 21705 21709"
    " 30018 30023 30024 30027 30032 30034 63015 63038",
    "gateway": "20003 20005 30002 20403 20404",
    "message": "21602 21617 21618 21620 21623 21654 21655 21656 21609 21626 20001"
    " 30007 30009 30010 30012 30013 30014 30015 30016 30019 63016",
    "throttled": "21611 20429 14107 30001 30017 30022 63018",
    "unclear": "20500 20503 30008 30410",
}
"""Every code of the table of what Twilio answers and says in receipts, by what it is about."""

HOLDS = {
    "slow": "14107 20429 30001 30017 30022 63018",
    "while": "21611",
    "day": "30023 30027 63038",
    "person": "30002 30018 30024 30032 30034 63015",
}
LISTED = [(code, scope) for scope, codes in SCOPES.items() for code in codes.split()]
HELD = {code: hold for hold, codes in HOLDS.items() for code in codes.split()}


@pytest.mark.parametrize(("code", "scope"), LISTED)
def test_every_refusal_says_what_to_stop_in_words_of_our_own(stub: StubTwilio, code: str, scope: str) -> None:
    stub.mode = code
    result = send(adapter(stub.url))
    if scope == "unclear":
        assert isinstance(result, Unknown)
        return
    assert isinstance(result, NotSent)
    assert (result.scope, result.code, result.hold) == (scope, code, HELD.get(code))
    assert result.lasting == (scope == "gateway" or HELD.get(code) == "person")
    assert PERSON not in result.reason
    assert "Monday" not in result.reason


def test_the_map_is_the_list_and_no_reason_holds_a_digit() -> None:
    assert {code: meaning.scope for code, meaning in CODES.items()} == dict(LISTED)
    assert {code: meaning.hold for code, meaning in CODES.items() if meaning.hold} == HELD
    assert set(SCOPES) <= {*get_args(Scope), "unclear"}
    assert not [meaning.reason for meaning in CODES.values() if any(letter.isdigit() for letter in meaning.reason)]


@pytest.mark.parametrize("code", [code for code, _ in LISTED if code.startswith(("3", "6"))])
def test_a_receipt_says_what_its_code_holds_up(code: str) -> None:
    form = stub_signer.receipt_form(new_sid(), PERSON, "undelivered", int(code))
    (receipt,) = adapter().parse_receipt(request(form, url=f"{STATUS}?attempt=0123456789abcdef"), 42)
    assert (receipt.state, receipt.code, receipt.attempt_id) == ("undelivered", code, "0123456789abcdef")
    held = receipt.trouble
    assert (held and held.hold) == HELD.get(code)
    if held is not None:
        assert held.scope == dict(LISTED)[code]


@pytest.mark.parametrize(
    "told", ["", "?attempt=", "?attempt=x%27--", "?attempt=" + "a" * 33, "?other=0123456789abcdef"]
)
def test_a_receipt_whose_address_names_no_attempt_says_none(told: str) -> None:
    form = stub_signer.receipt_form(new_sid(), PERSON, "delivered")
    assert adapter().parse_receipt(request(form, url=STATUS + told), 42)[0].attempt_id is None


def test_a_message_leaves_by_the_number_that_it_says(stub: StubTwilio) -> None:
    several = adapter(stub.url, sender=("15005550006", "+15005550016"))
    for own_number in ("15005550016", "15005550006", None):
        assert isinstance(send(several, message(own_number=own_number)), Accepted)
    assert [one["from"] for one in stub.book] == ["+15005550016", "+15005550006", "+15005550006"]
    pool = adapter(stub.url, sender=("15005550006", "+15005550016"), messaging_service_sid=SERVICE)
    assert isinstance(send(pool, message(own_number="15005550016")), Accepted)
    told = dict(stub.requests[-1].form())
    assert (told["From"], told["MessagingServiceSid"]) == ("+15005550016", SERVICE)


@pytest.mark.parametrize(
    ("to", "scope"),
    [
        ("15005550001", "recipient"),
        ("15005550002", "recipient"),
        ("15005550003", "destination"),
        ("15005550004", "opted_out"),
        ("15005550009", "recipient"),
    ],
)
def test_the_magic_recipients_fail_as_twilio_says(stub: StubTwilio, to: str, scope: str) -> None:
    result = send(adapter(stub.url), message(to))
    assert isinstance(result, NotSent)
    assert result.scope == scope


@pytest.mark.parametrize(
    ("sender", "scope"), [("15005550001", "sender"), ("15005550007", "sender"), ("15005550008", "throttled")]
)
def test_the_magic_senders_fail_as_twilio_says(stub: StubTwilio, sender: str, scope: str) -> None:
    result = send(adapter(stub.url, sender=sender))
    assert isinstance(result, NotSent)
    assert result.scope == scope


def test_a_wrong_token_is_about_the_whole_gateway(stub: StubTwilio) -> None:
    wrong = Twilio(
        name="main",
        account_sid=ACCOUNT,
        auth_token="wrong",
        sender="15005550006",
        messaging_service_sid=None,
        api_url=stub.url,
    )
    result = send(wrong)
    assert isinstance(result, NotSent)
    assert (result.scope, result.code) == ("gateway", "20003")


SID = "SM" + "a" * 32


@pytest.mark.parametrize(
    ("status", "body", "result"),
    [
        (201, json.dumps({"sid": SID, "num_segments": "3"}), Accepted(SID, 3)),
        (200, json.dumps({"sid": SID}), Accepted(SID, None)),
        (201, json.dumps({"sid": SID, "num_segments": "many"}), Accepted(SID, None)),
        (201, "", Unknown),
        (201, "<html>", Unknown),
        (201, json.dumps({"sid": "x"}), Unknown),
        (201, json.dumps([SID]), Unknown),
        (201, "[" * 50_000, Unknown),
        (302, "", Unknown),
        (307, "", Unknown),
        (408, "", Unknown),
        (500, json.dumps({"code": 21211}), Unknown),
        (502, "<html>", Unknown),
        (400, "<html>", "gateway"),
        (400, json.dumps({"code": True}), "gateway"),
        (401, "", "gateway"),
        (401, json.dumps({"code": 29999}), "gateway"),
        (404, "", "gateway"),
        (403, json.dumps({"code": 21610}), "opted_out"),
        (400, json.dumps({"code": 29999, "message": PERSON}), "message"),
        (429, "<html>", "throttled"),
    ],
)
def test_an_answer_proves_only_what_it_says(status: int, body: str, result: Any) -> None:
    said = result_of(status, None, body.encode())
    if isinstance(result, str):
        assert isinstance(said, NotSent)
        assert said.scope == result
        assert said.code
        assert PERSON not in said.reason
    elif result is Unknown:
        assert isinstance(said, Unknown)
    else:
        assert said == result


def test_a_gateway_nobody_answers_for_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: the connection is refused
        result = send(adapter(f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert isinstance(result, NotSent)
    assert result.scope == "unreachable"


def test_a_broken_tls_handshake_is_unreachable(stub: StubTwilio) -> None:
    result = send(adapter(stub.url.replace("http:", "https:")))
    assert isinstance(result, NotSent)
    assert result.scope == "unreachable"
    assert stub.requests == []


def test_a_connection_that_never_comes_up_is_unreachable_and_bounded() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the connection stands, the TLS handshake is never answered
        result = send(adapter(f"https://127.0.0.1:{silent.getsockname()[1]}"), out_of_time=lambda _: True)
    assert isinstance(result, NotSent)
    assert result.scope == "unreachable"


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that reads one request, says these bytes and hangs up."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 201 Created\r\n\r\n" + b" " * 200_000,
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_makes_no_sense_is_unknown_and_never_an_exception(answer: bytes) -> None:
    with answering(answer) as url:
        assert isinstance(send(adapter(url)), Unknown)


def test_a_refusal_whose_sentence_was_cut_is_still_a_refusal() -> None:
    with answering(b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 500\r\n\r\n{") as url:
        result = send(adapter(url))
    assert isinstance(result, NotSent)
    assert (result.scope, result.retry_after_s) == ("throttled", 3.0)


def test_half_of_a_character_fails_its_own_message_and_nothing_leaves(stub: StubTwilio) -> None:
    result = send(adapter(stub.url), message(text="broken \ud83d"))
    assert isinstance(result, NotSent)
    assert result.scope == "message"
    assert stub.requests == []


def test_a_cancelled_send_is_cancelled(stub: StubTwilio) -> None:
    stub.mode = "stall"

    async def cancel() -> None:
        gateway = adapter(stub.url)
        sending = asyncio.create_task(gateway.send(message()))
        await soon(lambda: stub.book)
        sending.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await sending
        finally:
            await gateway.close()

    asyncio.run(cancel())
    assert len(stub.requests) == 1


def test_no_more_go_at_once_than_the_capabilities_say(stub: StubTwilio) -> None:
    stub.mode = "stall"
    gateway = adapter(stub.url)
    limit = gateway.capabilities.concurrency
    many = [message(f"2547000{n:05}") for n in range(limit + 5)]
    results = on_forward(handed_over(gateway, *many, out_of_time=lambda _: len(stub.requests) == limit))
    assert len(stub.requests) == gateway.capabilities.concurrency
    # Who only waited for a connection was certainly not sent.
    assert sum(isinstance(result, NotSent) for result in results) == 5


def test_a_closed_gateway_opens_again(stub: StubTwilio) -> None:
    gateway = adapter(stub.url)
    assert isinstance(send(gateway), Accepted)
    assert isinstance(send(gateway), Accepted)
    asyncio.run(gateway.close())


@pytest.mark.parametrize(
    "changes",
    [
        {"account_sid": "AC1/../x"},
        {"auth_token": ""},
        {"sender": None},
        {"api_url": "api.twilio.com"},
        {"api_url": "file:///etc"},
    ],
)
def test_settings_that_could_never_send_are_refused_at_once(changes: dict[str, Any]) -> None:
    chosen = {"account_sid": ACCOUNT, "auth_token": TOKEN, "sender": "15005550006", "messaging_service_sid": None}
    with pytest.raises(ValueError, match="Twilio"):
        Twilio(name="main", **{**chosen, **changes})


def test_the_adapter_is_a_gateway() -> None:
    gateway: Gateway = adapter()
    assert (gateway.name, gateway.kind, gateway.rate_per_s) == ("main", "twilio", 1.0)


# The stub and the official description


def test_every_request_was_right_by_the_official_description(stub: StubTwilio) -> None:
    requires_spec()
    texts = [message(), message(validity_s=None), message(to="12025550123", text="x" * 1600)]
    asyncio.run(handed_over(adapter(stub.url), *texts))
    asyncio.run(handed_over(adapter(stub.url, messaging_service_sid=SERVICE), *texts))
    assert stub.spec_checked == len(stub.requests) == 6
    assert stub.spec_faults == []


def create_request(form: Mapping[str, str]) -> Received:
    credentials = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
    headers = {"authorization": f"Basic {credentials}", "content-type": "application/x-www-form-urlencoded"}
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    return Received("POST", path, headers, urlencode(form).encode())


@pytest.mark.parametrize(
    "form",
    [
        {"Body": "no To"},
        {"To": "+254700000001", "Body": "x"},
        {"To": "+254700000001", "Body": "x", "From": "+15005550006", "ValidityPeriod": "soon"},
        {"To": "banana", "Body": "x", "From": "+15005550006"},
        {"To": "+254700000001", "Body": "x" * 1601, "From": "+15005550006"},
        {"To": "+254700000001", "Body": "x", "From": "+15005550006", "StatusCallback": "https://my_host.org/"},
    ],
)
def test_the_stub_sees_a_wrong_request(form: dict[str, str]) -> None:
    stub_signer.spec_faults.clear()
    stub_signer.take(create_request({"StatusCallback": STATUS, **form}))
    assert stub_signer.spec_faults


@pytest.mark.parametrize("wrong", [{"MessagingServiceSid": "MG1"}, {"ValidityPeriod": "soon"}, {"SendAt": "tomorrow"}])
def test_the_official_description_is_really_asked(wrong: dict[str, str]) -> None:
    requires_spec()
    right = {"To": "+254700000001", "Body": "x", "StatusCallback": STATUS, "From": "+15005550006"}
    stub_signer.spec_faults.clear()
    stub_signer.take(create_request(right))
    assert stub_signer.spec_faults == []
    stub_signer.take(create_request({**right, **wrong}))
    assert [fault for fault in stub_signer.spec_faults if "RequestBody" in fault]


def test_a_missing_description_is_a_skip_at_a_desk_and_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_SPEC", "/nowhere/twilio.json")
    monkeypatch.delenv("CI", raising=False)
    assert spec_path() is None
    with pytest.raises(pytest.skip.Exception):
        requires_spec()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        requires_spec()


def test_the_stub_posts_webhooks_that_the_adapter_lets_in() -> None:
    with StubTwilio(ACCOUNT, TOKEN) as posting:
        form = posting.inbound_form(PERSON, "JOIN")
        assert posting.post(posting.url, "/hook", form) == 404
        seen = posting.requests[-1]
        adapter().verify(Request("POST", posting.url + "/hook", seen.headers, seen.body))
        posting.post(posting.url, "/hook", form, public_url="https://sms.example.org")
        seen = posting.requests[-1]
        adapter().verify(Request("POST", "https://sms.example.org/hook", seen.headers, seen.body))
        posting.post(posting.url, "/hook", form, signature=None)
        assert "x-twilio-signature" not in posting.requests[-1].headers


# -- the form that is posted -------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("%+&=;#?/ 0aF\n\r\x00éü漢😀\u200b"))
def test_a_form_is_read_as_it_was_meant_whatever_a_text_holds(text: str, odd: str) -> None:
    form = [("To", "+254720000001"), ("Body", text), ("StatusCallback", f"https://x.example/status/1?attempt={odd}")]
    made = form_encoded(form)
    assert parse_qsl(made.decode("ascii"), keep_blank_values=True, strict_parsing=True) == form
    assert not set(made) & set(b" \r\n#")


@given(st.text(), st.characters(categories=["Cs"]), st.text())
def test_half_a_character_is_never_left_out_in_silence(before: str, half: str, after: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        form_encoded([("Body", before + half + after)])
