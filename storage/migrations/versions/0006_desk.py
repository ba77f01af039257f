"""Who signs in at the desk: the hash of a person's password."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "its argon2 hash; without one a person does not sign in at the desk"
    op.add_column("people", sa.Column("password", sa.Text(), nullable=True, comment=comment))


def downgrade() -> None:
    op.drop_column("people", "password")
