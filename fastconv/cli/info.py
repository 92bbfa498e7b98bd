"""``fastconv info``: the version, the instruction set, OpenMP and the threads in use, and why."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "info",
        help="show version, instruction set and number of threads",
        description="Show the version, the instruction sets, OpenMP, and the number of threads with the reason for it.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the configuration."""
    import fastconv

    fastconv.show_config()
    return 0
