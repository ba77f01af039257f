"""The way of a typed text from its handset to us, with the faults that are switched on.

Without a fault a text is taken at once, in the request that typed it.  With one it may be lost, come later, overtake
another, or come twice; what is still on its way stands in the simulator's book, so that a web process that starts anew
carries it on.  It comes as every text does: a signed request, taken by `intake.take_inbound`.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from bot.gateways.base import Request
from bot.gateways.simulator import Simulator
from bot.gateways.simulator_network import Typed
from bot.inbound import intake
from storage.database import Database

LOOK_S = 0.1
AGAIN = timedelta(seconds=1)


class Air:
    """Between the handsets of a simulator and us."""

    def __init__(self, db: Database, simulator: Simulator) -> None:
        """Nothing is on its way yet but what the book holds; `carry` goes on with that."""
        self._db = db
        self._simulator = simulator
        self._lock = threading.Lock()
        self._carrier: threading.Thread | None = None

    def send(self, phone: str, body: str) -> int:
        """Let a text leave its handset; returns the HTTP status, which is 200 also where it is lost or late."""
        network = self._simulator.network
        request = self._simulator.originate(phone, body)
        faults = network.faults()
        if not faults.any:
            return self._take(request)
        number = f"typed {network.count_typed()}"
        lost, in_s = faults.strikes("lost_texts", number), faults.on_its_way_s(number)
        if lost or in_s:
            network.send_off(request, lost=lost, in_s=in_s)
            self.carry(network.under_way())
            return 200
        return self._take(request, twice=faults.twice)

    def carry(self, under_way: list[Typed]) -> None:
        """See that what is on its way comes to us; costs nothing where nothing is."""
        if not any(text.due_at for text in under_way):
            return
        with self._lock:
            if self._carrier is None or not self._carrier.is_alive():
                self._carrier = threading.Thread(target=self._carry_on, name="air", daemon=True)
                self._carrier.start()

    def _carry_on(self) -> None:
        """Until nothing is on its way: take what is due, in the order in which it is."""
        not_before: dict[str, datetime] = {}
        while coming := [text for text in self._simulator.network.under_way() if text.due_at]:
            for text in sorted(coming, key=lambda text: text.due_at or text.at):
                now = datetime.now(UTC)
                if max(text.due_at or now, not_before.get(text.gateway_id, now)) > now:
                    continue
                if self._take(text.request, twice=self._simulator.network.faults().twice) == 503:
                    not_before[text.gateway_id] = now + AGAIN  # a gateway asks again
                else:
                    self._simulator.network.came(text.gateway_id)
            time.sleep(LOOK_S)

    def _take(self, request: Request, *, twice: bool = False) -> int:
        status = intake.take_inbound(self._db, self._simulator, request)
        return intake.take_inbound(self._db, self._simulator, request) if twice and status == 200 else status
