"""``fastconv layers``: every layer that a model can name, and where it comes from."""

from __future__ import annotations

import argparse

from fastconv.cli.tables import plural, table


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "layers",
        help="list every registered layer and the package it comes from",
        description="List every layer that a model can use: fastconv's own and those of installed packages.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a table of the layers; a plugin's are named from its metadata, without importing it."""
    from fastconv import layers

    rows = [["layer", "from", "what it does"]]
    for entry in layers.entries():
        if entry.error:
            what = "(broken: see `fastconv plugins`)"
        else:
            what = _first_line(layers.get(entry.name)) if entry.loaded else "(not imported yet)"
        rows.append([entry.name, entry.source, what])
    print(table(rows))
    print(f"\n{plural(len(rows) - 1, 'layer')}")
    return 0


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0].replace("`", "")
