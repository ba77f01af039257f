"""Numbered things that a person asked for: what waits for a code, what was done, and what can be taken back."""
