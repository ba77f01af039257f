"""`jumbe settings` and `jumbe doctor`: what is set, and whether all is well."""

from __future__ import annotations

import shutil
import textwrap

import click

from storage import private_files
from storage.console import as_json, named_database, open_database, printable, show, show_one
from storage.contacts import lookup
from storage.errors import Misconfigured
from storage.programme import routing
from storage.programme import settings as settings_module
from storage.programme.settings import Settings
from storage.rules import numbers


@click.command()
@as_json
def settings(*, json_: bool) -> None:
    """Every setting: its value now, its default, what it means; exit 2 if one is wrong."""
    told, faults = settings_module.look()
    # Shown also where something is wrong: who mistyped a name is sent here for the right one.
    show(settings_module.table(told), json_=json_, columns=("name", "value", "meaning"))
    for caution in _cautions(told):
        click.echo(f"jumbe: {caution}", err=True)
    if faults:
        raise Misconfigured(faults)


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, *, json_: bool) -> None:
    """Look at everything that can be wrong, and say how to mend it; exit 1 if anything is."""
    from bot import health
    from bot.gateways import NO_GATEWAY
    from bot.inbound.intake import spool_of

    told = settings_module.read()
    db = named_database(told, tighten=False)
    # First: a database that is opened gets further files, which go again.
    owned = health.owned(private_files.of_programme(db.file, told.spool))
    found = [*health.examine(db), health.spooled(spool_of(db, told.spool)), owned]
    gateway = ", ".join(told.gateway_names)
    shown = gateway or f"{NO_GATEWAY}; until then web and worker will not start"
    found.append(("gateway", bool(gateway), shown))
    if cautions := _cautions(told):
        found.append(("settings", False, "; ".join(cautions)))
    if json_:
        show([{"about": n, "well": w, "says": s} for n, w, s in found], json_=True)
    else:
        for name, well, says in found:
            _tell(name, says, well=well)
    ctx.exit(0 if all(well for _, well, _ in found) else 1)


def _cautions(told: Settings) -> list[str]:
    """What is set and does nothing, or something else than whoever set it may think."""
    from bot.replies import languages

    there = languages()
    cautions = settings_module.cautions()
    if not {told.language.casefold(), told.language.casefold().partition("-")[0]} & set(there):
        cautions.append(
            f"JUMBE_LANGUAGE is {told.language!r}, in which the bot has no sentences: it answers in English; there are"
            f" {', '.join(there)}"
        )
    return cautions


_ABOUT = 10
"""Characters before the sentence: the name, and whether it is well."""


def _tell(name: str, says: str, *, well: bool) -> None:
    """One thing and its whole sentence, wrapped: its end is what to do."""
    begin = f"{name:<{_ABOUT}}{'yes' if well else 'no':<5}"
    width = max(60, shutil.get_terminal_size().columns - 1)
    told = textwrap.fill(
        printable(says), width, initial_indent=begin, subsequent_indent=" " * len(begin),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    click.echo(told)


@click.command()
@click.argument("number", required=False)
@click.option("--case", "identifier", help="A case by phone, external id or case id: its own gateway counts first.")
@as_json
def route(number: str | None, identifier: str | None, *, json_: bool) -> None:
    """By which gateway a number, or a case, would be texted, and why."""
    if not number and identifier is None:
        raise click.UsageError("say a number, or a case by --case")
    db = open_database()
    own = None
    if identifier is not None:
        with db.reading() as tx:
            case = lookup.find_one(tx, identifier)
        own, number = case.contact_backend_id, number or case.contact_phone_number or ""
    digits = numbers.read(number, country=db.rules.country).digits if number else ""
    choice = routing.choose(db.rules, digits, own)
    without = "" if number else ", once the case has a number"
    show_one({"gateway": choice.gateway, "because": _because(choice) + without}, json_=json_)


def _because(choice: routing.Choice) -> str:
    """Why this gateway, in words."""
    if choice.because == "case":
        told = "the case is set to it"
        return told if choice.is_known else f"{told}, but there is no such gateway: its texts are withheld"
    if choice.because == "prefix":
        return f"numbers that begin with {choice.prefix} go by it"
    return "it is the default" if choice.because == "default" else "no gateway is set"
