"""How much an operation changed without a code, so that many small ones can be counted together."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COUNTED = sa.text("at_once IS NOT NULL")
TRIES, MORE = "code: a wrong one; lookup: nobody was found", "; and what else is counted"


def upgrade() -> None:
    op.add_column(
        "operations",
        sa.Column(
            "at_once", sa.Integer(), nullable=True, comment="how many it changed without a code; blank: by a code"
        ),
    )
    for name, column in (("operations_at_once", "person_id"), ("operations_at_once_by_group", "group_id")):
        op.create_index(
            name, "operations", [column, "asked_at"], sqlite_where=COUNTED, postgresql_where=COUNTED
        )  # fmt: skip
    _comment_tries(TRIES + MORE)


def downgrade() -> None:
    _comment_tries(TRIES)
    for name in ("operations_at_once_by_group", "operations_at_once"):
        op.drop_index(name, "operations")
    op.drop_column("operations", "at_once")


def _comment_tries(words: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"COMMENT ON COLUMN tries.kind IS '{words}'")
