"""How one release's schema becomes the next: Alembic, one revision per change."""
