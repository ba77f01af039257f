"""The panel of 04_delivery: the list of broadcasts, the funnel of one, its recipients, and why somebody did not get it."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import pandas as pd

from admin_notebooks import delivery, plots
from admin_notebooks.desk import Desk
from admin_notebooks.panels.panel import Panel, asset
from admin_notebooks.panels.uploads import bytes_of
from admin_notebooks.panels.verbs import Line, Number, Operation, Pixels, Short, choice, verb

Part = Annotated[str, choice("", delivery.NO_REPLY, *delivery.PARTS)]
"""A part of the funnel; blank: all of it."""


class Delivery(Panel):
    """What became of broadcasts."""

    _esm = asset("desk.js", "sending.js", "delivery.js")
    _css = asset("desk.css", "sending.css")

    @verb("read")
    def do_list(self, first: Number = 0) -> dict[str, Any]:
        """Fifty broadcasts, newest first."""
        count, rows = delivery.list_broadcasts(self.desk, first=first)
        return {"count": count, "rows": rows}

    @verb("read")
    def do_broadcast(self, number: Operation) -> dict[str, Any]:
        """One broadcast with its funnel."""
        return delivery.describe(self.desk, number)

    @verb("read")
    def do_recipients(
        self, number: Operation, part: Part = "", reason: Line = "", search: Line = "", first: Number = 0
    ) -> dict[str, Any]:
        """A hundred recipients of a part."""
        count, rows = delivery.list_recipients(self.desk, number, part=part, reason=reason, search=search, first=first)
        return {"count": count, "rows": rows}

    @verb("read")
    def do_why(self, number: Operation, typed: Line) -> dict[str, Any]:
        """Why somebody got it or not."""
        return delivery.why(self.desk, number, typed)

    @verb("read")
    def do_picture(self, number: Operation, width: Pixels) -> bytes:
        """Sent and delivered over time, as SVG for a place of so many pixels."""
        told = delivery.describe(self.desk, number)
        return over_time(self.desk, number, told["recipients"]).fitted(width).encode()

    @verb("read")
    def do_export(self, number: Operation, part: Part = "") -> bytes:
        """Every recipient as a workbook."""
        return bytes_of(functools.partial(delivery.write_sheet, self.desk, number=number, part=part))

    @verb("change")
    def do_gather(
        self, number: Operation, part: Part, short: Short, name: Line = "", reason: Line = ""
    ) -> dict[str, Any]:
        """A group of those in a part."""
        return self.propose(delivery.gather(self.desk, number, part, short, name, reason=reason))


def over_time(desk: Desk, number: int, recipients: int) -> plots.Picture:
    """Sent and delivered over time, by the programme's clock."""
    moments = pd.DataFrame(delivery.over_time(desk, number), columns=["at", "sent", "delivered"])
    moments["at"] = pd.to_datetime(moments["at"], utc=True).dt.tz_convert(desk.db.rules.time_zone)
    return plots.delivered(moments.set_index("at"), recipients)


def panel(desk: Desk) -> Delivery:
    """The panel for a notebook's cell."""
    return Delivery(desk)
