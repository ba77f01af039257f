"""The addresses that gateways call: `/in/<gateway>` and `/status/<gateway>/<message id>`.

A gateway that signs nothing proves itself by a secret in its address, `/in/<gateway>/<secret>` and
`/status/<gateway>/<secret>/<message id>`; whether it is the right one only its adapter knows.

A request is built from the configured PUBLIC_URL and the raw address it came with, never from the Host header, and
nothing of it is logged.  A request that the gateway did not sign is 403 whatever is wrong with it; one that is taken is
answered only after the commit.  If nothing could be kept it is 503, so that the gateway tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from flask import Blueprint, Response
from flask import request as flask_request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import RequestEntityTooLarge

from bot import inbox
from bot.gateways.base import Forged, Gateway, Receipt, Request, Unreadable
from storage import messages
from storage.audit import Actor
from storage.database import Database, Lost

log = logging.getLogger(__name__)

LARGEST_BODY = 64 * 1024


def blueprint(db: Database, gateways: Mapping[str, Gateway], public_url: str) -> Blueprint:
    """The webhook addresses of these gateways."""
    hooks = Blueprint("webhooks", __name__)

    @hooks.post("/in/<name>")
    def inbound(name: str) -> Response:
        return _answer(name, take_inbound)

    @hooks.post("/status/<name>/<int(max=2147483647):message_id>")
    def status(name: str, message_id: int) -> Response:
        return _answer(name, lambda db, gateway, request: take_receipt(db, gateway, request, message_id))

    @hooks.route("/in/<name>/<secret>", methods=["GET", "POST"])
    def inbound_by_secret(name: str, secret: str) -> Response:
        del secret  # it stands in the address, where the adapter looks
        return _answer(name, take_inbound, signed=False)

    @hooks.route("/status/<name>/<secret>/<int(max=2147483647):message_id>", methods=["GET", "POST"])
    def status_by_secret(name: str, secret: str, message_id: int) -> Response:
        del secret
        take = lambda db, gateway, request: take_receipt(db, gateway, request, message_id)  # noqa: E731
        return _answer(name, take, signed=False)

    def _answer(name: str, take: Callable[[Database, Gateway, Request], int], *, signed: bool = True) -> Response:
        gateway = gateways.get(name)
        if gateway is None or gateway.capabilities.signed_webhooks != signed:
            return Response("no such gateway\n", 404, content_type="text/plain")
        try:
            request = _request(public_url)
        except RequestEntityTooLarge:
            # No gateway sends so much, and a signature over bytes that were not read cannot be checked.
            return _refusal(403)
        code = take(db, gateway, request)
        if code != 200:
            return _refusal(code)
        reply = gateway.reply()
        return Response(reply.body, 200, content_type=reply.content_type)

    return hooks


_SAID = {400: "this is not what the gateway sends", 403: "not signed by the gateway", 503: "cannot keep this now"}


def _refusal(code: int) -> Response:
    return Response(f"{_SAID[code]}\n", code, content_type="text/plain")


def take_inbound(db: Database, gateway: Gateway, request: Request) -> int:
    """Keep the texts of a signed request and act on each once; returns the HTTP status to answer."""
    return _guarded(gateway, request, lambda: [inbox.take(db, gateway.name, t) for t in gateway.parse_inbound(request)])


def take_receipt(db: Database, gateway: Gateway, request: Request, message_id: int) -> int:
    """Keep the receipts of a signed request; states only move forward; returns the HTTP status to answer."""
    return _guarded(
        gateway, request, lambda: [_keep(db, gateway.name, r) for r in gateway.parse_receipt(request, message_id)]
    )


def _guarded(gateway: Gateway, request: Request, act: Callable[[], object]) -> int:
    try:
        gateway.verify(request)
        act()
    except Forged:
        return 403
    except Unreadable as fault:
        # A gateway that is set up wrongly loses texts here, and only this line says so.
        log.warning("a webhook of %s was refused: %s", gateway.name, fault)
        return 400
    except (DBAPIError, PoolTimeout, Lost) as fault:
        log.error("a webhook of %s could not be kept: %s", gateway.name, type(fault).__name__)
        return 503
    return 200


def _keep(db: Database, gateway: str, receipt: Receipt) -> bool:
    with db.transaction() as tx:
        moved = messages.receive_receipt(
            tx,
            gateway=gateway,
            message_id=receipt.message_id,
            gateway_id=receipt.gateway_id,
            state=receipt.state,
            word=receipt.word,
            code=receipt.code,
        )
        # Only of our own message: after a restore the same number may stand for a text to another person.
        if receipt.opted_out and messages.is_ours(
            tx, gateway=gateway, message_id=receipt.message_id, gateway_id=receipt.gateway_id
        ):
            messages.note_opt_out(tx, receipt.message_id, by=Actor("gateway", None, f"receipt of {receipt.message_id}"))
    return moved


def _request(public_url: str) -> Request:
    """The request as the gateway made it.

    Werkzeug un-escapes its own `url`, which breaks the signature; the raw address stands in the server's environment
    (RAW_URI in gunicorn and in Werkzeug, REQUEST_URI elsewhere).
    """
    raw = flask_request.environ.get("RAW_URI") or flask_request.environ.get("REQUEST_URI") or flask_request.full_path
    path = raw if raw.startswith("/") else "/" + raw.split("://", 1)[-1].partition("/")[2]
    return Request(
        method=flask_request.method,
        url=public_url + path,
        headers={name.lower(): value for name, value in flask_request.headers.items()},
        body=flask_request.get_data(),
    )
