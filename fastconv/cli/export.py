"""``fastconv export``: a model as an ONNX file."""

from __future__ import annotations

import argparse

from fastconv.cli.options import positive_integer


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "export",
        help="write a model file as an ONNX file",
        description="Write a model that `fastconv train` or model.save wrote as an ONNX file. "
        "It needs the extra: pip install 'fastconv[onnx]'.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model file, or a run's folder")
    parser.add_argument("output", metavar="OUTPUT", help="the file to write")
    parser.add_argument("--opset", type=positive_integer, default=20, help="the version of the operators (20)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write a model as an ONNX file."""
    import fastconv
    from fastconv.cli.runs import model_file
    from fastconv.onnx import save

    save(fastconv.load_model(model_file(options.model)), options.output, opset=options.opset)
    print(f"wrote {options.output}")
    return 0
