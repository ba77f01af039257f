"""The door for texts: webhooks, commands, gateways and the processes that run them."""

import storage  # noqa: F401  chooses the SQLite library before any other import can
