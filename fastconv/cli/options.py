"""Parsing of command line options, and the options that several commands share."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any


def positive_integer(text: str) -> int:
    """Return an integer of at least 1.

    >>> positive_integer("64")
    64
    """
    return _integer(text, 1)


def positive_integers(text: str) -> list[int]:
    """Return integers of at least 1, separated by commas.

    >>> positive_integers("1,8")
    [1, 8]
    """
    return list(dict.fromkeys(_integer(part.strip(), 1) for part in text.split(",")))


def seed(text: str) -> int:
    """Return an integer of at least 0."""
    return _integer(text, 0)


def positive_number(text: str) -> float:
    """Return a finite number above 0.

    >>> positive_number("1e-3")
    0.001
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def numbers(text: str) -> tuple[float, ...]:
    """Return finite numbers, separated by commas.

    >>> numbers("0.5,-1")
    (0.5, -1.0)
    """
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"expected a number, or several separated by commas, got {text!r}")
    return found


def positive_numbers(text: str) -> tuple[float, ...]:
    """Return finite numbers above 0, separated by commas."""
    return tuple(positive_number(part) for part in text.split(","))


def json_object(text: str) -> dict[str, Any]:
    """Return what a JSON object says.

    >>> json_object('{"channels": 4}')
    {'channels': 4}
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object, as in {{"channels": 4}}, got {text!r}')
    return found


def image_size(text: str) -> tuple[int, int]:
    """Return height and width in pixels from ``HxW``, or from one number for both.

    >>> image_size("48x64"), image_size("32")
    ((48, 64), (32, 32))
    """
    sizes = _sizes(text)
    if len(sizes) == 1:
        sizes *= 2
    if len(sizes) != 2:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH, as in 48x64, got {text!r}")
    return sizes[0], sizes[1]


def image_shape(text: str) -> tuple[int, int, int]:
    """Return height, width and channels from ``HxWxC``.

    >>> image_shape("28x28x1")
    (28, 28, 1)
    """
    sizes = _sizes(text)
    if len(sizes) != 3:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTHxCHANNELS, as in 28x28x1, got {text!r}")
    return sizes[0], sizes[1], sizes[2]


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Return a name and a shape from ``NAME=AxBxC``.

    >>> named_shape("data=3x224x224")
    ('data', (3, 224, 224))
    """
    name, equals, sizes = text.rpartition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=SIZExSIZE..., as in data=3x224x224, got {text!r}")
    return name, tuple(_sizes(sizes))


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add to a parser the options that name a model, which `fastconv.cli.models.chosen_model` reads."""
    kinds = "an ONNX file, a model file, the folder of a training run, a JSON file, or the name of a built-in network"
    parser.add_argument("model", metavar="MODEL", help=kinds)
    parser.add_argument(
        "--input-shape",
        type=image_shape,
        default=(28, 28, 1),
        metavar="HxWxC",
        help="image shape for a built-in network or JSON file (default: 28x28x1)",
    )
    parser.add_argument(
        "--classes",
        type=positive_integer,
        default=10,
        metavar="N",
        help="number of classes of a built-in network (default: 10)",
    )


def _sizes(text: str) -> list[int]:
    return [_integer(part, 1) for part in text.lower().split("x")]


def _integer(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {text!r}")
    return int(text)
