"""The panel of 03_broadcasts: choose whom, write in each language, look at it, let it go, halt it, correct it."""

from __future__ import annotations

from typing import Any

from admin_notebooks import delivery, telling
from admin_notebooks.desk import Desk
from admin_notebooks.ui.panel import Panel, asset


class Broadcasts(Panel):
    """Writing to many."""

    _esm = asset("desk.js", "sending.js", "broadcasts.js")
    _css = asset("desk.css", "sending.css")

    def do_choices(self) -> dict[str, Any]:
        """Groups, fields and languages to choose from."""
        return telling.choices(self.desk)

    def do_measure(self, text: str) -> dict[str, Any]:
        """What a text costs."""
        return telling.measure(self.desk, text)

    def do_look(self, **wish: Any) -> dict[str, Any]:
        """What a broadcast would do."""
        return telling.look(self.desk, **wish)

    def do_look_again(self, number: int) -> dict[str, Any]:
        """The same for a second lead."""
        return telling.look_again(self.desk, number)

    def do_left_out(self, number: int) -> list[dict[str, Any]]:
        """Who would not get it."""
        return telling.list_left_out(self.desk, number)

    def do_try(self, number: int, language: str) -> str:
        """To oneself first."""
        return telling.try_on_me(self.desk, number, language)

    def do_send(self, number: int, typed: str, *, looked: bool = False) -> dict[str, Any]:
        """Let it go, once."""
        return telling.confirm(self.desk, number, typed, looked=looked)

    def do_drop(self, number: int) -> bool:
        """Forget it."""
        return telling.put_away(self.desk, number)

    def do_running(self) -> list[dict[str, Any]]:
        """What is open."""
        return telling.list_running(self.desk)

    def do_broadcast(self, number: int) -> dict[str, Any]:
        """One broadcast and how far it is."""
        return delivery.describe(self.desk, number)

    def do_recent(self) -> list[dict[str, Any]]:
        """The newest ten."""
        return delivery.list_broadcasts(self.desk)[1][:10]

    def do_halt(self, number: int) -> str:
        """Stop what has not left yet."""
        return telling.halt(self.desk, number)

    def do_pause(self, number: int) -> str:
        """Let nothing more leave for now."""
        return telling.pause(self.desk, number)

    def do_resume(self, number: int) -> str:
        """Let it go on."""
        return telling.resume(self.desk, number)


def panel(desk: Desk) -> Broadcasts:
    """The panel for a notebook's cell."""
    return Broadcasts(desk)
