"""``fastconv export``: write a model as an ONNX file."""

from __future__ import annotations

import argparse

from fastconv.cli.options import positive_integer


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "export",
        help="write a model file as an ONNX file",
        description="Convert a model written by `fastconv train` or model.save to an ONNX file. "
        "Needs pip install 'fastconv[onnx]'.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model file, or the folder of a training run")
    parser.add_argument("output", metavar="OUTPUT", help="the ONNX file to write")
    parser.add_argument("--opset", type=positive_integer, default=20, metavar="N", help="opset version (default: 20)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write a model as an ONNX file."""
    import fastconv
    from fastconv.cli.runs import model_file
    from fastconv.onnx import save

    save(fastconv.load_model(model_file(options.model)), options.output, opset=options.opset)
    print(f"wrote {options.output}")
    return 0
