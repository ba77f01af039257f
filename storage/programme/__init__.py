"""What holds for the programme as a whole: its settings, its gateways and how fast they may be used, its workers.

The operator sets it; nothing here belongs to a single case, person or message.
"""
