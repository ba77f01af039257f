"""Print into the pages what a program can print: schema, states, commands, settings, gateways.

`make pages` writes them; tests/test_documented.py fails where a page is not what the program says.
A printed part stands between `<!-- printed: name -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path

from tests.rooms import TESTS, rooms

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "storage/README.md", "bot/README.md", "admin_notebooks/README.md", "tests/README.md")
_PART = re.compile(r"(<!-- printed: (\w+) -->\n).*?(<!-- end -->)", re.S)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def schema() -> str:
    """Every table: what it is, and its columns."""
    from storage.schema import metadata

    parts = []
    for table in metadata.sorted_tables:
        parts += [f"**{table.name}**: {table.comment}", "", _row("column", "type", "about"), _row("---", "---", "---")]
        for column in table.columns:
            kind = str(column.type.compile()).lower().replace("datetime", "moment")
            about = column.comment or ""
            if column.foreign_keys:
                about = f"{next(iter(column.foreign_keys)).target_fullname}. {about}".strip()
            parts.append(_row(f"`{column.name}`", kind + ("" if column.nullable else ", always"), about))
        unique = sorted(i.name for i in table.indexes if i.unique and i.name)
        if unique:
            parts += ["", "Held by the database: " + ", ".join(f"`{name}`" for name in unique) + "."]
        parts.append("")
    return "\n".join(parts).rstrip()


def _moves(meanings: Mapping[str, str], moves: Mapping[str, Collection[str]]) -> str:
    lines = [_row("state", "means", "may become"), _row("---", "---", "---")]
    lines += [_row(f"`{s}`", meanings[s], ", ".join(sorted(to)) or "nothing else") for s, to in moves.items()]
    return "\n".join(lines)


def states() -> str:
    """The states of an outgoing message, and what each may become."""
    from storage.messages.states import MEANINGS, MOVES

    return _moves(MEANINGS, MOVES)


def broadcast_states() -> str:
    """The states of a broadcast, and what each may become."""
    from storage.broadcasts.states import MEANINGS, MOVES

    return _moves(MEANINGS, MOVES)


def operation_states() -> str:
    """The states of an operation, and what each may become."""
    from storage.operations.states import MEANINGS, MOVES

    return _moves(MEANINGS, MOVES)


def conversations() -> str:
    """The states of a conversation, and what each may become; then its kinds."""
    from storage.conversations.conversations import KINDS, MOVES

    lines = [_row("state", "may become"), _row("---", "---")]
    lines += [_row(f"`{state}`", ", ".join(sorted(to)) or "nothing else") for state, to in MOVES.items()]
    lines += ["", _row("kind", "interrupts what is open", "waits for an answer"), _row("---", "---", "---")]
    for name, kind in KINDS.items():
        lines.append(
            _row(f"`{name}`", "yes" if kind.interrupts else "no", f"{kind.life.days} days" if kind.life else "for ever")
        )
    return "\n".join(lines)


def channels() -> str:
    """The channels by which a message goes."""
    from storage.rules.channels import CHANNELS

    names = (
        "channel",
        "address of a case",
        "compared by",
        "at most",
        "counted in",
        "consent",
        "quiet hours",
        "gateway",
    )
    lines = [_row(*names), _row(*["---"] * len(names))]
    for c in CHANNELS.values():
        decided = "by its case, its number or the default" if c.by_phone else "the channel's own"
        holds = ["yes" if each else "no" for each in (c.needs_consent, c.keeps_quiet_hours)]
        columns = (f"`{c.of_case}`", f"`{c.key_of_case}`")
        lines.append(_row(f"`{c.name}`", *columns, f"{c.limit} characters", c.counted_as, *holds, decided))
    return "\n".join(lines)


def phone_plans() -> str:
    """Where a phone is written otherwise today than before, and by which source."""
    from storage.rules.phone_keys import plans

    lines = [_row("code", "country", "since", "by"), _row("---", "---", "---", "---")]
    return "\n".join(lines + [_row(p.code, p.country, p.since, p.source) for p in plans().values()])


def rights() -> str:
    """Which role has which right."""
    from storage.contacts.people import RIGHTS

    lines = [_row("role", "rights"), _row("---", "---")]
    return "\n".join(lines + [_row(role, ", ".join(sorted(rights))) for role, rights in RIGHTS.items()])


def commands() -> str:
    """The commands of a text, from their registry."""
    import bot.commands  # noqa: F401  registers them
    from bot.commands.registry import table

    return table()


def settings() -> str:
    """Every setting with its default."""
    from storage.programme.settings import Settings, table

    lines = [_row("name", "default", "meaning"), _row("---", "---", "---")]
    return "\n".join(lines + [_row(f"`{s['name']}`", s["default"], s["meaning"]) for s in table(Settings())])


def gateways() -> str:
    """What each gateway can do."""
    from bot.gateways import configured
    from bot.gateways.base import Capabilities
    from storage.programme.gateway_settings import GatewaySettings
    from storage.programme.settings import Settings, read

    url = {"PUBLIC_URL": "https://sms.example.org", "TWILIO_FROM": "+15005550006"}
    account = {"TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": "x"}
    made = [configured(read(url | account)), configured(read({"JUMBE_SIMULATOR": "1"}))]
    words = {"url": "http://127.0.0.1:13013/cgi-bin/sendsms", "username": "x", "password": "x", "webhook_secret": "x"}
    kannel = GatewaySettings("kannel", "kannel", 1.0, words | {"sender": "1234"})
    made.append(configured(Settings(gateways={"kannel": kannel})))
    names = [f.name for f in fields(Capabilities)]
    lines = [_row("gateway", *[n.replace("_", " ") for n in names]), _row(*["---"] * (len(names) + 1))]
    for adapter in [gateway for gateways in made for gateway in gateways.values()]:
        can = [getattr(adapter.capabilities, name) for name in names]
        shown = [("yes" if c else "no") if isinstance(c, bool) else c for c in can]
        lines.append(_row(adapter.kind, *shown))
    return "\n".join(lines)


def command_line() -> str:
    """Every branch of the command line and its leaves."""
    import click

    from bot.cli import jumbe

    lines = [_row("command", "does"), _row("---", "---")]
    context = click.Context(jumbe)
    for name in jumbe.list_commands(context):
        branch = jumbe.get_command(context, name)
        assert branch is not None
        leaves = sorted(branch.commands.items()) if isinstance(branch, click.Group) else [("", branch)]
        if isinstance(branch, click.Group) and branch.invoke_without_command:
            leaves = [("", branch), *leaves]
        lines += [_row(f"`{f'jumbe {name} {leaf}'.strip()}`", c.get_short_help_str(200)) for leaf, c in leaves]
    return "\n".join(lines)


def checks() -> str:
    """What an audit looks for; read from the source, for the page must be held also where the desk is not installed."""
    import ast

    source = (ROOT / "admin_notebooks" / "checks.py").read_text(encoding="utf-8")
    (table,) = [
        n.value for n in ast.parse(source).body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "CHECKS"
    ]
    assert isinstance(table, ast.Dict)
    lines = [_row("check", "finds", "mended by"), _row("---", "---", "---")]
    for key, made in zip(table.keys, table.values, strict=True):
        assert isinstance(key, ast.Constant)
        assert isinstance(made, ast.Call)
        title, mends = (ast.literal_eval(argument) for argument in made.args[:2])
        lines.append(_row(f"`{key.value}`", title, mends))
    return "\n".join(lines)


def _modules(folder: str) -> str:
    """Every module below a folder and the first sentence of what it says of itself; of a room its own first sentence."""
    import ast

    lines = [_row("module", "about"), _row("---", "---")]
    for path in sorted((ROOT / folder).rglob("*.py"), key=lambda path: (path.parent != ROOT / folder, path)):
        if "migrations" in path.parts or path == ROOT / folder / "__init__.py":
            continue
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        about = " ".join(re.split(r"\n\n|(?<=[.])\s", doc, maxsplit=1)[0].split())
        name = path.relative_to(ROOT / folder).as_posix().removesuffix("__init__.py")
        lines.append(_row(f"**`{name}`**" if name.endswith("/") else f"`{name}`", about))
    return "\n".join(lines)


def store_modules() -> str:
    """The rooms of the store and their modules."""
    return _modules("storage")


def bot_modules() -> str:
    """The rooms of the bot and their modules."""
    return _modules("bot")


def desk_modules() -> str:
    """The modules of the desk."""
    return _modules("admin_notebooks")


def test_rooms() -> str:
    """The rooms of the tests and the files in each."""
    lines = [_row("room", "files of tests"), _row("---", "---")]
    for folder in ("", *rooms()):
        names = sorted(path.stem.removeprefix("test_") for path in (TESTS / folder).glob("test_*.py"))
        lines.append(_row(f"`{folder}`" if folder else "the whole", ", ".join(names)))
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        schema,
        states,
        channels,
        phone_plans,
        conversations,
        broadcast_states,
        operation_states,
        rights,
        commands,
        settings,
        gateways,
        command_line,
        checks,
        store_modules,
        bot_modules,
        desk_modules,
        test_rooms,
    )
}


def printed(text: str) -> str:
    """A page with every printed part as the program says it now."""
    return _PART.sub(lambda m: f"{m[1]}{PARTS[m[2]]()}\n{m[3]}", text)


def main() -> None:
    """Write every page."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(printed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
