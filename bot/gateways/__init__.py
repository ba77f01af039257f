"""The gateways: one file each, beside `gateways/base.py`, which says what a gateway is.  A new one is a file, a test and a line here."""

from __future__ import annotations

from collections.abc import Callable

from bot.gateways.base import Gateway
from storage.errors import Misconfigured
from storage.programme.gateway_settings import GatewaySettings
from storage.programme.settings import SIMULATOR_RATE, Settings

NO_GATEWAY = (
    "no gateway is set: set TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, TWILIO_FROM and PUBLIC_URL, "
    "or name one in the file of JUMBE_CONFIG, or rehearse without one by 'jumbe demo'"
)


def configured(settings: Settings) -> dict[str, Gateway]:
    """The gateways that the settings make, by name.  None at all is a fault: the simulator is never chosen by accident."""
    made: list[Gateway] = [_MAKERS[table.kind](table) for table in settings.gateways.values()]
    if settings.has_twilio:
        made.append(_own_twilio(settings))
    elif settings.simulator:
        from bot.gateways.simulator import Simulator

        made.append(Simulator(book=settings.phones_book, public_url=settings.own_url, rate_per_s=SIMULATOR_RATE))
    if not made:
        raise Misconfigured([NO_GATEWAY])
    return {gateway.name: gateway for gateway in made}


def _own_twilio(settings: Settings) -> Gateway:
    """The one that Twilio's own variables make."""
    from bot.gateways.twilio import Twilio

    assert settings.twilio_account_sid
    assert settings.twilio_auth_token
    return Twilio(
        name="twilio",
        account_sid=settings.twilio_account_sid,
        auth_token=settings.twilio_auth_token,
        sender=settings.twilio_from,
        messaging_service_sid=settings.twilio_messaging_service_sid,
        api_url=settings.twilio_api_url,
        rate_per_s=settings.twilio_rate,
    )


def _twilio(table: GatewaySettings) -> Gateway:
    from bot.gateways.twilio import Twilio

    values = table.values
    return Twilio(
        name=table.name,
        account_sid=values["account_sid"],
        auth_token=values["auth_token"],
        sender=table.senders or values.get("from"),
        messaging_service_sid=values.get("messaging_service_sid"),
        api_url=values.get("api_url", "https://api.twilio.com"),
        rate_per_s=table.rate_per_s,
    )


def _kannel(table: GatewaySettings) -> Gateway:
    from bot.gateways.kannel import Kannel

    return Kannel(name=table.name, rate_per_s=table.rate_per_s, **table.values)


_MAKERS: dict[str, Callable[[GatewaySettings], Gateway]] = {"kannel": _kannel, "twilio": _twilio}
"""Which adapter serves a kind; the kinds are those of `storage/programme/gateway_settings.py`."""
