"""``fastconv plugins``: what installed packages add, whether it can be imported, and what is wrong where it cannot."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from fastconv.cli.options import positive_number
from fastconv.cli.tables import plural, table

if TYPE_CHECKING:
    from fastconv.plugins import Plugin


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plugins",
        help="what installed packages add, and what is wrong with it",
        description="List the layers, losses, optimizers, callbacks, data sets and networks of installed packages. Each is "
        "imported in a process of its own, so that a broken one harms nothing; the exit code is 1 where one is broken.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: a list of objects")
    parser.add_argument("--verbose", action="store_true", help="print where each error came from")
    parser.add_argument(
        "--timeout", type=positive_number, default=30.0, metavar="S", help="seconds that one import may take (30)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table and the errors below it, or JSON."""
    from fastconv import discovery, plugins

    found = plugins.examine(timeout=options.timeout)
    broken = [plugin for plugin in found if plugin.error]
    if options.json:
        print(json.dumps([_as_json(plugin, details=options.verbose) for plugin in found], indent=2))
    elif discovery.disabled():
        print(f"{discovery.DISABLE} is set: there are no plugins")
    elif not found:
        print("no installed package has plugins for fastconv; `fastconv new-plugin NAME` writes one")
    else:
        rows = [["kind", "name", "package", "version", "state"]]
        rows += [[p.kind, p.name, p.package, p.version, "broken" if p.error else "good"] for p in found]
        print(table(rows))
        print(f"\n{plural(len(found), 'plugin')}, {len(broken) or 'none'} broken")
        for plugin in broken:
            print(f"\n{plugin.name} of {plugin.package} {plugin.version}: {plugin.error}")
            if options.verbose and plugin.details:
                print(plugin.details.rstrip())
    return 1 if broken else 0


def _as_json(plugin: Plugin, *, details: bool) -> dict[str, object]:
    fields = plugin._asdict()
    del fields["loaded"]  # by this process: nothing
    if not details:
        del fields["details"]
    return fields
