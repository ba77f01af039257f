"""The fence of a restore: when the backup was made from which this database came back, and when it came back."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "programme",
        sa.Column(
            "backed_up_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="in a backup, and in what was restored from it: when it was made",
        ),
    )
    op.add_column(
        "programme",
        sa.Column(
            "restored_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="the fence: what was open in the backup is not sent by itself, what came in before is not acted on",
        ),
    )


def downgrade() -> None:
    op.drop_column("programme", "restored_at")
    op.drop_column("programme", "backed_up_at")
