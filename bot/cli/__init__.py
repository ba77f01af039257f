"""`jumbe`, the command line: one tree to which each door adds its branches by entry points, imported when used.

A person's mistake is one clear sentence and exit 2, never a traceback.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
from sqlalchemy.exc import DBAPIError, OperationalError

from storage.console import printable, sentence
from storage.errors import Misconfigured, Problem


class Branches(click.Group):
    """A group whose commands are found by entry points and imported only when named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The words that may follow `jumbe`."""
        del ctx
        return sorted(entry.name for entry in entry_points(group="jumbe.commands"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The branch of this name, imported now."""
        del ctx
        found = entry_points(group="jumbe.commands", name=cmd_name)
        command: click.Command | None = next((entry.load() for entry in found), None)
        return command


@click.command(cls=Branches, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jumbe")
def jumbe() -> None:
    """A programme texts its cases, and supervisors run it all from any phone."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        result = jumbe.main(args=arguments, prog_name="jumbe", standalone_mode=False)
        sys.stdout.flush()  # here, where a pipe that was closed is heard of
    except Problem as problem:
        return _say(sentence(problem))
    except Misconfigured as fault:
        return _say(*fault.faults)
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.format_message())
        return 0
    except click.ClickException as mistake:
        return _say(mistake.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _say("stopped; nothing further was done")
    except OperationalError as fault:
        return _say(f"the database did not answer: {str(fault.orig).splitlines()[0]}. Try again in a moment")
    except DBAPIError as fault:
        return _say(f"the database cannot be used: {str(fault.orig).splitlines()[0]}")
    except BrokenPipeError:
        _stop_printing()
        return 0
    except UnicodeEncodeError:
        return _say("what was typed has bytes in it that are no letters (UTF-8): type it again")
    except OSError as fault:
        where = f"{Path(os.fsdecode(fault.filename)).name[:60]}: " if isinstance(fault.filename, str | bytes) else ""
        return _say(f"{where}{fault.strerror or fault}")
    return result if isinstance(result, int) else 0


def _stop_printing() -> None:
    """Nobody reads any more (`| head`): what is still in the buffer goes nowhere, without a word at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _say(*sentences: str) -> int:
    for told in sentences:
        click.echo(f"jumbe: {printable(told)}", err=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
