"""The gateways: one file each, beside `base.py` which says what a gateway is.  A new one is a file, a test and a line here."""

from __future__ import annotations

from bot.gateways.base import Gateway
from storage.errors import Misconfigured
from storage.settings import SIMULATOR_RATE, Settings


def configured(settings: Settings) -> dict[str, Gateway]:
    """The gateways that the settings make, by name.  None at all is a fault: the simulator is never chosen by accident."""
    if settings.has_twilio:
        from bot.gateways.twilio import Twilio

        assert settings.twilio_account_sid
        assert settings.twilio_auth_token
        twilio = Twilio(
            name="twilio",
            account_sid=settings.twilio_account_sid,
            auth_token=settings.twilio_auth_token,
            sender=settings.twilio_from,
            messaging_service_sid=settings.twilio_messaging_service_sid,
            api_url=settings.twilio_api_url,
            rate_per_s=settings.twilio_rate,
        )
        return {twilio.name: twilio}
    if settings.simulator:
        from bot.gateways.simulator import Simulator

        return {
            "simulator": Simulator(book=settings.phones_book, public_url=settings.own_url, rate_per_s=SIMULATOR_RATE)
        }
    raise Misconfigured(
        [
            "no gateway is set: set TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, TWILIO_FROM and PUBLIC_URL, "
            "or rehearse without one by 'jumbe demo'"
        ]
    )
