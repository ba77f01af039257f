"""The virtual phones of a rehearsal."""
