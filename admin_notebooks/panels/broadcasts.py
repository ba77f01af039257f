"""The panel of 03_broadcasts: choose whom, write in each language, look at it, let it go, halt it, correct it."""

from __future__ import annotations

from typing import Annotated, Any

from admin_notebooks import composer, delivery
from admin_notebooks.desk import Desk
from admin_notebooks.panels.panel import Panel, asset
from admin_notebooks.panels.verbs import Operation, Short, Words, many, named, text, verb

Texts = Annotated[dict[str, str], named(text(100), text(10_000), 100)]
"""A text in each language, by its code."""

Shorts = Annotated[list[str], many(text(100), 1_000)]


class Broadcasts(Panel):
    """Writing to many."""

    _esm = asset("desk.js", "sending.js", "broadcasts.js")
    _css = asset("desk.css", "sending.css")

    @verb("tell")
    def do_choices(self) -> dict[str, Any]:
        """Groups, fields and languages to choose from."""
        return composer.choices(self.desk)

    @verb("tell")
    def do_measure(self, text: Words) -> dict[str, Any]:
        """What a text costs."""
        return composer.measure(self.desk, text)

    @verb("tell")
    def do_look(
        self,
        texts: Texts,
        shorts: Shorts = [],  # noqa: B006 (nothing changes it)
        typed: Words = "",
        fixes: Operation | None = None,
        send_at: Short = "",
        instead_of: Operation | None = None,
    ) -> dict[str, Any]:
        """What a broadcast would do."""
        return composer.look(
            self.desk, texts, shorts=shorts, typed=typed, fixes=fixes, send_at=send_at, instead_of=instead_of
        )

    @verb("lead")
    def do_look_again(self, number: Operation) -> dict[str, Any]:
        """The same for a second lead."""
        return composer.look_again(self.desk, number)

    @verb("tell")
    def do_left_out(self, number: Operation) -> list[dict[str, Any]]:
        """Who would not get it."""
        return composer.list_left_out(self.desk, number)

    @verb("tell")
    def do_try(self, number: Operation, language: Short) -> str:
        """To oneself first."""
        return composer.try_on_me(self.desk, number, language)

    @verb("tell")
    def do_send(self, number: Operation, typed: Short, looked: bool = False) -> dict[str, Any]:
        """Let it go, once."""
        return composer.confirm(self.desk, number, typed, looked=looked)

    @verb("tell")
    def do_drop(self, number: Operation) -> bool:
        """Forget it."""
        return composer.put_away(self.desk, number)

    @verb("tell")
    def do_running(self) -> list[dict[str, Any]]:
        """What is open."""
        return composer.list_running(self.desk)

    @verb("read")
    def do_broadcast(self, number: Operation) -> dict[str, Any]:
        """One broadcast and how far it is."""
        return delivery.describe(self.desk, number)

    @verb("read")
    def do_recent(self) -> list[dict[str, Any]]:
        """The newest ten."""
        return delivery.list_broadcasts(self.desk, lapsed=False)[1][:10]

    @verb("tell")
    def do_halt(self, number: Operation) -> str:
        """Stop what has not left yet."""
        return composer.halt(self.desk, number)

    @verb("tell")
    def do_pause(self, number: Operation) -> str:
        """Let nothing more leave for now."""
        return composer.pause(self.desk, number)

    @verb("tell")
    def do_resume(self, number: Operation) -> str:
        """Let it go on."""
        return composer.resume(self.desk, number)


def panel(desk: Desk) -> Broadcasts:
    """The panel for a notebook's cell."""
    return Broadcasts(desk)
