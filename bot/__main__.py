"""`python -m bot` is the same as `jumbe`."""

import sys

from bot.cli import main

sys.exit(main())
