"""A text to many: previewed, approved, launched, expanded into messages, paused, halted and counted."""
