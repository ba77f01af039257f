"""Texts in and out: their states and moves, the queue, receipts, what a gateway proves, and the life of each.

The row is the queue: work is found by looking at state, and a restart continues it.
"""
