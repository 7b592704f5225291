"""`python -m exchange.witness`."""

from __future__ import annotations

import sys

from exchange.witness.commands import main

sys.exit(main())
