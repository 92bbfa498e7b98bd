"""``python -m benchmarks COMMAND``: see ``--help`` of each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

#: Command -> its module and what it measures. A module has `add_arguments` and `run`.
COMMANDS = {
    "cases": ("compare", "layers and networks against PyTorch, by groups that have targets"),
    "report": ("merge", "tables and a chart again, from the JSON of one or several runs"),
    "epoch": ("epoch", "an epoch of the default network on Fashion-MNIST"),
    "calls": ("calls", "the fixed cost of one call on a tiny input"),
    "engines": ("engines", "frozen networks against ONNX Runtime and OpenVINO"),
    "frozen": ("frozen", "built-in networks as they are and frozen"),
    "memory": ("memory", "peak memory of a training step"),
    "sweep": ("sweep", "how time grows with image size, channels and batch"),
    "import": ("import_time", "what `import fastconv` costs"),
    "discovery": ("discovery", "what the first unknown name costs, among hundreds of packages"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="fastconv beside its alternatives.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, words) in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        loaded = import_module(f"benchmarks.{module}")
        loaded.add_arguments(command)
        command.set_defaults(run=loaded.run)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
