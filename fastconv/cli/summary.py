"""``fastconv summary``: the layers of a model file or of a built-in network, as a table or as JSON to edit."""

from __future__ import annotations

import argparse
import json

from fastconv.cli.options import add_model_arguments


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "summary",
        help="show the layers of a model file, an ONNX file or a built-in network",
        description="Show the layers of a model with their output shapes, parameters, multiply-adds and receptive fields.",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--json", action="store_true", help="print the model as JSON, for `fastconv train --model FILE.json`"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the summary."""
    from fastconv.cli.models import chosen_model
    from fastconv.layers import to_spec

    model = chosen_model(options)
    if options.json:
        print(json.dumps(to_spec(model), indent=2))
    else:
        print(model.summary())
    return 0
