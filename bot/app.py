"""The web process as a Flask application: webhooks, health, and the virtual phones on a rehearsal database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, redirect, request

from bot import health, webhooks
from bot.gateways.base import Gateway
from bot.inbound.intake import spool_of
from storage.database import Database


class _Discreet(Flask):
    """A Flask that logs no address: that of a gateway without signatures holds its secret."""

    def log_exception(self, exc_info: Any) -> None:
        """The route and the kind of the fault; neither its sentence nor the address."""
        self.logger.error("%s at %s", exc_info[0].__name__, request.url_rule or "no address of ours")


def create_app(db: Database, gateways: Mapping[str, Gateway], public_url: str, *, spool: str | None = None) -> Flask:
    """The application that serves these gateways under this public address; `spool` is a file."""
    app = _Discreet(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = webhooks.LARGEST_BODY
    kept = spool_of(db, spool)
    app.register_blueprint(webhooks.blueprint(db, gateways, public_url, kept))
    app.register_blueprint(health.blueprint(db, kept))
    if "simulator" in gateways:
        from bot import phones
        from bot.gateways.simulator import Simulator

        simulator = gateways["simulator"]
        assert isinstance(simulator, Simulator)
        app.register_blueprint(phones.blueprint(db, simulator))
        app.add_url_rule("/", "front", lambda: redirect("/phones"))

    @app.errorhandler(500)
    def _fault(_fault: Exception) -> Response:
        return Response("something went wrong here; it is written down\n", 500, content_type="text/plain")

    return app


def meets_its_stamp(db: Database, gateways: Mapping[str, Gateway]) -> list[str]:
    """Faults of a rehearsal database with a real gateway, or of the simulator on a real one."""
    from storage.database import is_rehearsal

    with db.reading() as tx:
        rehearsal = is_rehearsal(tx)
    simulated = "simulator" in gateways
    if rehearsal and not simulated:
        return [
            f"{db.shown} is a rehearsal database and never meets a real gateway: make another with 'jumbe db upgrade'"
        ]
    if simulated and not rehearsal:
        return [f"{db.shown} is for real use: rehearse on one that 'jumbe demo' made"]
    return []
