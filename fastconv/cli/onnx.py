"""``fastconv onnx info``: what is in an ONNX file, and which of its operators are not supported; ``onnx export`` writes one."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from fastconv.cli import export
from fastconv.cli.tables import plural, table

if TYPE_CHECKING:
    from fastconv.onnx.files import Tensor


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "onnx",
        help="inspect or write an ONNX file",
        description="Inspect and write ONNX files. Needs pip install 'fastconv[onnx]'.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser(
        "info",
        help="show inputs, outputs, operators and parameters of a file",
        description="Show the inputs and outputs of an ONNX file, its operators and its parameters. Unsupported operators are "
        "listed with their nodes; the exit code is then 1.",
    )
    info.add_argument("file", metavar="FILE", help="an ONNX file")
    info.set_defaults(run=run)
    export.add_parser(actions)  # as `fastconv export`, where a user looks for it too


def run(options: argparse.Namespace) -> int:
    """Print what is in a file."""
    from fastconv.onnx.files import read
    from fastconv.onnx.loading import missing_operators

    file = read(options.file)
    numbers = sum(array.size for array in file.constants.values() if array.dtype.kind == "f")
    size = sum(array.nbytes for array in file.constants.values())
    written = f", written by {file.producer}" if file.producer else ""
    print(f"{options.file}: opset {file.opset}, {plural(len(file.nodes), 'node')}{written}")
    rows = [["", "name", "shape", "dtype"]]
    rows += [["input", *_described(each)] for each in file.inputs] + [
        ["output", *_described(each)] for each in file.outputs
    ]
    print(table(rows))
    print(f"\n{plural(numbers, 'parameter')} ({size / 1e6:.1f} MB)\n")
    missing = missing_operators(file, {})
    lacks = {node.key for node, _ in missing}
    counts = Counter(node.key for node in file.nodes)
    operators = [["operator", "nodes", ""]]
    operators += [[key, f"{counts[key]:,}", "not supported" if key in lacks else ""] for key in sorted(counts)]
    print(table(operators, right=[1]))
    for node, why in missing:
        print(f"not supported: {node.label}{f': {why}' if why else ''}")
    return 1 if missing else 0


def _described(tensor: Tensor) -> list[str]:
    shape = "unknown" if tensor.shape is None else " x ".join("any" if n is None else str(n) for n in tensor.shape)
    return [tensor.name, shape or "a number", str(tensor.dtype)]
