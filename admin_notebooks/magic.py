"""`%%sms --from PHONE`: what the bot answers to the texts of a cell, one a line.

`%load_ext admin_notebooks.magic` brings it.  By itself it is a rehearsal, and everything is taken back; `CODE` in a line
stands for the code that an answer before it showed.  With `--live` the texts count, after a question.
"""

from __future__ import annotations

import shlex
from typing import Any

from admin_notebooks import lab
from admin_notebooks.desk import Desk, open_desk
from storage.console import sentence
from storage.errors import Misconfigured, Problem

USAGE = "%%sms --from PHONE [--live]: each line below it is one text."


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext admin_notebooks.magic` calls."""
    shell.register_magic_function(sms, "cell", "sms")


def sms(line: str, cell: str) -> None:
    """Print what the bot answers to each line; a person's mistake is one sentence."""
    try:
        phone, live = _asked(line)
        desk = open_desk("sms lab")
        texts = [text for text in cell.splitlines() if text.strip()]
        if live and not _sure(desk, phone, len(texts)):
            print("Nothing was sent and nothing has changed.")
            return
        print("\n".join(converse(desk, phone, texts, live=live)))
    except Problem as problem:
        print(sentence(problem))
    except Misconfigured as fault:
        print("\n".join(fault.faults))


def converse(desk: Desk, phone: str, texts: list[str], *, live: bool = False) -> list[str]:
    """The conversation, a line each."""
    lines = [] if live else ["a rehearsal: nothing left, nothing was kept", ""]
    for turn in lab.converse(desk, phone, texts, live=live):
        lines.append(f"{phone}  >  {turn['text']}   ({turn['taken_for']})")
        lines += [f"    to {out['to']}, {out['parts']} SMS: {out['body']}" for out in turn["out"]]
    return lines


def _asked(line: str) -> tuple[str, bool]:
    words = shlex.split(line)
    live = "--live" in words
    words = [word for word in words if word != "--live"]
    if len(words) != 2 or words[0] != "--from":
        raise Problem("lab-usage", usage=USAGE)
    return words[1], live


def _sure(desk: Desk, phone: str, count: int) -> bool:
    """Whether somebody types the programme's name."""
    name = desk.db.rules.name
    typed = input(f"{count} texts from {phone} will count in {name}, and answers will be sent. Type {name} to go on: ")
    return typed.strip() == name
