"""The supervisor's language: `commands/dispatch.py` reads a text, one module per noun answers it.

A new command is one function in the module of its noun, under `@command` (`commands/registry.py`), and its sentences in
`bot/locales`: two files.
"""

from bot.commands import broadcasts, cases, groups, operations  # noqa: F401  each registers its commands
