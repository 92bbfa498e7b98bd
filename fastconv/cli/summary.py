"""``fastconv summary``: the layers of a model file or of a built-in network, as a table or as JSON to edit."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from fastconv.cli.options import image_shape, positive_integer

if TYPE_CHECKING:
    from fastconv.model import Model


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "summary",
        help="the layers of a model file or a built-in network",
        description="Show the layers of a model, their output shapes, parameters and multiply-adds.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a model file, a run's folder, a JSON file, or the name of a network"
    )
    parser.add_argument(
        "--input-shape",
        type=image_shape,
        default=(28, 28, 1),
        metavar="HxWxC",
        help="the images of a built-in network or JSON file (28x28x1)",
    )
    parser.add_argument("--classes", type=positive_integer, default=10, help="the classes of a built-in network (10)")
    parser.add_argument(
        "--json", action="store_true", help="print the model as JSON, which `fastconv train --model FILE.json` reads"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the summary."""
    from fastconv.layers import to_spec

    model = _model(options)
    if options.json:
        print(json.dumps(to_spec(model), indent=2))
    else:
        print(model.summary())
    return 0


def _model(options: argparse.Namespace) -> Model:
    from pathlib import Path

    import fastconv
    from fastconv import networks
    from fastconv.cli.models import read_model_json
    from fastconv.cli.runs import model_file

    if options.model.endswith(".json"):
        return read_model_json(Path(options.model), options.input_shape)
    if Path(options.model).exists():
        return fastconv.load_model(model_file(options.model))
    try:
        networks.builder(options.model)
    except ValueError as error:
        raise FileNotFoundError(f"{options.model} is no file, and {error}") from None
    return networks.create(options.model, options.input_shape, options.classes)
