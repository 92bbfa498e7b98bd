"""``fastconv plugins``: what installed packages add, and what is broken; with ``check``, run the conformance suite."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from fastconv.cli.options import image_shape, json_object, positive_integer, positive_number
from fastconv.cli.tables import plural, table

if TYPE_CHECKING:
    from fastconv.plugins import Plugin


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plugins",
        help="list and check what installed packages add",
        description="List the layers, losses, optimizers, callbacks, data sets and networks of installed packages. Each is "
        "imported in a process of its own, so that a broken one does no harm; the exit code is 1 if one is broken.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: a list of objects")
    parser.add_argument("--verbose", action="store_true", help="print the traceback of each error")
    parser.add_argument(
        "--timeout",
        type=positive_number,
        default=30.0,
        metavar="S",
        help="time limit of an import in seconds (default: 30)",
    )
    parser.set_defaults(run=run)
    check = parser.add_subparsers(dest="action", metavar="ACTION").add_parser(
        "check",
        help="run the conformance suite on a layer",
        description="Run fastconv's conformance suite on a layer, or on all layers of a package: gradients, shapes, memory, "
        "saving and loading, threads, packaging. The exit code is 1 if a check fails.",
    )
    check.add_argument("name", metavar="NAME", help="a layer, such as acme.Swish, or a package, such as acme-layers")
    check.add_argument("--config", type=json_object, metavar="JSON", help="arguments of the layer: '{\"channels\": 4}'")
    check.add_argument(
        "--input-shape", type=image_shape, metavar="HxWxC", help="image shape (default: found by trying)"
    )
    check.add_argument("--max-examples", type=positive_integer, default=25, metavar="N", help="per check (default: 25)")
    check.add_argument("--verbose", action="store_true", help="also list the checks that pass")
    check.set_defaults(run=run_check)


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


def run_check(options: argparse.Namespace) -> int:
    """Print what each check says of each layer."""
    from fastconv import layers
    from fastconv.testing import check_layer

    shapes = None if options.input_shape is None else [options.input_shape]
    failures = 0
    for name in _layers_called(options.name):
        layer = layers.get(name)
        if options.config is not None:
            layer = layer.from_config(options.config)
        results = check_layer(layer, input_shapes=shapes, max_examples=options.max_examples, on_fail="return")
        bad = [result for result in results if not result.ok]
        passed = sum(result.status == "passed" for result in results)
        print(
            f"{name}: {plural(passed, 'check')} passed, {len(bad) or 'none'} failed, {len(results) - passed - len(bad)} skipped"
        )
        for result in results if options.verbose else bad:
            print(f"\n{result}" if result in bad else f"  {result}")
        failures += len(bad)
    return 1 if failures else 0


def _layers_called(name: str) -> list[str]:
    """Return the names of the layers of a package, or the one layer that is called `name`."""
    from fastconv import discovery, layers, plugins

    def same(package: str) -> bool:
        return discovery.normalized(package) == discovery.normalized(name)

    found = [plugin.name for plugin in plugins.entries() if plugin.kind == "layer" and same(plugin.package)]
    if not found:
        layers.get(name)
    return found or [name]


def _as_json(plugin: Plugin, *, details: bool) -> dict[str, object]:
    fields = plugin._asdict()
    del fields["loaded"]  # by this process: nothing
    if not details:
        del fields["details"]
    return fields
