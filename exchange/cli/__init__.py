"""One command, ``exchange``: operators run the exchange with it, everybody else uses one.

Only ``click`` is imported to print the help: a command imports what it needs when it runs, so that everything
but the operators' commands works without a server's packages. Exit codes: :mod:`exchange.cli.failures`.
"""

from __future__ import annotations

import click

from exchange.cli import (
    access,
    alerting,
    auditing,
    backups,
    books,
    control,
    jobs,
    layouts,
    licences,
    master_keys,
    members,
    operating,
    orders,
    paying,
    prices,
    programs,
    questions,
    signing,
)
from exchange.cli.commands import Commands
from exchange.version import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="exchange")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """A data exchange that people can trust with data about people.

    Exit codes: 0 good, 1 a broken law (check), 2 usage, 3 refused by licence, policy or role, 4 privacy
    budget, 5 payment, 6 the exchange, 10-16 audit verification.
    """
    del debug  # read by Commands


for room in (
    operating,
    backups,
    members,
    layouts,
    master_keys,
    programs,
    access,
    licences,
    orders,
    prices,
    paying,
    questions,
    jobs,
    books,
    auditing,
    alerting,
    signing,
    control,
):
    room.add_to(main)
