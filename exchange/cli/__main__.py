"""``python -m exchange.cli``: the command without its installed script, as the server starts its worker."""

from __future__ import annotations

from exchange.cli import main

if __name__ == "__main__":
    main(prog_name="exchange")
