"""The addresses that gateways call: `/in/<gateway>` and `/status/<gateway>/<message id>`.

A gateway that signs nothing proves itself by a secret in its address, `/in/<gateway>/<secret>` and
`/status/<gateway>/<secret>/<message id>`; whether it is the right one only its adapter knows.

A request is built from the configured PUBLIC_URL and the raw address it came with, never from the Host header, and
nothing of it is logged.  A request that the gateway did not sign is 403 whatever is wrong with it; one that is taken is
answered only after the commit.  While the database cannot keep it, a signed request is kept in a file beside it
(`inbound/spool.py`), and so are those that come after it, so that all are acted on in order.  If nothing could be kept it is 503, so
that the gateway tries again.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Response
from flask import request as flask_request
from werkzeug.exceptions import RequestEntityTooLarge

from bot.gateways.base import Gateway, Request
from bot.inbound.intake import spool_of, take
from bot.inbound.spool import Kept, Spool
from storage.database import Database

LARGEST_BODY = 64 * 1024


def blueprint(db: Database, gateways: Mapping[str, Gateway], public_url: str, spool: Spool | None = None) -> Blueprint:
    """The webhook addresses of these gateways; `spool` is the one of this database where none is given."""
    behind = spool or spool_of(db)
    hooks = Blueprint("webhooks", __name__)

    @hooks.post("/in/<name>")
    def inbound(name: str) -> Response:
        return _answer(name, None)

    @hooks.post("/status/<name>/<int(max=2147483647):message_id>")
    def status(name: str, message_id: int) -> Response:
        return _answer(name, message_id)

    @hooks.route("/in/<name>/<secret>", methods=["GET", "POST"])
    def inbound_by_secret(name: str, secret: str) -> Response:
        del secret  # it stands in the address, where the adapter looks
        return _answer(name, None, signed=False)

    @hooks.route("/status/<name>/<secret>/<int(max=2147483647):message_id>", methods=["GET", "POST"])
    def status_by_secret(name: str, secret: str, message_id: int) -> Response:
        del secret
        return _answer(name, message_id, signed=False)

    def _answer(name: str, message_id: int | None, *, signed: bool = True) -> Response:
        gateway = gateways.get(name)
        if gateway is None or gateway.capabilities.signed_webhooks != signed:
            return Response("no such gateway\n", 404, content_type="text/plain")
        try:
            request = _request(public_url)
        except RequestEntityTooLarge:
            # No gateway sends so much, and a signature over bytes that were not read cannot be checked.
            return _refusal(403)
        code = take(db, gateways, Kept(name, request, message_id, db.clock()), behind)
        if code != 200:
            return _refusal(code)
        reply = gateway.reply()
        return Response(reply.body, 200, content_type=reply.content_type)

    return hooks


_SAID = {400: "this is not what the gateway sends", 403: "not signed by the gateway", 503: "cannot keep this now"}


def _refusal(code: int) -> Response:
    return Response(f"{_SAID[code]}\n", code, content_type="text/plain")


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
